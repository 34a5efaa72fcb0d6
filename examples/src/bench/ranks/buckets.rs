//! What the size of buckets does to a step of two ranks.
use super::super::setting::Setting;
use super::team::{Team, Ties};
use super::{about, order, sizes};
use serde_json::json;
use trainyard::BoxError;
use trainyard_figures::statistics::{bootstrap, median};

/// Steps of an arm in its turn.
const STEPS: usize = 2;

/// A table: a line for each size of buckets, in elements, with the step's time and its ratio to that of two
/// unconnected processes, in medians over so many rounds of turns.
///
/// # Errors
/// A rank's.
pub fn compare(setting: &Setting, elements: &[u64], rounds: usize) -> Result<String, BoxError> {
    let setting = sizes(setting);
    let mut teams = vec![Team::training(2, Ties::Alone, &setting, json!({}))?];
    for size in elements {
        let sections = json!({ "distributed": { "reduce_bucket_size": size } });
        teams.push(Team::training(2, Ties::Connected, &setting, sections)?);
    }
    let mut found = Vec::new();
    for number in 0..rounds + 1 {
        let mut seconds = vec![0.0; teams.len()];
        for arm in order(teams.len(), number) {
            seconds[arm] = teams[arm].step(STEPS)?.seconds;
        }
        // The first one warms up.
        if number > 0 {
            found.push(seconds);
        }
    }
    let names = elements.iter().map(|size| format!("buckets of {size}"));
    let names: Vec<_> = std::iter::once("unconnected".to_owned()).chain(names).collect();
    let mut table = format!("{}; medians of {rounds} turns of {STEPS} steps\n", about(&setting));
    for (arm, name) in names.iter().enumerate() {
        let ratios: Vec<_> = found.iter().map(|seconds| seconds[arm] / seconds[0]).collect();
        let middle = |some: &[f64]| median(some.iter().copied());
        let (low, high) = bootstrap(&ratios, middle);
        let seconds = median(found.iter().map(|seconds| seconds[arm]));
        let (ms, ratio) = (1e3 * seconds, middle(&ratios));
        table += &format!("{name:22} {ms:8.1} ms  {ratio:.3} [{low:.3}, {high:.3}]\n");
    }
    Ok(table)
}
