//! Attention of our own, in models that know nothing of it: those in Rust and those from PyTorch.
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::script::{Repeats, Script};
use trainyard::{Layers, Loss};
use trainyard_models::{BertConfig, bert};
use trainyard_native::{Attentions, own_attentions};
use trainyard_tests::{Made, plan, registry};

/// Forwards and backwards of our kernels during `step`.
fn calls(step: impl FnOnce()) -> (u64, u64) {
    let before: Attentions = own_attentions().unwrap();
    step();
    let after = own_attentions().unwrap();
    (after.forwards - before.forwards, after.backwards - before.backwards)
}

const PRECISIONS: [&str; 2] = ["", r#""bf16": { "enabled": true },"#];

fn json(more: &str) -> String {
    format!(r#"{{ {more} "optimizer": {{ "type": "SGD", "params": {{ "lr": 0.1 }} }} }}"#)
}

#[test]
fn a_model_in_rust_has_it_in_every_layer() {
    let c = BertConfig {
        layers: 3,
        hidden: 16,
        heads: 2,
        vocabulary: 40,
        max_positions: 16,
        ..Default::default()
    };
    let ids = Tensor::arange(32, (Kind::Int64, Device::Cpu)).view([2, 16]);
    let (masked, labels) = (Tensor::from_slice(&[1i64, 5, 9]), Tensor::from_slice(&[3i64, 30, 7]));
    // Libtorch first: what one engine asked for, another does not undo.
    let off = r#""training": { "attention": "libtorch" },"#;
    for (more, expected) in [(off, (0, 0)), (PRECISIONS[0], (3, 3)), (PRECISIONS[1], (3, 3))] {
        let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
        let model = bert::Bert::new(variables.root(), &c, &layers);
        let mut engine =
            plan(registry(), &json(more)).unwrap().engine(model, &variables, &layers).unwrap();
        let found = calls(|| {
            let loss = |model: &bert::Bert, (): &()| {
                Loss::mean(model.loss(&ids, &masked, &labels, true), 3)
            };
            engine.step(&[()], loss).unwrap();
        });
        assert_eq!(found, expected, "{more}");
    }
}

/// Scripted and traced, with dropout of the weights and without.
#[test]
fn a_model_from_pytorch_has_it_in_every_layer() {
    for name in ["sdpa", "sdpa_dropout", "sdpa_traced"] {
        let made = Made::new(name);
        for more in PRECISIONS {
            let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
            let script =
                Script::load(&made.path(), &variables, &layers, &[], Repeats::Refused).unwrap();
            let mut engine =
                plan(registry(), &json(more)).unwrap().engine(script, &variables, &layers).unwrap();
            let inputs = made.inputs();
            // The first steps are libtorch's interpreter looking on, the later ones what it makes of it.
            for step in 0..3 {
                let found = calls(|| {
                    let loss = |script: &Script, (): &()| {
                        let outputs = script.forward(&inputs, true)?;
                        let loss = outputs.at(0).expect("an output").shallow_clone();
                        Ok::<_, trainyard::BoxError>(Loss::mean(loss, 1))
                    };
                    engine.step(&[()], loss).unwrap();
                });
                assert_eq!(found, (2, 2), "{name} {more}, step {step}");
            }
        }
    }
}
