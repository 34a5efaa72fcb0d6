//! `trainyard plan`.
use crate::input::Overrides;
use crate::outline::{self, registry};
use crate::output::{Format, print};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use trainyard::{Averaging, BlockInfo, BoxError, World};
use trainyard_data::DataConfig;
use trainyard_examples::scaling::{
    Dropping, Exchanger, Figures, Link, Pass, Prediction, Profiler, Scenario, SkipEverySecond,
    predict,
};
use trainyard_plugins::progressive_layer_drop::config::{
    Config, Course, Depth, Ranks, Redraw, Unit,
};
use trainyard_plugins::progressive_layer_drop::gates::Law;
use trainyard_plugins::progressive_layer_drop::schedule::Theta;
use trainyard_plugins::progressive_layer_drop::sites::Sites;

/// Most ranks that are simulated.
const MOST_RANKS: u32 = 65_536;
/// How many passes `--measure` makes at least.
const PASSES: usize = 5;

/// Predict what a step takes on many ranks, from what it takes on one
///
/// `--measure run.json` trains the example BERT of that configuration on random tokens for half a minute
/// and prints what the parts of a step take; started on several ranks (`trainyard launch`), each of them
/// measures with the others beside it, and then the exchange between them. `--model` simulates with such
/// figures: every rank computes at its own gates, buckets of gradients go round a ring while the backward
/// pass runs, and a step waits for the slowest rank.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    trainyard launch --nproc-per-node 2 -- trainyard plan --measure run.json --out figures.json\n  \
    trainyard plan --model figures.json --ranks 1..4096 --link 1.25 --hop 20\n  \
    trainyard plan --model figures.json --ranks 8,64 --link 25 --hop 5 --offloaded \\\n    \
    --gates shared,independent --bucket 800000,6553600")]
pub struct Args {
    /// Figures of one rank, as --measure writes them
    #[arg(long, value_name = "FILE", required_unless_present = "measure")]
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
    /// Measure what one rank takes with this configuration, and simulate nothing
    #[arg(long, value_name = "CONFIG", conflicts_with = "model")]
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

/// Numbers of ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts(Vec<u32>);

/// How the gates of the ranks hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Gates {
    /// No layer dropping.
    Off,
    /// All ranks draw the same gates.
    Shared,
    /// All ranks keep the same number of blocks, each its own choice.
    Balanced,
    /// Every rank draws for itself.
    Independent,
}

impl Gates {
    fn name(self) -> &'static str {
        match self {
            Gates::Off => "off",
            Gates::Shared => "shared",
            Gates::Balanced => "balanced",
            Gates::Independent => "independent",
        }
    }

    fn ranks(self) -> Option<Ranks> {
        match self {
            Gates::Off => None,
            Gates::Shared => Some(Ranks::Shared),
            Gates::Balanced => Some(Ranks::Balanced),
            Gates::Independent => Some(Ranks::Independent),
        }
    }
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    if let Some(config) = &args.measure {
        return measure(config, &args);
    }
    let path = args.model.as_deref().ok_or("no --model is given")?;
    let figures = Figures::read(path)?;
    let link = link(&figures, &args, path)?;
    let rows = simulate(&figures, link, &args)?;
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

/// One prediction.
struct Row {
    ranks: u32,
    gates: Gates,
    bucket: u64,
    /// Sequences that all ranks train on in a second.
    samples_per_second: f64,
    /// Samples a second as a part of what so many single ranks would train on, at the same gates.
    efficiency: f64,
    /// Time saved of a step without layer dropping on as many ranks.
    saved: f64,
    found: Prediction,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "ranks": self.ranks,
            "gates": self.gates.name(),
            "reduce_bucket_size": self.bucket,
            "samples_per_second": self.samples_per_second,
            "efficiency": self.efficiency,
            "saved": self.saved,
            "step": self.found,
        })
    }
}

