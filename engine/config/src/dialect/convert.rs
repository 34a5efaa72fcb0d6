//! Type coercion, which a dialect asks for in some of its sections: `"true"` or 1 is read as true,
//! `"128"` as 128.
use crate::dialect::Dialect;
use crate::dialect::known::{any_case, holders};
use crate::{Config, Note, Path};
use serde_json::{Map, Value, json};

/// Words that are taken for true, in any case of letters.
pub(crate) const TRUE: [&str; 6] = ["true", "yes", "on", "y", "t", "1"];
/// And for false.
pub(crate) const FALSE: [&str; 6] = ["false", "no", "off", "n", "f", "0"];

/// Lets the schema `root` take such values for the keys of `sections`, dotted. They are marked as
/// deprecated, so that editors do not offer them and errors do not ask for them.
pub(crate) fn allow(root: &mut Value, sections: &[&str]) {
    for section in sections {
        for holder in holders(root, section) {
            let properties = root.pointer_mut(&format!("{holder}/properties"));
            let properties = properties.and_then(Value::as_object_mut).expect("just found");
            for schema in properties.values_mut() {
                let forms = forms(schema);
                let Some(mut inner) = schema.as_object().cloned() else { continue };
                // A key that is refused says so itself.
                if forms.is_empty() || inner.contains_key("allOf") {
                    continue;
                }
                let lifted = ["description", "default"].map(|word| (word, inner.remove(word)));
                let mut all = vec![Value::Object(inner)];
                all.extend(forms);
                let mut outer = json!({ "anyOf": all });
                for (word, value) in lifted {
                    if let Some(value) = value {
                        outer[word] = value;
                    }
                }
                *schema = outer;
            }
        }
    }
}

/// Replaces such values, with a note for each. `root` is the schema.
pub(crate) fn convert(root: &Value, dialect: &Dialect, config: &mut Config, notes: &mut Vec<Note>) {
    for section in dialect.coerced {
        let outer = Path::parse(section).expect("a table has plain paths");
        let Some(Value::Object(keys)) = outer.find(config.value()).cloned() else { continue };
        for (key, value) in keys {
            if !value.is_string() && !value.is_number() {
                continue;
            }
            let schemas = holders(root, section)
                .into_iter()
                .filter_map(|holder| root.pointer(&format!("{holder}/properties"))?.get(&key));
            let Some(meant) = schemas.into_iter().find_map(|schema| meant(schema, &value)) else {
                continue;
            };
            let path = outer.key(&key);
            notes
                .push(config.note(&path, &format!("is read as {meant}, as {} does", dialect.name)));
            config.fill(&path, Some(meant));
        }
    }
}

/// What `value` is coerced to, where the schema wants another type.
fn meant(schema: &Value, value: &Value) -> Option<Value> {
    let mut kinds = Vec::new();
    collect(schema, &mut kinds);
    let wants = |name: &str| kinds.iter().any(|kind| kind.name == name);
    let number = wants("integer") || wants("number");
    match value {
        Value::Number(_) if wants("boolean") && !number => truth_value(value).map(Value::from),
        Value::String(_) if wants("boolean") => truth_value(value).map(Value::from),
        Value::String(text) if number => match text.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            Err(_) if wants("number") => text.parse::<f64>().ok().map(Value::from),
            Err(_) => None,
        },
        _ => None,
    }
    .filter(|value| !value.is_null())
}

/// What `value` is coerced to, where true or false is wanted.
pub(crate) fn truth_value(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(meant) => Some(*meant),
        Value::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        Value::String(text) => {
            let word = text.to_lowercase();
            let is = |words: [&str; 6]| words.contains(&word.as_str());
            is(TRUE).then_some(true).or(is(FALSE).then_some(false))
        }
        _ => None,
    }
}

/// One of the types that a schema takes, with its limits.
struct Kind {
    name: String,
    min: Option<f64>,
    max: Option<f64>,
}

