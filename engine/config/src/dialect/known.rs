//! Keys that no plugin owns and that have an answer all the same, such as another program's for memory that
//! is not partitioned here.
//!
//! A program gives its [`Catalog`](crate::Catalog) tables of them. From a table come the part of the
//! schema that accepts or refuses the keys, and the [`Note`]s on those that are accepted and do nothing.
use crate::dialect::convert::{FALSE, TRUE, truth_value};
use crate::{Config, Note, Path};
use serde_json::{Map, Value, json};

/// Keys of one section with one answer.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The section that holds them, dotted; empty for the top level.
    pub section: &'static str,
    /// Their names.
    pub keys: &'static [&'static str],
    /// What each may hold.
    pub holds: Holds,
    /// What they get.
    pub answer: Answer,
}

/// What a key may hold, and which of it asks for nothing. `null` and `"auto"` may always be there and
/// never ask for anything.
#[derive(Debug, Clone, Copy)]
pub enum Holds {
    /// true or false; false asks for nothing.
    Flag,
    /// true or false; true asks for nothing.
    FlagOn,
    /// A whole number from 0 on; what is not above `off` asks for nothing.
    Count {
        /// The largest number that asks for nothing; -1 if each asks for something.
        off: i64,
        /// The largest number there may be; `u64::MAX`: any.
        max: u64,
    },
    /// A number.
    Number,
    /// One of these words, in any case of letters; the first asks for nothing.
    Word(&'static [&'static str]),
    /// Any text; an empty one asks for nothing.
    Text,
    /// A list; an empty one asks for nothing.
    List,
    /// An object with these keys and what they hold, any if none are given; an empty one asks for nothing, nor does
    /// one whose `enabled` is false.
    Section(&'static [(&'static str, Holds)]),
    /// An object with these keys and what they hold, any if none are given; it asks for nothing unless
    /// `enabled` is true.
    Switched(&'static [(&'static str, Holds)]),
    /// As an old form of a section whose keys have rows of their own: true or false in its place.
    OldSection,
    /// Anything.
    Anything,
}

/// What a key gets.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It changes memory or speed, not the result, or is another name: it is accepted with a note.
    Noted {
        /// What it would have done: follows "would have".
        would: &'static str,
        /// What happens instead, as a clause.
        instead: &'static str,
    },
    /// It is accepted, with a note in words of its own, such as that it is an old name.
    Says {
        /// Follows the key and its value in a sentence.
        says: &'static str,
    },
    /// It changes what is learned: an error where it asks for something, and else a note.
    Refused {
        /// Follows the key and its value in a sentence.
        why: &'static str,
    },
}

impl Holds {
    /// Whether `value` asks for something.
    pub fn asks(&self, value: &Value) -> bool {
        if value.is_null() || value == "auto" {
            return false;
        }
        match self {
            Holds::Flag => value == true,
            Holds::FlagOn => value == false,
            Holds::Count { off, .. } => value.as_f64().is_none_or(|x| x > *off as f64),
            Holds::Number | Holds::Anything => true,
            Holds::OldSection => value != false,
            Holds::Word(words) => value.as_str().is_none_or(|w| !w.eq_ignore_ascii_case(words[0])),
            Holds::Text => value != "",
            Holds::List => value.as_array().is_none_or(|items| !items.is_empty()),
            Holds::Section(_) => value.as_object().is_none_or(|keys| {
                !keys.is_empty() && keys.get("enabled").and_then(truth_value) != Some(false)
            }),
            Holds::Switched(_) => value.get("enabled").and_then(truth_value) == Some(true),
        }
    }

