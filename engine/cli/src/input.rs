//! The configuration that a subcommand works on.
use std::path::Path;
use trainyard::config::{ConfigError, Document, Layers, Source};

/// What the command line lays over a file.
#[derive(Clone, Default, clap::Args)]
pub struct Overrides {
    /// Set one value, over the file and the environment: --set training.seed=7. May be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<String>,
}

impl Overrides {
    /// Sets one more value, over those before.
    pub fn push(&mut self, path: &str, value: impl Into<serde_json::Value>) {
        self.set.push(format!("{path}={}", value.into()));
    }

    /// A file with what the environment and the command line lay over it.
    ///
    /// # Errors
    /// The file cannot be read, or its text is not JSON.
    pub fn read(&self, file: &Path) -> Result<Layers, ConfigError> {
        let layers = Layers::new(Document::parse(Source::read(file)?)?);
        Ok(layers.environment(std::env::vars_os()).overrides(self.set.clone()))
    }
}

fn assignment(text: &str) -> Result<String, &'static str> {
    match text.contains('=') {
        true => Ok(text.to_owned()),
        false => Err("it has no `=`; write section.key=value"),
    }
}
