//! Sections made of a `type` and its `params`, where the type decides which params there are.
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// One type that such a section knows.
pub(crate) struct Choice {
    /// Its names, the usual one first.
    names: &'static [&'static str],
    /// What its params may be.
    params: Schema,
}

impl Choice {
    pub(crate) fn new<T: JsonSchema>(
        generator: &mut SchemaGenerator,
        names: &'static [&'static str],
    ) -> Self {
        Choice { names, params: generator.subschema_for::<T>() }
    }
}

/// Types that are known and refused, and why: what follows the name in a sentence.
pub(crate) type Refused = (&'static [&'static str], &'static str);

/// The schema of a section: `type` in any case of letters, the `params` of that type, `more` keys. Without a
/// type, DeepSpeed passes over the section as a whole.
///
/// Each type's params stand behind an `if`, not in an `anyOf`, so that a wrong one is one error at its
/// own place.
pub(crate) fn schema(
    about: &str,
    choices: Vec<Choice>,
    refused: &[Refused],
    more: Map<String, Value>,
) -> Schema {
    let names: Vec<_> = choices.iter().flat_map(|choice| choice.names).copied().collect();
    let known: Vec<_> = names.iter().chain(refused.iter().flat_map(|(r, _)| *r)).copied().collect();
    // A name that is none in any case fails the plain list, which reads better than the pattern.
    let mut of_type = json!({
        "description": format!(
            "One of {}; upper and lower case are the same. Without it, the section is passed over.",
            names.join(", ")
        ),
        "if": { "not": { "type": ["string", "null"], "pattern": any_case(&known) } },
        "then": { "enum": names },
    });
    if !refused.is_empty() {
        let refuse = |(names, why): &Refused| {
            json!({
                "if": { "type": "string", "pattern": any_case(names) },
                "then": { "not": {}, "errorMessage": why },
            })
        };
        of_type["allOf"] = refused.iter().map(refuse).collect();
    }
    let mut properties = Map::from_iter([
        ("type".to_owned(), of_type),
        ("params".to_owned(), json!({ "description": "What the type lets one set." })),
    ]);
    properties.extend(more);
    let params = choices.into_iter().map(|Choice { names, params }| {
        json!({
            "if": {
                "properties": { "type": { "type": "string", "pattern": any_case(names) } },
                "required": ["type"],
            },
            "then": { "properties": { "params": params } },
        })
    });
    json_schema!({
        "description": about,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "allOf": params.collect::<Vec<_>>(),
    })
}

/// Reads a type, in any case, and its params as an enum that is tagged with lower-case names; nothing
/// without a type.
pub(crate) fn read<T: DeserializeOwned>(
    name: Option<&str>,
    params: Option<Value>,
) -> serde_json::Result<Option<T>> {
    let Some(name) = name else { return Ok(None) };
    let params = params.unwrap_or_else(|| json!({}));
    serde_json::from_value(json!({ "type": name.to_lowercase(), "params": params }))
}

/// A regular expression for any of `names`, which are letters, in any case: JSON Schema has no flag for
/// that.
fn any_case(names: &[&str]) -> String {
    let both = |c: char| format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase());
    let each: Vec<_> = names.iter().map(|n| n.chars().map(both).collect::<String>()).collect();
    format!("^({})$", each.join("|"))
}
