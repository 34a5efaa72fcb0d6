//! What a JSON Schema expects, in words.

use serde_json::{Map, Value};

use crate::text::show::{joined, kind_of, limit, quoted};

/// Deepest nesting of alternatives and most `$ref` steps that are followed; a schema may refer to
/// itself.
const MAX_STEPS: usize = 16;

/// What a value must be to satisfy `schema`, in words: `a number in (0, 1]`, `"auto"`,
/// `a whole number >= 1 or "auto"`, `one of "a", "b", "c"`.
///
/// `root` is the document that `$ref`s (`#/$defs/...`) point into. That null is allowed beside
/// something else is not said: it is what an optional key looks like.
pub fn expectation(root: &Value, schema: &Value) -> String {
    phrase(&choices(root, schema))
}

/// One way to satisfy a schema.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// This very value.
    Literal(Value),
    /// Any value of one kind.
    Kind(Kind),
}

/// All values of one JSON type within limits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    /// The type's name in JSON Schema.
    pub json_type: String,
    /// "a number", "a list of 2 values".
    pub noun: String,
    /// "in (0, 1]", "> 0", or nothing.
    pub range: String,
}

impl Kind {
    pub fn phrase(&self) -> String {
        format!("{} {}", self.noun, self.range).trim_end().to_owned()
    }
}

impl Choice {
    /// Whether `value` is at least of the right type.
    pub fn is_like(&self, value: &Value) -> bool {
        match self {
            Choice::Literal(literal) => kind_of(literal) == kind_of(value),
            Choice::Kind(kind) => match kind.json_type.as_str() {
                "number" | "integer" => value.is_number(),
                "string" => value.is_string(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                _ => false,
            },
        }
    }

    /// The string that this choice is, if it is one.
    pub fn word(&self) -> Option<&str> {
        match self {
            Choice::Literal(literal) => literal.as_str(),
            Choice::Kind(_) => None,
        }
    }

    pub fn phrase(&self) -> String {
        match self {
            Choice::Literal(Value::String(text)) => quoted(text),
            Choice::Literal(value) => value.to_string(),
            Choice::Kind(kind) => kind.phrase(),
        }
    }
}

/// All choices in one phrase.
pub(crate) fn phrase(choices: &[Choice]) -> String {
    let phrases: Vec<_> = choices.iter().map(Choice::phrase).collect();
    if phrases.len() > 2 && choices.iter().all(|choice| matches!(choice, Choice::Literal(_))) {
        format!("one of {}", phrases.join(", "))
    } else {
        joined(&phrases, "or")
    }
}

/// The ways to satisfy `schema`, in its order, null left out where there are others.
pub(crate) fn choices(root: &Value, schema: &Value) -> Vec<Choice> {
    let mut found = Vec::new();
    collect(root, schema, MAX_STEPS, &mut found);
    let null = Choice::Literal(Value::Null);
    if found.iter().any(|choice| *choice != null) {
        found.retain(|choice| *choice != null);
    }
    found
}

fn collect(root: &Value, schema: &Value, steps: usize, found: &mut Vec<Choice>) {
    let mut add = |choice| {
        if !found.contains(&choice) {
            found.push(choice);
        }
    };
    let parts = parts(root, schema);
    if let Some(value) = keyword(&parts, "const") {
        return add(Choice::Literal(value.clone()));
    }
    if let Some(Value::Array(values)) = keyword(&parts, "enum") {
        return values.iter().cloned().for_each(|value| add(Choice::Literal(value)));
    }
    if let Some(Value::Array(branches)) = keyword(&parts, "anyOf").or(keyword(&parts, "oneOf")) {
        if steps > 0 {
            // What is still read and nobody should write.
            let wanted = branches.iter().filter(|branch| branch.get("deprecated").is_none());
            wanted.for_each(|branch| collect(root, branch, steps - 1, found));
        }
        return;
    }
    let types = match keyword(&parts, "type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one.as_str()],
        _ => guessed_type(&parts).into_iter().collect(),
    };
    for json_type in types {
        match json_type {
            "null" => add(Choice::Literal(Value::Null)),
            "boolean" => {
                add(Choice::Literal(true.into()));
                add(Choice::Literal(false.into()));
            }
            _ => add(Choice::Kind(kind(root, &parts, json_type, steps))),
        }
    }
}

/// The type that the keywords of a schema without `type` are about.
fn guessed_type(parts: &[&Map<String, Value>]) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().any(|name| keyword(parts, name).is_some());
    [
        (
            "number",
            ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"].as_slice(),
        ),
        ("string", &["minLength", "maxLength", "pattern"]),
        ("array", &["minItems", "maxItems", "items", "prefixItems"]),
        ("object", &["properties", "required", "additionalProperties"]),
    ]
    .into_iter()
    .find_map(|(json_type, names)| has(names).then_some(json_type))
}

