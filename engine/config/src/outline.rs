//! What a configuration will do with a model, told without a tensor.
use crate::error::BoxError;
use crate::groups::Group;
use crate::schedule::{Constant, LearningRate, Schedule};
use crate::world::World;

/// A block of the model as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Dotted name: the path its parameters are under, where the model gave one.
    pub name: String,
    /// Names of its residual branches; empty for a block that is wrapped whole.
    pub sublayers: Vec<String>,
}

/// What a section may know of the run and of the model's shape.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The model's blocks, in the order of the forward.
    pub blocks: Vec<BlockInfo>,
    /// Names of the trainable parameters, sorted.
    pub parameters: Vec<String>,
    /// Their sizes, in the same order; empty where there is no model yet.
    pub shapes: Vec<Vec<i64>>,
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

/// What a configuration will do, in words and curves.
pub struct Explanation {
    /// One line for each thing that is on, with the key that switched it on, in running order.
    pub lines: Vec<(String, String)>,
    /// What will hardly do what was meant, with the key that switched it on.
    pub warnings: Vec<(String, String)>,
    /// Values over the run's steps: the learning rate first, then the sections'.
    pub curves: Vec<Curve>,
    /// Optimizer steps of the whole run, where they are known.
    pub total_steps: Option<u64>,
    /// Whether a section sets the optimizer, without which nothing is trained.
    pub optimizer: bool,
}

/// What only one section may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Optimizer,
    LearningRate,
    Precision,
    Communicator,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Slot::Optimizer => "the optimizer",
            Slot::LearningRate => "the learning rate",
            Slot::Precision => "the precision",
            Slot::Communicator => "the communicator",
        }
    }
}

/// What the sections of a configuration will do, in words, curves and numbers.
#[derive(Default)]
pub struct Outline {
    section: &'static str,
    claims: Vec<(Slot, &'static str)>,
    groups: Option<Vec<Group>>,
    learning_rate: Option<Box<dyn LearningRate>>,
    lines: Vec<(&'static str, String)>,
    warnings: Vec<(&'static str, String)>,
    curves: Vec<Curve>,
}

impl Outline {
    /// Says in one line of the plan what this section does.
    pub fn describe(&mut self, line: impl Into<String>) {
        self.lines.push((self.section, line.into()));
    }

    /// Says that this section will hardly do what was meant.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push((self.section, warning.into()));
    }

    /// Shows a value over the run's steps in the plan.
    pub fn curve(&mut self, name: impl Into<String>, value: impl Schedule + 'static) {
        self.curves.push(Curve { name: name.into(), value: Box::new(value) });
    }

    /// Claims the optimizer. `groups` hold each parameter of the context once.
    ///
    /// # Errors
    /// If another section did.
    pub fn optimizer(&mut self, groups: Vec<Group>) -> Result<(), BoxError> {
        self.claim(Slot::Optimizer)?;
        self.groups = Some(groups);
        Ok(())
    }

    /// Claims the learning rate, with its schedule.
    ///
    /// # Errors
    /// If another section did.
    pub fn learning_rate(&mut self, rate: impl LearningRate + 'static) -> Result<(), BoxError> {
        self.claim(Slot::LearningRate)?;
        self.learning_rate = Some(Box::new(rate));
        Ok(())
    }

    /// Claims the precision.
    ///
    /// # Errors
    /// If another section did.
    pub fn precision(&mut self) -> Result<(), BoxError> {
        self.claim(Slot::Precision)
    }

    /// Claims the communicator.
    ///
    /// # Errors
    /// If another section did.
    pub fn communicator(&mut self) -> Result<(), BoxError> {
        self.claim(Slot::Communicator)
    }

    /// One line for each thing that is on, behind the key that switched it on, in running order.
    pub fn lines(&self) -> &[(&'static str, String)] {
        &self.lines
    }

    /// What the sections warn of, each behind its key.
    pub fn warnings(&self) -> &[(&'static str, String)] {
        &self.warnings
    }

    /// The parameter groups, where a section sets the optimizer.
    pub fn groups(&self) -> Option<&[Group]> {
        self.groups.as_deref()
    }

    /// The schedule of the learning rate, taken out; the configured rate, always, where no section sets one.
    pub fn take_learning_rate(&mut self) -> Box<dyn LearningRate> {
        self.learning_rate.take().unwrap_or_else(|| Box::new(Constant))
    }

    /// Values over the run's steps: the first group's learning rate first, then the sections'.
    pub fn into_curves(mut self) -> Vec<Curve> {
        let rate = self.take_learning_rate();
        let base = self.groups.iter().flatten().next().map(|group| group.options.lr);
        let value = base.map(|base| Box::new(move |step: u64| rate.at(step, base).lr) as Box<_>);
        let of_rate = value.map(|value| Curve { name: "learning rate".to_owned(), value });
        of_rate.into_iter().chain(self.curves).collect()
    }

    /// Names the section that speaks next.
    pub(crate) fn begin(&mut self, section: &'static str) {
        self.section = section;
    }

    fn claim(&mut self, slot: Slot) -> Result<(), BoxError> {
        if let Some((_, other)) = self.claims.iter().find(|(taken, _)| *taken == slot) {
            let (section, what) = (self.section, slot.name());
            return Err(format!("`{section}` and `{other}` both set {what}; keep one").into());
        }
        self.claims.push((slot, self.section));
        Ok(())
    }
}
