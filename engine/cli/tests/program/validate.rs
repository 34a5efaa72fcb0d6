use crate::{Ran, checkout, configuration, ended, folder, program, trainyard, write};
use serde_json::{Value, json};

#[test]
fn a_fine_file_is_ok_and_one_that_is_not_is_underlined() {
    let folder = folder();
    let ran = trainyard(folder.path(), &["validate", "run.json"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "run.json: ok\n"));
    write(folder.path(), "bad.json", "{\n  \"training\": { \"sead\": 1, \"total_steps\": -1 }\n}");
    let ran = trainyard(folder.path(), &["validate", "run.json", "bad.json"]);
    let expected = "run.json: ok
  × bad.json:2:17: training: unknown key \"sead\"; did you mean \"seed\"?
  │ bad.json:2:43: training.total_steps = -1 is not >= 1
   ╭─[bad.json:2:17]
";
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.starts_with(expected), "{}", ran.stdout);
    assert!(ran.stdout.contains("──"), "{}", ran.stdout);
}

#[test]
fn the_answers_in_json() {
    let folder = folder();
    let text =
        "{ \"training\": { \"seed\": 7 },\n  \"optimiser\": {},\n  \"gradient_clipping\": true }";
    write(folder.path(), "bad.json", text);
    let ran = trainyard(folder.path(), &["validate", "bad.json", "run.json", "--format", "json"]);
    assert_eq!(ran.status, Some(1));
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        verdicts[0],
        json!({ "file": "bad.json", "ok": false, "complete": false, "answers": [
            { "kind": "used", "path": "training.seed", "line": 1, "column": 25,
              "message": "training.seed = 7" },
            { "kind": "unknown", "path": "optimiser", "line": 2, "column": 3,
              "message": "unknown key \"optimiser\"; did you mean \"optimizer\"?" },
            { "kind": "invalid", "path": "gradient_clipping", "line": 3, "column": 24,
              "message": verdicts[0]["answers"][2]["message"] },
        ]})
    );
    assert_eq!((&verdicts[1]["file"], &verdicts[1]["ok"]), (&json!("run.json"), &json!(true)));
    let answers = verdicts[1]["answers"].as_array().expect("answers");
    assert_eq!(answers.len(), 16, "one for each value");
    assert!(answers.iter().all(|answer| answer["kind"] == "used"));
}

#[test]
fn what_overrides_the_file_is_checked_and_named() {
    let folder = folder();
    let set = ["validate", "run.json", "--set", "progressive_layer_drop.theta=3"];
    let ran = trainyard(folder.path(), &set);
    assert_eq!(ran.status, Some(1));
    let sentence = "theta = 3 is not in (0, 1] (from --set progressive_layer_drop.theta=3)";
    assert!(ran.stdout.contains(sentence), "{}", ran.stdout);

    let mut command = program(folder.path(), &set[..2]);
    command.env("TRAINYARD__PROGRESSIVE_LAYER_DROP__THETA", "2");
    let ran: Ran = ended(command.output().expect("the program starts"));
    let sentence = "theta = 2 is not in (0, 1] (from TRAINYARD__PROGRESSIVE_LAYER_DROP__THETA)";
    assert!(ran.stdout.contains(sentence), "{}", ran.stdout);
}

