//! The curves of a report: which there are, and as many points of each as a page can hold.
use super::read::{Run, Table, VALIDATION};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What is drawn together.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Heading.
    pub title: String,
    /// Figures by their key, with what they are called.
    pub series: Vec<Series>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub key: String,
    pub label: String,
    /// Of the evaluations, not of the steps.
    pub evaluated: bool,
    /// It jumps from step to step, so that a running mean says more.
    pub noisy: bool,
}

/// Figures that have a place and a name of their own, in the order of the page: heading, and keys with their labels.
const KNOWN: &[(&str, &[(&str, &str)])] = &[
    ("Loss", &[("loss", "training"), ("validation_loss", "validation")]),
    ("Throughput, samples a second", &[("samples_per_second", "samples a second")]),
    ("Depth, layers that ran", &[("realised_depth", "ran"), ("expected_depth", "expected")]),
    ("Share of the layer calls that ran", &[("share_of_layers", "share")]),
    ("Theta", &[("theta", "theta")]),
    ("Learning rate", &[("lr", "learning rate")]),
    ("Norm of the gradients", &[("grad_norm", "norm")]),
    ("Loss scale", &[("loss_scale", "loss scale")]),
    ("Time of a step, seconds", &[("seconds", "seconds")]),
];

/// Figures that follow from the step.
const SMOOTH: [&str; 4] = ["lr", "theta", "expected_depth", "loss_scale"];

/// The panels for what the runs have.
pub fn panels(runs: &[Run]) -> Vec<Panel> {
    let tables = runs.iter().flat_map(|run| [&run.steps, &run.evaluations]);
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for table in tables {
        let shown = table.columns.iter().filter(|(key, column)| says_something(key, column));
        keys.extend(shown.map(|(key, _)| key.as_str()));
    }
    if keys.contains("realised_depth") {
        keys.remove("share_of_layers");
    }
    // One says what the other does, where the batch has one size.
    if keys.contains("samples_per_second") {
        keys.remove("seconds");
    }
    let series = |key: &str, label: &str| Series {
        key: key.to_owned(),
        label: label.to_owned(),
        evaluated: key.starts_with(VALIDATION),
        noisy: !key.starts_with(VALIDATION) && !SMOOTH.contains(&key),
    };
    let known = KNOWN.iter().map(|(title, of)| {
        let of = of.iter().filter(|(key, _)| keys.contains(key));
        Panel {
            title: (*title).to_owned(),
            series: of.map(|(key, label)| series(key, label)).collect(),
        }
    });
    let is_known = |key: &str| KNOWN.iter().any(|(_, of)| of.iter().any(|(name, _)| *name == key));
    let others = keys.iter().filter(|key| !is_known(key)).map(|key| {
        let title = key.replace('_', " ");
        Panel { series: vec![series(key, &title)], title }
    });
    let mut panels: Vec<_> = known.filter(|panel| !panel.series.is_empty()).collect();
    // What was asked for beyond the loss comes behind it.
    let place = panels.len().min(1);
    let (validated, rest): (Vec<_>, Vec<_>) = others.partition(|panel| panel.series[0].evaluated);
    panels.splice(place..place, validated);
    panels.extend(rest);
    panels
}

/// Whether a figure is worth a panel: it has numbers, and is not what it always is.
fn says_something(key: &str, column: &[f64]) -> bool {
    let mut numbers = column.iter().filter(|value| value.is_finite());
    match key {
        "loss_scale" | "share_of_layers" => numbers.any(|value| *value != 1.0),
        _ => numbers.next().is_some(),
    }
}

