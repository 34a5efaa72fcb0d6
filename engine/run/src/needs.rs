//! What every run needs of a configuration: its length, and the size of a batch.
use crate::RunError;
use trainyard::config::{Config, Problem};
use trainyard::{Plan, World};
use trainyard_data::{BatchShape, Share};

/// What is said where no batch size is set.
const NO_BATCH: &str = "train_batch_size is not set: how many samples does a step take?";

/// What every run needs and `config` leaves out: its length, and the size of a batch.
pub fn missing(config: &Config) -> Vec<Problem> {
    let given = |pointer: &&str| config.value().pointer(pointer).is_some_and(|v| !v.is_null());
    let mut problems = Vec::new();
    if !["/training/total_steps", "/training/epochs"].iter().any(given) {
        let message = "total_steps is not set, and neither is epochs: how long is the run?";
        problems.push(config.problem("training.total_steps", message));
    }
    if !["/train_batch_size", "/train_micro_batch_size_per_gpu"].iter().any(given) {
        problems.push(config.problem("train_batch_size", NO_BATCH));
    }
    problems
}

/// What a step takes of the data, by the batch sizes of the configuration.
///
/// # Errors
/// If there are none.
pub fn batch_shape(plan: &Plan) -> Result<BatchShape, RunError> {
    let World { rank, world_size, .. } = *plan.world();
    let Some(sizes) = plan.batch_sizes(world_size as u64)? else {
        return Err(plan.invalid("train_batch_size", NO_BATCH).into());
    };
    Ok(BatchShape {
        micro_batch: sizes.micro_batch as usize,
        gradient_accumulation_steps: sizes.accumulation as usize,
        share: Share { rank, world_size },
    })
}
