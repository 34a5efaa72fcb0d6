//! Comments that are written as keys, since JSON has no others: `"_comment": "for 8 GPUs"`.
//!
//! A key is one if it begins with `_`, `//` or `#`, or is one of [`WORDS`] in any case of letters, and holds
//! text or a list of texts. It may stand in every section, and is noted.
use crate::dialect::known::any_case;
use crate::{Config, Note, Path};
use serde_json::{Value, json};

/// Names of keys that explain.
const WORDS: [&str; 12] = [
    "comment",
    "comments",
    "description",
    "doc",
    "docs",
    "documentation",
    "note",
    "notes",
    "readme",
    "remark",
    "remarks",
    "todo",
];

/// Whether a key of this name explains others, as long as it holds text.
pub(crate) fn is_name(key: &str) -> bool {
    key.starts_with(['_', '#'])
        || key.starts_with("//")
        || WORDS.iter().any(|word| key.eq_ignore_ascii_case(word))
}

fn is_text(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(Value::is_string),
        value => value.is_string(),
    }
}

/// Lets every section of the schema `root` have such keys.
pub(crate) fn allow(root: &mut Value) {
    let name = format!("^(_|#|//)|{}", any_case(&WORDS));
    allow_in(root, &json!({ name: { "$ref": "#/$defs/Comment" } }));
    // An `anyOf` would be told as a choice of types.
    root["$defs"]["Comment"] = json!({
        "description": "Explains what stands beside it; not read.",
        "type": ["string", "array"],
        "items": { "type": "string" },
        "errorMessage": NO_TEXT,
    });
}

fn allow_in(schema: &mut Value, comments: &Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| allow_in(item, comments)),
        Value::Object(keys) => {
            keys.values_mut().for_each(|inner| allow_in(inner, comments));
            if keys.get("additionalProperties") == Some(&Value::Bool(false)) {
                keys.insert("patternProperties".to_owned(), comments.clone());
            }
        }
        _ => {}
    }
}

const NO_TEXT: &str = "is read by nobody: a key of this name is a comment, and a comment is a text";

/// Takes the comments out of a configuration, with a note for each. `root` is the schema, which tells the sections
/// whose keys have names of the user's own, where none is a comment. `fails_in` names the program that fails on
/// them in a section.
pub(crate) fn take(
    root: &Value,
    config: &mut Config,
    fails_in: impl Fn(&Path) -> Option<&'static str>,
    notes: &mut Vec<Note>,
) {
    let mut found = Vec::new();
    let mut open = vec![(Path::default(), config.value(), vec![root])];
    while let Some((path, value, schemas)) = open.pop() {
        let Some(keys) = value.as_object() else { continue };
        let mut all = Vec::new();
        schemas.into_iter().for_each(|schema| alternatives(root, schema, MAX_STEPS, &mut all));
        let allowed = all.iter().any(|schema| schema.get("patternProperties").is_some());
        for (key, value) in keys {
            if allowed && is_name(key) && is_text(value) {
                found.push((path.clone(), path.key(key)));
            } else {
                let inside = all.iter().filter_map(|schema| schema.get("properties")?.get(key));
                open.push((path.key(key), value, inside.collect()));
            }
        }
    }
    for (section, path) in found {
        let says = "is a comment, which nobody reads";
        let says = match fails_in(&section) {
            Some(program) => format!("{says}; in this section {program} stops at it"),
            None => says.to_owned(),
        };
        notes.push(config.note(&path, &says));
        config.fill(&path, None);
    }
}

/// Most steps through references and alternatives: a schema may refer to itself.
const MAX_STEPS: usize = 8;

/// The schema, and what it refers to or lets one choose among.
fn alternatives<'s>(root: &'s Value, schema: &'s Value, steps: usize, all: &mut Vec<&'s Value>) {
    all.push(schema);
    let Some(steps) = steps.checked_sub(1) else { return };
    let target = schema.get("$ref").and_then(Value::as_str).map(|r| r.trim_start_matches('#'));
    let several = ["allOf", "anyOf", "oneOf"].map(|word| schema.get(word)?.as_array());
    let several = several.into_iter().flatten().flatten();
    let further = target.and_then(|target| root.pointer(target)).into_iter();
    for inner in further.chain(several).chain(schema.get("then")) {
        alternatives(root, inner, steps, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, Layers, Source};

    /// The schema takes for a comment what the code does.
    #[test]
    fn schema_and_code_agree() {
        let mut schema = json!({ "properties": { "lr": {} }, "additionalProperties": false });
        allow(&mut schema);
        for (key, comment) in [
            ("_comment", true),
            ("_", true),
            ("__note__", true),
            ("//", true),
            ("// lr", true),
            ("#", true),
            ("Comment", true),
            ("READMe", true),
            ("todo", true),
            ("comments_", false),
            ("commentary", false),
            ("a_comment", false),
            ("/", false),
            ("note2", false),
            ("", false),
        ] {
            assert_eq!(is_name(key), comment, "{key:?}");
            for value in [json!("text"), json!(["a", "b"]), json!([])] {
                assert_eq!(
                    jsonschema::is_valid(&schema, &json!({ key: value })),
                    comment,
                    "{key:?}"
                );
                assert!(is_text(&value));
            }
            for value in [json!(1), json!(null), json!({}), json!(["a", 1])] {
                assert!(!jsonschema::is_valid(&schema, &json!({ key: value })), "{key:?}");
                assert!(!is_text(&value));
            }
        }
    }

    /// Comments are taken where the schema has them, behind references and conditions, and nowhere else.
    #[test]
    fn only_where_the_keys_are_known() {
        let mut schema = json!({
            "properties": {
                "optimizer": { "$ref": "#/$defs/Optimizer" },
                "names": { "type": "object", "additionalProperties": { "type": "string" } },
            },
            "additionalProperties": false,
            "$defs": {
                "Optimizer": { "allOf": [
                    { "if": {}, "then": { "properties": { "params": { "$ref": "#/$defs/Adam" } } } },
                ] },
                "Adam": { "properties": { "lr": {} }, "additionalProperties": false },
            },
        });
        allow(&mut schema);
        let text = r#"{ "_a": "x", "optimizer": { "params": { "//": "y", "lr": 1 }, "note": "z" },
            "names": { "note": "n" } }"#;
        let document = Document::parse(Source::text("run.json", text)).unwrap();
        let (mut config, mut notes) = (Layers::new(document).merge(), Vec::new());
        let fails_in = |path: &Path| (path.to_string() == "optimizer.params").then_some("Other");
        take(&schema, &mut config, fails_in, &mut notes);
        let mut told: Vec<_> = notes.iter().map(Note::to_string).collect();
        told.sort_by_key(String::len);
        assert_eq!(
            told,
            [
                r#"run.json:1:9: _a = "x": is a comment, which nobody reads"#,
                r#"run.json:1:47: optimizer.params."//" = "y": is a comment, which nobody reads; in this section Other stops at it"#,
            ]
        );
        let rest = json!({ "optimizer": { "params": { "lr": 1 }, "note": "z" }, "names": { "note": "n" } });
        assert_eq!(config.value(), &rest);
    }
}
