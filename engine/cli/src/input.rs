//! The configuration that a subcommand works on.
use std::path::Path;
use trainyard::Registry;
use trainyard::config::{
    self, Config, ConfigError, Document, Layers, Note, Source, Weight, whole_number,
};

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

/// What of the model and the run is taken in place of what the file says.
#[derive(Clone, clap::Args)]
pub struct Sizes {
    /// Layers of the model, in place of model.layers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    layers: Option<u32>,
    /// Optimizer steps of the run, in place of its length in the file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
}

impl Sizes {
    /// Lays them over a file.
    pub fn lay_over(&self, overrides: &mut Overrides) {
        if let Some(layers) = self.layers {
            overrides.push("model.layers", layers);
        }
        if let Some(steps) = self.steps {
            overrides.push("training.total_steps", steps);
            overrides.push("training.epochs", serde_json::Value::Null);
        }
    }
}

/// How many ranks a file is checked for.
#[derive(Clone, clap::Args)]
pub struct Ranks {
    /// Number of ranks; if left out, as many as all three batch sizes ask for, or 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    world_size: Option<u64>,
}

impl Ranks {
    /// So many, or as the file has it.
    pub fn of(world_size: Option<u64>) -> Self {
        Ranks { world_size }
    }

    /// The registry for so many ranks, with a note where the number is the file's.
    pub fn fit(&self, registry: Registry, config: &Config, notes: &mut Vec<Note>) -> Registry {
        let batch =
            |key: &str| whole_number(config.value().get(key)?).filter(|samples| *samples > 0);
        let train = batch("train_batch_size");
        let of_one_rank = batch("train_micro_batch_size_per_gpu")
            .zip(batch("gradient_accumulation_steps"))
            .and_then(|(micro, accumulation)| micro.checked_mul(accumulation));
        let mut note = |text: &str| {
            let path = config::Path::default().key("train_batch_size");
            notes.push(config.note(&path, text).weighing(Weight::Result));
        };
        let asked = match (self.world_size, train, of_one_rank) {
            (Some(given), ..) => given,
            (None, Some(train), Some(one)) if train > one && train % one == 0 => {
                note(&format!("takes {} ranks", train / one));
                train / one
            }
            (None, Some(train), Some(one)) if train != one => {
                note("held against 1 rank; --world-size says for how many");
                1
            }
            _ => 1,
        };
        registry.world_size(asked)
    }
}

fn assignment(text: &str) -> Result<String, &'static str> {
    match text.contains('=') {
        true => Ok(text.to_owned()),
        false => Err("it has no `=`; write section.key=value"),
    }
}
