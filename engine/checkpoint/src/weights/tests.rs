//! What is offered, what is wanted, and what is told of the difference.
use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tch::{Device, Kind};

fn tensor(kind: Kind, size: &[i64]) -> Tensor {
    let count = size.iter().product::<i64>();
    Tensor::arange(count, (Kind::Float, Device::Cpu)).to_kind(kind).view(size)
}

/// Writes a file of safetensors.
fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    crate::write_tensors(&named, None, &mut fs::File::create(path).unwrap()).unwrap();
}

/// Zeros of the model, by name.
fn model(tensors: &[(&str, Kind, &[i64])]) -> Vec<Wanted> {
    let zeros = |kind, size: &[i64]| Tensor::zeros(size, (kind, Device::Cpu));
    tensors.iter().map(|(name, kind, size)| Wanted::new(*name, &zeros(*kind, size))).collect()
}

fn options(names: &[(&str, Option<&str>)], missing: Strictness, other: Strictness) -> InitOptions {
    let names = names.iter().map(|(from, to)| ((*from).to_owned(), to.map(str::to_owned)));
    InitOptions {
        names: names.collect(),
        missing,
        unexpected: other,
        ..InitOptions::of(Path::new(""))
    }
}

use Strictness::{Error as Fails, Warn};

#[test]
fn every_floating_type_becomes_the_model_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for from in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        write(&path, &[("a", tensor(from, &[2, 3])), ("n", tensor(Kind::Int64, &[]))]);
        for to in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
            let model = model(&[("a", to, &[2, 3]), ("n", Kind::Int64, &[])]);
            load(&InitOptions::of(&path), Offers::open(&path).unwrap(), &model).unwrap();
            assert!(model[0].tensor.equal(&tensor(to, &[2, 3])), "{from:?} to {to:?}");
        }
    }
}

/// Which differences are errors, with what they say; nothing is changed then.
#[test]
fn differences_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let f = Kind::Float;
    write(&path, &[("x.a", tensor(f, &[2])), ("x.b", tensor(f, &[3])), ("c", tensor(f, &[]))]);
    type Case<'a> = (&'a [(&'a str, Kind, &'a [i64])], InitOptions, Result<(), &'a [&'a str]>);
    let strip = [("x.*", Some("*"))];
    let cases: &[Case<'_>] = &[
        (&[("a", f, &[2]), ("b", f, &[3])], options(&strip, Fails, Warn), Ok(())),
        (
            &[("a", f, &[2]), ("b", f, &[3])],
            options(&strip, Fails, Fails),
            Err(&["1 tensor there is not the model's: `c`", "null"]),
        ),
        (
            &[("a", f, &[2]), ("b", f, &[3])],
            options(&[("x.*", Some("*")), ("c", None)], Fails, Fails),
            Ok(()),
        ),
        (
            &[("a", f, &[2]), ("d", f, &[3])],
            options(&strip, Fails, Warn),
            Err(&[
                "1 tensor of the model is not there: `d`",
                "besides: `b`, `c`",
                "\"missing\": \"warn\"",
            ]),
        ),
        (&[("a", f, &[2]), ("d", f, &[3])], options(&strip, Warn, Warn), Ok(())),
        (
            &[("a", f, &[2]), ("b", f, &[4])],
            options(&strip, Warn, Warn),
            Err(&["`b` is [3] there and [4] in the model", "null"]),
        ),
        (
            &[("a", f, &[2]), ("b", f, &[4])],
            options(&[("x.*", Some("*")), ("x.b", None)], Warn, Warn),
            Ok(()),
        ),
        (
            &[("a", Kind::Int64, &[2])],
            options(&strip, Warn, Warn),
            Err(&["`a` is Float there and Int64 in the model"]),
        ),
        (
            &[("a", f, &[2])],
            options(&[], Warn, Warn),
            Err(&["no name is in both", "`x.b`", "the model has `a`", "init_from.names"]),
        ),
        (
            &[("a", f, &[2])],
            options(&[("x.*", Some("a"))], Warn, Warn),
            Err(&["`x.a` and `x.b` are both `a` then"]),
        ),
        (
            &[("a", f, &[2])],
            options(&[("x.*", Some("*.*"))], Warn, Warn),
            Err(&["more `*` than its pattern"]),
        ),
    ];
    for (wanted, options, expected) in cases {
        let model = model(wanted);
        let loaded = load(options, Offers::open(&path).unwrap(), &model);
        match expected {
            Ok(()) => {
                loaded.unwrap_or_else(|error| panic!("{options:?}: {error}"));
                assert!(model[0].tensor.equal(&tensor(f, &[2])), "{options:?}");
            }
            Err(says) => {
                let error = loaded.unwrap_err().to_string();
                assert!(error.starts_with("the weights of "), "{error}");
                says.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
                let zero = Tensor::zeros_like(&model[0].tensor);
                assert!(model[0].tensor.equal(&zero), "{options:?}");
            }
        }
    }
}

