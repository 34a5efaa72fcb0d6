use super::*;

const NO_VARIABLES: [(&str, &str); 0] = [];

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let text = r#"{"fp16": {"enabled": true, "loss_scale": 0}, "train_batch_size": 8}"#;
    // The order in which the layers are added does not matter, nor do other variables.
    let config = Layers::new(parsed(text).unwrap())
        .overrides(["fp16.enabled=false", "optimizer.type=Lamb", "fp16.enabled=true"])
        .environment([
            ("TRAINYARD__FP16__ENABLED", "\"maybe\""),
            ("TRAINYARD__FP16__LOSS_SCALE", "128"),
            ("TRAINYARD__OPTIMIZER__PARAMS__LR", "2e-3"),
            ("TRAINYARD__OPTIMIZER", r#"{"params": {"lr": 1e-3}}"#),
            ("TRAINYARD_LOG", "debug"),
            ("trainyard__fp16", "1"),
            ("PATH", "/bin"),
        ])
        .merge();
    let expected = json!({
        "fp16": { "enabled": true, "loss_scale": 128 },
        "train_batch_size": 8,
        "optimizer": { "type": "Lamb", "params": { "lr": 2e-3 } }
    });
    assert_eq!(config.value(), &expected);
    assert_eq!(config.keys().collect::<Vec<_>>(), ["fp16", "optimizer", "train_batch_size"]);
    assert_eq!(config.problems(), []);

    let file = |span: std::ops::Range<usize>| {
        let column = span.start + 1;
        Some(Origin::File { name: "run.json".into(), span, line: 1, column })
    };
    let environment = |variable: &str| Some(Origin::Environment { variable: variable.into() });
    let command = |argument: &str| Some(Origin::Override { argument: argument.into() });
    for (at, origin) in [
        ("train_batch_size", file(65..66)),
        ("fp16", file(9..43)),
        ("fp16.enabled", command("fp16.enabled=true")),
        ("fp16.loss_scale", environment("TRAINYARD__FP16__LOSS_SCALE")),
        ("optimizer", command("optimizer.type=Lamb")),
        ("optimizer.params.lr", environment("TRAINYARD__OPTIMIZER__PARAMS__LR")),
        ("optimizer.params.eps", None),
    ] {
        assert_eq!(config.origin(&path(at)), origin, "{at}");
    }
    assert_eq!(config.origin(&Path::default()), file(0..67));
}

#[test]
fn odd_values_and_keys_survive_the_layers() {
    let odd = json!({
        "a.b": { "C.d": { "[0]": 1 }, "": null, "x[": {} },
        "UPPER": u64::MAX, "least": i64::MIN, "tiny": 5e-324, "third": 1.0 / 3.0, "minus": -0.0,
        "whole": 3.0, "big": 1e308, "nested": [[1, [2.5, {}]], [], null, { "a.b": [] }],
        "empty": {}, "text": "tab\tquote\"null\0", "é😀": "é😀", "root": { "root": 1 }
    });
    let text = odd.to_string();
    assert_eq!(merged(&text).value(), &odd);
    let config = Layers::new(parsed(&text).unwrap()).overrides(["root.root=2"]).merge();
    let mut changed = odd.clone();
    changed["root"]["root"] = json!(2);
    assert_eq!(config.value(), &changed);
    // The same as an override, and as a variable.
    let argument = format!("deep.\"a.b=c\".Key={text}");
    let config = Layers::new(parsed("{}").unwrap())
        .overrides([argument])
        .environment([("TRAINYARD__A.B__mixedCase__X_1", text.as_str())])
        .merge();
    assert_eq!(config.problems(), []);
    assert_eq!(config.value()["deep"]["a.b=c"]["Key"], odd);
    assert_eq!(config.value()["a.b"]["mixedCase"]["x_1"], odd);
    assert!(config.value()["deep"]["a.b=c"]["Key"]["minus"].as_f64().unwrap().is_sign_negative());
}

