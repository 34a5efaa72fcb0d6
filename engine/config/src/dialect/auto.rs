//! `"auto"`: values that the program fills in, or a documented rule where it does not.
use crate::settings::{BatchSizes, Settings};
use crate::{Config, Note, Path, Problem, Weight, whole_number};
use serde_json::{Value, json};

/// A key that may be `"auto"`.
#[derive(Debug, Clone, Copy)]
pub struct Auto {
    /// Its dotted path.
    pub path: &'static str,
    /// What it becomes where the program does not fill it in.
    pub otherwise: Otherwise,
    /// What that is, in words: follows the value in a sentence.
    pub about: &'static str,
}

/// What a key that is `"auto"` becomes where the program does not fill it in.
#[derive(Debug, Clone, Copy)]
pub enum Otherwise {
    /// As if it were left out.
    LeftOut,
    /// This JSON.
    Value(&'static str),
    /// An error: only the program knows. Where there is no program, this JSON stands for it; and it is as
    /// if left out where the other key is a number.
    Program {
        /// What `validate` and `explain` take.
        shown: &'static str,
        /// The other key's path; empty for none.
        unless: &'static str,
    },
}

/// What a program fills in: values by dotted path, and whether documented ones stand for the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filling {
    pub values: Vec<(String, Value)>,
    pub assume: bool,
}

