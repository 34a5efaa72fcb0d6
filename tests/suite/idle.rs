//! What happens to parameters that nothing used.
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};
use trainyard::EngineState;
use trainyard_tests::{Small, engine, registry};

fn config(optimizer: &str, idle: &str) -> String {
    format!(
        r#"{{ "progressive_layer_drop":
                {{ "enabled": true, "schedule": "constant", "theta": 0.3, "gate": "sublayer", "idle": "{idle}" }},
              "gradient_clipping": 1.0,
              "optimizer": {{ "type": "{optimizer}", "params": {{ "lr": 0.01, "weight_decay": 0.1 }} }} }}"#
    )
}

fn values(slots: &BTreeMap<String, Tensor>) -> Vec<Vec<f64>> {
    slots
        .values()
        .map(|t| Vec::try_from(t.flatten(0, -1).to_kind(Kind::Double)).expect("numbers"))
        .collect()
}

/// Names whose parameter or moments changed between two states.
fn changed(a: &EngineState, b: &EngineState) -> BTreeSet<String> {
    let moved = |name: &&String| {
        let state = |s: &EngineState| {
            format!("{:?}", s.optimizer.get(*name).map(|(n, slots)| (*n, values(slots))))
        };
        !a.model[*name].equal(&b.model[*name]) || state(a) != state(b)
    };
    a.model.keys().filter(moved).cloned().collect()
}

#[test]
fn skip_leaves_idle_parameters_their_moments_and_their_step_counts_alone() {
    for optimizer in ["AdamW", "Lamb"] {
        let (_variables, mut engine) = engine(registry(), &config(optimizer, "skip"), 0.0);
        let mut idle_seen = 0;
        for step in 0..30 {
            let before = engine.state();
            let batch = Small::inputs(4, step);
            let report = engine.step(&[batch], |m, b| m.loss(b, true)).unwrap();
            let changed = changed(&before, &engine.state());
            assert_eq!(changed.len(), 16 - report.idle_parameters, "{optimizer}, step {step}");
            let run = report.layer_calls.run as usize;
            assert_eq!(report.idle_parameters, 16 - 2 * run, "weight and bias of what did not run");
            idle_seen += report.idle_parameters;
        }
        assert!(idle_seen > 50, "{idle_seen}");
        let state = engine.state();
        let counts: BTreeSet<_> = state.optimizer.values().map(|(updates, _)| *updates).collect();
        assert!(counts.iter().all(|n| *n <= 30) && counts.len() > 2, "own step counts: {counts:?}");
    }
}

#[test]
fn decay_treats_idle_parameters_as_if_their_gradient_were_zero() {
    let (_variables, mut engine) = engine(registry(), &config("AdamW", "decay"), 0.0);
    for step in 0..10 {
        let before = engine.state();
        let report = engine.step(&[Small::inputs(4, step)], |m, b| m.loss(b, true)).unwrap();
        assert_eq!(report.idle_parameters, 16 - 2 * report.layer_calls.run as usize);
        assert_eq!(changed(&before, &engine.state()).len(), 16, "all of them moved");
    }
    assert!(engine.state().optimizer.values().all(|(updates, _)| *updates == 10));
}

#[test]
fn frozen_parameters_stay_and_cost_no_state_whatever_the_idle_rule() {
    for idle in ["skip", "decay"] {
        let (variables, mut engine) = engine(registry(), &config("AdamW", idle), 0.0);
        let frozen = variables.variables()["blocks.1.attention.weight"].shallow_clone();
        let _ = frozen.set_requires_grad(false);
        let before = engine.state();
        for step in 0..5 {
            engine.step(&[Small::inputs(4, step)], |m, b| m.loss(b, true)).unwrap();
        }
        let after = engine.state();
        let name = "blocks.1.attention.weight";
        assert!(before.model[name].equal(&after.model[name]), "{idle}");
        assert!(!after.optimizer.contains_key(name), "{idle}");
        assert!(after.optimizer.contains_key("blocks.1.attention.bias"));
    }
}
