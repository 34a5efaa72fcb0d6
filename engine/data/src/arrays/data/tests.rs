use super::*;
use crate::arrays::npy::tests::written;
use crate::{Masking, TokenType};
use std::collections::BTreeSet;
use std::fs;
use tempfile::TempDir;

/// A file with the numbers 0.. as int32, of that shape.
fn npy(shape: &str, count: i32) -> Vec<u8> {
    let data: Vec<u8> = (0..count).flat_map(i32::to_le_bytes).collect();
    written("'<i4'", shape, &data)
}

fn safetensors(first: i64, rows: i64) -> Vec<u8> {
    let numbers = |from: i64, to| (from..to).flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
    let (a, b) = (numbers(2 * first, 2 * (first + rows)), numbers(first, first + rows));
    let header = format!(
        r#"{{"a":{{"dtype":"I64","shape":[{rows},2],"data_offsets":[0,{}]}},"b":{{"dtype":"I64","shape":[{rows}],"data_offsets":[{},{}]}}}}"#,
        a.len(),
        a.len(),
        a.len() + b.len()
    );
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &a, &b].concat()
}

fn folder(files: &[(&str, Vec<u8>)]) -> (TempDir, ArrayConfig) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let config = ArrayConfig { validation_share: 0.2, ..ArrayConfig::new(folder.path()) };
    (folder, config)
}

fn error(files: &[(&str, Vec<u8>)]) -> String {
    let (_folder, config) = folder(files);
    ArrayData::open(&config, 1).map(drop).unwrap_err().to_string()
}

fn numbers(tensor: Option<&Tensor>) -> Vec<i64> {
    Vec::try_from(tensor.expect("an input").flatten(0, -1)).unwrap()
}

fn shape(micro_batch: usize, accumulation: usize, rank: usize, world_size: usize) -> BatchShape {
    let share = Share { rank, world_size };
    BatchShape { micro_batch, gradient_accumulation_steps: accumulation, share }
}

/// Every input of a sample belongs to that sample, whichever file it lies in.
#[test]
fn an_epoch_has_every_sample_once_and_whole() {
    let files = [
        ("s-0.safetensors", safetensors(0, 4)),
        ("s-1.safetensors", safetensors(4, 6)),
        ("c.npy", npy("(10, 2, 3)", 60)),
    ];
    let (_folder, config) = folder(&files);
    let data = ArrayData::open(&config, 7).unwrap();
    assert_eq!((data.training_samples(), data.validation_samples()), (8, 2));
    let inputs = data.inputs();
    let names: Vec<_> =
        inputs.iter().map(|i| (i.name.as_str(), i.kind, i.item.as_slice())).collect();
    assert_eq!(
        names,
        [("a", Kind::Int64, &[2][..]), ("b", Kind::Int64, &[]), ("c", Kind::Int64, &[2, 3])]
    );
    let whole = |batch: &ArrayBatch| {
        let samples = numbers(batch.get("b"));
        for (i, &sample) in samples.iter().enumerate() {
            assert_eq!(numbers(batch.get("a"))[2 * i..2 * i + 2], [2 * sample, 2 * sample + 1]);
            assert_eq!(numbers(batch.get("c"))[6 * i], 6 * sample);
        }
        samples
    };
    let mut batches = data.train_batches(shape(2, 2, 0, 1), 0).unwrap();
    assert_eq!(batches.steps_per_epoch(), 2);
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let steps: Vec<_> = batches.by_ref().take(2).map(Result::unwrap).collect();
        let samples: Vec<i64> = steps.iter().flatten().flat_map(whole).collect();
        assert_eq!(samples.iter().collect::<BTreeSet<_>>().len(), 8, "{samples:?}");
        epochs.push(samples);
    }
    assert_ne!(epochs[0], epochs[1], "every epoch has its own order");
    let validation = data.validation_batches(1, Share::WHOLE).unwrap();
    let validation: Vec<_> = validation.flat_map(|batch| whole(&batch.unwrap())).collect();
    assert_eq!(validation.len(), 2);
    assert!(validation.iter().all(|sample| !epochs[0].contains(sample)));
}

