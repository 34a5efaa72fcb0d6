//! Times the training steps of a BERT-base on a CUDA device, for `scripts/gpu-check`.
//!
//! Prints one line of JSON: `milliseconds` of each step, the last `loss`, the mean `depth` where layers
//! are dropped, and how often one more step had to wait for the device.
use clap::Parser;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{BoxError, Layers, Loss, load_cuda};
use trainyard_examples::{Bert, BertConfig, program};
use trainyard_native::count_waits;

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
    let (device, sizes) = if arguments.rehearse {
        (Device::Cpu, BertConfig { hidden: 16, vocabulary: 100, ..BertConfig::default() })
    } else {
        load_cuda()?;
        (Device::Cuda(0), BertConfig { hidden: 768, heads: 12, ..BertConfig::default() })
    };
    let mut sections = json!({
        "optimizer": {
            "type": "AdamW",
            "params": { "lr": 1e-4, "weight_decay": 0.01 },
            "no_decay": ["bias", "*norm"],
        },
        "gradient_clipping": 1.0,
    });
    let more: serde_json::Map<_, _> = serde_json::from_str(&arguments.sections)?;
    sections.as_object_mut().expect("an object").extend(more);
    let document = Document::parse(Source::text("--sections", sections.to_string()))?;
    let plan = trainyard_plugins::registry().plan(config::Layers::new(document))?;

    tch::manual_seed(1);
    let (variables, layers) = (VarStore::new(device), Layers::new());
    let model = Bert::new(variables.root(), &sizes, &layers);
    let mut engine = plan.engine(model, &variables, &layers)?;
    let batches: Vec<_> = (0..8).map(|_| batch(arguments, &sizes, device)).collect();
    let mut step = |number: usize| {
        engine.step(&batches[number % 8..][..1], |model, [ids, masked, labels]: &[Tensor; 3]| {
            let loss = model.loss(ids, masked, labels, true);
            Loss::mean(loss, labels.size()[0] as u64)
        })
    };
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
        "layers": sizes.layers,
        "waits": waits,
    });
    println!("{made}");
    Ok(())
}

/// Tokens `[batch, time]`, masked places, 15 % of all, and their tokens.
fn batch(arguments: &Arguments, sizes: &BertConfig, device: Device) -> [Tensor; 3] {
    let places = arguments.batch * arguments.time;
    let masked = (places * 15 / 100).max(1);
    let tokens = |size: &[i64]| Tensor::randint(sizes.vocabulary, size, (Kind::Int64, device));
    [
        tokens(&[arguments.batch, arguments.time]),
        Tensor::randperm(places, (Kind::Int64, device)).narrow(0, 0, masked),
        tokens(&[masked]),
    ]
}
