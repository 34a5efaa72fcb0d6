//! Figures in the lines that say what a section does.

/// A number as a person writes it: 0.001, 5e-5, 1e300.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        1e-4..1e7 => value.to_string(),
        _ => format!("{value:e}"),
    }
}

/// "1 step", "10 steps".
pub(crate) fn steps(count: u64) -> String {
    format!("{count} step{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (-0.0, "0"),
            (1.0, "1"),
            (-0.001, "-0.001"),
            (5e-5, "5e-5"),
            (1_000_000.0, "1000000"),
            (1e300, "1e300"),
            (1e-300, "1e-300"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn one_step_is_no_steps() {
        assert_eq!([0, 1, 2].map(steps), ["0 steps", "1 step", "2 steps"]);
    }
}
