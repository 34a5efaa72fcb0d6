//! One step's averaging.
use super::word::{About, Word};
use super::{Averaged, Averaging, Failure, State, room};
use crate::communicator::{Communicator, Pending};
use crate::error::{BoxError, Error};
use crate::gradients::gradient;
use crate::strides::view_like;
use tch::{Device, Kind, Tensor};
use trainyard_native::set_gradient;

/// Parameters whose gradients travel together.
pub(super) struct Bucket {
    /// By index, in the order in which they lie.
    pub members: Vec<usize>,
    /// Where they lie; made at first use, for all of them.
    place: Option<Tensor>,
}

impl Bucket {
    pub fn new(members: Vec<usize>) -> Self {
        Bucket { members, place: None }
    }
}

/// The averaging of one step.
pub(super) struct Step {
    /// What this rank's losses were divided by.
    normaliser: f64,
    /// Parameters that have a gradient on this rank, or will have one.
    present: Vec<bool>,
    /// Parameters whose gradient the backward pass has yet to complete.
    coming: Vec<bool>,
    /// How many of them each bucket has.
    missing: Vec<usize>,
    agreement: Agreement,
    /// The bucket that is sent next.
    next: usize,
    sent: Vec<Sent>,
    bytes: u64,
    failure: Option<Failure>,
}

/// What the ranks do together in the step.
enum Agreement {
    /// The count, who wants to stop and who to save, and each parameter's users, summed over the ranks; none while it is read.
    Asked(Option<Word>),
    Known {
        count: u64,
        stop: bool,
        save: bool,
        used: Vec<bool>,
    },
}

/// A bucket on its way.
struct Sent {
    flat: Tensor,
    /// Which parameters lie in it, and from which element.
    members: Vec<(usize, usize)>,
    pending: Box<dyn Pending>,
}

impl Step {
    /// `coming`: the parameters that the backward pass will reach. `counted`: this rank's count, and what
    /// its losses were divided by.
    pub fn begin(
        communicator: &dyn Communicator,
        state: &State,
        coming: Vec<bool>,
        (count, normaliser): (u64, f64),
        attempt: u64,
    ) -> Result<Self, BoxError> {
        let has = |i: usize| state.parameters[i].grad().defined();
        let present: Vec<_> = coming.iter().enumerate().map(|(i, &c)| c || has(i)).collect();
        let mut missing = vec![0; state.buckets.len()];
        for (index, _) in coming.iter().enumerate().filter(|(_, coming)| **coming) {
            missing[state.bucket_of[index]] += 1;
        }
        let used = present.iter().map(|&present| f64::from(u8::from(present)));
        let wish = |wanted: bool| f64::from(u8::from(wanted));
        let head = [count as f64, wish(state.stop.0), wish(state.save.0)];
        let (most, numbers) = (room(present.len()), head.into_iter().chain(used));
        let word = Word::send(communicator, (About::Step, attempt), most, numbers)?;
        Ok(Step {
            normaliser,
            present,
            coming,
            missing,
            agreement: Agreement::Asked(Some(word)),
            next: 0,
            sent: Vec::new(),
            bytes: 0,
            failure: None,
        })
    }

    /// The gradient of a parameter is complete.
    pub fn completed(&mut self, index: usize, bucket: usize) {
        if std::mem::take(&mut self.coming[index]) {
            self.missing[bucket] -= 1;
        }
    }

