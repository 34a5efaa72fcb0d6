//! The whole demo on a model of a few thousand parameters.
use super::{Options, chart, table, train};
use clap::Parser;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use tch::Device;
use tempfile::TempDir;
use trainyard_models::pretraining::{self, open_data};
use trainyard_run::progress::Screen;
use trainyard_run::{Event, RunError};

const WORDS: [&str; 8] = ["the", "war", "and", "peace", "of", "our", "people", "union"];

/// A folder with a text, a vocabulary and a configuration of 6 steps, and the flags that use them.
fn fixture() -> (TempDir, Options) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let sentence =
        |i: usize| (0..20).map(move |j| WORDS[(i + j * j) % 8]).collect::<Vec<_>>().join(" ");
    let text: String = (0..40).map(|i| sentence(i) + "\n").collect();
    let vocabulary = format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n{}\n", WORDS.join("\n"));
    let config = json!({
        "model": { "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 13, "max_positions": 16 },
        "data": { "text": path("text"), "vocabulary": path("vocabulary"), "sequence_length": 16 },
        "train_batch_size": 4,
        "train_micro_batch_size_per_gpu": 2,
        "training": { "total_steps": 6, "evaluate_every": 3 },
        "optimizer": { "type": "AdamW", "params": { "lr": 1e-3 } },
        "progressive_layer_drop": { "enabled": true, "gamma": "auto" },
    });
    for (name, text) in
        [("text", text), ("vocabulary", vocabulary), ("config.json", config.to_string())]
    {
        fs::write(path(name), text).expect("the folder is ours");
    }
    let flags = [("--config", path("config.json")), ("--output", path("out/deep"))];
    let flags = flags.into_iter().flat_map(|(flag, path)| [flag.into(), path.into_os_string()]);
    let options = Options::parse_from(["demo".into()].into_iter().chain(flags));
    (folder, options)
}

#[test]
fn leaves_a_summary_and_a_picture() -> Result<(), RunError> {
    let (_folder, options) = fixture();
    let printed = super::run(&options, &Screen::default())?;
    assert!(
        printed.contains("share of the promise") && printed.contains("summary.json"),
        "{printed}"
    );

    let read = |name: &str| fs::read_to_string(options.output.join(name)).expect("it was written");
    let summary: Value = serde_json::from_str(&read("summary.json")).expect("it is JSON");
    for key in [
        "off_ms",
        "on_ms",
        "realised_depth",
        "saving",
        "promised",
        "share",
        "off_validation_loss",
        "on_validation_loss",
        "s",
    ] {
        assert!(summary[key].is_f64(), "{key}: {}", summary[key]);
    }
    let number = |key: &str| summary[key].as_f64().unwrap_or(f64::NAN);
    assert!((number("saving") - (1.0 - number("on_ms") / number("off_ms"))).abs() < 1e-12);
    assert!((number("share") - number("saving") / number("promised")).abs() < 1e-12);
    assert_eq!(summary["steps"], 6);
    assert_eq!(summary["blocks"], 2);
    assert_eq!(summary["config"]["model"]["hidden"], 32);
    assert!(summary.get("equal_time").is_some());
    let completions = summary["completions"].as_array().expect("a list");
    assert_eq!(completions.len(), 5);
    for completion in completions {
        assert!(printed.contains(completion["sentence"].as_str().expect("a text")), "{printed}");
        for arm in ["off", "on"] {
            assert_eq!(completion[arm].as_array().map(Vec::len), Some(3), "three words each");
        }
    }
    assert!(summary["spread"]["share"].is_f64());

    let svg = read("curves.svg");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(
        fs::read_dir(&options.output).expect("it is there").count(),
        2,
        "nothing half-written"
    );
    Ok(())
}

#[test]
fn with_nothing_to_drop_both_trainings_are_the_same() -> Result<(), RunError> {
    let (_folder, mut options) = fixture();
    options.overrides.push("progressive_layer_drop.theta=1".to_owned());
    let record = train(options.plans()?, &options.sentences(), &Screen::default())?;
    // Bit for bit, in turn and with other steps in between: weights, batches and dropout are the same.
    let losses = |steps: &[super::Step]| steps.iter().map(|step| step.loss).collect::<Vec<_>>();
    assert_eq!(losses(&record.off), losses(&record.on));
    assert!(losses(&record.on).windows(2).all(|pair| pair[0] != pair[1]), "the batches are not");
    assert!(record.validation.iter().all(|v| v.off == v.on));
    assert!(record.completions.iter().all(|c| c.off == c.on && !c.on.is_empty()));
    Ok(())
}

