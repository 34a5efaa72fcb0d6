//! The example BERT as far as a plan needs it: its blocks and the names of its parameters.
use crate::script::ScriptConfig;
use trainyard::config::{self, Config, ConfigError, Note, Path, Weight};
use trainyard::{BlockInfo, Error, Explanation, Plan, Registry};
use trainyard_models::pretraining::{check_length, model_config};

/// All plugins, and the sections that this program reads itself: `model`, `data` and `script`.
pub fn registry() -> Registry {
    trainyard_models::pretraining::registry().section::<ScriptConfig>("script")
}

/// Steps taken for one pass over data that is not looked at.
pub const STEPS_PER_EPOCH: u64 = 1000;

/// Steps taken for a run whose length nobody sets.
pub const ASSUMED_STEPS: u64 = 1000;

/// Layers taken for each pattern on a model that is not read.
pub const ASSUMED_LAYERS: usize = 12;

/// A plan with what it does, or why it cannot.
pub struct Outlined {
    pub plan: Plan,
    pub explained: Result<Explanation, Error>,
    /// What is missing and was assumed, and what will hardly do what was meant: beside the plan's own notes.
    notes: Vec<(Weight, String)>,
}

impl Outlined {
    /// The plan of `layers`. Where nobody sets the length of the run and something needs it, it is
    /// assumed.
    ///
    /// # Errors
    /// What the text alone shows.
    pub fn new(registry: &Registry, layers: config::Layers) -> Result<Self, Error> {
        let plan = registry.plan(layers.clone())?.with_steps_per_epoch(STEPS_PER_EPOCH);
        let explain = |plan: &Plan| explain(plan, patterns_elsewhere(plan)?);
        let outlined = Outlined { explained: explain(&plan), plan, notes: Vec::new() };
        if outlined.explained.is_ok() || outlined.plan.total_steps()?.is_some() {
            return Ok(outlined.noted());
        }
        let assumed = layers.overrides([format!("training.total_steps={ASSUMED_STEPS}")]);
        let plan = registry.plan(assumed)?.with_steps_per_epoch(STEPS_PER_EPOCH);
        let explained = explain(&plan);
        // That the length is not known is no fault of the file, whatever else is.
        let told = |explained: &Result<_, Error>| explained.as_ref().err().map(Error::to_string);
        if told(&explained) == told(&outlined.explained) {
            return Ok(outlined.noted());
        }
        let notes = vec![(
            Weight::Missing,
            format!(
                "nothing sets the run's length, which the file needs and DeepSpeed stops without: \
                 {ASSUMED_STEPS} steps are assumed; set training.total_steps"
            ),
        )];
        Ok(Outlined { plan, explained, notes }.noted())
    }

    /// Notes on the whole: what was assumed, what the sections warn of.
    ///
    /// # Errors
    /// There are some, and the configuration wants no notes.
    pub fn assumed(&self, config: &Config) -> Result<Vec<Note>, ConfigError> {
        let root = Path::default();
        let notes =
            self.notes.iter().map(|(weight, text)| config.note(&root, text).weighing(*weight));
        let notes: Vec<_> = notes.collect();
        if self.plan.settings().strict {
            config.require_none(notes.iter().map(|note| config.note_as_problem(note)).collect())?;
        }
        Ok(notes)
    }

    fn noted(mut self) -> Self {
        let warnings = self.explained.iter().flat_map(|explained| &explained.warnings);
        let warnings = warnings.map(|(section, warning)| format!("{section}: {warning}"));
        self.notes.extend(warnings.map(|text| (Weight::Result, text)));
        let mut missing = |text: String| self.notes.push((Weight::Missing, text));
        if self.plan.batch_sizes(self.plan.ranks()).is_ok_and(|sizes| sizes.is_none()) {
            missing(
                "no batch size: the micro-batches that the program gives make one step; DeepSpeed stops without \
                 train_batch_size or train_micro_batch_size_per_gpu"
                    .to_owned(),
            );
        }
        if self.explained.as_ref().is_ok_and(|explained| !explained.optimizer) {
            missing(format!(
                "no section sets the optimizer, and training needs one, of the file or of a plugin of the \
                 program: write {}",
                registry().catalog().line_for_optimizer()
            ));
        }
        self
    }
}

/// Whether the model is a script.
pub fn is_script(plan: &Plan) -> bool {
    plan.config().value().get("script").is_some()
}

/// Layers of a model that is not read: so many for each `*` of each pattern.
fn assumed(patterns: &[String]) -> Vec<BlockInfo> {
    let several = |pattern: &str| if pattern.contains(['*', '?']) { ASSUMED_LAYERS } else { 1 };
    let names = patterns.iter().flat_map(|pattern| {
        (0..several(pattern)).map(|layer| pattern.replace(['*', '?'], &layer.to_string()))
    });
    names.map(|name| BlockInfo { name, sublayers: Vec::new() }).collect()
}

/// The patterns on the names of layers, where the model is one that is not here: a script, or the user's
/// own where the file has patterns and no `model`.
pub fn patterns_elsewhere(plan: &Plan) -> Result<Option<Vec<String>>, Error> {
    let patterns = plan.layer_patterns();
    let own = plan.config().value().get("model").is_none() && !patterns.is_empty();
    Ok((is_script(plan) || own).then_some(patterns))
}

/// What the plan does with the model of its `model` section, or with one that has the layers that `elsewhere`
/// names. No data is read, and no tensor of the model's size is made. Without that section the model may be the
/// user's own: patterns on names of parameters are not held against any.
///
/// # Errors
/// What is wrong, with positions.
pub fn explain(plan: &Plan, elsewhere: Option<Vec<String>>) -> Result<Explanation, Error> {
    if let Some(patterns) = elsewhere {
        return Ok(plan.resolved().explain(assumed(&patterns), Vec::new())?);
    }
    let own = plan.config().value().get("model").is_some();
    if own {
        check_length(plan)?;
    }
    let (blocks, parameters) = model_config(plan)?.shape();
    Ok(plan.resolved().explain(blocks, if own { parameters } else { Vec::new() })?)
}