fn kind(root: &Value, parts: &[&Map<String, Value>], json_type: &str, steps: usize) -> Kind {
    let mut range = String::new();
    let noun = match json_type {
        "number" | "integer" => {
            range = number_range(parts);
            let noun = if json_type == "integer" { "a whole number" } else { "a number" };
            match keyword(parts, "multipleOf") {
                Some(Value::Number(step)) => {
                    format!("{noun} that is a multiple of {}", limit(step))
                }
                _ => noun.into(),
            }
        }
        "string" => string_noun(parts),
        "array" => {
            let each = match keyword(parts, "items") {
                Some(items @ Value::Object(_)) if steps > 0 => {
                    let mut inner = Vec::new();
                    collect(root, items, steps / 2, &mut inner);
                    phrase(&inner)
                }
                _ => String::new(),
            };
            let each = if each.is_empty() { each } else { format!(" (each {each})") };
            format!("a list{}{each}", counted(parts, "Items", "value"))
        }
        "object" => "an object".into(),
        other => other.into(),
    };
    Kind { json_type: json_type.into(), noun, range }
}

/// `in (0, 1]`, `> 0`, or nothing: the limits on a number.
fn number_range(parts: &[&Map<String, Value>]) -> String {
    let bound = |inclusive: &str, exclusive: &str, tighter: fn(f64, f64) -> bool| {
        let number = |name| keyword(parts, name).and_then(Value::as_number);
        match (number(inclusive), number(exclusive)) {
            (Some(closed), Some(open)) => match (closed.as_f64(), open.as_f64()) {
                (Some(c), Some(o)) if tighter(c, o) => Some((closed, true)),
                _ => Some((open, false)),
            },
            (Some(closed), None) => Some((closed, true)),
            (None, open) => open.map(|open| (open, false)),
        }
    };
    let low = bound("minimum", "exclusiveMinimum", |closed, open| closed > open);
    let high = bound("maximum", "exclusiveMaximum", |closed, open| closed < open);
    match (low, high) {
        (Some((low, closed_low)), Some((high, closed_high))) => {
            let open = if closed_low { '[' } else { '(' };
            let close = if closed_high { ']' } else { ')' };
            format!("in {open}{}, {}{close}", limit(low), limit(high))
        }
        (Some((low, closed)), None) => format!(">{} {}", if closed { "=" } else { "" }, limit(low)),
        (None, Some((high, closed))) => {
            format!("<{} {}", if closed { "=" } else { "" }, limit(high))
        }
        (None, None) => String::new(),
    }
}

fn string_noun(parts: &[&Map<String, Value>]) -> String {
    let count = counted(parts, "Length", "character");
    match keyword(parts, "pattern").and_then(Value::as_str) {
        Some(pattern) => format!("a string{count} matching {pattern}"),
        None if count == " of at least 1 character" => "a non-empty string".into(),
        None => format!("a string{count}"),
    }
}

/// ` of 2 values`, ` of at least 1 character`, or nothing.
fn counted(parts: &[&Map<String, Value>], what: &str, unit: &str) -> String {
    let count = |side: &str| keyword(parts, &format!("{side}{what}")).and_then(Value::as_u64);
    let units = |n: u64| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match (count("min"), count("max")) {
        (Some(min), Some(max)) if min == max => format!(" of {}", units(min)),
        (Some(min), Some(max)) => format!(" of {min} to {}", units(max)),
        (Some(min), None) => format!(" of at least {}", units(min)),
        (None, Some(max)) => format!(" of at most {}", units(max)),
        (None, None) => String::new(),
    }
}

