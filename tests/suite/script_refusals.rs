//! Scripts that cannot be trained, or not so.
use std::fs;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::Layers;
use trainyard::script::{Repeats, Script};
use trainyard_tests::Made;
use trainyard_tests::archives::archive;

fn refusal(name: &str, patterns: &[&str]) -> String {
    let error = Made::new(name).load(patterns).map(drop).expect_err("it is refused").to_string();
    let (_, said) = error.split_once(".pt: ").expect("an error names the file");
    said.to_owned()
}

fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// What is said of a layer that could not be left out.
const NO_SUM: &str = "is not one of its inputs plus something";

#[test]
fn layers_that_run_more_than_once() {
    says(&refusal("shared", &["layers.*"]), &["`layers.0` cannot be skipped", "2 places call it"]);
    says(&refusal("in_loop", &["layers.*"]), &["`layers.0` cannot be skipped", "stands in a loop"]);
}

#[test]
fn layers_without_a_residual_addition_of_their_own() {
    says(
        &refusal("plain", &["layers.*"]),
        &["`layers.0`", "is not one of its inputs plus something"],
    );
    says(&refusal("bert", &["layer.*.attention"]), &["`layer.0.attention`", NO_SUM]);
    says(&refusal("two", &["layers.*"]), &["`layers.0`", "[0, 1] are all added"]);
}

#[test]
fn layers_whose_residual_addition_is_not_always_there() {
    let no_sum = ["cannot be skipped", NO_SUM];
    says(&refusal("not_flagged", &["layers.*"]), &["`layers.1`", no_sum[0], no_sum[1]]);
    says(&refusal("sometimes", &["layers.*"]), &["`layers.0`", no_sum[0], no_sum[1]]);
    // A sum of the input with itself, in an activation.
    says(&refusal("activation", &["layers.*"]), &["`layers.0`", no_sum[0], no_sum[1]]);
}

#[test]
fn layers_whose_residual_addition_gets_lost() {
    for name in ["overwriting", "overwriting_while", "activation_turned", "centring", "affine"] {
        says(&refusal(name, &["layers.*"]), &["`layers.0` cannot be skipped", NO_SUM]);
    }
    // What decides changes at run time.
    for name in ["stepping", "unflagging"] {
        says(&refusal(name, &["layers.*"]), &["`layers.0` cannot be skipped", NO_SUM]);
    }
}

#[test]
fn layers_that_add_to_another_input_than_the_stream() {
    let said = refusal("decoder", &["layers.*"]);
    says(&said, &["`layers.1`", "input 1 is added", "returns is its input 0"]);
}

#[test]
fn the_others_of_a_pattern_are_named() {
    let said = refusal("not_flagged", &["layers.*"]);
    says(&said, &["`layers.1` cannot be skipped", "; the others can be: name \"layers.0\""]);
    assert!(!refusal("plain", &["layers.*"]).contains("the others"));
}

#[test]
fn layers_that_leave_their_input_in_another_order() {
    for name in ["turning", "rolling", "crossing", "twisting"] {
        says(&refusal(name, &["layers.*"]), &["`layers.0` cannot be skipped", NO_SUM]);
    }
}

#[test]
fn layers_that_do_more_than_return() {
    says(&refusal("noting", &["layers.*"]), &["`layers.0`", "assigns its attribute `aux`"]);
    says(&refusal("listing", &["layers.*"]), &["`layers.0`", "changes its input 1, which"]);
    says(&refusal("moving", &["layers.*"]), &["`layers.0`", "changes its input 0 in place"]);
}

#[test]
fn layers_that_change_what_a_container_holds() {
    for name in ["list_moving", "dict_moving", "chunk_moving", "kept_moving", "put_moving"] {
        says(&refusal(name, &["layers.*"]), &["`layers.0`", "changes its input 0 in place"]);
    }
    for name in ["list_writing", "dict_listing", "tuple_listing", "shelving"] {
        says(&refusal(name, &["layers.*"]), &["`layers.0`", "changes its input 1, which"]);
    }
}

#[test]
fn layers_that_leave_something_for_others() {
    says(&refusal("copying", &["layers.*"]), &["`layers.0`", "attribute `aux`"]);
    says(&refusal("storing", &["layers.*"]), &["`layers.0`", "attribute `held`"]);
}

#[test]
fn layers_called_otherwise() {
    says(&refusal("waiting", &["layers.*"]), &["`layers.0`", "on other threads"]);
    says(&refusal("by_method", &["layers.*"]), &["`layers.0`", "method `encode`"]);
    says(&refusal("forked", &["layers.*"]), &["`layers.0`", "thread of its own"]);
    says(&refusal("unused", &["spare"]), &["`spare` is never called"]);
}

#[test]
fn layers_whose_output_cannot_be_left_out() {
    says(&refusal("lists", &["layers.*"]), &["`layers.0`", "it returns Tensor[]"]);
    says(&refusal("rest", &["layers.*"]), &["`layers.0`", "behind the first item is used"]);
    says(&refusal("writing", &["layers.*"]), &["`layers.0`", "in place"]);
}

#[test]
fn patterns_that_match_nothing_or_too_much() {
    says(
        &refusal("bert", &["layers.*"]),
        &["pattern \"layers.*\" matches nothing", "layer.*, layer.*.attention"],
    );
    says(&refusal("bert", &["layer"]), &["`layer`, which only holds others", "\"layer.*\""]);
    says(
        &refusal("looped", &["blocks.*", "blocks.1.feed"]),
        &["`blocks.1` and, inside of it, `blocks.1.feed`"],
    );
}