#[test]
fn what_only_the_plan_shows_is_found_with_its_position() {
    let folder = folder();
    let scheduled = |training: Value| {
        let mut config = configuration();
        config["scheduler"] =
            json!({ "type": "WarmupDecayLR", "params": { "total_num_steps": "auto" } });
        config["progressive_layer_drop"] = json!({ "enabled": false });
        config["training"] = training;
        serde_json::to_string_pretty(&config).expect("JSON")
    };
    write(folder.path(), "endless.json", &scheduled(json!({})));
    write(folder.path(), "epochs.json", &scheduled(json!({ "epochs": 1.5 })));
    let notes = |file: &str| {
        let ran = trainyard(folder.path(), &["validate", file]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let notes = ran.stdout.lines().skip(1).map(|line| line.trim_start().to_owned());
        notes.collect::<Vec<_>>()
    };
    assert_eq!(notes("epochs.json"), [""; 0]);
    let assumed = "missing: nothing sets the run's length, which the file needs and DeepSpeed stops without: \
                   1000 steps are assumed; set training.total_steps";
    assert_eq!(notes("endless.json"), [assumed]);
    let mut config = configuration();
    config["optimizer"] = json!({ "type": "SGD", "params": { "nesterov": true } });
    write(folder.path(), "wrong.json", &serde_json::to_string_pretty(&config).expect("JSON"));
    let ran = trainyard(folder.path(), &["validate", "wrong.json", "--format", "json"]);
    assert_eq!(ran.status, Some(1));
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let answers = verdicts[0]["answers"].as_array().expect("answers");
    let wrong: Vec<_> = answers.iter().filter(|answer| answer["kind"] != "used").collect();
    assert_eq!(wrong.len(), 1, "{verdicts:#}");
    assert_eq!(wrong[0]["path"], "optimizer.params.nesterov");
    assert!(wrong[0]["line"].as_u64() > Some(1), "{verdicts:#}");
}

/// A conflict of lengths is underlined as any other problem is.
#[test]
fn what_code_finds_alone_is_underlined() {
    let folder = folder();
    let text = "{ \"optimizer\": { \"type\": \"SGD\" },\n  \"training\": { \"epochs\": 2, \"total_steps\": 5 } }";
    write(folder.path(), "twice.json", text);
    let ran = trainyard(folder.path(), &["validate", "twice.json"]);
    assert_eq!(ran.status, Some(1));
    let parts =
        ["epochs = 2 and total_steps = 5", "[twice.json:2:27]", "\"training\": { \"epochs\": 2,"];
    assert!(parts.iter().all(|part| ran.stdout.contains(part)), "{}", ran.stdout);
}

/// What only a plugin's build finds is told beside what the schema finds in other sections.
#[test]
fn all_errors_are_told_at_once() {
    let folder = folder();
    let text = r#"{ "train_batch_size": 8, "fp61": {},
        "optimizer": { "type": "SGD", "params": { "nesterov": true } } }"#;
    write(folder.path(), "two.json", text);
    for command in [&["validate"][..], &["explain"], &["train", "--config"]] {
        let ran = trainyard(folder.path(), &[command, &["two.json"]].concat());
        assert_eq!(ran.status, Some(1));
        let printed = ran.stdout + &ran.stderr;
        for sentence in [
            ": unknown key \"fp61\"; did you mean \"fp16\"?",
            ": optimizer.params.nesterov = true needs",
        ] {
            assert_eq!(printed.matches(sentence).count(), 1, "{command:?}: {printed}");
        }
    }
    // Where ranks may be for something else, the batch is not looked at.
    let text = r#"{ "train_batch_size": 1, "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1, "sequence_parallel_size": 2 }"#;
    write(folder.path(), "refused.json", text);
    let ran = trainyard(folder.path(), &["validate", "refused.json", "--world-size", "2"]);
    assert!(!ran.stdout.contains("is not micro-batch"), "{}", ran.stdout);
    // And nothing that is only wrong because a section was left aside.
    let text = r#"{ "train_batch_size": 8.5, "gradient_accumulation_steps": 2, "optimizer": { "type": "SGD" } }"#;
    write(folder.path(), "one.json", text);
    let ran = trainyard(folder.path(), &["validate", "one.json", "--format", "json"]);
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let answers = verdicts[0]["answers"].as_array().expect("answers").iter();
    assert_eq!(answers.filter(|answer| answer["kind"] == "invalid").count(), 1, "{verdicts:#}");
}

