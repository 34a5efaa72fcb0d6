//! Layer dropping in one line.
use super::config::{Config, Course, Depth, Gamma, Redraw, Unit};
use super::promise::{expected_depth, mean_expected_depth, saved};
use super::schedule::{Theta, keep_probability};
use super::sites::Sites;
use crate::words::number;
use trainyard::{Context, Schedule};

/// What is dropped, by which schedule, and the work that it saves.
pub(super) fn line(config: &Config, theta: &Theta, sites: &Sites, context: &Context) -> String {
    let mut parts = vec![blocks(sites, context), draws(config, context), course(config, theta)];
    parts.push(promise(theta, sites.blocks, context.total_steps));
    parts.join("; ")
}

/// Which blocks, and what a closed gate leaves out.
fn blocks(sites: &Sites, context: &Context) -> String {
    let (all, gated, open) = (context.blocks.len(), sites.blocks, sites.with_branches);
    let what =
        if gated == all { format!("{gated} blocks") } else { format!("{gated} of {all} blocks") };
    let how = match gated - open {
        0 => "by their residual branches: a closed gate leaves x + f(x) at x".to_owned(),
        n if n == gated => "whole: a closed gate passes the block's input on".to_owned(),
        n => return format!("gates {what}: {open} by their residual branches, {n} whole"),
    };
    format!("gates {what} {how}")
}

/// How likely each gated block runs, first to last, once the schedule has settled.
pub(super) fn keeps(config: &Config, theta: &Theta, sites: &Sites) -> String {
    let keep = |block| keep_probability(config.depth, block, sites.blocks, theta.settled());
    let short = |probability: f64| number((1000.0 * probability).round() / 1000.0);
    let each: Vec<_> = (1..=sites.blocks).map(|block| short(keep(block))).collect();
    match config.depth {
        Depth::Uniform => format!("once settled, each block runs with probability {}", each[0]),
        Depth::Linear => {
            format!(
                "once settled, the blocks run with probability {}, first to last",
                each.join(", ")
            )
        }
    }
}

/// What to know of blocks that are gated whole, whose normalisation is not seen from here.
pub(super) fn post_norm(sites: &Sites) -> Option<&'static str> {
    (sites.with_branches < sites.blocks).then_some(
        "a block whose normalisation comes behind the addition (post-LN, as in the original BERT) passes \
         on what is not normalised by it where it is dropped: a pretrained model of such blocks loses \
         quality, and more so the smaller theta is",
    )
}

/// What one draw decides on, how often it is made and by whom.
fn draws(config: &Config, context: &Context) -> String {
    let unit = match config.gate {
        Unit::Block => "a draw for each block",
        Unit::Sublayer => "a draw for each branch",
    };
    let redraw = match config.redraw {
        Redraw::MicroBatch => "in every micro-batch",
        Redraw::Step => "in every step",
    };
    let depth = match config.depth {
        Depth::Linear => "deeper blocks dropped more",
        Depth::Uniform => "all blocks dropped alike",
    };
    let ranks = match context.world.world_size {
        0 | 1 => String::new(),
        n => format!(", {:?} over {n} ranks", config.ranks).to_lowercase(),
    };
    format!("{unit} {redraw}, {depth}{ranks}")
}

fn course(config: &Config, theta: &Theta) -> String {
    let settled = config.theta;
    let course = match config.schedule {
        Course::Exponential => {
            let gamma = match config.gamma {
                Gamma::Value(gamma) => gamma,
                Gamma::Auto(_) => rounded(theta.gamma().unwrap_or_default()),
            };
            format!("theta falls from 1 to {settled} exponentially with gamma {gamma}")
        }
        Course::Constant => format!("theta is {settled}"),
        Course::Linear => {
            let share = percent(config.ramp);
            format!("theta falls from 1 to {settled} over the first {share} of the run")
        }
        Course::Decreasing => format!("theta rises from {settled} to 1 over the run"),
    };
    match config.full_depth_tail {
        0.0 => course,
        tail => format!("{course}, full depth in the last {}", percent(tail)),
    }
}

/// A number that nobody wrote, in six digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn promise(theta: &Theta, blocks: usize, total_steps: Option<u64>) -> String {
    let at = |theta: f64| {
        let depth = expected_depth(blocks, theta);
        (format!("{depth:.2} of {blocks}"), percent(saved(depth, blocks)))
    };
    let Some(steps) = total_steps else {
        let (depth, saved) = at(theta.settled());
        return format!(
            "expected depth {depth} once settled, which saves {saved} of the blocks' work"
        );
    };
    let (depth, at_end) = at(theta.at(steps.saturating_sub(1)));
    let mean = mean_expected_depth(theta, blocks, steps);
    let over_run = percent(saved(mean, blocks));
    format!(
        "expected depth {depth} at the end and {mean:.2} on average over {steps} steps, which saves \
         {over_run} of the blocks' work over the run and {at_end} at the end"
    )
}

