//! The engine's own keys: batch sizes and what a run needs.
use crate::dialect::auto::{Auto, Otherwise};
use crate::problems::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The engine's own keys of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Samples in one optimizer step, over all ranks and micro-batches.
    #[schemars(range(min = 1))]
    pub train_batch_size: Option<u64>,
    /// Samples in one forward and backward of one rank.
    #[schemars(range(min = 1))]
    pub train_micro_batch_size_per_gpu: Option<u64>,
    /// Micro-batches of one rank in one optimizer step.
    #[schemars(range(min = 1))]
    pub gradient_accumulation_steps: Option<u64>,
    /// What a run needs beyond the model: length, seed, cadence.
    pub training: Training,
    /// Which states of a run are kept, so that it goes on where it was.
    pub checkpoint: Checkpointing,
    /// Make an error of every note: of keys that are accepted and change nothing, and of what was filled
    /// in for "auto".
    pub strict: bool,
}

impl Settings {
    /// The top-level keys that [`Settings`] reads.
    pub const KEYS: &'static [&'static str] = &[
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "training",
        "checkpoint",
        "strict",
    ];

    /// Those that may be `"auto"`.
    pub(crate) const AUTOS: &'static [Auto] = &[
        Auto {
            path: "train_micro_batch_size_per_gpu",
            otherwise: Otherwise::Program { shown: "8", unless: "train_batch_size" },
            about: "the default of Hugging Face's trainer",
        },
        Auto {
            path: "train_batch_size",
            otherwise: Otherwise::LeftOut,
            about: "micro-batch times accumulation times ranks",
        },
        Auto {
            path: "gradient_accumulation_steps",
            otherwise: Otherwise::LeftOut,
            about: "follows from the batch sizes; 1 where one of them is not given",
        },
    ];
}

/// What a run needs beyond the model: length, seed, cadence.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Optimizer steps of the whole run.
    #[schemars(range(min = 1))]
    pub total_steps: Option<u64>,
    /// Length of the run in passes over the training data, in place of `total_steps`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epochs: Option<f64>,
    /// Seed of everything random: initial weights, data order, masking, dropout, gates.
    pub seed: u64,
    /// Evaluate every so many steps, and at the end; 0: only at the end.
    pub evaluate_every: u64,
    /// Use only algorithms of libtorch that give the same bits on every run with the same number of
    /// threads. An operation that has none becomes an error. Holds for the whole process.
    pub deterministic: bool,
    /// Flush denormal numbers to zero: faster where values vanish; the last digits then differ from
    /// PyTorch's, which keeps them. Holds for the whole process.
    pub flush_denormals: bool,
    /// Stop where the loss, or a gradient under a finite loss, is not finite.
    /// False: skip the update, with a warning, and go on. An overflow of float16 under a finite loss is
    /// an ordinary event and never stops a run.
    pub terminate_on_nan: bool,
    /// Keep the memory of freed CPU tensors, up to half as much again as was ever in use at once, so
    /// that a step does not ask the system for its pages anew. Holds for the whole process.
    pub keep_memory: bool,
    /// Let all threads draw the masks of dropout on CPUs, each mask from one number of libtorch's
    /// generator. False: libtorch's own, drawn by one thread. Holds for the whole process.
    pub parallel_dropout: bool,
    /// What computes `scaled_dot_product_attention` on CPUs. Holds for the whole process.
    pub attention: Attention,
}

/// Which states of a run are kept, so that it goes on where it was. Nothing is kept where neither `every_steps` nor
/// `every_seconds` is set.
// Unknown keys are the schema's to refuse: a dialect may add some that are accepted.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct Checkpointing {
    /// Folder of the checkpoints; without one, `checkpoints` in the folder that the run writes to.
    pub dir: Option<PathBuf>,
    /// Save every so many optimizer steps, and at the end; 0: not by steps.
    pub every_steps: u64,
    /// Save when so many seconds have passed since the last time, and at the end; 0: not by time.
    #[schemars(range(min = 0))]
    pub every_seconds: f64,
    /// Keep so many of the newest.
    #[schemars(range(min = 1))]
    pub keep_last: usize,
    /// Keep those of every so many steps besides, for good; 0: none.
    pub keep_every: u64,
    /// Keep the one with the least validation loss besides.
    pub best: bool,
    /// What is done with checkpoints that are found at the start.
    pub resume: Resume,
    /// Write beside the training: a step waits for a copy in memory and no more.
    pub background: bool,
}

