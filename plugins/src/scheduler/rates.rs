//! What a schedule sets in each step, as a pure function.
use super::config::Rule;
use super::cycle::{Half, Position, position, range_test};
use super::params::OneCycle;
use super::warmup::{Warmup, cosine, decay, hold};
use trainyard::Rates;

/// DeepSpeed's second beta while the first one is cycled.
const SECOND_BETA: f64 = 0.99;

/// The rates for the update that follows `completed` steps, for a group whose configured learning rate
/// is `base`, in a run of `total` steps.
pub fn rates(rule: &Rule, total: u64, completed: u64, base: f64) -> Rates {
    let lr = match rule {
        Rule::WarmupLr(p) => {
            let warmup = Warmup { steps: p.warmup_num_steps, shape: p.warmup_type };
            hold(completed, warmup, p.warmup_min_lr, p.warmup_max_lr.unwrap_or(base))
        }
        Rule::WarmupDecayLr(p) => {
            let warmup = Warmup { steps: p.warmup_num_steps, shape: p.warmup_type };
            decay(completed, warmup, total, p.warmup_min_lr, p.warmup_max_lr.unwrap_or(base))
        }
        Rule::WarmupCosineLr(p) => {
            let warmup = Warmup { steps: p.warmup_num_steps, shape: p.warmup_type };
            base * cosine(completed, warmup, total, p.warmup_min_ratio, p.cos_min_ratio)
        }
        Rule::LrRangeTest(p) => range_test(
            completed,
            p.lr_range_test_min_lr,
            p.lr_range_test_step_size,
            p.lr_range_test_step_rate,
            p.lr_range_test_staircase,
        ),
        Rule::OneCycle(p) => {
            let (up, stairs) = (p.cycle_first_step_size, p.cycle_first_stair_count);
            let first = Half { steps: up, stairs };
            let second = Half {
                steps: p.cycle_second_step_size.unwrap_or(up),
                stairs: p.cycle_second_stair_count.unwrap_or(stairs),
            };
            let (lr, beta) = match position(completed, first, second, p.decay_step_size) {
                Position::Cycle(height) => (
                    p.cycle_min_lr + (p.cycle_max_lr - p.cycle_min_lr) * height,
                    p.cycle_max_mom - (p.cycle_max_mom - p.cycle_min_mom) * height,
                ),
                Position::Decay(intervals) => (
                    p.cycle_min_lr / (1.0 + p.decay_lr_rate * intervals),
                    p.cycle_max_mom * (1.0 + p.decay_mom_rate * intervals),
                ),
            };
            let beta = if completed == 0 { p.cycle_min_mom } else { beta };
            return Rates { lr, betas: p.cycle_momentum.then_some((beta, SECOND_BETA)) };
        }
    };
    Rates { lr, betas: None }
}