#[test]
fn of_many_names_some_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, &[("a", tensor(Kind::Float, &[1]))]);
    let names: Vec<_> = (0..20).map(|i| format!("p{i:02}")).collect();
    let mut wanted: Vec<_> = names.iter().map(|n| (n.as_str(), Kind::Float, &[1i64][..])).collect();
    wanted.push(("a", Kind::Float, &[1]));
    let error = load(&InitOptions::of(&path), Offers::open(&path).unwrap(), &model(&wanted));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("20 tensors of the model are not there: `p00`, "), "{error}");
    assert!(error.contains("`p05`, and 14 more") && !error.contains("p06"), "{error}");
}

#[test]
fn a_tensor_with_several_names_takes_any_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let f = Kind::Float;
    for names in [&["embedding"][..], &["decoder"], &["decoder", "embedding"]] {
        let tensors: Vec<_> = names.iter().map(|name| (*name, tensor(f, &[2]))).collect();
        write(&path, &tensors);
        let mut model = model(&[("embedding", f, &[2]), ("mask", f, &[2])]);
        model[0].names.push("decoder".to_owned());
        model[1].required = false;
        let options = options(&[], Fails, Fails);
        load(&options, Offers::open(&path).unwrap(), &model).unwrap();
        assert!(model[0].tensor.equal(&tensor(f, &[2])), "{names:?}");
    }
}

#[test]
fn shards_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let f = Kind::Float;
    write(&at("model-1.safetensors"), &[("a", tensor(f, &[2]))]);
    write(&at("model-2.safetensors"), &[("b", tensor(f, &[3])), ("hidden", tensor(f, &[]))]);
    let index = |map: &[(&str, &str)]| {
        let map: BTreeMap<_, _> = map.iter().copied().collect();
        let text = serde_json::json!({ "metadata": { "total_size": 20 }, "weight_map": map });
        fs::write(at("model.safetensors.index.json"), text.to_string()).unwrap();
    };
    index(&[("a", "model-1.safetensors"), ("b", "model-2.safetensors")]);
    let model = model(&[("a", f, &[2]), ("b", f, &[3])]);
    let options = options(&[], Fails, Fails);
    load(&options, Offers::open(folder.path()).unwrap(), &model).unwrap();
    assert!(model[1].tensor.equal(&tensor(f, &[3])));
    for (shard, says) in [
        ("../model-1.safetensors", "which is no file beside it"),
        ("..", "which is no file beside it"),
        ("model-2.safetensors", "`a` is to be in model-2.safetensors, which has it not"),
        ("model-3.safetensors", "No such file"),
    ] {
        index(&[("a", shard)]);
        let error = Offers::open(folder.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    fs::write(at("model.safetensors.index.json"), "[]").unwrap();
    let error = Offers::open(folder.path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("it is no index of safetensors"), "{error}");
}

#[test]
fn folders_without_weights_say_what_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = || Offers::open(folder.path()).map(drop).unwrap_err().to_string();
    assert!(error().contains("it has no model.safetensors"), "{}", error());
    fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    assert!(error().contains("safe_serialization=True"), "{}", error());
    let error = Offers::open(&folder.path().join("none")).map(drop).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

/// What a checkpoint's record does not have was compared with nothing.
#[test]
fn a_model_beside_the_record_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("model.safetensors"), &[("a", tensor(Kind::Float, &[1]))]);
    let state = serde_json::json!({
        "step": 1, "attempt": 1, "world_size": 1, "sequence": 1, "written": "", "trainyard": "", "plugins": {},
        "optimizer": { "kind": "SGD", "updates": {} },
    });
    fs::write(at("state.json"), state.to_string()).unwrap();
    let digest =
        |name: &str| crate::digest::of_reader(&mut fs::File::open(at(name)).unwrap()).unwrap();
    let open = |names: &[&str]| {
        let files: BTreeMap<_, _> = names.iter().map(|name| (*name, digest(name))).collect();
        let record = serde_json::json!({ "format": 1, "files": files });
        fs::write(at(crate::RECORD), record.to_string()).unwrap();
        Offers::open(folder.path()).map(|offers| offers.offers().len()).map_err(|e| e.to_string())
    };
    assert_eq!(open(&["state.json", "model.safetensors"]), Ok(1));
    let error = open(&["state.json"]).unwrap_err();
    assert!(error.ends_with("the checkpoint has no model.safetensors"), "{error}");
}
