//! Which sections of a schema have a key of a given name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::text::path::Path;

/// Deepest nesting of sections that is looked into, references and alternatives included; a schema may refer
/// to itself.
const MAX_STEPS: usize = 24;

/// The names of all keys, each with the sections that have it. What is only refused is left out: nobody is
/// to be sent there.
pub(crate) fn places(root: &Value) -> BTreeMap<String, BTreeSet<Path>> {
    let mut found = BTreeMap::new();
    collect(root, root, &Path::default(), MAX_STEPS, &mut found);
    found
}

fn collect(
    root: &Value,
    schema: &Value,
    section: &Path,
    steps: usize,
    found: &mut BTreeMap<String, BTreeSet<Path>>,
) {
    let Some(steps) = steps.checked_sub(1).filter(|_| !refuses(schema)) else { return };
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    if let Some(target) = target.and_then(|pointer| root.pointer(pointer)) {
        collect(root, target, section, steps, found);
    }
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if !refuses(inner) {
            found.entry(key.clone()).or_default().insert(section.clone());
            collect(root, inner, &section.key(key), steps, found);
        }
    }
    let several =
        ["allOf", "anyOf", "oneOf"].map(|word| schema.get(word).and_then(Value::as_array));
    let inside = several.into_iter().flatten().flatten().chain(schema.get("then"));
    inside.for_each(|inner| collect(root, inner, section, steps, found));
}

/// Whether a schema says in its own words why nothing fits it, at least where the value asks for something.
fn refuses(schema: &Value) -> bool {
    let own = |schema: &Value| schema.get("errorMessage").is_some();
    let rules = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
    own(schema) || rules.into_iter().any(|rule| rule.get("then").is_some_and(own))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_behind_references_and_conditions() {
        let refused = json!({ "allOf": [{ "if": {}, "then": { "not": {}, "errorMessage": "no" } }],
            "properties": { "lr": {} } });
        let root = json!({
            "properties": { "optimizer": { "$ref": "#/$defs/Optimizer" }, "amp": refused, "lr": {} },
            "$defs": {
                "Optimizer": { "allOf": [
                    { "if": {}, "then": { "properties": { "params": { "$ref": "#/$defs/Adam" } } } },
                ] },
                "Adam": { "properties": { "lr": {}, "self": { "$ref": "#/$defs/Adam" } } },
            },
        });
        let found = places(&root);
        let of = |key: &str| {
            found.get(key).into_iter().flatten().map(Path::to_string).take(2).collect::<Vec<_>>()
        };
        assert_eq!(of("lr")[..], ["", "optimizer.params"]);
        assert_eq!(of("params"), ["optimizer"]);
        assert!(of("amp").is_empty());
    }
}
