//! The batches of every optimizer step, whatever they are made of.

use std::ops::Range;

use crate::prefetch::Prefetch;
use crate::{BatchShape, Error, MlmBatch, Permutation, Result, Share, order};

/// Optimizer steps whose batches are prepared ahead, at most, ...
const STEPS_AHEAD: u64 = 4;

/// ... where they are no more than so many bytes; else one.
const BYTES_AHEAD: u64 = 1 << 30;

/// The micro-batches of every optimizer step from `start_step` on. `make(epoch, samples)` makes one of
/// them, of samples by index; those of a step have `step_bytes`.
///
/// # Errors
/// The shape is impossible, there is less than one global batch, or the system gives no thread.
pub(crate) fn train_batches<B: Send + 'static>(
    samples: usize,
    seed: u64,
    shape: BatchShape,
    start_step: u64,
    step_bytes: u64,
    mut make: impl FnMut(u64, &[usize]) -> Result<B> + Send + 'static,
) -> Result<TrainBatches<B>> {
    let steps_per_epoch = shape.steps_per_epoch(samples)?;
    let left_out = samples - steps_per_epoch as usize * shape.global_batch()?;
    tracing::info!(samples, steps_per_epoch, left_out, "an epoch leaves out what fills no batch");

    let mut step = start_step;
    let mut current: Option<(u64, Permutation)> = None;
    let batches = Prefetch::spawn(ahead(step_bytes), move || {
        let (epoch, step_of_epoch) = (step / steps_per_epoch, step % steps_per_epoch);
        step += 1;
        let order = match current.take() {
            Some((same, order)) if same == epoch => order,
            _ => order(seed, epoch, samples),
        };
        let micro_batches = shape.micro_batches(step_of_epoch as usize);
        let mut batch = |places: Range<usize>| {
            let samples: Vec<usize> = places.map(|place| order.at(place)).collect();
            make(epoch, &samples)
        };
        let batches = micro_batches.map(&mut batch).collect();
        current = Some((epoch, order));
        batches
    })?;
    Ok(TrainBatches { batches, steps_per_epoch })
}

/// Warns of ranks that have nothing to validate on.
pub(crate) fn few_to_validate(samples: usize, share: Share) {
    if let Some(idle) = idle_ranks(samples, share).filter(|_| share.rank == 0) {
        tracing::warn!(
            "{samples} validation samples are fewer than {} ranks: {idle} of them evaluate nothing",
            share.world_size
        );
    }
}

/// How many ranks have nothing to validate on, if there are any.
fn idle_ranks(samples: usize, share: Share) -> Option<usize> {
    share.world_size.checked_sub(samples).filter(|&idle| idle > 0)
}

/// Steps that are prepared ahead.
fn ahead(step_bytes: u64) -> usize {
    (BYTES_AHEAD / step_bytes.max(1)).clamp(1, STEPS_AHEAD) as usize
}

/// This rank's share of `samples`, every `world_size`th of them, `batch` at a time, the last batch with
/// what is left. `make` makes a batch of samples by index.
///
/// # Errors
/// `batch` is 0, or there is no such rank.
pub(crate) fn validation_batches<B>(
    samples: impl Iterator<Item = usize>,
    batch: usize,
    share: Share,
    mut make: impl FnMut(&[usize]) -> B,
) -> Result<impl Iterator<Item = B>> {
    share.check()?;
    if batch == 0 {
        let right = "at least 1".to_owned();
        return Err(Error::Shape { name: "validation batch", value: batch, right });
    }
    let mut mine = samples.skip(share.rank).step_by(share.world_size);
    Ok(std::iter::from_fn(move || {
        let samples: Vec<usize> = mine.by_ref().take(batch).collect();
        (!samples.is_empty()).then(|| make(&samples))
    }))
}

/// The batches of one optimizer step after the other; see
/// [`MlmData::train_batches`](crate::MlmData::train_batches).
///
/// They are prepared on a thread, which ends when this is dropped. An error is the last item.
pub struct TrainBatches<B = MlmBatch> {
    batches: Prefetch<Vec<B>>,
    steps_per_epoch: u64,
}

impl<B> TrainBatches<B> {
    /// Optimizer steps in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }
}

impl<B: Send + 'static> Iterator for TrainBatches<B> {
    type Item = Result<Vec<B>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_steps_are_not_piled_up() {
        let mib = 1 << 20;
        for (bytes, steps) in [(0, 4), (mib, 4), (256 * mib, 4), (257 * mib, 3), (u64::MAX, 1)] {
            assert_eq!(ahead(bytes), steps, "{bytes} bytes a step");
        }
    }

    #[test]
    fn ranks_without_a_validation_sample_are_counted() {
        let idle = |samples, world_size| idle_ranks(samples, Share { rank: 0, world_size });
        assert_eq!(
            [idle(3, 5), idle(5, 5), idle(9, 5), idle(0, 2)],
            [Some(2), None, None, Some(2)]
        );
    }
}