/// What the type decides is looked at as it was meant, and is not called used.
#[test]
fn a_misspelt_type_hides_nothing() {
    let folder = folder();
    let text = r#"{ "train_batch_size": 8, "gradient_cliping": None, "optimizer": {
        "type": "Adamm", "params": { "lr": -1, "eps": 1e-8 }, "no_decay": ["bias"] } }"#;
    write(folder.path(), "typo.json", text);
    let ran = trainyard(folder.path(), &["validate", "typo.json", "--format", "json"]);
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let answers = verdicts[0]["answers"].as_array().expect("answers").iter();
    let answers = answers.map(|answer| (answer["path"].as_str(), answer["kind"].as_str()));
    let expected = [
        ("train_batch_size", "used"),
        ("gradient_cliping", "unknown"),
        ("gradient_cliping", "invalid"),
        ("optimizer.type", "invalid"),
        ("optimizer.params", "noted"),
        ("optimizer.params.lr", "invalid"),
        ("optimizer.no_decay", "used"),
    ];
    let expected = expected.map(|(path, kind)| (Some(path), Some(kind)));
    assert_eq!(answers.collect::<Vec<_>>(), expected, "{verdicts:#}");
    let params = "optimizer.params: not checked, since optimizer.type is wrong";
    assert_eq!(verdicts[0]["answers"][4]["message"], params);
    let ran = trainyard(folder.path(), &["validate", "typo.json"]);
    assert!(ran.stdout.contains(&format!("  note 2:36: {params}")), "{}", ran.stdout);
    let lr = "optimizer.params.lr = -1 is not >= 0 (if optimizer.type is \"Adam\")";
    assert_eq!(verdicts[0]["answers"][5]["message"], lr);
    // One that is right, and given twice, or noted where notes are errors, decides all the same.
    let twice = r#"{ "optimizer": { "type": "SGD", "type": "SGD", "params": { "lr": 1 } } }"#;
    write(folder.path(), "twice.json", twice);
    write(
        folder.path(),
        "noted.json",
        r#"{ "optimizer": { "type": "sgd", "params": { "lr": 1 } } }"#,
    );
    let arguments = ["validate", "--strict", "--format", "json", "twice.json", "noted.json"];
    let ran = trainyard(folder.path(), &arguments);
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    for verdict in verdicts.as_array().expect("verdicts") {
        let mut answers = verdict["answers"].as_array().expect("answers").iter();
        let lr = answers.find(|answer| answer["path"] == "optimizer.params.lr");
        assert_eq!(lr.map(|lr| &lr["kind"]), Some(&json!("used")), "{verdict:#}");
    }
}

/// A key's answer is the same whatever is wrong with another, and where a value comes from is said.
#[test]
fn a_wrong_key_changes_no_other_answer() {
    let folder = folder();
    let text = r#"{ "train_batch_size": 8, "optimizer": { "type": "SGD" }, "graph_harvesting": true,
        "amp": { "enabled": false }, "wall_clock_breakdown": false }"#;
    write(folder.path(), "right.json", text);
    write(folder.path(), "wrong.json", &text.replacen('{', "{ \"gradient_cliping\": 1,", 1));
    let answers = |file: &str| {
        let ran = trainyard(folder.path(), &["validate", file, "--format", "json"]);
        let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let answers = verdicts[0]["answers"].as_array().expect("answers").clone();
        let of = |answer: &Value| (answer["path"].to_string(), answer["kind"].to_string());
        answers.iter().map(of).filter(|(path, _)| !path.contains("cliping")).collect::<Vec<_>>()
    };
    let right = answers("right.json");
    assert!(right.contains(&("\"graph_harvesting\"".into(), "\"noted\"".into())), "{right:?}");
    // Nor is a list with something wrong in it, or a section that has nothing and that nobody reads.
    let text = r#"{ "compression_training": {}, "optimizer": { "type": "Adam", "params": { "betas": ["x", 0.9] } } }"#;
    write(folder.path(), "unused.json", text);
    let unused = answers("unused.json");
    assert!(
        unused.contains(&("\"compression_training\"".into(), "\"noted\"".into())),
        "{unused:?}"
    );
    assert!(!unused.iter().any(|(path, _)| path == "\"optimizer.params.betas\""), "{unused:?}");
    // What is off is not used by anyone; but who reads the answers has no use for it.
    let off = ("\"wall_clock_breakdown\"".into(), "\"noted\"".into());
    assert!(right.contains(&off), "{right:?}");
    let ran = trainyard(folder.path(), &["validate", "right.json"]);
    assert!(!ran.stdout.contains("wall_clock_breakdown"), "{}", ran.stdout);
    assert_eq!(right, answers("wrong.json"));
    let ran = trainyard(folder.path(), &["validate", "wrong.json"]);
    assert!(ran.stdout.contains("  note: gradient_clipping: nothing is clipped"), "{}", ran.stdout);

    let set = ["validate", "right.json", "--set", "train_micro_batch_size_per_gpu=7"];
    let ran = trainyard(folder.path(), &set);
    let from = "; train_micro_batch_size_per_gpu is from --set train_micro_batch_size_per_gpu=7";
    assert!(ran.stdout.contains(from), "{}", ran.stdout);

    // What is assumed for a file is a note too.
    write(folder.path(), "empty.json", "{}");
    assert_eq!(trainyard(folder.path(), &["validate", "empty.json"]).status, Some(0));
    let ran = trainyard(folder.path(), &["validate", "empty.json", "--strict"]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
}

