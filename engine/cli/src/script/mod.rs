//! Training of models that PyTorch exported.
mod config;
mod inputs;
mod loss;
mod run;

pub use config::ScriptConfig;
pub use run::ScriptRun;
