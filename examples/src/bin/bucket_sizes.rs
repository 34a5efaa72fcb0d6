//! Compares sizes of gradient buckets on two ranks of this machine.
use clap::Parser;
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_examples::bench::{Setting, ranks};
use trainyard_run::program;
use trainyard_run::progress::Screen;

/// Compares sizes of gradient buckets (distributed.reduce_bucket_size) on two ranks of this machine, which
/// take turns with two unconnected processes.
#[derive(Parser)]
struct Arguments {
    /// Sizes in elements, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "250000,800000,1600000,6553600,50000000",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    elements: Vec<u64>,
    /// Rounds in which each of them has a turn
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Tiny sizes, to see that it runs; the figures mean nothing
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    Screen::default().start_log("warn,trainyard_examples=info", false);
    if let Some(served) = ranks::serve_if_asked() {
        return program::run(|_| served);
    }
    let arguments = Arguments::parse();
    program::run(|_| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<(), BoxError> {
    let setting = if arguments.quick { Setting::quick() } else { Setting::bert()? };
    let table = ranks::compare_buckets(&setting, &arguments.elements, arguments.rounds.into())?;
    println!("{table}");
    Ok(())
}
