//! A run that dies and goes on is bit for bit the one that did not: a table of optimizers, schedules, precisions,
//! sources, ranks and ways of saving.
use crate::processes::{free_port, place};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::Layers;
use trainyard_checkpoint::newest;
use trainyard_tests::runs::same;
use trainyard_tests::table::{all, pairs};
use trainyard_tests::{Made, Small, plan, registry};

/// Samples to train on: steps of 4 come to the end of the first pass behind the fifth.
const SAMPLES: i64 = 22;

fn optimizers() -> Vec<Value> {
    let of = |kind: &str, params: Value| json!({ "type": kind, "params": params });
    vec![
        of("AdamW", json!({ "lr": 0.01, "weight_decay": 0.1 })),
        of("Adam", json!({ "lr": 0.01 })),
        of("Lamb", json!({ "lr": 0.01 })),
        of("SGD", json!({ "lr": 0.01, "momentum": 0.9 })),
        of("Lion", json!({ "lr": 0.001 })),
        of("Adagrad", json!({ "lr": 0.01 })),
        of("Muon", json!({ "lr": 0.01 })),
    ]
}

fn schedulers() -> Vec<Value> {
    let of = |kind: &str, params: Value| json!({ "type": kind, "params": params });
    vec![
        Value::Null,
        of("WarmupLR", json!({ "warmup_max_lr": 0.01, "warmup_num_steps": 4 })),
        of(
            "WarmupDecayLR",
            json!({ "warmup_max_lr": 0.01, "warmup_num_steps": 2, "total_num_steps": 9 }),
        ),
        of("WarmupCosineLR", json!({ "warmup_num_steps": 3, "total_num_steps": 9 })),
        of(
            "LRRangeTest",
            json!({ "lr_range_test_min_lr": 1e-3, "lr_range_test_step_size": 2,
                    "lr_range_test_step_rate": 1.0 }),
        ),
        of(
            "OneCycle",
            json!({ "cycle_min_lr": 1e-3, "cycle_max_lr": 1e-2, "cycle_first_step_size": 4 }),
        ),
    ]
}

/// Sections of each precision. The scale of the second half of fp16's range overflows in the first attempts.
fn precisions() -> [Value; 3] {
    [
        json!({}),
        json!({ "bf16": { "enabled": true } }),
        json!({ "fp16": { "enabled": true, "initial_scale_power": 18, "hysteresis": 1 } }),
    ]
}

fn savings() -> [Value; 2] {
    [
        json!({ "every_steps": 1, "best": true }),
        json!({ "every_steps": 3, "background": false, "keep_last": 1 }),
    ]
}

/// Models and data, made once.
struct Sources {
    text: PathBuf,
    cache: PathBuf,
    all: [Value; 5],
}

impl Sources {
    const NAMES: [&str; 5] = ["text", "rust", "script", "program", "dropped"];

    fn new(folder: &Path, models: &[Made; 3]) -> Self {
        let text = folder.join("text.txt");
        let line = |i| format!("in the year {i} the house counted {} rooms and a garden\n", i * 7);
        fs::write(&text, (0..40).map(line).collect::<String>()).expect("a text");
        let of = |made: &Made| {
            let named = made.inputs().into_iter();
            let samples = |(name, tensor): (String, Tensor)| (name, many(&tensor, SAMPLES));
            let data = arrays(made.beside("data"), &named.map(samples).collect::<Vec<_>>());
            json!({ "model": made.path(), "data": data })
        };
        let (x, y) = Small::inputs(SAMPLES, 0);
        let rust = arrays(folder.join("rust"), &[("x".to_owned(), x), ("y".to_owned(), y)]);
        let [script, program, dropped] = models;
        let all = [
            json!("text"),
            json!({ "rust": { "data": rust } }),
            json!({ "script": of(script) }),
            json!({ "program": of(program) }),
            json!({ "program": of(dropped) }),
        ];
        Sources { text, cache: folder.join("cache"), all }
    }
}

/// So many samples made of a few: the numbers again, moved a little in each round where they are real.
fn many(few: &Tensor, samples: i64) -> Tensor {
    let rounds = (0..samples).map(|i| {
        let sample = few.get(i % few.size()[0]);
        if sample.is_floating_point() { &sample * (1.0 + 0.02 * i as f64) } else { sample }
    });
    Tensor::stack(&rounds.map(|sample| sample.to_kind(few.kind())).collect::<Vec<_>>(), 0)
}

/// A folder of arrays, each sample to train on, and the first four to validate on.
fn arrays(folder: PathBuf, inputs: &[(String, Tensor)]) -> PathBuf {
    for (part, samples) in [("train", SAMPLES), ("validation", 4)] {
        let part = folder.join(part);
        fs::create_dir_all(&part).expect("a folder");
        for (name, tensor) in inputs {
            let samples = tensor.narrow(0, 0, samples).contiguous();
            samples.write_npy(part.join(format!("{name}.npy"))).expect("an array");
        }
    }
    folder
}

