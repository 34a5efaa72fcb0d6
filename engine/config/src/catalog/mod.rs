//! The sections that a program knows: from them come the schema and the checks.
mod entry;
mod schema;

pub use entry::Present;

use crate::check::Checker;
use crate::dialect::auto::Filling;
use crate::dialect::{Dialect, comment, convert};
use crate::error::{BoxError, Result};
use crate::layers::{Config, Layers};
use crate::outline::{Context, Outline};
use crate::problems::{ConfigError, Note, Problem, ProblemKind};
use crate::resolved::Resolved;
use crate::section::Section;
use crate::settings::{BatchSizes, Settings};
use crate::text::{Document, Path, Source};
use crate::world::World;
use entry::Entry;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// The sections that a program knows, in their order, and the dialect of other programs that it reads.
/// The same list gives the JSON Schema and the checks; the order of keys in a file never matters.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    entries: Vec<Arc<Entry>>,
    /// The engine's own keys that may be `"auto"` first.
    dialects: Vec<Dialect>,
    filling: Filling,
    /// A line that sets the optimizer, for who has none.
    optimizer_line: &'static str,
    /// None: what the launcher says.
    world: Option<World>,
    /// Made when it is first needed.
    checker: Arc<OnceLock<Checker>>,
}

impl Catalog {
    /// Knows only the engine's own keys.
    pub fn new() -> Self {
        Catalog {
            entries: Vec::new(),
            dialects: vec![Dialect { autos: Settings::AUTOS, ..Dialect::default() }],
            filling: Filling::default(),
            optimizer_line: "",
            world: None,
            checker: Arc::default(),
        }
    }

