//! Forward and backward of one micro-batch.
use super::{Engine, Round};
use crate::error::{BoxError, Error, Result, panic_message};
use crate::layers::LayerFailure;
use crate::loss::{IntoLoss, Loss};
use rand_chacha::rand_core::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tch::{Kind, Tensor};
use tracing::{debug_span, warn};
use trainyard_config::draw::{Purpose, generator};

impl<M> Engine<M> {
    /// Runs the forward of the next micro-batch: the first of three calls, followed by
    /// [`backward`](Engine::backward) and [`update`](Engine::update).
    ///
    /// # Errors
    /// As [`step`](Engine::step).
    pub fn forward<L: IntoLoss>(&mut self, forward: impl FnOnce(&M) -> L) -> Result<Loss> {
        if self.round.micro_batches == 0 {
            self.begin_round(self.accumulation())?;
        }
        self.forward_of(forward)
    }

    /// Adds the gradients of a loss that [`forward`](Engine::forward) returned to those of the step.
    ///
    /// # Errors
    /// libtorch's, such as a loss that no parameter leads to.
    pub fn backward(&mut self, loss: &Loss) -> Result<()> {
        let done = self.backward_of(loss);
        self.forget_round_on_error(done)
    }

    /// Gradients are undefined from here on, so that a parameter nothing touches stays idle. `expected`:
    /// micro-batches of the step.
    pub(super) fn begin_round(&mut self, expected: u64) -> Result<()> {
        // A step that was begun and not ended: its gradients may be on their way to the other ranks.
        self.end_round();
        self.warn_beyond_the_end();
        self.warn_of_observers();
        self.round = Round::new(expected);
        self.layers.take_calls();
        self.forget_casts()?;
        Ok(trainyard_native::clear_gradients(&self.tensors())?)
    }

    /// The forward of the next micro-batch.
    pub(super) fn forward_of<L: IntoLoss>(
        &mut self,
        forward: impl FnOnce(&M) -> L,
    ) -> Result<Loss> {
        self.round.calls_before = self.layers.calls();
        let loss = self.begin_forward().and_then(|()| self.guarded(forward));
        let loss = self.forget_round_on_error(loss)?;
        self.round.pending = true;
        if loss.count > 0 && self.round.normaliser.is_none() {
            self.round.normaliser = Some(loss.count as f64 * self.round.expected as f64);
        }
        Ok(loss)
    }

    /// Says so once where a step comes behind the run's last one: schedules stand at their end from there on.
    fn warn_beyond_the_end(&mut self) {
        let Some(total) = self.total_steps.filter(|total| self.step >= *total) else { return };
        if !std::mem::replace(&mut self.beyond_the_end, true) {
            warn!(
                "step {} is beyond the run's {total} steps; schedules are made for those",
                self.step
            );
        }
    }

    /// Micro-batches in a step by configuration.
    pub(super) fn accumulation(&self) -> u64 {
        self.sizes.map_or(1, |sizes| sizes.accumulation)
    }

    fn begin_forward(&mut self) -> Result<()> {
        let now = self.moment();
        let mut stack = Vec::new();
        for (section, plugin) in &mut self.plugins {
            let wrap = plugin.begin_forward(now).map_err(|source| Error::Plugin {
                section,
                step: now.step,
                source,
            })?;
            stack.extend(wrap);
        }
        self.layers.set_stack(Some(Arc::from(stack)));
        let rank = self.communicator.rank() as u32;
        let counters = [now.attempt, now.micro_batch];
        let seed = generator(self.seed, Purpose::DROPOUT, rank, counters).next_u64();
        tch::manual_seed(seed as i64);
        Ok(())
    }

    /// Runs the user's forward; what it throws comes back as an error.
    fn guarded<L: IntoLoss>(&mut self, forward: impl FnOnce(&M) -> L) -> Result<Loss> {
        let (step, micro_batch) = (self.step, self.round.micro_batches);
        let _span = debug_span!("forward", step, micro_batch).entered();
        let model = &self.model;
        let mut forward = Some(forward);
        self.precision.1.forward(&mut || {
            let forward = forward.take().ok_or_else(|| {
                Error::Usage("a precision may run the forward only once".to_owned())
            })?;
            // What the forward left of the gradient mode goes with the guard, a panic's leavings too.
            let _restored = tch::no_grad_guard();
            tch::with_grad(|| caught(|| forward(model).into_loss(), step, micro_batch))
        })
    }

    fn backward_of(&mut self, loss: &Loss) -> Result<()> {
        let _span = debug_span!("backward", step = self.step).entered();
        if !std::mem::take(&mut self.round.pending) {
            return Err(Error::Usage(
                "`backward` needs the loss of a `forward` before it".to_owned(),
            ));
        }
        let expected = self.round.expected;
        if self.round.micro_batches >= expected && (self.averager.is_some() || self.sizes.is_some())
        {
            let sent = match self.averager {
                Some(_) => ", whose gradients are on their way to the other ranks",
                None => "; `update` comes next",
            };
            return Err(Error::Usage(format!("a step has {expected} micro-batches{sent}")));
        }
        if loss.count > 0 && !loss.mean.requires_grad() && !self.may_all_be_idle() {
            return Err(Error::Usage(format!(
                "the loss of step {}, micro-batch {} ({:?} of {:?}) depends on no parameter that trains: was it \
                 detached, or computed under `no_grad`?",
                self.step,
                self.round.micro_batches,
                loss.mean.kind(),
                loss.mean.size()
            )));
        }
        self.round.micro_batches += 1;
        self.round.losses.push((loss.mean.detach(), loss.count));
        // The mean over nothing is not a number: such a micro-batch has no part in the step. Nor has a loss that
        // depends on no parameter, as where every layer was left out.
        if loss.count > 0 && is_short(loss.mean.kind()) {
            self.weigh_as_one(loss.count as f64)?;
        }
        let normaliser = self.round.normaliser.filter(|_| loss.count > 0);
        let led = normaliser.filter(|_| loss.mean.requires_grad());
        if self.round.micro_batches == self.round.expected {
            self.begin_averaging(led.map(|_| &loss.mean))?;
        }
        let Some(normaliser) = led else { return Ok(()) };
        let weight = self.precision.1.loss_scale() * loss.count as f64 / normaliser;
        match weight {
            1.0 => loss.mean.f_backward()?,
            _ => loss.mean.f_mul_scalar(weight)?.f_backward()?,
        }
        Ok(())
    }

