use miette::{Diagnostic, NarratableReportHandler};

use super::*;

const SAMPLE: &str = r#"{
  // é: comments and a trailing comma
  "progressive_layer_drop": { "enabled": true, "theta": 0.5, "gamma": "auto", "total_steps": 1e3 },
  "optimizer": { "type": "Lamb", "params": { "lr": 2.5e-3, "betas": [0.9, 0.999] } }, /* "x" */
  "fp16": { "enabled": false, "initial_scale_power": 16 },
  "train_batch_size": 8, "odd": "\u00e9\ud83d\ude00\n😀", "null": [null, -0.0, {}],
}
"#;

/// Everything that is done to a text, with every span put to use.
fn exercise(checker: &Checker, text: &str) {
    let error = match Document::parse(Source::text("sample", text)) {
        Err(error) => Some(error),
        Ok(document) => {
            let config = Layers::new(document)
                .environment([("TRAINYARD__FP16__ENABLED", text)])
                .overrides(["optimizer.params.lr=1", text])
                .merge();
            checker.verify(&config).err()
        }
    };
    let Some(error) = error else { return };
    assert!(!error.problems().is_empty());
    let source = Source::text("sample", text);
    for label in error.labels().into_iter().flatten() {
        let span = label.offset()..label.offset() + label.len();
        assert!(source.as_str().get(span.clone()).is_some(), "{span:?} of {text:?}");
    }
    let mut printed = String::new();
    NarratableReportHandler::new().render_report(&mut printed, &error).unwrap();
    assert!(!printed.contains("Failed to read contents"), "{printed}");
}

#[test]
fn no_prefix_of_a_text_and_no_changed_byte_makes_it_panic() {
    let checker = Checker::new(&schema()).unwrap();
    exercise(&checker, SAMPLE);
    for end in (0..SAMPLE.len()).filter(|end| SAMPLE.is_char_boundary(*end)) {
        exercise(&checker, &SAMPLE[..end]);
        exercise(&checker, &SAMPLE[end..]);
    }
    let interesting = b"\"\\{}[],:/*#'\n\t \0-+.eE019tnu\x7f\xff";
    for at in 0..SAMPLE.len() {
        for byte in interesting {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            bytes[at] = *byte;
            exercise(&checker, &String::from_utf8_lossy(&bytes));
            bytes.insert(at, *byte);
            exercise(&checker, &String::from_utf8_lossy(&bytes));
        }
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes.remove(at);
        exercise(&checker, &String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn random_tokens_do_not_make_it_panic() {
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};
    let tokens = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"a.b\"",
        "1",
        "-",
        "1e9",
        "1e999",
        "0.5",
        "true",
        "null",
        "nan",
        "True",
        "'",
        "#",
        "a:",
        "\"",
        "\\",
        "//",
        "/*",
        "*/",
        "\n",
        "\r",
        " ",
        "é",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}",
        "\"fp16\":",
        "\"optimizer\":",
        "\"type\":",
        "\"Lamb\"",
        "\\ud800",
        "=",
        ".",
        "__",
    ];
    let checker = Checker::new(&schema()).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    for _ in 0..20_000 {
        let length = random.random_range(0..24);
        let text: String = (0..length).map(|_| *tokens.choose(&mut random).unwrap()).collect();
        exercise(&checker, &text);
        exercise(&checker, &format!("{{\"a\":{text}}}"));
    }
}
