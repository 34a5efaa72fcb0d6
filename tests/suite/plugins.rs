//! Every plugin, sent through one table: a new one is covered by adding it to the registry.
use serde_json::{Map, Value};
use trainyard::{
    BoxError, BuildContext, Context, EngineState, Known, Layers, Outline, Parts, PluginSpec,
    Report, Section,
};
use trainyard_plugins::data_parallel::DataParallel;
use trainyard_plugins::precision::Bf16;
use trainyard_plugins::{EXAMPLES, deepspeed};
use trainyard_tests::{engine, plan, registry, same_bits, train};

const BASE: &str = r#"{
    "train_batch_size": 4, "training": { "total_steps": 60, "seed": 3 },
    "optimizer": { "type": "AdamW", "params": { "lr": 0.01, "weight_decay": 0.01 } }
}"#;

/// The base configuration with the keys of an example put over it.
fn with(example: &str) -> String {
    let mut base: Map<String, Value> = serde_json::from_str(BASE).expect("JSON");
    let example: Map<String, Value> = serde_json::from_str(example).expect("an example is JSON");
    base.extend(example);
    Value::Object(base).to_string()
}

fn run(json: &str, steps: u64) -> (Vec<Report>, EngineState) {
    let (_variables, mut engine) = engine(registry(), json, 0.1);
    let reports = train(&mut engine, steps);
    let state = engine.state();
    (reports, state)
}

#[test]
fn every_plugin_has_an_example_that_the_schema_and_the_builder_accept() {
    let schema = jsonschema::validator_for(&registry().schema()).expect("a schema");
    let known = registry().schema()["properties"].as_object().expect("properties").clone();
    for (key, example) in EXAMPLES {
        let json = with(example);
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert!(schema.is_valid(&value), "{key}: the schema refuses its example");
        let _engine = engine(registry(), &json, 0.1);
        assert!(known.contains_key(*key), "{key} is not in the schema");
    }
    let own = trainyard::Settings::KEYS;
    // DeepSpeed's keys that no plugin owns, and those that a plugin owns besides its first.
    let tables = [deepspeed::TOP, deepspeed::SECTIONS, deepspeed::ZERO, deepspeed::PARALLEL];
    let answered = |key: &str| {
        let of = |known: &Known| match known.section {
            "" => known.keys.contains(&key),
            section => section.split('.').next() == Some(key),
        };
        let example = EXAMPLES.iter().any(|(known, _)| *known == key);
        !example && tables.iter().copied().flatten().any(of)
    };
    let more = [DataParallel::KEYS, Bf16::KEYS].map(|keys| &keys[1..]).concat();
    let plugins = known.keys().filter(|key| {
        *key != "$schema"
            && !own.contains(&key.as_str())
            && !answered(key)
            && !more.contains(&key.as_str())
    });
    let plugins: Vec<_> = plugins.collect();
    let mut listed: Vec<_> = EXAMPLES.iter().map(|(key, _)| *key).collect();
    listed.sort_unstable();
    assert_eq!(plugins, listed, "every section needs an example");
}

/// What the schema refuses the program refuses, and the other way round.
#[test]
fn schema_and_builder_agree_on_broken_examples() {
    let schema = jsonschema::validator_for(&registry().schema()).expect("a schema");
    let broken = [Value::Null, Value::from(-1), Value::from("nonsense"), serde_json::json!([[]])];
    let mut refused = 0;
    for (key, example) in EXAMPLES {
        let value: Value = serde_json::from_str(&with(example)).expect("JSON");
        let section = &value[*key];
        let paths: Vec<Vec<String>> = match section {
            Value::Object(fields) => {
                fields.keys().map(|f| vec![(*key).into(), f.clone()]).collect()
            }
            _ => vec![vec![(*key).into()]],
        };
        for path in paths {
            for bad in &broken {
                let mut changed = value.clone();
                let pointer = format!("/{}", path.join("/"));
                *changed.pointer_mut(&pointer).expect("the path exists") = bad.clone();
                let by_schema = schema.is_valid(&changed);
                let by_program = plan(registry(), &changed.to_string()).is_ok();
                assert_eq!(by_schema, by_program, "{pointer} = {bad}");
                refused += usize::from(!by_schema);
            }
        }
    }
    assert!(refused > 20, "only {refused} broken values were refused");
}