/// The objects whose keywords make up `schema`: itself, what its `$ref` points at, its `allOf`.
pub(crate) fn parts<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Map<String, Value>> {
    let mut found = Vec::new();
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        let Value::Object(map) = schema else { continue };
        found.push(map);
        if found.len() == MAX_STEPS {
            break;
        }
        if let Some(Value::Array(all)) = map.get("allOf") {
            open.extend(all.iter().rev());
        }
        let target =
            map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
        open.extend(target.and_then(|pointer| root.pointer(pointer)));
    }
    found
}

/// The value of a keyword, the outermost where several parts have it.
pub(crate) fn keyword<'s>(parts: &[&'s Map<String, Value>], name: &str) -> Option<&'s Value> {
    parts.iter().find_map(|part| part.get(name))
}

/// The keys that an object described by `schema` may have.
pub(crate) fn known_keys<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s str> {
    let mut keys = Vec::new();
    let mut open = vec![(schema, MAX_STEPS)];
    while let Some((schema, steps)) = open.pop() {
        for part in parts(root, schema) {
            if let Some(Value::Object(properties)) = part.get("properties") {
                keys.extend(properties.keys().map(String::as_str));
            }
            let branches =
                ["anyOf", "oneOf"].into_iter().filter_map(|name| part.get(name)?.as_array());
            if steps > 0 {
                open.extend(branches.flatten().map(|branch| (branch, steps - 1)));
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_in_words() {
        let root = json!({ "$defs": {
            "Ratio": { "type": "number", "exclusiveMinimum": 0, "maximum": 1.0 },
            "Word": { "oneOf": [{ "description": "Filled.", "type": "string", "const": "auto" }] },
            "Loop": { "anyOf": [{ "$ref": "#/$defs/Loop" }, { "$ref": "#/$defs/Loop" }] },
            "Self": { "$ref": "#/$defs/Self" }
        }});
        for (schema, words) in [
            (json!({ "type": "number" }), "a number"),
            (json!({ "type": "integer", "minimum": 1 }), "a whole number >= 1"),
            (json!({ "type": "number", "exclusiveMaximum": 0.5 }), "a number < 0.5"),
            (
                json!({ "type": "integer", "minimum": 0, "maximum": 255 }),
                "a whole number in [0, 255]",
            ),
            (
                json!({ "type": "integer", "minimum": 0, "exclusiveMinimum": 0 }),
                "a whole number > 0",
            ),
            (json!({ "minimum": 2, "exclusiveMinimum": 0 }), "a number >= 2"),
            (json!({ "$ref": "#/$defs/Ratio", "description": "Theta." }), "a number in (0, 1]"),
            (
                json!({ "allOf": [{ "$ref": "#/$defs/Ratio" }], "minimum": 0.5 }),
                "a number in [0.5, 1]",
            ),
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/Ratio" }, { "$ref": "#/$defs/Word" }] }),
                "a number in (0, 1] or \"auto\"",
            ),
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/Ratio" }, { "type": "null" }] }),
                "a number in (0, 1]",
            ),
            (
                json!({ "type": ["integer", "null"], "multipleOf": 8 }),
                "a whole number that is a multiple of 8",
            ),
            (json!({ "enum": ["a", "b"] }), "\"a\" or \"b\""),
            (
                json!({ "oneOf": [{ "const": "a" }, { "enum": ["b", 3] }] }),
                "one of \"a\", \"b\", 3",
            ),
            (json!({ "type": "boolean" }), "true or false"),
            (json!({ "type": ["boolean", "object"] }), "true, false or an object"),
            (json!({ "type": "null" }), "null"),
            (json!({ "type": "string", "minLength": 1 }), "a non-empty string"),
            (json!({ "type": "string", "pattern": "^a" }), "a string matching ^a"),
            (
                json!({ "type": "array", "items": { "$ref": "#/$defs/Ratio" }, "minItems": 2, "maxItems": 2 }),
                "a list of 2 values (each a number in (0, 1])",
            ),
            (json!({ "type": "array", "minItems": 1 }), "a list of at least 1 value"),
            (json!(true), ""),
            (json!({ "$ref": "#/$defs/Loop" }), ""),
            (json!({ "$ref": "#/$defs/Self" }), ""),
            (json!({ "$ref": "elsewhere" }), ""),
        ] {
            assert_eq!(expectation(&root, &schema), words, "{schema}");
        }
    }
}
