//! A small GPT (Radford et al. 2018), its blocks wrapped.
use super::GptConfig;
use tch::nn::{self, Module, ModuleT};
use tch::{IndexOp, Kind, Tensor};
use trainyard::Layers;

/// Maps ids `[batch, time]` to the logits `[batch, time, vocabulary]` of each next token.
pub fn gpt(path: &nn::Path, c: GptConfig, layers: &Layers) -> impl ModuleT + use<> {
    let tokens = nn::embedding(path / "tokens", c.vocabulary, c.hidden, Default::default());
    let positions =
        nn::embedding(path / "positions", c.max_positions, c.hidden, Default::default());
    let mut blocks = nn::seq_t();
    for index in 0..c.layers {
        let path = path / "blocks" / index;
        blocks = blocks.add(layers.gated(&path, block(&path, c)));
    }
    let norm = nn::layer_norm(path / "norm", vec![c.hidden], Default::default());
    let head = nn::linear(path / "head", c.hidden, c.vocabulary, no_bias());
    nn::func_t(move |ids, train| {
        let places = Tensor::arange(ids.size()[1], (Kind::Int64, ids.device()));
        let x = ids.apply(&tokens) + places.apply(&positions);
        x.dropout(c.dropout, train).apply_t(&blocks, train).apply(&norm).apply(&head)
    })
}

fn block(path: &nn::Path, c: GptConfig) -> impl ModuleT + use<> {
    let attention_norm =
        nn::layer_norm(path / "attention_norm", vec![c.hidden], Default::default());
    let attention = attention(&(path / "attention"), c);
    let norm = nn::layer_norm(path / "norm", vec![c.hidden], Default::default());
    let up = nn::linear(path / "up", c.hidden, 4 * c.hidden, Default::default());
    let down = nn::linear(path / "down", 4 * c.hidden, c.hidden, Default::default());
    nn::func_t(move |x, train| {
        let x = x + x.apply(&attention_norm).apply_t(&attention, train);
        let wide = x.apply(&norm).apply(&up).gelu("none");
        x + wide.apply(&down).dropout(c.dropout, train)
    })
}

fn attention(path: &nn::Path, c: GptConfig) -> impl ModuleT + use<> {
    let query_key_value = nn::linear(path / "query_key_value", c.hidden, 3 * c.hidden, no_bias());
    let output = nn::linear(path / "output", c.hidden, c.hidden, no_bias());
    nn::func_t(move |x, train| {
        let (batch, time, hidden) = x.size3().expect("[batch, time, hidden]");
        let split = [batch, time, 3, c.heads, hidden / c.heads];
        let qkv = x.apply(&query_key_value).view(split).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (qkv.i(0), qkv.i(1), qkv.i(2));
        let y = Tensor::scaled_dot_product_attention::<Tensor>(
            &q, &k, &v, None, 0.0, true, None, false,
        );
        let y = y.transpose(1, 2).reshape([batch, time, hidden]);
        output.forward(&y).dropout(c.dropout, train)
    })
}

fn no_bias() -> nn::LinearConfig {
    nn::LinearConfig { bias: false, ..Default::default() }
}
