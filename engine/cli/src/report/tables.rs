//! The tables of a report: what each run came to, where its time went, what differs, the machine.
use super::read::{Mark, Run};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Letters of a value that are shown.
const LONGEST: usize = 120;

/// The table of what each run came to.
pub const RESULTS: &str = "Runs";

/// The table of times.
pub const TIME: &str = "Where the time went";

/// A table with a heading. The first column names the row.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub title: &'static str,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// What to say below it; empty: nothing.
    pub note: &'static str,
    /// It has a column for each run.
    pub by_run: bool,
}

/// All tables that have something to say.
pub fn tables(runs: &[Run]) -> Vec<Table> {
    let all = [results(runs), time(runs), differences(runs), machine(runs), marks(runs)];
    all.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// A table with a column for each run.
fn by_run<'a>(
    title: &'static str,
    runs: &[Run],
    rows: impl IntoIterator<Item = (&'a str, Vec<Option<String>>)>,
) -> Table {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let rows = rows.into_iter().filter(|(_, values)| values.iter().any(Option::is_some));
    Table {
        title,
        head: std::iter::once(String::new())
            .chain(runs.iter().map(|run| run.name.clone()))
            .collect(),
        rows: rows
            .map(|(name, values)| {
                std::iter::once(name.to_owned()).chain(values.into_iter().map(shown)).collect()
            })
            .collect(),
        note: "",
        by_run: true,
    }
}

fn results(runs: &[Run]) -> Table {
    let each = |of: &dyn Fn(&Run) -> Option<String>| runs.iter().map(of).collect::<Vec<_>>();
    let last = |run: &Run, key: &str| {
        run.steps.columns.get(key)?.iter().rev().copied().find(|value| value.is_finite())
    };
    let evaluated = |run: &Run| {
        let losses = run.evaluations.columns.get("validation_loss")?;
        losses.iter().rev().copied().find(|loss| loss.is_finite())
    };
    // Of several, how much faster or slower each is than the first.
    let rates: Vec<_> =
        runs.iter().map(|run| median(run.steps.columns.get("samples_per_second")?)).collect();
    let rate = |index: usize| {
        let rate = rates[index]?;
        let change = rates[0].filter(|first| index > 0 && *first > 0.0);
        let change = change.map(|first| format!(" ({:+.1} %)", 100.0 * (rate / first - 1.0)));
        Some(number(rate) + &change.unwrap_or_default())
    };
    let mut table = by_run(
        RESULTS,
        runs,
        [
            ("ended", each(&|run| Some(run.state()))),
            ("steps", each(&|run| run.steps.step.last().map(|step| grouped(*step)))),
            (
                "samples",
                each(&|run| {
                    run.steps.samples.last().filter(|n| n.is_finite()).map(|n| grouped(*n))
                }),
            ),
            ("training loss, the last", each(&|run| last(run, "loss").map(number))),
            ("validation loss, the last", each(&|run| evaluated(run).map(number))),
            (
                "validation loss, the best",
                each(&|run| {
                    best(run)
                        .map(|(step, loss)| format!("{} at step {}", number(loss), grouped(step)))
                }),
            ),
            ("samples a second, the median", (0..runs.len()).map(rate).collect()),
            (
                "layers that ran, on average",
                each(&|run| average(run.steps.columns.get("realised_depth")?).map(number)),
            ),
            (
                "skipped steps",
                each(&|run| {
                    let skipped = run.marks.iter().filter(|mark| mark.text.starts_with("skipped"));
                    match skipped.count() {
                        0 => None,
                        n => Some(n.to_string()),
                    }
                }),
            ),
            (
                "unreadable lines of the log",
                each(&|run| (run.unread > 0).then(|| run.unread.to_string())),
            ),
        ],
    );
    // A layer that is left out is of no layer in particular here: the log has their number.
    let dropped = |run: &Run| run.steps.columns.contains_key("realised_depth");
    if runs.iter().any(dropped) {
        table.note = "The log has how many layers ran in each step, not which.";
    }
    table
}

/// The lowest validation loss, and the step behind which it was found.
pub fn best(run: &Run) -> Option<(f64, f64)> {
    let losses = run.evaluations.columns.get("validation_loss")?;
    let rows = run.evaluations.step.iter().zip(losses).filter(|(_, loss)| loss.is_finite());
    rows.min_by(|a, b| a.1.total_cmp(b.1)).map(|(step, loss)| (*step, *loss))
}

fn time(runs: &[Run]) -> Table {
    let each = |of: &dyn Fn(&Run) -> Option<String>| runs.iter().map(of).collect::<Vec<_>>();
    let part = |run: &Run, seconds: f64| {
        let share = if run.time.total > 0.0 { 100.0 * seconds / run.time.total } else { 0.0 };
        format!("{} ({share:.1} %)", duration(seconds))
    };
    let rest = |run: &Run| run.time.total - run.time.steps - run.time.evaluations.unwrap_or(0.0);
    let clocked = runs.iter().all(|run| run.time.evaluations.is_some());
    let others = match clocked {
        true => "between them: data, saving, starting",
        false => "between them: evaluations, data, saving, starting",
    };
    by_run(
        TIME,
        runs,
        [
            ("in steps", each(&|run| Some(part(run, run.time.steps)))),
            (
                "in evaluations",
                each(&|run| {
                    run.time.evaluations.filter(|_| clocked).map(|seconds| part(run, seconds))
                }),
            ),
            (
                others,
                each(&|run| {
                    let evaluations =
                        if clocked { 0.0 } else { run.time.evaluations.unwrap_or(0.0) };
                    Some(part(run, (rest(run) + evaluations).max(0.0)))
                }),
            ),
            ("in all", each(&|run| Some(duration(run.time.total)))),
        ],
    )
}

/// The keys of the configurations that are not alike; of one run, all.
fn differences(runs: &[Run]) -> Table {
    let flat: Vec<_> = runs.iter().map(|run| run.configuration().map(flattened)).collect();
    let keys: BTreeSet<_> = flat.iter().flatten().flat_map(BTreeMap::keys).collect();
    let rows = keys.into_iter().map(|key| {
        let of = |map: &Option<BTreeMap<String, String>>| map.as_ref()?.get(key).cloned();
        (key.as_str(), flat.iter().map(of).collect::<Vec<_>>())
    });
    let known = flat.iter().flatten().count();
    let differ = |values: &[Option<String>]| {
        let mut of_known = values.iter().zip(&flat).filter(|(_, map)| map.is_some());
        let first = of_known.next().map(|(value, _)| value);
        of_known.any(|(value, _)| Some(value) != first)
    };
    let one = runs.len() == 1;
    let title = if one { "Configuration" } else { "What differs in the configurations" };
    let mut table = by_run(title, runs, rows.filter(|(_, values)| one || differ(values)));
    if known < runs.len() && known > 0 {
        table.note = "A run that has not ended has not written its configuration.";
    }
    table
}

fn machine(runs: &[Run]) -> Table {
    let readable = |run: &Run| {
        let mut facts = run.summary["machine"].as_object().cloned()?;
        if let Some(bytes) = facts.remove("memory_bytes").and_then(|bytes| bytes.as_f64()) {
            facts.insert("memory".to_owned(), format!("{:.1} GB", bytes / 1e9).into());
        }
        Some(flattened(&facts))
    };
    let flat: Vec<_> = runs.iter().map(|run| readable(run).unwrap_or_default()).collect();
    let keys: BTreeSet<_> = flat.iter().flat_map(BTreeMap::keys).collect();
    let rows = keys.into_iter().map(|key| {
        (key.as_str(), flat.iter().map(|map| map.get(key).cloned()).collect::<Vec<_>>())
    });
    by_run("Machine", runs, rows.collect::<Vec<_>>())
}

fn marks(runs: &[Run]) -> Table {
    const MOST: usize = 20;
    let mut rows = Vec::new();
    for run in runs {
        let same = |a: &Mark, b: &Mark| (a.step, &a.text) == (b.step, &b.text);
        let groups: Vec<_> = run.marks.chunk_by(same).collect();
        for group in groups.iter().take(MOST) {
            let times =
                if group.len() > 1 { format!(", {} times", group.len()) } else { String::new() };
            rows.push(vec![
                run.name.clone(),
                group[0].step.to_string(),
                cut(&group[0].text) + &times,
            ]);
        }
        if groups.len() > MOST {
            let more = format!("and {} more", groups.len() - MOST);
            rows.push(vec![run.name.clone(), String::new(), more]);
        }
    }
    let head = ["run", "after step", "what"].map(str::to_owned).to_vec();
    Table { title: "Skipped steps and faults", head, rows, note: "", by_run: false }
}

/// The values of an object by their dotted paths.
fn flattened(object: &Map<String, Value>) -> BTreeMap<String, String> {
    fn into(map: &mut BTreeMap<String, String>, path: &str, value: &Value) {
        match value {
            Value::Object(object) if !object.is_empty() => {
                for (key, value) in object {
                    let dot = if path.is_empty() { "" } else { "." };
                    into(map, &format!("{path}{dot}{key}"), value);
                }
            }
            Value::String(text) => {
                map.insert(cut(path), cut(text));
            }
            value => {
                map.insert(cut(path), cut(&value.to_string()));
            }
        }
    }
    let mut map = BTreeMap::new();
    object.iter().for_each(|(key, value)| into(&mut map, key, value));
    map
}

fn cut(text: &str) -> String {
    let mut letters = text.chars();
    let short: String = letters.by_ref().take(LONGEST).collect();
    if letters.next().is_some() { short + "…" } else { short }
}

/// Four digits.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

/// A whole number with its thousands apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `2 h 05 min`, `3 min 20 s`, `4.12 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.2} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut values: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

pub fn average(values: &[f64]) -> Option<f64> {
    let values: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str, summary: Value) -> Run {
        Run { name: name.to_owned(), summary, ..Run::default() }
    }

    #[test]
    fn only_what_differs_is_shown_of_several() {
        let of = |seed: u64| json!({ "configuration": { "a": { "seed": seed, "same": [1] } } });
        let mut other = of(2);
        other["configuration"]["b"] = json!("x");
        let found =
            differences(&[run("one", of(1)), run("two", other), run("killed", json!(null))]);
        let rows = [["a.seed", "1", "2", "–"], ["b", "–", "x", "–"]];
        assert_eq!(found.rows, rows);
        assert!(!found.note.is_empty());
        let alone = differences(&[run("one", of(1))]);
        assert_eq!(alone.rows, [["a.same", "[1]"], ["a.seed", "1"]]);
    }

    #[test]
    fn what_happens_again_is_one_row() {
        let mark =
            |step, text: &str| Mark { step, elapsed: 0.0, samples: 0.0, text: text.to_owned() };
        let mut of = run("a", json!(null));
        of.marks = vec![mark(0, "skipped"), mark(0, "skipped"), mark(1, "skipped"), mark(1, "no")];
        let rows = [["a", "0", "skipped, 2 times"], ["a", "1", "skipped"], ["a", "1", "no"]];
        assert_eq!(marks(&[of]).rows, rows);
    }

    #[test]
    fn figures_in_words() {
        let numbers = [4.123_45, 0.5, 280.32, 12_345.6, 1.8e-5, 0.0, -3.0].map(number);
        assert_eq!(numbers, ["4.123", "0.5000", "280.3", "12346", "1.800e-5", "0", "-3.000"]);
        assert_eq!(
            [4.0, 999.0, 1000.0, 1_234_567.0].map(grouped),
            ["4", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        let times = [4.123, 200.0, 7500.0].map(duration);
        assert_eq!(times, ["4.12 s", "3 min 20 s", "2 h 05 min"]);
        assert_eq!(cut(&"é".repeat(200)).chars().count(), LONGEST + 1);
        assert_eq!(median(&[3.0, f64::NAN, 1.0, 2.0]), Some(2.0));
        assert_eq!(average(&[]), None);
    }
}
