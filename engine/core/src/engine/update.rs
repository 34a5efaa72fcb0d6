//! From the gradients of a round to the update and its report.
use super::Engine;
use super::non_finite::NonFinite;
use crate::averaging::Averaged;
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::optimizer::Update;
use crate::report::{Report, Skipped};
use crate::strides::copy_like;
use tch::{Device, Kind, Tensor};
use tracing::{debug_span, info, warn};

/// What the micro-batches of a step come to.
struct Gathered {
    /// Means, each with what it is the mean over.
    losses: Vec<(Tensor, u64)>,
    /// What was counted in all.
    count: u64,
    /// What the gradients have to be multiplied by to be those of the mean.
    factor: f64,
    bytes_sent: u64,
}

impl<M> Engine<M> {
    /// Ends the step once all its micro-batches are there: the third of the three calls.
    /// `None` before the last micro-batch of `gradient_accumulation_steps`.
    ///
    /// # Errors
    /// As [`step`](Engine::step).
    pub fn update(&mut self) -> Result<Option<Report>> {
        match self.round.micro_batches {
            0 => Err(Error::Usage("`update` needs a `forward` and a `backward` first".to_owned())),
            n if n < self.accumulation() => Ok(None),
            _ => self.finish_round().map(Some),
        }
    }

    pub(super) fn finish_round(&mut self) -> Result<Report> {
        let _span = debug_span!("update", step = self.step).entered();
        self.forget_casts()?;
        let report = self.layers.settle().and_then(|()| tch::no_grad(|| self.apply()));
        self.end_round();
        let mut report = report?;
        for (section, plugin) in &mut self.plugins {
            plugin.end_step(&mut report).map_err(|source| Error::Plugin {
                section,
                step: report.step,
                source,
            })?;
        }
        if let Some(averager) = self.averager.as_ref().filter(|_| !report.metrics.is_empty()) {
            averager.mean(&mut report.metrics, self.attempt)?;
        }
        Ok(report)
    }

    fn apply(&mut self) -> Result<Report> {
        let now = self.moment();
        let Gathered { losses, count, factor, bytes_sent } = self.gather()?;
        let mut gradients = Gradients::collect(&self.parameters, &self.with_gaps)?;
        // Before a plugin may give the idle ones a gradient.
        let idle_parameters = gradients.idle();
        let loss_scale = self.precision.1.loss_scale();
        let mut report = Report {
            step: self.step,
            loss: f64::NAN,
            count,
            lr: self.rates(0).lr,
            loss_scale,
            skipped: true,
            idle_parameters,
            bytes_sent,
            ..Report::default()
        };
        if count == 0 {
            // Nothing to try again with other numbers: the step has been, and had nothing to learn from.
            let whose = if self.averager.is_some() { " of any rank" } else { "" };
            warn!("step {} is skipped: no micro-batch{whose} counted anything", now.step);
            report.skip_reason = Some(Skipped::NothingCounted);
            return Ok(self.ended(report));
        }
        if factor != 1.0 {
            gradients.scale_by(factor)?;
        }
        let (section, precision) = &mut self.precision;
        let fits = precision.unscale(&mut gradients);
        let fits = fits.map_err(|source| Error::Plugin { section, step: now.step, source })?;
        if fits {
            for (section, plugin) in &mut self.plugins {
                plugin.gradients(now, &mut gradients).map_err(|source| Error::Plugin {
                    section,
                    step: now.step,
                    source,
                })?;
            }
        }
        let looks = [gradients.blemished()?, self.watched.look()?];
        // All that the host reads in a step, in one go, before anything is changed.
        let Read { loss, grad_norm, found } = read(&losses, count, gradients.known_norm(), &looks)?;
        (report.loss, report.grad_norm) = (loss, grad_norm);
        let [blemished, nan_buffer] = found;
        let finite = loss.is_finite() && !blemished && grad_norm.is_none_or(f64::is_finite);
        if !fits && loss.is_finite() {
            let next = self.precision.1.loss_scale();
            info!(
                step = now.step,
                loss_scale, next, "a gradient overflowed; the update is skipped"
            );
            report.skip_reason = Some(Skipped::Overflow);
            return Ok(self.ended(report));
        }
        if !finite {
            let norm = match grad_norm {
                Some(norm) if !norm.is_finite() => norm,
                _ => gradients.norm()?.f_double_value(&[])?,
            };
            let (parameters, created) = (&self.parameters, &self.created);
            let found = NonFinite::find(loss, Some(norm), &gradients, parameters, created)?;
            if self.terminate_on_nan {
                // The section that asks for it.
                let (section, step, source) = ("training", now.step, found.into());
                return Err(Error::Plugin { section, step, source });
            }
            warn!("step {} is skipped: {found}", now.step);
            // Where the parameters themselves are lost, no later step can be any better.
            self.check_finite_parameters()?;
            report.skip_reason = Some(Skipped::NonFinite);
            return Ok(self.ended(report));
        }
        if !self.optimizer.1.takes_scale() {
            gradients.settle()?;
        }
        let factor = gradients.factor().map(Tensor::shallow_clone);
        let picked = pick(&gradients, self.groups.iter().map(|g| g.members.as_slice()));
        if nan_buffer {
            self.tell_of_buffers()?;
        }
        report.lr = self.optimize(picked, factor.as_ref())?;
        report.skipped = false;
        Ok(self.ended(report))
    }

