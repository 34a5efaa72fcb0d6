//! The gates of one forward, as a pure function.
use super::balanced;
use super::config::{Depth, Ranks, Redraw};
use super::schedule::{Theta, keep_probability};
use super::sites::{Site, Sites};
use rand_chacha::ChaCha8Rng;
use trainyard::draw::{Purpose, generator, uniform};
use trainyard::{Moment, Schedule};

/// What happens to a block, or to a branch of one, in a forward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gate {
    /// It is not computed.
    Drop,
    /// It is computed, and what it adds is multiplied by 1 / `probability`.
    Keep {
        /// The probability that the gate was drawn with.
        probability: f64,
    },
}

/// The law that gates are drawn by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Law {
    /// Keep probability of the last block, by step.
    pub theta: Theta,
    /// How dropping spreads over the blocks.
    pub depth: Depth,
    /// How often gates are drawn anew.
    pub redraw: Redraw,
    /// How the ranks' gates hang together.
    pub ranks: Ranks,
}

impl Law {
    /// The probability of each of `sites` to be kept after `step` completed steps.
    pub fn keep(&self, sites: &Sites, step: u64) -> Vec<f64> {
        let theta = self.theta.at(step);
        let keep = |site: &Site| keep_probability(self.depth, site.block, sites.blocks, theta);
        sites.list.iter().map(keep).collect()
    }
}

/// One gate for each of `sites`. The same arguments give the same gates, on every machine.
///
/// theta follows the completed steps; the draw itself is keyed by the attempt, so that a step whose
/// update was skipped does not meet the same gates again.
pub fn gates(law: &Law, sites: &Sites, seed: u64, now: Moment, rank: u32) -> Vec<Gate> {
    let keep = law.keep(sites, now.step);
    let micro_batch = match law.redraw {
        Redraw::MicroBatch => now.micro_batch,
        Redraw::Step => 0,
    };
    let draw = |stream| generator(seed, Purpose::GATES, stream, [now.attempt, micro_batch]);
    // Stream 0 is the one that all ranks share.
    let own = rank.wrapping_add(1);
    let open = match law.ranks {
        Ranks::Shared => independent(&keep, &mut draw(0)),
        Ranks::Independent => independent(&keep, &mut draw(own)),
        Ranks::Balanced => {
            let shared = independent(&keep, &mut draw(0));
            redistribute(&shared, &keep, &sites.list, &mut draw(own))
        }
    };
    let gate = |(open, &probability)| if open { Gate::Keep { probability } } else { Gate::Drop };
    open.into_iter().zip(&keep).map(gate).collect()
}

fn independent(keep: &[f64], generator: &mut ChaCha8Rng) -> Vec<bool> {
    keep.iter().map(|&p| uniform(generator) < p).collect()
}

