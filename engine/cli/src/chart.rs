//! A curve drawn with braille characters, each of 2 by 4 dots.

/// Dots of one character, from the top, in its left and in its right column.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// The braille character without a dot.
const EMPTY: u32 = 0x2800;
/// Characters before the vertical axis; no number takes more.
const MARGIN: usize = 10;
/// Steps that are looked at for the largest and the smallest value.
const CLOSE: usize = 10_000;

/// A function of a run's steps on axes, `width` characters wide and `height` lines high with its
/// labels.
///
/// `value`: at each step from 0 to `last`; where it is not finite there is a gap.
pub fn chart(value: impl Fn(u64) -> f64, last: u64, width: usize, height: usize) -> String {
    let columns = width.saturating_sub(MARGIN + 2).max(8);
    let rows = height.saturating_sub(2).max(1);
    let values: Vec<_> = samples(&value, last, 2 * columns).map(|(_, value)| value).collect();
    // Looked at more closely than it is drawn, so that the labels are the true ends.
    let close =
        samples(&value, last, CLOSE).map(|(_, value)| value).filter(|value| value.is_finite());
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = close.fold(ends, |(low, high), value| (low.min(value), high.max(value)));
    let mut text = String::new();
    for (row, line) in draw(&values, low, high, rows).iter().enumerate() {
        let label = match row {
            // A constant is drawn in the middle, and all there is to say is its value.
            _ if low == high && row != rows / 2 => None,
            _ if low == high => Some(low),
            0 => Some(high),
            row if row + 1 == rows => Some(low),
            _ => None,
        };
        let (label, axis) = label.map_or((String::new(), '│'), |value| (number(value), '┤'));
        let line = line.trim_end_matches(char::from_u32(EMPTY).unwrap_or(' '));
        text += &format!("{label:>MARGIN$} {axis}{line}\n");
    }
    let end = format!("step {last}");
    let gap = columns.saturating_sub(1).max(end.len() + 1);
    text + &format!("{:MARGIN$} └{}\n{:MARGIN$}  0{end:>gap$}\n", "", "─".repeat(columns), "")
}

/// `value` at `count` steps spread evenly from 0 to `last`, both included; at least 2.
pub fn samples(
    value: impl Fn(u64) -> f64,
    last: u64,
    count: usize,
) -> impl Iterator<Item = (u64, f64)> {
    let gaps = (count.max(2) - 1) as u128;
    (0..=gaps).map(move |place| {
        let step = ((u128::from(last) * place + gaps / 2) / gaps) as u64;
        (step, value(step))
    })
}

/// Lines of braille: two values a character, joined where they jump.
fn draw(values: &[f64], low: f64, high: f64, rows: usize) -> Vec<String> {
    let bottom = 4 * rows - 1;
    let height = |value: f64| match high > low {
        true => ((value - low) / (high - low) * bottom as f64).round() as usize,
        false => bottom / 2,
    };
    let mut cells = vec![vec![EMPTY; values.len().div_ceil(2)]; rows];
    let mut previous = None;
    for (column, value) in values.iter().enumerate() {
        let row = value.is_finite().then(|| bottom - height(*value).min(bottom));
        if let Some(row) = row {
            let from = previous.unwrap_or(row);
            // From behind the previous dot to this one.
            let run = match from.cmp(&row) {
                std::cmp::Ordering::Less => from + 1..=row,
                std::cmp::Ordering::Equal => row..=row,
                std::cmp::Ordering::Greater => row..=from - 1,
            };
            run.for_each(|dot| cells[dot / 4][column / 2] |= DOTS[column % 2][dot % 4]);
        }
        previous = row;
    }
    let text = |cells: &Vec<u32>| cells.iter().copied().filter_map(char::from_u32).collect();
    cells.iter().map(text).collect()
}

/// A number in at most ten characters: four digits, and a power of ten where it is far from 1.
fn number(value: f64) -> String {
    let digits = value.abs().log10().floor();
    if value == 0.0 || (-4.0..6.0).contains(&digits) {
        let text = format!("{value:.*}", (3.0 - digits.max(-4.0)).clamp(0.0, 7.0) as usize);
        return match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        };
    }
    format!("{value:.2e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_from_corner_to_corner() {
        let text = chart(|step| step as f64, 7, MARGIN + 2 + 8, 4);
        let expected = [
            "         7 ┤⠀⠀⠀⠀⣀⠤⠒⠉",
            "         0 ┤⣀⠤⠒⠉",
            "           └────────",
            "            0 step 7",
        ];
        assert_eq!(text, expected.join("\n") + "\n");
    }

    #[test]
    fn a_jump_is_joined_and_a_gap_is_not() {
        // Down by all 8 dots between the first value and the second, then a gap, then the middle.
        let rows = draw(&[1.0, 0.0, f64::NAN, 0.5], 0.0, 1.0, 2);
        assert_eq!(rows, ["⢱⢀", "⢸⠀"]);
        assert_eq!(draw(&[f64::NAN; 4], f64::INFINITY, f64::NEG_INFINITY, 1), ["⠀⠀"]);
    }

    #[test]
    fn a_constant_lies_in_the_middle() {
        let text = chart(|_| 0.5, 99, MARGIN + 2 + 8, 5);
        let labels: Vec<_> = text.lines().map(|line| line.trim_start().to_owned()).collect();
        assert_eq!(labels, ["│", "0.5 ┤⠤⠤⠤⠤⠤⠤⠤⠤", "│", "└────────", "0 step 99"]);
    }

    #[test]
    fn both_ends_are_sampled() {
        let steps = |last, count| -> Vec<u64> {
            samples(|step| step as f64, last, count).map(|(step, _)| step).collect()
        };
        assert_eq!(steps(10, 3), [0, 5, 10]);
        assert_eq!(steps(1, 4), [0, 0, 1, 1]);
        assert_eq!(steps(0, 1), [0, 0]);
        assert_eq!(steps(u64::MAX, 2), [0, u64::MAX]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (0.001, "0.001"),
            (0.0001234, "0.0001234"),
            (12345.678, "12346"),
            (8.75, "8.75"),
            (-0.25, "-0.25"),
            (100.0, "100"),
            (1e-5, "1.00e-5"),
            (-1e-300, "-1.00e-300"),
            (1e6, "1.00e6"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