    /// Completes the report of a round, and counts it.
    fn ended(&mut self, report: Report) -> Report {
        let seconds = self.round.began.elapsed().as_secs_f64();
        let samples = self.sizes.map(|sizes| sizes.micro_batch * self.round.micro_batches);
        let samples = samples.map(|n| n as f64 * self.communicator.world_size() as f64);
        self.attempt += 1;
        self.step += u64::from(report.completes());
        Report {
            layer_calls: self.layers.take_calls(),
            seconds,
            samples_per_second: samples.map(|n| n / seconds),
            ..report
        }
    }

    /// What the step's micro-batches come to, over all ranks.
    fn gather(&mut self) -> Result<Gathered> {
        if let Some(averager) = &self.averager {
            let Averaged { count, loss, factor, bytes } =
                averager.finish(&self.round.losses, self.step)?;
            return Ok(Gathered { losses: vec![(loss, count)], count, factor, bytes_sent: bytes });
        }
        let losses = std::mem::take(&mut self.round.losses);
        let count: u64 = losses.iter().map(|(_, count)| count).sum();
        // Micro-batches of equal counts were divided rightly from the start.
        let factor = self.round.normaliser.map_or(1.0, |normaliser| normaliser / count as f64);
        Ok(Gathered { losses, count, factor, bytes_sent: 0 })
    }

    /// Updates the parameters that have a gradient, group by group; the first group's learning rate.
    fn optimize(
        &mut self,
        picked: Vec<Vec<(usize, Tensor)>>,
        scale: Option<&Tensor>,
    ) -> Result<f64> {
        for (index, picked) in picked.into_iter().enumerate().filter(|(_, p)| !p.is_empty()) {
            let rates = self.rates(index);
            let options = self.groups[index].options;
            let (members, gradients): (Vec<_>, Vec<_>) = picked.into_iter().unzip();
            let parameters =
                members.iter().map(|&i| self.in_one_block(i)).collect::<Result<Vec<_>>>()?;
            for &i in &members {
                self.updates[i] += 1;
                if self.slots[i].is_none() {
                    self.slots[i] = Some(self.new_slots(i)?);
                }
            }
            let slot =
                |s: usize, i: usize| self.slots[i].as_ref().map(|all| all[s].shallow_clone());
            let slots: Vec<Vec<_>> = (0..self.slot_names[members[0]].len())
                .map(|s| members.iter().filter_map(|&i| slot(s, i)).collect())
                .collect();
            let steps: Vec<_> = members.iter().map(|&i| self.updates[i]).collect();
            let update = Update {
                lr: rates.lr,
                betas: rates.betas,
                options: &options,
                parameters: &parameters,
                gradients: &gradients,
                scale,
                slots: &slots,
                steps: &steps,
            };
            let (section, optimizer) = &mut self.optimizer;
            optimizer.update(&update).map_err(|source| Error::Plugin {
                section,
                step: self.step,
                source,
            })?;
            for (i, changed) in members.into_iter().zip(&parameters) {
                if self.with_gaps.contains(&i) {
                    self.parameters[i].1.f_copy_(changed)?;
                }
            }
        }
        Ok(self.rates(0).lr)
    }