impl Filling {
    /// Replaces every `"auto"` in `config` that is in `table`, with a note for each. What follows from the
    /// batch sizes is told for so many `ranks`.
    pub fn fill(
        &self,
        table: &[&'static [Auto]],
        ranks: u64,
        config: &mut Config,
        notes: &mut Vec<Note>,
        problems: &mut Vec<Problem>,
    ) {
        let mut following = Vec::new();
        let number = |config: &Config, path: &str| {
            Path::parse(path)
                .is_ok_and(|path| path.find(config.value()).is_some_and(Value::is_number))
        };
        for auto in table.iter().copied().flatten() {
            let path = Path::parse(auto.path).expect("a table has plain paths");
            if path.find(config.value()).is_none_or(|value| value != "auto") {
                continue;
            }
            let given = self.values.iter().rev().find(|(path, _)| path == auto.path);
            let (mut hint, mut weight) = ("", Weight::Little);
            let (value, from) = match (given, auto.otherwise) {
                (Some((_, value)), _) => {
                    (Some((value.clone(), value.to_string())), "from the program")
                }
                (None, Otherwise::LeftOut) => {
                    // A whole section that stays off.
                    if auto.path.ends_with(".enabled") {
                        weight = Weight::Result;
                    }
                    (None, auto.about)
                }
                (None, Otherwise::Value(text)) => (Some(parsed(text)), auto.about),
                (None, Otherwise::Program { unless, .. }) if number(config, unless) => {
                    (None, "follows from the other keys")
                }
                (None, Otherwise::Program { shown, .. }) if self.assume => {
                    hint = "; a program that trains has to fill it in";
                    weight = Weight::Missing;
                    (Some(parsed(shown)), auto.about)
                }
                (None, Otherwise::Program { .. }) => {
                    let key = auto.path.rsplit('.').next().unwrap_or_default();
                    let message = "is for the program to fill in, and it does not; write a value";
                    problems.push(config.problem(auto.path, format!("{key} = \"auto\" {message}")));
                    continue;
                }
            };
            let message = match &value {
                Some((value, text)) if !value.is_null() => {
                    format!("filled in with {text}: {from}{hint}")
                }
                _ => from.to_owned(),
            };
            if value.is_none() && BatchSizes::KEYS.contains(&auto.path) {
                following.push((notes.len(), auto.path));
            }
            notes.push(config.note(&path, &message).weighing(weight));
            config.fill(&path, value.map(|(value, _)| value));
        }
        tell_sizes(following, ranks, config, notes);
    }
}

/// Adds the numbers to the notes on batch sizes that follow from others, of each its place and its key;
/// whatever is wrong elsewhere.
fn tell_sizes(following: Vec<(usize, &str)>, ranks: u64, config: &Config, notes: &mut [Note]) {
    let size = |key: &str| whole_number(config.value().get(key)?);
    // What was meant by one that is wrong is not known.
    let wrong = |key: &&str| {
        let there = config.value().get(*key).is_some_and(|value| !value.is_null());
        there && size(key).is_none() || config.problems().iter().any(|p| p.path == *key)
    };
    if BatchSizes::KEYS.iter().any(wrong) {
        return;
    }
    let settings = Settings {
        train_batch_size: size("train_batch_size"),
        train_micro_batch_size_per_gpu: size("train_micro_batch_size_per_gpu"),
        gradient_accumulation_steps: size("gradient_accumulation_steps"),
        ..Settings::default()
    };
    let sizes = BatchSizes::solve(&settings, ranks).ok().flatten();
    let Some(sizes) = sizes else { return };
    for (index, key) in following {
        notes[index].say_first(&format!("filled in with {}: ", sizes.of(key)));
    }
}

/// A value of a table, and as the table writes it.
fn parsed(text: &str) -> (Value, String) {
    (serde_json::from_str(text).expect("a table has JSON"), text.to_owned())
}

/// Lets the schema `root` take `"auto"` at `path`, dotted, wherever that may stand.
pub(crate) fn allow(root: &mut Value, path: &str) {
    let keys: Vec<_> = path.split('.').collect();
    let mut places = Vec::new();
    find(root, "", &keys, &mut places);
    places.sort();
    places.dedup();
    for place in places {
        let schema = root.pointer_mut(&place).expect("just found");
        let Some(mut inner) = schema.as_object().cloned() else { continue };
        // What says in its own words why a value is wrong is no type, and keeps its words.
        if inner.contains_key("errorMessage") {
            continue;
        }
        let lifted = ["description", "default"].map(|word| (word, inner.remove(word)));
        let mut outer = json!({ "anyOf": [inner, { "const": "auto" }] });
        for (word, value) in lifted {
            if let Some(value) = value {
                outer[word] = value;
            }
        }
        *schema = outer;
    }
}

/// The pointers of the schemas that stand for `keys` below the schema at `place`.
fn find(root: &Value, place: &str, keys: &[&str], found: &mut Vec<String>) {
    let Some(Value::Object(schema)) = root.pointer(place) else { return };
    let [key, rest @ ..] = keys else {
        found.push(place.to_owned());
        return;
    };
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        find(root, target.trim_start_matches('#'), keys, found);
    }
    if schema.get("properties").is_some_and(|properties| properties.get(key).is_some()) {
        find(root, &format!("{place}/properties/{key}"), rest, found);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        let several = schema.get(word).and_then(Value::as_array).map_or(0, Vec::len);
        for index in 0..several {
            find(root, &format!("{place}/{word}/{index}"), keys, found);
        }
    }
    if schema.contains_key("then") {
        find(root, &format!("{place}/then"), keys, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_allowed_behind_references_and_conditions() {
        let mut schema = json!({
            "properties": { "optimizer": { "$ref": "#/$defs/Optimizer" } },
            "$defs": {
                "Optimizer": { "allOf": [
                    { "if": {}, "then": { "properties": { "params": { "$ref": "#/$defs/Adam" } } } },
                    { "if": {}, "then": { "properties": { "params": { "$ref": "#/$defs/Adam" } } } },
                ] },
                "Adam": { "properties": { "lr": { "type": "number", "description": "Rate.", "minimum": 0 } } },
            },
        });
        allow(&mut schema, "optimizer.params.lr");
        assert_eq!(
            schema.pointer("/$defs/Adam/properties/lr").unwrap(),
            &json!({
                "description": "Rate.",
                "anyOf": [{ "type": "number", "minimum": 0 }, { "const": "auto" }],
            })
        );
        let refused = json!({ "not": { "const": true }, "errorMessage": "is not supported" });
        schema["then"] = json!({ "properties": { "optimizer": refused } });
        let before = schema.clone();
        allow(&mut schema, "optimizer");
        assert_eq!(schema["then"], before["then"], "a rule in its own words stays as it is");
        schema["properties"] = before["properties"].clone();
        assert_eq!(schema, before);
        allow(&mut schema, "optimizer.params.momentum");
        assert_eq!(schema, before);
    }
}
