//! Predictions as a table.
use super::Row;

/// A line for each prediction, below its columns' names.
pub fn table(rows: &[Row]) -> String {
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
pub fn short(value: f64) -> String {
    let digits = (3.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_count() {
        let values = [0.0, 1.25, 12_345.6, 0.012_345, 20.0];
        assert_eq!(values.map(short), ["0", "1.25", "12346", "0.01235", "20"]);
    }
}
