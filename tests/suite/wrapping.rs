//! A wrapped model is the plain one, until a plugin says otherwise.
use std::cell::Cell;
use std::sync::Arc;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::{
    BoxError, Branch, BuildContext, LayerCall, LayerWrap, Layers, Loss, Moment, Next, Parts,
    Plugin, PluginSpec, Section,
};
use trainyard_examples::plain_bert;
use trainyard_models::{BertConfig, Norm, bert};
use trainyard_tests::{plan, registry};

const SGD: &str = r#"{ "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;

/// With masks of dropout and attention as libtorch has them.
const AS_LIBTORCH: &str = r#"{ "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
    "training": { "parallel_dropout": false, "attention": "libtorch" } }"#;

fn sizes(norm: Norm) -> BertConfig {
    BertConfig {
        layers: 3,
        hidden: 16,
        heads: 2,
        vocabulary: 40,
        max_positions: 8,
        norm,
        ..Default::default()
    }
}

/// Token ids `[2, 8]`, masked places, labels.
fn batch() -> (Tensor, Tensor, Tensor) {
    let ids = Tensor::arange(16, (Kind::Int64, Device::Cpu)).view([2, 8]);
    (ids, Tensor::from_slice(&[1i64, 5, 9]), Tensor::from_slice(&[3i64, 30, 7]))
}

/// Loss and gradients of a model, dropout on.
fn gradients(variables: &VarStore, loss: impl Fn() -> Tensor) -> (Tensor, Vec<(String, Tensor)>) {
    tch::manual_seed(9);
    let loss = loss();
    loss.backward();
    let mut all: Vec<_> = variables.variables().into_iter().map(|(n, t)| (n, t.grad())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    (loss, all)
}

#[test]
fn a_wrapped_bert_computes_what_the_plain_one_does_bit_for_bit() {
    let (ids, masked, labels) = batch();
    for norm in [Norm::Pre, Norm::Post] {
        for attached in [false, true] {
            let c = sizes(norm);
            tch::manual_seed(2);
            let (plain_store, store) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
            let plain = plain_bert::Bert::new(plain_store.root(), &c);
            tch::manual_seed(2);
            let layers = Layers::new();
            let wrapped = bert::Bert::new(store.root(), &c, &layers);
            assert_eq!(layers.blocks().len(), 3);
            assert_eq!(layers.blocks()[2].name, "layers.2");
            assert_eq!(layers.blocks()[2].sublayers, ["attention_norm", "feed_forward_norm"]);
            let expected = gradients(&plain_store, || plain.loss(&ids, &masked, &labels, true));
            let engine = attached.then(|| {
                plan(registry(), AS_LIBTORCH).unwrap().engine((), &store, &layers).unwrap()
            });
            let found = gradients(&store, || wrapped.loss(&ids, &masked, &labels, true));
            assert!(expected.0.equal(&found.0), "{norm:?}, attached: {attached}");
            for ((name, a), (other, b)) in expected.1.iter().zip(&found.1) {
                assert_eq!(name, other);
                assert!(a.equal(b), "gradient of {name}, {norm:?}, attached: {attached}");
            }
            drop(engine);
        }
    }
}

/// The masks of a process that makes an engine are drawn by all threads; another configuration leaves
/// libtorch's.
#[test]
fn masks_of_dropout_are_as_the_configuration_says() {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let _ = variables.root().zeros("weight", &[1]);
    let mask = |threads| {
        tch::set_num_threads(threads);
        tch::manual_seed(4);
        Tensor::ones([100_000], (Kind::Float, Device::Cpu)).dropout(0.1, true)
    };
    let before = mask(1);
    let engine = |json| plan(registry(), json).unwrap().engine((), &variables, &layers).unwrap();
    drop(engine(AS_LIBTORCH));
    assert!(mask(1).equal(&before));
    let layers = Layers::new();
    drop(plan(registry(), SGD).unwrap().engine((), &variables, &layers).unwrap());
    let after = mask(1);
    assert!(!after.equal(&before) && after.equal(&mask(2)));
}

/// A plugin of the test's own: a fixed scale for each block, none for one that is skipped.
struct Fixed(Vec<Option<f64>>);

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Scales(Vec<Option<f64>>);

impl Section for Fixed {
    const KEYS: &'static [&'static str] = &["fixed"];
    type Config = Scales;
}

impl PluginSpec for Fixed {
    fn build(config: &Scales, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        parts.plugin(Fixed(config.0.clone()));
        Ok(())
    }
}

impl Plugin for Fixed {
    fn begin_forward(&mut self, _now: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        Ok(Some(Arc::new(Fixed(self.0.clone()))))
    }
}

impl LayerWrap for Fixed {
    fn layer(&self, call: &LayerCall<'_>, x: &Tensor, next: Next<'_>) -> Result<Branch, BoxError> {
        let Some(factor) = self.0[call.block] else { return Ok(Branch::Skipped) };
        Ok(match next.run(x)? {
            Branch::Ran { output, scale } => Branch::Ran { output, scale: scale * factor },
            Branch::Skipped => Branch::Skipped,
        })
    }
}

/// A residual block with two inputs, the second a mask that a closure captures.
#[derive(Debug)]
struct Masked {
    linear: nn::Linear,
}

impl Masked {
    fn forward(&self, x: &Tensor, mask: &Tensor, calls: &Cell<u32>) -> Tensor {
        calls.set(calls.get() + 1);
        x + x.apply(&self.linear) * mask
    }
}

