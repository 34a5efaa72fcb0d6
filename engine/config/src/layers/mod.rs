//! What lies over a file: the environment, the command line; and what holds once they are merged.
pub(crate) mod config;
pub(crate) mod layering;
pub(crate) mod overlay;

pub use config::{Config, whole_number};
pub use layering::{ENVIRONMENT_PREFIX, Layers};
