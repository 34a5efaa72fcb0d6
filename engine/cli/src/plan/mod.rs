//! `trainyard plan`.
mod chart;
mod measure;
mod numbers;
mod predictions;
mod table;

use crate::input::Overrides;
use crate::output::{Format, print};
use measure::measure;
use numbers::{Counts, counts, not_negative, positive, probability};
use predictions::{Gates, Row, simulate};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use table::{short, table};
use trainyard::{Averaging, BoxError};
use trainyard_figures::scaling::{Figures, Link};
use trainyard_run::replace;

/// Predict what a step takes on many ranks, from what it takes on one
///
/// `--measure run.json` trains the example BERT of that configuration on random tokens for half a minute
/// and prints what the parts of a step take; started on several ranks (`trainyard launch`), each of them
/// measures with the others beside it, and then the exchange between them. `--model` simulates with such
/// figures: every rank computes at its own gates, buckets of gradients go round a ring while the backward
/// pass runs, and a step waits for the slowest rank.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
#[command(after_help = "Examples:\n  \
    trainyard launch --nproc-per-node 2 -- trainyard plan --measure run.json --out figures.json\n  \
    trainyard plan --model figures.json --ranks 1..4096 --link 1.25 --hop 20\n  \
    trainyard plan --model figures.json --ranks 8,64 --link 25 --hop 5 --offloaded \\\n    \
    --gates shared,independent --bucket 800000,6553600")]
pub struct Args {
    /// Figures of one rank, as --measure writes them
    #[arg(long, value_name = "FILE", group = "what")]
    model: Option<PathBuf>,
    /// Numbers of ranks: `1..4096` for the powers of two between, `1,2,3` for these
    #[arg(long, default_value = "1..64", value_parser = counts)]
    ranks: Counts,
    /// Speed of the link between neighbours in each direction, in GB/s, in place of the measured one
    #[arg(long, value_name = "GBps", value_parser = positive)]
    link: Option<f64>,
    /// Time of a message between neighbours in microseconds, in place of the measured one
    #[arg(long, value_name = "US", value_parser = not_negative)]
    hop: Option<f64>,
    /// The exchange takes no processor time: a network card or a GPU's copy engine does it
    #[arg(long)]
    offloaded: bool,
    /// Layer dropping: none, or how the ranks' gates hang together
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["off", "shared", "balanced", "independent"])]
    gates: Vec<Gates>,
    /// Keep probability of the last block
    #[arg(long, default_value_t = 0.5, value_parser = probability)]
    theta: f64,
    /// Elements of a bucket of gradients: distributed.reduce_bucket_size
    #[arg(long, value_name = "ELEMENTS", value_delimiter = ',', default_values_t = [Averaging::BUCKET_ELEMENTS as u64], value_parser = clap::value_parser!(u64).range(1..))]
    bucket: Vec<u64>,
    /// Steps with gates of their own that are simulated
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    steps: u64,
    /// Seed of the gates
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How to print the predictions
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to draw step time and saving by the number of ranks, as SVG
    #[arg(long, value_name = "FILE", conflicts_with = "measure")]
    chart: Option<PathBuf>,
    /// Measure what one rank takes with this configuration, and simulate nothing
    #[arg(long, value_name = "CONFIG", group = "what")]
    measure: Option<PathBuf>,
    /// Where --measure writes, in place of standard output
    #[arg(long, value_name = "FILE", requires = "measure")]
    out: Option<PathBuf>,
    /// Seconds that --measure takes for the parts of a step; five steps at least
    #[arg(long, default_value_t = 30, requires = "measure", value_parser = clap::value_parser!(u64).range(..=86_400))]
    seconds: u64,
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    if let Some(config) = &args.measure {
        return measure(config, &args);
    }
    let path = args.model.as_deref().ok_or("no --model is given")?;
    let figures = Figures::read(path)?;
    let link = link(&figures, &args, path)?;
    let rows = simulate(&figures, link, &args)?;
    if let Some(out) = &args.chart {
        write(out, &chart::chart(&figures.about, &rows, args.theta).svg())?;
    }
    let about = format!(
        "{}\nlink: {} GB/s each way, {} us a message, {:.3} ns of processor a byte\n",
        figures.about,
        short(link.bytes_per_second / 1e9),
        short(link.hop_seconds * 1e6),
        link.processor_seconds_per_byte * 1e9,
    );
    print(&match args.format {
        Format::Human => format!("{about}\n{}", table(&rows)),
        Format::Json => {
            let rows: Vec<_> = rows.iter().map(Row::json).collect();
            let all = json!({ "about": figures.about, "link": link, "predictions": rows });
            serde_json::to_string_pretty(&all)? + "\n"
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The measured link with what the command line says of it.
fn link(figures: &Figures, args: &Args, path: &Path) -> Result<Link, BoxError> {
    let measured = figures.link;
    let given = |flag: Option<f64>, unit: f64, name: &str, measured: Option<f64>| {
        flag.map(|value| value * unit).or(measured).ok_or_else(|| {
            format!(
                "{} has no link, for one rank was measured alone: say --{name}, or measure on two \
                 ranks (trainyard launch --nproc-per-node 2 -- trainyard plan --measure ...)",
                path.display()
            )
        })
    };
    let processor = measured.map_or(0.0, |link| link.processor_seconds_per_byte);
    Ok(Link {
        hop_seconds: given(args.hop, 1e-6, "hop", measured.map(|link| link.hop_seconds))?,
        bytes_per_second: given(
            args.link,
            1e9,
            "link",
            measured.map(|link| link.bytes_per_second),
        )?,
        processor_seconds_per_byte: if args.offloaded { 0.0 } else { processor },
    })
}

fn write(path: &Path, text: &str) -> Result<(), BoxError> {
    if path.exists() && !path.is_file() {
        // A pipe or a device is written to, not replaced.
        let written = std::fs::write(path, text);
        return written.map_err(|e| format!("cannot write {}: {e}", path.display()).into());
    }
    replace(path, &mut |to| Ok(to.write_all(text.as_bytes())?))?;
    Ok(())
}
