//! A program with a section of its own in the configuration, `gradient_noise`.
//!
//! `gradient_noise.rs` is the plugin, whole; this file puts it behind Trainyard's own and trains a small
//! network with it.
mod gradient_noise;

use clap::Parser;
use gradient_noise::GradientNoise;
use std::path::PathBuf;
use std::process::ExitCode;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Reduction, Tensor};
use trainyard::{Engine, Layers, Loss, Registry, Report, Result};
use trainyard_models::pretraining::shipped;
use trainyard_run::program;

/// Trains a small network to the configuration's `training.total_steps`, with a plugin of this program's
/// own.
#[derive(Parser)]
#[command(after_help = "Example:\n  custom_plugin examples/custom_plugin.json")]
struct Arguments {
    /// The configuration; examples/custom_plugin.json if left out
    config: Option<PathBuf>,

    /// Print the JSON Schema of this program's configurations, its own section included
    #[arg(long)]
    schema: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|_| Ok(run(&arguments)?))
}

/// Trainyard's plugins, and ours behind them.
fn registry() -> Registry {
    trainyard_plugins::registry().add::<GradientNoise>()
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.schema {
        println!("{:#}", registry().schema());
        return Ok(());
    }
    let shipped = || shipped("custom_plugin.json");
    let plan = registry().read(arguments.config.clone().unwrap_or_else(shipped))?;
    let (x, y) = curve();
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    tch::manual_seed(plan.settings().training.seed as i64);
    let mut engine = plan.engine(network(&variables), &variables, &layers)?;
    for _ in 0..engine.total_steps().unwrap_or(40) {
        let report = train(&mut engine, &x, &y)?;
        println!("step {:3}  loss {:.4}", report.step, report.loss);
    }
    Ok(())
}

/// One step.
fn train(engine: &mut Engine<nn::Sequential>, x: &Tensor, y: &Tensor) -> Result<Report> {
    engine.step(&[(x, y)], |network, (x, y)| {
        Loss::mean(network.forward(x).mse_loss(y, Reduction::Mean), x.size()[0] as u64)
    })
}

/// A network from one number to one number.
fn network(variables: &VarStore) -> nn::Sequential {
    let (path, c) = (variables.root(), nn::LinearConfig::default());
    nn::seq().add(nn::linear(&path / "up", 1, 32, c)).add_fn(Tensor::tanh).add(nn::linear(
        &path / "down",
        32,
        1,
        c,
    ))
}

/// What it learns: x and sin(3 x), `[64, 1]` each.
fn curve() -> (Tensor, Tensor) {
    let x = Tensor::linspace(-1.0, 1.0, 64, (Kind::Float, Device::Cpu)).unsqueeze(1);
    let y = (&x * 3.0).sin();
    (x, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trainyard::EngineState;
    use trainyard::config::{self, Document, Source};

    /// Trains for three steps without dropout or other randomness.
    fn trained(gradient_noise: Option<Value>) -> Result<EngineState> {
        let mut sections = json!({ "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } });
        if let Some(noise) = gradient_noise {
            sections["gradient_noise"] = noise;
        }
        let document = Document::parse(Source::text("test", sections.to_string()))?;
        let plan = registry().plan(config::Layers::new(document))?;
        tch::manual_seed(1);
        let variables = VarStore::new(Device::Cpu);
        let mut engine = plan.engine(network(&variables), &variables, &Layers::new())?;
        let (x, y) = curve();
        for _ in 0..3 {
            train(&mut engine, &x, &y)?;
        }
        Ok(engine.state())
    }

    /// The largest difference of a weight.
    fn distance(a: &EngineState, b: &EngineState) -> f64 {
        let far =
            |(name, x): (&String, &Tensor)| (x - &b.model[name]).abs().max().double_value(&[]);
        a.model.iter().map(far).fold(0.0, f64::max)
    }

    #[test]
    fn noise_changes_the_training_and_its_absence_nothing() -> Result<()> {
        let plain = trained(None)?;
        assert_eq!(distance(&plain, &trained(Some(json!({ "eta": 0 })))?), 0.0);
        let noise = || trained(Some(json!({ "eta": 0.01 })));
        // Three steps of lr 0.1 with deviations of 0.1 and less.
        let moved = distance(&plain, &noise()?);
        assert!(moved > 0.005 && moved < 0.2, "{moved}");
        assert_eq!(distance(&noise()?, &noise()?), 0.0, "the seed gives the noise");
        Ok(())
    }

    #[test]
    fn the_noise_has_the_deviation_asked_for() -> Result<()> {
        // The weights' distance from the plain run's after one step is lr times the noise: of 97
        // weights, the root mean square is within 5 standard errors of 0.1 x 2.
        let document = |eta: f64| {
            let sections = json!({
                "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
                "gradient_noise": { "eta": eta, "gamma": 0 },
            });
            Document::parse(Source::text("test", sections.to_string()))
        };
        let one_step = |eta: f64| -> Result<Tensor> {
            let plan = registry().plan(config::Layers::new(document(eta)?))?;
            tch::manual_seed(1);
            let variables = VarStore::new(Device::Cpu);
            let mut engine = plan.engine(network(&variables), &variables, &Layers::new())?;
            let (x, y) = curve();
            train(&mut engine, &x, &y)?;
            let flat: Vec<_> =
                engine.parameters().map(|(_, tensor)| tensor.detach().flatten(0, -1)).collect();
            Ok(Tensor::cat(&flat, 0))
        };
        let noise = one_step(4.0)? - one_step(0.0)?;
        let deviation = noise.square().mean(Kind::Double).sqrt().double_value(&[]);
        assert!((deviation - 0.2).abs() < 5.0 * 0.2 / (2.0 * 97f64).sqrt(), "{deviation}");
        Ok(())
    }
}
