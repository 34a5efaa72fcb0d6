//! Kills a training at random instants, starts it again each time, and holds the end against a training that nobody
//! disturbed.
//!
//! ```text
//! crash-harness --kills 100 [--seed 1] [--seconds 600]
//! ```
//!
//! The training is a small BERT on a text, with layer dropping, dropout and bfloat16, that saves every third step. One
//! half of the kills come at an instant since the process began, the other at one since its first step. Behind each,
//! the newest checkpoint has to be whole and no older than before. In the end parameters, moments, counts and the log
//! of every step have to be those of the undisturbed training, bit for bit. The last line is `100 of 100`, the kills
//! that went well.
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use tch::Device;
use trainyard::BoxError;
use trainyard_checkpoint::newest;
use trainyard_models::pretraining;
use trainyard_run::{Begin, Event, Folder, OUTPUTS, Origin};
use trainyard_tests::runs::same;

/// Steps that the last process does beyond those that the killed ones reached.
const LAST_STEPS: u64 = 10;

/// What a process says when its first step is done.
const STARTED: &str = "started";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse::<u64>().ok()
    };
    let ended = match arguments.first().map(String::as_str) {
        Some("train") => train(Path::new(&arguments[1]), Path::new(&arguments[2])),
        _ => {
            let (kills, seed) = (value("--kills").unwrap_or(100), value("--seed").unwrap_or(1));
            let limit = Duration::from_secs(value("--seconds").unwrap_or(600));
            harness(kills, seed, limit)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Trains by the file `configuration` into the folder `output`, from where it was.
fn train(configuration: &Path, output: &Path) -> Result<(), BoxError> {
    trainyard_native::skip_teardown()?;
    let plan = pretraining::registry().read(configuration)?;
    let origin = Origin::find(&plan, output, Begin::AsConfigured)?;
    let folder = Folder::claim(output, OUTPUTS, origin.existing())?;
    let data = pretraining::open_data(&plan)?;
    let forward = pretraining::forward(Device::Cpu);
    let mut told = false;
    let starts = move |event: &Event<'_>| {
        if matches!(event, Event::Step { .. }) && !std::mem::replace(&mut told, true) {
            println!("{STARTED}");
        }
        Ok(())
    };
    let run = pretraining::run(plan, data, Device::Cpu)?.beginning(origin)?;
    run.observed(starts).written_to(folder).train(forward)?;
    Ok(())
}

fn harness(kills: u64, seed: u64, limit: Duration) -> Result<(), BoxError> {
    let began = Instant::now();
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("text.txt");
    fs::write(&text, (0..300).map(sentence).collect::<String>())?;
    let (killed, straight) = (folder.path().join("killed"), folder.path().join("straight"));
    let checkpoints = killed.join("checkpoints");
    let endless = configuration(folder.path(), "endless.json", u64::MAX >> 12)?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut reached = 0;
    let mut good = 0;
    // How long a process takes to its first step.
    let mut start = Duration::from_secs(2);
    for kill in 0..kills {
        if began.elapsed() > limit {
            println!("{kill} kills in {} s, which is the limit", limit.as_secs());
            println!("{good} of {kills}");
            return Err("not all kills were made".into());
        }
        let spawned = Instant::now();
        let (mut process, started) = spawn(&endless, &killed)?;
        if kill % 2 == 0 {
            started.recv_timeout(Duration::from_secs(60)).map_err(|_| "a process did not start")?;
            start = spawned.elapsed();
            thread::sleep(Duration::from_micros(random.random_range(0..300_000)));
        } else {
            thread::sleep(start.mul_f64(random.random_range(0.0..1.2)));
        }
        process.kill()?;
        process.wait()?;
        let (found, broken) = newest(&checkpoints)?;
        let step = found.map_or(0, |found| found.state().step);
        if !broken.is_empty() || step < reached {
            println!("kill {kill}: at step {step}, where {reached} was; {broken:?}");
            continue;
        }
        good += 1;
        reached = step;
    }
    let last = configuration(folder.path(), "last.json", reached + LAST_STEPS)?;
    for output in [&killed, &straight] {
        let status = spawn(&last, output)?.0.wait()?;
        if !status.success() {
            return Err(
                format!("the training into {} ended with {status}", output.display()).into()
            );
        }
    }
    same(&killed, &straight, 1)?;
    println!("{reached} steps were reached in {:.0} s", began.elapsed().as_secs_f64());
    println!("{good} of {kills}");
    if good == kills { Ok(()) } else { Err("not every kill went well".into()) }
}

fn sentence(i: u64) -> String {
    format!(
        "in the year {} the house counted {} rooms, and {} of them were dry\n",
        1800 + i,
        i * 7 % 91,
        i % 13
    )
}

fn configuration(folder: &Path, name: &str, steps: u64) -> Result<std::path::PathBuf, BoxError> {
    let configuration = json!({
        "model": { "layers": 4, "hidden": 32, "heads": 2, "max_positions": 16, "dropout": 0.1 },
        "data": { "text": folder.join("text.txt"), "sequence_length": 16, "max_validation_sequences": 8,
                  "cache": folder.join("cache") },
        "train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "training": { "total_steps": steps, "evaluate_every": 7, "seed": 3 },
        "checkpoint": { "every_steps": 3, "best": true },
        "optimizer": { "type": "AdamW", "params": { "lr": 1e-3 } },
        "scheduler": { "type": "WarmupLR", "params": { "warmup_max_lr": 1e-3, "warmup_num_steps": 50 } },
        "bf16": { "enabled": true },
        "progressive_layer_drop": { "enabled": true, "theta": 0.5, "gamma": 0.01 }
    });
    let path = folder.join(name);
    fs::write(&path, configuration.to_string())?;
    Ok(path)
}

/// Starts a training; what comes when its first step is done.
fn spawn(configuration: &Path, output: &Path) -> Result<(Child, Receiver<()>), BoxError> {
    let mut process = Command::new(std::env::current_exe()?)
        .arg("train")
        .args([configuration, output])
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = process.stdout.take().ok_or("no output")?;
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line == STARTED {
                tell.send(()).ok();
            }
        }
    });
    Ok((process, told))
}