#[test]
fn whole_blocks_are_scaled_by_what_they_change_and_skipped_ones_are_not_computed() {
    let store = VarStore::new(Device::Cpu);
    let layers = Layers::new();
    let block = |i: i64| {
        let path = store.root() / "blocks" / i;
        (layers.block(&path), Masked { linear: nn::linear(path, 3, 3, Default::default()) })
    };
    let blocks: Vec<_> = (0..3).map(block).collect();
    let mask = Tensor::from_slice(&[1f32, 0.0, 1.0]);
    let x = Tensor::from_slice(&[0.5f32, -1.0, 2.0]).view([1, 3]);
    let calls = Cell::new(0);
    let forward = |train: bool| {
        blocks.iter().fold(x.shallow_clone(), |x, (handle, block)| {
            handle.run(&x, train, |x| block.forward(x, &mask, &calls))
        })
    };
    let plain = blocks.iter().fold(x.shallow_clone(), |x, (_, b)| b.forward(&x, &mask, &calls));
    assert!(forward(true).equal(&plain));

    let json =
        r#"{ "fixed": [1, null, 2.5], "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;
    let plan = plan(registry().add::<Fixed>(), json).unwrap();
    let mut engine = plan.engine((), &store, &layers).unwrap();
    calls.set(0);
    let out = Cell::new(None);
    let report = engine
        .step(&[()], |(), ()| {
            let y = forward(true);
            out.set(Some(y.detach()));
            Loss::mean(y.sum(Kind::Float), 1)
        })
        .unwrap();
    assert_eq!(calls.get(), 2);
    assert_eq!((report.layer_calls.offered, report.layer_calls.run), (3, 2));
    assert_eq!(report.idle_parameters, 2, "weight and bias of the skipped block");

    // The step changed the weights; redo the arithmetic on the output it had with weights put back.
    let scaled = tch::no_grad(|| {
        let lr = 0.1;
        for (_, mut v) in store.variables() {
            if v.grad().defined() {
                let back = v.grad() * lr;
                let _ = v.g_add_(&back);
            }
        }
        let first = blocks[0].1.forward(&x, &mask, &calls);
        let last = blocks[2].1.forward(&first, &mask, &calls);
        &first + (last - &first) * 2.5
    });
    let found = out.take().expect("the forward ran");
    assert!((found - scaled).abs().max().double_value(&[]) < 1e-5);

    // Evaluation sees no gate, whatever the caller says about training.
    calls.set(0);
    engine.evaluate([()], |(), ()| Loss::mean(forward(true).sum(Kind::Float), 1)).unwrap();
    assert_eq!(calls.get(), 3);
    drop(engine);
    calls.set(0);
    let _ = forward(true);
    assert_eq!(calls.get(), 3, "without an engine the handles are inert again");
}

/// Under autocast a layer's output may be of another kind than its input.
#[test]
fn a_scaled_block_may_return_another_kind_than_it_got() {
    let (store, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let linear = nn::linear(store.root(), 3, 3, Default::default());
    let x = Tensor::from_slice(&[0.5f32, -1.0, 2.0]).view([1, 3]);
    let plain = x.apply(&linear);
    let expected = &x + (&plain - &x) * 2.5;
    let model = layers.wrap([linear]);
    let json = r#"{ "fixed": [2.5], "bf16": { "enabled": true },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;
    let plan = plan(registry().add::<Fixed>(), json).unwrap();
    let mut engine = plan.engine(model, &store, &layers).unwrap();
    let found = Cell::new(None);
    let forward = |model: &Vec<trainyard::Gated<nn::Linear>>, (): &()| {
        let y = x.apply_t(&model[0], true);
        found.set(Some(y.detach()));
        Loss::mean(y.sum(Kind::Float), 1)
    };
    engine.step(&[()], forward).unwrap();
    let found = found.take().expect("the forward ran");
    assert_eq!(found.kind(), Kind::BFloat16);
    let apart = (found.to_kind(Kind::Float) - expected).abs().max().double_value(&[]);
    assert!(apart < 0.1, "{apart}");
}

/// With nothing to train outside the layers, a step in which every gate is closed trains nothing, and that
/// is no error.
#[test]
fn a_step_in_which_every_layer_is_skipped_leaves_everything_idle() {
    let store = VarStore::new(Device::Cpu);
    let layers = Layers::new();
    let linear = nn::linear(store.root(), 3, 3, Default::default());
    let model = layers.wrap([linear]);
    let json = r#"{ "fixed": [null], "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;
    let plan = plan(registry().add::<Fixed>(), json).unwrap();
    let mut engine = plan.engine(model, &store, &layers).unwrap();
    let x = Tensor::ones([1, 3], (Kind::Float, Device::Cpu));
    let report = engine
        .step(&[()], |model, ()| Loss::mean(x.apply_t(&model[0], true).sum(Kind::Float), 1))
        .unwrap();
    assert_eq!((report.loss, report.idle_parameters, report.layer_calls.run), (3.0, 2, 0));
}

#[test]
fn wrap_takes_any_blocks_and_gives_back_modules() {
    let store = VarStore::new(Device::Cpu);
    let layers = Layers::new();
    let boxed = |i: i64| nn::linear(store.root() / i, 3, 3, Default::default());
    let blocks = layers.wrap((0..2).map(boxed));
    let x = Tensor::from_slice(&[1f32, 2.0, 3.0]).view([1, 3]);
    let out = blocks.iter().fold(x.shallow_clone(), |x, block| x.apply_t(block, true));
    let plain = x.apply(blocks[0].inner()).apply(blocks[1].inner());
    assert!(out.equal(&plain));
    assert_eq!(layers.blocks()[1].name, "1");
    assert_eq!(blocks[0].forward_t(&x, false).size(), [1, 3]);
}