/// What two sections say together is looked at as `train` does, and a note tells where a value came from.
#[test]
fn the_model_is_held_against_the_data() {
    let folder = folder();
    let mut config = configuration();
    config["data"]["sequence_length"] = json!(17);
    write(folder.path(), "long.json", &config.to_string());
    for command in [&["validate"][..], &["explain"], &["train", "--config"]] {
        let ran = trainyard(folder.path(), &[command, &["long.json"]].concat());
        assert_eq!(ran.status, Some(1), "{ran:#?}");
        let message = "data.sequence_length = 17 is more than model.max_positions = 16";
        assert!((ran.stdout + &ran.stderr).contains(message), "{command:?}");
    }
    // Not against what stands for a section that is wrong, or for a model that is not here.
    let optimizer = r#""train_batch_size": 8, "optimizer": { "type": "SGD" }"#;
    for (rest, problems) in [
        (
            r#""model": { "max_positions": 2048, "hiden": 4 }, "data": { "sequence_length": 1024 }"#,
            1,
        ),
        (r#""model": { "max_positions": 64 }, "data": { "sequence_length": 32, "sead": 1 }"#, 1),
        (r#""data": { "sequence_length": 1024 }"#, 0),
    ] {
        write(folder.path(), "other.json", &format!("{{ {optimizer}, {rest} }}"));
        let ran = trainyard(folder.path(), &["validate", "other.json", "--format", "json"]);
        let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let answers = verdicts[0]["answers"].as_array().expect("answers").iter();
        let wrong = answers.filter(|answer| answer["kind"] != "used" && answer["kind"] != "noted");
        assert_eq!(wrong.count(), problems, "{verdicts:#}");
    }
    let set = ["--set", "bf16.enabled=1", "--set", "optimizer.params.eps=auto"];
    let all = [&["validate", "run.json", "--all-notes"][..], &set].concat();
    let ran = trainyard(folder.path(), &all);
    let notes = "run.json: ok
  note: bf16.enabled = 1: is read as true, as DeepSpeed does (from --set bf16.enabled=1)
  note: optimizer.params.eps = \"auto\": filled in with 1e-8: the default of Hugging Face's trainer \
                 (from --set optimizer.params.eps=auto)
";
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), notes));
}

