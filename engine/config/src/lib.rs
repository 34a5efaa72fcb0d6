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
pub mod draw;
mod error;
mod groups;
mod layers;
mod moment;
mod outline;
mod pattern;
mod problems;
mod resolved;
mod schedule;
mod section;
mod settings;
mod text;
mod world;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Present};
pub use check::{Alias, Checker, SchemaError, check, did_you_mean, expectation};
pub use dialect::{
    Absent, Answer, Auto, Clash, Dialect, Holds, Known, Otherwise, Remark, Says, truth,
};
pub use error::{BoxError, Error, Result};
pub use groups::{Group, GroupOptions};
pub use layers::{Config, ENVIRONMENT_PREFIX, Layers, whole_number};
pub use moment::Moment;
pub use outline::{BlockInfo, Context, Curve, Explanation, Outline};
pub use pattern::Pattern;
pub use problems::{ConfigError, Invalid, Note, Origin, Problem, ProblemKind, Weight};
pub use resolved::Resolved;
pub use schedule::{Constant, LearningRate, Rates, Schedule};
pub use section::Section;
pub use settings::{Attention, BatchSizes, Checkpointing, Resume, Settings, Training};
pub use text::{Document, Path, Rewrite, Rewritten, Segment, Source};
pub use world::World;
