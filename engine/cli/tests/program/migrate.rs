use crate::{trainyard, write};
use serde_json::Value;

const OLD: &str = r#"# from an old project
{
  train_batch_size: 8
  "zero_optimization": {   // memory
    "stage": "2",
    "cpu_offload": true,
    "cpu_offload_param": false
  },
  "optimizer": { "type": "adam", "params": { "lr": 1e-3, "adam_w_mode": true } },
  "bfloat16": { "enabled": true },
}
"#;

const NEW: &str = r#"// from an old project
{
  "train_batch_size": 8,
  "zero_optimization": {   // memory
    "stage": 2,
    "offload_optimizer": { "device": "cpu" }
  },
  "optimizer": { "type": "AdamW", "params": { "lr": 1e-3 } },
  "bf16": { "enabled": true }
}
"#;

#[test]
fn an_old_file_gets_todays_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "old.json", OLD);
    let ran = trainyard(folder.path(), &["migrate", "old.json"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), NEW));
    let told = r#"old.json:5:5: zero_optimization.stage = "2" is written 2
old.json:6:5: zero_optimization.cpu_offload = true is written offload_optimizer = {"device":"cpu"}
old.json:7:5: zero_optimization.cpu_offload_param = false is taken out: so is offload_param without it
old.json:9:18: optimizer.type = "adam" is written "AdamW", which is what it means
old.json:9:58: optimizer.params.adam_w_mode = true is taken out: it is what AdamW means
old.json:10:3: bfloat16 is called bf16
old.json: as JSON: commas at the ends of lines
old.json: as JSON: comments with // for those with #
old.json: as JSON: double quotes
old.json: as JSON: no comma behind the last value
"#;
    assert_eq!(ran.stderr, told);
    // Once is enough.
    write(folder.path(), "new.json", NEW);
    let ran = trainyard(folder.path(), &["migrate", "new.json"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (NEW, "new.json: nothing to change\n"));
    let plain = trainyard(folder.path(), &["migrate", "old.json", "--no-comments"]);
    serde_json::from_str::<Value>(&plain.stdout).expect("JSON without comments");
    // Both mean the same.
    let lines = |file| {
        let ran = trainyard(folder.path(), &["explain", file, "--format", "json"]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let shown: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let lines = shown["lines"].as_array().expect("lines").iter();
        lines.map(|line| line["text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(lines("old.json"), lines("new.json"));
}

#[test]
fn what_cannot_be_read_is_not_migrated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "twice.json", r#"{ "fp16": {}, "fp16": {} }"#);
    for (file, sentence) in
        [("twice.json", "key \"fp16\" is given twice"), ("none.json", "there is no such file")]
    {
        let ran = trainyard(folder.path(), &["migrate", file]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains(sentence), "{}", ran.stderr);
    }
}
