//! Measurements against targets, each in a file of its own.
//!
//! A benchmark is a row of [`ALL`]: add one there, and `make bench`, its help and `target/bench.json`
//! have it. All timings are taken interleaved and reported with their spread, since the machines they
//! run on are shared.
mod arms;
mod attention_speed;
mod engine_overhead;
mod export_speed;
mod optimizer_arms;
mod optimizer_speed;
mod peer;
mod pld_saving_share;
pub mod ranks;
mod rounds;
mod rows;
mod script_speed;
mod setting;
mod step_speed;
mod table;
mod validate_speed;

pub use arms::{Batch, Driven};
pub use rows::Row;
pub use setting::Setting;
pub use table::table;

use std::path::Path;
use trainyard::BoxError;

/// Every benchmark, in the order in which they run.
pub const ALL: &[Benchmark] = &[
    engine_overhead::BENCHMARK,
    pld_saving_share::BENCHMARK,
    optimizer_speed::ADAMW_VS_TORCH,
    optimizer_speed::LAMB_VS_PEER,
    optimizer_speed::LAMB_VS_ADAMW,
    optimizer_speed::OPTIMIZER_BANDWIDTH_SHARE,
    attention_speed::BF16_64,
    attention_speed::BF16_128,
    attention_speed::BF16_512,
    attention_speed::FP32_64,
    attention_speed::FP32_128,
    step_speed::STEP_VS_TORCH_FP32,
    step_speed::STEP_VS_TORCH_BF16,
    script_speed::SCRIPT_STEP_VS_TORCH,
    script_speed::SCRIPT_PLD_SAVING_SHARE,
    script_speed::SCRIPT_GATES_US,
    export_speed::EXPORT_STEP_VS_TORCH,
    export_speed::EXPORT_STEP_VS_TORCH_BF16,
    export_speed::EXPORT_STEP_VS_SCRIPT,
    export_speed::EXPORT_LOAD_VS_TORCH,
    ranks::DDP_VS_TORCH,
    ranks::DDP_VS_SINGLE,
    ranks::PLD_SAVING_TWO_RANKS_SHARE,
    ranks::PLAN_ERROR,
    validate_speed::VALIDATE_ONE_MS,
    validate_speed::VALIDATE_MANY_MS_PER_FILE,
];

/// Something that is measured and held to a target.
#[derive(Debug)]
pub struct Benchmark {
    /// The row's name, which `--only` takes.
    pub name: &'static str,
    /// What the value is, in one line.
    pub about: &'static str,
    /// Unit of the value.
    pub unit: &'static str,
    /// What the value is held to.
    pub target: Target,
    /// Measures it.
    pub run: fn(&Setting) -> Result<Figure, BoxError>,
}

/// What a value is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// It should not be above.
    AtMost(f64),
    /// It should not be below.
    AtLeast(f64),
}

impl Target {
    /// Whether `value` meets it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Target::AtMost(bound) => value <= bound,
            Target::AtLeast(bound) => value >= bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::AtMost(bound) => write!(f, "<= {bound}"),
            Target::AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

/// What a benchmark found.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The value.
    pub value: f64,
    /// The 95 % interval of the value, by resampling what was measured.
    pub interval: (f64, f64),
    /// Whether the interval is as narrow as the benchmark asks for; otherwise the target counts as met only
    /// where the whole interval meets it.
    pub settled: bool,
    /// What it is made of, for people.
    pub detail: String,
}

impl Benchmark {
    /// Measures, and makes a row of what was found.
    ///
    /// # Errors
    /// The benchmark's own; a value that is no number.
    pub fn row(&self, setting: &Setting) -> Result<Row, BoxError> {
        let Figure { value, interval: (low, high), settled, detail } = (self.run)(setting)?;
        if !(value.is_finite() && low.is_finite() && high.is_finite()) {
            return Err(format!("{} is {value} in [{low}, {high}]: {detail}", self.name).into());
        }
        let decided = settled || [low, high].into_iter().all(|end| self.target.holds(end));
        let digits = table::digits(value);
        Ok(Row {
            name: self.name.to_owned(),
            value,
            unit: self.unit.to_owned(),
            target: self.target.to_string(),
            holds: decided && self.target.holds(value),
            command: format!("make bench ONLY={}", self.name),
            detail: format!("95 % interval [{low:.digits$}, {high:.digits$}]; {detail}"),
            spread: (high - low) / 2.0,
        })
    }
}

