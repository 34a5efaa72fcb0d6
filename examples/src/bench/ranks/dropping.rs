//! How much of what layer dropping saves on one rank it saves on two.
//!
//! Four arms: two ranks without dropping and with theta held at 0.5 and shared gates, one rank without and
//! with. Gates depend on the seed and the step, so both numbers of ranks draw the same.
use super::super::{Benchmark, Figure, Target};
use super::team::{Team, Ties, Turn};
use super::{about, patience, sizes};
use crate::bench::Setting;
use serde_json::json;
use trainyard::BoxError;
use trainyard_figures::statistics::{mean, median, slope};

pub const PLD_SAVING_TWO_RANKS_SHARE: Benchmark = Benchmark {
    name: "pld_saving_two_ranks_share",
    about: "time that layer dropping saves on two ranks as a part of what it saves on one",
    unit: "ratio",
    target: Target::AtLeast(0.9),
    run,
};

/// Half the width of the 95 % interval at which there have been rounds enough.
const SPREAD: f64 = 0.05;

/// Orders in which the arms take their turns: those that are compared are always neighbours.
const ORDERS: [[usize; 4]; 4] = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]];

/// A step of each arm: two ranks without dropping and with it, one rank without and with.
type Round = [Turn; 4];

fn run(setting: &Setting) -> Result<Figure, BoxError> {
    let setting = sizes(setting);
    let layers = setting.model.layers as f64;
    let dropping = json!({ "progressive_layer_drop": {
        "enabled": true, "schedule": "constant", "theta": 0.5, "ranks": "shared",
    }});
    let team = |ranks, sections| Team::training(ranks, Ties::Connected, &setting, sections);
    let mut teams =
        [team(2, json!({}))?, team(2, dropping.clone())?, team(1, json!({}))?, team(1, dropping)?];
    let round = |number: usize| {
        let mut turns = Round::default();
        for arm in ORDERS[number % ORDERS.len()] {
            turns[arm] = teams[arm].step(1)?;
        }
        let [_, two, _, one] = turns.map(|turn| turn.depth);
        match two == one {
            true => Ok(turns),
            false => Err(format!("two ranks ran {two} blocks and one rank {one}").into()),
        }
    };
    let name = PLD_SAVING_TWO_RANKS_SHARE.name;
    let share = |some: &[Round]| {
        let [two, one] = savings(some, layers);
        two / one
    };
    let patience = patience(name, &setting, SPREAD, ORDERS.len());
    let found = patience.rounds(round, <[_]>::to_vec, share)?;
    let all = &found.all;
    let of = |arm: usize, what: fn(&Turn) -> f64| all.iter().map(move |turns| what(&turns[arm]));
    let [off, on, single_off, single_on] =
        [0, 1, 2, 3].map(|arm| 1e3 * median(of(arm, |turn| turn.seconds)));
    let [two, one] = savings(all, layers);
    let detail = format!(
        "every layer less, two ranks would save {two:.4} of the time, one rank {one:.4}; two ranks {off:.1} \
         ms off, {on:.1} on, one rank {single_off:.1} off, {single_on:.1} on; realised depth {:.2} of \
         {layers}; a rank gives {:.1} MB off and {:.1} on a step to be summed; medians, and means of depth \
         and bytes, of {} steps; {}{}",
        mean(of(1, |turn| turn.depth)),
        mean(of(0, |turn| turn.bytes)) / 1e6,
        mean(of(1, |turn| turn.bytes)) / 1e6,
        all.len(),
        about(&setting),
        found.noise(),
    );
    let value = share(all);
    Ok(Figure { value, interval: found.interval, settled: found.settled, detail })
}

/// The part of the time that would go if every layer were skipped, on two ranks and on one: the slope of
/// what a step with dropping saves, against its neighbour without, over the part of the layers that it
/// skipped. Thus neither the drawn depths nor steps that were held up weigh on it.
fn savings(rounds: &[Round], layers: f64) -> [f64; 2] {
    let saving = |off: usize, on: usize| {
        slope(rounds.iter().map(|turns| {
            let saved = 1.0 - turns[on].seconds / turns[off].seconds;
            (1.0 - turns[on].depth / layers, saved)
        }))
    };
    [saving(0, 1), saving(2, 3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(seconds: [f64; 4], depth: f64) -> Round {
        seconds.map(|seconds| Turn { seconds, depth, bytes: 0.0 })
    }

    #[test]
    fn savings_by_hand() {
        // Of 4 layers 1, 2, 0, 2 and 4 were skipped; each takes 0.2 of the time on two ranks, 0.1 on one.
        let rounds = [
            round([1.0, 0.8, 1.0, 0.9], 3.0),
            round([2.0, 1.2, 2.0, 1.6], 2.0),
            round([1.0, 1.3, 1.0, 1.1], 4.0),
            round([1.0, 0.6, 1.0, 0.8], 2.0),
            // Held up.
            round([1.0, 3.0, 5.0, 0.6], 0.0),
        ];
        let [two, one] = savings(&rounds, 4.0);
        assert!((two - 0.8).abs() < 1e-12 && (one - 0.4).abs() < 1e-12, "{two} {one}");
    }

    #[test]
    fn neighbours_are_compared_and_every_arm_has_its_turn_in_every_place() {
        for order in ORDERS {
            let place = |arm| order.iter().position(|&a| a == arm).expect("every arm has a turn");
            assert!(place(0).abs_diff(place(1)) == 1 && place(2).abs_diff(place(3)) == 1);
        }
        for place in 0..4 {
            let mut arms = ORDERS.map(|order| order[place]);
            arms.sort_unstable();
            assert_eq!(arms, [0, 1, 2, 3]);
        }
    }
}
