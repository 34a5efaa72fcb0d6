//! Both trainings, step by step in turn, so that a noisy machine slows both alike.
use super::completion::{Completion, Sentence};
use super::options::Plans;
use super::probe::{Pair, Probe};
use super::unigram;
use std::time::Instant;
use tch::Device;
use tracing::info;
use tracing::subscriber::{NoSubscriber, with_default};
use trainyard::{Plan, Report};
use trainyard_data::{MlmBatch, MlmData};
use trainyard_models::pretraining::{self, BertRun, forward, model_config, open_data};
use trainyard_run::progress::Screen;
use trainyard_run::{RunError, next};

/// Pairs of steps, with all layers and with none, spread over the training.
const PAIRS: usize = 24;

/// What happened in both trainings.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Every step without layer dropping.
    pub off: Vec<Step>,
    /// Every step with it.
    pub on: Vec<Step>,
    /// Both evaluated.
    pub validation: Vec<Validation>,
    /// Loss of a model that knows the tokens' frequencies alone.
    pub unigram_loss: f64,
    /// Steps with all layers and with none.
    pub pairs: Vec<Pair>,
    /// What both models make of sentences, after the last step.
    pub completions: Vec<Completion>,
    /// Blocks of the model.
    pub blocks: usize,
    /// Numbers that the model learns.
    pub parameters: usize,
    /// Wall-clock time of all of it, from the first step on.
    pub seconds: f64,
}

/// One step of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Wall-clock time.
    pub seconds: f64,
    /// Mean training loss.
    pub loss: f64,
    /// Keep probability of the last block; none without layer dropping.
    pub theta: Option<f64>,
    /// Blocks that ran, the mean over the micro-batches.
    pub depth: f64,
}

/// Both models at full depth on the validation sequences.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Validation {
    /// Completed steps.
    pub step: u64,
    /// Mean loss of the model trained without layer dropping.
    pub off: f64,
    /// Mean loss of the model trained with it.
    pub on: f64,
}

/// Trains both models to the end on the same batches, and lets them complete the sentences.
///
/// # Errors
/// The first of the data, a sentence, a model or a step.
pub fn train(plans: Plans, sentences: &[String], screen: &Screen) -> Result<Record, RunError> {
    let data = open_data(&plans.on)?;
    let sentences = sentences.iter().map(|text| Sentence::new(text, &data));
    let sentences: Vec<_> = sentences.collect::<Result<_, _>>()?;
    let mut on = Arm::new("on", plans.on, &data, screen)?;
    info!("compared with the same run without progressive_layer_drop");
    // The plans of these two differ from the one above in that only: once is enough.
    let (mut off, mut probe) = with_default(NoSubscriber::default(), || {
        let off = Arm::new("off", plans.off, &data, screen)?;
        Ok::<_, RunError>((off, Probe::new(plans.probe, data)?))
    })?;
    let steps = on.run.total_steps();
    let unigram_loss = unigram::level(&on.run)?;
    let mut batches = on.run.batches()?;
    let mut validation = Vec::new();
    let began = Instant::now();
    for step in 0..steps {
        let micro_batches = next(&mut batches)?;
        let order = if step % 2 == 0 { [&mut off, &mut on] } else { [&mut on, &mut off] };
        for arm in order {
            arm.step(&micro_batches)?;
        }
        if step == 0 {
            probe.warm_up(&micro_batches)?;
        }
        while probe.pairs.len() < pairs_until(step + 1, steps) {
            probe.measure(&micro_batches)?;
        }
        if on.run.evaluation_is_due() {
            let step = step + 1;
            validation.push(Validation { step, off: off.evaluate()?, on: on.evaluate()? });
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let models = [&off, &on].map(|arm| arm.run.engine().model());
    let tokenizer = on.run.data().tokenizer();
    let completed = sentences.iter().map(|s| s.complete(tokenizer, models[0], models[1]));
    let completions = completed.collect::<Result<_, _>>()?;
    let parameters = on.run.engine().parameters();
    Ok(Record {
        completions,
        blocks: on.blocks,
        parameters: parameters.map(|(_, tensor)| tensor.numel()).sum(),
        seconds,
        off: off.steps,
        on: on.steps,
        validation,
        unigram_loss,
        pairs: probe.pairs,
    })
}

/// How many pairs there should be after so many of all steps: evenly spread.
fn pairs_until(done: u64, steps: u64) -> usize {
    (PAIRS as u128 * u128::from(done) / u128::from(steps)) as usize
}

/// One of the two trainings.
struct Arm {
    run: BertRun,
    /// Blocks of the model.
    blocks: usize,
    steps: Vec<Step>,
}

impl Arm {
    fn new(name: &str, plan: Plan, data: &MlmData, screen: &Screen) -> Result<Self, RunError> {
        let blocks = model_config(&plan)?.layers as usize;
        let run = pretraining::run(plan, data.clone(), Device::Cpu)?;
        let progress = screen.progress(name, run.total_steps());
        Ok(Arm { run: run.observed(progress), blocks, steps: Vec::new() })
    }

    fn step(&mut self, micro_batches: &[MlmBatch]) -> Result<(), RunError> {
        let began = Instant::now();
        let report = step(&mut self.run, micro_batches)?;
        let seconds = began.elapsed().as_secs_f64();
        self.steps.push(Step::new(&report, self.blocks, seconds));
        Ok(())
    }

    /// The validation loss.
    fn evaluate(&mut self) -> Result<f64, RunError> {
        let forward = forward(Device::Cpu);
        let found = self.run.evaluate(|model, batch| forward(model, batch, false))?;
        Ok(found.expect("nobody can ask it to stop").loss)
    }
}

/// One step of a training on the CPU.
pub(super) fn step(run: &mut BertRun, micro_batches: &[MlmBatch]) -> Result<Report, RunError> {
    let forward = forward(Device::Cpu);
    run.step(micro_batches, |model, batch| forward(model, batch, true))
}

impl Step {
    fn new(report: &Report, blocks: usize, seconds: f64) -> Self {
        // Counted where the layers are called, not taken from what the plugin says of itself.
        let calls = report.layer_calls;
        Step {
            seconds,
            loss: report.loss,
            theta: report.metrics.get("theta").copied(),
            depth: blocks as f64 * calls.run as f64 / calls.offered as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_spread_evenly() {
        assert_eq!([0, 1, 2, 50, 100].map(|done| pairs_until(done, 100)), [0, 0, 0, 12, 24]);
        assert_eq!(pairs_until(1, 1), PAIRS);
        assert_eq!(pairs_until(u64::MAX, u64::MAX), PAIRS);
    }
}