/// The first step whose first beta is 1 or more, if `decay_mom_rate` takes it there: from then on an average of
/// gradients keeps all of the old ones, or grows.
pub fn first_beta_of_one(p: &OneCycle) -> Option<u64> {
    let moves = p.cycle_momentum
        && p.decay_step_size > 0
        && p.decay_mom_rate > 0.0
        && p.cycle_max_mom > 0.0;
    if !moves {
        return None;
    }
    let intervals = (1.0 / p.cycle_max_mom - 1.0) / p.decay_mom_rate;
    let second = p.cycle_second_step_size.unwrap_or(p.cycle_first_step_size);
    let cycle = p.cycle_first_step_size.max(1) as f64 + second as f64;
    let about = cycle + intervals * p.decay_step_size as f64;
    // Steps beyond are none that a run reaches, and no whole numbers of this format.
    if about > 1e15 {
        return None;
    }
    let rule = Rule::OneCycle(p.clone());
    let beta = |step| rates(&rule, 0, step, 0.0).betas.map_or(0.0, |(beta, _)| beta);
    let first = (about as u64).saturating_sub(1);
    (first..first + 4).find(|&step| beta(step) >= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Config;
    use crate::scheduler::params::TotalSteps;
    use serde_json::{Value, json};

    /// Columns: case, scheduler, params, optimizer_lr, opt_step, lr_used, beta1_used. See golden.md.
    const GOLDEN: &str = include_str!("golden.tsv");

    fn close(found: f64, expected: f64, what: &str) {
        let error = (found - expected).abs();
        assert!(error <= 1e-12 * expected.abs(), "{what}: {found} is not {expected}");
    }

    #[test]
    fn deepspeeds_own_traces() {
        let mut rows = 0;
        for line in GOLDEN.lines().skip(1) {
            let [_, name, params, base, step, lr, beta] =
                <[&str; 7]>::try_from(line.split('\t').collect::<Vec<_>>()).expect("seven columns");
            let params: Value = serde_json::from_str(params).unwrap();
            let section = json!({ "type": name, "params": params });
            let Config { rule } = serde_json::from_value(section).unwrap();
            let rule = rule.expect("a type");
            let total = match &rule {
                Rule::WarmupDecayLr(p) => p.total_num_steps,
                Rule::WarmupCosineLr(p) => p.total_num_steps,
                _ => TotalSteps::Steps(0),
            };
            let TotalSteps::Steps(total) = total else { panic!("{line}") };
            let number = |text: &str| text.parse::<f64>().unwrap();
            let found = rates(&rule, total, step.parse().unwrap(), number(base));
            close(found.lr, number(lr), line);
            // 0.9 is what the optimizer of the trace was made with.
            close(found.betas.map_or(0.9, |(beta, _)| beta), number(beta), line);
            assert!(found.betas.is_none_or(|(_, second)| second == 0.99));
            rows += 1;
        }
        assert_eq!(rows, 13 * 26);
    }

    /// By trying every step, for cycles, intervals and rates of all sorts.
    #[test]
    fn the_step_at_which_the_first_beta_passes_one() {
        for size in [1, 7, 20] {
            for interval in [0, 1, 10] {
                for rate in [0.0, 0.001, 0.02, 3.0] {
                    for max in [0.0, 0.5, 0.95] {
                        for moves in [true, false] {
                            let section = json!({"type": "OneCycle", "params": {
                                "cycle_min_lr": 0.001, "cycle_max_lr": 0.1, "cycle_first_step_size": size,
                                "decay_step_size": interval, "decay_mom_rate": rate, "cycle_max_mom": max,
                                "cycle_momentum": moves,
                            }});
                            let Config { rule } = serde_json::from_value(section).unwrap();
                            let rule = rule.expect("a type");
                            let Rule::OneCycle(p) = &rule else { panic!("it is OneCycle") };
                            let beta = |step| {
                                rates(&rule, 0, step, 0.1).betas.map_or(0.0, |(beta, _)| beta)
                            };
                            let tried = (0..20_000).find(|&step| beta(step) >= 1.0);
                            assert_eq!(first_beta_of_one(p), tried, "{p:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_optimizers_rate_where_it_is_asked_for() {
        let of = |section: Value, base: f64| {
            let Config { rule } = serde_json::from_value(section).unwrap();
            let rule = rule.expect("a type");
            rates(&rule, 100, 50, base).lr
        };
        assert_eq!(of(json!({"type": "WarmupLR", "params": {"warmup_num_steps": 9}}), 0.3), 0.3);
        let decay = |max: Value| json!({"type": "WarmupDecayLR", "params": {"warmup_num_steps": 10, "warmup_max_lr": max}});
        close(of(decay(Value::Null), 0.9), 0.9 * 51.0 / 90.0, "null");
        close(
            of(json!({"type": "WarmupDecayLR", "params": {"warmup_num_steps": 10}}), 0.9),
            0.001 * 51.0 / 90.0,
            "left out",
        );
    }
}
