//! Runs the benchmarks, prints what they find and writes it to target/bench.json.
use clap::Parser;
use clap::builder::PossibleValuesParser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_examples::bench::{self, ALL, Setting, ranks};
use trainyard_run::program;
use trainyard_run::progress::Screen;

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

    /// How long to go on with what is repeated until its spread is small, for each [default: 240]
    #[arg(long, value_name = "N", conflicts_with = "quick")]
    seconds: Option<u32>,

    /// Tiny sizes and few repetitions, to see that the benchmarks run; the figures mean nothing
    #[arg(long, requires = "out")]
    quick: bool,
}

fn names() -> PossibleValuesParser {
    ALL.iter().map(|benchmark| benchmark.name).collect::<Vec<_>>().into()
}

fn about() -> String {
    let lines = ALL.iter().map(|b| format!("  {:27}{} ({})\n", b.name, b.about, b.target));
    let example = "Example:\n  make bench ONLY=engine_overhead";
    format!("Benchmarks and their targets:\n{}\n{example}", lines.collect::<String>())
}

fn main() -> ExitCode {
    // The benchmarks' own words; each of their engines would tell its plan besides.
    Screen::default().start_log("warn,trainyard_examples=info", false);
    if let Some(served) = ranks::serve_if_asked() {
        return program::run(|_| served);
    }
    let arguments = Arguments::parse();
    program::run(|_| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<(), BoxError> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = || examples.with_file_name("target").join("bench.json");
    let file = arguments.out.clone().unwrap_or_else(shipped);
    let mut setting = if arguments.quick { Setting::quick() } else { Setting::bert()? };
    if let Some(seconds) = arguments.seconds {
        setting.effort.seconds = seconds.into();
    }
    let measured = bench::run(&arguments.only, &setting, &file)?;
    println!("{}\nwritten to {}", bench::table(&measured), file.display());
    Ok(())
}