#[test]
fn ranks_share_and_any_step_can_be_first() {
    let (_folder, config) = folder(&[("x.npy", npy("(40,)", 40))]);
    let data = ArrayData::open(&config, 7).unwrap();
    let step = |shape, start: u64| {
        let step = data.train_batches(shape, start).unwrap().next().unwrap().unwrap();
        step.iter().flat_map(|batch| numbers(batch.get("x"))).collect::<Vec<_>>()
    };
    for start in [0, 3, 9] {
        let one = step(shape(4, 2, 0, 1), start);
        let two = [step(shape(2, 2, 0, 2), start), step(shape(2, 2, 1, 2), start)].concat();
        assert_eq!(one, two);
        let run = data.train_batches(shape(4, 2, 0, 1), 0).unwrap().nth(start as usize);
        let run = run.unwrap().unwrap();
        assert_eq!(one, run.iter().flat_map(|batch| numbers(batch.get("x"))).collect::<Vec<_>>());
    }
    let validated = |share| {
        let batches = data.validation_batches(3, share).unwrap();
        batches.flat_map(|batch| numbers(batch.unwrap().get("x"))).collect::<BTreeSet<_>>()
    };
    let ranks = [0, 1].map(|rank| validated(Share { rank, world_size: 2 }));
    assert_eq!(validated(Share::WHOLE), &ranks[0] | &ranks[1]);
    assert!(ranks[0].is_disjoint(&ranks[1]));
}

#[test]
fn streams_of_tokens_are_cut_into_sequences() {
    let stream: Vec<u8> = (0..103u16).flat_map(u16::to_le_bytes).collect();
    let files = [
        ("train/ids.bin", stream.clone()),
        ("train/more.npy", npy("(100,)", 100)),
        ("validation/ids.bin", stream[..80].to_vec()),
        ("validation/more.npy", npy("(49,)", 49)),
    ];
    let (_folder, config) = folder(&files);
    let config = ArrayConfig { sequence_length: Some(10), ..config };
    let data = ArrayData::open(&config, 7).unwrap();
    assert_eq!((data.training_samples(), data.validation_samples()), (10, 4));
    let batch = data.validation_batches(9, Share::WHOLE).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.get("ids").unwrap().size(), [4, 10]);
    assert_eq!(numbers(batch.get("ids")), (0..40).collect::<Vec<_>>());
    assert_eq!(numbers(batch.get("ids")), numbers(batch.get("more")));
    let wide = ArrayConfig { token_type: Some(TokenType::Uint32), ..config };
    let error = ArrayData::open(&wide, 7).map(drop).unwrap_err().to_string();
    assert!(error.ends_with("ids.bin\" is 206 bytes long, which is no multiple of 4"), "{error}");
}

