//! What plugins are built from, and what they build.
use crate::averaging::Averaging;
use crate::communicator::Communicator;
use crate::error::BoxError;
use crate::layers::BlockInfo;
use crate::optimizer::{Group, Optimizer};
use crate::plugin::Plugin;
use crate::precision::Precision;
use crate::schedule::{LearningRate, Schedule};
use crate::world::World;
use tch::Device;

/// What a plugin may know while it is built.
#[derive(Debug, Clone, Default)]
pub struct BuildContext {
    /// The model's blocks, in the order of the forward.
    pub blocks: Vec<BlockInfo>,
    /// Names of the trainable parameters, sorted.
    pub parameters: Vec<String>,
    /// Their sizes, in the same order; empty where there is no model yet.
    pub shapes: Vec<Vec<i64>>,
    /// Where they lie; none where there is no model yet.
    pub device: Option<Device>,
    /// The run's seed.
    pub seed: u64,
    /// Optimizer steps of the whole run, where they are known.
    pub total_steps: Option<u64>,
    /// Micro-batches in a step.
    pub gradient_accumulation_steps: u64,
    /// This process among the others.
    pub world: World,
}

/// A curve over the run's steps, for showing.
pub struct Curve {
    /// What it is: `learning rate`, `theta`.
    pub name: String,
    /// Its value at each step.
    pub value: Box<dyn Schedule>,
}

/// The running parts that the sections of a configuration asked for.
///
/// Any number of plugins; one optimizer, one learning-rate schedule, one precision and one
/// communicator, each of which only one section may claim.
#[derive(Default)]
pub struct Parts {
    section: &'static str,
    pub(crate) plugins: Vec<(&'static str, Box<dyn Plugin>)>,
    pub(crate) optimizer: Slot<(Box<dyn Optimizer>, Vec<Group>)>,
    pub(crate) learning_rate: Slot<Box<dyn LearningRate>>,
    pub(crate) precision: Slot<Box<dyn Precision>>,
    pub(crate) communicator: Slot<(Box<dyn Communicator>, Averaging)>,
    pub(crate) lines: Vec<(&'static str, String)>,
    pub(crate) warnings: Vec<(&'static str, String)>,
    pub(crate) curves: Vec<Curve>,
}

pub(crate) type Slot<T> = Option<(&'static str, T)>;

impl Parts {
    /// Adds a plugin behind those that are there.
    pub fn plugin(&mut self, plugin: impl Plugin + 'static) {
        self.plugins.push((self.section, Box::new(plugin)));
    }

    /// Claims the optimizer. `groups` hold each parameter of the context once.
    ///
    /// # Errors
    /// If another section did.
    pub fn optimizer(
        &mut self,
        optimizer: impl Optimizer + 'static,
        groups: Vec<Group>,
    ) -> Result<(), BoxError> {
        claim("the optimizer", self.section, &mut self.optimizer, (Box::new(optimizer), groups))
    }

    /// Claims the learning-rate schedule.
    ///
    /// # Errors
    /// If another section did.
    pub fn learning_rate(&mut self, rate: impl LearningRate + 'static) -> Result<(), BoxError> {
        claim("the learning rate", self.section, &mut self.learning_rate, Box::new(rate))
    }

    /// Claims the precision.
    ///
    /// # Errors
    /// If another section did.
    pub fn precision(&mut self, precision: impl Precision + 'static) -> Result<(), BoxError> {
        claim("the precision", self.section, &mut self.precision, Box::new(precision))
    }

    /// Claims the communicator, and how gradients are averaged with it.
    ///
    /// # Errors
    /// If another section did.
    pub fn communicator(
        &mut self,
        communicator: impl Communicator + 'static,
        averaging: Averaging,
    ) -> Result<(), BoxError> {
        let claimed: (Box<dyn Communicator>, _) = (Box::new(communicator), averaging);
        claim("the communicator", self.section, &mut self.communicator, claimed)
    }

    /// Says in one line of the plan what this section does.
    pub fn describe(&mut self, line: impl Into<String>) {
        self.lines.push((self.section, line.into()));
    }

    /// Says that the section will hardly do what was meant. A configuration may be built many times, and is
    /// warned of once: where it becomes an engine.
    pub fn warn(&mut self, line: impl Into<String>) {
        self.warnings.push((self.section, line.into()));
    }

    /// Shows a value over the run's steps in the plan.
    pub fn curve(&mut self, name: impl Into<String>, value: impl Schedule + 'static) {
        self.curves.push(Curve { name: name.into(), value: Box::new(value) });
    }

    /// Names the section whose parts come next.
    pub(crate) fn begin(&mut self, section: &'static str) {
        self.section = section;
    }
}

fn claim<T>(
    what: &str,
    section: &'static str,
    slot: &mut Slot<T>,
    value: T,
) -> Result<(), BoxError> {
    if let Some((other, _)) = slot {
        return Err(format!("`{section}` and `{other}` both set {what}; keep one").into());
    }
    *slot = Some((section, value));
    Ok(())
}
