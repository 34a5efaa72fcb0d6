//! Every optimizer under the engine, with layers dropped and gradients clipped.
use std::collections::BTreeSet;
use trainyard::EngineState;
use trainyard_tests::{engine, registry, same_bits, train};

const OPTIMIZERS: [&str; 7] = [
    r#""Adam", "params": { "lr": 0.01, "adam_w_mode": false }"#,
    r#""AdamW", "params": { "lr": 0.01, "weight_decay": 0.01 }"#,
    r#""Lamb", "params": { "lr": 0.01, "weight_decay": 0.01 }, "no_decay": ["bias"]"#,
    r#""SGD", "params": { "lr": 0.1, "momentum": 0.9 }"#,
    r#""Lion", "params": { "lr": 0.003, "weight_decay": 0.01 }"#,
    r#""Adagrad", "params": { "lr": 0.1, "initial_accumulator_value": 1e-4 }"#,
    r#""Muon", "params": { "muon_lr": 0.01, "adam_lr": 0.01, "weight_decay": 0.01 }"#,
];

fn config(optimizer: &str) -> String {
    format!(
        r#"{{ "train_batch_size": 4, "gradient_clipping": 0.1, "optimizer": {{ "type": {optimizer} }},
              "progressive_layer_drop":
                 {{ "enabled": true, "schedule": "constant", "theta": 0.5, "gate": "sublayer" }} }}"#
    )
}

#[test]
fn every_optimizer_learns_and_resumes_bit_for_bit() {
    for optimizer in OPTIMIZERS {
        let json = config(optimizer);
        let (_variables, mut straight) = engine(registry(), &json, 0.1);
        let reports = train(&mut straight, 60);
        assert!(reports[..15].iter().any(|report| report.idle_parameters > 0));
        let mean =
            |reports: &[trainyard::Report]| reports.iter().map(|r| r.loss).sum::<f64>() / 10.0;
        let (before, after) = (mean(&reports[..10]), mean(&reports[50..]));
        assert!(after < 0.8 * before, "{optimizer}: {before} became {after}");

        let (_variables, mut first) = engine(registry(), &json, 0.1);
        train(&mut first, 15);
        let (_variables, mut second) = engine(registry(), &json, 0.1);
        second.load_state(&first.state()).expect("its own state");
        train(&mut second, 45);
        same_bits(&straight.state(), &second.state());
    }
}

/// The names of the state that matrices have, and that biases have.
fn slots(state: &EngineState) -> [BTreeSet<String>; 2] {
    ["weight", "bias"].map(|last| {
        let of = state.optimizer.iter().filter(|(name, _)| name.ends_with(last));
        of.flat_map(|(_, (_, slots))| slots.keys().cloned()).collect()
    })
}

#[test]
fn muon_keeps_one_number_for_a_weight_of_a_matrix_and_two_for_others() {
    let (_variables, mut engine) = engine(registry(), &config(OPTIMIZERS[6]), 0.1);
    train(&mut engine, 10);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = [set(&["momentum_buffer"]), set(&["exp_avg", "exp_avg_sq"])];
    assert_eq!(slots(&engine.state()), expected);
}