/// Draws anew which gates are open, as many of each kind of branch as in `shared`: attention and
/// feed-forward cost differently.
fn redistribute(
    shared: &[bool],
    keep: &[f64],
    sites: &[Site],
    generator: &mut ChaCha8Rng,
) -> Vec<bool> {
    let mut open = vec![false; shared.len()];
    let kinds = sites.iter().map(|site| site.branch + 1).max().unwrap_or(0);
    for kind in 0..kinds {
        let of_kind: Vec<_> = (0..sites.len()).filter(|&j| sites[j].branch == kind).collect();
        let keep: Vec<_> = of_kind.iter().map(|&j| keep[j]).collect();
        let count = of_kind.iter().filter(|&&j| shared[j]).count();
        for (&j, chosen) in of_kind.iter().zip(balanced::choose(&keep, count, generator)) {
            open[j] = chosen;
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progressive_layer_drop::config::{Config, Course, Unit};
    use trainyard::BlockInfo;

    const MODES: [Ranks; 3] = [Ranks::Shared, Ranks::Balanced, Ranks::Independent];
    const DRAWS: u64 = 20_000;

    fn sites(blocks: usize, unit: Unit) -> Sites {
        let sublayers = vec!["attention".to_owned(), "feed_forward".to_owned()];
        let block = |i: usize| BlockInfo { name: i.to_string(), sublayers: sublayers.clone() };
        let blocks: Vec<_> = (0..blocks).map(block).collect();
        Sites::new(&blocks, None, unit).expect("the model has blocks")
    }

    fn law(theta: f64, ranks: Ranks) -> Law {
        let config = Config { theta, schedule: Course::Constant, ..Config::default() };
        let theta = Theta::new(&config, None).expect("constant needs no length of the run");
        Law { theta, depth: Depth::Linear, redraw: Redraw::MicroBatch, ranks }
    }

    fn at(attempt: u64, micro_batch: u64) -> Moment {
        Moment { step: attempt, attempt, micro_batch }
    }

    fn open(gates: &[Gate]) -> Vec<bool> {
        gates.iter().map(|gate| *gate != Gate::Drop).collect()
    }

    fn drawn(law: &Law, sites: &Sites, attempt: u64, rank: u32) -> Vec<bool> {
        open(&gates(law, sites, 42, at(attempt, 0), rank))
    }

    /// Mean of what `f` says of the gates of each site, over many forwards.
    fn means(law: &Law, sites: &Sites, rank: u32, f: impl Fn(&Gate) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; sites.list.len()];
        for attempt in 0..DRAWS {
            let gates = gates(law, sites, 42, at(attempt, 0), rank);
            sums.iter_mut().zip(&gates).for_each(|(sum, gate)| *sum += f(gate));
        }
        sums.iter().map(|sum| sum / DRAWS as f64).collect()
    }

    #[test]
    fn frequencies_and_scales_are_right_for_every_mode() {
        for ranks in MODES {
            for unit in [Unit::Block, Unit::Sublayer] {
                let (law, sites) = (law(0.5, ranks), sites(12, unit));
                let keep = law.keep(&sites, 0);
                let kept = means(&law, &sites, 3, |gate| f64::from(u8::from(*gate != Gate::Drop)));
                // E[G / keep] = 1, the scale being what the gate says, not what the law says.
                let scale = |gate: &Gate| match gate {
                    Gate::Drop => 0.0,
                    Gate::Keep { probability } => 1.0 / probability,
                };
                let scale = means(&law, &sites, 3, scale);
                for (j, &p) in keep.iter().enumerate() {
                    let five_errors = 5.0 * (p * (1.0 - p) / DRAWS as f64).sqrt();
                    let what = format!("{ranks:?} {unit:?} {j}");
                    assert!((kept[j] - p).abs() < five_errors, "{what}: kept {}, not {p}", kept[j]);
                    assert!((scale[j] - 1.0).abs() < five_errors / p, "{what}: scale {}", scale[j]);
                }
            }
        }
    }

    #[test]
    fn depth_of_twelve_blocks_is_8_75() {
        for unit in [Unit::Block, Unit::Sublayer] {
            let (law, sites) = (law(0.5, Ranks::Shared), sites(12, unit));
            let sum: f64 =
                (0..DRAWS).map(|a| sites.depth(&gates(&law, &sites, 42, at(a, 0), 0))).sum();
            // The depth's standard deviation is below sqrt(12 / 4).
            let bound = 5.0 * (3.0 / DRAWS as f64).sqrt();
            assert!((sum / DRAWS as f64 - 8.75).abs() < bound, "{}", sum / DRAWS as f64);
        }
    }

    #[test]
    fn nothing_drops_at_theta_1() {
        for ranks in MODES {
            let (law, sites) = (law(1.0, ranks), sites(12, Unit::Sublayer));
            for attempt in 0..1000 {
                let gates = gates(&law, &sites, 42, at(attempt, 0), 1);
                assert_eq!(gates, vec![Gate::Keep { probability: 1.0 }; 24]);
            }
        }
    }

    #[test]
    fn shared_gates_are_the_same_on_all_ranks() {
        let (law, sites) = (law(0.5, Ranks::Shared), sites(12, Unit::Block));
        for attempt in 0..100 {
            assert_eq!(drawn(&law, &sites, attempt, 0), drawn(&law, &sites, attempt, 7));
        }
    }

    #[test]
    fn balanced_ranks_keep_the_same_number_of_each_branch() {
        let (law, sites) = (law(0.5, Ranks::Balanced), sites(12, Unit::Sublayer));
        let shared = Law { ranks: Ranks::Shared, ..law };
        let mut different = 0;
        for attempt in 0..200 {
            // Branches alternate between attention and feed-forward.
            let counts = |open: &[bool]| {
                [0, 1].map(|kind| open.iter().skip(kind).step_by(2).filter(|&&open| open).count())
            };
            let first = drawn(&law, &sites, attempt, 0);
            assert_eq!(counts(&first), counts(&drawn(&shared, &sites, attempt, 0)));
            for rank in 1..4 {
                let other = drawn(&law, &sites, attempt, rank);
                assert_eq!(counts(&first), counts(&other), "attempt {attempt}, rank {rank}");
                different += usize::from(first != other);
            }
        }
        assert!(different > 500, "{different} of 600");
    }

    #[test]
    fn independent_ranks_differ() {
        let (law, sites) = (law(0.5, Ranks::Independent), sites(12, Unit::Block));
        let mut slowest = 0;
        for attempt in 0..2000 {
            let depths = (0..8).map(|rank| {
                drawn(&law, &sites, attempt, rank).iter().filter(|&&open| open).count()
            });
            slowest += depths.max().expect("there are ranks");
        }
        // A step waits for its slowest rank: of 8, it saves 11 % instead of 27 %.
        let saving = 1.0 - slowest as f64 / 2000.0 / 12.0;
        assert!((saving - 0.11).abs() < 0.01, "{saving}");
    }

    #[test]
    fn draws_follow_attempt_and_micro_batch() {
        let (law, sites) = (law(0.5, Ranks::Shared), sites(48, Unit::Block));
        let now = Moment { step: 3, attempt: 5, micro_batch: 1 };
        let of = |law: &Law, seed, now| gates(law, &sites, seed, now, 0);
        let base = of(&law, 42, now);
        assert_eq!(base, of(&law, 42, now));
        assert_ne!(base, of(&law, 43, now));
        assert_ne!(base, of(&law, 42, Moment { micro_batch: 2, ..now }));
        // The update was skipped: the same step once more, with new draws.
        assert_ne!(base, of(&law, 42, Moment { attempt: 6, ..now }));
        let once = Law { redraw: Redraw::Step, ..law };
        assert_eq!(of(&once, 42, now), of(&once, 42, Moment { micro_batch: 2, ..now }));
        assert_ne!(of(&once, 42, now), of(&once, 42, Moment { attempt: 6, ..now }));
    }

    #[test]
    fn theta_follows_the_completed_steps() {
        let theta = Theta::new(&Config::default(), None).expect("needs no length of the run");
        let law = Law { theta, ..law(0.5, Ranks::Shared) };
        let sites = sites(12, Unit::Block);
        // Many attempts, all skipped: still at full depth.
        let first = gates(&law, &sites, 42, Moment { step: 0, attempt: 9000, micro_batch: 0 }, 0);
        assert_eq!(first, vec![Gate::Keep { probability: 1.0 }; 12]);
        let later =
            gates(&law, &sites, 42, Moment { step: 9000, attempt: 9000, micro_batch: 0 }, 0);
        assert_ne!(first, later);
    }

    /// Saved runs rely on these bits; a change of generator or key must not go unnoticed.
    #[test]
    fn the_gates_of_one_key() {
        let bits = |ranks, rank| {
            let open = open(&gates(&law(0.25, ranks), &sites(16, Unit::Block), 42, at(7, 2), rank));
            open.iter().map(|&open| if open { '1' } else { '0' }).collect::<String>()
        };
        assert_eq!(bits(Ranks::Shared, 0), "1111110110111000");
        assert_eq!(bits(Ranks::Balanced, 0), "1111111110100100");
        assert_eq!(bits(Ranks::Balanced, 1), "1111110010011110");
        assert_eq!(bits(Ranks::Independent, 1), "1011110000011101");
    }
}
