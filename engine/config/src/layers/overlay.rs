//! One set of values laid over another, by the `config` crate.

use std::collections::HashMap;

use config::ValueKind;
use serde_json::{Number, Value};

use crate::layers::layering::Assignment;
use crate::text::path::Segment;

/// The values of the document with the assignments laid over it, in order.
///
/// The overlay itself is the `config` crate's. Everything is put below one key: that crate reads
/// the outermost keys of a source as path expressions (`"a.b"` would become two keys), but merges
/// what is below them key by key, exactly as written. Numbers, null and empty objects survive; the
/// positions in the file and which layer a value came from do not, so `Document` and `Assignment`
/// keep those. Its own environment source lower-cases every name, hence ours.
pub(crate) fn overlay(document: &Value, assignments: &[Assignment]) -> Value {
    const ROOT: &str = "root";
    if assignments.is_empty() {
        return document.clone();
    }
    let mut builder = config::Config::builder().add_source(Layer(to_crate(document)));
    for Assignment { path, value, .. } in assignments {
        let nested = path.segments().iter().rev().fold(to_crate(value), |inner, segment| {
            let Segment::Key(key) = segment else { unreachable!("overrides set keys") };
            HashMap::from([(key.clone(), inner)]).into()
        });
        builder = builder.add_source(Layer(nested));
    }

    /// A source that is already at hand.
    #[derive(Clone, Debug)]
    struct Layer(config::Value);

    impl config::Source for Layer {
        fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
            Box::new(self.clone())
        }

        fn collect(&self) -> Result<config::Map<String, config::Value>, config::ConfigError> {
            Ok(config::Map::from_iter([(ROOT.to_owned(), self.0.clone())]))
        }
    }

    let merged = builder.build().expect("sources that are at hand do not fail");
    match merged.cache.kind {
        ValueKind::Table(mut table) => from_crate(table.remove(ROOT).expect("every layer has it")),
        other => unreachable!("the crate merges tables, not {other:?}"),
    }
}

fn to_crate(value: &Value) -> config::Value {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Bool(bool) => ValueKind::Boolean(*bool),
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(natural), _) => ValueKind::U64(natural),
            (_, Some(integer)) => ValueKind::I64(integer),
            _ => ValueKind::Float(number.as_f64().expect("a number that is no integer is a float")),
        },
        Value::Array(items) => ValueKind::Array(items.iter().map(to_crate).collect()),
        Value::Object(keys) => ValueKind::Table(
            keys.iter().map(|(key, value)| (key.clone(), to_crate(value))).collect(),
        ),
    };
    config::Value::new(None, kind)
}

fn from_crate(value: config::Value) -> Value {
    match value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(bool) => bool.into(),
        ValueKind::String(text) => text.into(),
        ValueKind::U64(natural) => natural.into(),
        ValueKind::I64(integer) => integer.into(),
        ValueKind::Float(float) => {
            Value::Number(Number::from_f64(float).expect("came from JSON, so it is finite"))
        }
        ValueKind::I128(_) | ValueKind::U128(_) => unreachable!("no layer has 128-bit numbers"),
        ValueKind::Array(items) => items.into_iter().map(from_crate).collect(),
        ValueKind::Table(keys) => {
            Value::Object(keys.into_iter().map(|(key, value)| (key, from_crate(value))).collect())
        }
    }
}