    /// What to say of a value that asks for nothing before the reason why no other may be there.
    fn else_it(&self) -> &'static str {
        match self {
            Holds::FlagOn => "as it has to be: false",
            Holds::Word(_) => "as it has to be: anything else",
            Holds::Count { .. } => "as it has to be: more",
            _ => "off, as it has to be: on, it",
        }
    }

    /// The schema of all values there may be.
    fn schema(&self) -> Map<String, Value> {
        let either = |kind: &str, more: Value| {
            let mut of_kind = json!({ "type": kind });
            of_kind.as_object_mut().expect("an object").extend(object(more));
            object(json!({ "anyOf": [of_kind, { "enum": ["auto", null] }] }))
        };
        let section = |keys: &[(&str, Holds)]| match keys {
            [] => json!({}),
            keys => {
                let keys = keys.iter().map(|(key, holds)| ((*key).into(), holds.schema().into()));
                let keys: Map<String, Value> = keys.collect();
                json!({ "properties": keys, "additionalProperties": false })
            }
        };
        match self {
            Holds::Flag | Holds::FlagOn => either("boolean", json!({})),
            Holds::Count { max: u64::MAX, .. } => either("integer", json!({ "minimum": 0 })),
            Holds::Count { max, .. } => either("integer", json!({ "minimum": 0, "maximum": max })),
            Holds::Number => either("number", json!({})),
            Holds::Text => object(json!({ "type": ["string", "null"] })),
            Holds::List => either("array", json!({})),
            Holds::Word(words) => object(json!({
                "if": { "not": { "type": ["string", "null"], "pattern": any_case(&[words, &["auto"][..]].concat()) } },
                "then": { "enum": words },
            })),
            Holds::Section(keys) | Holds::Switched(keys) => either("object", section(keys)),
            Holds::OldSection => object(json!({ "type": "boolean" })),
            Holds::Anything => Map::new(),
        }
    }

    /// The schema of the values that ask for something.
    fn asking(&self) -> Value {
        match self {
            Holds::Flag => json!({ "const": true }),
            Holds::FlagOn => json!({ "const": false }),
            Holds::Count { off, .. } => json!({ "type": "number", "exclusiveMinimum": off }),
            Holds::Word(words) => json!({
                "type": "string",
                "not": { "pattern": any_case(&[words[0], "auto"]) },
            }),
            Holds::Text => json!({ "type": "string", "not": { "enum": ["", "auto"] } }),
            Holds::Switched(_) => json!({
                "type": "object",
                "properties": { "enabled": truth() },
                "required": ["enabled"],
            }),
            Holds::Section(_) => json!({
                "not": { "anyOf": [
                    { "enum": [null, "auto", {}] },
                    { "type": "object", "properties": { "enabled": falsehood() }, "required": ["enabled"] },
                ] },
            }),
            Holds::Number | Holds::List | Holds::OldSection | Holds::Anything => {
                json!({ "not": { "enum": [null, "auto", {}, []] } })
            }
        }
    }
}

impl Known {
    /// The dotted paths of the keys.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let dot = if self.section.is_empty() { "" } else { "." };
        self.keys.iter().map(move |key| format!("{}{dot}{key}", self.section))
    }

    /// The schema of one of the keys.
    fn schema(&self) -> Value {
        let mut schema = self.holds.schema();
        let about = match self.answer {
            Answer::Noted { would, instead } => {
                format!("Noted, changes nothing: would have {would}; {instead}.")
            }
            Answer::Says { says } => format!("Noted: {says}."),
            Answer::Refused { why } => {
                // A word has an `if` of its own.
                let refuse = json!({
                    "if": self.holds.asking(),
                    "then": { "not": {}, "errorMessage": self.refusal(why) },
                });
                schema.insert("allOf".to_owned(), json!([refuse]));
                format!("Refused where it is switched on: it {why}.")
            }
        };
        schema.insert("description".to_owned(), about.into());
        schema.into()
    }

    /// Why a value that asks for something is refused, and what to do about it.
    fn refusal(&self, why: &str) -> String {
        let what = match self.holds {
            Holds::Section(_) | Holds::Switched(_) => "section",
            _ => "key",
        };
        let (why, more) = why.split_at(why.find(';').unwrap_or(why.len()));
        format!("{why}: delete this {what}{more}")
    }

    /// Those of the keys that `config` has and that ask for nothing there, where that needs no note.
    pub(crate) fn idle<'c>(&'c self, config: &'c Config) -> impl Iterator<Item = Path> + 'c {
        let paths = self.paths().map(|path| Path::parse(&path).expect("a table has plain paths"));
        paths.filter(|path| {
            let value = path.find(config.value()).filter(|v| !v.is_null() && *v != "auto");
            let noted = !matches!(self.answer, Answer::Refused { .. });
            value.is_some_and(|value| noted && !self.holds.asks(value))
        })
    }

    /// Notes on those of the keys that `config` has.
    pub(crate) fn notes(&self, config: &Config, notes: &mut Vec<Note>) {
        let paths = self.paths().map(|path| Path::parse(&path).expect("a table has plain paths"));
        for path in paths {
            let Some(value) = path.find(config.value()) else { continue };
            if matches!((&self.holds, value), (Holds::OldSection, Value::Object(_))) {
                continue;
            }
            let asks = self.holds.asks(value);
            let message = match self.answer {
                Answer::Noted { would, instead } if asks => {
                    format!("would have {would}; {instead}")
                }
                Answer::Says { says } if asks => says.to_owned(),
                _ if value.is_null() || value == "auto" => {
                    "is read as if it were left out".to_owned()
                }
                Answer::Noted { .. } | Answer::Says { .. } => continue,
                // An error tells.
                Answer::Refused { .. } if asks => continue,
                Answer::Refused { why } => format!("{} {why}", self.holds.else_it()),
            };
            notes.push(config.note(&path, &message));
        }
    }
}

