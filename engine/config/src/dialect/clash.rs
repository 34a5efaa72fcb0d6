//! Keys of one section that do not go together, such as an old name beside the new one.
use crate::dialect::known::{holders, truth};
use serde_json::{Value, json};

/// Two keys of one section that may not both be there.
#[derive(Debug, Clone, Copy)]
pub struct Clash {
    /// The section that holds them, dotted; empty for the top level.
    pub section: &'static str,
    /// The key that is complained about, and the other.
    pub keys: [&'static str; 2],
    /// They clash only where both are sections whose `enabled` is true.
    pub enabled: bool,
    /// A key that takes the place of the first, so that they do not clash where it is there; empty for none.
    pub unless: &'static str,
    /// Follows the first key and its value in a sentence.
    pub why: &'static str,
}

/// Makes the schema `root` say so.
pub(crate) fn forbid(root: &mut Value, table: &[Clash]) {
    for Clash { section, keys: [key, other], enabled, unless, why } in table {
        let on = match enabled {
            true => {
                json!({ "type": "object", "properties": { "enabled": truth() }, "required": ["enabled"] })
            }
            false => json!({}),
        };
        let there = json!({ "properties": { *unless: { "not": { "type": "null" } } }, "required": [unless] });
        // No value is in an empty list.
        let rule = json!({
            "if": { "properties": { *key: on, *other: on }, "required": [key, other], "not": there },
            "then": { "properties": { *key: { "enum": [], "errorMessage": why } } },
        });
        for place in holders(root, section) {
            let schema = root.pointer_mut(&place).and_then(Value::as_object_mut);
            let all = schema.expect("just found").entry("allOf").or_insert_with(|| json!([]));
            all.as_array_mut().expect("allOf is a list").push(rule.clone());
        }
    }
}
