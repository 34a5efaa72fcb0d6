//! All that is wrong with a configuration, not only what comes first.
use crate::outline::Outlined;
use std::collections::BTreeSet;
use trainyard::config::{
    Config, ConfigError, Layers, Note, Path as Place, Problem, ProblemKind, Segment, Weight,
};
use trainyard::{BatchSizes, Error, Registry};
use trainyard_run::missing;

/// Adds to the problems of a text those that only the plan shows, of the sections that are free of the
/// former: nobody mends a file to be told of the next line.
pub fn complete(error: Error, registry: &Registry, layers: Layers) -> Error {
    let Error::Config(error) = error else { return error };
    let config = layers.clone().merge();
    let mut problems = error.problems().to_vec();
    problems.extend(of_the_rest(registry, layers, error.problems()));
    config.require_none(problems).err().unwrap_or(error).into()
}

/// Adds to the problems of a text what a run needs and it leaves out.
pub fn add_missing(error: Error, layers: &Layers) -> Error {
    let Error::Config(error) = error else { return error };
    let config = layers.clone().merge();
    let mut problems = error.problems().to_vec();
    let wrong = |paths: &[&str]| problems.iter().any(|p| paths.contains(&p.path.as_str()));
    let (length, batch) =
        (wrong(&["training", "training.total_steps", "training.epochs"]), wrong(&BatchSizes::KEYS));
    let told =
        |missing: &Problem| if missing.path.starts_with("training") { length } else { batch };
    problems.extend(missing(&config).into_iter().filter(|missing| !told(missing)));
    config.require_none(problems).err().unwrap_or(error).into()
}

/// As an error of the configuration, which any error is for one that only reads it.
pub fn of(config: &Config, error: Error) -> ConfigError {
    match error {
        Error::Config(error) => error,
        other => config.problem("", other.to_string()).into(),
    }
}

/// What only the plan shows of the sections that are free of `problems`.
fn of_the_rest(registry: &Registry, layers: Layers, problems: &[Problem]) -> Vec<Problem> {
    let paths = problems.iter().filter_map(|problem| Place::parse(&problem.path).ok());
    let first = |path: Place| match path.segments().first() {
        Some(Segment::Key(key)) => Some(key.clone()),
        _ => None,
    };
    let mut wrong: BTreeSet<String> = paths.filter_map(first).collect();
    // What is refused may be a way to use the ranks for something else than the batch.
    let refused = problems.iter().any(|problem| problem.kind == ProblemKind::Refused);
    if refused || BatchSizes::KEYS.iter().any(|key| wrong.contains(*key)) {
        wrong.extend(BatchSizes::KEYS.map(str::to_owned));
    }
    // The model is held against the data.
    if wrong.contains("data") {
        wrong.insert("model".to_owned());
    }
    // What notes there are is among the problems already.
    wrong.insert("strict".to_owned());
    match check(registry, layers.without(&wrong), &mut Vec::new()) {
        Err(Error::Config(error)) => {
            let told = |path: &str| problems.iter().any(|problem| problem.path == path);
            error.into_problems().into_iter().filter(|problem| !told(&problem.path)).collect()
        }
        _ => Vec::new(),
    }
}

/// Checks the text, then what only the plan shows, and adds what is to be noted.
pub fn check(registry: &Registry, layers: Layers, notes: &mut Vec<Note>) -> Result<(), Error> {
    let root = Place::default();
    let config = layers.clone().merge();
    let outlined = Outlined::new(registry, layers)?;
    notes.extend(outlined.plan.notes().iter().cloned());
    notes.extend(outlined.assumed(&config)?);
    if config.value().get("model").is_some() {
        return outlined.explained.map(drop);
    }
    // Patterns are for a model that is not here.
    if let Err(Error::Config(error)) = outlined.explained {
        let mut problems = error.into_problems();
        let of_pattern = |path: &str| {
            path.starts_with("optimizer.groups[")
                && (path.ends_with(']') || path.contains(".match"))
                || path.starts_with("optimizer.no_decay")
        };
        problems.retain(|problem| !of_pattern(&problem.path));
        config.require_none(problems)?;
    }
    let patterns = ["progressive_layer_drop", "optimizer"].into_iter().any(|section| {
        let section = config.value().get(section);
        section.is_some_and(|s| ["layers", "groups", "no_decay"].iter().any(|k| s.get(k).is_some()))
    });
    if patterns {
        let note =
            "the model is not read, so patterns on layers and parameters were not held against it";
        notes.push(config.note(&root, note).weighing(Weight::Result));
    }
    Ok(())
}
