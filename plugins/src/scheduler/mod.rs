//! `scheduler`: the learning rate over the steps.
//!
//! The schedules are DeepSpeed's, to the digit; see each type's params. A rate is a pure function of
//! the completed optimizer steps, so there is nothing to save, and steps that were skipped do not count.
mod config;
pub mod cycle;
mod params;
mod rates;
pub mod warmup;

pub use config::{Config, Rule};
pub use params::{
    Auto, LrRangeTest, OneCycle, TotalSteps, WarmupCosineLr, WarmupDecayLr, WarmupLr,
};
pub use rates::rates;

use rates::first_beta_of_one;

use crate::words::{number, steps};
use trainyard::{
    BoxError, BuildContext, Context, Invalid, LearningRate, Outline, Parts, PluginSpec, Rates,
    Section,
};

/// A configuration with this plugin.
pub const EXAMPLE: &str = r#"{
    "scheduler": {
        "type": "WarmupDecayLR",
        "params": { "warmup_max_lr": 0.001, "warmup_num_steps": 10, "total_num_steps": 100 }
    }
}"#;

/// The section `scheduler`.
#[derive(Debug)]
pub struct Scheduler;

impl Section for Scheduler {
    const KEYS: &'static [&'static str] = &["scheduler"];
    type Config = Config;

    fn outline(
        Config { rule }: &Config,
        context: &Context,
        outline: &mut Outline,
    ) -> Result<(), BoxError> {
        let Some(rule) = rule.clone() else {
            outline.describe("passed over: it has no `type`");
            return Ok(());
        };
        let total = match &rule {
            Rule::WarmupDecayLr(p) => length(p.total_num_steps, context)?,
            Rule::WarmupCosineLr(p) => length(p.total_num_steps, context)?,
            _ => 0,
        };
        outline.describe(describe(&rule, total));
        if let Some(step) = leaves_range(&rule, context.total_steps) {
            outline.warn(format!(
                "from step {step} on the first beta is 1 or more, with which momentum never forgets (decay_mom_rate)"
            ));
        }
        outline.learning_rate(Course { rule, total })
    }
}

