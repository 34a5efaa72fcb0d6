//! The list of plugins that a program knows: from it come the schema and the running parts.
use crate::auto::{self, Auto, Filling};
use crate::clash::{self, Clash};
use crate::comment;
use crate::config::{
    self, Alias, Checker, Config, ConfigError, Document, Note, Problem, ProblemKind, Source,
};
use crate::convert;
use crate::error::{BoxError, Invalid, Result};
use crate::known::{self, Known};
use crate::parts::{BuildContext, Parts};
use crate::plan::Plan;
use crate::plugin::PluginSpec;
use crate::remark::{Absent, Remark};
use crate::settings::{BatchSizes, Settings};
use crate::world::World;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The plugins that a program knows, in the order in which they run, and the sections it reads
/// itself. The same list gives the JSON Schema and the running parts; the order of keys in a file never
/// matters.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    entries: Vec<Arc<Entry>>,
    known: Vec<Table>,
    autos: Vec<&'static [Auto]>,
    absent: Vec<&'static [Absent]>,
    clashes: Vec<&'static [Clash]>,
    remarks: Vec<&'static [Remark]>,
    /// Words of other programs, with the keys that they mean.
    also: Vec<Alias>,
    /// A line that sets the optimizer, for who has none.
    optimizer_line: &'static str,
    /// Sections in which values are converted.
    converting: Vec<&'static [&'static str]>,
    filling: Filling,
    /// None: what the launcher says.
    world: Option<World>,
    /// Made when it is first needed.
    checker: Arc<OnceLock<Checker>>,
}

/// Keys to be noted or refused, and whether plugins own them.
#[derive(Clone, Copy)]
struct Table {
    keys: &'static [Known],
    owned: bool,
}

struct Entry {
    keys: Vec<&'static str>,
    always: bool,
    schema: fn(&mut SchemaGenerator) -> Schema,
    build: Build,
    layer_patterns: LayerPatterns,
}

/// Reads the entry's keys, and tells the modules that it wants as layers.
type LayerPatterns =
    Box<dyn Fn(&Config) -> std::result::Result<Vec<String>, ConfigError> + Send + Sync>;

/// Reads the entry's keys, of which at least one is there, and adds what they ask for.
type Build = Box<
    dyn Fn(&Config, &BuildContext, &mut Parts) -> std::result::Result<(), Failure> + Send + Sync,
