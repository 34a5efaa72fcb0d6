//! Trains the BERT of `bert.json` in float32, bf16 and fp16, layer dropping off and on, and compares the
//! validation losses: how much mixed precision costs in quality. It takes six trainings' time.
use clap::Parser;
use std::cell::Cell;
use std::env::vars_os;
use std::process::ExitCode;
use std::rc::Rc;
use tch::Device;
use trainyard::config::{Document, Layers, Source};
use trainyard::{BoxError, Plan};
use trainyard_data::MlmData;
use trainyard_models::pretraining::{self, open_data, registry, shipped};
use trainyard_run::program;
use trainyard_run::progress::Screen;
use trainyard_run::{Event, RunError};

/// Trains the BERT of `bert.json` in float32, bf16 and fp16, layer dropping off and on, and compares the
/// validation losses. Exits with 1 if one is further from float32's than the bound.
#[derive(Parser)]
struct Arguments {
    /// Optimizer steps of each training
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,

    /// Largest difference, as a part of float32's loss
    #[arg(long, default_value_t = 0.01)]
    bound: f64,

    /// What is compared with float32
    #[arg(long, value_delimiter = ',', default_values = ["bf16", "fp16"])]
    precisions: Vec<String>,

    /// Sets any value of the configuration in all trainings; may be given more than once
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|screen| run(&arguments, screen))
}

fn run(arguments: &Arguments, screen: &Screen) -> Result<(), BoxError> {
    let plain = plan(arguments, &[])?;
    let data = open_data(&plain)?;
    let mut within = true;
    println!("dropping  precision  validation loss  from float32  skipped");
    for dropping in ["off", "on"] {
        let enabled = format!("progressive_layer_drop.enabled={}", dropping == "on");
        let mut reference = None;
        let others = arguments.precisions.iter().map(String::as_str);
        for precision in ["float32"].into_iter().chain(others) {
            let on = format!("{precision}.enabled=true");
            let more = [enabled.as_str(), &on];
            let plan = plan(arguments, if precision == "float32" { &more[..1] } else { &more })?;
            let (loss, skipped) =
                train(plan, data.clone(), &format!("{precision} {dropping}"), screen)?;
            let gap = loss / *reference.get_or_insert(loss) - 1.0;
            println!(
                "{dropping:8}  {precision:9}  {loss:15.4}  {:+11.3} %  {skipped:7}",
                100.0 * gap
            );
            within &= gap.abs() <= arguments.bound;
        }
    }
    match within {
        true => Ok(()),
        false => Err(format!("a loss is further than {} from float32's", arguments.bound).into()),
    }
}

fn plan(arguments: &Arguments, more: &[&str]) -> Result<Plan, RunError> {
    let document = Document::parse(Source::read(shipped("bert.json"))?)?;
    let text = format!(
        "data.text={}",
        serde_json::Value::from(shipped("data/sotu.txt.zst").display().to_string())
    );
    let own = [
        text,
        format!("training.total_steps={}", arguments.steps),
        "training.evaluate_every=0".to_owned(),
    ];
    let layers = Layers::new(document).environment(vars_os()).overrides(own);
    Ok(registry().plan(
        layers.overrides(arguments.overrides.iter().cloned()).overrides(more.iter().copied()),
    )?)
}

/// The validation loss at the end, and how many steps were skipped.
fn train(plan: Plan, data: MlmData, name: &str, screen: &Screen) -> Result<(f64, u64), RunError> {
    let run = pretraining::run(plan, data, Device::Cpu)?;
    let progress = screen.progress(name, run.total_steps());
    let found = Rc::new(Cell::new((f64::NAN, 0)));
    let seen = found.clone();
    let observer = move |event: &Event<'_>| {
        let (loss, skipped) = seen.get();
        seen.set(match event {
            Event::Step { report, .. } => (loss, skipped + u64::from(report.skipped)),
            Event::Evaluated { evaluation, .. } => (evaluation.loss, skipped),
            _ => (loss, skipped),
        });
        Ok(())
    };
    run.observed(progress).observed(observer).train(pretraining::forward(Device::Cpu))?;
    Ok(found.get())
}
