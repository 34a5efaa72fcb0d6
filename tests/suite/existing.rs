//! Models written in the manner of tch's examples, before and after a line or three of wrapping.
use std::fs;
use std::path::Path;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::{Layers, Loss};
use trainyard_examples::existing::{GptConfig, gpt, plain_gpt, plain_resnet, resnet};
use trainyard_tests::{plan, registry};

const GPT: GptConfig =
    GptConfig { vocabulary: 17, max_positions: 12, layers: 4, heads: 2, hidden: 16, dropout: 0.1 };

/// Drops with theta 0.5 from the first step on.
const DROPPING: &str = r#"{
    "optimizer": { "type": "AdamW", "params": { "lr": 0.01 } },
    "progressive_layer_drop": { "enabled": true, "schedule": "constant", "theta": 0.5 }
}"#;

/// Sequences that count upwards, `[rows, time]`, and what comes next.
fn counting(rows: i64, time: i64) -> (Tensor, Tensor) {
    let first = Tensor::arange(rows, (Kind::Int64, Device::Cpu)).unsqueeze(1) * 5;
    let ids =
        (first + Tensor::arange(time + 1, (Kind::Int64, Device::Cpu))).remainder(GPT.vocabulary);
    (ids.narrow(1, 0, time), ids.narrow(1, 1, time).contiguous())
}

/// Images `[rows, 3, 8, 8]` of noise, brighter where their class, 0 or 1, is.
fn images(rows: i64) -> (Tensor, Tensor) {
    let classes = Tensor::arange(rows, (Kind::Int64, Device::Cpu)).remainder(2);
    let noise = Tensor::randn([rows, 3, 8, 8], (Kind::Float, Device::Cpu));
    let bright = classes.to_kind(Kind::Float).view([rows, 1, 1, 1]);
    (noise + bright, classes)
}

fn loss(model: &impl ModuleT, (x, y): &(Tensor, Tensor), train: bool) -> Loss {
    let logits = model.forward_t(x, train);
    let classes = *logits.size().last().expect("logits have an axis of classes");
    Loss::mean(logits.view([-1, classes]).cross_entropy_for_logits(&y.view([-1])), y.numel() as u64)
}

/// The lines of a file that are not comments at its head.
fn code(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/src/existing").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter(|line| !line.starts_with("//!")).map(str::to_owned).collect()
}

/// Lines added or changed: those of the wrapped model less the longest part that it has in common, in
/// order, with the plain one.
fn changed(plain: &str, wrapped: &str) -> usize {
    let (plain, wrapped) = (code(plain), code(wrapped));
    let mut common = vec![vec![0; wrapped.len() + 1]; plain.len() + 1];
    for (i, a) in plain.iter().enumerate() {
        for (j, b) in wrapped.iter().enumerate() {
            common[i + 1][j + 1] =
                if a == b { common[i][j] + 1 } else { common[i][j + 1].max(common[i + 1][j]) };
        }
    }
    plain.len().max(wrapped.len()) - common[plain.len()][wrapped.len()]
}

#[test]
fn wrapping_takes_five_lines_at_most() {
    for (plain, wrapped) in [("plain_gpt.rs", "gpt.rs"), ("plain_resnet.rs", "resnet.rs")] {
        let lines = changed(plain, wrapped);
        assert!((1..=5).contains(&lines), "{wrapped}: {lines}");
    }
}

#[test]
fn without_an_engine_a_wrapped_model_is_the_plain_one() {
    let stores = [0; 4].map(|_| VarStore::new(Device::Cpu));
    let [a, b, c, d] = stores.each_ref().map(|store| store.root());
    let layers = Layers::new();
    let seeded = |make: &dyn Fn() -> Box<dyn ModuleT>| {
        tch::manual_seed(3);
        make()
    };
    let models = [
        seeded(&|| Box::new(plain_gpt::gpt(&a, GPT))),
        seeded(&|| Box::new(gpt::gpt(&b, GPT, &layers))),
        seeded(&|| Box::new(plain_resnet::resnet(&c, 2, 2))),
        seeded(&|| Box::new(resnet::resnet(&d, 2, 2, &Layers::new()))),
    ];
    let (ids, pictures) = (counting(3, 12).0, images(4).0);
    for train in [true, false] {
        let outputs = [&ids, &ids, &pictures, &pictures].into_iter().zip(&models);
        let outputs: Vec<_> = outputs
            .map(|(x, model)| {
                tch::manual_seed(8);
                model.forward_t(x, train)
            })
            .collect();
        assert!(outputs[0].equal(&outputs[1]) && outputs[2].equal(&outputs[3]), "train: {train}");
    }
    let names: Vec<_> = layers.blocks().into_iter().map(|block| block.name).collect();
    assert_eq!(names, ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]);
}

/// Trains for `steps` steps; the loss at full depth before and after, and the layer calls offered and run.
fn trained<M: ModuleT>(
    model: M,
    variables: &VarStore,
    layers: &Layers,
    data: &(Tensor, Tensor),
    steps: u64,
) -> ([f64; 2], [u64; 2]) {
    let mut engine = plan(registry(), DROPPING).unwrap().engine(model, variables, layers).unwrap();
    let evaluate = |engine: &mut trainyard::Engine<M>| {
        engine.evaluate([data], |model, data| loss(model, data, false)).unwrap().loss
    };
    let before = evaluate(&mut engine);
    let mut calls = [0; 2];
    for _ in 0..steps {
        let report = engine.step(&[data], |model, data| loss(model, data, true)).unwrap();
        calls[0] += report.layer_calls.offered;
        calls[1] += report.layer_calls.run;
    }
    ([before, evaluate(&mut engine)], calls)
}

#[test]
fn both_train_with_layers_dropped() {
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let model = gpt::gpt(&variables.root(), GPT, &layers);
    let ([before, after], [offered, run]) =
        trained(model, &variables, &layers, &counting(8, 12), 60);
    assert_eq!(offered, 4 * 60);
    // A mean of 0.3125 of the calls is skipped; 0.05 is far outside of what chance does.
    assert!(run < offered * 95 / 100 && run > offered / 3, "{run} of {offered}");
    assert!(after < 0.5 * before, "GPT: {before} to {after}");

    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let model = resnet::resnet(&variables.root(), 3, 2, &layers);
    let ([before, after], [offered, run]) = trained(model, &variables, &layers, &images(16), 30);
    assert_eq!(offered, 3 * 2 * 30, "two of the three blocks of each stage keep the size");
    assert!(run < offered * 95 / 100, "{run} of {offered}");
    assert!(after < 0.5 * before, "residual network: {before} to {after}");
}
