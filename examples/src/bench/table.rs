//! The rows as people read them.
use super::Row;

/// The rows in columns, and below them what each is made of.
pub fn table(rows: &[Row]) -> String {
    let heads = ["benchmark", "value", "spread", "unit", "target", "holds"].map(str::to_owned);
    let mut lines = vec![heads];
    for row in rows {
        let digits = digits(row.value);
        let (value, spread) =
            (format!("{:.digits$}", row.value), format!("+-{:.digits$}", row.spread));
        let holds = if row.holds { "yes" } else { "no" };
        let [unit, target] = [&row.unit, &row.target].map(Clone::clone);
        lines.push([row.name.clone(), value, spread, unit, target, holds.to_owned()]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4, 5].map(width);
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    for row in rows {
        text += &format!("\n{}: {}\n", row.name, row.detail);
    }
    text
}

/// Digits behind the point at which `value` has three that count.
pub fn digits(value: f64) -> usize {
    (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        let values = [0.97123, 0.000_213_4, 12.34, 1234.0, 0.0, -0.05];
        assert_eq!(values.map(digits), [3, 6, 1, 0, 9, 4]);
    }

    #[test]
    fn columns_line_up() {
        let row = Row {
            name: "pld".to_owned(),
            value: 0.97123,
            unit: "ratio".to_owned(),
            target: ">= 0.95".to_owned(),
            holds: true,
            command: "make bench ONLY=pld".to_owned(),
            detail: "of 0.25".to_owned(),
            spread: 0.02,
        };
        let expected = "\
benchmark  value  spread   unit   target   holds
pld        0.971  +-0.020  ratio  >= 0.95  yes

pld: of 0.25
";
        assert_eq!(table(&[row]), expected);
    }
}
