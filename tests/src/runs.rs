//! What runs left in their folders, compared.
use serde_json::Value;
use std::fs;
use std::path::Path;
use tch::Tensor;
use trainyard::{BoxError, EngineState};
use trainyard_checkpoint::{Checkpoint, newest};

/// Figures of the clock in a line of the log.
const CLOCK: [&str; 3] = ["seconds", "samples_per_second", "elapsed_seconds"];

/// That two folders hold the same run of so many ranks: the newest checkpoint, bit for bit, and the log but for times.
///
/// # Errors
/// The first that differs, or that cannot be read.
pub fn same(one: &Path, other: &Path, ranks: usize) -> Result<(), BoxError> {
    let (a, b) = (open(one)?, open(other)?);
    for rank in 0..ranks {
        same_state(a.engine_state(rank)?, b.engine_state(rank)?)
            .map_err(|error| format!("rank {rank}: {error}"))?;
    }
    let (a, b) = (log(one)?, log(other)?);
    if let Some((a, b)) = a.iter().zip(&b).find(|(a, b)| a != b) {
        return Err(format!("the logs differ:\n{a}\n{b}").into());
    }
    if a.len() != b.len() {
        return Err(format!("the logs have {} lines, and {}", a.len(), b.len()).into());
    }
    Ok(())
}

fn open(output: &Path) -> Result<Checkpoint, BoxError> {
    newest(&output.join("checkpoints"))?.0.ok_or_else(|| "no checkpoint".into())
}

fn same_state(a: EngineState, b: EngineState) -> Result<(), BoxError> {
    if (a.step, a.attempt, &a.plugins) != (b.step, b.attempt, &b.plugins) {
        let counts =
            |s: &EngineState| format!("step {}, attempt {}, {:?}", s.step, s.attempt, s.plugins);
        return Err(format!("{} is not {}", counts(&a), counts(&b)).into());
    }
    let (a, b) = (tensors(a), tensors(b));
    if a.len() != b.len() || a.is_empty() {
        return Err(format!("{} tensors, and {}", a.len(), b.len()).into());
    }
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        if name != other || a.kind() != b.kind() || a.size() != b.size() {
            return Err(format!("`{name}` {a:?} is beside `{other}` {b:?}").into());
        }
        if !a.equal(b) {
            let apart = (a - b).abs().max().double_value(&[]);
            return Err(format!("`{name}` is not the same: {apart:e} apart").into());
        }
    }
    Ok(())
}

/// Of the model, and of the optimizer with its counts of updates.
fn tensors(state: EngineState) -> Vec<(String, Tensor)> {
    let slots = state.optimizer.into_iter().flat_map(|(name, (updates, slots))| {
        slots.into_iter().map(move |(slot, t)| (format!("{name}/{slot}/{updates}"), t))
    });
    state.model.into_iter().chain(slots).collect()
}

fn log(output: &Path) -> Result<Vec<Value>, BoxError> {
    let text = fs::read_to_string(output.join("steps.jsonl"))?;
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line)?;
        for time in CLOCK {
            line.as_object_mut().ok_or("no object")?.remove(time);
        }
        Ok(line)
    };
    text.lines().map(line).collect()
}
