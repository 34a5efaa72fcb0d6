//! The JSON Schema of all sections together.
use super::entry::Entry;
use crate::dialect::{Dialect, comment};
use crate::settings::Settings;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The schema (draft 2020-12) of the engine's own keys, the sections and the dialects.
pub(super) fn of(entries: &[Arc<Entry>], dialects: &[Dialect]) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut properties = Map::new();
    properties.insert(
        "$schema".to_owned(),
        json!({"type": "string", "description": "Where the schema is, for editors; not read."}),
    );
    properties.extend(fields(&Settings::json_schema(&mut generator)));
    for entry in entries {
        let schema = (entry.schema)(&mut generator);
        match entry.keys[..] {
            [key] => drop(properties.insert(key.to_owned(), schema.to_value())),
            // A reference to a struct: its fields are top-level keys.
            _ => properties.extend(fields(&resolve(&schema, &generator))),
        }
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Trainyard configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    });
    dialects.iter().for_each(|dialect| dialect.extend(&mut schema));
    comment::allow(&mut schema);
    schema
}

/// The `properties` of an object's schema.
fn fields(schema: &Schema) -> Map<String, Value> {
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn resolve(schema: &Schema, generator: &SchemaGenerator) -> Schema {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    let found = name.and_then(|name| generator.definitions().get(name));
    found.and_then(|value| value.clone().try_into().ok()).unwrap_or_else(|| schema.clone())
}