fn simulate(figures: &Figures, link: Link, args: &Args) -> Result<Vec<Row>, BoxError> {
    let dropping = args.gates.iter().any(|gates| *gates != Gates::Off);
    if dropping && figures.blocks() == 0 {
        return Err("the figures have no block, so there is nothing to drop: --gates off".into());
    }
    let block = |i: usize| BlockInfo { name: i.to_string(), sublayers: Vec::new() };
    let blocks: Vec<_> = (0..figures.blocks().max(1)).map(block).collect();
    let sites = Sites::new(&blocks, None, Unit::Block)?;
    let config = Config { theta: args.theta, schedule: Course::Constant, ..Config::default() };
    let theta = Theta::new(&config, None)?;
    let of = |ranks, gates: Gates, bucket_elements| {
        let (depth, redraw) = (Depth::Linear, Redraw::MicroBatch);
        let dropping = gates.ranks().map(|ranks| Dropping {
            law: Law { theta, depth, redraw, ranks },
            sites: &sites,
            seed: args.seed,
            attempts: 0..args.steps,
        });
        predict(figures, &Scenario { ranks, dropping, bucket_elements, link })
    };
    let mut rows = Vec::new();
    for &ranks in &args.ranks.0 {
        for &bucket in &args.bucket {
            let off = of(ranks, Gates::Off, bucket).seconds;
            for &gates in &args.gates {
                let found = of(ranks, gates, bucket);
                let single = of(1, gates, bucket).seconds;
                rows.push(Row {
                    ranks,
                    gates,
                    bucket,
                    samples_per_second: figures.samples as f64 * f64::from(ranks) / found.seconds,
                    efficiency: single / found.seconds,
                    saved: 1.0 - found.seconds / off,
                    found,
                });
            }
        }
    }
    Ok(rows)
}