#[test]
fn masks_are_new_in_every_epoch_and_labels_fit() {
    let (_folder, config) = folder(&[("input_ids.npy", npy("(4, 50)", 200))]);
    let masking = Masking {
        input: "input_ids".to_owned(),
        labels: "labels".to_owned(),
        mask_token: 200,
        vocabulary: 201,
        special_tokens: vec![7],
        probability: 0.2,
    };
    let config = ArrayConfig { masking: Some(masking.clone()), validation_share: 0.25, ..config };
    let data = ArrayData::open(&config, 7).unwrap();
    assert_eq!(data.inputs().iter().map(|i| &*i.name).collect::<Vec<_>>(), ["input_ids", "labels"]);
    let mut epochs = Vec::new();
    for step in data.train_batches(shape(3, 1, 0, 1), 0).unwrap().take(2) {
        let batch = &step.unwrap()[0];
        let (shown, labels) = (numbers(batch.get("input_ids")), numbers(batch.get("labels")));
        let guessed: Vec<_> = labels.iter().filter(|&&label| label != -100).collect();
        assert!(
            (29..=30).contains(&guessed.len()),
            "a fifth of 50, in 3 samples: {}",
            guessed.len()
        );
        assert!(!guessed.contains(&&7), "special tokens stay");
        let masked = shown.iter().filter(|&&id| id == 200).count();
        assert!(masked > 12 && masked < 30, "{masked}");
        for (shown, label) in shown.iter().zip(&labels) {
            assert!(*label >= 0 || (*label == -100 && *shown < 200));
        }
        epochs.push(labels.iter().copied().filter(|&l| l >= 0).collect::<BTreeSet<_>>());
    }
    assert_ne!(epochs[0], epochs[1]);
    let validation = || {
        let batch = data.validation_batches(1, Share::WHOLE).unwrap().next().unwrap().unwrap();
        numbers(batch.get("labels"))
    };
    assert_eq!(validation(), validation(), "always masked the same");

    let refused = |masking: Masking| {
        let config = ArrayConfig { masking: Some(masking), ..config.clone() };
        ArrayData::open(&config, 7).map(drop).unwrap_err().to_string()
    };
    let error = refused(Masking { input: "tokens".to_owned(), ..masking.clone() });
    assert!(error.ends_with("has no `tokens`, which masking.input names; it has `input_ids`"));
    let error = refused(Masking { labels: "input_ids".to_owned(), ..masking.clone() });
    assert!(error.ends_with("which is what masking.labels is to make; keep one"), "{error}");
    let small = Masking { vocabulary: 20, mask_token: 8, ..masking };
    let error = refused(small);
    assert!(
        error.starts_with("sample 0 of `input_ids` in ") && error.contains("has token 20, "),
        "{error}"
    );
    assert!(error.ends_with("is not in [0, 20), the ids of masking.vocabulary"), "{error}");
}