fn collect(schema: &Value, kinds: &mut Vec<Kind>) {
    let limit = |word: &str| schema.get(word).and_then(Value::as_f64);
    let mut add = |name: &Value| {
        let name = name.as_str().unwrap_or_default().to_owned();
        kinds.push(Kind { name, min: limit("minimum"), max: limit("maximum") });
    };
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().for_each(&mut add),
        Some(name) => add(name),
        None => {}
    }
    let several = schema.get("anyOf").and_then(Value::as_array);
    for inner in several.into_iter().flatten().filter(|inner| inner.get("deprecated").is_none()) {
        collect(inner, kinds);
    }
}

/// Schemas of the forms beside those that `schema` takes.
fn forms(schema: &Value) -> Vec<Value> {
    let mut kinds = Vec::new();
    collect(schema, &mut kinds);
    // Where a text has a meaning of its own, it is none of these.
    if kinds.iter().any(|kind| kind.name == "string") {
        return Vec::new();
    }
    let mut forms = Vec::new();
    for kind in kinds {
        let form = match kind.name.as_str() {
            "boolean" => {
                let words = any_case(&[TRUE, FALSE].concat());
                forms.push(json!({ "deprecated": true, "enum": [0, 1] }));
                json!({ "type": "string", "pattern": words })
            }
            "integer" => json!({ "type": "string", "pattern": digits(&kind) }),
            "number" => {
                json!({ "type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,15})?$" })
            }
            _ => continue,
        };
        let mut form: Map<_, _> = form.as_object().expect("an object").clone();
        form.insert("deprecated".to_owned(), true.into());
        forms.push(form.into());
    }
    forms
}

/// A regular expression for the whole numbers of `kind`.
fn digits(kind: &Kind) -> String {
    let (min, max) = (kind.min.unwrap_or(0.0), kind.max.unwrap_or(1e15));
    let sign = if min < 0.0 { "-?" } else { "" };
    if max <= 9.0 {
        return format!("^[{:.0}-{max:.0}]$", min.max(0.0));
    }
    let length = ((max + 1.0).log10().floor() as usize).min(15);
    match min > 0.0 {
        true => format!("^[1-9][0-9]{{0,{}}}$", length - 1),
        false => format!("^{sign}[0-9]{{1,{length}}}$"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_fits_the_schema_and_what_is_not_does_not() {
        let mut root = json!({ "properties": { "a": { "properties": {
            "flag": { "type": "boolean", "description": "On." },
            "stage": { "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 3 }, { "enum": ["auto", null] },
            ] },
            "size": { "type": "integer", "minimum": 1, "maximum": u64::MAX },
            "power": { "type": "integer", "minimum": -99, "maximum": 99 },
            "ratio": { "type": "number" },
            "name": { "type": ["string", "null"] },
        } } } });
        let plain = root.clone();
        allow(&mut root, &["a", "not.there"]);
        assert_eq!(root.pointer("/properties/a/properties/flag/description"), Some(&json!("On.")));
        for (key, value, read) in [
            ("flag", json!("Yes"), Some(json!(true))),
            ("flag", json!("0"), Some(json!(false))),
            ("flag", json!(1), Some(json!(true))),
            ("flag", json!(2), None),
            ("flag", json!("maybe"), None),
            ("stage", json!("2"), Some(json!(2))),
            ("stage", json!("4"), None),
            ("stage", json!("auto"), None),
            ("size", json!("500000000"), Some(json!(500_000_000))),
            ("size", json!("5e8"), None),
            ("size", json!("0"), None),
            ("power", json!("-3"), Some(json!(-3))),
            ("power", json!("100"), None),
            ("ratio", json!("0.5"), Some(json!(0.5))),
            ("name", json!("on"), None),
        ] {
            let schema = root.pointer(&format!("/properties/a/properties/{key}")).unwrap();
            let before = plain.pointer(&format!("/properties/a/properties/{key}")).unwrap();
            let (fits, fitted) =
                (jsonschema::is_valid(schema, &value), jsonschema::is_valid(before, &value));
            assert_eq!(fits, fitted || read.is_some(), "{key} {value}");
            if fits {
                assert_eq!(meant(schema, &value), read, "{key} {value}");
            }
        }
    }
}
