//! The list of plugins that a program knows: from it come the schema and the running parts.
use crate::error::{BoxError, Result};
use crate::parts::{BuildContext, Parts};
use crate::plan::Plan;
use crate::plugin::PluginSpec;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use trainyard_config::{
    Catalog, ConfigError, Dialect, Document, Layers, Present, Resolved, Source, World,
};

/// The plugins that a program knows, in the order in which they run, and the sections it reads
/// itself. The same list gives the JSON Schema and the running parts; the order of keys in a file never
/// matters.
///
/// It is a [`Catalog`], which knows the sections and needs no libtorch, with the builders of the parts.
/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    catalog: Catalog,
    /// One for each section of the catalog, in its order.
    builders: Vec<Arc<Builder>>,
}

/// Adds what a section asks for.
type Builder =
    dyn Fn(&Present, &BuildContext, &mut Parts) -> std::result::Result<(), BoxError> + Send + Sync;

impl Registry {
    /// Knows only the engine's own keys.
    pub fn new() -> Self {
        Registry::default()
    }

    /// The sections, without their builders.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Reads the files of another program too.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.catalog = self.catalog.dialect(dialect);
        self
    }

    /// The line to write for an optimizer, for who has none: JSON without the outer brackets.
    pub fn optimizer_line(mut self, line: &'static str) -> Self {
        self.catalog = self.catalog.optimizer_line(line);
        self
    }

    /// Fills in `value` where the key at `path`, dotted, is `"auto"`.
    pub fn fill(mut self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.catalog = self.catalog.fill(path, value);
        self
    }

    /// Takes documented values for what is `"auto"` and only a program could fill in: for showing what a
    /// file means, not for training.
    pub fn assume(mut self) -> Self {
        self.catalog = self.catalog.assume();
        self
    }

    /// How many ranks a plan is for, to show what a file means; what the launcher says if this is not
    /// called.
    pub fn world_size(mut self, ranks: u64) -> Self {
        self.catalog = self.catalog.world_size(ranks);
        self
    }

    /// Adds a plugin behind those that are there: written order is running order, and layer calls
    /// unwind in reverse.
    ///
    /// # Panics
    /// If one of its keys is taken.
    pub fn add<P: PluginSpec>(mut self) -> Self {
        self.catalog = self.catalog.add::<P>();
        self.builders.push(Arc::new(|section, context, parts| {
            P::build(section.config::<P>(), context, parts)
        }));
        self
    }

    /// Adds a plugin right before the one that owns `key`, to run before it.
    ///
    /// # Panics
    /// If one of its keys is taken, or no plugin that is there owns `key`.
    pub fn add_before<P: PluginSpec>(self, key: &str) -> Self {
        let place = self.catalog.place_of(key);
        let Registry { catalog, mut builders } = self.add::<P>();
        builders[place..].rotate_right(1);
        Registry { catalog: catalog.with_last_at(place), builders }
    }

    /// Adds a section that no plugin owns: the program reads it with [`Plan::section`].
    ///
    /// # Panics
    /// If the key is taken.
    pub fn section<T: DeserializeOwned + JsonSchema + 'static>(
        mut self,
        key: &'static str,
    ) -> Self {
        self.catalog = self.catalog.section::<T>(key);
        self.builders.push(Arc::new(|_, _, _| Ok(())));
        self
    }

    /// The JSON Schema (draft 2020-12) of a whole configuration file.
    pub fn schema(&self) -> Value {
        self.catalog.schema()
    }

    /// Reads and checks a file, under what the environment (`TRAINYARD__SECTION__KEY`) sets over it, for
    /// this process among those that its launcher started.
    ///
    /// # Errors
    /// All problems that the text alone shows, at once, with their positions; see also
    /// [`World::from_env`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Plan> {
        let document = Document::parse(Source::read(path)?)?;
        self.plan(Layers::new(document).environment(std::env::vars_os()))
    }

    /// Checks a configuration in layers, for programs that add their own.
    ///
    /// # Errors
    /// As [`read`](Registry::read).
    pub fn plan(&self, layers: Layers) -> Result<Plan> {
        Ok(Plan::new(self.clone(), self.catalog.resolve(layers)?))
    }

    /// As [`plan`](Registry::plan), in a world that the program chooses.
    ///
    /// # Errors
    /// As [`read`](Registry::read).
    pub fn plan_in(&self, world: World, layers: Layers) -> Result<Plan> {
        Ok(Plan::new(self.clone(), self.catalog.resolve_in(world, layers)?))
    }

    /// Builds every section of a configuration, in the order of the list.
    ///
    /// # Errors
    /// All that plugins say, each at the place that it is about.
    pub(crate) fn build(
        &self,
        resolved: &Resolved,
        context: &BuildContext,
    ) -> std::result::Result<Parts, ConfigError> {
        let mut parts = Parts::default();
        resolved.each_section(|section| {
            parts.begin(section.name);
            self.builders[section.place](section, context, &mut parts)
        })?;
        Ok(parts)
    }
}
