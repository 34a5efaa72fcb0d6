//! Predictions as curves.
use super::predictions::{Gates, Row};
use trainyard_figures::chart::{Chart, Mark, Panel, Place, Series};

/// Time of a step and, where layers are dropped, what that saves, over the number of ranks: a curve for each kind of
/// gates and size of buckets.
pub fn chart(about: &str, rows: &[Row], theta: f64) -> Chart {
    let mut curves: Vec<(Gates, u64)> = Vec::new();
    for row in rows {
        if !curves.contains(&(row.gates, row.bucket)) {
            curves.push((row.gates, row.bucket));
        }
    }
    let buckets = curves.iter().any(|(_, bucket)| *bucket != curves[0].1);
    let series = |y: fn(&Row) -> f64, curves: &[(Gates, u64)]| {
        let of = |&(gates, bucket): &(Gates, u64)| {
            let own = rows.iter().filter(|row| (row.gates, row.bucket) == (gates, bucket));
            let name = match gates {
                Gates::Off => "no dropping".to_owned(),
                gates => format!("{} gates", gates.name()),
            };
            Series {
                label: if buckets { format!("{name}, {bucket} elements") } else { name },
                colour: colour(gates),
                mark: Mark::Line,
                points: own.map(|row| (f64::from(row.ranks).log2(), y(row))).collect(),
            }
        };
        curves.iter().map(of).collect::<Vec<_>>()
    };
    let dropping: Vec<_> = curves.iter().copied().filter(|curve| curve.0 != Gates::Off).collect();
    let mut panels = vec![Panel {
        y_label: "time of a step, ms".to_owned(),
        y_range: None,
        series: series(|row| 1e3 * row.found.seconds, &curves),
        legend: Place::Bottom,
    }];
    if !dropping.is_empty() {
        panels.push(Panel {
            y_label: format!("saved at theta {theta}, %"),
            y_range: None,
            series: series(|row| 100.0 * row.saved, &dropping),
            legend: Place::Bottom,
        });
    }
    let title = about.strip_prefix("measured: ").unwrap_or(about);
    // Of "..., batch 8 of 128 tokens, 2 rank(s) side by side with ..." the model and its batch.
    let title = title.split_once(" side by side").map_or(title, |(title, _)| title);
    let title = title.rsplit_once(", ").map_or(title, |(model, _)| model);
    Chart {
        title: format!("Computed from one machine's figures: {title}"),
        x_label: "number of ranks, as a power of 2".to_owned(),
        panels,
    }
}

fn colour(gates: Gates) -> &'static str {
    match gates {
        Gates::Off => "#57606a",
        Gates::Shared => "#1a7f37",
        Gates::Balanced => "#1f6feb",
        Gates::Independent => "#cf222e",
    }
}
