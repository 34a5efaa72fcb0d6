//! A BERT for masked language modelling (Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>) whose
//! residual branches are offered to Trainyard. `plain_bert.rs` of the examples is this file without.
//!
//! Shapes: b batch, t time, h width, n heads, k masked positions.
use super::{BertConfig, Norm};
use tch::nn::{self, Init, LayerNorm, Linear, Path};
use tch::{Kind, Reduction, Tensor};
use trainyard::{Layers, SubLayer};

/// A BERT with a head for masked language modelling.
#[derive(Debug)]
pub struct Bert {
    tokens: Tensor,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    last_norm: Option<LayerNorm>,
    transform: Linear,
    transform_norm: LayerNorm,
    bias: Tensor,
    dropout: f64,
}

impl Bert {
    /// Makes the parameters under `path`, initialised as BERT does.
    pub fn new(path: Path, c: &BertConfig, layers: &Layers) -> Self {
        let embedding = |name: &str, rows| path.var(name, &[rows, c.hidden], WEIGHTS);
        let layer = |i| Layer::new(&path / "layers" / i, c, layers);
        Bert {
            tokens: embedding("tokens", c.vocabulary),
            positions: embedding("positions", c.max_positions),
            norm: norm(&path / "norm", c),
            layers: (0..c.layers).map(layer).collect(),
            last_norm: (c.norm == Norm::Pre).then(|| norm(&path / "last_norm", c)),
            transform: linear(&path / "transform", c.hidden, c.hidden),
            transform_norm: norm(&path / "transform_norm", c),
            bias: path.var("bias", &[c.vocabulary], Init::Const(0.0)),
            dropout: c.dropout,
        }
    }

    /// Token scores `[k, vocabulary]` at the masked places.
    ///
    /// `ids_bt`: token ids. `mask`: added to the attention scores, broadcastable to `[b, n, t, t]`.
    /// `masked_k`: places in the flattened `[b * t]`; the head is computed there only, with the weights
    /// of the token embedding.
    pub fn forward(
        &self,
        ids_bt: &Tensor,
        mask: Option<&Tensor>,
        masked_k: &Tensor,
        train: bool,
    ) -> Tensor {
        let x_kh = self.hidden(ids_bt, mask, train).flatten(0, 1).index_select(0, masked_k);
        let x_kh = x_kh.apply(&self.transform).gelu("none").apply(&self.transform_norm);
        x_kh.linear(&self.tokens, Some(&self.bias))
    }

    /// What the layers make of the tokens, `[b, t, h]`: the head works on these. Arguments as in
    /// [`forward`](Self::forward).
    pub fn hidden(&self, ids_bt: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let positions_th = self.positions.narrow(0, 0, ids_bt.size()[1]);
        let embedded_bth = Tensor::embedding(&self.tokens, ids_bt, -1, false, false) + positions_th;
        let mut x_bth = embedded_bth.apply(&self.norm).dropout(self.dropout, train);
        for layer in &self.layers {
            x_bth = layer.forward(&x_bth, mask, train);
        }
        match &self.last_norm {
            Some(norm) => x_bth.apply(norm),
            None => x_bth,
        }
    }

    /// Mean cross-entropy over the masked places, whose true tokens are `labels_k`.
    pub fn loss(
        &self,
        ids_bt: &Tensor,
        masked_k: &Tensor,
        labels_k: &Tensor,
        train: bool,
    ) -> Tensor {
        let scores = self.forward(ids_bt, None, masked_k, train).to_kind(Kind::Float);
        scores.cross_entropy_loss(labels_k, None::<Tensor>, Reduction::Mean, -100, 0.0)
    }
}

/// Attention, then a feed-forward network, each on a residual branch.
#[derive(Debug)]
struct Layer {
    attention: Attention,
    attention_branch: Residual,
    up: Linear,
    down: Linear,
    feed_forward_branch: Residual,
}

impl Layer {
    fn new(path: Path, c: &BertConfig, layers: &Layers) -> Self {
        let block = layers.block(&path);
        let branch = |name: &str| Residual {
            norm: norm(&path / name, c),
            order: c.norm,
            dropout: c.dropout,
            handle: block.sublayer(name),
        };
        Layer {
            attention: Attention::new(&path / "attention", c),
            attention_branch: branch("attention_norm"),
            up: linear(&path / "up", c.hidden, c.feed_forward()),
            down: linear(&path / "down", c.feed_forward(), c.hidden),
            feed_forward_branch: branch("feed_forward_norm"),
        }
    }

    fn forward(&self, x_bth: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let attend = |x: &Tensor| self.attention.forward(x, mask);
        let x_bth = self.attention_branch.forward(x_bth, train, attend);
        let feed = |x: &Tensor| x.apply(&self.up).gelu("none").apply(&self.down);
        self.feed_forward_branch.forward(&x_bth, train, feed)
    }
}

/// A residual addition with its normalisation, before the branch or after the sum.
#[derive(Debug)]
struct Residual {
    norm: LayerNorm,
    order: Norm,
    dropout: f64,
    handle: SubLayer,
}

impl Residual {
    fn forward(&self, x: &Tensor, train: bool, branch: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let branch = |x: &Tensor| branch(x).dropout(self.dropout, train);
        match self.order {
            Norm::Pre => self.handle.residual(x, train, |x| branch(&x.apply(&self.norm))),
            Norm::Post => self.handle.residual(x, train, branch).apply(&self.norm),
        }
    }
}

/// Multi-head self-attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>).
#[derive(Debug)]
struct Attention {
    query_key_value: Linear,
    output: Linear,
    heads: i64,
}

impl Attention {
    fn new(path: Path, c: &BertConfig) -> Self {
        Attention {
            query_key_value: linear(&path / "query_key_value", c.hidden, 3 * c.hidden),
            output: linear(&path / "output", c.hidden, c.hidden),
            heads: c.heads,
        }
    }

    fn forward(&self, x_bth: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let [b, t, h] = x_bth.size()[..] else { panic!("expected [batch, time, width]") };
        let split = [b, t, 3, self.heads, h / self.heads];
        let qkv = x_bth.apply(&self.query_key_value).view(split).permute([2, 0, 3, 1, 4]);
        // One operation, one in the backward pass: three `select`s have to add up their gradients.
        let [q, k, v] = &qkv.unbind(0)[..] else { panic!("expected queries, keys and values") };
        let y = Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, false, None, false);
        y.transpose(1, 2).reshape([b, t, h]).apply(&self.output)
    }
}

/// Added to the variance that a normalisation divides by.
pub const NORM_EPS: f64 = 1e-12;

const WEIGHTS: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

fn linear(path: Path, from: i64, to: i64) -> Linear {
    let c = nn::LinearConfig { ws_init: WEIGHTS, bs_init: Some(Init::Const(0.0)), bias: true };
    nn::linear(path, from, to, c)
}

fn norm(path: Path, c: &BertConfig) -> LayerNorm {
    nn::layer_norm(
        path,
        vec![c.hidden],
        nn::LayerNormConfig { eps: NORM_EPS, ..Default::default() },
    )
}
