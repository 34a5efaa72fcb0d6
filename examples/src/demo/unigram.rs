//! What a model reaches that knows how often each token occurs, and nothing else.
use trainyard_data::{MlmBatch, Share};
use trainyard_models::pretraining::BertRun;
use trainyard_run::{RunError, next};

/// Steps whose tokens are counted at most: a few hundred thousand tokens say enough.
const STEPS: u64 = 2000;

/// Added to every count, so that a token that was not seen is not impossible.
const UNSEEN: f64 = 0.1;

/// Mean loss, in nats, over the validation tokens to be guessed when each is given its frequency among
/// the training tokens to be guessed.
///
/// # Errors
/// If the batches cannot be prepared.
pub(super) fn level(run: &BertRun) -> Result<f64, RunError> {
    let vocabulary = run.data().vocabulary_size();
    let mut batches = run.batches()?;
    let mut seen = vec![0; vocabulary];
    for _ in 0..run.steps_per_epoch()?.min(STEPS) {
        next(&mut batches)?.iter().try_for_each(|batch| count(batch, &mut seen))?;
    }
    let mut asked = vec![0; vocabulary];
    for batch in run.data().validation_batches(64, Share::WHOLE)? {
        count(&batch, &mut asked)?;
    }
    Ok(cross_entropy(&seen, &asked))
}

fn count(batch: &MlmBatch, counts: &mut [u64]) -> Result<(), RunError> {
    let labels = Vec::<i64>::try_from(&batch.labels).map_err(trainyard::Error::Torch)?;
    labels.into_iter().for_each(|label| counts[label as usize] += 1);
    Ok(())
}

fn cross_entropy(seen: &[u64], asked: &[u64]) -> f64 {
    let whole = seen.iter().sum::<u64>() as f64 + UNSEEN * seen.len() as f64;
    let loss = |seen: u64| -((seen as f64 + UNSEEN) / whole).ln();
    let sum: f64 = seen.iter().zip(asked).map(|(s, a)| *a as f64 * loss(*s)).sum();
    sum / asked.iter().sum::<u64>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Counts 2.1, 1.1 and 0.1 of 5; the first is asked twice, one of the last once.
        let (seen, asked) = ([2, 1, 0, 1, 0, 0, 0, 0, 0, 0], [2, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let expected = -(2.0 * (2.1f64 / 5.0).ln() + (0.1f64 / 5.0).ln()) / 3.0;
        assert!((cross_entropy(&seen, &asked) - expected).abs() < 1e-12);
        assert!((cross_entropy(&[7; 8], &[1, 2, 3, 4, 5, 6, 7, 8]) - 8f64.ln()).abs() < 1e-12);
    }
}