/// Adds the table's keys to the schema `root`. What a plugin has there stays as it is.
pub(crate) fn extend(root: &mut Value, table: &[Known]) {
    for known in table {
        let schema = known.schema();
        let mut place = String::new();
        for section in known.section.split('.').filter(|section| !section.is_empty()) {
            let keys = properties(object_at(root, &place));
            let inside = keys.entry(section);
            inside.or_insert_with(|| json!({ "type": ["object", "null"] }));
            place += &format!("/properties/{section}");
            // A plugin's own section is as a rule a reference.
            let target = root.pointer(&place).and_then(|schema| schema.get("$ref")?.as_str());
            place = target.map_or(place, |target| target.trim_start_matches('#').to_owned());
        }
        let holder = object_at(root, &place);
        holder.entry("additionalProperties").or_insert(false.into());
        let keys = properties(holder);
        for key in known.keys {
            if let Holds::OldSection = known.holds {
                let section = keys.entry(*key).or_insert_with(|| json!({}));
                section["type"] = json!(["object", "boolean", "null"]);
            } else if !keys.contains_key(*key) {
                keys.insert((*key).to_owned(), schema.clone());
            }
        }
    }
}

/// Pointers to the schemas of the objects at `section`, dotted, behind references and among alternatives.
pub(crate) fn holders(root: &Value, section: &str) -> Vec<String> {
    fn open(root: &Value, place: &str, found: &mut Vec<String>) {
        let Some(schema) = root.pointer(place) else { return };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return open(root, target.trim_start_matches('#'), found);
        }
        if schema.get("properties").is_some() {
            found.push(place.to_owned());
        }
        let several = schema.get("anyOf").and_then(Value::as_array).map_or(0, Vec::len);
        (0..several).for_each(|index| open(root, &format!("{place}/anyOf/{index}"), found));
    }
    let mut places = Vec::new();
    open(root, "", &mut places);
    for key in section.split('.').filter(|key| !key.is_empty()) {
        let outer = std::mem::take(&mut places);
        outer
            .iter()
            .for_each(|place| open(root, &format!("{place}/properties/{key}"), &mut places));
    }
    places
}

/// The schema of true, and of what a dialect takes for it.
pub fn truth() -> Value {
    boolean(true, &TRUE)
}

/// The schema of false, and of what a dialect takes for it.
fn falsehood() -> Value {
    boolean(false, &FALSE)
}

fn boolean(meant: bool, words: &[&str]) -> Value {
    let words = json!({ "type": "string", "pattern": any_case(words) });
    json!({ "anyOf": [{ "enum": [meant, u8::from(meant)] }, words] })
}

fn object_at<'v>(root: &'v mut Value, place: &str) -> &'v mut Map<String, Value> {
    let found = root.pointer_mut(place).and_then(Value::as_object_mut);
    found.expect("schemas are objects, and references point at some")
}

fn properties(schema: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let keys = schema.entry("properties").or_insert_with(|| json!({}));
    keys.as_object_mut().expect("properties are an object")
}

/// A regular expression for any of `names`, which are letters and digits, in any case: JSON Schema has no
/// flag for that.
pub(crate) fn any_case(names: &[&str]) -> String {
    let both = |c: char| format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase());
    let each: Vec<_> = names.iter().map(|n| n.chars().map(both).collect::<String>()).collect();
    format!("^({})$", each.join("|"))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => unreachable!("{other} is written as an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the schema refuses is what the code says asks for something.
    #[test]
    fn schema_and_code_agree_on_what_asks() {
        let values = [
            json!(null),
            json!("auto"),
            json!(true),
            json!(false),
            json!(0),
            json!(1),
            json!(2.0),
            json!(""),
            json!("none"),
            json!("NONE"),
            json!("cpu"),
            json!({}),
            json!({ "a": 1 }),
            json!({ "enabled": true }),
            json!({ "enabled": false }),
            json!({ "enabled": false, "a": 1 }),
            json!({ "enabled": 1 }),
            json!({ "enabled": "Yes" }),
            json!({ "enabled": 0, "a": 1 }),
            json!({ "enabled": "off" }),
            json!([]),
            json!([1]),
        ];
        for holds in [
            Holds::Flag,
            Holds::FlagOn,
            Holds::Count { off: 1, max: 9 },
            Holds::Number,
            Holds::Word(&["none", "cpu"]),
            Holds::Text,
            Holds::List,
            Holds::Section(&[]),
            Holds::Switched(&[]),
        ] {
            let (all, asking) = (Value::Object(holds.schema()), holds.asking());
            let fits = |schema: &Value, value| jsonschema::is_valid(schema, value);
            for value in values.iter().filter(|value| fits(&all, value)) {
                assert_eq!(fits(&asking, value), holds.asks(value), "{value} in {holds:?}");
            }
        }
    }
}