#[test]
fn two_runs_are_the_same_and_resuming_changes_nothing() {
    let gates = r#"{ "optimizer": { "type": "Lamb" }, "progressive_layer_drop":
        { "enabled": true, "schedule": "constant", "theta": 0.3, "gate": "sublayer" } }"#;
    for (key, example) in EXAMPLES.iter().chain(&[("gates", gates)]) {
        let json = with(example);
        let (straight, end) = run(&json, 12);
        let closed = straight[5..].iter().any(|r| r.layer_calls.run < r.layer_calls.offered);
        assert!(closed || *key != "gates", "the seed must close a gate after resuming");
        let (_variables, mut first) = engine(registry(), &json, 0.1);
        train(&mut first, 5);
        let saved = first.state();
        let (_others, mut second) = engine(registry(), &json, 0.1);
        second.load_state(&saved).expect("its own state");
        let rest = train(&mut second, 7);
        assert_eq!(straight[5..], rest[..], "{key}: reports after resuming");
        same_bits(&end, &second.state());
    }
}

/// A section that is there and switched off leaves no trace.
#[test]
fn off_is_plain_bit_for_bit() {
    let (_, plain) = run(BASE, 6);
    let off = [
        ("progressive_layer_drop", r#"{ "progressive_layer_drop": { "enabled": false } }"#),
        ("gradient_clipping", r#"{ "gradient_clipping": 0 }"#),
        ("bf16", r#"{ "bf16": { "enabled": false } }"#),
        ("fp16", r#"{ "fp16": { "enabled": false, "loss_scale": 128 } }"#),
    ];
    for (key, example) in off {
        assert!(EXAMPLES.iter().any(|(known, _)| *known == key));
        let (_, state) = run(&with(example), 6);
        same_bits(&plain, &state);
    }
    let (_, on) = run(&with(r#"{ "gradient_clipping": 0.01 }"#), 6);
    assert!(on.model.iter().any(|(name, tensor)| !tensor.equal(&plain.model[name])));
}

/// A section of its own that does nothing but say that it is there.
struct Mark;

impl Section for Mark {
    const KEYS: &'static [&'static str] = &["mark"];
    type Config = bool;

    fn outline(_: &bool, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        outline.describe("here");
        Ok(())
    }
}

impl PluginSpec for Mark {
    fn build(_: &bool, _: &BuildContext, _: &mut Parts) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_plugin_of_ones_own_runs_where_the_program_puts_it() {
    let json = with(r#"{ "mark": true, "gradient_clipping": 1 }"#);
    let sections = |registry| {
        let plan = plan(registry, &json).unwrap_or_else(|e| panic!("{e}"));
        let lines = plan.explain(&Layers::new(), Vec::new()).expect("a plan").lines;
        lines.into_iter().map(|(section, _)| section).collect::<Vec<_>>()
    };
    let before = sections(registry().add_before::<Mark>("gradient_clipping"));
    assert_eq!(before, ["mark", "gradient_clipping", "optimizer"]);
    let behind = sections(registry().add::<Mark>());
    assert_eq!(behind, ["gradient_clipping", "optimizer", "mark"]);
}

#[test]
fn a_plugins_place_in_the_file_does_not_matter() {
    let forward = with(
        r#"{ "gradient_clipping": 0.1, "progressive_layer_drop": { "enabled": true, "schedule": "constant" } }"#,
    );
    let fields: Map<String, Value> = serde_json::from_str(&forward).expect("JSON");
    let backward: Vec<_> = fields.iter().rev().map(|(k, v)| format!("{k:?}: {v}")).collect();
    let (_, a) = run(&forward, 4);
    let (_, b) = run(&format!("{{ {} }}", backward.join(", ")), 4);
    same_bits(&a, &b);
}
