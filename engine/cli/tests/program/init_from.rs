//! `init_from`: weights alone, into the example BERT. For models from PyTorch see `script`.
use crate::{Ran, folder, trainyard, write};
use std::fs;
use std::path::Path;

/// A step of this length changes nothing, so what is written at the end is what was loaded.
const STILL: &[&str] = &["--set", "optimizer.params.lr=0", "--steps", "1"];

fn train(folder: &Path, output: &str, more: &[&str]) -> Ran {
    let arguments = ["train", "--config", "run.json", "--output", output];
    trainyard(folder, &[&arguments[..], more].concat())
}

fn weights(folder: &Path, output: &str) -> Vec<u8> {
    let path = folder.join(output).join("model.safetensors");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_example_bert_begins_with_another_run_s_weights() {
    let folder = folder();
    let path = folder.path();
    assert_eq!(train(path, "one", &["--steps", "2"]).status, Some(0));
    for (output, value) in [
        ("two", "init_from=one"),
        ("three", "init_from=one/model.safetensors"),
        ("four", r#"init_from={"file": "one", "unexpected": "error"}"#),
    ] {
        let ran = train(path, output, &[STILL, &["--set", value]].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        assert!(ran.stderr.contains(": 35 tensors, "), "{}", ran.stderr);
        assert!(weights(path, output) == weights(path, "one"), "{value}");
    }
    // What differs is told before the first step, and no folder is left.
    for (value, more, says) in [
        (
            "init_from=one",
            &["--set", "model.hidden=32"][..],
            "`last_norm.bias` is [16] there and [32]",
        ),
        ("init_from=one", &["--layers", "3"], "`layers.2."),
        (r#"init_from={"file": "one", "names": {"bias": null}}"#, &[], "`bias`; init_from.names"),
        (r#"init_from={"file": "one", "names": {"*": "a.*"}}"#, &[], "no name is in both"),
        ("init_from=none", &[], "cannot read none"),
        ("init_from=text.txt", &[], "it is no whole file of safetensors"),
        (r#"init_from={"fole": "one"}"#, &[], "fole"),
        (r#"init_from={"file": "one", "missing": "no"}"#, &[], "missing"),
    ] {
        let ran = train(path, "five", &[more, &["--set", value]].concat());
        assert_eq!((ran.status, path.join("five").exists()), (Some(1), false), "{ran:#?}");
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
    let value = r#"init_from={"file": "one", "names": {"bias": null}, "missing": "warn"}"#;
    let ran = train(path, "six", &["--set", value, "--steps", "1"]);
    assert!(ran.status == Some(0) && ran.stderr.contains("not there: `bias`"), "{ran:#?}");
}

/// To Hugging Face's layout and back; what is not the same model is told.
#[test]
fn the_example_bert_travels_in_hugging_face_s_layout() {
    let folder = folder();
    let path = folder.path();
    let post = ["--set", "model.norm=post"];
    assert_eq!(train(path, "one", &[&["--steps", "2"], &post[..]].concat()).status, Some(0));
    let ran = trainyard(
        path,
        &["checkpoint", "export", "one", "--output", "hf", "--format", "huggingface"],
    );
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:#?}");
    assert_eq!(
        ran.stdout,
        "the weights of step 2 are in hf: config.json, vocab.txt, tokenizer_config.json, model.safetensors\n"
    );
    let ran = train(path, "two", &[STILL, &post, &["--set", "init_from=hf"]].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert!(weights(path, "two") == weights(path, "one"));
    let vocabulary = fs::read_to_string(path.join("hf/vocab.txt")).unwrap();
    write(path, "other.txt", &vocabulary.replacen("\nthe\n", "\nxqxq\n", 1));
    for (more, says) in [
        (
            &[][..],
            "model.norm is \"pre\", and it has \"post\": put \"norm\": \"post\" into the section model",
        ),
        (&["--set", "model.heads=4"], "model.heads is 4 and 2 there: put \"heads\": 2 into"),
        (&["--layers", "3"], "\"layers\": 2"),
        (&["--set", "model.max_positions=32"], "`positions` is [16, 16] there and [32, 16]"),
        (
            &["--set", "data.vocabulary=other.txt"],
            "token 1996 is `the` in its vocab.txt and `xqxq` in the data's",
        ),
    ] {
        let norm = if more.is_empty() { &[][..] } else { &post };
        let ran = train(path, "three", &[norm, more, &["--set", "init_from=hf"]].concat());
        assert_eq!((ran.status, path.join("three").exists()), (Some(1), false), "{ran:#?}");
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
    // As the message says, the layers go over to another vocabulary.
    let value =
        r#"init_from={"file": "hf", "names": {"tokens": null, "bias": null}, "missing": "warn"}"#;
    let other = ["--set", "data.vocabulary=other.txt", "--set", value];
    assert_eq!(train(path, "four", &[STILL, &post, &other].concat()).status, Some(0));
}

/// A run does not write over the weights that it begins with.
#[test]
fn weights_that_are_read_are_not_replaced() {
    let folder = folder();
    let path = folder.path();
    assert_eq!(train(path, "one", &["--steps", "1"]).status, Some(0));
    for value in ["init_from=one", "init_from=one/model.safetensors"] {
        let ran = train(path, "one", &["--overwrite", "--set", value]);
        assert_eq!(ran.status, Some(1));
        assert!(ran.stderr.contains("is read by this run, which would replace it"), "{ran:#?}");
    }
}
