//! The mean of the gradients over the ranks, computed while the backward pass still runs.
//!
//! Right after the last forward of a step the ranks tell one another, in one small sum, how much each of
//! them counted and which parameters it uses. A parameter that nobody uses is not sent and stays idle;
//! one that a rank does not use counts there as zero. From then on a bucket leaves as soon as the
//! gradients in it are complete, bucket after bucket, in an order that depends on the model alone.
//! A gradient is copied once, into its bucket, multiplied on the way by its rank's share in what was
//! counted; its sum over the ranks, where it lies then, is the gradient of the whole batch.
mod layout;
mod step;
mod sums;
mod word;

#[cfg(test)]
mod tests;

use crate::communicator::{Communicator, failed};
use crate::error::{BoxError, Error, Result};
use layout::{Part, buckets};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use step::{Bucket, Step};
pub(crate) use sums::Sums;
use tch::{Kind, Tensor};
use trainyard_config::BlockInfo;
use trainyard_native::{Listening, reached};
use word::{About, Word};

/// How gradients are averaged over the ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averaging {
    /// Elements that a bucket holds; a block of the model with more has a bucket of its own.
    pub bucket_elements: usize,
    /// In which number format gradients travel and are summed; none: their own.
    pub kind: Option<Kind>,
    /// What the gradients are divided by before they are summed, above 0; the rest of the world's size
    /// comes after. None: all of it.
    pub predivide: Option<f64>,
}

impl Default for Averaging {
    fn default() -> Self {
        Averaging { bucket_elements: Averaging::BUCKET_ELEMENTS, kind: None, predivide: None }
    }
}

impl Averaging {
    /// Elements of a bucket where nothing else is said.
    pub const BUCKET_ELEMENTS: usize = 6_553_600;
}

/// What all ranks have together.
pub(crate) struct Averaged {
    /// What they counted.
    pub count: u64,
    /// Mean loss over it, float64, on the device of the losses; NaN over nothing.
    pub loss: Tensor,
    /// What the gradients still have to be multiplied by.
    pub factor: f64,
    /// Bytes of gradients that this rank put in.
    pub bytes: u64,
}

/// Averages the gradients of an engine's parameters, step by step.
pub(crate) struct Averager {
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    communicator: Arc<dyn Communicator>,
    options: Averaging,
    state: Mutex<State>,
}

struct State {
    names: Vec<String>,
    parameters: Vec<Tensor>,
    buckets: Vec<Bucket>,
    /// The bucket of each parameter.
    bucket_of: Vec<usize>,
    step: Option<Step>,
    /// Whether this rank wants to stop, and whether any did in the latest step.
    stop: (bool, bool),
    /// The same of a wish to save.
    save: (bool, bool),
    /// Why the ranks are out of step with one another, for good.
    broken: Option<String>,
}

impl Averager {
    /// `parameters` by name, `created`: their indices in the order in which the model made them.
    pub fn new(
        communicator: Arc<dyn Communicator>,
        options: Averaging,
        parameters: &[(String, Tensor)],
        created: &[usize],
        blocks: &[BlockInfo],
    ) -> Result<Self> {
        let block = |name: &str| {
            blocks.iter().position(|block| {
                name.strip_prefix(&block.name).is_some_and(|rest| rest.starts_with('.'))
            })
        };
        let part = |&i: &usize| {
            let (name, tensor) = &parameters[i];
            let sort = (tensor.kind(), tensor.device());
            Part { block: block(name), elements: tensor.numel(), sort }
        };
        let parts: Vec<_> = created.iter().map(part).collect();
        let buckets: Vec<_> = buckets(&parts, options.bucket_elements)
            .into_iter()
            .map(|bucket| Bucket::new(bucket.into_iter().map(|place| created[place]).collect()))
            .collect();
        let mut bucket_of = vec![0; parameters.len()];
        for (index, bucket) in buckets.iter().enumerate() {
            bucket.members.iter().for_each(|&member| bucket_of[member] = index);
        }
        let tensors = || parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let names = parameters.iter().map(|(name, _)| name.clone()).collect();
        let state = State {
            names,
            parameters: tensors(),
            buckets,
            bucket_of,
            step: None,
            stop: (false, false),
            save: (false, false),
            broken: None,
        };
        let shared = Arc::new(Shared { communicator, options, state: Mutex::new(state) });
        let heard = shared.clone();
        let _listening = Listening::new(tensors(), move |index| heard.complete(index))?;
        Ok(Averager { shared, _listening })
    }

    /// Begins to average, before the backward pass of a step's last micro-batch, from `loss`, if it has
    /// one. `count`: what this rank counted in the step; `normaliser`: what its losses were divided by.
    pub fn begin(
        &self,
        loss: Option<&Tensor>,
        count: u64,
        normaliser: f64,
        attempt: u64,
    ) -> Result<()> {
        let Shared { communicator, .. } = &*self.shared;
        let mut state = self.shared.state();
        if let Some(why) = &state.broken {
            return Err(failed(&**communicator, "a step", why.as_str()));
        }
        let coming = match loss {
            Some(loss) => reached(loss, &state.parameters)?,
            None => vec![false; state.parameters.len()],
        };
        let step = Step::begin(&**communicator, &state, coming, (count, normaliser), attempt);
        let asking = |e| failed(&**communicator, "agreeing on what a step sends", e);
        state.step = Some(step.map_err(asking)?);
        Ok(())
    }

