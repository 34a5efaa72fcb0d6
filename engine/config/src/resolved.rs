//! A configuration that was read and checked.
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::layers::Config;
use crate::problems::{ConfigError, Invalid, Note};
use crate::settings::{BatchSizes, Settings};
use crate::world::World;
use serde::de::DeserializeOwned;

/// A configuration that was read and checked: what holds, for which ranks, and what a user should know.
pub struct Resolved {
    catalog: Catalog,
    config: Config,
    settings: Settings,
    world: World,
    notes: Vec<Note>,
    steps_per_epoch: Option<u64>,
}

impl Resolved {
    pub(crate) fn new(
        catalog: Catalog,
        config: Config,
        settings: Settings,
        world: World,
        notes: Vec<Note>,
    ) -> Result<Self> {
        let resolved = Resolved { catalog, config, settings, world, notes, steps_per_epoch: None };
        resolved.batch_sizes(resolved.ranks())?;
        resolved.total_steps()?;
        Ok(resolved)
    }

    /// The sections that it was read by.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
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
        self.catalog.left_out(&self.config)
    }

    /// A section that the program reads itself; none if it is absent.
    ///
    /// # Errors
    /// If it is not what `T` reads, with the position.
    pub fn section<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> std::result::Result<Option<T>, ConfigError> {
        self.config.section(key)
    }

    /// An error about the value at `path`, dotted, with its position in the file.
    pub fn invalid(&self, path: &str, message: impl Into<String>) -> ConfigError {
        let problem = self.config.problem(path, message);
        // With the text, so that the place is underlined.
        self.config.require_none(vec![problem]).expect_err("one problem")
    }

    /// How many ranks the configuration is for.
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

    /// Optimizer steps of the whole run, where they are known.
    ///
    /// # Errors
    /// If the configuration sets the length twice.
    pub fn total_steps(&self) -> Result<Option<u64>> {
        self.settings.training.steps(self.steps_per_epoch).map_err(|e| self.at(e))
    }

    /// Patterns on the names of the modules that the configuration wants as layers, each once.
    ///
    /// # Errors
    /// If a section is not what its `Config` reads.
    pub fn layer_patterns(&self) -> std::result::Result<Vec<String>, ConfigError> {
        self.catalog.layer_patterns(&self.config)
    }

    fn at(&self, invalid: Invalid) -> Error {
        self.invalid(&invalid.path, invalid.message).into()
    }
}
