//! What is said of keys that are refused, misplaced or only noted.
use super::*;

/// A flag that is known and may not be on is refused with its reason, though it may be "auto".
#[test]
fn what_precision_refuses() {
    const MASTERS: &str = "is not supported: master weights and gradients are always float32";
    for (section, key, why) in [
        ("fp16", "fp16_master_weights_and_grads", MASTERS),
        ("bf16", "bf16_master_weights_and_grads", MASTERS),
        (
            "bf16",
            "bf16_optimizer_states",
            "is not supported: the optimizer's state is always float32",
        ),
    ] {
        let problem = refused(json!({ section: { "enabled": true, key: true } }));
        assert_eq!(problem, format!("{section}.{key} = true {why}"));
        assert!(plan(&json!({ section: { "enabled": true, key: "auto" } })).is_ok());
        assert!(plan(&json!({ section: { "enabled": false, key: true } })).is_ok());
    }
}

/// The sentence of the one problem of a configuration, which is refused.
fn refused(config: Value) -> String {
    let Err(Error::Config(error)) = plan(&config) else { panic!("{config} is fine") };
    let [problem] = &error.into_problems()[..] else { panic!("{config} has several problems") };
    assert_eq!(problem.kind, trainyard::config::ProblemKind::Refused, "{problem}");
    problem.message.clone()
}

/// `enabled` in any of its forms switches a section on, and off.
#[test]
fn what_switches_a_refused_section() {
    for on in [json!(true), json!(1), json!("true"), json!("YES")] {
        let problem = refused(json!({ "amp": { "enabled": on, "opt_level": "O2" } }));
        assert!(problem.starts_with("amp asks for Apex"), "{problem}");
    }
    let compression = json!({
        "weight_quantization": {
            "shared_parameters": { "enabled": false, "rounding": "nearest" },
            "different_groups": { "wq1": { "modules": ["a"] } },
        },
        "layer_reduction": { "enabled": false },
    });
    for (section, off) in [
        ("sparse_attention", json!({ "enabled": false, "mode": "fixed" })),
        ("quantize_training", json!({ "enabled": "off", "a": 1 })),
        ("weight_quantization", json!({ "enabled": 0, "a": 1 })),
        ("pipeline", json!({ "enabled": false, "stages": 2 })),
        ("compression_training", compression.clone()),
    ] {
        let plan = plan(&json!({ section: off })).unwrap_or_else(|error| panic!("{error}"));
        let noted = plan.notes().iter().any(|note| note.path.starts_with(section));
        assert!(noted, "{section}: {:?}", plan.notes());
    }
    let mut misspelt = compression;
    misspelt["weight_quantisation"] = misspelt["weight_quantization"].take();
    let Err(Error::Config(error)) = plan(&json!({ "compression_training": misspelt })) else {
        panic!("a misspelt part is fine");
    };
    let error = error.to_string();
    assert!(error.contains("did you mean \"weight_quantization\"?"), "{error}");
}

#[test]
fn a_rate_for_each_group_is_refused() {
    let problem = refused(json!({ "scheduler": { "type": "WarmupLR", "params": {
        "warmup_max_lr": [0.1, 0.2],
    } } }));
    assert!(problem.starts_with("scheduler.params.warmup_max_lr has a rate for each"), "{problem}");
}

#[test]
fn keys_in_the_wrong_section_are_told_the_right_one() {
    for (config, place) in [
        (json!({ "loss_scale": 0 }), "it belongs in fp16"),
        (json!({ "stage": 2 }), "it belongs in zero_optimization"),
        (json!({ "offload_optimizer": {} }), "it belongs in zero_optimization"),
        (json!({ "optimizer": { "type": "AdamW", "lr": 1 } }), "it belongs in optimizer.params"),
        (json!({ "zero_optimization": { "gradient_clipping": 1 } }), "it belongs at the top level"),
    ] {
        let Err(Error::Config(error)) = plan(&config) else { panic!("{config} is fine") };
        let error = error.to_string();
        assert!(error.ends_with(place), "{error}");
    }
    for config in [
        json!({ "fp16": { "fp16": true } }),
        json!({ "zero_optimization": { "find_unused_parameters": true } }),
    ] {
        let Err(Error::Config(error)) = plan(&config) else { panic!("{config} is fine") };
        assert!(!error.to_string().contains("did you mean"), "{error}");
    }
}

/// What is only noted may be a number of any size.
#[test]
fn large_numbers_of_noted_keys() {
    let key = "stage3_max_live_parameters";
    let text = format!(r#"{{ "zero_optimization": {{ "{key}": 100000000000000000000 }} }}"#);
    let document = Document::parse(Source::text("run.json", text)).expect("JSON");
    assert!(REGISTRY.plan(Layers::new(document)).is_ok());
    let Err(Error::Config(error)) = plan(&json!({ "zero_optimization": { key: -1 } })) else {
        panic!("a negative number of parameters is fine");
    };
    assert!(error.to_string().ends_with(" = -1 is not >= 0"), "{error}");
}
