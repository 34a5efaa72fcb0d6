//! A configuration that was read and checked, ready to become an engine.
use crate::communicator::{Fingerprint, Mismatch};
use crate::config::{Config, Note};
use crate::engine::{About, Engine, named};
use crate::error::{Invalid, Result};
use crate::layers::Layers;
use crate::parts::{BuildContext, Curve, Parts};
use crate::registry::Registry;
use crate::schedule::{Constant, LearningRate};
use crate::settings::{BatchSizes, Settings};
use crate::world::World;
use serde::de::DeserializeOwned;
use tch::nn::VarStore;
use tracing::{info, warn};

/// A configuration that was read and checked, ready to become an engine.
pub struct Plan {
    registry: Registry,
    config: Config,
    settings: Settings,
    world: World,
    notes: Vec<Note>,
    steps_per_epoch: Option<u64>,
    fingerprints: Vec<Fingerprint>,
}

/// What a configuration will do, in words and curves.
pub struct Explanation {
    /// One line for each thing that is on, with the key that switched it on, in running order.
    pub lines: Vec<(String, String)>,
    /// What will hardly do what was meant, with the key that switched it on.
    pub warnings: Vec<(String, String)>,
    /// Values over the run's steps: the learning rate first, then the plugins'.
    pub curves: Vec<Curve>,
    /// Optimizer steps of the whole run, where they are known.
    pub total_steps: Option<u64>,
    /// Whether a section sets the optimizer, without which there is no engine.
    pub optimizer: bool,
}

impl Plan {
    pub(crate) fn new(
        registry: Registry,
        config: Config,
        settings: Settings,
        world: World,
        notes: Vec<Note>,
    ) -> Result<Self> {
        let (steps_per_epoch, fingerprints) = (None, Vec::new());
        let plan = Plan { registry, config, settings, world, notes, steps_per_epoch, fingerprints };
        plan.batch_sizes(plan.ranks())?;
        plan.total_steps()?;
        Ok(plan)
    }

    /// The engine's own keys.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This process among those that train together: which share of the data is its own.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The merged configuration, with the place that each value came from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What a user should know of values that are accepted: keys that change nothing here, and what was
    /// filled in for `"auto"`. In the order of the file.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What a user should know of keys that the file leaves out.
    pub fn left_out(&self) -> Vec<Note> {
        self.registry.left_out(&self.config)
    }

