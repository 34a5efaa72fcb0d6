//! `trainyard checkpoint diff`.
use super::show::tensor_files;
use super::{one, tell};
use crate::output::Format;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use tch::{Kind, Tensor};
use trainyard::BoxError;
use trainyard_checkpoint::{Checkpoint, TensorFile};

/// Show what differs between two checkpoints: state, configuration, tensors
///
/// The exit status is 1 if something does. When, how fast and by which version they were written does not count.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard checkpoint diff runs/one runs/two\n  \
    trainyard checkpoint diff runs/one/checkpoints/step-100 runs/one/checkpoints/step-120 --format json")]
pub struct Args {
    /// Checkpoint, or a folder of them, whose newest is taken
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let (a, b) = (one(&args.a)?, one(&args.b)?);
    // What a disk has damaged is no difference between runs.
    a.verify()?;
    b.verify()?;
    let state = values(&described(&a), &described(&b));
    let configuration = values(&a.configuration()?, &b.configuration()?);
    let (alike, tensors) = tensors(&a, &b)?;
    let same = state.is_empty() && configuration.is_empty() && tensors.is_empty();
    let text = || {
        let mut text = format!("a  {}\nb  {}\n", a.path().display(), b.path().display());
        for (what, values) in [("state", &state), ("configuration", &configuration)] {
            if !values.is_empty() {
                text += &format!("\n{what}\n");
            }
            text += &lines(values);
        }
        if !tensors.is_empty() {
            text += "\ntensors\n";
        }
        for (name, differs) in &tensors {
            text += &format!("  {name}: {}\n", differs.text());
        }
        text + &format!("\n{alike} tensors are the same, {} are not\n", tensors.len())
    };
    let listed = |values: &Values| -> Value {
        let entry = |(key, a, b): &Change| (key.clone(), json!({ "a": a, "b": b }));
        Value::Object(values.iter().map(entry).collect())
    };
    let named = tensors.iter().map(|(name, differs)| (name.clone(), differs.as_json()));
    let json = json!({
        "a": a.path().display().to_string(), "b": b.path().display().to_string(), "same": same,
        "state": listed(&state), "configuration": listed(&configuration), "same_tensors": alike,
        "tensors": Value::Object(named.collect()),
    });
    tell(args.format, text, &json)?;
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A key with what it is in either.
type Change = (String, Option<Value>, Option<Value>);
type Values = Vec<Change>;

/// What of a checkpoint's state is to be the same.
fn described(checkpoint: &Checkpoint) -> Value {
    let state = checkpoint.state();
    let mut run = state.run.clone();
    if let Some(run) = run.as_object_mut() {
        run.remove("seconds");
    }
    json!({
        "step": state.step, "attempt": state.attempt, "ranks": state.world_size,
        "validation_loss": state.validation_loss, "optimizer": state.optimizer.kind,
        "updates": state.optimizer.updates, "plugins": state.plugins, "run": run,
    })
}

/// The leaves that differ, by their paths.
fn values(a: &Value, b: &Value) -> Values {
    let (a, b) = (leaves(a), leaves(b));
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differ = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    let of = |map: &BTreeMap<String, &Value>, key| map.get(key).map(|value| (*value).clone());
    differ.map(|key| (key.clone(), of(&a, key), of(&b, key))).collect()
}

fn leaves(value: &Value) -> BTreeMap<String, &Value> {
    fn add<'a>(path: String, value: &'a Value, to: &mut BTreeMap<String, &'a Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    add(path, value, to);
                }
            }
            leaf => {
                to.insert(path, leaf);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(String::new(), value, &mut all);
    all
}

/// A line for each value, and one for all counts of updates that differ in the same way.
fn lines(values: &Values) -> String {
    let mut updates: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    let mut text = String::new();
    for (key, a, b) in values {
        let (a, b) = (value(a.as_ref()), value(b.as_ref()));
        match key.strip_prefix(UPDATES) {
            Some(parameter) => updates.entry((a, b)).or_default().push(parameter),
            None => text += &format!("  {key}: {a} in a, {b} in b\n"),
        }
    }
    for ((a, b), parameters) in updates {
        let of = match parameters.as_slice() {
            [only] => format!("`{only}`"),
            some => format!("{} parameters, `{}` the first", some.len(), some[0]),
        };
        text += &format!("  updates of {of}: {a} in a, {b} in b\n");
    }
    text
}

/// What paths of the counts of updates begin with.
const UPDATES: &str = "updates.";

fn value(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}

