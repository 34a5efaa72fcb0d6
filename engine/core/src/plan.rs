//! A configuration that was read and checked, ready to become an engine.
use crate::communicator::{Fingerprint, Mismatch};
use crate::engine::{About, Engine, named};
use crate::error::Result;
use crate::layers::Layers;
use crate::parts::BuildContext;
use crate::registry::Registry;
use serde::de::DeserializeOwned;
use tch::nn::VarStore;
use tracing::{info, warn};
use trainyard_config::{BatchSizes, Config, Explanation, Note, Resolved, Settings, Weight, World};

/// A configuration that was read and checked, ready to become an engine.
pub struct Plan {
    registry: Registry,
    resolved: Resolved,
    fingerprints: Vec<Fingerprint>,
}

impl Plan {
    pub(crate) fn new(registry: Registry, resolved: Resolved) -> Self {
        Plan { registry, resolved, fingerprints: Vec::new() }
    }

    /// The configuration that it is of.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The engine's own keys.
    pub fn settings(&self) -> &Settings {
        self.resolved.settings()
    }

    /// This process among those that train together: which share of the data is its own.
    pub fn world(&self) -> &World {
        self.resolved.world()
    }

    /// The merged configuration, with the place that each value came from.
    pub fn config(&self) -> &Config {
        self.resolved.config()
    }

    /// What a user should know of values that are accepted: keys that change nothing here, and what was
    /// filled in for `"auto"`. In the order of the file.
    pub fn notes(&self) -> &[Note] {
        self.resolved.notes()
    }

    /// What a user should know of keys that the file leaves out.
    pub fn left_out(&self) -> Vec<Note> {
        self.resolved.left_out()
    }

    /// A section that the program reads itself; none if it is absent.
    ///
    /// # Errors
    /// If it is not what `T` reads, with the position.
    pub fn section<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.resolved.section(key)?)
    }

    /// An error about the value at `path`, dotted, with its position in the file.
    pub fn invalid(&self, path: &str, message: impl Into<String>) -> crate::Error {
        self.resolved.invalid(path, message).into()
    }

    /// How many ranks the plan is for.
    pub fn ranks(&self) -> u64 {
        self.resolved.ranks()
    }

    /// Batch sizes for so many ranks; none where the configuration has no batch.
    ///
    /// # Errors
    /// If the batch does not divide, with the nearest that does.
    pub fn batch_sizes(&self, world_size: u64) -> Result<Option<BatchSizes>> {
        Ok(self.resolved.batch_sizes(world_size)?)
    }

    /// Tells how many steps one pass over the data has, so that a run whose length is in epochs knows
    /// its steps.
    #[must_use]
    pub fn with_steps_per_epoch(self, steps: u64) -> Self {
        Plan { resolved: self.resolved.with_steps_per_epoch(steps), ..self }
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
        Ok(self.resolved.total_steps()?)
    }

    /// Patterns on the names of the modules that the configuration wants as layers: what
    /// [`Script::load`](crate::script::Script::load) takes.
    pub fn layer_patterns(&self) -> Vec<String> {
        self.resolved.layer_patterns()
    }

    /// What the configuration will do with a model of these `layers` and parameters, by name and size.
    ///
    /// # Errors
    /// Every problem that needs the model's shape to be seen, at once, with positions.
    pub fn explain(
        &self,
        layers: &Layers,
        parameters: Vec<(String, Vec<i64>)>,
    ) -> Result<Explanation> {
        Ok(self.resolved.explain(layers.blocks(), parameters)?)
    }

    /// Builds the engine around a model whose parameters are in `variables` and whose blocks came from
    /// `layers`. Logs the plan, line by line.
    ///
    /// # Errors
    /// Every problem that needs the model to be seen, at once, with positions.
    pub fn engine<M>(&self, model: M, variables: &VarStore, layers: &Layers) -> Result<Engine<M>> {
        let (parameters, _) = named(variables);
        let sizes = parameters.into_iter().map(|(name, tensor)| (name, tensor.size())).collect();
        let context = self.resolved.context(layers.blocks(), sizes)?;
        let mut outline = self.resolved.outline(&context)?;
        let Some(groups) = outline.groups().map(<[_]>::to_vec) else {
            return Err(self.resolved.no_optimizer().into());
        };
        // All ranks have the same; one of them tells.
        let tells = self.world().rank == 0;
        for note in self.notes().iter().filter(|_| tells) {
            match note.weight {
                Weight::Missing | Weight::Result => warn!("{note}"),
                Weight::Little => info!("{note}"),
            }
        }
        for (section, line) in outline.lines() {
            info!("{section}: {line}");
        }
        for (section, warning) in outline.warnings().iter().filter(|_| tells) {
            warn!("{section}: {warning}");
        }
        let context = BuildContext { run: context, device: variables.device() };
        let about = About {
            configuration: self.config().value(),
            training: &self.settings().training,
            sizes: self.batch_sizes(self.ranks())?,
            total_steps: context.run.total_steps,
            world: self.world(),
            groups,
            learning_rate: outline.take_learning_rate(),
            fingerprints: &self.fingerprints,
        };
        let parts = self.registry.build(&self.resolved, &context)?;
        Engine::new(model, variables, layers, parts, about)
    }
}