#[test]
fn a_layer_is_read_as_json_where_it_is_json_and_as_text_where_not() {
    let read = |text: &str| {
        let layers = Layers::new(parsed(r#"{"a": [1, 2], "o": {"x": 1}}"#).unwrap());
        let config = layers.overrides([format!("a={text}")]).merge();
        let problem = config.problems().first().map(|problem| problem.message.clone());
        problem.map_or(Ok(config.value()["a"].clone()), Err)
    };
    for (text, value) in [
        ("5e8", json!(5e8)),
        ("007", json!("007")),
        ("true", json!(true)),
        ("True", json!("True")),
        ("null", json!(null)),
        ("", json!("")),
        (" 1 ", json!(1)),
        ("[3, 4,]", json!([3, 4])),
        ("[]", json!([])),
        ("\"5\"", json!("5")),
        ("cosine", json!("cosine")),
        ("//x", json!("//x")),
        ("a=b", json!("a=b")),
        ("1,2", json!("1,2")),
        ("{\"b\": null}", json!({ "b": null })),
    ] {
        assert_eq!(read(text), Ok(value), "{text}");
    }
    for (text, message) in [
        ("[1, 2", "the value of a is wrong: this [ is never closed (from --set a=[1, 2)"),
        (
            "{type: Lamb}",
            r#"the value of a is wrong: this key needs double quotes: "type" (from --set a={type: Lamb})"#,
        ),
        (
            "1e999",
            "the value of a is wrong: 1e999 is too large for a 64-bit float (from --set a=1e999)",
        ),
        (
            "{\"b\":1,\"b\":2}",
            r#"the value of a is wrong: key "b" is given twice, first at 1:2 (from --set a={"b":1,"b":2})"#,
        ),
    ] {
        assert_eq!(read(text), Err(message.to_owned()), "{text}");
    }
}

#[test]
fn objects_are_merged_and_all_else_is_replaced() {
    let text = r#"{"o": {"x": {"p": 1}, "y": 1}, "n": null, "s": 1, "l": [1, 2, 3]}"#;
    let config = Layers::new(parsed(text).unwrap())
        .overrides([
            r#"o={"x": {"q": 2}, "y": {"z": 3}}"#,
            "o.e={}",
            "n.a=1",
            "s={}",
            "l=[9]",
            "o.x={}",
            "t=5",
            "t=null",
            "t.a=1",
        ])
        .merge();
    assert_eq!(config.problems(), []);
    let expected = json!({
        "o": { "x": { "p": 1, "q": 2 }, "y": { "z": 3 }, "e": {} },
        "n": { "a": 1 }, "s": {}, "l": [9], "t": { "a": 1 }
    });
    assert_eq!(config.value(), &expected);
    let override_of = |at: &str| match config.origin(&path(at)) {
        Some(Origin::Override { argument }) => argument,
        other => format!("{other:?}"),
    };
    assert_eq!(override_of("l[0]"), "l=[9]");
    assert_eq!(override_of("o.x.q"), r#"o={"x": {"q": 2}, "y": {"z": 3}}"#);
    assert_eq!(override_of("s"), "s={}");
}

#[test]
fn layers_that_cannot_be_laid_are_told_all_at_once() {
    let deep = format!("a{}=1", ".a".repeat(200));
    let config = Layers::new(parsed(r#"{"s": 1, "l": [1], "t": {"u": "x"}}"#).unwrap())
        .environment([
            ("TRAINYARD__", "1"),
            ("TRAINYARD__S____X", "1"),
            ("TRAINYARD__T__U__V", "1"),
        ])
        .overrides(["lr", "=1", "a..b=1", "l[0]=1", "l.0=1", "s=2", "s.x=1", &deep])
        .merge();
    let problems: Vec<_> = config.problems().iter().map(|p| p.message.clone()).collect();
    let named = "a variable of the configuration is named TRAINYARD__SECTION__KEY";
    let expected = [
        format!("{named} (from TRAINYARD__)"),
        format!("{named} (from TRAINYARD__S____X)"),
        "an override has the form section.key=value (from --set lr)".into(),
        "path \"\" has an empty key (from --set =1)".into(),
        "path \"a..b\" has an empty key (from --set a..b=1)".into(),
        "l[0] is one place of a list; set the whole list (from --set l[0]=1)".into(),
        format!("nested deeper than 128 levels (from --set {}...)", &deep[..60]),
        "t.u.v cannot be set: t.u is a string (from TRAINYARD__T__U__V)".into(),
        "l.0 cannot be set: l is a list (from --set l.0=1)".into(),
        "s.x cannot be set: s is a number (from --set s.x=1)".into(),
    ];
    assert_eq!(problems, expected);
    // What could be laid was, so that the rest can be checked.
    assert_eq!(config.value(), &json!({ "s": 2, "l": [1], "t": { "u": "x" } }));
    assert_eq!(Checker::new(&json!(true)).unwrap().check(&config).len(), expected.len());
    assert!(config.section::<u64>("s").is_err());
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_told() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let config = Layers::new(parsed("{}").unwrap())
        .environment([(bytes(b"TRAINYARD__A"), bytes(b"\xff")), (bytes(b"\xff"), bytes(b"\xff"))])
        .merge();
    let messages: Vec<_> = config.problems().iter().map(ToString::to_string).collect();
    assert_eq!(messages, ["this variable is not UTF-8 (from TRAINYARD__A)"]);
}

#[test]
fn a_schema_key_at_the_top_is_for_editors_only() {
    let text = r#"{"$schema": 5, "a": {"$schema": 6}}"#;
    let config = Layers::new(parsed(text).unwrap()).environment(NO_VARIABLES).merge();
    assert_eq!(config.value(), &json!({ "a": { "$schema": 6 } }));
    let told: Vec<_> = config.problems().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["run.json:1:13: $schema = 5 is a number; a string is expected"]);
    let text = r#"{"$schema": "trainyard.schema.json"}"#;
    assert!(Layers::new(parsed(text).unwrap()).merge().problems().is_empty());
}