    /// The parameter, or a copy without its gaps, which optimizers know nothing of.
    fn in_one_block(&self, parameter: usize) -> Result<Tensor> {
        let (_, tensor) = &self.parameters[parameter];
        match self.with_gaps.contains(&parameter) {
            true => copy_like(tensor, tensor),
            false => Ok(tensor.shallow_clone()),
        }
    }

    fn rates(&self, group: usize) -> trainyard_config::Rates {
        let base = self.groups.get(group).map_or(0.0, |group| group.options.lr);
        self.learning_rate.at(self.step, base)
    }

    pub(super) fn new_slots(&self, parameter: usize) -> Result<Vec<Tensor>> {
        let (_, tensor) = &self.parameters[parameter];
        let zeros = |_| tensor.f_zeros_like();
        Ok(self.slot_names[parameter].iter().map(zeros).collect::<std::result::Result<_, _>>()?)
    }
}

/// The members of each group that are not idle, with their gradients.
fn pick<'a>(
    gradients: &Gradients<'_>,
    groups: impl Iterator<Item = &'a [usize]>,
) -> Vec<Vec<(usize, Tensor)>> {
    let active = |&i: &usize| gradients.at(i).map(|gradient| (i, gradient.shallow_clone()));
    groups.map(|members| members.iter().filter_map(active).collect()).collect()
}

/// What the host reads of a step.
struct Read {
    /// The mean over all that was counted.
    loss: f64,
    /// Where it is known.
    grad_norm: Option<f64>,
    /// What the looks found.
    found: [bool; 2],
}

fn read(
    losses: &[(Tensor, u64)],
    count: u64,
    norm: Option<&Tensor>,
    looks: &[Option<Tensor>; 2],
) -> Result<Read> {
    let counted = || losses.iter().filter(|(_, count)| *count > 0);
    let means = counted().map(|(mean, _)| mean);
    let scalars: Vec<_> = means.chain(norm).chain(looks.iter().flatten()).collect();
    let mut values = host(&scalars)?.into_iter();
    let means: Vec<_> = values.by_ref().take(counted().count()).collect();
    let loss = match means[..] {
        [mean] => mean,
        _ => {
            let weighted = means.iter().zip(counted()).map(|(mean, (_, n))| mean * *n as f64);
            weighted.sum::<f64>() / count as f64
        }
    };
    let grad_norm = norm.and_then(|_| values.next());
    let found = looks.each_ref().map(|look| look.is_some() && values.next() == Some(1.0));
    Ok(Read { loss, grad_norm, found })
}

/// Scalar tensors as numbers, in one copy if they are on one device.
fn host(scalars: &[&Tensor]) -> Result<Vec<f64>> {
    let device = scalars[0].device();
    if device == Device::Cpu || scalars.iter().any(|scalar| scalar.device() != device) {
        return Ok(scalars
            .iter()
            .map(|scalar| scalar.f_double_value(&[]))
            .collect::<std::result::Result<_, _>>()?);
    }
    let doubles: Vec<_> =
        scalars.iter().map(|s| s.f_to_kind(Kind::Double)).collect::<std::result::Result<_, _>>()?;
    Ok(Vec::try_from(Tensor::f_stack(&doubles, 0)?)?)
}
