//! What layer dropping promises, by arithmetic.
use super::schedule::Theta;

/// Expected number of `blocks` blocks that run, for either way to spread the drop over them.
pub fn expected_depth(blocks: usize, theta: f64) -> f64 {
    // The sum over i of 1 - (i / L)(1 - theta).
    blocks as f64 - (blocks as f64 + 1.0) / 2.0 * (1.0 - theta)
}

/// Mean over a run of `steps` steps, at least one, of the expected number of blocks that run.
pub fn mean_expected_depth(theta: &Theta, blocks: usize, steps: u64) -> f64 {
    // The expected depth is linear in theta, so its mean is that of the mean theta.
    expected_depth(blocks, theta.mean(steps))
}

/// Share of the blocks' work that is saved when `depth` of `blocks` blocks run.
pub fn saved(depth: f64, blocks: usize) -> f64 {
    1.0 - depth / blocks as f64
}

/// Share of a step's time that dropping promises to save, once `gateable`, the share of the time that
/// goes when every gate is closed, has been measured.
///
/// `realised` is the mean number of blocks that ran in the timed steps, of `blocks`.
pub fn promised(gateable: f64, realised: f64, blocks: usize) -> f64 {
    gateable * saved(realised, blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progressive_layer_drop::config::{Config, Depth, Gamma};
    use crate::progressive_layer_drop::schedule::keep_probability;
    use trainyard::Schedule;

    #[test]
    fn twelve_blocks_at_one_half() {
        // (3 L - 1) / 4 of L.
        assert_eq!(expected_depth(12, 0.5), 8.75);
        assert_eq!(expected_depth(12, 1.0), 12.0);
        assert_eq!(expected_depth(1, 0.25), 0.25);
        assert!((saved(8.75, 12) - 0.2708).abs() < 1e-4);
        assert_eq!(promised(0.8, 9.0, 12), 0.2);
    }

    #[test]
    fn expected_depth_is_the_sum_of_the_keep_probabilities() {
        for (blocks, theta) in [(1, 0.3), (7, 0.01), (12, 0.5), (48, 0.9)] {
            for depth in [Depth::Linear, Depth::Uniform] {
                let sum: f64 =
                    (1..=blocks).map(|i| keep_probability(depth, i, blocks, theta)).sum();
                assert!((sum - expected_depth(blocks, theta)).abs() < 1e-12, "{depth:?} {blocks}");
            }
        }
    }

    #[test]
    fn mean_over_a_run() {
        let config = Config { gamma: Gamma::Value(0.02), ..Config::default() };
        let theta = Theta::new(&config, None).expect("needs no length of the run");
        let mean = (0..500).map(|t| expected_depth(12, theta.at(t))).sum::<f64>() / 500.0;
        assert!((mean_expected_depth(&theta, 12, 500) - mean).abs() < 1e-10);
    }
}
