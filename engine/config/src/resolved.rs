//! A configuration that was read and checked.
use crate::catalog::{Catalog, Present};
use crate::error::{BoxError, Error, Result};
use crate::layers::Config;
use crate::outline::{BlockInfo, Context, Explanation, Outline};
use crate::problems::{ConfigError, Invalid, Note, Problem};
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
    sections: Vec<Present>,
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
        let sections = catalog.sections(&config)?;
        let resolved =
            Resolved { catalog, config, settings, world, notes, sections, steps_per_epoch: None };
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
    pub fn layer_patterns(&self) -> Vec<String> {
        self.catalog.layer_patterns(&self.sections)
    }

    /// The sections that are there, in the order of the catalog.
    pub fn sections(&self) -> &[Present] {
        &self.sections
    }

    /// What sections may know where the model has these blocks and trainable parameters, by name and
    /// sizes; the parameters are empty where there is no model yet.
    ///
    /// # Errors
    /// As [`batch_sizes`](Self::batch_sizes) and [`total_steps`](Self::total_steps).
    pub fn context(
        &self,
        blocks: Vec<BlockInfo>,
        parameters: Vec<(String, Vec<i64>)>,
    ) -> Result<Context> {
        let sizes = self.batch_sizes(self.ranks())?;
        let (parameters, shapes) = parameters.into_iter().unzip();
        Ok(Context {
            blocks,
            parameters,
            shapes,
            seed: self.settings.training.seed,
            total_steps: self.total_steps()?,
            gradient_accumulation_steps: sizes.map_or(1, |sizes| sizes.accumulation),
            world: self.world.clone(),
        })
    }

    /// What the configuration will do.
    ///
    /// # Errors
    /// Every problem that needs the model's shape to be seen, at once, with positions.
    pub fn outline(&self, context: &Context) -> std::result::Result<Outline, ConfigError> {
        let mut outline = Outline::default();
        self.each_section(|section| self.catalog.outline(section, context, &mut outline))?;
        Ok(outline)
    }

    /// What the configuration will do with a model of these blocks and trainable parameters, by name and
    /// sizes; the parameters are empty where there is no model yet.
    ///
    /// # Errors
    /// As [`context`](Self::context) and [`outline`](Self::outline).
    pub fn explain(
        &self,
        blocks: Vec<BlockInfo>,
        parameters: Vec<(String, Vec<i64>)>,
    ) -> Result<Explanation> {
        let context = self.context(blocks, parameters)?;
        let outline = self.outline(&context)?;
        let owned = |said: &[(&str, String)]| {
            said.iter().map(|(section, line)| ((*section).to_owned(), line.clone())).collect()
        };
        Ok(Explanation {
            lines: owned(outline.lines()),
            warnings: owned(outline.warnings()),
            total_steps: context.total_steps,
            optimizer: outline.groups().is_some(),
            curves: outline.into_curves(),
        })
    }

    /// Calls `act` with every section, in order.
    ///
    /// # Errors
    /// All errors of `act`, each at the place that it is about.
    pub fn each_section(
        &self,
        mut act: impl FnMut(&Present) -> std::result::Result<(), BoxError>,
    ) -> std::result::Result<(), ConfigError> {
        let mut problems = Vec::new();
        for section in &self.sections {
            problems.extend(act(section).err().map(|error| self.problem(section, error)));
        }
        self.config.require_none(problems)
    }

    /// The error of a configuration in which no section sets the optimizer.
    pub fn no_optimizer(&self) -> ConfigError {
        let keys: Vec<_> = self.catalog.keys().map(|key| format!("{key:?}")).collect();
        let write = match self.catalog.line_for_optimizer() {
            "" => format!("the sections of this program are {}", keys.join(", ")),
            line => format!("write one, such as {line}"),
        };
        let message = format!("no section sets the optimizer, which has no default; {write}");
        self.invalid("", message)
    }

    /// Attaches an error of a section to the place in the configuration that it is about.
    fn problem(&self, section: &Present, error: BoxError) -> Problem {
        let (path, message) = match error.downcast::<Invalid>() {
            Ok(invalid) => (invalid.path, invalid.message),
            Err(error) => (String::new(), error.to_string()),
        };
        let path = match (self.catalog.keys_at(section.place).len(), path.is_empty()) {
            (1, false) => format!("{}.{path}", section.key),
            (_, false) => path,
            (_, true) => section.key.to_owned(),
        };
        self.config.problem(&path, message)
    }

    fn at(&self, invalid: Invalid) -> Error {
        self.invalid(&invalid.path, invalid.message).into()
    }
}
