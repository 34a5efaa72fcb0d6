//! Runs the benchmarks, prints what they find and writes it to target/bench.json.
use clap::Parser;
use clap::builder::PossibleValuesParser;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use trainyard::BoxError;
use trainyard_examples::bench::{self, ALL, Setting};
use trainyard_examples::program;
use trainyard_examples::run::RunError;

/// Runs the benchmarks, prints a table and writes target/bench.json, where the rows of those that did not
/// run stay as they are.
#[derive(Parser)]
#[command(after_help = about())]
struct Arguments {
    /// Run only these, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = names(), value_name = "NAME,...", hide_possible_values = true)]
    only: Vec<String>,

    /// Where to write the rows, in place of target/bench.json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Tiny sizes and few repetitions, to see that the benchmarks run; the figures mean nothing
    #[arg(long, requires = "out")]
    quick: bool,
}

fn names() -> PossibleValuesParser {
    ALL.iter().map(|benchmark| benchmark.name).collect::<Vec<_>>().into()
}

fn about() -> String {
    let lines = ALL.iter().map(|b| format!("  {:18}{} ({})\n", b.name, b.about, b.target));
    let example = "Example:\n  make bench ONLY=engine_overhead";
    format!("Benchmarks and their targets:\n{}\n{example}", lines.collect::<String>())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The benchmarks' own words; each of their engines would tell its plan besides.
    let log = tracing_subscriber::fmt().compact().without_time().with_target(false);
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("warn,trainyard_examples=info"));
    let log = log.with_ansi(io::stderr().is_terminal());
    log.with_env_filter(filter).with_writer(io::stderr).init();
    program::run(|_| run(&arguments).map_err(|error| RunError::Other(error.to_string())))
}

fn run(arguments: &Arguments) -> Result<(), BoxError> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = || examples.with_file_name("target").join("bench.json");
    let file = arguments.out.clone().unwrap_or_else(shipped);
    let setting = if arguments.quick { Setting::quick() } else { Setting::demo()? };
    let measured = bench::run(&arguments.only, &setting, &file)?;
    println!("{}\nwritten to {}", bench::table(&measured), file.display());
    Ok(())
}