fn table(rows: &[Row]) -> String {
    let heads = [
        "ranks",
        "gates",
        "bucket",
        "step ms",
        "computes",
        "MB summed",
        "MB sent",
        "samples/s",
        "efficiency",
        "saved",
    ];
    let mut lines = vec![heads.map(str::to_owned)];
    for Row { ranks, gates, bucket, samples_per_second, efficiency, saved, found } in rows {
        lines.push([
            ranks.to_string(),
            gates.name().to_owned(),
            bucket.to_string(),
            format!("{:.1}", 1e3 * found.seconds),
            format!("{:.1}", 1e3 * found.computing_seconds),
            format!("{:.1}", found.bytes / 1e6),
            format!("{:.1}", found.bytes_on_the_wire / 1e6),
            short(*samples_per_second),
            format!("{efficiency:.3}"),
            format!("{saved:.3}"),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 1 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text
}

/// A number with four digits that count.
fn short(value: f64) -> String {
    let digits = (3.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Measures on this rank, or on all that a launcher started; the first one writes.
fn measure(config: &Path, args: &Args) -> Result<ExitCode, BoxError> {
    let world = World::from_env()?;
    let mut overrides = args.overrides.clone();
    overrides.push("skip_every_second", true);
    overrides.push("progressive_layer_drop.enabled", false);
    let registry = registry().add::<SkipEverySecond>();
    // Each rank measures by itself.
    let plan = registry.plan_in(World::solo(), overrides.read(config)?)?;
    let model = outline::model(&plan)?;
    let sizes = plan.batch_sizes(1)?;
    let sizes = sizes.ok_or_else(|| {
        plan.invalid("", "there is no batch size to measure; set train_micro_batch_size_per_gpu")
    })?;
    if sizes.accumulation > 1 {
        let message = format!(
            "a step of {} micro-batches cannot be measured: only the last one is sent while it is \
             computed; --set gradient_accumulation_steps=1 measures that one",
            sizes.accumulation
        );
        return Err(plan.invalid("gradient_accumulation_steps", message).into());
    }
    let data = plan.section("data")?.unwrap_or_else(|| DataConfig::new(String::new()));
    let (batch, time) = (i64::try_from(sizes.micro_batch)?, i64::try_from(data.sequence_length)?);
    if time > model.max_positions {
        let message = format!(
            "sequences of {time} tokens are longer than model.max_positions = {}",
            model.max_positions
        );
        return Err(plan.invalid("data.sequence_length", message).into());
    }
    let exchanger = match world.world_size {
        1 => None,
        _ => Some(Exchanger::new(world.clone())?),
    };
    let mut profiler = Profiler::new(&plan, &model, batch, time)?;
    let passes = passes(&mut profiler, Duration::from_secs(args.seconds))?;
    let pass = Pass::median(&passes).ok_or("no pass was made")?;
    let link = match &exchanger {
        None => None,
        // After the first time, whose buffers are new, once more.
        Some(exchanger) => {
            exchanger.both()?;
            Some(Link::new(world.world_size, exchanger.both()?))
        }
    };
    if world.rank > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let about = format!(
        "measured: {} layers of {}, vocabulary {}, batch {batch} of {time} tokens, {} rank(s) side by \
         side with {} thread(s) each on {} processors, medians of {} steps",
        model.layers,
        model.hidden,
        model.vocabulary,
        world.world_size,
        tch::get_num_threads(),
        available_parallelism().map_or(1, usize::from),
        passes.len(),
    );
    let figures = Figures::new(about, sizes.micro_batch, profiler.units(), &pass, link);
    let text = serde_json::to_string_pretty(&figures)? + "\n";
    match &args.out {
        None => print(&text)?,
        Some(out) => {
            std::fs::write(out, text).map_err(|e| format!("cannot write {}: {e}", out.display()))?
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn passes(profiler: &mut Profiler, measuring: Duration) -> Result<Vec<Pass>, BoxError> {
    // Allocations, threads, caches.
    profiler.pass()?;
    let (began, mut passes) = (Instant::now(), Vec::new());
    while passes.len() < PASSES || began.elapsed() < measuring {
        passes.push(profiler.pass()?);
    }
    Ok(passes)
}

/// `1..4096` or `1,2,3`.
fn counts(text: &str) -> Result<Counts, String> {
    let number = |text: &str| match text.trim().parse::<u32>() {
        Ok(n) if (1..=MOST_RANKS).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a number of ranks, 1 to {MOST_RANKS}")),
    };
    let Some((first, last)) = text.split_once("..") else {
        return text.split(',').map(number).collect::<Result<_, _>>().map(Counts);
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("{first}..{last} is empty: the larger number comes last"));
    }
    let doubled = std::iter::successors(Some(first), |n| n.checked_mul(2));
    let mut all: Vec<_> = doubled.take_while(|n| *n < last).collect();
    all.push(last);
    Ok(Counts(all))
}

fn float(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .ok_or_else(|| format!("{text:?} is not a number"))
}

fn positive(text: &str) -> Result<f64, String> {
    match float(text)? {
        value if value > 0.0 => Ok(value),
        value => Err(format!("{value} is not above 0")),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match float(text)? {
        value if value >= 0.0 => Ok(value),
        value => Err(format!("{value} is below 0")),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match float(text)? {
        value if value > 0.0 && value <= 1.0 => Ok(value),
        value => Err(format!("theta = {value} is not in (0, 1]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_ranks() {
        let of = |text: &str| counts(text).map(|Counts(list)| list);
        assert_eq!(of("1..4096").map(|list| list.len()), Ok(13));
        assert_eq!(of("3..20"), Ok(vec![3, 6, 12, 20]));
        assert_eq!(of("1,3"), Ok(vec![1, 3]));
        assert_eq!(of("7..7"), Ok(vec![7]));
        for (text, message) in [
            ("0", "\"0\" is not a number of ranks, 1 to 65536"),
            ("1..x", "\"x\" is not a number of ranks, 1 to 65536"),
            ("4..2", "4..2 is empty: the larger number comes last"),
            ("70000", "\"70000\" is not a number of ranks, 1 to 65536"),
        ] {
            assert_eq!(of(text), Err(message.to_owned()));
        }
    }

    #[test]
    fn ranges_of_numbers() {
        assert_eq!(positive("0"), Err("0 is not above 0".to_owned()));
        assert_eq!(positive("nan"), Err("\"nan\" is not a number".to_owned()));
        assert_eq!(not_negative("-1"), Err("-1 is below 0".to_owned()));
        assert_eq!(probability("1.5"), Err("theta = 1.5 is not in (0, 1]".to_owned()));
        assert_eq!(
            (positive("2.5"), not_negative("0"), probability("1")),
            (Ok(2.5), Ok(0.0), Ok(1.0))
        );
    }

    #[test]
    fn four_digits_count() {
        let values = [0.0, 1.25, 12_345.6, 0.012_345, 20.0];
        assert_eq!(values.map(short), ["0", "1.25", "12346", "0.01235", "20"]);
    }
}