/// A table's rows as lists of numbers, at most `most` of each: of more, each stands for some in a row, with their mean
/// and, of the loss, the lowest and the highest.
pub fn points(table: &Table, keys: &[&str], tokens: Option<f64>, most: usize) -> Value {
    let ends = ends(table.step.len(), most);
    let last = |column: &[f64]| -> Vec<Value> {
        ends.iter().map(|(_, end)| short(column[end - 1])).collect()
    };
    let mut axes = Map::new();
    axes.insert("step".to_owned(), last(&table.step).into());
    axes.insert("seconds".to_owned(), last(&table.elapsed).into());
    if table.samples.iter().all(|samples| samples.is_finite()) {
        axes.insert("samples".to_owned(), last(&table.samples).into());
        if let Some(tokens) = tokens {
            let column: Vec<_> = table.samples.iter().map(|samples| samples * tokens).collect();
            axes.insert("tokens".to_owned(), last(&column).into());
        }
    }
    let mut figures = Map::new();
    for key in keys {
        let Some(column) = table.columns.get(*key) else { continue };
        let of = |reduce: fn(&[f64]) -> f64| -> Vec<Value> {
            ends.iter().map(|(begin, end)| short(reduce(&column[*begin..*end]))).collect()
        };
        figures.insert((*key).to_owned(), of(mean).into());
        if *key == "loss" && ends.len() < table.step.len() {
            figures.insert("loss low".to_owned(), of(low).into());
            figures.insert("loss high".to_owned(), of(high).into());
        }
    }
    json!({ "at": axes, "of": figures })
}

/// Where each of at most `most` parts of `rows` rows begins and ends.
fn ends(rows: usize, most: usize) -> Vec<(usize, usize)> {
    let parts = rows.min(most.max(1));
    (0..parts).map(|part| (rows * part / parts, rows * (part + 1) / parts)).collect()
}

fn mean(values: &[f64]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    let (sum, count) = finite.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

fn low(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

fn high(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

/// Seven digits, which is what a float32 has; null for what is no number.
pub fn short(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return json!(value);
    }
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return json!(value as i64);
    }
    let text = format!("{value:.6e}");
    json!(text.parse::<f64>().unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_once() {
        for rows in 0..40 {
            for most in [3, 4, 7, 50] {
                let ends = ends(rows, most);
                assert!(ends.len() <= most);
                let mut next = 0;
                for (begin, end) in &ends {
                    assert!(*begin == next && end > begin, "{rows} in {most}: {ends:?}");
                    next = *end;
                }
                assert_eq!(next, rows);
            }
        }
    }

    #[test]
    fn many_rows_are_means_with_their_range() {
        let step: Vec<_> = (1..=6).map(f64::from).collect();
        let mut table =
            Table { samples: step.clone(), elapsed: step.clone(), step, ..Table::default() };
        table.columns.insert("loss".to_owned(), vec![9.0, 1.0, 2.0, f64::NAN, 4.0, 7.0]);
        let found = points(&table, &["loss"], Some(3.0), 3);
        assert_eq!(found["of"]["loss"], json!([5, 2, 5.5]));
        assert_eq!(found["of"]["loss low"], json!([1, 2, 4]));
        assert_eq!(found["of"]["loss high"], json!([9, 2, 7]));
        assert_eq!(found["at"]["step"], json!([2, 4, 6]));
        assert_eq!(found["at"]["tokens"], json!([6, 12, 18]));
        let all = points(&table, &["loss"], None, 6);
        assert_eq!(all["of"], json!({ "loss": [9, 1, 2, null, 4, 7] }));
    }

    #[test]
    fn numbers_are_short_and_right_to_seven_digits() {
        let (third, small) = (1.0 / 3.0, 1.234_567_89e-9);
        assert_eq!(short(third).to_string(), "0.3333333");
        assert_eq!(short(small).to_string(), "1.234568e-9");
        assert_eq!(short(12_345_678.0).to_string(), "12345678");
        assert_eq!(short(f64::NAN), Value::Null);
    }

    #[test]
    fn figures_that_are_always_the_same_have_no_panel() {
        let mut run = Run::default();
        let mut column = |key: &str, values: &[f64]| {
            run.steps.columns.insert(key.to_owned(), values.to_vec());
        };
        column("loss", &[1.0]);
        column("loss_scale", &[1.0, 1.0]);
        column("share_of_layers", &[0.5]);
        column("realised_depth", &[0.5]);
        column("my_figure", &[0.5]);
        column("grad_norm", &[f64::NAN]);
        column("seconds", &[0.5]);
        column("samples_per_second", &[8.0]);
        run.evaluations.columns.insert("validation_accuracy".to_owned(), vec![0.5]);
        let titles: Vec<_> = panels(&[run]).into_iter().map(|panel| panel.title).collect();
        let expected = [
            "Loss",
            "validation accuracy",
            "Throughput, samples a second",
            "Depth, layers that ran",
            "my figure",
        ];
        assert_eq!(titles, expected);
    }
}
