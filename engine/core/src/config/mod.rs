//! Reading a configuration: text with positions, layers over it, a schema to check it against.
//!
//! ```text
//! Source ── parse ──> Document ── environment, overrides ──> Config ── Checker ──> problems
//! (text)              (values and where each stands)         (what holds)          (all at once)
//! ```
//!
//! Nothing here knows a plugin: the JSON Schema that the plugins' configuration structs generate is
//! the single source of types, ranges and names. Every complaint is a [`Problem`] that names the
//! path of the value (`progressive_layer_drop.theta`), what was found and what would be right;
//! those about the file carry line and column, and a [`ConfigError`] underlines them as a
//! [`miette::Diagnostic`].
//!
//! ```
//! # use trainyard::config::{Checker, Document, Layers, Source};
//! let schema = serde_json::json!({
//!     "properties": { "theta": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 } },
//!     "additionalProperties": false
//! });
//! let document = Document::parse(Source::text("run.json", r#"{ "theta": 1.5 }"#))?;
//! let config = Layers::new(document).merge();
//! let problems = Checker::new(&schema)?.check(&config);
//! assert_eq!(problems[0].to_string(), "run.json:1:12: theta = 1.5 is not in (0, 1]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod branch;
mod check;
mod document;
mod expectation;
mod hjson;
mod layers;
mod merged;
mod note;
mod overlay;
mod path;
mod places;
mod problem;
mod rewrite;
mod scan;
mod show;
mod source;
mod suggest;
mod syntax;

#[cfg(test)]
mod tests;

pub use check::{Checker, SchemaError, check};
pub use document::Document;
pub use expectation::expectation;
pub use layers::{ENVIRONMENT_PREFIX, Layers};
pub use merged::{Config, whole_number};
pub use note::{Note, Weight};
pub use path::{Path, Segment};
pub use problem::{ConfigError, Origin, Problem, ProblemKind};
pub use rewrite::{Rewrite, Rewritten};
pub use source::Source;
pub use suggest::{Alias, did_you_mean};