#[test]
fn files_that_do_not_go_together_are_named() {
    let x = |shape, count| ("x.npy", npy(shape, count));
    assert!(error(&[]).ends_with("has no .npy, .bin or .safetensors file"));
    assert!(error(&[("notes.txt", vec![])]).ends_with("has no .npy, .bin or .safetensors file"));
    assert!(error(&[x("(1, 4)", 4)]).contains("has 1 sample; at least 2 are needed"));
    let message = error(&[x("(4,)", 4), ("y.npy", npy("(5,)", 5))]);
    assert!(message.ends_with("has 4 samples of `x` and 5 of `y`; each sample needs both"));
    assert!(error(&[x("()", 1)]).ends_with("the first axis counts the samples"));
    assert!(error(&[x("(4, 0)", 0)]).ends_with("holds `x` of [4, 0], which is nothing"));
    assert!(error(&[("ids.bin", vec![0; 8])]).contains("set sequence_length"));
    let message = error(&[("a.npy", npy("(4, 2)", 8)), ("s.safetensors", safetensors(0, 4))]);
    assert!(message.contains("holds `a`, and so does"), "{message}");
    let train = ("train/x.npy", npy("(4,)", 4));
    let message = error(&[train.clone(), ("validation/y.npy", npy("(4,)", 4))]);
    assert!(message.ends_with("lacks `x`, which the training data has"), "{message}");
    let message = error(&[train, ("validation/x.npy", npy("(2, 2)", 4))]);
    assert!(message.contains("has `x` as I32 of [2] a sample, and the training data"), "{message}");
    let message = ArrayData::open(&ArrayConfig::new("no/such"), 1).map(drop).unwrap_err();
    assert_eq!(message.to_string(), "data folder \"no/such\" does not exist");
    let (folder, _) = folder(&[x("(4,)", 4)]);
    let file = ArrayConfig::new(folder.path().join("x.npy"));
    let message = ArrayData::open(&file, 1).map(drop).unwrap_err().to_string();
    assert!(message.contains("is a file, not a folder"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting() {
    let (folder, config) = folder(&[("x.npy", npy("(4,)", 4))]);
    let pipe = folder.path().join("y.npy");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = ArrayData::open(&config, 1).map(drop).unwrap_err().to_string();
    assert!(error.ends_with("y.npy\" is a pipe, not a file"), "{error}");
}

/// A header may claim anything; what is mapped is what is there.
#[test]
fn claims_beyond_the_file_are_refused() {
    for shape in ["(5, 4)", "(4, 5)", "(99999999999, 4)", "(4611686018427387904, 4)"] {
        let message = error(&[("x.npy", npy(shape, 16))]);
        assert!(
            message.contains("x.npy\" claims [") && message.ends_with("192 bytes long"),
            "{message}"
        );
    }
    let good = safetensors(0, 4);
    for at in 0..good.len() {
        let message = error(&[("s.safetensors", good[..at].to_vec())]);
        assert!(message.contains("is not a whole safetensors file: "), "cut at {at}: {message}");
    }
    let mut huge = good.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(error(&[("s.safetensors", huge)]).contains("header too large"));
    // Whatever a flipped byte makes of it, there is an answer.
    for at in 0..good.len() - 96 {
        for flip in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let (_folder, config) = folder(&[("s.safetensors", bad)]);
            drop(ArrayData::open(&config, 1).map(|data| data.inputs()));
        }
    }
}

/// A safetensors file of `ids`, and of `labels` where their number is given, each with a type.
fn shard(ids: (&str, &str, Vec<u8>), labels: Option<usize>) -> Vec<u8> {
    let (dtype, shape, mut data) = ids;
    let mut header =
        format!(r#""ids":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}"#, data.len());
    if let Some(labels) = labels {
        let (from, to) = (data.len(), data.len() + 8 * labels);
        header += &format!(
            r#","labels":{{"dtype":"I64","shape":[{labels}],"data_offsets":[{from},{to}]}}"#
        );
        data.resize(to, 0);
    }
    let header = format!("{{{header}}}");
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

#[test]
fn the_fingerprint_tells_data_apart() {
    let of = |files: &[(&str, Vec<u8>)], change: &dyn Fn(&mut ArrayConfig)| {
        let (_folder, mut config) = folder(files);
        change(&mut config);
        let prints = [1, 2].map(|seed| ArrayData::open(&config, seed).unwrap().fingerprint());
        assert_eq!(prints[0], prints[1], "the seed has no part in it");
        prints[0].clone()
    };
    let base = [("x.npy", npy("(40, 2)", 80))];
    let same = |_: &mut ArrayConfig| {};
    let print = of(&base, &same);
    assert_eq!((print.len(), &print), (32, &of(&base, &same)), "the folder has no part in it");
    let mut byte = npy("(40, 2)", 80);
    *byte.last_mut().unwrap() ^= 1;
    let mut big = vec![0; 9 << 20];
    let large = |bytes: &[u8]| [("x.npy", written("'|u1'", "(9, 1048576)", bytes))];
    let zeros = of(&large(&big), &same);
    big[0] = 1;
    let first = of(&large(&big), &same);
    big[0] = 0;
    *big.last_mut().unwrap() = 1;
    let last = of(&large(&big), &same);
    let others = [
        print,
        of(&[("y.npy", npy("(40, 2)", 80))], &same),
        of(&[("x.npy", npy("(80, 1)", 80))], &same),
        of(&[("x.npy", npy("(39, 2)", 78))], &same),
        of(&[("x.npy", byte)], &same),
        of(&[("x.npy", npy("(40, 2)", 80)), ("y.npy", npy("(40,)", 40))], &same),
        of(&[("train/x.npy", npy("(40, 2)", 80)), ("validation/x.npy", npy("(1, 2)", 2))], &same),
        of(&base, &|config| config.validation_share = 0.5),
        of(&base, &|config| config.max_validation_samples = Some(1)),
        zeros,
        first,
        last,
    ];
    assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
}

#[test]
fn the_furthest_numbers_of_a_batch_are_named_with_their_file() {
    let ids =
        |numbers: &[i32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let files = [
        ("a.safetensors", shard(("I32", "[1,2]", ids(&[7, 3])), None)),
        ("b.safetensors", shard(("I32", "[2,2]", ids(&[1, 2, 500, -4])), None)),
        ("x.npy", written("'<f4'", "(3,)", &[1.0, f32::NAN, 1.0].map(f32::to_le_bytes).concat())),
    ];
    let (folder, config) = folder(&files);
    let data = ArrayData::open(&config, 1).unwrap();
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut see = |batch: &ArrayBatch| {
        found.extend(data.furthest(batch, "ids"));
        assert!(data.furthest(batch, "x").is_empty() && data.furthest(batch, "no").is_empty());
        wrong.extend(data.not_finite(batch));
    };
    see(&data.train_batches(shape(2, 1, 0, 1), 0).unwrap().next().unwrap().unwrap()[0]);
    see(&data.validation_batches(1, Share::WHOLE).unwrap().next().unwrap().unwrap());
    let place = |value: f64, sample, file: &str| Suspect {
        input: "ids".to_owned(),
        value,
        sample,
        path: folder.path().join(file),
    };
    let largest = place(500.0, 1, "b.safetensors");
    assert!(found.contains(&largest), "{found:?}");
    assert!(found.contains(&place(-4.0, 1, "b.safetensors")), "{found:?}");
    let shown = largest.to_string();
    assert!(
        shown.starts_with("`ids` has 500 in sample 1 of \"") && shown.ends_with("b.safetensors\"")
    );
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].value.is_nan() && (&*wrong[0].input, wrong[0].sample) == ("x", 1));
    // A look before the training tells as well.
    let column = |name: &str| looks::not_finite(&data.0.train.columns[name]).map(|found| found.1);
    assert_eq!((column("x"), column("ids")), (Some(1), None));
    assert_eq!(data.seen("ids", |id| id > 100), Some(largest));
    assert_eq!(data.seen("ids", |id| id > 500), None);
}

/// Samples of which none fits are refused before anything is read, in whichever way they are asked for.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_cannot_fit_is_refused_with_its_bytes() {
    let numbers = 1u64 << 38;
    let header = written("'<u2'", &format!("(4, {numbers})"), &[]);
    let (folder, config) = folder(&[("x.npy", header)]);
    let file = fs::File::options().append(true).open(folder.path().join("x.npy")).unwrap();
    file.set_len(file.metadata().unwrap().len() + 4 * 2 * numbers).unwrap();
    let data = ArrayData::open(&config, 1).unwrap();
    let refused = |error: Error| {
        let error = error.to_string();
        assert!(
            error.starts_with("a micro-batch of 1 samples takes 2.0 TiB of memory, and "),
            "{error}"
        );
        assert!(error.ends_with(" can be had: lower train_micro_batch_size_per_gpu"), "{error}");
    };
    refused(data.train_batches(shape(1, 1, 0, 1), 0).map(drop).unwrap_err());
    refused(data.validation_batches(1, Share::WHOLE).map(drop).unwrap_err());
}

/// Three thousand million samples take no memory for each, of which a list of them would need 24 GB.
#[cfg(target_os = "linux")]
#[test]
fn samples_take_no_memory_before_they_are_asked_for() {
    let held = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    let samples = 3_000_000_000u64;
    let (folder, config) = folder(&[("x.npy", written("'|u1'", "(3000000000,)", &[]))]);
    // Nearly all of it is a hole.
    let file = fs::File::options().append(true).open(folder.path().join("x.npy")).unwrap();
    file.set_len(file.metadata().unwrap().len() + samples).unwrap();
    let before = held();
    let data = ArrayData::open(&config, 1).unwrap();
    assert_eq!(data.training_samples() as u64, samples - samples / 5);
    let mut batches = data.train_batches(shape(8, 1, 0, 1), 0).unwrap();
    let batch = batches.next().unwrap().unwrap();
    assert_eq!(batch[0].get("x").unwrap().size(), [8]);
    let first = data.validation_batches(8, Share::WHOLE).unwrap().next().unwrap().unwrap();
    assert_eq!(first.samples, 8);
    data.fingerprint();
    let taken = held().saturating_sub(before);
    assert!(taken < 512 << 20, "{taken} bytes for {samples} samples");
}

mod shards;
