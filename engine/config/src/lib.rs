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
//! # use trainyard_config::{Checker, Document, Layers, Source};
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

//!
//! A program lists its [`Section`]s in a [`Catalog`], with the [`Dialect`] of another program where it
//! reads that one's files. The catalog gives the schema, and reads a file into a [`Resolved`]
//! configuration. Nothing here needs libtorch.

mod catalog;
mod check;
mod dialect;
mod error;
mod layers;
mod problems;
mod resolved;
mod section;
mod settings;
mod text;
mod world;

#[cfg(test)]
mod tests;

pub use catalog::Catalog;
pub use check::{Checker, SchemaError, check, did_you_mean, expectation};
pub use dialect::{
    Absent, Answer, Auto, Clash, Dialect, Holds, Known, Otherwise, Remark, truth,
};
pub use error::{Error, Result};
pub use layers::{Config, ENVIRONMENT_PREFIX, Layers, whole_number};
pub use problems::{ConfigError, Invalid, Note, Origin, Problem, ProblemKind};
pub use resolved::Resolved;
pub use section::Section;
pub use settings::{BatchSizes, Settings, Training};
pub use text::{Document, Path, Rewrite, Rewritten, Segment, Source};
pub use world::World;
