//! What is measured, and with how much patience.
use tch::Device;
use trainyard::BoxError;
use trainyard_data::DataConfig;
use trainyard_models::{BertConfig, pretraining};

/// The sizes of a training step, and how long to measure it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The model.
    pub model: BertConfig,
    /// Sequences in a batch.
    pub batch: i64,
    /// Tokens in a sequence.
    pub time: i64,
    /// Where it runs.
    pub device: Device,
    /// How long to measure.
    pub effort: Effort,
}

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Repetitions of something short.
    pub repetitions: usize,
    /// Fewest rounds of something that is repeated until its spread is small.
    pub rounds: usize,
    /// Seconds after which no further round begins.
    pub seconds: f64,
}

impl Setting {
    /// The sizes of a step of `bert.json`.
    ///
    /// # Errors
    /// If that file is not right.
    pub fn bert() -> Result<Self, BoxError> {
        let plan = pretraining::registry().read(pretraining::shipped("bert.json"))?;
        let sizes = plan.batch_sizes(1)?.ok_or("bert.json gives no batch size")?;
        let data: DataConfig = plan.section("data")?.unwrap_or_default();
        Ok(Setting {
            model: plan.section("model")?.unwrap_or_default(),
            batch: i64::try_from(sizes.micro_batch)?,
            time: i64::try_from(data.sequence_length)?,
            device: Device::Cpu,
            effort: Effort { repetitions: 51, rounds: 30, seconds: 240.0 },
        })
    }

    /// Sizes that show that a benchmark runs; what it finds means nothing.
    pub fn quick() -> Self {
        let model = BertConfig { layers: 3, ..BertConfig::default() };
        let effort = Effort { repetitions: 3, rounds: 24, seconds: 0.0 };
        Setting { model, batch: 2, time: 8, device: Device::Cpu, effort }.narrow(3)
    }

    /// A model of so many layers of the same kind, on so little data and so narrow that the sizes of its
    /// tensors hardly matter.
    pub fn narrow(&self, layers: i64) -> Self {
        let model = BertConfig {
            layers,
            hidden: 8,
            heads: 2,
            intermediate: None,
            vocabulary: 64,
            max_positions: 8,
            ..self.model.clone()
        };
        Setting { model, batch: 1, time: 8, ..self.clone() }
    }
}