/// What to say of a theta that does not get half of its way within the run.
pub(super) fn too_slow(config: &Config, theta: &Theta, total_steps: Option<u64>) -> Option<String> {
    let (steps, gamma, settled) = (total_steps?, theta.gamma()?, config.theta);
    let at_end = theta.at(steps.saturating_sub(1));
    (at_end - settled > (1.0 - settled) / 2.0).then(|| {
        format!(
            "gamma = {gamma} takes theta from 1 to {at_end:.3} in the {steps} steps of this run, and \
             it is to settle at {settled}; \"auto\" chooses a gamma by the run's length"
        )
    })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard::{BlockInfo, Invalid};

    fn describe(config: Config, total_steps: Option<u64>) -> Result<String, Invalid> {
        let sublayers = vec!["attention".to_owned(), "feed_forward".to_owned()];
        let block = |i: usize| BlockInfo { name: i.to_string(), sublayers: sublayers.clone() };
        let blocks = (0..12).map(block).collect();
        let context = Context { blocks, total_steps, ..Context::default() };
        let sites = Sites::new(&context.blocks, config.layers.as_ref(), config.gate)?;
        Ok(line(&config, &Theta::new(&config, total_steps)?, &sites, &context))
    }

    #[test]
    fn a_run_too_short_for_gamma_is_warned_of() -> Result<(), Invalid> {
        let config = Config::default();
        let at = |steps| Ok::<_, Invalid>(too_slow(&config, &Theta::new(&config, steps)?, steps));
        // exp(-0.001 t) is a half after 693 steps.
        assert_eq!((at(None)?, at(Some(695))?), (None, None));
        assert!(at(Some(694))?.is_some());
        assert_eq!(
            at(Some(20))?.as_deref(),
            Some(
                "gamma = 0.001 takes theta from 1 to 0.991 in the 20 steps of this run, and it is to \
                 settle at 0.5; \"auto\" chooses a gamma by the run's length"
            )
        );
        Ok(())
    }

    #[test]
    fn keep_probabilities_block_by_block() -> Result<(), Invalid> {
        let block = |i: usize| BlockInfo { name: i.to_string(), sublayers: vec![] };
        let blocks: Vec<_> = (0..3).map(block).collect();
        let sites = Sites::new(&blocks, None, Unit::Block)?;
        let told = |depth| {
            let config = Config { depth, ..Config::default() };
            Ok::<_, Invalid>(keeps(&config, &Theta::new(&config, None)?, &sites))
        };
        assert_eq!(
            told(Depth::Linear)?,
            "once settled, the blocks run with probability 0.833, 0.667, 0.5, first to last"
        );
        assert_eq!(told(Depth::Uniform)?, "once settled, each block runs with probability 0.667");
        Ok(())
    }

    /// Whole blocks are told apart from those with branches, in whatever mixture.
    #[test]
    fn whole_blocks_and_branches() -> Result<(), Invalid> {
        let said = |branches: &[usize]| {
            let block = |n: &usize| BlockInfo {
                name: "a".to_owned(),
                sublayers: (0..*n).map(|i| i.to_string()).collect(),
            };
            let all = branches.iter().map(block).collect();
            let context = Context { blocks: all, ..Context::default() };
            let sites = Sites::new(&context.blocks, None, Unit::Block)?;
            Ok::<_, Invalid>((blocks(&sites, &context), post_norm(&sites).is_some()))
        };
        let (mixed, warned) = said(&[2, 0, 2, 0])?;
        assert_eq!(mixed, "gates 4 blocks: 2 by their residual branches, 2 whole");
        assert!(warned);
        assert!(said(&[0, 0])?.1);
        assert!(!said(&[2, 2])?.1);
        Ok(())
    }

    #[test]
    fn lines() -> Result<(), Invalid> {
        assert_eq!(
            describe(Config::default(), None)?,
            "gates 12 blocks by their residual branches: a closed gate leaves x + f(x) at x; a draw for \
             each block in every micro-batch, deeper blocks dropped more; theta falls from 1 to 0.5 \
             exponentially with gamma 0.001; expected depth 8.75 of 12 once settled, which saves 27.1 % \
             of the blocks' work"
        );
        let config = Config { schedule: Course::Linear, full_depth_tail: 0.5, ..Config::default() };
        // theta over 100 steps: 1 to 0.55, then 0.5 for 40, then 1 for 50.
        assert_eq!(
            describe(config, Some(100))?,
            "gates 12 blocks by their residual branches: a closed gate leaves x + f(x) at x; a draw for \
             each block in every micro-batch, deeper blocks dropped more; theta falls from 1 to 0.5 over \
             the first 10.0 % of the run, full depth in the last 50.0 %; expected depth 12.00 of 12 at \
             the end and 10.55 on average over 100 steps, which saves 12.1 % of the blocks' work over \
             the run and 0.0 % at the end"
        );
        Ok(())
    }
}