/// The configuration of a row: the columns are those of `SIZES`.
fn case(row: &[usize], sources: &Sources) -> Value {
    let source = Sources::NAMES[row[3]];
    let mut config = json!({
        "train_batch_size": 4,
        "gradient_accumulation_steps": if row[5] == 1 { 2 } else { 1 },
        "gradient_clipping": 1.0,
        "optimizer": optimizers()[row[0]],
        "training": { "total_steps": 9, "evaluate_every": 2, "seed": 11 },
        "checkpoint": savings()[row[6]],
        "distributed": { "timeout_seconds": 60 },
    });
    let patterns = match source {
        "text" => {
            config["model"] = json!({ "layers": 2, "hidden": 16, "heads": 2, "max_positions": 16,
                                      "dropout": 0.1 });
            config["data"] = json!({ "text": sources.text, "sequence_length": 16,
                                     "max_validation_sequences": 4, "cache": sources.cache });
            Some(Value::Null)
        }
        "rust" => Some(Value::Null),
        "script" => Some(json!(["stage.*"])),
        _ => None,
    };
    if let Some(patterns) = patterns {
        config["progressive_layer_drop"] = json!({ "enabled": true, "theta": 0.5, "gamma": 0.3 });
        if !patterns.is_null() {
            config["progressive_layer_drop"]["layers"] = patterns;
        }
    }
    let schedule = &schedulers()[row[1]];
    if !schedule.is_null() {
        config["scheduler"] = schedule.clone();
    }
    for (key, section) in precisions()[row[2]].as_object().expect("sections") {
        config[key] = section.clone();
    }
    let name: Vec<_> = row.iter().map(ToString::to_string).collect();
    json!({ "name": name.join("-"), "source": sources.all[row[3]], "config": config })
}

/// Trains the cases on so many ranks, and holds the runs in two parts against those in one.
fn check(ranks: usize, cases: &[Value], folder: &Path) {
    let folder = folder.join(format!("ranks-{ranks}"));
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("cases.json");
    fs::write(&file, Value::from(cases).to_string()).expect("the cases are written");
    let port = free_port();
    let start = |rank: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resuming"));
        command.args([&file, &folder]).env("OMP_NUM_THREADS", "1").stderr(Stdio::piped());
        if ranks > 1 {
            place(&mut command, rank, ranks, ("127.0.0.1", port));
        }
        command.spawn().expect("the program of the tests")
    };
    let started: Vec<_> = (0..ranks).map(start).collect();
    let ended = started.into_iter().map(|child| child.wait_with_output().expect("it was started"));
    let ended: Vec<_> = ended.collect();
    let said: Vec<_> = ended.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
    assert!(
        ended.iter().all(|output| output.status.success()),
        "{ranks} ranks:\n{}",
        said.join("\n")
    );
    let mut failed = Vec::new();
    for case in cases {
        let output = folder.join(case["name"].as_str().expect("a name"));
        let same = same(&output.join("straight"), &output.join("broken"), ranks);
        failed.extend(same.err().map(|error| format!("{case}: {error}")));
    }
    assert!(
        failed.is_empty(),
        "{ranks} ranks, {} cases of {}:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

/// Every pair of values of the table, or with `TRAINYARD_TEST=all` all of its first five columns.
#[test]
fn a_run_that_dies_goes_on_as_if_it_had_not() {
    let sizes = [
        optimizers().len(),
        schedulers().len(),
        precisions().len(),
        Sources::NAMES.len(),
        2,
        2,
        savings().len(),
    ];
    let whole = std::env::var("TRAINYARD_TEST").is_ok_and(|what| what == "all");
    let rows = if whole {
        // The last two columns take turns.
        let row = |(i, row): (usize, Vec<usize>)| [&row[..], &[i % 2, i / 2 % 2]].concat();
        all(&sizes[..5]).into_iter().enumerate().map(row).collect()
    } else {
        pairs(&sizes)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let models = [Made::new("images"), Made::exported("normalised"), Made::exported("dropped")];
    let sources = Sources::new(folder.path(), &models);
    for ranks in [1, 2] {
        let rows = rows.iter().filter(|row| row[4] + 1 == ranks);
        let cases: Vec<_> = rows.map(|row| case(row, &sources)).collect();
        check(ranks, &cases, folder.path());
    }
}

/// A training of processes that are killed at random instants ends as the one that is not: `crash-harness` with few of
/// the hundred kills that it is there for.
#[test]
fn kills_lose_nothing() {
    let arguments = ["--kills", "8", "--seed", "5"];
    let output = Command::new(env!("CARGO_BIN_EXE_crash-harness")).args(arguments).output();
    let output = output.expect("the program of the tests");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("8 of 8\n"), "{said}\n{errors}");
}

/// `tests/checkpoints/format-1` was written by version 0.1.0, and stays as it is.
#[test]
fn a_checkpoint_of_format_1_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/format-1");
    let (found, broken) = newest(&folder).expect("a folder");
    assert!(broken.is_empty(), "{broken:?}");
    let found = found.expect("a checkpoint");
    found.verify().expect("it is whole");
    let configuration = found.configuration().expect("it has one").to_string();
    let plan = plan(registry(), &configuration).expect("it is right");
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let model = Small::new(variables.root(), &layers, 3, 0.2);
    let mut engine = plan.engine(model, &variables, &layers).expect("an engine");
    found.restore(&mut engine).expect("it fits");
    assert_eq!((engine.completed_steps(), engine.attempts()), (8, 8));
    let state = engine.state();
    assert_eq!(state.optimizer["blocks.1.attention.weight"].0, 7);
    assert_eq!(state.plugins["fp16"]["good_steps"], 8);
    let evaluation =
        engine.evaluate(&[Small::inputs(4, 0)], |model, batch| model.loss(batch, false));
    let loss = evaluation.expect("an evaluation").loss;
    let written = found.state().validation_loss.expect("it was evaluated");
    assert!((loss / written - 1.0).abs() < 1e-5, "{loss} is not {written}");
}