#[test]
fn a_training_by_itself_goes_the_same_way() -> Result<(), RunError> {
    let (_folder, options) = fixture();
    let record = train(options.plans()?, &options.sentences(), &Screen::default())?;
    let seen = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let heard = seen.clone();
    let observer = move |event: &Event<'_>| {
        let (losses, evaluations) = &mut *heard.borrow_mut();
        match event {
            Event::Step { report, .. } => losses.push(report.loss),
            Event::Evaluated { step, evaluation } => evaluations.push((*step, evaluation.loss)),
            _ => {}
        }
        Ok(())
    };
    let plan = options.plans()?.on;
    let data = open_data(&plan)?;
    let run = pretraining::run(plan, data, Device::Cpu)?;
    run.observed(observer).train(pretraining::forward(Device::Cpu))?;
    let (losses, evaluations) = seen.take();
    assert_eq!(losses, record.on.iter().map(|step| step.loss).collect::<Vec<_>>());
    assert_eq!(evaluations, record.validation.iter().map(|v| (v.step, v.on)).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn the_record_is_complete() -> Result<(), RunError> {
    let (_folder, options) = fixture();
    let record = train(options.plans()?, &options.sentences(), &Screen::default())?;
    assert!(record.off.iter().all(|step| step.depth == 2.0 && step.theta.is_none()));
    assert!(record.on.iter().any(|step| step.depth < 2.0));
    assert_eq!(record.on[0].theta, Some(1.0));
    assert_eq!(record.validation.iter().map(|v| v.step).collect::<Vec<_>>(), [3, 6]);
    assert!(record.pairs.len() >= 15);
    assert!(record.pairs.iter().all(|pair| pair.open > 0.0 && pair.closed > 0.0), "one of each");

    let summary = super::Summary::new(&record, Value::Null);
    assert!(!table(&summary).contains("NaN"));
    let svg = chart(&record, &summary).svg();
    assert!(!svg.contains("NaN"));
    for (mark, of) in [("r=\"6\"", "off"), ("r=\"3.5\"", "on")] {
        assert_eq!(svg.matches(mark).count(), 2 + 1, "{of}: one a validation, one in the legend");
    }
    Ok(())
}

#[test]
fn what_is_missing_is_named() {
    let (folder, options) = fixture();
    let message = |overrides: &[&str]| {
        let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
        let options = Options { overrides, ..options.clone() };
        super::run(&options, &Screen::default()).err().map(|e| e.to_string()).unwrap_or_default()
    };
    for (set, expected) in [
        (
            &["train_batch_size=null", "train_micro_batch_size_per_gpu=null"][..],
            "train_batch_size is not set",
        ),
        (&["training.total_steps=null"], "training.total_steps is not set, and neither is epochs"),
        (&["optimizer=null"], "optimizer"),
        (&["model.hidden=33"], "model.hidden = 33 is not a multiple of heads = 2; 32 would be"),
        (&["model.vocabulary=12"], "model.vocabulary = 12 is less than the 13 tokens"),
        // Before a text is read, which may take long.
        (
            &["model.vocabulary=12", "data.text=\"nowhere\""],
            "model.vocabulary = 12 is less than the 13 tokens",
        ),
        (
            &["model.max_positions=15"],
            "data.sequence_length = 16 is more than model.max_positions = 15",
        ),
        (&["data.text=\"nowhere\""], "text file \"nowhere\" does not exist"),
        (&["train_batch_size=5"], "train_batch_size = 5 is not a multiple"),
    ] {
        let message = message(set);
        assert!(message.contains(expected), "{set:?}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let asked = Options { complete: vec!["the war".to_owned()], ..options.clone() };
    let error = super::run(&asked, &Screen::default()).err().map(|e| e.to_string());
    assert!(error.unwrap_or_default().contains("has [MASK] 0 times, not once"));
    let text = r#"{ "train_batch_size": 1, "optimizer": { "type": "SGD" }, "model": { "max_positions": 15 },
        "training": { "total_steps": 1 }, "progressive_layer_drop": { "enabled": true } }"#;
    let config = folder.path().join("silent.json");
    fs::write(&config, text).expect("the folder is ours");
    let silent = Options { config: Some(config), ..options.clone() };
    let error = super::run(&silent, &Screen::default()).err().map(|e| e.to_string());
    let expected =
        "model.max_positions = 15 is less than data.sequence_length, 128 where it is not set";
    assert!(error.as_ref().is_some_and(|error| error.ends_with(expected)), "{error:?}");

    let used = folder.path().join("text");
    let output = Options { output: used, ..options };
    let error = super::run(&output, &Screen::default()).err().map(|e| e.to_string());
    assert!(error.unwrap_or_default().starts_with("cannot write "));
}
