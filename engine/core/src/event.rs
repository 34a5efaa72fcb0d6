//! What a run tells its observers.
use crate::{BoxError, Evaluation, Plan, Report};
use std::fmt;
use std::path::Path;

/// What happened in a run, in this order: `Started`, then for each step `Step` or `Failed`, and `Evaluating` and
/// `Evaluated` where it is evaluated, then `Stopping` where it was asked to, then `Saved` for each file, then `Ended`.
/// `Checkpointed` comes once a checkpoint is whole, some steps behind its own as a rule.
/// On every rank, but for `Saved` and `Checkpointed`, which are the first one's, and `Warned`, which is of the rank
/// that it concerns and comes anywhere before `Ended`.
///
/// `Ended` is always the last, and the only one of a run that cannot begin, as where its model finds no room. It is
/// [`Ending::Failed`] whatever came before, also `Stopping` and `Saved`, where this rank or another one failed.
#[non_exhaustive]
pub enum Event<'a> {
    /// The first step is next.
    Started {
        /// The resolved configuration.
        plan: &'a Plan,
        /// Optimizer steps completed before.
        completed_steps: u64,
        /// Optimizer steps of the whole run.
        total_steps: u64,
        /// Where the run writes its files, on the rank that does.
        folder: Option<&'a Path>,
    },
    /// A step ended: its update was done, or skipped.
    Step {
        /// Which attempt it was, from 0; a skipped step is tried again under the same number of steps.
        attempt: u64,
        /// What happened in it.
        report: &'a Report,
    },
    /// A step failed, and the run with it.
    Failed {
        /// Which attempt it was, from 0.
        attempt: u64,
        /// Completed optimizer steps.
        step: u64,
        /// Why.
        error: &'a str,
    },
    /// A batch of an evaluation is next, unless the run is asked to stop.
    Evaluating {
        /// Completed optimizer steps.
        step: u64,
        /// Batches that are done.
        done: usize,
        /// Batches of this rank.
        batches: usize,
    },
    /// The model was evaluated: on all of the validation data, for an evaluation that is cut short has no outcome.
    Evaluated {
        /// Completed optimizer steps.
        step: u64,
        /// At full depth, over the validation data.
        evaluation: &'a Evaluation,
    },
    /// The run was asked to stop on any rank, and does so before its last step or its last evaluation.
    Stopping {
        /// Completed optimizer steps.
        step: u64,
        /// Optimizer steps of the whole run.
        total_steps: u64,
        /// The signal to this rank that asked, if one did.
        by: Option<&'static str>,
    },
    /// Something that a user should know, that does not end the run, and that no other rank knows.
    Warned {
        /// One sentence.
        message: &'a str,
    },
    /// A checkpoint was written.
    Checkpointed {
        /// Its folder.
        path: &'a Path,
    },
    /// A file of the trained model was written.
    Saved {
        /// Its name in the run's folder.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// The run is over, and all that it writes is written.
    Ended {
        /// Why.
        ending: Ending<'a>,
    },
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// Its last step is done.
    Completed,
    /// It was asked to stop.
    Stopped,
    /// An error, in its own words.
    Failed(&'a str),
}

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Completed => "completed",
            Ending::Stopped => "stopped",
            Ending::Failed(_) => "failed",
        })
    }
}

/// What is told of a run as it goes on: progress, monitors, logs.
pub trait Observer {
    /// Takes note of what happened.
    ///
    /// # Errors
    /// One ends the run.
    fn observe(&mut self, event: &Event<'_>) -> Result<(), BoxError>;
}

impl<F: FnMut(&Event<'_>) -> Result<(), BoxError>> Observer for F {
    fn observe(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        self(event)
    }
}
