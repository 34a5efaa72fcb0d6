use crate::{checkout, configuration, folder, trainyard, write};
use serde_json::{Value, json};
use trainyard::Absent;
use trainyard::config::{Document, Source};
use trainyard_plugins::deepspeed::MOVED;

fn example() -> (String, Value) {
    let path = checkout("examples/bert.json");
    let document = Document::parse(Source::read(&path).expect("a text")).expect("JSON");
    (path.to_str().expect("UTF-8").to_owned(), document.value().clone())
}

#[test]
fn the_example_in_words_and_curves() {
    let (path, config) = example();
    let ran = trainyard(&checkout("."), &["explain", &path]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    let text = ran.stdout;
    // In running order, whatever the order of the file.
    let place = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in {text}"));
    let sections = [
        "\nprogressive_layer_drop ",
        "\ngradient_clipping ",
        "\noptimizer ",
        "\nscheduler ",
        "\nbatch ",
    ];
    let places = sections.map(place);
    assert!(places.is_sorted(), "{text}");
    let steps = &config["training"]["total_steps"];
    place(&format!("length                  {steps} steps\n"));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("expected depth 8.75 of 12 at the end"), "{text}");
    assert!(words.contains("27.1 % at the end"), "the saving that is promised: {text}");
    let lr = config["optimizer"]["params"]["lr"].as_f64().expect("a learning rate");
    place(&format!("\nlearning rate\n{lr:>10} ┤"));
    place("\ntheta\n         1 ┤⢱");
    assert!(text.lines().all(|line| line.chars().count() <= 72), "{text}");
}

#[test]
fn the_example_in_json() {
    let (path, config) = example();
    let ran = trainyard(&checkout("."), &["explain", &path, "--format", "json"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["total_steps"], config["training"]["total_steps"]);
    let train = &config["train_batch_size"];
    let batch = json!({ "train": train, "micro_batch": train, "accumulation": 1, "world_size": 1 });
    assert_eq!((&plan["batch"], &plan["notes"]), (&batch, &json!([])));
    assert_eq!(plan["lines"][0]["section"], "progressive_layer_drop");
    let curves = plan["curves"].as_array().expect("curves");
    let names: Vec<_> = curves.iter().map(|curve| curve["name"].as_str()).collect();
    assert_eq!(names, [Some("learning rate"), Some("theta")]);
    let theta = curves[1]["points"].as_array().expect("points");
    assert_eq!((theta.len(), &theta[0]), (101, &json!([0, 1.0])));
    let last = theta[100].as_array().expect("a point");
    assert_eq!(last[0].as_u64(), config["training"]["total_steps"].as_u64().map(|steps| steps - 1));
    assert!((last[1].as_f64().expect("theta") - 0.5).abs() < 1e-3, "{last:?}");
}

#[test]
fn layers_and_steps_of_the_command_line_hold() {
    let folder = folder();
    let arguments = ["explain", "run.json", "--layers", "24", "--steps", "7", "--format", "json"];
    let ran = trainyard(folder.path(), &arguments);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["total_steps"], 7);
    assert!(plan["lines"][0]["text"].as_str().expect("text").contains("24 blocks"), "{plan:#}");
    assert_eq!(plan["curves"][1]["points"].as_array().map(Vec::len), Some(7), "no step twice");
}