/// What is done with checkpoints that are found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Resume {
    /// Go on from the newest that is whole; where there is none, begin.
    #[default]
    Auto,
    /// Begin; a folder that has some is refused.
    Never,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Checkpointing {
            dir: None,
            every_steps: 0,
            every_seconds: 0.0,
            keep_last: 2,
            keep_every: 0,
            best: false,
            resume: Resume::Auto,
            background: true,
        }
    }
}

impl Checkpointing {
    /// Whether anything is kept.
    pub fn enabled(&self) -> bool {
        self.every_steps > 0 || self.every_seconds > 0.0
    }
}

/// What computes `scaled_dot_product_attention` on CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Attention {
    /// Kernels of the engine's own where they are the faster ones: float32 and bf16, dropout included.
    #[default]
    Auto,
    /// Always libtorch's.
    Libtorch,
}

impl Default for Training {
    fn default() -> Self {
        Training {
            total_steps: None,
            epochs: None,
            seed: 42,
            evaluate_every: 0,
            deterministic: false,
            flush_denormals: false,
            terminate_on_nan: false,
            keep_memory: true,
            parallel_dropout: true,
            attention: Attention::Auto,
        }
    }
}

impl Training {
    /// Optimizer steps of the whole run, where `total_steps`, or `epochs` and the data's
    /// `steps_per_epoch`, give them.
    ///
    /// # Errors
    /// If both `total_steps` and `epochs` are set.
    pub fn steps(&self, steps_per_epoch: Option<u64>) -> Result<Option<u64>, Invalid> {
        match (self.total_steps, self.epochs) {
            (Some(steps), Some(epochs)) => Err(Invalid::at(
                "training.epochs",
                format!(
                    "epochs = {epochs} and total_steps = {steps} both set the length of the run; keep one"
                ),
            )),
            (Some(steps), None) => Ok(Some(steps)),
            (None, Some(epochs)) => {
                // Rounding must not add a step: 1.1 times 50 is 55.00000000000001.
                let steps = |steps: u64| (epochs * steps as f64 * (1.0 - 1e-12)).ceil() as u64;
                Ok(steps_per_epoch.map(|per_epoch| steps(per_epoch).max(1)))
            }
            (None, None) => Ok(None),
        }
    }
}

/// The batch triangle, solved: `train_batch_size = micro_batch * accumulation * world_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSizes {
    /// Samples in one optimizer step.
    pub train: u64,
    /// Samples in one forward and backward of one rank.
    pub micro_batch: u64,
    /// Micro-batches of one rank in one step.
    pub accumulation: u64,
}

impl BatchSizes {
    /// The keys that say together how large the batch is.
    pub const KEYS: [&str; 3] =
        ["train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"];

    /// The one of its [`KEYS`](Self::KEYS).
    pub(crate) fn of(&self, key: &str) -> u64 {
        match key {
            "train_batch_size" => self.train,
            "gradient_accumulation_steps" => self.accumulation,
            _ => self.micro_batch,
        }
    }

