//! A project of one's own: a model written with tch, wrapped, and trained as run.json says, with a plugin
//! that only this project has.
mod freeze;
mod model;

use model::{Model, batch};
use std::process::ExitCode;
use tch::nn::VarStore;
use tch::{Device, Reduction};
use trainyard::{Layers, Loss};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // what the engine says: its plan
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> trainyard::Result<()> {
    let plan = trainyard_plugins::registry().add::<freeze::Freeze>().read("run.json")?;
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    tch::manual_seed(plan.settings().training.seed as i64);
    let model = Model::new(variables.root(), &layers);
    let mut engine = plan.engine(model, &variables, &layers)?;

    let (steps, mut losses, mut depth, mut frozen) = (60, Vec::new(), 0.0, 0);
    for step in 0..steps {
        let report = engine.step(&[batch(step)], |model, (x, y)| {
            let loss = model.forward(x, true).mse_loss(y, Reduction::Mean);
            Loss::mean(loss, x.size()[0] as u64)
        })?;
        losses.push(report.loss);
        depth += report.metrics["realised_depth"] / steps as f64;
        frozen = report.metrics["frozen"] as u64;
    }
    let found = engine.evaluate([batch(steps)], |model, (x, y)| {
        Loss::mean(model.forward(x, false).mse_loss(y, Reduction::Mean), x.size()[0] as u64)
    })?;
    println!(
        "{steps} steps: loss {:.4} to {:.4}, validation {:.4}, depth {depth:.2} of 4, {frozen} frozen",
        losses[0], losses[59], found.loss
    );
    Ok(())
}
