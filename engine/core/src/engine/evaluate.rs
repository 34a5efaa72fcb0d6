//! Evaluation: full depth, no gradients, no trace left in the training.
use super::Engine;
use super::forward::caught;
use crate::communicator;
use crate::error::{Error, Result};
use crate::loss::IntoLoss;
use crate::report::Evaluation;

impl<M> Engine<M> {
    /// The mean loss over batches, at full depth, without gradients and in the precision of the
    /// training. Plugins see nothing of it, and the training goes on as if it had not been.
    ///
    /// Among several ranks it is the mean over the batches of all: each brings its own share, and all of
    /// them call it. Running statistics, which are each rank's own in training, are rank 0's from here on, so that
    /// the mean is that of one model, which rank 0 may save.
    ///
    /// `forward` is the caller's to run in evaluation mode (`train: false`): the engine knows no switch
    /// for dropout.
    ///
    /// Where no batch counts anything the outcome's count is 0, and it has no loss. A loss that is not finite is warned
    /// of.
    ///
    /// # Errors
    /// The forward's; a panic of it; a loss that is not finite or a buffer that is not a number, under
    /// `terminate_on_nan`; among several ranks, a call between the last `backward` of a step and its `update`.
    pub fn evaluate<B, L: IntoLoss>(
        &mut self,
        batches: impl IntoIterator<Item = B>,
        mut forward: impl FnMut(&M, &B) -> L,
    ) -> Result<Evaluation> {
        self.forget_casts()?;
        self.layers.settle()?;
        if let Some(averager) = &self.averager {
            if averager.is_under_way() {
                return Err(Error::Usage(
                    "`evaluate` comes before the last `backward` of a step or behind its `update`: between \
                     them its gradients are on their way to the other ranks"
                        .to_owned(),
                ));
            }
            communicator::share(&*self.communicator, &self.buffers)?;
        }
        let before = self.layers.set_stack(None);
        let found = self.mean_over(batches, &mut forward);
        self.layers.set_stack(before);
        self.forget_casts()?;
        self.layers.settle()?;
        let found = found?;
        if found.count > 0 && !found.loss.is_finite() {
            self.tell(format!("the loss of an evaluation is {}", found.loss))?;
        }
        self.tell_of_buffers()?;
        Ok(found)
    }

    fn mean_over<B, L: IntoLoss>(
        &mut self,
        batches: impl IntoIterator<Item = B>,
        forward: &mut impl FnMut(&M, &B) -> L,
    ) -> Result<Evaluation> {
        let (mut sum, mut count) = (0.0, 0u64);
        for (index, batch) in batches.into_iter().enumerate() {
            let (model, step) = (&self.model, self.step);
            let loss = self.precision.1.forward(&mut || {
                let _restored = tch::no_grad_guard();
                caught(|| forward(model, &batch).into_loss(), step, index as u64)
            })?;
            if loss.count > 0 {
                sum += loss.mean.f_double_value(&[])? * loss.count as f64;
                count += loss.count;
            }
        }
        let (sum, count) = match &self.averager {
            Some(averager) => averager.add_up(sum, count, self.attempt)?,
            None => (sum, count),
        };
        Ok(Evaluation { loss: sum / count as f64, count })
    }
}