/// The outline has the learning rate, and so all that there is.
impl PluginSpec for Scheduler {
    fn build(_: &Config, _: &BuildContext, _: &mut Parts) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The learning rate over the run.
struct Course {
    rule: Rule,
    total: u64,
}

impl LearningRate for Course {
    fn at(&self, step: u64, base: f64) -> Rates {
        rates(&self.rule, self.total, step, base)
    }
}

/// The step of the run, of `total` steps, from which on a beta is no share any more.
fn leaves_range(rule: &Rule, total: Option<u64>) -> Option<u64> {
    let Rule::OneCycle(p) = rule else { return None };
    first_beta_of_one(p).filter(|step| total.is_none_or(|total| *step < total))
}

/// The step at which the schedule ends. Where that is before the end of its warm-up, its description says so.
fn length(total: TotalSteps, context: &Context) -> Result<u64, Invalid> {
    match total {
        TotalSteps::Steps(steps) => Ok(steps),
        TotalSteps::Auto(_) => context.total_steps.ok_or_else(|| {
            Invalid::at(
                "params.total_num_steps",
                "total_num_steps = \"auto\" needs the length of the run, which is not known; \
                 set training.total_steps, or a number here",
            )
        }),
    }
}

/// The schedule in words.
fn describe(rule: &Rule, total: u64) -> String {
    let top = |lr: Option<f64>| lr.map_or("the optimizer's rate".to_owned(), number);
    match rule {
        Rule::WarmupLr(p) => format!(
            "WarmupLR: {} to {} in {}",
            number(p.warmup_min_lr),
            top(p.warmup_max_lr),
            steps(p.warmup_num_steps)
        ),
        Rule::WarmupDecayLr(p) => {
            let (min, warmup) = (number(p.warmup_min_lr), p.warmup_num_steps);
            let up = format!("{min} to {} in {}", top(p.warmup_max_lr), steps(warmup));
            match total < warmup {
                true => format!(
                    "WarmupDecayLR: {up}, {min} from then on, since step {total} is among them"
                ),
                false => format!("WarmupDecayLR: {up}, back to {min} at step {total}"),
            }
        }
        Rule::WarmupCosineLr(p) => {
            let (last, warmup) = (number(p.cos_min_ratio), p.warmup_num_steps);
            let from = match p.warmup_min_ratio {
                0.0 => String::new(),
                ratio => format!("from {} of the optimizer's rate ", number(ratio)),
            };
            let to = if from.is_empty() { "the optimizer's rate" } else { "all of it" };
            let up = format!("WarmupCosineLR: {from}to {to} in {}", steps(warmup));
            match total < warmup {
                true => {
                    format!("{up}, {last} of it from then on, since step {total} is among them")
                }
                false => format!("{up}, to {last} of it at step {total}"),
            }
        }
        Rule::LrRangeTest(p) => format!(
            "LRRangeTest: from {}, {} times that more every {}",
            number(p.lr_range_test_min_lr),
            number(p.lr_range_test_step_rate),
            steps(p.lr_range_test_step_size),
        ),
        Rule::OneCycle(p) => {
            let (first, second) = (p.cycle_first_step_size, p.cycle_second_step_size);
            let after = match (p.decay_lr_rate, p.decay_step_size) {
                (0.0, _) | (_, 0) => String::new(),
                (rate, size) => {
                    format!(", divided by 1 + {} n after n x {} more", number(rate), steps(size))
                }
            };
            let momentum = match p.cycle_momentum {
                true => format!(
                    "; of betas, the first goes from {} to {} and back, the second is 0.99",
                    number(p.cycle_max_mom),
                    number(p.cycle_min_mom),
                ),
                false => String::new(),
            };
            format!(
                "OneCycle: {min} to {} in {}, back to {min} in {}{after}{momentum}",
                number(p.cycle_max_lr),
                steps(first),
                second.unwrap_or(first),
                min = number(p.cycle_min_lr),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(section: &str, total_steps: Option<u64>) -> Result<(), BoxError> {
        let config = serde_json::from_str(section)?;
        let context = Context { total_steps, ..Context::default() };
        Scheduler::outline(&config, &context, &mut Outline::default())
    }

    #[test]
    fn the_length_may_come_from_the_run() {
        for params in ["{}", r#"{ "total_num_steps": "auto" }"#] {
            let section = format!(r#"{{ "type": "WarmupCosineLR", "params": {params} }}"#);
            build(&section, Some(5)).unwrap();
            let error = build(&section, None).unwrap_err().downcast::<Invalid>().unwrap();
            assert_eq!(error.path, "params.total_num_steps");
        }
        build(r#"{ "type": "WarmupLR" }"#, None).unwrap();
    }

    /// The beta of 0.95 passes 1 behind 2.63 intervals of 10 steps, which follow a cycle of 40.
    #[test]
    fn a_beta_that_leaves_its_range_in_the_run_is_told_by_step() {
        let said = |more: &str, total_steps| {
            let section = format!(
                r#"{{ "type": "OneCycle", "params": {{ "cycle_min_lr": 0.001, "cycle_max_lr": 0.05,
                    "cycle_first_step_size": 20, "decay_step_size": 10, "cycle_min_mom": 0.85,
                    "cycle_max_mom": 0.95 {more} }} }}"#
            );
            let Config { rule } = serde_json::from_str(&section).unwrap();
            leaves_range(rule.as_ref().unwrap(), total_steps)
        };
        let decay = r#", "decay_mom_rate": 0.02"#;
        assert_eq!(said(decay, Some(400)), Some(67));
        assert_eq!((said(decay, Some(68)), said(decay, Some(67))), (Some(67), None));
        assert_eq!(said(decay, None), Some(67));
        assert_eq!(said(r#", "decay_mom_rate": 0.02, "cycle_momentum": false"#, None), None);
        assert_eq!(said("", None), None);
    }

    #[test]
    fn in_words() {
        for (section, expected) in [
            (
                r#"{ "type": "WarmupDecayLR", "params": { "warmup_num_steps": 10, "total_num_steps": 5 } }"#,
                "WarmupDecayLR: 0 to 0.001 in 10 steps, 0 from then on, since step 5 is among them",
            ),
            (
                r#"{ "type": "WarmupCosineLR", "params": { "warmup_num_steps": 9, "total_num_steps": 5 } }"#,
                "WarmupCosineLR: to the optimizer's rate in 9 steps, 0.0001 of it from then on, since step 5 is \
                 among them",
            ),
            (
                r#"{ "type": "WarmupCosineLR", "params": { "warmup_num_steps": 1, "warmup_min_ratio": 0.1 } }"#,
                "WarmupCosineLR: from 0.1 of the optimizer's rate to all of it in 1 step, to 0.0001 of it at step 5",
            ),
            (
                r#"{ "type": "OneCycle", "params": {
                    "cycle_min_lr": 1, "cycle_max_lr": 2, "cycle_momentum": false,
                    "decay_lr_rate": 0.5, "decay_step_size": 10
                } }"#,
                "OneCycle: 1 to 2 in 2000 steps, back to 1 in 2000, divided by 1 + 0.5 n after n x 10 steps more",
            ),
            (
                r#"{ "type": "OneCycle", "params": { "cycle_min_lr": 0.001, "cycle_max_lr": 0.1 } }"#,
                "OneCycle: 0.001 to 0.1 in 2000 steps, back to 0.001 in 2000; of betas, the first goes from 0.9 \
                 to 0.8 and back, the second is 0.99",
            ),
        ] {
            let config: Config = serde_json::from_str(section).unwrap();
            assert_eq!(describe(config.rule.as_ref().unwrap(), 5), expected);
        }
    }
}