>;

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
        Registry {
            entries: Vec::new(),
            known: Vec::new(),
            autos: vec![Settings::AUTOS],
            absent: Vec::new(),
            clashes: Vec::new(),
            remarks: Vec::new(),
            also: Vec::new(),
            optimizer_line: "",
            converting: Vec::new(),
            filling: Filling::default(),
            world: None,
            checker: Arc::default(),
        }
    }

    /// Adds keys that no plugin owns, to be noted or refused.
    pub fn known(mut self, keys: &'static [Known]) -> Self {
        self.known.push(Table { keys, owned: false });
        self.changed()
    }

    /// Notes keys that plugins own: what they may hold is the plugins' to say.
    pub fn noted(mut self, keys: &'static [Known]) -> Self {
        self.known.push(Table { keys, owned: true });
        self
    }

    /// Lets keys be `"auto"`.
    pub fn autos(mut self, table: &'static [Auto]) -> Self {
        self.autos.push(table);
        self.changed()
    }

    /// Adds what is to be known of keys that a file leaves out; see [`Plan::left_out`].
    pub fn absent(mut self, table: &'static [Absent]) -> Self {
        self.absent.push(table);
        self
    }

    /// Forbids pairs of keys.
    pub fn clashes(mut self, table: &'static [Clash]) -> Self {
        self.clashes.push(table);
        self.changed()
    }

    /// Adds notes on values that are accepted.
    pub fn remarks(mut self, table: &'static [Remark]) -> Self {
        self.remarks.push(table);
        self
    }

    /// Suggests keys for words of other programs that mean them and are not spelt alike.
    pub fn also(mut self, words: &'static [Alias]) -> Self {
        self.also.extend_from_slice(words);
        self.changed()
    }

    /// The line to write for an optimizer, for who has none: JSON without the outer brackets.
    pub fn optimizer_line(mut self, line: &'static str) -> Self {
        self.optimizer_line = line;
        self
    }

    /// What to write for an optimizer; empty where no plugin says so.
    pub fn line_for_optimizer(&self) -> &'static str {
        self.optimizer_line
    }

    /// Reads `"true"` and 1 for true, and `"128"` for 128, in sections by their dotted paths, with a note
    /// for each.
    pub fn converting(mut self, sections: &'static [&'static str]) -> Self {
        self.converting.push(sections);
        self.changed()
    }

    /// Fills in `value` where the key at `path`, dotted, is `"auto"`.
    pub fn fill(mut self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.filling.values.push((path.into(), value.into()));
        self
    }

    /// Takes documented values for what is `"auto"` and only a program could fill in: for showing what a
    /// file means, not for training.
    pub fn assume(mut self) -> Self {
        self.filling.assume = true;
        self
    }

    /// How many ranks a plan is for, to show what a file means; what the launcher says if this is not
    /// called.
    pub fn world_size(mut self, ranks: u64) -> Self {
        let world_size = usize::try_from(ranks).unwrap_or(usize::MAX);
        self.world = Some(World { world_size, ..World::solo() });
        self
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
                let section = section_of::<P>(config).map_err(Failure::Read)?;
                let built = section.map_or(Ok(()), |section| P::build(section, context, parts));
                built.map_err(Failure::Build)
            }),
            layer_patterns: Box::new(|config| {
                Ok(section_of::<P>(config)?.map_or_else(Vec::new, |s| P::layer_patterns(&s)))
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
        registry.changed()
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
            layer_patterns: Box::new(|_| Ok(Vec::new())),
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
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Trainyard configuration",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "$defs": generator.take_definitions(true),
        });
        for Table { keys, .. } in self.known.iter().filter(|table| !table.owned) {
            known::extend(&mut schema, keys);
        }
        for auto in self.autos.iter().copied().flatten() {
            auto::allow(&mut schema, auto.path);
        }
        for sections in &self.converting {
            convert::allow(&mut schema, sections);
        }
        for table in &self.clashes {
            clash::forbid(&mut schema, table);
        }
        comment::allow(&mut schema);
        schema
    }

    /// The schema, compiled.
    pub fn checker(&self) -> &Checker {
        self.checker.get_or_init(|| {
            Checker::new(&self.schema())
                .unwrap_or_else(|e| panic!("a plugin's schema is no JSON Schema: {e}"))
                .also(&self.also)
        })
    }

    /// Reads and checks a file, under what the environment (`TRAINYARD__SECTION__KEY`) sets over it, for
    /// this process among those that its launcher started.
    ///
    /// # Errors
    /// All problems that the text alone shows, at once, with their positions; see also
    /// [`World::from_env`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Plan> {
        let document = Document::parse(Source::read(path)?)?;
        self.plan(config::Layers::new(document).environment(std::env::vars_os()))
    }

    /// Checks a configuration in layers, for programs that add their own.
    ///
    /// # Errors
    /// As [`read`](Registry::read).
    pub fn plan(&self, layers: config::Layers) -> Result<Plan> {
        let world = self.world.clone().map_or_else(World::from_env, Ok)?;
        self.plan_in(world, layers)
    }

    /// As [`plan`](Registry::plan), in a world that the program chooses.
    ///
    /// # Errors
    /// As [`read`](Registry::read).
    pub fn plan_in(&self, world: World, layers: config::Layers) -> Result<Plan> {
        let mut config = layers.merge();
        let mut problems = self.checker().check(&config);
        let (mut notes, converted) = self.known_of(&mut config);
        let before = notes.len();
        let ranks = world.world_size as u64;
        self.filling.fill(&self.autos, ranks, &mut config, &mut notes, &mut problems);
        if !problems.is_empty() {
            problems.extend(lengths(&config, &world, &problems));
            config.require_none(problems)?;
        }
        if converted || notes.len() > before {
            self.checker().verify(&config)?;
        }
        // Stable: of one place, what is known of the key comes before what it was filled in with.
        notes.sort_by_key(Note::place);
        let settings: Settings = config.fields(Settings::KEYS)?;
        if settings.strict {
            config.require_none(notes.iter().map(|note| config.note_as_problem(note)).collect())?;
        }
        Plan::new(self.clone(), config, settings, world, notes)
    }

    /// What is known of the values of a configuration, whatever is wrong with others: what
    /// [`Plan::notes`] has of one that nothing is wrong with.
    pub fn notes(&self, layers: config::Layers) -> Vec<Note> {
        let mut config = layers.merge();
        let mut notes = self.known_of(&mut config).0;
        let ranks = self.world.as_ref().map_or(1, |world| world.world_size as u64);
        self.filling.fill(&self.autos, ranks, &mut config, &mut notes, &mut Vec::new());
        notes.sort_by_key(Note::place);
        notes
    }

    /// Whether a configuration has keys that are known and no plugin's: that it was written for another
    /// program, too.
    pub fn is_foreign(&self, config: &Config) -> bool {
        let tables = self.known.iter().filter(|table| !table.owned);
        let mut paths = tables.flat_map(|table| table.keys).flat_map(Known::paths);
        let there = |path: String| {
            let path = config::Path::parse(&path).expect("a table has plain paths");
            path.find(config.value()).is_some()
        };
        paths.any(there)
    }

    /// The keys of a configuration that do nothing and ask for nothing, such as a report that is switched
    /// off.
    pub fn idle(&self, config: &Config) -> Vec<config::Path> {
        let tables = self.known.iter().filter(|table| !table.owned);
        let known = tables.flat_map(|table| table.keys).flat_map(|known| known.idle(config));
        // A section of such keys alone that has none.
        let read = |key: &str| Settings::KEYS.contains(&key) || self.keys().any(|own| own == key);
        let empty = |value: &Value| value.is_null() || *value == json!({});
        let sections = config.value().as_object().into_iter().flatten();
        let sections = sections.filter(|(key, value)| empty(value) && !read(key));
        known.chain(sections.map(|(key, _)| config::Path::default().key(key))).collect()
    }

    /// Converts what stands in another type's clothes, takes comments out, and tells what is known; whether
    /// something was converted or taken.
    fn known_of(&self, config: &mut Config) -> (Vec<Note>, bool) {
        let mut notes = config.notes();
        let before = notes.len();
        for sections in &self.converting {
            convert::convert(self.checker().schema(), sections, config, &mut notes);
        }
        let strict = |path: &config::Path| {
            let section = path.to_string();
            section.ends_with(".params")
                || self.converting.iter().any(|sections| sections.contains(&section.as_str()))
        };
        comment::take(self.checker().schema(), config, strict, &mut notes);
        let converted = notes.len() > before;
        notes.extend(self.remarks.iter().copied().flatten().filter_map(|r| r.note(config)));
        for known in self.known.iter().flat_map(|table| table.keys) {
            known.notes(config, &mut notes);
        }
        (notes, converted)
    }

    /// Notes on keys that `config` leaves out.
    pub fn left_out(&self, config: &Config) -> Vec<Note> {
        self.absent.iter().copied().flatten().filter_map(|absent| absent.note(config)).collect()
    }

    /// What stands in another type's clothes and is [converted](Registry::converting): paths, and what it
    /// is read as.
    pub fn conversions(&self, config: &Config) -> Vec<(config::Path, Value)> {
        let (mut config, mut notes) = (config.clone(), Vec::new());
        for sections in &self.converting {
            convert::convert(self.checker().schema(), sections, &mut config, &mut notes);
        }
        let paths = notes.iter().filter_map(|note| config::Path::parse(&note.path).ok());
        paths.filter_map(|path| Some((path.clone(), path.find(config.value())?.clone()))).collect()
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
            // A plugin's lines bear one name, whichever of its keys are there.
            parts.begin(entry.keys.first().unwrap_or(first));
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

    /// Patterns on the names of the modules that the sections want as layers, each once.
    pub(crate) fn layer_patterns(
        &self,
        config: &Config,
    ) -> std::result::Result<Vec<String>, ConfigError> {
        let mut patterns: Vec<String> = Vec::new();
        for entry in &self.entries {
            let there = entry.keys.iter().any(|key| config.value().get(*key).is_some());
            let wanted = if there { (entry.layer_patterns)(config)? } else { Vec::new() };
            for pattern in wanted {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        Ok(patterns)
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
        self.entries.push(Arc::new(entry));
        self.changed()
    }

    /// The same registry, whose schema is another now.
    fn changed(mut self) -> Self {
        self.checker = Arc::default();
        self
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}

/// What is wrong with the engine's own keys taken together, if none is wrong by itself and nothing is
/// refused.
fn lengths(config: &Config, world: &World, problems: &[Problem]) -> Vec<Problem> {
    let own = |path: &str| Settings::KEYS.contains(&path.split('.').next().unwrap_or_default());
    // What is refused may be a way to use the ranks for something else than the batch.
    let refused = |problem: &Problem| problem.kind == ProblemKind::Refused;
    if problems.iter().any(|problem| own(&problem.path) || refused(problem)) {
        return Vec::new();
    }
    let Ok(settings) = config.fields::<Settings>(Settings::KEYS) else { return Vec::new() };
    let sizes = BatchSizes::solve(&settings, world.world_size as u64);
    let sizes = sizes.err().map(|wrong| wrong.with_sources(config, &BatchSizes::KEYS));
    let steps = settings.training.steps(None).err();
    sizes.into_iter().chain(steps).map(|wrong| config.problem(&wrong.path, wrong.message)).collect()
}

/// What a plugin's keys hold; none where its one key is absent.
fn section_of<P: PluginSpec>(
    config: &Config,
) -> std::result::Result<Option<P::Config>, ConfigError> {
    match P::KEYS {
        [key] => config.section(key),
        keys => config.fields(keys).map(Some),
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
