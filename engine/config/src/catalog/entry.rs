//! The sections of a catalog, and what was read of them.
use crate::error::BoxError;
use crate::layers::Config;
use crate::outline::{Context, Outline};
use crate::problems::ConfigError;
use crate::section::Section;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use std::any::Any;
use std::sync::Arc;

/// One section of a catalog.
pub(super) struct Entry {
    pub keys: Vec<&'static str>,
    pub always: bool,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    pub read: Read,
    pub layer_patterns: fn(&Typed) -> Vec<String>,
    pub outline: fn(&Typed, &Context, &mut Outline) -> std::result::Result<(), BoxError>,
}

impl Entry {
    /// Of a section that is read once.
    pub fn of<S: Section>() -> Self {
        Entry {
            keys: S::KEYS.to_vec(),
            always: S::ALWAYS,
            schema: |generator| generator.subschema_for::<S::Config>(),
            read: Box::new(|config| Ok(S::read(config)?.map(|section| Arc::new(section) as Typed))),
            layer_patterns: |typed| S::layer_patterns(of::<S>(typed)),
            outline: |typed, context, outline| S::outline(of::<S>(typed), context, outline),
        }
    }

    /// Of one that the program reads itself.
    pub fn of_program<T: DeserializeOwned + JsonSchema + 'static>(key: &'static str) -> Self {
        Entry {
            keys: vec![key],
            always: false,
            schema: |generator| generator.subschema_for::<T>(),
            read: Box::new(move |config| config.section::<T>(key).map(|_| None)),
            layer_patterns: |_| Vec::new(),
            outline: |_, _, _| Ok(()),
        }
    }
}

/// What a section's `Config` read.
pub(super) type Typed = Arc<dyn Any + Send + Sync>;

/// Reads the entry's keys; none where its one key is absent.
type Read = Box<dyn Fn(&Config) -> std::result::Result<Option<Typed>, ConfigError> + Send + Sync>;

/// A section that a configuration has.
pub struct Present {
    /// Its place among the sections of the catalog.
    pub place: usize,
    /// Its first key: its lines and messages bear it, whichever of its keys are there.
    pub name: &'static str,
    /// The first of its keys that is present, or its first key where it is always built.
    pub key: &'static str,
    pub(super) typed: Typed,
}

impl Present {
    /// What the section `S` read.
    ///
    /// # Panics
    /// If it is another section.
    pub fn config<S: Section>(&self) -> &S::Config {
        of::<S>(&self.typed)
    }
}

fn of<S: Section>(typed: &Typed) -> &S::Config {
    typed.downcast_ref().expect("an entry reads its own section")
}