    /// Has the next backward pass, of a loss over `count` items, start from 1 times the loss scale: a weight would be
    /// rounded to the loss' short kind. The gradients that are there already are brought to the same measure.
    fn weigh_as_one(&mut self, count: f64) -> Result<()> {
        let before = self.round.normaliser.replace(count);
        let gradients: Vec<_> = self.parameters.iter().map(|(_, tensor)| tensor.grad()).collect();
        let gradients: Vec<_> = gradients.into_iter().filter(Tensor::defined).collect();
        match before {
            Some(before) if before != count && !gradients.is_empty() => {
                let factor = Tensor::from((before / count) as f32).to_device(gradients[0].device());
                Ok(trainyard_native::scale_all(&gradients, &factor)?)
            }
            _ => Ok(()),
        }
    }

    /// Before the last backward pass of a step, which starts from `loss`: its gradients leave for the other
    /// ranks as soon as they are complete.
    fn begin_averaging(&self, loss: Option<&Tensor>) -> Result<()> {
        let Some(averager) = &self.averager else { return Ok(()) };
        let count = self.round.losses.iter().map(|(_, count)| count).sum();
        averager.begin(loss, count, self.round.normaliser.unwrap_or(1.0), self.attempt)
    }

    /// Whether a loss of this forward may depend on no parameter: every layer was skipped, or some were
    /// and what is outside of them is frozen.
    fn may_all_be_idle(&self) -> bool {
        let (now, before) = (self.layers.calls(), self.round.calls_before);
        let (offered, run) = (now.offered - before.offered, now.run - before.run);
        let some_frozen = || self.parameters.iter().any(|(_, tensor)| !tensor.requires_grad());
        run < offered && (run == 0 || some_frozen())
    }

    /// A failed micro-batch fails its step: the next one starts anew.
    pub(super) fn forget_round_on_error<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.end_round();
            // The next forward would find the same fault.
            self.layers.settle().ok();
        }
        result
    }

    /// The decision on the layers ends with the round: between steps the handles run every layer.
    pub(super) fn end_round(&mut self) {
        if let Some(averager) = &self.averager {
            averager.cancel();
        }
        self.round = Round::new(1);
        self.layers.set_stack(Some(Arc::from([])));
    }
}

/// Whether a weight would be rounded to 3 or 4 digits.
fn is_short(kind: Kind) -> bool {
    matches!(kind, Kind::BFloat16 | Kind::Half)
}

/// What a backward pass can start from, and a mean can be read off: a scalar, so that losses of micro-batches and of
/// ranks add up in place.
fn one_number(loss: Loss) -> std::result::Result<Loss, BoxError> {
    if loss.mean.numel() != 1 || !loss.mean.is_floating_point() {
        return Err(format!(
            "the loss is {:?} of {:?}; a loss is one real number, the mean over what was counted",
            loss.mean.kind(),
            loss.mean.size()
        )
        .into());
    }
    Ok(match loss.mean.dim() {
        0 => loss,
        _ => Loss { mean: loss.mean.f_reshape([0_i64; 0])?, ..loss },
    })
}

/// Calls a forward and turns whatever unwinds out of it into an error.
///
/// The model may be left as the forward left it: tensors it changed in place stay changed. Nothing of
/// the engine is borrowed mutably meanwhile.
pub(super) fn caught(
    forward: impl FnOnce() -> std::result::Result<Loss, BoxError>,
    step: u64,
    micro_batch: u64,
) -> Result<Loss> {
    match catch_unwind(AssertUnwindSafe(forward)) {
        Ok(loss) => {
            loss.and_then(one_number).map_err(|source| Error::Forward { step, micro_batch, source })
        }
        Err(payload) => Err(match payload.downcast::<LayerFailure>() {
            Ok(failure) => Error::Forward { step, micro_batch, source: failure.0 },
            Err(payload) => {
                let message = panic_message(&*payload).lines().next().unwrap_or_default();
                Error::Panicked { step, micro_batch, message: message.to_owned() }
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_loss_of_one_element_is_a_scalar() {
        for size in [&[][..], &[1], &[1, 1]] {
            let mean = Tensor::ones(size, (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let loss = caught(|| Ok(Loss::mean(mean.shallow_clone(), 3)), 0, 0).unwrap();
            assert_eq!((loss.mean.size(), loss.count), (vec![], 3), "{size:?}");
            loss.mean.backward();
            assert_eq!(mean.grad().size(), size);
        }
    }
}