/// How a tensor differs.
#[derive(Debug, PartialEq)]
enum Differs {
    OnlyIn(&'static str),
    Shape(Vec<i64>, Vec<i64>),
    Type(String, String),
    /// The largest absolute difference.
    Values(f64),
}

impl Differs {
    fn text(&self) -> String {
        match self {
            Differs::OnlyIn(which) => format!("only in {which}"),
            Differs::Shape(a, b) => format!("{a:?} in a, {b:?} in b"),
            Differs::Type(a, b) => format!("{a} in a, {b} in b"),
            Differs::Values(by) => format!("differs by up to {by:.3e}"),
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Differs::OnlyIn(which) => json!({ "only_in": which }),
            Differs::Shape(a, b) => json!({ "shape": { "a": a, "b": b } }),
            Differs::Type(a, b) => json!({ "type": { "a": a, "b": b } }),
            // Null for one that is no number.
            Differs::Values(by) => json!({ "largest_difference": by }),
        }
    }
}

/// How many tensors are the same, and the others by file and name.
fn tensors(a: &Checkpoint, b: &Checkpoint) -> Result<(usize, Vec<(String, Differs)>), BoxError> {
    let of = |checkpoint| -> Result<BTreeMap<String, TensorFile>, BoxError> {
        Ok(tensor_files(checkpoint)?.into_iter().collect())
    };
    let (a, b) = (of(a)?, of(b)?);
    let names = |files: &BTreeMap<String, TensorFile>| -> Vec<(String, String)> {
        let of_file = |(file, tensors): (&String, &TensorFile)| {
            tensors.tensors().map(|t| (file.clone(), t.name.to_owned())).collect::<Vec<_>>()
        };
        files.iter().flat_map(of_file).collect()
    };
    let all: BTreeSet<_> = names(&a).into_iter().chain(names(&b)).collect();
    let (mut alike, mut differ) = (0, Vec::new());
    for (file, name) in all {
        match compare(a.get(&file), b.get(&file), &name)? {
            None => alike += 1,
            Some(differs) => differ.push((format!("{file} {name}"), differs)),
        }
    }
    Ok((alike, differ))
}

/// Only the one tensor of each file is in memory.
fn compare(
    a: Option<&TensorFile>,
    b: Option<&TensorFile>,
    name: &str,
) -> Result<Option<Differs>, BoxError> {
    let there = |file: Option<&TensorFile>| file.is_some_and(|file| file.get(name).is_some());
    let (Some(a), Some(b), true, true) = (a, b, there(a), there(b)) else {
        return Ok(Some(Differs::OnlyIn(if there(a) { "a" } else { "b" })));
    };
    let types =
        [a, b].map(|file| file.get(name).map_or(String::new(), |t| format!("{:?}", t.dtype)));
    let (a, b) = (a.read(name)?, b.read(name)?);
    if a.size() != b.size() {
        return Ok(Some(Differs::Shape(a.size(), b.size())));
    }
    let by = largest_difference(&a, &b)?;
    let [of_a, of_b] = types;
    Ok(match (of_a == of_b, by) {
        (false, _) => Some(Differs::Type(of_a, of_b)),
        (true, 0.0) => None,
        (true, by) => Some(Differs::Values(by)),
    })
}

/// NaN where only one of them is none; what is the same in both, an infinity or NaN, does not differ.
fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64, BoxError> {
    if a.numel() == 0 {
        return Ok(0.0);
    }
    let kind = if a.is_complex() { Kind::ComplexDouble } else { Kind::Double };
    let (a, b) = (a.f_to_kind(kind)?, b.f_to_kind(kind)?);
    let same = a.f_eq_tensor(&b)?.f_logical_or(&a.f_isnan()?.f_logical_and(&b.f_isnan()?)?)?;
    let apart = a.f_sub(&b)?.f_abs()?.f_masked_fill(&same, 0.0)?;
    Ok(apart.f_max()?.f_double_value(&[])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_numbers() {
        let of = |values: &[f32]| Tensor::from_slice(values);
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for (a, b, by) in [
            (of(&[1.0, 2.0]), of(&[1.0, 2.0]), 0.0),
            (of(&[1.0, 2.0]), of(&[1.5, 0.0]), 2.0),
            (of(&[inf, nan]), of(&[inf, nan]), 0.0),
            (of(&[inf, 1.0]), of(&[-inf, 1.0]), f64::INFINITY),
            (of(&[nan, 1.0]), of(&[1.0, 3.0]), f64::NAN),
            (of(&[]), of(&[]), 0.0),
            (Tensor::from_slice(&[true, false]), Tensor::from_slice(&[true, true]), 1.0),
            (Tensor::from_slice(&[3i64, -2]), Tensor::from_slice(&[3i64, 5]), 7.0),
        ] {
            let found = largest_difference(&a, &b).unwrap();
            assert!(found == by || (found.is_nan() && by.is_nan()), "{found} for {by}");
        }
    }

    #[test]
    fn leaves_that_differ() {
        let a = json!({ "x": { "y": 1, "z": [1, 2] }, "only": {} });
        let b = json!({ "x": { "y": 2, "z": [1, 2] }, "more": null });
        let (x, y) = (&a, &b);
        assert_eq!(
            lines(&values(x, y)),
            "  more: absent in a, null in b\n  only: {} in a, absent in b\n  x.y: 1 in a, 2 in b\n"
        );
        let (x, y) = (
            json!({ "updates": { "p": 1, "q": 1, "r": 0 } }),
            json!({ "updates": { "p": 2, "q": 2, "r": 1 } }),
        );
        let counts = "  updates of `r`: 0 in a, 1 in b\n  updates of 2 parameters, `p` the first: 1 in a, 2 in b\n";
        assert_eq!(lines(&values(&x, &y)), counts);
        let expected = [
            ("more".to_owned(), None, Some(Value::Null)),
            ("only".to_owned(), Some(json!({})), None),
            ("x.y".to_owned(), Some(json!(1)), Some(json!(2))),
        ];
        assert_eq!(values(&a, &b), expected);
    }
}
