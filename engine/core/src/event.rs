//! What a run tells its observers.
use crate::{BoxError, Evaluation, Plan, Report};
use std::fmt;
use std::path::Path;

/// What happened in a run, in this order: `Started`, then for each step `Step` or `Failed`, and `Evaluating` and
/// `Evaluated` where it is evaluated, then `Saved` for each file, then `Ended`. On every rank, but for `Saved`, which
/// is the first one's.
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
        /// Whether an evaluation follows.
        evaluates: bool,
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
    /// A batch of an evaluation is next.
    Evaluating {
        /// Completed optimizer steps.
        step: u64,
        /// Batches that are done.
        done: usize,
        /// Batches of this rank.
        batches: usize,
    },
    /// The model was evaluated.
    Evaluated {
        /// Completed optimizer steps.
        step: u64,
        /// At full depth, over the validation data.
        evaluation: &'a Evaluation,
    },
    /// Something that a user should know and that does not end the run.
    Warned {
        /// One sentence.
        message: &'a str,
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
