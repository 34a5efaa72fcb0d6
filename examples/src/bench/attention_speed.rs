//! What attention costs, forward and backward, beside libtorch's own kernel: 2,048 tokens, 4 heads of 64, one
//! thread, in turns in one process.
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use std::time::Instant;
use tch::{Device, Kind, Tensor};
use tracing::info;
use trainyard::BoxError;
use trainyard_figures::statistics::{bootstrap, median};
use trainyard_native::{keep_freed_memory, set_own_attention};

/// A row for a format and a length.
macro_rules! row {
    ($name:literal, $kind:expr, $time:literal, $target:literal) => {
        Benchmark {
            name: $name,
            about: "time of our attention, forward and backward, as a part of libtorch's",
            unit: "ratio",
            target: Target::AtMost($target),
            run: |setting| compare($name, $kind, $time, setting),
        }
    };
}

pub(super) const BF16_64: Benchmark = row!("attention_vs_torch_bf16_64", Kind::BFloat16, 64, 0.25);
pub(super) const BF16_128: Benchmark =
    row!("attention_vs_torch_bf16_128", Kind::BFloat16, 128, 0.30);
pub(super) const BF16_512: Benchmark =
    row!("attention_vs_torch_bf16_512", Kind::BFloat16, 512, 0.70);
pub(super) const FP32_64: Benchmark = row!("attention_vs_torch_fp32_64", Kind::Float, 64, 0.75);
pub(super) const FP32_128: Benchmark = row!("attention_vs_torch_fp32_128", Kind::Float, 128, 0.95);

const HEADS: i64 = 4;
const WIDTH: i64 = 64;

/// Half the width of the 95 % interval, as a part of the value, that a value may have.
const SPREAD: f64 = 0.05;

/// Queries, keys and values as views of one projection, and what comes back to the output.
struct Inputs {
    tensors: Vec<Tensor>,
    gradient: Tensor,
}

impl Inputs {
    fn new(tokens: i64, time: i64, kind: Kind) -> Self {
        let options = (kind, Device::Cpu);
        let projected = Tensor::randn([tokens / time, time, 3, HEADS, WIDTH], options);
        let views = projected.permute([2, 0, 3, 1, 4]).unbind(0);
        let tensors = views.iter().map(|x| x.detach().set_requires_grad(true)).collect();
        Inputs { tensors, gradient: Tensor::randn([tokens * HEADS * WIDTH], options) }
    }

    /// Seconds of a forward and a backward, without what makes a number of the output in between.
    fn time(&self, ours: bool) -> Result<f64, BoxError> {
        set_own_attention(ours)?;
        let [q, k, v] = &self.tensors[..] else { return Err("three inputs".into()) };
        let none = None::<&Tensor>;
        let start = Instant::now();
        let y = Tensor::scaled_dot_product_attention(q, k, v, none, 0.0, false, None, false);
        let forward = start.elapsed();
        // A view: either leaves its output as the next projection wants it.
        let sum = y.transpose(1, 2).reshape([-1]).dot(&self.gradient);
        let start = Instant::now();
        let found = Tensor::f_run_backward(&[sum], &self.tensors, false, false)?;
        let backward = start.elapsed();
        drop(found);
        Ok((forward + backward).as_secs_f64())
    }
}

fn compare(name: &str, kind: Kind, time: i64, setting: &Setting) -> Result<Figure, BoxError> {
    info!("{name}");
    // As in a step.
    keep_freed_memory()?;
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let quick = *setting == Setting::quick();
    let tokens = if quick { time } else { 2048 };
    let inputs = Inputs::new(tokens, time, kind);
    let mut rounds = Vec::new();
    // The first round allocates and compiles.
    for round in 0..=2 * setting.effort.repetitions.max(3) {
        let first = round % 2 == 0;
        let one = inputs.time(first)?;
        let other = inputs.time(!first)?;
        rounds.push(if first { (one, other) } else { (other, one) });
    }
    set_own_attention(true)?;
    tch::set_num_threads(threads);
    rounds.remove(0);
    // Round by round: neighbours had the same weather.
    let of = |rounds: &[(f64, f64)]| median(rounds.iter().map(|(ours, theirs)| ours / theirs));
    let (value, interval) = (of(&rounds), bootstrap(&rounds, of));
    let settled = (interval.1 - interval.0) / 2.0 < SPREAD * value;
    let [ours, theirs] =
        [0, 1].map(|side| median(rounds.iter().map(|r| if side == 0 { r.0 } else { r.1 })) * 1e3);
    let detail = format!(
        "{ours:.2} of {theirs:.2} ms, medians of {} rounds in turn; {} sequences of {time}, {HEADS} heads of \
         {WIDTH}, {kind:?}, one thread",
        rounds.len(),
        tokens / time,
    );
    Ok(Figure { value, interval, settled, detail })
}
