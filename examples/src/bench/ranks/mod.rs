//! What training on several ranks takes, each rank a process of its own with one thread, on Gloo.
//!
//! The ranks live as long as their benchmark and wait for their turn at their standard input, so that only
//! one arm computes at a time. Those of ours are this program itself, started with a variable of its own.
mod buckets;
mod dropping;
mod prediction;
mod speed;
mod team;
mod worker;

pub use buckets::compare as compare_buckets;
pub use worker::serve_if_asked;

pub(super) use dropping::PLD_SAVING_TWO_RANKS_SHARE;
pub(super) use prediction::PLAN_ERROR;
pub(super) use speed::{DDP_VS_SINGLE, DDP_VS_TORCH};

use super::rounds::Patience;
use super::setting::{Effort, Setting};
use trainyard_models::BertConfig;

/// What every rank trains: 12 layers of 256 on 8 sequences of 128 tokens, of a vocabulary small enough for
/// the layers to count.
fn sizes(setting: &Setting) -> Setting {
    if *setting == Setting::quick() {
        return setting.clone();
    }
    let model = BertConfig { vocabulary: 8192, ..BertConfig::default() };
    Setting { model, batch: 8, time: 128, ..setting.clone() }
}

/// The sizes, for people.
fn about(setting: &Setting) -> String {
    let Setting { model, batch, time, .. } = setting;
    let (layers, hidden) = (model.layers, model.hidden);
    format!(
        "{layers} layers of {hidden}, batch {batch} of {time} tokens on each rank, one thread each"
    )
}

/// When there have been rounds enough of so many arms. `spread`: half the width of the 95 % interval that
/// the figure may have.
fn patience(name: &'static str, setting: &Setting, spread: f64, arms: usize) -> Patience {
    // A round takes seconds.
    let effort = Effort { rounds: setting.effort.rounds.min(15), ..setting.effort };
    Patience { name, effort, spread, orders: arms }
}

/// The arms 0 to `arms` - 1 in the order of round `number`: each has its turn in every place equally often,
/// and neighbours change places.
fn order(arms: usize, number: usize) -> impl Iterator<Item = usize> {
    (0..arms).map(move |turn| {
        let turn = if (number / arms) % 2 == 1 { arms - 1 - turn } else { turn };
        (turn + number) % arms
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_has_its_turn_in_every_place() {
        for first in [0, 3] {
            let mut places = [[0; 3]; 3];
            for number in first..first + 3 {
                let order: Vec<_> = order(3, number).collect();
                order.iter().enumerate().for_each(|(place, &arm)| places[arm][place] += 1);
            }
            assert_eq!(places, [[1; 3]; 3]);
        }
        assert_eq!(order(2, 0).chain(order(2, 2)).collect::<Vec<_>>(), [0, 1, 1, 0]);
    }
}
