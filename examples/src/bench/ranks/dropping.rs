//! How much of what layer dropping saves on one rank it saves on two.
//!
//! Four arms: two ranks without dropping and with theta held at 0.5 and shared gates, one rank without and
//! with. Gates depend on the seed and the step, so both numbers of ranks draw the same.
use super::super::{Benchmark, Figure, Target};
use super::team::{Team, Ties, Turn};
use super::{about, order, patience, sizes};
use crate::bench::Setting;
use crate::statistics::{mean, median};
use serde_json::json;
use trainyard::BoxError;

pub const PLD_SAVING_TWO_RANKS_SHARE: Benchmark = Benchmark {
    name: "pld_saving_two_ranks_share",
    about: "time that layer dropping saves on two ranks as a part of what it saves on one",
    unit: "ratio",
    target: Target::AtLeast(0.9),
    run,
};

/// Half the width of the 95 % interval at which there have been rounds enough.
const SPREAD: f64 = 0.05;

/// Steps of an arm in its turn.
const STEPS: usize = 2;

/// Two ranks without dropping and with it, one rank without and with.
type Round = [Turn; 4];

fn run(setting: &Setting) -> Result<Figure, BoxError> {
    let setting = sizes(setting);
    let dropping = json!({ "progressive_layer_drop": {
        "enabled": true, "schedule": "constant", "theta": 0.5, "ranks": "shared",
    }});
    let team = |ranks, sections| Team::training(ranks, Ties::Connected, &setting, sections);
    let mut teams =
        [team(2, json!({}))?, team(2, dropping.clone())?, team(1, json!({}))?, team(1, dropping)?];
    let round = |number| {
        let mut turns = Round::default();
        for arm in order(turns.len(), number) {
            turns[arm] = teams[arm].step(STEPS)?;
        }
        let [_, two, _, one] = turns.map(|turn| turn.depth);
        match two == one {
            true => Ok(turns),
            false => Err(format!("two ranks ran {two} blocks and one rank {one}").into()),
        }
    };
    let name = PLD_SAVING_TWO_RANKS_SHARE.name;
    let share = |some: &[Round]| {
        let [two, one] = savings(some);
        two / one
    };
    let patience = patience(name, &setting, SPREAD, 4);
    let found = patience.rounds(round, undisturbed, share)?;
    let kept = &found.counted;
    let of = |arm: usize, what: fn(&Turn) -> f64| mean(kept.iter().map(|turns| what(&turns[arm])));
    let [off, on, single_off, single_on] = [0, 1, 2, 3].map(|arm| 1e3 * of(arm, |t| t.seconds));
    let [two, one] = savings(kept);
    let detail = format!(
        "two ranks {off:.1} ms off, {on:.1} on, saved {two:.4}; one rank {single_off:.1} off, \
         {single_on:.1} on, saved {one:.4}; realised depth {:.2} of {}; a rank gives {:.1} MB off and {:.1} \
         on a step to be summed; means of {} rounds of {STEPS} steps, without {} in which the machine was \
         busy; {}{}",
        of(1, |turn| turn.depth),
        setting.model.layers,
        of(0, |turn| turn.bytes) / 1e6,
        of(1, |turn| turn.bytes) / 1e6,
        kept.len(),
        found.all.len() - kept.len(),
        about(&setting),
        found.noise(),
    );
    let value = share(kept);
    Ok(Figure { value, interval: found.interval, settled: found.settled, detail })
}

/// What dropping saves of the time on two ranks and on one, from means: the depth is drawn.
fn savings(rounds: &[Round]) -> [f64; 2] {
    let seconds = |arm: usize| mean(rounds.iter().map(|turns| turns[arm].seconds));
    [1.0 - seconds(1) / seconds(0), 1.0 - seconds(3) / seconds(2)]
}

/// The rounds that took no longer than 1.25 of the median one; which arm was held up makes no difference.
fn undisturbed(rounds: &[Round]) -> Vec<Round> {
    let total = |round: &Round| round.iter().map(|turn| turn.seconds).sum::<f64>();
    let most = 1.25 * median(rounds.iter().map(total));
    rounds.iter().filter(|round| total(round) <= most).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(seconds: [f64; 4]) -> Round {
        seconds.map(|seconds| Turn { seconds, ..Turn::default() })
    }

    #[test]
    fn savings_by_hand() {
        // The weather slows a whole round, the drawn depth only the arms that drop.
        let rounds = [round([4.0, 3.0, 2.0, 1.5]), round([8.0, 7.0, 4.0, 3.0])];
        let [two, one] = savings(&rounds);
        assert!((two - (1.0 - 10.0 / 12.0)).abs() < 1e-12 && (one - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_disturbed_round_does_not_count() {
        let quiet = round([4.0, 3.0, 2.0, 1.5]);
        for arm in 0..4 {
            let mut held_up = quiet;
            held_up[arm].seconds += 5.0;
            assert_eq!(undisturbed(&[quiet, held_up, quiet]), [quiet; 2]);
        }
    }
}
