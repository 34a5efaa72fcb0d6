use crate::{checkout, trainyard};
use serde_json::{Value, json};
use std::fs;
use trainyard::config::{Document, Source};

fn schema() -> (String, Value) {
    let ran = trainyard(&checkout("."), &["schema"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    let value = serde_json::from_str(&ran.stdout).expect("JSON");
    (ran.stdout, value)
}

#[test]
fn the_schema_in_the_checkout_is_that_of_the_code() {
    let (text, _) = schema();
    let path = checkout("schemas/trainyard.schema.json");
    let kept = fs::read_to_string(&path).expect("schemas/trainyard.schema.json");
    assert!(
        text == kept,
        "schemas/trainyard.schema.json has drifted from the code; run `make schema`"
    );
}

#[test]
fn the_schema_takes_the_examples_and_not_what_is_wrong() {
    let (text, schema) = schema();
    assert!(text.ends_with("}\n"));
    jsonschema::draft202012::meta::validate(&schema).expect("a JSON Schema of draft 2020-12");
    let validator = jsonschema::draft202012::new(&schema).expect("a JSON Schema");
    let mut checked = 0;
    for entry in fs::read_dir(checkout("examples")).expect("examples") {
        let path = entry.expect("an entry").path();
        // A program of its own, with a section of its own.
        let own = path.ends_with("custom_plugin.json");
        if path.extension().is_none_or(|extension| extension != "json") || own {
            continue;
        }
        let source = Source::read(&path).expect("a text");
        let config = Document::parse(source).expect("JSON").value().clone();
        let errors: Vec<_> =
            validator.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        checked += 1;
    }
    assert!(checked > 0, "there is an example");
    for wrong in [
        json!([]),
        json!({ "progresive_layer_drop": {} }),
        json!({ "progressive_layer_drop": { "theta": 0 } }),
        json!({ "progressive_layer_drop": { "theta": "0.5" } }),
        json!({ "progressive_layer_drop": { "gamma": -1 } }),
        json!({ "model": { "layers": 0 } }),
        json!({ "data": { "text": 1 } }),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

/// What an editor underlines by the schema is what `validate` turns away, but for what no schema can say.
#[test]
fn an_editor_and_validate_agree() {
    let (_, schema) = schema();
    let validator = jsonschema::draft202012::new(&schema).expect("a JSON Schema");
    let folder = checkout("engine/cli/tests/deepspeed");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("configurations")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json" || end == "hjson"))
        .collect();
    let scratch = crate::folder();
    for (name, text) in [
        ("masters.json", r#""fp16": { "enabled": true, "fp16_master_weights_and_grads": true }"#),
        (
            "masters_off.json",
            r#""fp16": { "enabled": false, "fp16_master_weights_and_grads": true }"#,
        ),
        ("states.json", r#""bfloat16": { "enabled": "Yes", "bf16_optimizer_states": "true" }"#),
        ("theta.json", r#""progressive_layer_drop": { "enabled": true, "theta": 1.5 }"#),
        (
            "warmup.json",
            r#""scheduler": { "type": "WarmupLR", "params": { "warmup_type": "cosine" } }"#,
        ),
        ("twice.json", r#""train_batch_size": 16"#),
        ("fine.json", r#""gradient_clipping": 1.0"#),
    ] {
        let optimizer = r#""optimizer": { "type": "SGD", "params": { "lr": 0.1 } }"#;
        let text = format!(r#"{{ "train_batch_size": 8, {optimizer}, {text} }}"#);
        crate::write(scratch.path(), name, &text);
        files.push(scratch.path().join(name));
    }
    let mut differ = Vec::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        let document = Document::parse(Source::read(&path).expect("a text"));
        let sound = document.as_ref().ok().filter(|document| document.problems().is_empty());
        let by_schema = sound.is_some_and(|document| validator.is_valid(document.value()));
        let file = path.to_str().expect("UTF-8");
        let ran = trainyard(&checkout("."), &["validate", "--world-size", "8", file]);
        if by_schema != (ran.status == Some(0)) {
            differ.push((name, by_schema));
        }
    }
    differ.sort();
    // Batch sizes that do not multiply.
    let beyond_a_schema = ["batch.json"];
    assert_eq!(differ, beyond_a_schema.map(|name| (name.to_owned(), true)));
}

/// A validator that shares no code with the program's gives the schema's verdicts as the program does.
#[test]
fn another_validator_agrees() {
    let (_, schema) = schema();
    let mut compiler = boon::Compiler::new();
    compiler.set_default_draft(boon::Draft::V2020_12);
    compiler.add_resource("schema.json", schema.clone()).expect("a schema");
    let mut schemas = boon::Schemas::new();
    let compiled =
        compiler.compile("schema.json", &mut schemas).expect("a schema of draft 2020-12");
    let ours = jsonschema::draft202012::new(&schema).expect("a JSON Schema");
    let surface = fs::read_to_string(checkout("plugins/src/deepspeed/surface.tsv"))
        .expect("plugins/src/deepspeed/surface.tsv");
    // Each key of DeepSpeed's alone, with its value and with others of each type.
    let mut configurations = Vec::new();
    for line in surface.lines().skip(1) {
        let (path, rest) = line.split_once('\t').expect("three cells");
        let value = rest.split_once('\t').expect("three cells").0;
        let value: Value = serde_json::from_str(value).expect("JSON");
        for value in
            [value, json!(null), json!("auto"), json!(false), json!(-1), json!(0.5), json!({})]
        {
            let inside = path.replace("[", ".type=").replace(']', "");
            configurations.push(inside.rsplit('.').fold(value, |inner, part| {
                match part.split_once('=') {
                    Some((key, name)) => {
                        let mut typed = inner;
                        typed[key] = json!(name);
                        typed
                    }
                    None => json!({ part: inner }),
                }
            }));
        }
    }
    for entry in fs::read_dir(checkout("engine/cli/tests/deepspeed")).expect("configurations") {
        let source = Source::read(entry.expect("an entry").path()).expect("a text");
        configurations.extend(Document::parse(source).ok().map(|text| text.value().clone()));
    }
    let (mut fine, mut wrong) = (0, 0);
    for config in &configurations {
        let theirs = schemas.validate(config, compiled).is_ok();
        assert_eq!(theirs, ours.is_valid(config), "{config}");
        *(if theirs { &mut fine } else { &mut wrong }) += 1;
    }
    assert!(fine > 400 && wrong > 400, "{fine} fine, {wrong} wrong");
}
