//! Times the training steps of a BERT-base on a CUDA device, for `scripts/gpu-check`.
//!
//! Prints one line of JSON: `milliseconds` of each step, the last `loss`, the mean `depth` where layers
//! are dropped, and how often one more step had to wait for the device.
use clap::Parser;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Instant;
use tch::Device;
use trainyard::{BoxError, load_cuda};
use trainyard_examples::bench::{Batch, Driven, Setting};
use trainyard_models::BertConfig;
use trainyard_native::count_waits;
use trainyard_run::program;

/// Times the training steps of a BERT-base on a CUDA device.
#[derive(Parser)]
struct Arguments {
    /// The configuration's sections besides those of the optimizer and of clipping, as JSON
    #[arg(long, default_value = "{}", value_name = "JSON")]
    sections: String,
    /// Steps that are timed
    #[arg(long, default_value_t = 40)]
    steps: usize,
    /// Steps before them
    #[arg(long, default_value_t = 10)]
    warm_up: usize,
    /// Sequences in a batch
    #[arg(long, default_value_t = 64)]
    batch: i64,
    /// Tokens in a sequence
    #[arg(long, default_value_t = 128)]
    time: i64,
    /// A tiny model on the processor, to see that it runs
    #[arg(long)]
    rehearse: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|_| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<(), BoxError> {
    let (device, model) = if arguments.rehearse {
        (Device::Cpu, BertConfig { hidden: 16, vocabulary: 100, ..BertConfig::default() })
    } else {
        load_cuda()?;
        (Device::Cuda(0), BertConfig { hidden: 768, heads: 12, ..BertConfig::default() })
    };
    let layers = model.layers;
    let (batch, time) = (arguments.batch, arguments.time);
    let setting = Setting { model, batch, time, device, ..Setting::quick() };
    let sections = serde_json::from_str(&arguments.sections);
    let sections = sections
        .map_err(|e| format!("--sections {} is no JSON object: {e}", arguments.sections))?;
    let mut driven = Driven::new(trainyard_plugins::registry(), &setting, Value::Object(sections))?;
    let batches: Vec<_> = (0..8).map(|seed| Batch::random(&setting, seed)).collect();
    let mut step = |number: usize| driven.step(&batches[number % batches.len()]);
    for number in 0..arguments.warm_up {
        step(number)?;
    }
    let (mut milliseconds, mut depths, mut loss) = (Vec::new(), Vec::new(), f64::NAN);
    for number in 0..arguments.steps {
        // The step reads the loss, so it ends when the device has done with all before.
        let began = Instant::now();
        let report = step(number)?;
        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
        depths.extend(report.metrics.get("realised_depth"));
        loss = report.loss;
    }
    let waits = match device {
        Device::Cpu => None,
        _ => {
            let (report, waits) = count_waits(|| step(0))?;
            report?;
            Some(waits)
        }
    };
    let depth = (!depths.is_empty()).then(|| depths.iter().sum::<f64>() / depths.len() as f64);
    let made = json!({
        "milliseconds": milliseconds,
        "loss": loss,
        "depth": depth,
        "layers": layers,
        "waits": waits,
    });
    println!("{made}");
    Ok(())
}
