//! Text with positions: what a file says, and where each value of it stands.
pub(crate) mod document;
pub(crate) mod hjson;
pub(crate) mod path;
pub(crate) mod rewrite;
pub(crate) mod scan;
pub(crate) mod show;
pub(crate) mod source;
pub(crate) mod syntax;

pub use document::Document;
pub use path::{Path, Segment};
pub use rewrite::{Rewrite, Rewritten};
pub use source::Source;