/// Runs the benchmarks called `only`, or all where that is empty, and writes their rows to `file`, in
/// which those of the others stay. The rows of this run.
///
/// # Errors
/// The benchmarks' own; if `file` cannot be read or written.
pub fn run(only: &[String], setting: &Setting, file: &Path) -> Result<Vec<Row>, BoxError> {
    // What is wrong with the file is said before minutes go by.
    let mut rows = rows::open(file)?;
    let mut measured = Vec::new();
    for benchmark in ALL.iter().filter(|b| only.is_empty() || only.iter().any(|n| n == b.name)) {
        let row = benchmark.row(setting)?;
        rows::put(&mut rows, row.clone());
        rows::write(file, &rows)?;
        measured.push(row);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::fs;

    #[test]
    fn targets() {
        assert!(Target::AtMost(0.01).holds(0.01) && !Target::AtMost(0.01).holds(0.011));
        assert!(Target::AtLeast(0.95).holds(0.95) && !Target::AtLeast(0.95).holds(0.949));
        assert!(!Target::AtMost(0.01).holds(f64::NAN) && !Target::AtLeast(0.95).holds(f64::NAN));
    }

    /// A wide interval decides where all of it is on one side.
    #[test]
    fn noise_counts_where_it_matters() {
        fn figure(interval: (f64, f64), settled: bool) -> Figure {
            Figure { value: 0.9, interval, settled, detail: "x".into() }
        }
        let holds = |run: fn(&Setting) -> Result<Figure, BoxError>| {
            let target = Target::AtMost(1.0);
            let benchmark = Benchmark { name: "n", about: "", unit: "", target, run };
            benchmark.row(&Setting::quick()).unwrap().holds
        };
        assert!(holds(|_| Ok(figure((0.7, 0.99), false))));
        assert!(!holds(|_| Ok(figure((0.7, 1.01), false))));
        assert!(holds(|_| Ok(figure((0.89, 1.01), true))));
    }

    #[test]
    fn a_value_that_is_no_number_is_an_error() {
        let run = |_: &Setting| {
            Ok(Figure { value: f64::NAN, interval: (0.0, 1.0), settled: true, detail: "x".into() })
        };
        let benchmark =
            Benchmark { name: "n", about: "", unit: "", target: Target::AtMost(1.0), run };
        let error = benchmark.row(&Setting::quick()).unwrap_err();
        assert_eq!(error.to_string(), "n is NaN in [0, 1]: x");
    }

    /// Every benchmark runs, and the file is what docs/benchmarks.md says; rows of others stay.
    #[test]
    fn the_file() -> Result<(), BoxError> {
        let folder = std::env::temp_dir().join(format!("trainyard-bench-{}", std::process::id()));
        let file = folder.join("made/bench.json");
        let setting = Setting::quick();
        let found = run(&[], &setting, &file)?;
        assert_eq!(found.len(), ALL.len());
        let read = || -> Result<Value, BoxError> {
            Ok(serde_json::from_str(&fs::read_to_string(&file)?)?)
        };
        let first = read()?;
        for (row, benchmark) in first.as_array().ok_or("a list")?.iter().zip(ALL) {
            let mut keys: Vec<_> = row.as_object().ok_or("an object")?.keys().collect();
            keys.sort();
            assert_eq!(keys, ["command", "detail", "holds", "name", "target", "unit", "value"]);
            assert_eq!(row["name"], benchmark.name);
            assert_eq!(row["target"], benchmark.target.to_string());
            assert_eq!(row["command"], format!("make bench ONLY={}", benchmark.name));
            let value = row["value"].as_f64().ok_or("a number")?;
            assert!(row["holds"] == false || benchmark.target.holds(value));
        }

        let other = json(
            r#"[{"name": "other", "value": 1.5, "unit": "s", "target": "<= 2",
            "holds": true, "command": "c", "detail": "d"}]"#,
        );
        fs::write(&file, other.to_string())?;
        let found = run(&[ALL[1].name.to_owned()], &setting, &file)?;
        assert_eq!(found.len(), 1);
        let second = read()?;
        assert_eq!(second[0], other[0]);
        assert_eq!(second[1]["name"], ALL[1].name);

        fs::write(&file, "{}")?;
        let error = run(&[], &setting, &file).unwrap_err().to_string();
        assert!(error.contains("bench.json is not a list of benchmarks"), "{error}");
        assert_eq!(fs::read_to_string(&file)?, "{}");
        Ok(fs::remove_dir_all(&folder)?)
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).expect("it is JSON")
    }
}
