//! Numbers of the command line.

/// Most ranks that are simulated.
const MOST_RANKS: u32 = 65_536;

/// Numbers of ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(pub Vec<u32>);

/// `1..4096` or `1,2,3`.
pub fn counts(text: &str) -> Result<Counts, String> {
    let number = |text: &str| match text.trim().parse::<u32>() {
        Ok(n) if (1..=MOST_RANKS).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a number of ranks, 1 to {MOST_RANKS}")),
    };
    let Some((first, last)) = text.split_once("..") else {
        return text.split(',').map(number).collect::<Result<_, _>>().map(Counts);
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("{first}..{last} is empty: the larger number comes last"));
    }
    let doubled = std::iter::successors(Some(first), |n| n.checked_mul(2));
    let mut all: Vec<_> = doubled.take_while(|n| *n < last).collect();
    all.push(last);
    Ok(Counts(all))
}

fn float(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .ok_or_else(|| format!("{text:?} is not a number"))
}

pub fn positive(text: &str) -> Result<f64, String> {
    match float(text)? {
        value if value > 0.0 => Ok(value),
        value => Err(format!("{value} is not above 0")),
    }
}

pub fn not_negative(text: &str) -> Result<f64, String> {
    match float(text)? {
        value if value >= 0.0 => Ok(value),
        value => Err(format!("{value} is below 0")),
    }
}

pub fn probability(text: &str) -> Result<f64, String> {
    match float(text)? {
        value if value > 0.0 && value <= 1.0 => Ok(value),
        value => Err(format!("theta = {value} is not in (0, 1]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_ranks() {
        let of = |text: &str| counts(text).map(|Counts(list)| list);
        assert_eq!(of("1..4096").map(|list| list.len()), Ok(13));
        assert_eq!(of("3..20"), Ok(vec![3, 6, 12, 20]));
        assert_eq!(of("1,3"), Ok(vec![1, 3]));
        assert_eq!(of("7..7"), Ok(vec![7]));
        for (text, message) in [
            ("0", "\"0\" is not a number of ranks, 1 to 65536"),
            ("1..x", "\"x\" is not a number of ranks, 1 to 65536"),
            ("4..2", "4..2 is empty: the larger number comes last"),
            ("70000", "\"70000\" is not a number of ranks, 1 to 65536"),
        ] {
            assert_eq!(of(text), Err(message.to_owned()));
        }
    }

    #[test]
    fn ranges_of_numbers() {
        assert_eq!(positive("0"), Err("0 is not above 0".to_owned()));
        assert_eq!(positive("nan"), Err("\"nan\" is not a number".to_owned()));
        assert_eq!(not_negative("-1"), Err("-1 is below 0".to_owned()));
        assert_eq!(probability("1.5"), Err("theta = 1.5 is not in (0, 1]".to_owned()));
        assert_eq!(
            (positive("2.5"), not_negative("0"), probability("1")),
            (Ok(2.5), Ok(0.0), Ok(1.0))
        );
    }
}