    /// Sends what is left and waits for all of it. `losses`: mean and count of each micro-batch.
    pub fn finish(&self, losses: &[(Tensor, u64)], step: u64) -> Result<Averaged> {
        let Shared { communicator, options, .. } = &*self.shared;
        let mut state = self.shared.state();
        let finished = state.finish(&**communicator, options, losses);
        finished.map_err(|error| {
            state.broken = Some(format!("step {step} failed before"));
            drop(state);
            let operation = format!("averaging the gradients of step {step}");
            match error {
                Failure::Ranks(source) => failed(&**communicator, operation, source),
                Failure::Here(error) => {
                    communicator.abandon();
                    error
                }
            }
        })
    }

    /// Forgets a step that failed on this rank. What has been sent cannot be taken back, so the ranks are
    /// then out of step.
    pub fn cancel(&self) {
        let mut state = self.shared.state();
        if state.step.take().is_some() {
            state.broken = Some("a step failed on this rank midway".to_owned());
            self.shared.communicator.abandon();
        }
    }

    /// Has the next step's word say whether this rank wants to stop; whether any did in the latest step's.
    pub fn agree_to_stop(&self, wanted: bool) -> bool {
        let stop = &mut self.shared.state().stop;
        stop.0 = wanted;
        stop.1
    }

    /// Has the next step's word say whether this rank wants to save; whether any did in the latest step's. That wish is
    /// met then, and goes on no further.
    pub fn agree_to_save(&self, wanted: bool) -> bool {
        let save = &mut self.shared.state().save;
        save.0 = wanted && !save.1;
        save.1
    }

    /// Whether gradients are on their way.
    pub fn is_under_way(&self) -> bool {
        self.shared.state().step.is_some()
    }

    /// What an evaluation came to on all ranks, each of which has its `part`.
    pub fn add_up(&self, part: Sums, attempt: u64) -> Result<Sums> {
        let told = self.told((About::Evaluation, attempt), part.numbers().to_vec());
        let told = told.map_err(|e| failed(&*self.shared.communicator, "an evaluation", e))?;
        Ok(Sums::read(&told))
    }

    /// Makes a report's figures, of the same names on all ranks, their means over the ranks.
    pub fn mean(&self, metrics: &mut BTreeMap<String, f64>, attempt: u64) -> Result<()> {
        let told = self.told((About::Report, attempt), metrics.values().copied().collect());
        let told = told.map_err(|e| failed(&*self.shared.communicator, "a report", e))?;
        let world_size = self.shared.communicator.world_size() as f64;
        metrics.values_mut().zip(told).for_each(|(mean, sum)| *mean = sum / world_size);
        Ok(())
    }

    /// Waits until all ranks have ended, and says how many of them failed behind the last step.
    pub fn end(&self, failed_here: bool, attempt: u64) -> Result<u64> {
        let told = self.told((About::End, attempt), vec![f64::from(u8::from(failed_here))]);
        let told = told.map_err(|e| failed(&*self.shared.communicator, "the end of the run", e))?;
        Ok(told[0] as u64)
    }

    fn told(
        &self,
        about: (About, u64),
        numbers: Vec<f64>,
    ) -> std::result::Result<Vec<f64>, BoxError> {
        let communicator = &*self.shared.communicator;
        let most = room(self.shared.state().parameters.len());
        Word::send(communicator, about, most, numbers)?.read(communicator.world_size())
    }
}

/// Numbers that a word of a step has behind its header: the count, who wants to stop and who to save, and each
/// parameter's users.
fn room(parameters: usize) -> usize {
    parameters + 3
}

/// Why a step could not be finished.
enum Failure {
    /// The ranks could not do it together.
    Ranks(BoxError),
    /// This rank could not do its part.
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Here(error)
    }
}

impl From<tch::TchError> for Failure {
    fn from(error: tch::TchError) -> Self {
        Failure::Here(error.into())
    }
}

impl From<trainyard_native::Error> for Failure {
    fn from(error: trainyard_native::Error) -> Self {
        Failure::Here(error.into())
    }
}

impl From<BoxError> for Failure {
    fn from(error: BoxError) -> Self {
        Failure::Ranks(error)
    }
}

impl Shared {
    // A panic under the lock leaves a step unfinished, which `finish` or `cancel` then meets.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backward pass has completed a gradient.
    fn complete(&self, index: usize) {
        let mut state = self.state();
        let State { bucket_of, step, .. } = &mut *state;
        let Some(step) = step else { return };
        step.completed(index, bucket_of[index]);
        state.advance(&*self.communicator, &self.options, false);
    }
}

impl State {
    /// Sends the buckets that may go, in their order. An error stays in the step until it is finished.
    fn advance(&mut self, communicator: &dyn Communicator, options: &Averaging, all: bool) {
        let Some(mut step) = self.step.take() else { return };
        // Whoever runs a backward pass may be recording gradients.
        tch::no_grad(|| step.advance(communicator, options, self, all));
        self.step = Some(step);
    }

    fn finish(
        &mut self,
        communicator: &dyn Communicator,
        options: &Averaging,
        losses: &[(Tensor, u64)],
    ) -> std::result::Result<Averaged, Failure> {
        self.advance(communicator, options, true);
        match self.step.take() {
            Some(step) => step.finish(communicator, options, self, losses),
            None => Err(Failure::Here(Error::Usage("no step was begun".to_owned()))),
        }
    }
}