    /// Reads the files of another program too.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialects.push(dialect);
        self.changed()
    }

    /// The line to write for an optimizer, for who has none: JSON without the outer brackets.
    pub fn optimizer_line(mut self, line: &'static str) -> Self {
        self.optimizer_line = line;
        self
    }

    /// What to write for an optimizer; empty where no section says so.
    pub fn line_for_optimizer(&self) -> &'static str {
        self.optimizer_line
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

    /// How many ranks a configuration is for, to show what a file means; what the launcher says if this is
    /// not called.
    pub fn world_size(mut self, ranks: u64) -> Self {
        let world_size = usize::try_from(ranks).unwrap_or(usize::MAX);
        self.world = Some(World { world_size, ..World::solo() });
        self
    }

    /// Adds a section behind those that are there.
    ///
    /// # Panics
    /// If one of its keys is taken.
    pub fn add<S: Section>(self) -> Self {
        self.entry(Entry::of::<S>())
    }

    /// The place in the list of the section that owns `key`.
    ///
    /// # Panics
    /// If none does.
    pub fn place_of(&self, key: &str) -> usize {
        let place = self.entries.iter().position(|entry| entry.keys.contains(&key));
        place.unwrap_or_else(|| panic!("no section in the list owns the key `{key}`"))
    }

    /// The same list, with its last section at `place`.
    #[must_use]
    pub fn with_last_at(mut self, place: usize) -> Self {
        self.entries[place..].rotate_right(1);
        self.changed()
    }

    /// Adds a section that the program reads itself, with [`Resolved::section`].
    ///
    /// # Panics
    /// If the key is taken.
    pub fn section<T: DeserializeOwned + JsonSchema + 'static>(self, key: &'static str) -> Self {
        self.entry(Entry::of_program::<T>(key))
    }

    /// The JSON Schema (draft 2020-12) of a whole configuration file.
    pub fn schema(&self) -> Value {
        schema::of(&self.entries, &self.dialects)
    }

    /// The schema, compiled.
    pub fn checker(&self) -> &Checker {
        self.checker.get_or_init(|| {
            let checker = Checker::new(&self.schema())
                .unwrap_or_else(|e| panic!("a section's schema is no JSON Schema: {e}"));
            self.dialects.iter().fold(checker, |checker, dialect| checker.also(dialect.aliases))
        })
    }

    /// Reads and checks a file, under what the environment (`TRAINYARD__SECTION__KEY`) sets over it, for
    /// this process among those that its launcher started.
    ///
    /// # Errors
    /// All problems that the text alone shows, at once, with their positions; see also
    /// [`World::from_env`].
    pub fn read(&self, path: impl AsRef<std::path::Path>) -> Result<Resolved> {
        let document = Document::parse(Source::read(path)?)?;
        self.resolve(Layers::new(document).environment(std::env::vars_os()))
    }

    /// Checks a configuration in layers, for programs that add their own.
    ///
    /// # Errors
    /// As [`read`](Catalog::read).
    pub fn resolve(&self, layers: Layers) -> Result<Resolved> {
        let world = self.world.clone().map_or_else(World::from_env, Ok)?;
        self.resolve_in(world, layers)
    }

    /// As [`resolve`](Catalog::resolve), in a world that the program chooses.
    ///
    /// # Errors
    /// As [`read`](Catalog::read).
    pub fn resolve_in(&self, world: World, layers: Layers) -> Result<Resolved> {
        let mut config = layers.merge();
        let mut problems = self.checker().check(&config);
        let (mut notes, coerced) = self.known_of(&mut config);
        let before = notes.len();
        self.fill_in(world.world_size as u64, &mut config, &mut notes, &mut problems);
        if !problems.is_empty() {
            problems.extend(lengths(&config, &world, &problems));
            config.require_none(problems)?;
        }
        if coerced || notes.len() > before {
            self.checker().verify(&config)?;
        }
        // Stable: of one place, what is known of the key comes before what it was filled in with.
        notes.sort_by_key(Note::place);
        let settings: Settings = config.fields(Settings::KEYS)?;
        if settings.strict {
            config.require_none(notes.iter().map(|note| config.note_as_problem(note)).collect())?;
        }
        Resolved::new(self.clone(), config, settings, world, notes)
    }

    /// What is known of the values of a configuration, whatever is wrong with others: what
    /// [`Resolved::notes`] has of one that nothing is wrong with.
    pub fn notes(&self, layers: Layers) -> Vec<Note> {
        let mut config = layers.merge();
        let mut notes = self.known_of(&mut config).0;
        let ranks = self.world.as_ref().map_or(1, |world| world.world_size as u64);
        self.fill_in(ranks, &mut config, &mut notes, &mut Vec::new());
        notes.sort_by_key(Note::place);
        notes
    }

    /// Whether a configuration has keys that are known and no section's: that it was written for another
    /// program, too.
    pub fn is_foreign(&self, config: &Config) -> bool {
        self.dialects.iter().any(|dialect| dialect.is_in(config))
    }

    /// The keys of a configuration that do nothing and ask for nothing, such as a report that is switched
    /// off.
    pub fn idle(&self, config: &Config) -> Vec<Path> {
        let known = self.dialects.iter().flat_map(|dialect| dialect.idle(config));
        // A section of such keys alone that has none.
        let read = |key: &str| Settings::KEYS.contains(&key) || self.keys().any(|own| own == key);
        let empty = |value: &Value| value.is_null() || *value == json!({});
        let sections = config.value().as_object().into_iter().flatten();
        let sections = sections.filter(|(key, value)| empty(value) && !read(key));
        known.chain(sections.map(|(key, _)| Path::default().key(key))).collect()
    }

    /// Notes on keys that `config` leaves out.
    pub fn left_out(&self, config: &Config) -> Vec<Note> {
        self.dialects.iter().flat_map(|dialect| dialect.left_out(config)).collect()
    }

    /// What is [coerced](Dialect::coerced): paths, and what stands there is read as.
    pub fn coercions(&self, config: &Config) -> Vec<(Path, Value)> {
        let (mut config, mut notes) = (config.clone(), Vec::new());
        for dialect in &self.dialects {
            convert::convert(self.checker().schema(), dialect, &mut config, &mut notes);
        }
        let paths = notes.iter().filter_map(|note| Path::parse(&note.path).ok());
        paths.filter_map(|path| Some((path.clone(), path.find(config.value())?.clone()))).collect()
    }

    /// The sections that `config` has, in their order, each read once.
    ///
    /// # Errors
    /// All sections that are not what they should be.
    pub(crate) fn sections(
        &self,
        config: &Config,
    ) -> std::result::Result<Vec<Present>, ConfigError> {
        let (mut sections, mut problems) = (Vec::new(), Vec::new());
        for (place, entry) in self.entries.iter().enumerate() {
            let mut present = entry.keys.iter().filter(|key| config.value().get(**key).is_some());
            let built = if entry.always { entry.keys.first() } else { None };
            let Some(key) = present.next().or(built) else { continue };
            match (entry.read)(config) {
                Ok(Some(typed)) => {
                    sections.push(Present { place, name: entry.keys[0], key, typed });
                }
                // The program reads it itself.
                Ok(None) => {}
                Err(error) => problems.extend(error.into_problems()),
            }
        }
        config.require_none(problems)?;
        Ok(sections)
    }

    /// Patterns on the names of the modules that the sections want as layers, each once.
    pub(crate) fn layer_patterns(&self, sections: &[Present]) -> Vec<String> {
        let mut patterns: Vec<String> = Vec::new();
        for Present { place, typed, .. } in sections {
            for pattern in (self.entries[*place].layer_patterns)(typed) {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        patterns
    }

    /// What a section will do.
    pub(crate) fn outline(
        &self,
        section: &Present,
        context: &Context,
        outline: &mut Outline,
    ) -> std::result::Result<(), BoxError> {
        outline.begin(section.name);
        (self.entries[section.place].outline)(&section.typed, context, outline)
    }

    /// The keys of the section at `place`.
    pub(crate) fn keys_at(&self, place: usize) -> &[&'static str] {
        &self.entries[place].keys
    }

    /// The keys of all sections, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().flat_map(|entry| entry.keys.iter().copied())
    }

    /// Coerces what stands in another type's form, takes comments out, and tells what is known; whether
    /// something was coerced or taken.
    fn known_of(&self, config: &mut Config) -> (Vec<Note>, bool) {
        let mut notes = config.notes();
        let before = notes.len();
        let schema = self.checker().schema();
        for dialect in &self.dialects {
            convert::convert(schema, dialect, config, &mut notes);
        }
        let fails_in = |section: &Path| self.dialects.iter().find_map(|d| d.fails_in(section));
        comment::take(schema, config, fails_in, &mut notes);
        let changed = notes.len() > before;
        self.dialects.iter().for_each(|dialect| dialect.notes(config, &mut notes));
        (notes, changed)
    }

    /// Replaces every `"auto"`.
    fn fill_in(
        &self,
        ranks: u64,
        config: &mut Config,
        notes: &mut Vec<Note>,
        problems: &mut Vec<Problem>,
    ) {
        let tables: Vec<_> = self.dialects.iter().map(|dialect| dialect.autos).collect();
        self.filling.fill(&tables, ranks, config, notes, problems);
    }

    fn entry(mut self, entry: Entry) -> Self {
        let taken = |key: &str| {
            Settings::KEYS.contains(&key) || self.entries.iter().any(|e| e.keys.contains(&key))
        };
        if let Some(key) = entry.keys.iter().find(|key| taken(key)) {
            panic!("the key `{key}` is in the catalog already");
        }
        self.entries.push(Arc::new(entry));
        self.changed()
    }

    /// The same catalog, whose schema is another now.
    fn changed(mut self) -> Self {
        self.checker = Arc::default();
        self
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog::new()
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
