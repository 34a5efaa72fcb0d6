//! The `trainyard` program: what it does is in [`Task`], and how in one file for each.
mod chart;
mod checkpoint;
mod compare;
mod device;
mod explain;
mod input;
mod inspect;
mod launch;
mod migrate;
mod notes;
mod outline;
mod output;
mod plan;
mod problems;
mod report;
mod schema;
mod script;
mod train;
mod validate;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_run::failure::{failure, tell};
use trainyard_run::program::guarded;
use trainyard_run::progress::{OURS, Screen};

/// Exit status of a bug, as a panic has it.
const BUG: u8 = 101;

/// Trains models on what one JSON file says.
///
/// Environment variables such as TRAINYARD__TRAINING__SEED=7 are laid over the file, and --set over
/// both. RUST_LOG sets what is logged, NO_COLOR switches colours off.
#[derive(Parser)]
#[command(name = "trainyard", version, max_term_width = 100)]
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
    Migrate(migrate::Args),
    Schema(schema::Args),
    Inspect(inspect::Args),
    Train(train::Args),
    Launch(launch::Args),
    Plan(plan::Args),
    Compare(compare::Args),
    Report(report::Args),
    Checkpoint(checkpoint::Args),
}

fn main() -> ExitCode {
    ended(|| {
        // If it fails, the program only ends later.
        trainyard_native::skip_teardown().ok();
        let program = Program::parse();
        let screen = Screen::default();
        let filter = if program.verbose { "warn,trainyard=debug" } else { OURS };
        screen.start_log(filter, program.verbose);
        run(program.task, &screen).unwrap_or_else(|error| {
            failure(error.as_ref());
            ExitCode::FAILURE
        })
    })
}

/// How the program ends; a panic is told as what it is, a bug of ours.
fn ended(program: impl FnOnce() -> ExitCode) -> ExitCode {
    guarded(program).unwrap_or_else(|panic| {
        let version = env!("CARGO_PKG_VERSION");
        tell(&format!("internal error of trainyard {version}, please report it: {panic}\n"));
        ExitCode::from(BUG)
    })
}

fn run(task: Task, screen: &Screen) -> Result<ExitCode, BoxError> {
    match task {
        Task::Validate(args) => validate::run(args),
        Task::Explain(args) => explain::run(args),
        Task::Migrate(args) => migrate::run(args),
        Task::Schema(args) => schema::run(args),
        Task::Inspect(args) => inspect::run(args),
        Task::Train(args) => train::run(args, screen),
        Task::Launch(args) => launch::run(args),
        Task::Plan(args) => plan::run(args),
        Task::Compare(args) => compare::run(args),
        Task::Report(args) => report::run(args),
        Task::Checkpoint(args) => checkpoint::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_exit_status() {
        let status = |code: ExitCode| format!("{code:?}");
        assert_eq!(status(ended(|| ExitCode::SUCCESS)), status(ExitCode::SUCCESS));
        assert_eq!(status(ended(|| panic!("seven of {}", 9))), status(ExitCode::from(101)));
    }
}