    /// Solves the triangle, with whole-number divisions; nothing given: none.
    ///
    /// # Errors
    /// If a size is 0, or the product is not the whole batch, with the numbers and the nearest batch sizes
    /// that are.
    pub fn solve(settings: &Settings, world_size: u64) -> Result<Option<BatchSizes>, Invalid> {
        let given = (
            settings.train_batch_size,
            settings.train_micro_batch_size_per_gpu,
            settings.gradient_accumulation_steps,
        );
        let each = [given.0, given.1, given.2];
        if let Some(zero) = each.iter().position(|size| *size == Some(0)) {
            let key = Self::KEYS[zero];
            return Err(Invalid::at(key, format!("{key} = 0 is not >= 1")));
        }
        let (train, micro, accumulation) = match given {
            (Some(t), Some(m), Some(a)) => (t, m, a),
            (Some(t), Some(m), None) => (t, m, t / m / world_size),
            (Some(t), None, a) => (t, t / world_size / a.unwrap_or(1), a.unwrap_or(1)),
            (None, Some(m), a) => {
                let a = a.unwrap_or(1);
                let product = m.checked_mul(a).and_then(|p| p.checked_mul(world_size));
                (product.unwrap_or(0), m, a)
            }
            (None, None, Some(accumulation)) => {
                let message = format!(
                    "gradient_accumulation_steps = {accumulation} needs a batch size beside it: set \
                     train_batch_size or train_micro_batch_size_per_gpu"
                );
                return Err(Invalid::at("gradient_accumulation_steps", message));
            }
            (None, None, None) => return Ok(None),
        };
        let sizes = BatchSizes { train, micro_batch: micro, accumulation };
        let product = micro.checked_mul(accumulation).and_then(|p| p.checked_mul(world_size));
        if train > 0 && product == Some(train) {
            return Ok(Some(sizes));
        }
        let path =
            if given.0.is_some() { "train_batch_size" } else { "train_micro_batch_size_per_gpu" };
        Err(Invalid::at(path, explain(given, train, world_size)))
    }
}

/// Why the batch does not divide, and the nearest sizes that do.
fn explain(given: (Option<u64>, Option<u64>, Option<u64>), train: u64, world_size: u64) -> String {
    let unit = given.1.unwrap_or(1).checked_mul(given.2.unwrap_or(1));
    let Some(unit) = unit.and_then(|u| u.checked_mul(world_size)) else {
        return "micro-batch, accumulation and ranks multiply to more than 2^64 samples".to_owned();
    };
    let factor = |name: &str, value: Option<u64>| value.map(|v| format!("{name} {v}"));
    let factors: Vec<_> = [
        factor("micro-batch", given.1),
        factor("accumulation", given.2),
        Some(format!("{world_size} rank{}", if world_size == 1 { "" } else { "s" })),
    ]
    .into_iter()
    .flatten()
    .collect();
    let factors = factors.join(" x ");
    if let (Some(micro), Some(accumulation)) = (given.1, given.2) {
        let near = nearest(train, micro, accumulation, world_size);
        return format!("train_batch_size = {train} is not {factors} = {unit}; {near} would be");
    }
    let below = train / unit * unit;
    let near = match below {
        0 => format!("{unit}"),
        _ => format!("{below} or {}", below.saturating_add(unit)),
    };
    format!("train_batch_size = {train} is not a multiple of {factors} = {unit}; {near} would be")
}

