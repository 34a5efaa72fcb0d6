//! Which number of the data a failed batch failed on.
use super::config::ScriptConfig;
use tch::Kind;
use trainyard::BoxError;
use trainyard_data::{ArrayBatch, ArrayData, Input, Suspect};

/// How the error of a label begins that is no class.
pub const LABEL: &str = "a label in ";

/// What libtorch says of an index that a table does not have, on a CPU and on a GPU.
const OUTSIDE: [&str; 3] = ["index out of range", "out of bounds", "device-side assert"];

/// The error of a batch, and where it comes from an index or a label that is too large, the numbers that
/// may have caused it: of each of the `inputs` that is of integers, the furthest out.
pub fn named(error: BoxError, data: &ArrayData, batch: &ArrayBatch, inputs: &[&str]) -> BoxError {
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    let explained = match OUTSIDE.iter().any(|words| message.contains(words)) {
        true => format!("{first}: a number that the model looks up is not in its table"),
        false if first.starts_with(LABEL) => first.to_owned(),
        false => return error,
    };
    let found: Vec<_> = inputs.iter().flat_map(|input| data.furthest(batch, input)).collect();
    match found.is_empty() {
        true => error,
        false => format!("{explained}; the furthest of this batch: {}", listed(&found)).into(),
    }
}

/// Holds the labels of a cross-entropy against what labels can be, as far as a look at a part of them
/// tells.
///
/// # Errors
/// The key below `script`, and what is wrong.
pub fn check_labels(
    config: &ScriptConfig,
    data: &ArrayData,
    inputs: &[Input],
) -> Result<(), (&'static str, String)> {
    let loss = &config.loss;
    let Some(name) = loss.labels.as_deref().filter(|_| loss.compares()) else { return Ok(()) };
    let kind = inputs.iter().find(|input| input.name == name).map(|input| input.kind);
    if let Some(kind @ (Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double)) = kind {
        return Err((
            "loss.labels",
            format!("labels `{name}` are {kind:?}; class numbers are whole"),
        ));
    }
    // Shifted, the first of a sample is compared with nothing.
    let found = match loss.shift {
        true => None,
        false => data.seen(name, |label| label < 0 && label != loss.ignore_index),
    };
    match found {
        Some(label) => Err((
            "loss.labels",
            format!(
                "{label}, which is no class; labels that are not to be guessed are script.loss.ignore_index = {}",
                loss.ignore_index
            ),
        )),
        None => Ok(()),
    }
}

fn listed(suspects: &[Suspect]) -> String {
    suspects.iter().map(Suspect::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::config::LossConfig;
    use serde_json::json;
    use std::fs;
    use trainyard_data::{ArrayConfig, BatchShape, Share};
    use trainyard_run::Data;

    /// Four samples of `x`, of which one has a NaN, and of `y`, 0 to 3 and once -7.
    fn data(folder: &tempfile::TempDir) -> (ArrayData, ArrayBatch) {
        let npy = |name: &str, descr: &str, numbers: Vec<u8>| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (4,), }}");
            let header = format!("{header:<117}\n");
            let magic = b"\x93NUMPY\x01\x00\x76\x00".as_slice();
            let bytes = [magic, header.as_bytes(), &numbers].concat();
            fs::write(folder.path().join("train").join(name), &bytes).expect("a file");
            fs::write(folder.path().join("validation").join(name), &bytes).expect("a file");
        };
        for part in ["train", "validation"] {
            fs::create_dir(folder.path().join(part)).expect("a folder");
        }
        npy("x.npy", "<f4", [0.0, f32::NAN, 1.0, 2.0].map(f32::to_le_bytes).concat());
        npy("y.npy", "<i4", [0i32, 3, -7, 2].map(i32::to_le_bytes).concat());
        let data = ArrayData::open(&ArrayConfig::new(folder.path()), 1).expect("data");
        let shape =
            BatchShape { micro_batch: 4, gradient_accumulation_steps: 1, share: Share::WHOLE };
        let mut batches = data.train_batches(shape, 0).expect("batches");
        let batch = batches.next().expect("a step").expect("a batch").remove(0);
        (data, batch)
    }

    #[test]
    fn what_cannot_be_looked_up_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, batch) = data(&folder);
        let told = |message: &str| named(message.into(), &data, &batch, &["x", "y"]).to_string();
        let message = told("index out of range in self\nand more");
        let file = folder.path().join("train/y.npy");
        assert_eq!(
            message,
            format!(
                "index out of range in self: a number that the model looks up is not in its table; the furthest \
                 of this batch: `y` has 3 in sample 1 of {file:?}, `y` has -7 in sample 2 of {file:?}"
            )
        );
        assert!(told("a label in `y` is 3").starts_with("a label in `y` is 3; the furthest of"));
        assert_eq!(told("something else"), "something else");
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, batch) = data(&folder);
        let found = Data::not_finite(&data, &[batch]).expect("a NaN");
        assert!(found.contains("`x` has NaN in sample 1 of \""), "{found}");
        assert_eq!(Data::not_finite(&data, &[]), None);
    }

    #[test]
    fn labels_that_are_no_classes_are_told_before_a_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, _) = data(&folder);
        let check = |loss: serde_json::Value| {
            let loss: LossConfig = serde_json::from_value(loss).expect("a loss");
            let config = ScriptConfig { loss, ..ScriptConfig::default() };
            check_labels(&config, &data, &data.inputs()).map_err(|(_, message)| message)
        };
        let y = json!({ "type": "cross_entropy", "labels": "y" });
        let message = check(y.clone()).expect_err("-7 is no class");
        assert!(message.starts_with("`y` has -7 in sample 2 of "), "{message}");
        let with = |key: &str, value: serde_json::Value| {
            let mut loss = y.clone();
            loss[key] = value;
            check(loss)
        };
        assert_eq!(with("ignore_index", json!(-7)), Ok(()));
        assert_eq!(with("type", json!("output")), Ok(()));
        let message = with("labels", json!("x")).expect_err("x are no class numbers");
        assert_eq!(message, "labels `x` are Float; class numbers are whole");
    }
}
