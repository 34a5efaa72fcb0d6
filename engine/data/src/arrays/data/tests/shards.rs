//! Data in several safetensors files.

use super::*;

/// So many rows of two int32.
fn rows(rows: usize) -> (&'static str, String, Vec<u8>) {
    ("I32", format!("[{rows},2]"), vec![0; rows * 8])
}

fn shards(sizes: &[(usize, Option<usize>)]) -> Vec<(String, Vec<u8>)> {
    let file = |(at, &(ids, labels)): (usize, &(usize, Option<usize>))| {
        let (dtype, shape, data) = rows(ids);
        (format!("{at}.safetensors"), shard((dtype, &shape, data), labels))
    };
    sizes.iter().enumerate().map(file).collect()
}

fn opened(files: &[(String, Vec<u8>)]) -> Result<ArrayData, String> {
    let files: Vec<_> = files.iter().map(|(name, bytes)| (&**name, bytes.clone())).collect();
    let (_folder, config) = folder(&files);
    ArrayData::open(&config, 1).map_err(|error| error.to_string())
}

/// Every way to deal up to six rows of two inputs to three files: only those go together in which each
/// file has the same of both.
#[test]
fn inputs_of_a_file_are_of_the_same_samples() {
    let sizes = [0, 1, 3];
    let all = sizes.iter().flat_map(|&a| sizes.iter().flat_map(move |&b| sizes.map(|c| [a, b, c])));
    let all: Vec<[usize; 3]> = all.collect();
    for ids in &all {
        for labels in &all {
            let dealt: Vec<_> = ids.iter().zip(labels).map(|(&i, &l)| (i, Some(l))).collect();
            let result = opened(&shards(&dealt)).map(|data| data.training_samples());
            let right = ids == labels && ids.iter().sum::<usize>() > 1;
            assert_eq!(result.is_ok(), right, "{ids:?} {labels:?}: {result:?}");
        }
    }
    let message = opened(&shards(&[(3, Some(1)), (1, Some(3))])).map(drop).unwrap_err();
    assert!(
        message.ends_with(
            "has samples 0 to 2 of `ids` and samples 0 to 0 of `labels` in \"0.safetensors\"; a file has \
             the same samples of each of its inputs"
        ),
        "{message}"
    );
    // An input that begins in a later file.
    let message = opened(&shards(&[(3, None), (3, Some(3)), (0, Some(3))])).map(drop).unwrap_err();
    assert!(
        message.contains("samples 3 to 5 of `ids` and samples 0 to 2 of `labels`"),
        "{message}"
    );
}

#[test]
fn files_of_each_input_of_its_own_are_of_the_same_sizes() {
    let of = |name: &str, ids: usize| {
        let (dtype, shape, data) = rows(ids);
        (format!("{name}.safetensors"), shard((dtype, &shape, data), None))
    };
    let labels = |name: &str, labels: usize| {
        let (name, bytes) = of(name, labels);
        let at = bytes.windows(3).position(|w| w == b"ids").unwrap();
        (name, [&bytes[..at], b"lab", &bytes[at + 3..]].concat())
    };
    let (a, b) = ([of("a0", 3), of("a1", 1)], [labels("b0", 3), labels("b1", 1)]);
    assert!(opened(&[&a[..], &b].concat()).is_ok());
    assert!(opened(&[&a[..], &[labels("b", 4)]].concat()).is_ok(), "one file has all of it");
    let message =
        opened(&[&a[..], &[labels("b0", 1), labels("b1", 3)]].concat()).map(drop).unwrap_err();
    assert!(
        message.contains("has files of [3, 1] samples of `ids` and of [1, 3] of `lab`"),
        "{message}"
    );
}

#[test]
fn empty_files_among_full_ones_are_passed_over() {
    for dealt in [[0, 3, 1], [3, 0, 1], [3, 1, 0], [0, 0, 4]] {
        let data = opened(&shards(&dealt.map(|rows| (rows, Some(rows))))).unwrap();
        assert_eq!((data.training_samples(), data.validation_samples()), (3, 1), "{dealt:?}");
        let step = data.train_batches(shape(3, 1, 0, 1), 0).unwrap().next().unwrap().unwrap();
        assert_eq!(step[0].get("ids").unwrap().size(), [3, 2]);
    }
    // numpy's empty array is float64 of one axis.
    let empty = ("0.safetensors".to_owned(), shard(("F64", "[0]", vec![]), None));
    for at in 0..2 {
        let mut files = shards(&[(1, None), (4, None)]);
        files[at].1 = empty.1.clone();
        let inputs = opened(&files).map(|data| data.inputs()).unwrap_or_default();
        // With the first one left there is a single sample.
        assert_eq!(inputs.len(), 1 - at, "{at}");
    }
    let message = opened(&shards(&[(0, Some(0)), (0, Some(0))])).map(drop).unwrap_err();
    assert!(
        message.ends_with("holds no sample of `ids`, and neither do the 1 files behind it"),
        "{message}"
    );
}

/// Types of one input in two files, and what it is in a batch.
#[test]
fn integers_of_several_widths_are_one_input() {
    let bytes = |dtype: &str, from: i64| -> Vec<u8> {
        let width = match dtype {
            "I8" | "U8" | "BOOL" => 1,
            "I16" | "U16" | "F16" => 2,
            "I32" | "U32" | "F32" => 4,
            _ => 8,
        };
        (from..from + 4).flat_map(|number| number.to_le_bytes()[..width].to_vec()).collect()
    };
    let integers = ["I64", "I32", "U32", "I16", "U16", "I8", "U8"];
    for first in integers.into_iter().chain(["F32", "F64", "BOOL"]) {
        for second in integers.into_iter().chain(["F32", "F64", "BOOL"]) {
            let files = [(first, 1), (second, 5)].map(|(dtype, from)| {
                (format!("{from}.safetensors"), shard((dtype, "[2,2]", bytes(dtype, from)), None))
            });
            let data = opened(&files);
            let whole = integers.contains(&first) && integers.contains(&second);
            assert_eq!(data.is_ok(), whole || first == second, "{first} {second}");
            let (Ok(data), true) = (data, whole) else { continue };
            let kind = data.inputs()[0].kind;
            let narrow = first == second && matches!(first, "I8" | "U8");
            assert_eq!(kind == Kind::Int64, !narrow, "{first} {second}: {kind:?}");
            let mut all = Vec::new();
            let mut see = |batch: &ArrayBatch| {
                let ids = batch.get("ids").unwrap();
                assert_eq!(ids.kind(), kind, "{first} {second}");
                all.extend(numbers(Some(ids)));
            };
            see(&data.train_batches(shape(3, 1, 0, 1), 0).unwrap().next().unwrap().unwrap()[0]);
            see(&data.validation_batches(1, Share::WHOLE).unwrap().next().unwrap().unwrap());
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8], "{first} {second}");
        }
    }
}