#[test]
fn weights_that_are_not_finite() {
    says(&refusal("poisoned", &[]), &["parameter `layers.0.feed.up.bias`", "not finite"]);
    // A mask of infinities is one on purpose.
    says(&refusal("nan_buffer", &[]), &["buffer `mean`", "NaN"]);
}

#[test]
fn what_shows_in_the_forward() {
    let run = |name: &str, pattern: &str| {
        let made = Made::new(name);
        let (_variables, layers, script) = made.load(&[pattern]).unwrap();
        assert_eq!(layers.blocks().len(), 1);
        script.forward(&made.inputs(), true).map(|outputs| outputs.len())
    };
    let error = run("widening", "layers.*").unwrap_err().to_string();
    says(&error, &["layer `layers.0`", "[1, 8] went in and [2, 8] came out"]);
    let made = Made::new("retyping");
    let (_variables, _, script) = made.load(&["layers.*"]).unwrap();
    let error = script.forward(&made.inputs(), true).map(drop).unwrap_err().to_string();
    says(&error, &["layer `layers.0`", "Double went in and Float came out"]);
    // One of two branches runs, or both.
    assert_eq!(run("branches", "layers.*").unwrap(), 1);
    let error = run("two_branches", "layers.*").unwrap_err().to_string();
    says(&error, &["layer `layers.0`", "more than once in one forward"]);
}

#[test]
fn inputs_that_do_not_fit() {
    let made = Made::new("bert");
    let (_variables, _, script) = made.load(&["layer.*"]).unwrap();
    let error = |inputs: &[(String, Tensor)]| {
        script.forward(inputs, true).map(drop).expect_err("it does not fit").to_string()
    };
    let mut inputs = made.inputs();
    let labels = inputs.pop().unwrap();
    says(&error(&inputs), &["the forward needs `labels`, of type Tensor"]);
    inputs.extend([labels, ("mask".to_owned(), Tensor::from(1))]);
    says(&error(&inputs), &["the forward takes no `mask`; it takes ids, labels"]);
    inputs.pop();
    inputs[0].1 = Tensor::ones([3, 6], (Kind::Float, Device::Cpu));
    let said = error(&inputs);
    says(&said, &["indices"]);
    assert!(!said.contains('\n'), "{said}");
}

/// What `Script::load` says of a file with these bytes.
fn file(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    fs::write(&path, bytes).unwrap();
    loaded(&path)
}

fn loaded(path: &Path) -> String {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let error = Script::load(path, &variables, &layers, &[], Repeats::Refused)
        .map(drop)
        .expect_err("it is refused");
    error.to_string()
}

#[test]
fn files_of_another_kind() {
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "old format of torch.save"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{}}", "a safetensors file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"hello", "a file of another kind"),
    ] {
        says(&file(bytes), &["model.pt: this is ", what, "torch.jit.trace"]);
    }
    says(&file(b"PK\x03\x04 and then nothing"), &["damaged or truncated zip archive"]);
    says(&loaded(Path::new("/nowhere/model.pt")), &["/nowhere/model.pt: ", "No such file"]);
    says(&loaded(&std::env::temp_dir()), &["this is a folder"]);
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.pt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    says(&loaded(&pipe), &["no regular file"]);
}

#[test]
fn archives_of_another_kind() {
    let said = |names: &[&str]| {
        let records: Vec<_> = names.iter().map(|&name| (name, &b"10"[..])).collect();
        file(&archive(&records, None))
    };
    says(
        &said(&["model/data.pkl", "model/version"]),
        &["a state dict or a pickled model", "torch.jit.trace"],
    );
    says(&said(&["weights.npy"]), &["NumPy's archive of arrays"]);
    says(&said(&["model/readme"]), &["not one of TorchScript"]);
    says(
        &said(&["model/../../etc/passwd"]),
        &["record \"model/../../etc/passwd\"", "outside of it"],
    );
    says(&said(&["/etc/passwd"]), &["names a place outside of it"]);
    says(
        &said(&["model/data.pkl", "other/data.pkl"]),
        &["outside of the archive's folder \"model\""],
    );
    let whole = ["m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"];
    says(&said(&whole), &["no record of its format's version"]);
    let mut records: Vec<_> = whole.iter().map(|&name| (name, &b"x"[..])).collect();
    records.push(("m/version", b"11"));
    says(&file(&archive(&records, None)), &["version 11", "up to 10"]);
    let bomb = file(&archive(&[("m/data.pkl", b"x")], Some(1 << 30)));
    says(&bomb, &["record \"m/data.pkl\"", "1 bytes in the file, 1073741824 claimed"]);
}

/// However a file is cut off or its bytes are changed, loading it ends in an error or a module.
#[test]
fn damaged_files() {
    let made = Made::new("two");
    let bytes = fs::read(made.path()).unwrap();
    for length in (0..bytes.len()).step_by(bytes.len() / 40) {
        assert!(!file(&bytes[..length]).is_empty());
    }
    let path = made.beside("changed.pt");
    for at in (0..bytes.len()).step_by(bytes.len() / 400) {
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        fs::write(&path, &changed).unwrap();
        drop(Made::load_from(&path, &[]));
    }
}