/// What a file leaves out is as if it said what `left_out` says of it, and other than what it does not say.
#[test]
fn defaults_that_moved_are_what_explain_says() {
    let folder = folder();
    let explained = |config: &Value| {
        write(folder.path(), "run.json", &config.to_string());
        let ran = trainyard(folder.path(), &["explain", "run.json", "--format", "json"]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        serde_json::from_str::<Value>(&ran.stdout).expect("JSON")
    };
    let silent = json!({
        "train_batch_size": 8,
        "training": { "total_steps": 100 },
        "bf16": { "enabled": true },
        "optimizer": { "type": "Adam", "params": { "lr": 2e-3, "weight_decay": 0.1 } },
        "scheduler": { "type": "WarmupDecayLR", "params": { "warmup_num_steps": 10 } },
    });
    let of_silent = explained(&silent);
    let rows = of_silent["left_out"].as_array().expect("a list");
    let of_other_types = |types: &[&str]| !types.is_empty() && !types.contains(&"lamb");
    let moved: Vec<_> = MOVED.iter().filter(|row| !row.types.contains(&"lamb")).collect();
    assert_eq!(rows.len(), moved.len(), "{rows:#?}");
    for (Absent { path, types, says, .. }, row) in moved.into_iter().zip(rows) {
        assert_eq!(row["message"], json!(format!("{path}: {says}")));
        assert_eq!((&row["kind"], &row["path"]), (&json!("noted"), &json!(path)));
        if of_other_types(types) {
            let (section, name) = match path.split_once('.') {
                Some(("scheduler", _)) => ("scheduler", json!("LRRangeTest")),
                _ => ("optimizer", json!("AdamW")),
            };
            let mut other = silent.clone();
            other[section] = json!({ "type": name, "params": {} });
            assert!(!explained(&other)["left_out"].to_string().contains(path), "{path}");
        }
        // What is the same as leaving it out, and what is not.
        let (same, other) = match *path {
            "gradient_clipping" => (json!(0.0), Some(json!(1.0))),
            "steps_per_print" => (json!(10), None),
            "bf16.check_grad_overflow" => (json!(true), Some(json!(false))),
            "scheduler.params.warmup_max_lr" => (json!(0.001), Some(json!("auto"))),
            "scheduler.params.warmup_type" => (json!("log"), Some(json!("linear"))),
            "optimizer.params.adam_w_mode" => (json!(true), Some(json!(false))),
            _ => panic!("{path} has no values to compare"),
        };
        let with = |value: Value| {
            let mut config = silent.clone();
            let inner = path.split('.').fold(&mut config, |inner, key| &mut inner[key]);
            *inner = value;
            let explained = explained(&config);
            assert!(!explained["left_out"].to_string().contains(path), "{explained:#}");
            // A section that is off has a line that says so.
            let is_on =
                |line: &&Value| !line["text"].as_str().is_some_and(|t| t.starts_with("off"));
            let lines = explained["lines"].as_array().expect("a list").iter().filter(is_on);
            let lines: Vec<_> = lines.cloned().collect();
            (lines, explained["curves"].clone())
        };
        let lines = of_silent["lines"].as_array().expect("a list").clone();
        let left_out = (lines, of_silent["curves"].clone());
        assert_eq!(with(same), left_out, "{path}");
        if let Some(other) = other {
            assert_ne!(with(other), left_out, "{path}");
        }
    }
}

#[test]
fn what_is_taken_for_granted_is_noted() {
    let folder = folder();
    let mut config = configuration();
    config.as_object_mut().expect("an object").remove("model");
    config["training"] = json!({ "epochs": 2 });
    config["optimizer"]["no_decay"] = json!(["a name of the user's own model"]);
    config["progressive_layer_drop"]["enabled"] = json!(false);
    write(folder.path(), "own.json", &config.to_string());
    let ran = trainyard(folder.path(), &["explain", "own.json", "--format", "json"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["total_steps"], 2000);
    let off = json!({ "section": "progressive_layer_drop", "text": "off: `enabled` is not true" });
    assert_eq!(plan["lines"][0], off);
    let notes = plan["notes"].as_array().expect("notes");
    let told = |note: &Value, words| note["message"].as_str().expect("text").contains(words);
    assert!(told(&notes[0], "12 layers") && told(&notes[1], "2 epochs"), "{plan:#}");
    let left_out = plan["left_out"].to_string();
    assert!(left_out.contains("gradient_clipping: nothing is clipped"), "{left_out}");
    // The length of the command line takes the place of the epochs.
    let ran = trainyard(folder.path(), &["explain", "own.json", "--steps", "50"]);
    assert!(ran.stdout.contains(" 50 steps\n"), "{ran:#?}");
}

/// Patterns on the layers of a model that is not here are taken at their word, as `validate` takes them.
#[test]
fn layers_of_a_model_that_is_not_here() {
    let folder = folder();
    let mut config = configuration();
    config.as_object_mut().expect("an object").remove("model");
    config["progressive_layer_drop"]["layers"] = json!(["trunk.*.block"]);
    write(folder.path(), "own.json", &config.to_string());
    let ran = trainyard(folder.path(), &["explain", "own.json"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("each pattern is taken to name 12 layers"), "{words}");
    assert!(words.contains("of 12 at the end"), "{words}");
}

/// A program reads what is wrong as it reads a note: with path and place.
#[test]
fn problems_and_notes_in_json() {
    let folder = folder();
    let text = r#"{ "train_batch_size": 8, "optimizer": { "type": "SGD" },
  "graph_harvesting": true }"#;
    write(folder.path(), "right.json", text);
    write(folder.path(), "wrong.json", &text.replace("SGD", "SDG"));
    let shown = |file: &str, status| {
        let ran = trainyard(folder.path(), &["explain", file, "--format", "json"]);
        assert_eq!(ran.status, Some(status), "{ran:#?}");
        (serde_json::from_str::<Value>(&ran.stdout).expect("JSON"), ran.stderr)
    };
    let (right, _) = shown("right.json", 0);
    assert_eq!(right["ok"], true);
    let place = |of: &Value| json!([of["path"], of["line"], of["column"]]);
    assert_eq!(place(&right["notes"][0]), json!(["graph_harvesting", 2, 23]), "{right:#}");
    let (wrong, told) = shown("wrong.json", 1);
    assert!(told.contains("did you mean \"SGD\"?"), "{told}");
    let answers = wrong["answers"].as_array().expect("answers").iter();
    let invalid: Vec<_> = answers.filter(|a| a["kind"] == "invalid").map(place).collect();
    assert_eq!((&wrong["ok"], invalid), (&json!(false), vec![json!(["optimizer.type", 1, 49])]));
    // Strict is as strict as `validate` is.
    write(folder.path(), "strict.json", r#"{ "strict": true, "optimizer": { "type": "SGD" } }"#);
    assert_eq!(shown("strict.json", 1).0["ok"], false);
    assert_eq!(trainyard(folder.path(), &["validate", "strict.json"]).status, Some(1));
    // And a note is one whatever else is wrong.
    let mut filled = configuration();
    filled["optimizer"]["params"]["lr"] = json!("auto");
    filled["optimizer"]["no_decay"] = json!(["none such"]);
    write(folder.path(), "filled.json", &filled.to_string());
    let (filled, _) = shown("filled.json", 1);
    let answers = filled["answers"].as_array().expect("answers").iter();
    let lr = answers.filter(|answer| answer["path"] == "optimizer.params.lr");
    assert_eq!(lr.map(|answer| &answer["kind"]).collect::<Vec<_>>(), ["noted"]);
    write(folder.path(), "unread.json", "{");
    assert_eq!(shown("unread.json", 1).0["answers"][0]["kind"], "invalid");
}

/// Beside an error stands what was taken to be: it may be what is wrong.
#[test]
fn notes_are_told_beside_an_error() {
    let folder = folder();
    let sizes = r#"{ "train_batch_size": 33, "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2, "optimizer": { "type": "SGD" } }"#;
    write(folder.path(), "sizes.json", sizes);
    let ran = trainyard(folder.path(), &["explain", "sizes.json"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
    let note =
        "note 1:23: train_batch_size = 33: held against 1 rank; --world-size says for how many";
    let printed = [note, "train_batch_size = 33 is not micro-batch 4 x accumulation 2 x 1 rank"];
    assert!(printed.iter().all(|text| ran.stderr.contains(text)), "{ran:#?}");
}

/// What is said of a type is said of that type alone.
#[test]
fn the_rule_of_lamb_is_told() {
    let folder = folder();
    let left_out = |name: &str| {
        let config = json!({ "train_batch_size": 8, "optimizer": { "type": name },
            "scheduler": { "type": "OneCycle", "params": { "cycle_min_lr": 0, "cycle_max_lr": 1 } } });
        write(folder.path(), "run.json", &config.to_string());
        let ran = trainyard(folder.path(), &["explain", "run.json", "--format", "json"]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let shown: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        shown["left_out"].to_string()
    };
    let lamb = left_out("Lamb");
    assert!(lamb.contains("optimizer.params.variant: the rule is the paper's"), "{lamb}");
    for name in ["Lamb", "SGD"] {
        let told = left_out(name);
        assert!(!told.contains("warmup_type") && !told.contains("adam_w_mode"), "{told}");
        assert_eq!(told.contains("variant"), name == "Lamb", "{told}");
    }
}
