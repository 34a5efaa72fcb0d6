//! What an optimizer's update costs, beside PyTorch's fused AdamW and a LAMB that people use.
//!
//! The parameters are those of a BERT, with gradients that stay the same. An update moves bytes, so its
//! time says how near to the memory's speed it is; how fast that memory is, PyTorch's own kernel says in the
//! same run.
use super::optimizer_arms::{Arm, Group, Sizes};
use super::peer::Peer;
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use tracing::info;
use trainyard::BoxError;
use trainyard_figures::statistics::{bootstrap, median};

pub(super) const ADAMW_VS_TORCH: Benchmark = Benchmark {
    name: "adamw_vs_torch",
    about: "time of our AdamW as a part of that of PyTorch's fused AdamW",
    unit: "ratio",
    target: Target::AtMost(1.03),
    run: |setting| compare(&Sizes::small(setting), setting, &[Arm::adamw(), Arm::peer("adamw")]),
};

pub(super) const LAMB_VS_PEER: Benchmark = Benchmark {
    name: "lamb_vs_peer",
    about: "time of our LAMB as a part of that of pytorch_optimizer's",
    unit: "ratio",
    target: Target::AtMost(0.33),
    run: |setting| compare(&Sizes::small(setting), setting, &[Arm::lamb(), Arm::peer("lamb")]),
};

pub(super) const LAMB_VS_ADAMW: Benchmark = Benchmark {
    name: "lamb_vs_adamw",
    about: "time of our LAMB in times of our AdamW",
    unit: "ratio",
    target: Target::AtMost(2.0),
    run: |setting| compare(&Sizes::small(setting), setting, &[Arm::lamb(), Arm::adamw()]),
};

pub(super) const OPTIMIZER_BANDWIDTH_SHARE: Benchmark = Benchmark {
    name: "optimizer_bandwidth_share",
    about: "bytes a second that the slower of our AdamW and LAMB moves, as a part of PyTorch's fused AdamW",
    unit: "ratio",
    target: Target::AtLeast(0.9),
    run: bandwidth_share,
};

/// Calls in a repetition, of which the first warms up and the median counts.
const CALLS: usize = 6;

/// Half the width of the 95 % interval, as a part of the value, that a value may have.
const SPREAD: f64 = 0.05;

/// What was measured: for each repetition the seconds of an update of each arm.
struct Times<'a> {
    arms: &'a [Arm],
    seconds: Vec<Vec<f64>>,
    /// Parameters, and tensors that they are in.
    elements: i64,
    tensors: usize,
    peer: String,
}

impl<'a> Times<'a> {
    fn measure(sizes: &Sizes, setting: &Setting, arms: &'a [Arm]) -> Result<Self, BoxError> {
        let shapes = sizes.shapes();
        let elements = shapes.iter().map(|shape| shape.iter().product::<i64>()).sum();
        let text =
            |shape: &Vec<i64>| shape.iter().map(i64::to_string).collect::<Vec<_>>().join("x");
        let text = shapes.iter().map(text).collect::<Vec<_>>().join(",");
        let theirs = arms.iter().find_map(|arm| match arm {
            Arm::Peer(name) => Some(*name),
            _ => None,
        });
        let mut peer =
            theirs.map(|name| Peer::start("optimizers.py", &[name, &text])).transpose()?;
        let mut group = Group::new(&shapes)?;
        let mut seconds = Vec::new();
        // The first repetition allocates.
        for repetition in 0..=setting.effort.repetitions.max(3) {
            let mut round = vec![0.0; arms.len()];
            for turn in 0..arms.len() {
                let arm = (turn + repetition) % arms.len();
                let times = match (arms[arm].clone(), &mut peer) {
                    (Arm::Adam(mut adam), _) => group.time(&mut adam, CALLS)?,
                    (Arm::Lamb(mut lamb), _) => group.time(&mut lamb, CALLS)?,
                    (Arm::Peer(name), Some(peer)) => peer.time(name, CALLS)?,
                    (Arm::Peer(name), None) => return Err(format!("no peer for {name}").into()),
                };
                round[arm] = median(times[1..].iter().copied());
            }
            seconds.push(round);
        }
        seconds.remove(0);
        let about = peer.map_or_else(String::new, |peer| format!("; {}", peer.about()));
        Ok(Times { arms, seconds, elements, tensors: shapes.len(), peer: about })
    }

    /// The median of a figure of each repetition, with its interval.
    fn figure(&self, value: impl Fn(&[f64]) -> f64) -> Figure {
        // Round by round: neighbours had the same weather.
        let of = |rounds: &[&Vec<f64>]| median(rounds.iter().map(|round| value(round)));
        let rounds: Vec<_> = self.seconds.iter().collect();
        let (value, interval) = (of(&rounds), bootstrap(&rounds, of));
        let settled = (interval.1 - interval.0) / 2.0 < SPREAD * value;
        let noise = if settled { "" } else { "; TOO NOISY: it takes a quieter machine" };
        let arm = |index: usize| {
            let mut times: Vec<_> = rounds.iter().map(|round| round[index] * 1e3).collect();
            times.sort_by(f64::total_cmp);
            let at = |quarter: usize| times[(times.len() - 1) * quarter / 4];
            let rate = self.arms[index].bytes() * self.elements as f64 / at(2) / 1e6;
            let name = self.arms[index].name();
            format!("{name} {:.2} ms ({:.2} to {:.2}; {rate:.1} GB/s)", at(2), at(1), at(3))
        };
        let arms: Vec<_> = (0..self.arms.len()).map(arm).collect();
        let detail = format!(
            "{}; medians and quartiles of {} repetitions in turn, each of {} updates; {:.1} M parameters in \
             {} tensors; {} threads each{}{noise}",
            arms.join(", "),
            rounds.len(),
            CALLS - 1,
            self.elements as f64 / 1e6,
            self.tensors,
            tch::get_num_threads(),
            self.peer,
        );
        Figure { value, interval, settled, detail }
    }
}

/// The time of the first arm as a part of the second's.
fn compare(sizes: &Sizes, setting: &Setting, arms: &[Arm]) -> Result<Figure, BoxError> {
    info!("{} and {}", arms[0].name(), arms[1].name());
    Ok(Times::measure(sizes, setting, arms)?.figure(|seconds| seconds[0] / seconds[1]))
}

fn bandwidth_share(setting: &Setting) -> Result<Figure, BoxError> {
    let arms = [Arm::peer("adamw"), Arm::adamw(), Arm::lamb()];
    info!("optimizer_bandwidth_share");
    let times = Times::measure(&Sizes::large(setting), setting, &arms)?;
    let share = |seconds: &[f64], arm: usize| {
        (arms[arm].bytes() / seconds[arm]) / (arms[0].bytes() / seconds[0])
    };
    let mut figure = times.figure(|seconds| share(seconds, 1).min(share(seconds, 2)));
    let [adamw, lamb] = [1, 2].map(|arm| times.figure(|seconds| share(seconds, arm)).value);
    figure.detail = format!("AdamW {adamw:.3}, LAMB {lamb:.3}; {}", figure.detail);
    Ok(figure)
}