    /// Sends the buckets that are complete, or `all` that are left, for which it may have to wait for the
    /// other ranks' word on what is sent.
    pub fn advance(
        &mut self,
        communicator: &dyn Communicator,
        options: &Averaging,
        state: &mut State,
        all: bool,
    ) {
        let ready =
            |step: &Self| step.next < step.missing.len() && (all || step.missing[step.next] == 0);
        while self.failure.is_none() && ready(self) {
            let sent = self.agreed(communicator, all).and_then(|agreed| match agreed {
                true => self.send(communicator, options, state).map(|()| true),
                false => Ok(false),
            });
            match sent {
                Ok(true) => self.next += 1,
                Ok(false) => return,
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    /// Whether it is known what is sent; `wait`: waits for that.
    fn agreed(&mut self, communicator: &dyn Communicator, wait: bool) -> Result<bool, Failure> {
        let Agreement::Asked(word) = &mut self.agreement else { return Ok(true) };
        if !wait && !word.as_ref().map_or(Ok(true), Word::done)? {
            return Ok(false);
        }
        let lost = || Failure::Ranks("the ranks' words were lost to an error".into());
        let word = word.take().ok_or_else(lost)?;
        let numbers = word.read(communicator.world_size())?;
        let used = numbers[3..].iter().map(|&users| users > 0.0).collect();
        let (stop, save) = (numbers[1] > 0.0, numbers[2] > 0.0);
        self.agreement = Agreement::Known { count: numbers[0] as u64, stop, save, used };
        Ok(true)
    }

    /// Copies the gradients of the next bucket into it and sends it.
    fn send(
        &mut self,
        communicator: &dyn Communicator,
        options: &Averaging,
        state: &mut State,
    ) -> Result<(), Failure> {
        let Agreement::Known { count, used, .. } = &self.agreement else { return Ok(()) };
        let State { parameters, buckets, .. } = state;
        let Bucket { members, place } = &mut buckets[self.next];
        let travelling: Vec<_> = members.iter().copied().filter(|&i| used[i]).collect();
        let Some(&first) = travelling.first() else { return Ok(()) };
        let (own_kind, device) = (parameters[first].kind(), parameters[first].device());
        let kind = options.kind.unwrap_or(own_kind);
        let elements = |of: &[usize]| of.iter().map(|&i| parameters[i].numel()).sum::<usize>();
        let place = match place {
            Some(place) => place,
            None => place.insert(Tensor::f_empty([elements(members) as i64], (kind, device))?),
        };
        let flat = place.f_narrow(0, 0, elements(&travelling) as i64)?;
        // This rank's share in what was counted, less what the sum is divided by afterwards.
        let world_size = communicator.world_size() as f64;
        let share = self.normaliser / *count as f64;
        let factor = share * world_size / options.predivide.unwrap_or(world_size);
        let factor = Tensor::from(factor);
        let mut lying = Vec::with_capacity(travelling.len());
        let mut offset = 0;
        for i in travelling {
            let parameter = &parameters[i];
            let mut view = view_like(&flat, offset as i64, parameter)?;
            match gradient(parameter)?.filter(|_| self.present[i]) {
                Some(gradient) => drop(gradient.f_mul_out(&view, &factor)?),
                None => drop(view.f_zero_()?),
            }
            if kind == own_kind {
                set_gradient(parameter, &view)?;
            }
            lying.push((i, offset));
            offset += parameter.numel();
        }
        self.bytes += (offset * kind.elt_size_in_bytes()) as u64;
        let pending = communicator.sum(&flat)?;
        self.sent.push(Sent { flat, members: lying, pending });
        Ok(())
    }

    /// Waits for all that was sent.
    pub fn finish(
        mut self,
        communicator: &dyn Communicator,
        options: &Averaging,
        state: &mut State,
        losses: &[(Tensor, u64)],
    ) -> Result<Averaged, Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        // A model whose parameters nobody uses still agrees, and still has a loss.
        self.agreed(communicator, true)?;
        let Agreement::Known { count, stop, save, ref used } = self.agreement else {
            return Err(Failure::Here(Error::Usage("the ranks did not agree".to_owned())));
        };
        (state.stop.1, state.save.1) = (stop, save);
        // A backward pass within the backward pass is not in the graph.
        let strange = |&i: &usize| !used[i] && state.parameters[i].grad().defined();
        if let Some(i) = (0..used.len()).find(strange) {
            return Err(Failure::Here(Error::Usage(format!(
                "`{}` has a gradient that the graph of the loss did not lead to, so it was not averaged: \
                 does the forward compute anything anew in its backward pass?",
                state.names[i]
            ))));
        }
        let loss = weighted(losses, state)?;
        let pending = communicator.sum(&loss)?;
        for Sent { flat, members, pending } in self.sent {
            pending.wait()?;
            let kind = state.parameters[members[0].0].kind();
            if flat.kind() == kind {
                continue;
            }
            let wide = flat.f_to_kind(kind)?;
            for (i, offset) in members {
                let parameter = &state.parameters[i];
                set_gradient(parameter, &view_like(&wide, offset as i64, parameter)?)?;
            }
        }
        pending.wait_on_host()?;
        let world_size = communicator.world_size() as f64;
        let factor = options.predivide.unwrap_or(world_size) / world_size;
        Ok(Averaged { count, loss: loss.f_div_scalar(count as f64)?, factor, bytes: self.bytes })
    }
}

/// The sum of what was counted on this rank: a float64 scalar.
fn weighted(losses: &[(Tensor, u64)], state: &State) -> Result<Tensor, Failure> {
    let device = losses.first().map(|(mean, _)| mean.device());
    let device = device.or_else(|| state.parameters.first().map(Tensor::device));
    let mut sum = Tensor::f_zeros([], (Kind::Double, device.unwrap_or(Device::Cpu)))?;
    for (mean, count) in losses.iter().filter(|(_, count)| *count > 0) {
        let part = mean.f_detach()?.f_to_kind(Kind::Double)?.f_mul_scalar(*count as f64)?;
        let _ = sum.f_add_(&part)?;
    }
    Ok(sum)
}