/// The command line's layers and steps are checked in place of the file's.
#[test]
fn layers_and_steps_of_the_command_line() {
    let folder = folder();
    let mut config = configuration();
    config["progressive_layer_drop"]["layers"] = json!(["layers.5"]);
    config["training"] = json!({ "epochs": 2 });
    write(folder.path(), "deep.json", &config.to_string());
    let ran = trainyard(folder.path(), &["validate", "deep.json"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let ran = trainyard(folder.path(), &["validate", "deep.json", "--layers", "6", "--steps", "9"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "deep.json: ok\n"));
    let ran = trainyard(folder.path(), &["validate", "deep.json", "--steps", "0"]);
    assert_eq!(ran.status, Some(2), "{ran:#?}");
}

#[test]
fn patterns_of_a_model_that_is_not_here_are_left_alone() {
    let folder = folder();
    let mut config = configuration();
    config.as_object_mut().expect("an object").remove("model");
    config["progressive_layer_drop"]["layers"] = json!(["blocks.*"]);
    config["optimizer"]["no_decay"] = json!(["ln"]);
    write(folder.path(), "own.json", &config.to_string());
    let ran = trainyard(folder.path(), &["validate", "own.json"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let note = "own.json: ok\n  note: the model is not read, so patterns on layers and parameters were not held against it\n";
    assert_eq!(ran.stdout, note);
    // What is wrong all the same is told all the same.
    config["progressive_layer_drop"]["gamma"] = json!("auto");
    config["optimizer"]["type"] = json!("SGD");
    config["optimizer"]["params"] = json!({ "nesterov": true });
    write(folder.path(), "own.json", &config.to_string());
    let ran = trainyard(folder.path(), &["validate", "own.json"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("nesterov = true"), "{}", ran.stdout);
}

#[test]
fn the_examples_are_fine() {
    for name in ["examples/demo.json", "examples/bert.json"] {
        let path = checkout(name);
        let ran = trainyard(&checkout("."), &["validate", path.to_str().expect("UTF-8")]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
    }
}

/// Every answer there is, in text and in JSON; notes are errors where one asks for it.
#[test]
fn a_file_of_deepspeeds() {
    let folder = folder();
    let text = r#"{
  "train_batch_size": 64,
  "train_micro_batch_size_per_gpu": "auto",
  "gradient_accumulation_steps": 2,
  "optimizer": { "type": "AdamW", "params": { "lr": "auto" } },
  "zero_optimization": { "stage": 2, "overlap_comm": false },
  "amp": { "enabled": false, "opt_level": "O1" }
}"#;
    write(folder.path(), "ds.json", text);
    let ran = trainyard(folder.path(), &["validate", "ds.json", "--world-size", "8"]);
    let matters = "ds.json: incomplete
  missing 5:53: optimizer.params.lr = \"auto\": filled in with 5e-5: the default of Hugging Face's trainer; \
                   a program that trains has to fill it in
  note: gradient_clipping: nothing is clipped; DeepSpeed clips to a norm of 1 since June 2026, and did not before
";
    let more = "  4 more notes, on memory, speed, logging and spelling: --all-notes shows them\n";
    assert_eq!((ran.status, ran.stdout), (Some(0), matters.to_owned() + more));
    let all = ["validate", "ds.json", "--world-size", "8", "--all-notes"];
    let ran = trainyard(folder.path(), &all);
    let rest = "  note 3:37: train_micro_batch_size_per_gpu = \"auto\": filled in with 4: follows from the other \
                    keys
  note 6:35: zero_optimization.stage = 2: would have partitioned the optimizer's state (1), gradients \
                    (2) and parameters (3) over the ranks; every rank keeps them whole, to the same result
  note 7:10: amp: is an error to DeepSpeed since 0.19.8 (October 2026), whatever it holds
  note 7:10: amp: off, as it has to be: on, it asks for Apex's mixed precision, which is not supported; \
                    use bf16 or fp16
";
    assert_eq!((ran.status, ran.stdout), (Some(0), matters.to_owned() + rest));

    let ran = trainyard(folder.path(), &["validate", "ds.json", "--strict"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.contains("zero_optimization.stage = 2: would have"), "{}", ran.stdout);
    write(folder.path(), "strict.json", &text.replacen('{', "{ \"strict\": true,", 1));
    assert_eq!(trainyard(folder.path(), &["validate", "strict.json"]).status, Some(1));

    let on = text.replace("\"enabled\": false", "\"enabled\": true");
    write(folder.path(), "on.json", &on.replace("\"stage\"", "\"stge\""));
    let ran = trainyard(folder.path(), &["validate", "on.json", "--format", "json"]);
    assert_eq!(ran.status, Some(1));
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let answers = verdicts[0]["answers"].as_array().expect("answers").iter();
    let answers = answers.filter(|answer| answer["idle"] != true);
    let kinds = answers.map(|answer| (answer["path"].as_str(), answer["kind"].as_str()));
    let wrong: Vec<_> = kinds.filter(|(_, kind)| *kind != Some("used")).collect();
    let expected = [
        ("train_micro_batch_size_per_gpu", "noted"),
        ("optimizer.params.lr", "noted"),
        ("zero_optimization.stge", "unknown"),
        ("amp", "refused"),
        ("amp", "noted"),
        ("gradient_clipping", "noted"),
    ];
    let expected = expected.map(|(path, kind)| (Some(path), Some(kind)));
    assert_eq!(wrong, expected, "{verdicts:#}");
}

/// Where all three batch sizes are given they say for how many ranks; else there is 1.
#[test]
fn the_number_of_ranks() {
    let folder = folder();
    let sizes = r#"{ "train_batch_size": 64, "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2, "optimizer": { "type": "SGD" } }"#;
    write(folder.path(), "eight.json", sizes);
    let ran = trainyard(folder.path(), &["validate", "eight.json"]);
    let note = "eight.json: ok\n  note 1:23: train_batch_size = 64: takes 8 ranks\n";
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), note));
    write(folder.path(), "float.json", &sizes.replace("64", "64.0"));
    let ran = trainyard(folder.path(), &["validate", "float.json"]);
    assert!(ran.stdout.contains(": takes 8 ranks\n"), "{}", ran.stdout);
    write(folder.path(), "odd.json", &sizes.replace("64", "60"));
    let ran = trainyard(folder.path(), &["validate", "odd.json"]);
    let note =
        "  note 1:23: train_batch_size = 60: held against 1 rank; --world-size says for how many\n";
    assert!(ran.stdout.ends_with(note), "{}", ran.stdout);
    let ran = trainyard(folder.path(), &["validate", "eight.json", "--world-size", "4"]);
    assert_eq!(ran.status, Some(1));
    let sentence = "train_batch_size = 64 is not micro-batch 4 x accumulation 2 x 4 ranks = 32";
    assert!(ran.stdout.contains(sentence), "{}", ran.stdout);
    let underlined = ["[eight.json:1:23]", "{ \"train_batch_size\": 64,"];
    assert!(underlined.iter().all(|part| ran.stdout.contains(part)), "{}", ran.stdout);
    let ran = trainyard(folder.path(), &["explain", "eight.json", "--world-size", "8"]);
    assert!(ran.stdout.contains("64 = micro-batch 4 x accumulation 2 x 8 ranks"), "{}", ran.stdout);
    assert_eq!(
        trainyard(folder.path(), &["validate", "eight.json", "--world-size", "0"]).status,
        Some(2)
    );
}

/// First what is missing, then what changes results, then the rest as a number; what says the same is said once.
#[test]
fn what_matters_comes_first() {
    let folder = folder();
    let text = r#"{ "train_batch_size": 8, "zero_optimization": {
    "stage": 0, "stage3_max_live_parameters": 1, "stage3_max_reuse_distance": 1, "round_robin_gradients": true,
    "elastic_checkpoint": true, "log_trace_cache_warnings": true, "enable_sanity_checks": true,
    "pipeline_loading_checkpoint": true },
  "scheduler": { "type": "LRRangeTest", "params": {} }, "fp16": { "enabled": "auto" } }"#;
    write(folder.path(), "ds.json", text);
    let ran = trainyard(folder.path(), &["validate", "ds.json"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let starts = [
        "ds.json: incomplete",
        "  missing: no section sets the optimizer, and training needs one, of the file or of a plugin of \
         the program: write \"optimizer\": { \"type\": \"AdamW\", \"params\": { \"lr\": 1e-4 } }",
        "  note 5:78: fp16.enabled = \"auto\": off unless",
        "  note: gradient_clipping: nothing is clipped",
        "  7 more notes, on memory",
    ];
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{}", ran.stdout);
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line:?} is not {start:?}");
    }
    let ran = trainyard(folder.path(), &["validate", "ds.json", "--all-notes"]);
    let one = "  note 2:107: zero_optimization: round_robin_gradients, elastic_checkpoint, \
               log_trace_cache_warnings, enable_sanity_checks and 1 more: would have set how ZeRO goes";
    assert!(ran.stdout.contains(one), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), starts.len() - 1 + 3, "{}", ran.stdout);
    // A program gets all, each with its weight.
    let ran = trainyard(folder.path(), &["validate", "ds.json", "--format", "json"]);
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&verdicts[0]["ok"], &verdicts[0]["complete"]), (&json!(true), &json!(false)));
    let answers = verdicts[0]["answers"].as_array().expect("answers").iter();
    let noted: Vec<_> = answers.filter(|a| a["kind"] == "noted" && a["idle"] != true).collect();
    let weighs = |weight: &str| noted.iter().filter(|answer| answer["weight"] == weight).count();
    assert_eq!((noted.len(), weighs("missing"), weighs("result")), (10, 1, 2), "{verdicts:#}");
    // Training ends with the line to write.
    write(
        folder.path(),
        "none.json",
        r#"{ "train_batch_size": 8, "training": { "total_steps": 1 } }"#,
    );
    let ran = trainyard(folder.path(), &["train", "--config", "none.json"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let line = r#"write one, such as "optimizer": { "type": "AdamW", "params": { "lr": 1e-4 } }"#;
    assert!(ran.stderr.contains(line), "{}", ran.stderr);
}

/// A rate that a schedule takes the place of is told by all three programs, by training once for all ranks.
#[test]
fn a_rate_that_nobody_uses_is_told_everywhere() {
    let folder = folder();
    let mut config = configuration();
    config["optimizer"]["params"]["lr"] = json!(2e-5);
    config["training"]["total_steps"] = json!(2);
    config["progressive_layer_drop"]["gamma"] = json!(1e-6);
    config["scheduler"] = json!({ "type": "WarmupDecayLR", "params": { "warmup_num_steps": 10 } });
    write(folder.path(), "run.json", &config.to_string());
    let told = [
        "optimizer.params.lr = 0.00002: is not used: WarmupDecayLR has its own warmup_max_lr 0.001",
        "the schedule ends before its warm-up does",
        "gamma = 0.000001 takes theta from 1",
    ];
    let ran = trainyard(folder.path(), &["validate", "run.json"]);
    assert!(ran.stdout.contains(told[0]) && ran.stdout.contains(told[1]), "{}", ran.stdout);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    let ran = trainyard(folder.path(), &["validate", "run.json", "--strict"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let ran = trainyard(folder.path(), &["explain", "run.json"]);
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.iter().all(|sentence| words.contains(sentence)), "{words}");
    assert_eq!(ran.stderr, "");
    let program = env!("CARGO_BIN_EXE_trainyard");
    for ranks in ["1", "2"] {
        let launch = ["launch", "--nproc-per-node", ranks, "--", program];
        let train = ["train", "--config", "run.json", "--output", "out", "--overwrite"];
        let ran = trainyard(folder.path(), &[&launch[..], &train].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let all = ran.stdout + &ran.stderr;
        for sentence in told {
            assert_eq!(all.matches(sentence).count(), 1, "{ranks} ranks, {sentence}: {all}");
        }
    }
}

/// A warning is no lack: nothing has to be filled in.
#[test]
fn a_section_that_warns_is_not_incomplete() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = configuration();
    config["training"]["total_steps"] = json!(400);
    config["scheduler"] = json!({ "type": "OneCycle", "params": {
        "cycle_min_lr": 0.001, "cycle_max_lr": 0.05, "cycle_first_step_size": 20,
        "decay_step_size": 1, "decay_mom_rate": 0.01,
    } });
    write(folder.path(), "run.json", &config.to_string());
    let ran = trainyard(folder.path(), &["validate", "run.json"]);
    assert!(ran.stdout.starts_with("run.json: ok\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("on the first beta is 1 or more"), "{}", ran.stdout);
}
