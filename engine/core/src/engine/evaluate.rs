//! Evaluation: full depth, no gradients, no trace left in the training.
use super::Engine;
use super::forward::caught;
use crate::averaging::Sums;
use crate::communicator;
use crate::error::{BoxError, Error, Result};
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
    /// `terminate_on_nan`; among several ranks, another one's in its share, told once all are through theirs, and a call
    /// between the last `backward` of a step and its `update`.
    pub fn evaluate<B, L: IntoLoss>(
        &mut self,
        batches: impl IntoIterator<Item = B>,
        forward: impl FnMut(&M, &B) -> L,
    ) -> Result<Evaluation> {
        let found = self.evaluate_until(batches.into_iter().map(Ok), || false, forward)?;
        found.ok_or_else(|| {
            Error::Usage("another rank was asked to stop, and left its share out".to_owned())
        })
    }

    /// As [`evaluate`](Self::evaluate), over batches whose making may fail, and only until `stops` says so, which is
    /// asked before each batch. None if it did on any rank: what is found then is of a part of the data. A rank that
    /// does not stop itself hears of it when it is through its share.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate); [`Error::Batches`] for an error among them.
    pub fn evaluate_until<B, L: IntoLoss>(
        &mut self,
        batches: impl IntoIterator<Item = std::result::Result<B, BoxError>>,
        mut stops: impl FnMut() -> bool,
        mut forward: impl FnMut(&M, &B) -> L,
    ) -> Result<Option<Evaluation>> {
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
        let found = self.all_sums(batches, &mut stops, &mut forward);
        self.layers.set_stack(before);
        self.forget_casts()?;
        self.layers.settle()?;
        let Sums { loss, count, cut, .. } = found?;
        let found = Evaluation { loss: loss / count as f64, count };
        if cut == 0 && count > 0 && !found.loss.is_finite() {
            self.tell(format!("the loss of an evaluation is {}", found.loss))?;
        }
        self.tell_of_buffers()?;
        Ok((cut == 0).then_some(found))
    }

    /// The sums over all ranks. A rank that fails says so to the others, which would wait for it, or take the part that
    /// it has for its share.
    fn all_sums<B, L: IntoLoss>(
        &mut self,
        batches: impl IntoIterator<Item = std::result::Result<B, BoxError>>,
        stops: &mut impl FnMut() -> bool,
        forward: &mut impl FnMut(&M, &B) -> L,
    ) -> Result<Sums> {
        let mut part = Sums::default();
        let added = self.add(&mut part, batches, stops, forward);
        let Some(averager) = &self.averager else { return added.map(|()| part) };
        if added.is_err() {
            part.fail(self.communicator.rank());
        }
        let all = averager.add_up(part, self.attempt);
        // This rank's own error goes before what became of the others.
        added?;
        let all = all?;
        match all.who_failed() {
            Some(who) => Err(Error::Peer { who, operation: "an evaluation" }),
            None => Ok(all),
        }
    }

    /// Adds this rank's batches to `part`.
    fn add<B, L: IntoLoss>(
        &mut self,
        part: &mut Sums,
        batches: impl IntoIterator<Item = std::result::Result<B, BoxError>>,
        stops: &mut impl FnMut() -> bool,
        forward: &mut impl FnMut(&M, &B) -> L,
    ) -> Result<()> {
        for (index, batch) in batches.into_iter().enumerate() {
            let batch = batch.map_err(Error::Batches)?;
            if stops() {
                part.cut = 1;
                break;
            }
            let (model, step) = (&self.model, self.step);
            let loss = self.precision.1.forward(&mut || {
                let _restored = tch::no_grad_guard();
                caught(|| forward(model, &batch).into_loss(), step, index as u64)
            })?;
            if loss.count > 0 {
                part.loss += loss.mean.f_double_value(&[])? * loss.count as f64;
                part.count += loss.count;
            }
        }
        Ok(())
    }
}