/// The settings of which each would fit while the others stay as they are.
fn nearest(train: u64, micro: u64, accumulation: u64, ranks: u64) -> String {
    let product = micro * accumulation * ranks;
    let share = |others: u64| (others > 0 && train.is_multiple_of(others)).then(|| train / others);
    // Close to the batch that was asked for, with the accumulation changed too.
    let of_one = micro * ranks;
    let steps = (train as f64 / of_one as f64).round() as u64;
    let close = of_one.checked_mul(steps).filter(|close| ![0, train, product].contains(close));
    let near = [
        Some(format!("train_batch_size {product}")),
        close.map(|t| format!("train_batch_size {t} with gradient_accumulation_steps {steps}")),
        share(micro * ranks).map(|n| format!("gradient_accumulation_steps {n}")),
        share(accumulation * ranks).map(|n| format!("train_micro_batch_size_per_gpu {n}")),
        share(micro * accumulation).map(|n| format!("{n} rank{}", if n == 1 { "" } else { "s" })),
    ];
    let near: Vec<_> = near.into_iter().flatten().collect();
    match near.split_last() {
        Some((last, rest @ [_, ..])) => format!("{} or {last}", rest.join(", ")),
        _ => near.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solve(t: Option<u64>, m: Option<u64>, a: Option<u64>, w: u64) -> Result<BatchSizes, String> {
        let settings = Settings {
            train_batch_size: t,
            train_micro_batch_size_per_gpu: m,
            gradient_accumulation_steps: a,
            ..Settings::default()
        };
        BatchSizes::solve(&settings, w).map(|s| s.expect("a batch is given")).map_err(|e| e.message)
    }

    fn sizes(train: u64, micro_batch: u64, accumulation: u64) -> Result<BatchSizes, String> {
        Ok(BatchSizes { train, micro_batch, accumulation })
    }

    #[test]
    fn triangle() {
        assert_eq!(solve(Some(32), Some(4), None, 2), sizes(32, 4, 4));
        assert_eq!(solve(Some(32), None, Some(4), 2), sizes(32, 4, 4));
        assert_eq!(solve(None, Some(4), Some(4), 2), sizes(32, 4, 4));
        assert_eq!(solve(Some(32), None, None, 2), sizes(32, 16, 1));
        assert_eq!(solve(None, Some(4), None, 2), sizes(8, 4, 1));
        assert_eq!(solve(Some(32), Some(4), Some(4), 2), sizes(32, 4, 4));
        assert_eq!(BatchSizes::solve(&Settings::default(), 2), Ok(None));
    }

    #[test]
    fn conflicts_are_explained() {
        let message = |t, m, a, w| solve(t, m, a, w).unwrap_err();
        assert_eq!(
            message(Some(32), Some(10), None, 1),
            "train_batch_size = 32 is not a multiple of micro-batch 10 x 1 rank = 10; 30 or 40 would be"
        );
        assert_eq!(
            message(Some(2), None, None, 3),
            "train_batch_size = 2 is not a multiple of 3 ranks = 3; 3 would be"
        );
        assert_eq!(
            message(Some(32), Some(10), Some(1), 3),
            "train_batch_size = 32 is not micro-batch 10 x accumulation 1 x 3 ranks = 30; \
             train_batch_size 30 would be"
        );
        assert_eq!(
            message(Some(64), Some(4), Some(2), 3),
            "train_batch_size = 64 is not micro-batch 4 x accumulation 2 x 3 ranks = 24; \
             train_batch_size 24, train_batch_size 60 with gradient_accumulation_steps 5 or 8 ranks would be"
        );
        assert_eq!(
            message(Some(64), Some(4), Some(2), 4),
            "train_batch_size = 64 is not micro-batch 4 x accumulation 2 x 4 ranks = 32; \
             train_batch_size 32, gradient_accumulation_steps 4, train_micro_batch_size_per_gpu 8 \
             or 8 ranks would be"
        );
        assert_eq!(
            message(Some(99), Some(8), Some(2), 1),
            "train_batch_size = 99 is not micro-batch 8 x accumulation 2 x 1 rank = 16; \
             train_batch_size 16 or train_batch_size 96 with gradient_accumulation_steps 12 would be"
        );
        assert_eq!(
            message(None, None, Some(4), 1),
            "gradient_accumulation_steps = 4 needs a batch size beside it: set train_batch_size or \
             train_micro_batch_size_per_gpu"
        );
        let zero = "gradient_accumulation_steps = 0 is not >= 1";
        assert_eq!(message(Some(32), Some(4), Some(0), 1), zero);
        for (train, ranks) in [(None, 1), (Some(u64::MAX), 1000)] {
            assert_eq!(
                message(train, Some(u64::MAX), Some(u64::MAX), ranks),
                "micro-batch, accumulation and ranks multiply to more than 2^64 samples"
            );
        }
    }

    #[test]
    fn length_of_a_run() {
        let training = Training { epochs: Some(1.5), ..Training::default() };
        assert_eq!(training.steps(Some(3)), Ok(Some(5)));
        let odd = Training { epochs: Some(1.1), ..Training::default() };
        assert_eq!(odd.steps(Some(50)), Ok(Some(55)));
        assert_eq!(training.steps(None), Ok(None));
        assert!(Training { total_steps: Some(1), ..training }.steps(None).is_err());
    }
}