    /// A section that the program reads itself; none if it is absent.
    ///
    /// # Errors
    /// If it is not what `T` reads, with the position.
    pub fn section<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.config.section(key)?)
    }

    /// An error about the value at `path`, dotted, with its position in the file.
    pub fn invalid(&self, path: &str, message: impl Into<String>) -> crate::Error {
        let problem = self.config.problem(path, message);
        // With the text, so that the place is underlined.
        self.config.require_none(vec![problem]).expect_err("one problem").into()
    }

    /// How many ranks the plan is for.
    pub fn ranks(&self) -> u64 {
        self.world.world_size as u64
    }

    /// Batch sizes for so many ranks; none where the configuration has no batch.
    ///
    /// # Errors
    /// If the batch does not divide, with the nearest that does.
    pub fn batch_sizes(&self, world_size: u64) -> Result<Option<BatchSizes>> {
        let sizes = BatchSizes::solve(&self.settings, world_size);
        sizes.map_err(|wrong| self.at(wrong.with_sources(&self.config, &BatchSizes::KEYS)))
    }

    /// Tells how many steps one pass over the data has, so that a run whose length is in epochs knows
    /// its steps.
    #[must_use]
    pub fn with_steps_per_epoch(mut self, steps: u64) -> Self {
        self.steps_per_epoch = Some(steps);
        self
    }

    /// Tells what all ranks have to have alike besides configuration and model: `value`, such as a digest,
    /// stands for what is called `name` after "the same", such as `data`. Ranks compare it when they meet.
    #[must_use]
    pub fn with_fingerprint(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
        mismatch: Mismatch,
    ) -> Self {
        self.fingerprints.push(Fingerprint::new(name, value, mismatch));
        self
    }

    /// Optimizer steps of the whole run, where they are known.
    ///
    /// # Errors
    /// If the configuration sets the length twice.
    pub fn total_steps(&self) -> Result<Option<u64>> {
        self.settings.training.steps(self.steps_per_epoch).map_err(|e| self.at(e))
    }

    /// Patterns on the names of the modules that the configuration wants as layers: what
    /// [`Script::load`](crate::script::Script::load) takes.
    ///
    /// # Errors
    /// If a section is not what its plugin reads.
    pub fn layer_patterns(&self) -> Result<Vec<String>> {
        Ok(self.registry.layer_patterns(&self.config)?)
    }

    /// Builds the engine around a model whose parameters are in `variables` and whose blocks came from
    /// `layers`. Logs the plan, line by line.
    ///
    /// # Errors
    /// Every problem that needs the model to be seen, at once, with positions.
    pub fn engine<M>(&self, model: M, variables: &VarStore, layers: &Layers) -> Result<Engine<M>> {
        let (parameters, _) = named(variables);
        let context = BuildContext {
            blocks: layers.blocks(),
            shapes: parameters.iter().map(|(_, tensor)| tensor.size()).collect(),
            parameters: parameters.into_iter().map(|(name, _)| name).collect(),
            device: Some(variables.device()),
            ..self.context()?
        };
        let parts = self.parts(&context)?;
        for note in &self.notes {
            info!("{note}");
        }
        for (section, line) in &parts.lines {
            info!("{section}: {line}");
        }
        for (section, line) in &parts.warnings {
            warn!("{section}: {line}");
        }
        let about = About {
            configuration: self.config.value(),
            training: &self.settings.training,
            sizes: self.batch_sizes(self.ranks())?,
            total_steps: context.total_steps,
            world: &self.world,
            fingerprints: &self.fingerprints,
        };
        Engine::new(model, variables, layers, parts, about)
    }

    /// What the configuration will do with a model of these `layers` and parameters, by name and size.
    ///
    /// # Errors
    /// As [`engine`](Plan::engine).
    pub fn explain(
        &self,
        layers: &Layers,
        parameters: Vec<(String, Vec<i64>)>,
    ) -> Result<Explanation> {
        let blocks = layers.blocks();
        let (parameters, shapes) = parameters.into_iter().unzip();
        let context = BuildContext { blocks, parameters, shapes, ..self.context()? };
        let parts = self.registry.build(&self.config, &context)?;
        let Parts { optimizer, learning_rate, lines, warnings, curves: others, .. } = parts;
        let optimized = optimizer.is_some();
        let rate: Box<dyn LearningRate> =
            learning_rate.map_or_else(|| Box::new(Constant) as _, |(_, rate)| rate);
        let base = optimizer.and_then(|(_, (_, groups))| groups.first().map(|g| g.options.lr));
        let mut curves = Vec::new();
        if let Some(base) = base {
            let value = Box::new(move |step: u64| rate.at(step, base).lr);
            curves.push(Curve { name: "learning rate".to_owned(), value });
        }
        curves.extend(others);
        let owned = |said: Vec<(&str, String)>| {
            said.into_iter().map(|(section, line)| (section.to_owned(), line)).collect()
        };
        Ok(Explanation {
            lines: owned(lines),
            warnings: owned(warnings),
            curves,
            total_steps: context.total_steps,
            optimizer: optimized,
        })
    }

    /// Builds every section, and makes sure that there is an optimizer, the one part without a default.
    fn parts(&self, context: &BuildContext) -> Result<Parts> {
        let parts = self.registry.build(&self.config, context)?;
        match parts.optimizer {
            Some(_) => Ok(parts),
            None => Err(self.no_optimizer()),
        }
    }

    /// The error of a configuration in which no section sets the optimizer; see
    /// [`Explanation::optimizer`].
    pub fn no_optimizer(&self) -> crate::Error {
        let keys: Vec<_> = self.registry.keys().map(|key| format!("{key:?}")).collect();
        let message = format!(
            "no section sets the optimizer, which has no default; the sections of this program are {}",
            keys.join(", ")
        );
        self.invalid("", message)
    }

    fn context(&self) -> Result<BuildContext> {
        let sizes = self.batch_sizes(self.ranks())?;
        Ok(BuildContext {
            seed: self.settings.training.seed,
            total_steps: self.total_steps()?,
            gradient_accumulation_steps: sizes.map_or(1, |sizes| sizes.accumulation),
            world: self.world.clone(),
            ..BuildContext::default()
        })
    }

    fn at(&self, invalid: Invalid) -> crate::Error {
        self.invalid(&invalid.path, invalid.message)
    }
}
