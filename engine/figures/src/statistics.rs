//! What noisy timings allow to be said: standard errors of means and of their ratios to first order, by
//! formula, and intervals of any other figure by resampling.
use trainyard::draw::{Purpose, generator, uniform};

/// The mean; not a number for an empty list.
pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0), |(sum, count), x| (sum + x, count + 1));
    sum / f64::from(count)
}

/// A figure and its standard error, to first order in the noise; not a number where one value is all
/// there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// The mean.
pub fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let value = mean(values.iter().copied());
    let squares = values.iter().map(|v| (v - value).powi(2)).sum::<f64>();
    Estimate { value, error: (squares / (n - 1.0) / n).sqrt() }
}

/// 1 - the ratio of the means of `less` and `more`, whose values belong together in pairs: noise that
/// both share is no error of the ratio.
pub fn saved(less: &[f64], more: &[f64]) -> Estimate {
    let value = 1.0 - mean(less.iter().copied()) / mean(more.iter().copied());
    let influence: Vec<_> = influences(less, more).collect();
    Estimate { value, error: estimate(&influence).error }
}

/// What each pair adds to [`saved`], beyond the mean of it.
pub fn influences(less: &[f64], more: &[f64]) -> impl Iterator<Item = f64> {
    let whole = mean(more.iter().copied());
    let ratio = mean(less.iter().copied()) / whole;
    less.iter().zip(more).map(move |(l, m)| (ratio * m - l) / whole)
}

/// The middle value, or the mean of the two; not a number for an empty list.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values.into_iter().collect(), 0.5)
}

/// The slope of the line through the origin from which the points (x, y), x >= 0, are least far in the sum
/// of |y - slope x|: the median of y / x weighted by x, which single wild points do not move. Not a number
/// if every x is 0.
pub fn slope(points: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let weighted = points.into_iter().filter(|(x, _)| *x > 0.0).map(|(x, y)| (y / x, x));
    let mut weighted: Vec<_> = weighted.collect();
    weighted.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let half = weighted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    let middle = weighted.iter().find(|(_, weight)| {
        below += weight;
        below >= half
    });
    middle.map_or(f64::NAN, |(ratio, _)| *ratio)
}

/// The value below which the part `share` of `values` lies, between neighbours on a straight line.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    values[below] + (values[above] - values[below]) * place.fract()
}

/// How often the bootstrap resamples: its interval's own error is then some 3 % of its width.
const RESAMPLES: usize = 2000;

/// The 95 % interval of `figure` of `samples`, by the bootstrap (Efron 1979,
/// <https://doi.org/10.1214/aos/1176344552>): where 95 % of the figures lie of as many samples drawn from
/// these with replacement.
///
/// What was measured together, and so shares its noise, belongs in one sample. The same samples give
/// the same interval.
pub fn bootstrap<T: Copy>(samples: &[T], figure: impl Fn(&[T]) -> f64) -> (f64, f64) {
    let mut generator = generator(0, Purpose(1000), 0, [0, 0]);
    let mut pick = || samples[(uniform(&mut generator) * samples.len() as f64) as usize];
    let mut resample = || figure(&samples.iter().map(|_| pick()).collect::<Vec<_>>());
    let figures: Vec<_> = (0..RESAMPLES).map(|_| resample()).collect();
    (quantile(figures.clone(), 0.025), quantile(figures, 0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearly normal, of mean 0 and standard deviation 1.
    fn noise(generator: &mut impl FnMut() -> f64) -> f64 {
        (0..12).map(|_| generator()).sum::<f64>() - 6.0
    }

    fn uniforms(seed: u64) -> impl FnMut() -> f64 {
        let mut generator = generator(seed, Purpose(1001), 0, [0, 0]);
        move || uniform(&mut generator)
    }

    #[test]
    fn quantiles_by_hand() {
        assert_eq!(mean([1.0, 2.0, 6.0]), 3.0);
        assert_eq!(median([6.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([6.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(vec![0.0, 10.0, 20.0, 30.0], 0.25), 7.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_slope_by_hand() {
        // y = 0.5 x but for one wild point, which weighs less than the others together; x = 0 says nothing.
        let points = [(1.0, 0.5), (2.0, 1.0), (0.0, 7.0), (2.0, -9.0), (0.5, 0.25)];
        assert_eq!(slope(points), 0.5);
        assert!(slope([(0.0, 1.0)]).is_nan());
    }

    /// The interval of a mean of n values has the half-width 1.96 / sqrt(n).
    #[test]
    fn the_interval_of_a_mean() {
        let mut source = uniforms(1);
        let samples: Vec<_> = (0..400).map(|_| 3.0 + noise(&mut source)).collect();
        let (low, high) = bootstrap(&samples, |all| mean(all.iter().copied()));
        let half = (high - low) / 2.0;
        assert!((half - 1.96 / 20.0).abs() < 0.015, "{half}");
        assert!(low < 3.0 && 3.0 < high, "[{low}, {high}]");
    }

    /// Noise that both parts of a ratio share does not widen its interval.
    #[test]
    fn pairs_stay_together() {
        let mut source = uniforms(2);
        let pairs: Vec<_> =
            (0..200).map(|_| 10.0 + noise(&mut source)).map(|x| (x, 2.0 * x)).collect();
        let ratio =
            |all: &[(f64, f64)]| mean(all.iter().map(|p| p.1)) / mean(all.iter().map(|p| p.0));
        let (low, high) = bootstrap(&pairs, ratio);
        assert!((low - 2.0).abs() < 1e-12 && (high - 2.0).abs() < 1e-12, "[{low}, {high}]");
    }

    /// In 100 repetitions the interval holds the truth 95 times, give or take five standard errors.
    #[test]
    fn the_interval_covers() {
        let mut source = uniforms(3);
        let mut covers = || {
            let samples: Vec<_> = (0..60).map(|_| noise(&mut source)).collect();
            let (low, high) = bootstrap(&samples, |all| mean(all.iter().copied()));
            low < 0.0 && 0.0 < high
        };
        let covered = (0..100).filter(|_| covers()).count();
        assert!(covered >= 84, "{covered}");
    }
}
