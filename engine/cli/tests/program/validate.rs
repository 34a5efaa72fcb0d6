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
        "{ \"training\": { \"seed\": 7 },\n  \"optimiser\": {},\n  \"gradient_clipping\": -1 }";
    write(folder.path(), "bad.json", text);
    let ran = trainyard(folder.path(), &["validate", "bad.json", "run.json", "--format", "json"]);
    assert_eq!(ran.status, Some(1));
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        verdicts[0],
        json!({ "file": "bad.json", "ok": false, "answers": [
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
    let ran = trainyard(folder.path(), &["validate", "epochs.json"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "epochs.json: ok\n"));
    let ran = trainyard(folder.path(), &["validate", "endless.json", "--format", "json"]);
    assert_eq!(ran.status, Some(1));
    let verdicts: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let answers = verdicts[0]["answers"].as_array().expect("answers");
    let wrong: Vec<_> = answers.iter().filter(|answer| answer["kind"] != "used").collect();
    assert_eq!(wrong.len(), 1, "{verdicts:#}");
    assert_eq!(wrong[0]["path"], "scheduler.params.total_num_steps");
    assert!(wrong[0]["line"].as_u64() > Some(1), "{verdicts:#}");
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
    let note =
        "own.json: ok; no model section, so patterns on layers and parameters were not matched\n";
    assert_eq!(ran.stdout, note);
    // What is wrong all the same is told all the same.
    config["progressive_layer_drop"]["gamma"] = json!("auto");
    config["training"] = json!({});
    write(folder.path(), "own.json", &config.to_string());
    let ran = trainyard(folder.path(), &["validate", "own.json"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("gamma = \"auto\""), "{}", ran.stdout);
}

#[test]
fn the_examples_are_fine() {
    let demo = checkout("examples/demo.json");
    let ran = trainyard(&checkout("."), &["validate", demo.to_str().expect("UTF-8")]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
}
