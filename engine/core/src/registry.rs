//! The list of plugins that a program knows: from it come the schema and the running parts.
use crate::config::{self, Checker, Config, ConfigError, Document, Problem, Source};
use crate::error::{BoxError, Invalid, Result};
use crate::parts::{BuildContext, Parts};
use crate::plan::Plan;
use crate::plugin::PluginSpec;
use crate::settings::Settings;
use crate::world::World;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The plugins that a program knows, in the order in which they run, and the sections it reads
/// itself. The same list gives the JSON Schema and the running parts; the order of keys in a file never
/// matters.
#[derive(Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

struct Entry {
    keys: Vec<&'static str>,
    always: bool,
    schema: fn(&mut SchemaGenerator) -> Schema,
    build: Build,
}

/// Reads the entry's keys, of which at least one is there, and adds what they ask for.
type Build = Box<dyn Fn(&Config, &BuildContext, &mut Parts) -> std::result::Result<(), Failure>>;

/// Why a section could not be built.
enum Failure {
    /// It is not what its `Config` reads.
    Read(ConfigError),
    /// The plugin refused it.
    Build(BoxError),
}

impl Registry {
    /// Knows only the engine's own keys.
    pub fn new() -> Self {
        Registry::default()
    }

    /// Adds a plugin behind those that are there: written order is running order, and layer calls
    /// unwind in reverse.
    ///
    /// # Panics
    /// If one of its keys is taken.
    pub fn add<P: PluginSpec>(self) -> Self {
        self.entry(Entry {
            keys: P::KEYS.to_vec(),
            always: P::ALWAYS,
            schema: |generator| generator.subschema_for::<P::Config>(),
            build: Box::new(|config, context, parts| {
                let section = match P::KEYS {
                    [key] => config.section(key).map_err(Failure::Read)?,
                    keys => Some(config.fields(keys).map_err(Failure::Read)?),
                };
                let built = section.map_or(Ok(()), |section| P::build(section, context, parts));
                built.map_err(Failure::Build)
            }),
        })
    }

    /// Adds a plugin right before the one that owns `key`, to run before it.
    ///
    /// # Panics
    /// If one of its keys is taken, or no plugin that is there owns `key`.
    pub fn add_before<P: PluginSpec>(self, key: &str) -> Self {
        let place = self.entries.iter().position(|entry| entry.keys.contains(&key));
        let place =
            place.unwrap_or_else(|| panic!("no plugin in the registry owns the key `{key}`"));
        let mut registry = self.add::<P>();
        registry.entries[place..].rotate_right(1);
        registry
    }

    /// Adds a section that no plugin owns: the program reads it with [`Plan::section`].
    ///
    /// # Panics
    /// If the key is taken.
    pub fn section<T: DeserializeOwned + JsonSchema + 'static>(self, key: &'static str) -> Self {
        self.entry(Entry {
            keys: vec![key],
            always: false,
            schema: |generator| generator.subschema_for::<T>(),
            build: Box::new(move |config, _, _| {
                config.section::<T>(key).map(drop).map_err(Failure::Read)
            }),
        })
    }

    /// The JSON Schema (draft 2020-12) of a whole configuration file.
    pub fn schema(&self) -> Value {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut properties = Map::new();
        properties.insert(
            "$schema".to_owned(),
            json!({"type": "string", "description": "Where the schema is, for editors; not read."}),
        );
        properties.extend(fields(&Settings::json_schema(&mut generator)));
        for entry in &self.entries {
            let schema = (entry.schema)(&mut generator);
            match entry.keys[..] {
                [key] => drop(properties.insert(key.to_owned(), schema.to_value())),
                // A reference to a struct: its fields are top-level keys.
                _ => properties.extend(fields(&resolve(&schema, &generator))),
            }
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Trainyard configuration",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "$defs": generator.take_definitions(true),
        })
    }

    /// Reads and checks a file, under what the environment (`TRAINYARD__SECTION__KEY`) sets over it, for
    /// this process among those that its launcher started.
    ///
    /// # Errors
    /// All problems that the text alone shows, at once, with their positions; see also
    /// [`World::from_env`].
    pub fn read(self, path: impl AsRef<Path>) -> Result<Plan> {
        let document = Document::parse(Source::read(path)?)?;
        self.plan(config::Layers::new(document).environment(std::env::vars_os()))
    }

    /// Checks a configuration in layers, for programs that add their own.
    ///
    /// # Errors
    /// As [`read`](Registry::read).
    pub fn plan(self, layers: config::Layers) -> Result<Plan> {
        self.plan_in(World::from_env()?, layers)
    }

    /// As [`plan`](Registry::plan), in a world that the program chooses.
    ///
    /// # Errors
    /// As [`read`](Registry::read).
    pub fn plan_in(self, world: World, layers: config::Layers) -> Result<Plan> {
        let config = layers.merge();
        let checker = Checker::new(&self.schema())
            .unwrap_or_else(|e| panic!("a plugin's schema is no JSON Schema: {e}"));
        checker.verify(&config)?;
        let settings = config.fields(Settings::KEYS)?;
        Plan::new(self, config, settings, world)
    }

    /// Builds every section that is present, in the order of the list.
    pub(crate) fn build(
        &self,
        config: &Config,
        context: &BuildContext,
    ) -> std::result::Result<Parts, ConfigError> {
        let mut parts = Parts::default();
        let mut problems = Vec::new();
        for entry in &self.entries {
            let mut present = entry.keys.iter().filter(|key| config.value().get(**key).is_some());
            let built = if entry.always { entry.keys.first() } else { None };
            let Some(first) = present.next().or(built) else { continue };
            parts.begin(first);
            match (entry.build)(config, context, &mut parts) {
                Ok(()) => {}
                Err(Failure::Read(error)) => problems.extend(error.into_problems()),
                Err(Failure::Build(error)) => {
                    problems.push(problem(config, &entry.keys, first, error));
                }
            }
        }
        config.require_none(problems)?;
        Ok(parts)
    }

    /// The keys of all entries, in their order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().flat_map(|entry| entry.keys.iter().copied())
    }

    fn entry(mut self, entry: Entry) -> Self {
        let taken = |key: &str| {
            Settings::KEYS.contains(&key) || self.entries.iter().any(|e| e.keys.contains(&key))
        };
        if let Some(key) = entry.keys.iter().find(|key| taken(key)) {
            panic!("the key `{key}` is in the registry already");
        }
        self.entries.push(entry);
        self
    }
}

/// Attaches an error of a build to the place in the configuration that it is about.
fn problem(config: &Config, keys: &[&str], section: &str, error: BoxError) -> Problem {
    let (path, message) = match error.downcast::<Invalid>() {
        Ok(invalid) => (invalid.path, invalid.message),
        Err(error) => (String::new(), error.to_string()),
    };
    let path = match (keys.len(), path.is_empty()) {
        (1, false) => format!("{section}.{path}"),
        (_, false) => path,
        (_, true) => section.to_owned(),
    };
    config.problem(&path, message)
}

/// The `properties` of an object's schema.
fn fields(schema: &Schema) -> Map<String, Value> {
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn resolve(schema: &Schema, generator: &SchemaGenerator) -> Schema {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    let found = name.and_then(|name| generator.definitions().get(name));
    found.and_then(|value| value.clone().try_into().ok()).unwrap_or_else(|| schema.clone())
}
