//! Texts to problems, end to end.

mod checking;
mod layering;
mod reading;
mod robustness;

use serde_json::{Value, json};

use super::*;

fn parsed(text: &str) -> std::result::Result<Document, ConfigError> {
    Document::parse(Source::text("run.json", text))
}

fn merged(text: &str) -> Config {
    Layers::new(parsed(text).expect("JSON")).merge()
}

/// What is wrong with a text, without a schema.
fn reading_problems(text: &str) -> Vec<String> {
    let problems = match parsed(text) {
        Ok(document) => document.problems().to_vec(),
        Err(error) => error.into_problems(),
    };
    problems.iter().map(ToString::to_string).collect()
}

/// The shapes that schemars gives to configuration structs: references into `$defs`, documented
/// enums as `oneOf` of `const`, optional values as `anyOf` with null, tagged enums.
fn schema() -> Value {
    let adam = |name| {
        json!({
            "type": "object",
            "properties": {
                "type": { "type": "string", "const": name },
                "params": { "$ref": "#/$defs/Params" }
            },
            "required": ["type", "params"]
        })
    };
    let schedules = ["exponential", "constant", "linear", "decreasing"]
        .map(|name| json!({ "description": "d", "type": "string", "const": name }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "progressive_layer_drop": {
                "anyOf": [{ "$ref": "#/$defs/LayerDrop" }, { "type": "null" }]
            },
            "optimizer": { "oneOf": [adam("Adam"), adam("AdamW"), adam("Lamb")] },
            "fp16": { "anyOf": [{ "type": "boolean" }, { "$ref": "#/$defs/Fp16" }] },
            "train_batch_size": { "type": "integer", "format": "uint64", "minimum": 1 }
        },
        "additionalProperties": false,
        "$defs": {
            "LayerDrop": {
                "type": "object",
                "properties": {
                    "enabled": { "type": "boolean", "default": false },
                    "theta": {
                        "description": "Keep probability.",
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": 1.0
                    },
                    "gamma": { "$ref": "#/$defs/Gamma" },
                    "schedule": { "description": "Shape.", "$ref": "#/$defs/Schedule" },
                    "total_steps": { "type": "integer", "format": "uint64", "minimum": 0 },
                    "seed": { "type": ["integer", "null"], "format": "uint8", "minimum": 0, "maximum": 255 },
                    "layers": { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 },
                    "unit": { "anyOf": [{ "type": "string", "enum": ["block", "sublayer"] }, { "type": "null" }] },
                    "pattern": { "type": "string", "minLength": 1 },
                    "names": { "type": "array", "uniqueItems": true },
                    "width": { "type": "integer", "multipleOf": 8 },
                    "scales": { "type": "object", "additionalProperties": { "type": "number" } },
                    "gone": false
                },
                "required": ["total_steps"],
                "additionalProperties": false
            },
            "Gamma": {
                "anyOf": [{ "type": "number", "exclusiveMinimum": 0 }, { "$ref": "#/$defs/Auto" }]
            },
            "Auto": { "oneOf": [{ "description": "Filled.", "type": "string", "const": "auto" }] },
            "Schedule": {
                "oneOf": schedules
            },
            "Fp16": {
                "type": "object",
                "properties": {
                    "enabled": { "type": "boolean" },
                    "initial_scale_power": { "type": "integer", "minimum": 0, "maximum": 32 }
                },
                "additionalProperties": false
            },
            "Params": {
                "type": "object",
                "properties": {
                    "lr": { "type": "number", "minimum": 0 },
                    "betas": {
                        "type": "array",
                        "prefixItems": [{ "$ref": "#/$defs/Beta" }, { "$ref": "#/$defs/Beta" }],
                        "minItems": 2,
                        "maxItems": 2
                    }
                },
                "additionalProperties": false
            },
            "Beta": { "type": "number", "minimum": 0, "exclusiveMaximum": 1 }
        }
    })
}
