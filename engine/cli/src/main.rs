//! The `trainyard` program: what it does is in [`Task`], and how in one file for each.
mod chart;
mod explain;
mod guard;
mod input;
mod log;
mod outline;
mod output;
mod schema;
mod train;
mod validate;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_examples::progress::Screen;

/// Trains models on what one JSON file says.
///
/// Environment variables such as TRAINYARD__TRAINING__SEED=7 are laid over the file, and --set over
/// both. RUST_LOG sets what is logged, NO_COLOR switches colours off.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Program {
    /// Log more, with the time
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Validate(validate::Args),
    Explain(explain::Args),
    Schema(schema::Args),
    Train(train::Args),
}

fn main() -> ExitCode {
    guard::run(|| {
        let program = Program::parse();
        let screen = Screen::default();
        log::start(&screen, program.verbose);
        run(program.task, &screen).unwrap_or_else(|error| {
            output::failure(error.as_ref());
            ExitCode::FAILURE
        })
    })
}

fn run(task: Task, screen: &Screen) -> Result<ExitCode, BoxError> {
    match task {
        Task::Validate(args) => validate::run(args),
        Task::Explain(args) => explain::run(args),
        Task::Schema(args) => schema::run(args),
        Task::Train(args) => train::run(args, screen),
    }
}
