use serde::Deserialize;

use super::*;

/// All problems of a configuration against the test schema, as `line:column: message`.
fn problems(text: &str) -> Vec<String> {
    told(&merged(text))
}

fn told(config: &Config) -> Vec<String> {
    let problems = Checker::new(&schema()).unwrap().check(config);
    problems.iter().map(|problem| problem.to_string().replace("run.json:", "")).collect()
}

#[test]
fn each_violation_is_one_clear_sentence() {
    let layer_drop =
        |inner: &str| format!(r#"{{"progressive_layer_drop": {{"total_steps": 9, {inner}}}}}"#);
    for (inner, message) in [
        (r#""theta": 1.5"#, ".theta = 1.5 is not in (0, 1]"),
        (r#""theta": 0.000"#, ".theta = 0.000 is not in (0, 1]"),
        (r#""theta": "0.5""#, r#".theta = "0.5" is a string; a number in (0, 1] is expected"#),
        (r#""theta": null"#, ".theta is null; a number in (0, 1] is expected"),
        (r#""theta": [1]"#, ".theta is a list; a number in (0, 1] is expected"),
        (r#""thta": 0.5"#, r#": unknown key "thta"; did you mean "theta"?"#),
        (r#""enabled": "True""#, r#".enabled = "True" is a string; true or false is expected"#),
        (r#""enabled": 1"#, ".enabled = 1 is a number; true or false is expected"),
        (r#""gamma": -1"#, ".gamma = -1 is not > 0"),
        (
            r#""gamma": "aut""#,
            r#".gamma = "aut" is neither a number > 0 nor "auto"; did you mean "auto"?"#,
        ),
        (r#""gamma": {}"#, r#".gamma is an object; a number > 0 or "auto" is expected"#),
        (
            r#""schedule": "expo""#,
            r#".schedule = "expo" is not one of "exponential", "constant", "linear", "decreasing"; did you mean "exponential"?"#,
        ),
        (
            r#""schedule": "cosine""#,
            r#".schedule = "cosine" is not one of "exponential", "constant", "linear", "decreasing""#,
        ),
        (
            r#""schedule": 3"#,
            r#".schedule = 3 is a number; one of "exponential", "constant", "linear", "decreasing" is expected"#,
        ),
        (
            r#""unit": "blocks""#,
            r#".unit = "blocks" is neither "block" nor "sublayer"; did you mean "block"?"#,
        ),
        (r#""seed": 300"#, ".seed = 300 is not in [0, 255]"),
        (
            r#""seed": 2.5"#,
            ".seed = 2.5 is not a whole number; a whole number in [0, 255] is expected",
        ),
        (
            r#""layers": []"#,
            ".layers has 0 values; a list of at least 1 value (each a whole number >= 0) is expected",
        ),
        (r#""layers": [1, -2]"#, ".layers[1] = -2 is not >= 0"),
        (r#""pattern": """#, r#".pattern = "" is not a non-empty string"#),
        (r#""width": 12"#, ".width = 12 is not a multiple of 8"),
        (r#""names": [1, 1]"#, ".names does not fit: this has non-unique elements"),
        (r#""scales": {"007": "x"}"#, r#".scales.007 = "x" is a string; a number is expected"#),
        (
            r#""scales": {"a/~.b": "x"}"#,
            r#".scales."a/~.b" = "x" is a string; a number is expected"#,
        ),
        (r#""gone": 1"#, ".gone = 1 is not allowed here"),
    ] {
        let text = layer_drop(inner);
        let column = text.find(inner).unwrap() + 1;
        let problems = problems(&text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let (place, sentence) = problems[0].split_once(": ").unwrap();
        assert_eq!(sentence, format!("progressive_layer_drop{message}"));
        assert!(place.strip_prefix("1:").unwrap().parse::<usize>().unwrap() >= column, "{place}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let text = r#"{
  "progressive_layer_drop": {
    "theta": 1.5, // too much
    "thta": 1
  },
  "optimizer": { "type": "lamb", "params": { "lr": -1, "betas": [0.9, 1.0] } },
  "optimizer": {},
  "fp16": { "enabled": 1, "initial_scale_power": 1e999 },
  "bf16": {},
  "train_batch_size": 0
}"#;
    assert_eq!(
        problems(text),
        [
            r#"2:3: progressive_layer_drop: missing key "total_steps""#,
            "3:14: progressive_layer_drop.theta = 1.5 is not in (0, 1]",
            r#"4:5: progressive_layer_drop: unknown key "thta"; it is like "theta", which is there already"#,
            r#"6:26: optimizer.type = "lamb" is not one of "Adam", "AdamW", "Lamb"; did you mean "Lamb"?"#,
            r#"6:52: optimizer.params.lr = -1 is not >= 0 (if optimizer.type is "Lamb")"#,
            r#"6:71: optimizer.params.betas[1] = 1.0 is not in [0, 1) (if optimizer.type is "Lamb")"#,
            r#"7:3: key "optimizer" is given twice, first at 6:3"#,
            "8:24: fp16.enabled = 1 is a number; true or false is expected",
            "8:50: fp16.initial_scale_power = 1e999 is too large for a 64-bit float",
            r#"9:3: unknown key "bf16"; known keys: "fp16", "optimizer", "progressive_layer_drop", "train_batch_size""#,
            "10:23: train_batch_size = 0 is not >= 1",
        ]
    );
}

#[test]
fn of_several_schemas_the_one_that_was_meant_is_told() {
    for (text, messages) in [
        (
            r#"{"optimizer": {"type": "Lamb", "params": {"lr": "x"}}}"#,
            vec!["1:49: optimizer.params.lr = \"x\" is a string; a number >= 0 is expected"],
        ),
        (r#"{"optimizer": {"type": "Lamb"}}"#, vec![r#"1:15: optimizer: missing key "params""#]),
        (
            r#"{"optimizer": {"params": {"lr": "x"}}}"#,
            vec![r#"1:15: optimizer: missing key "type""#],
        ),
        (
            r#"{"optimizer": {}}"#,
            vec![
                r#"1:15: optimizer: missing key "params""#,
                r#"1:15: optimizer: missing key "type""#,
            ],
        ),
        (
            r#"{"optimizer": {"type": "SGD", "params": {"lr": "x"}}}"#,
            vec![r#"1:24: optimizer.type = "SGD" is not one of "Adam", "AdamW", "Lamb""#],
        ),
        (
            r#"{"optimizer": "Lamb"}"#,
            vec![r#"1:15: optimizer = "Lamb" is a string; an object is expected"#],
        ),
        (
            r#"{"optimizer": {"type": "Adam", "params": {"betas": [0.9]}}}"#,
            vec!["1:52: optimizer.params.betas has 1 value; a list of 2 values is expected"],
        ),
        (
            r#"{"fp16": 3}"#,
            vec!["1:10: fp16 = 3 is a number; true, false or an object is expected"],
        ),
        (r#"{"fp16": true}"#, vec![]),
        (
            r#"{"fp16": {"enable": true}}"#,
            vec![r#"1:11: fp16: unknown key "enable"; did you mean "enabled"?"#],
        ),
        (r#"{"progressive_layer_drop": null}"#, vec![]),
        (
            r#"{"progressive_layer_drop": []}"#,
            vec!["1:28: progressive_layer_drop is a list; an object is expected"],
        ),
    ] {
        assert_eq!(problems(text), messages, "{text}");
    }
}

/// A misspelt word decides what else is looked at; nothing outside of its section is told twice.
#[test]
fn what_is_beside_a_misspelt_word_is_looked_at_as_that_was_meant() {
    let text = r#"{"optimizer": {"type": "Lamp", "params": {"lr": -1, "beta": 1}},
        "progressive_layer_drop": {"schedule": "linaer"}, "train_batch_size": 0}"#;
    let expected = [
        r#"1:24: optimizer.type = "Lamp" is not one of "Adam", "AdamW", "Lamb"; did you mean "Lamb"?"#,
        r#"1:49: optimizer.params.lr = -1 is not >= 0 (if optimizer.type is "Lamb")"#,
        r#"1:53: optimizer.params: unknown key "beta"; did you mean "betas"? (if optimizer.type is "Lamb")"#,
        r#"2:35: progressive_layer_drop: missing key "total_steps""#,
        r#"2:48: progressive_layer_drop.schedule = "linaer" is not one of "exponential", "constant", "linear", "decreasing"; did you mean "linear"?"#,
        "2:79: train_batch_size = 0 is not >= 1",
    ];
    assert_eq!(problems(text), expected);
    // Where nothing is near, only what the schema finds.
    let far = text.replace("Lamp", "Rprop");
    assert_eq!(problems(&far).len(), 4, "{:?}", problems(&far));
}

#[test]
fn what_did_not_come_from_the_file_says_where_it_came_from() {
    let config = Layers::new(
        parsed(r#"{"progressive_layer_drop": {"total_steps": 1, "theta": 0.5}}"#).unwrap(),
    )
    .environment([("TRAINYARD__PROGRESSIVE_LAYER_DROP__THETA", "1.5")])
    .overrides(["fp16.enabled=maybe", "progressive_layer_drop.sead=3", "optimizer.type=Lamb"])
    .merge();
    assert_eq!(
        told(&config),
        [
            r#"fp16.enabled = "maybe" is a string; true or false is expected (from --set fp16.enabled=maybe)"#,
            r#"optimizer: missing key "params" (from --set optimizer.type=Lamb)"#,
            r#"progressive_layer_drop: unknown key "sead"; did you mean "seed"? (from --set progressive_layer_drop.sead=3)"#,
            "progressive_layer_drop.theta = 1.5 is not in (0, 1] (from TRAINYARD__PROGRESSIVE_LAYER_DROP__THETA)",
        ]
    );
}

#[test]
fn a_whole_number_may_be_written_as_a_float() {
    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Section {
        total_steps: u64,
        theta: f64,
        layers: Vec<i32>,
    }
    let text =
        r#"{"progressive_layer_drop": {"total_steps": 5e8, "theta": 1, "layers": [3.0, 0]}}"#;
    assert_eq!(problems(text), [""; 0]);
    let section = merged(text).section::<Section>("progressive_layer_drop").unwrap();
    assert_eq!(section, Some(Section { total_steps: 500_000_000, theta: 1.0, layers: vec![3, 0] }));
    assert_eq!(merged(text).section::<Section>("absent").unwrap(), None);
    assert_eq!(merged(r#"{"a": -0.0}"#).section::<u64>("a").unwrap(), Some(0));
    assert_eq!(merged(r#"{"a": -0.0}"#).section::<f64>("a").unwrap(), Some(0.0));
    let exact =
        merged(r#"{"a": [1e19, -9.223372036854775808e18, 1e20, 3.5, 18446744073709551615]}"#);
    let read: Vec<Value> = exact.section("a").unwrap().unwrap();
    assert_eq!(json!(read), json!([10_000_000_000_000_000_000_u64, i64::MIN, 1e20, 3.5, u64::MAX]));
}

#[test]
fn what_only_serde_refuses_has_path_and_place_too() {
    #[derive(Deserialize, Debug)]
    #[expect(dead_code)]
    struct Section {
        layers: Vec<u8>,
    }
    let config = merged("{\n \"drop\": {\"layers\": [1, 300]}, \"n\": 1\n}");
    let error = config.section::<Section>("drop").unwrap_err();
    let message = "drop.layers[1] = 300: invalid value: integer `300`, expected u8";
    assert_eq!(error.to_string(), format!("run.json:2:25: {message}"));

    #[derive(Deserialize, Debug)]
    #[expect(dead_code)]
    struct Keys {
        n: bool,
    }
    let error = config.fields::<Keys>(&["n", "absent"]).unwrap_err();
    let message = "n = 1: invalid type: integer `1`, expected a boolean";
    assert_eq!(error.to_string(), format!("run.json:2:37: {message}"));
    let error = config.fields::<Keys>(&[]).unwrap_err();
    assert_eq!(error.to_string(), "run.json:1:1: missing field `n`");
}

#[test]
fn a_problem_that_code_finds_is_put_where_the_value_stands() {
    let config = Layers::new(
        parsed("{\n  \"drop\": {\n    \"theta\": 0.5, \"betas\": [0.9, 2]\n  }\n}").unwrap(),
    )
    .overrides(["other.x=1"])
    .merge();
    for (path, message, expected) in [
        ("drop.theta", "theta = 0.5 is odd", "run.json:3:14: drop.theta = 0.5 is odd"),
        ("drop.theta", "drop.theta is odd", "run.json:3:14: drop.theta is odd"),
        ("drop.theta", "thetas are odd", "run.json:3:14: drop.theta: thetas are odd"),
        ("drop.betas[1]", "too large", "run.json:3:34: drop.betas[1]: too large"),
        ("drop.steps", "not set", "run.json:2:3: drop.steps: not set"),
        ("drop", "is for nothing", "run.json:2:3: drop: is for nothing"),
        ("other.x", "x is odd", "other.x is odd (from --set other.x=1)"),
        ("absent", "needed", "run.json:1:1: absent: needed"),
        ("", "does nothing", "run.json:1:1: does nothing"),
        ("a..b", "what", "run.json:1:1: \"a..b\": what"),
    ] {
        assert_eq!(config.problem(path, message).to_string(), expected);
    }
}

#[test]
fn the_error_underlines_every_place() {
    use miette::{Diagnostic, NarratableReportHandler};
    let text = "{\n  \"fp16\": { \"enabled\": 1 },\n  \"fp16\": {},\n  \"train_batch_size\": 0\n}";
    let config = merged(text);
    let error = Checker::new(&schema()).unwrap().verify(&config).unwrap_err();
    let labels: Vec<_> = error.labels().unwrap().collect();
    let underlined = labels
        .iter()
        .map(|label| (&text[label.offset()..label.offset() + label.len()], label.label().unwrap()));
    assert_eq!(
        underlined.collect::<Vec<_>>(),
        [
            ("1", "is a number; true or false is expected"),
            ("\"fp16\"", "given again here"),
            ("\"fp16\"", "first given here"),
            ("0", "is not >= 1"),
        ]
    );
    let mut printed = String::new();
    NarratableReportHandler::new().render_report(&mut printed, &error).unwrap();
    assert!(printed.contains("snippet line 4:   \"train_batch_size\": 0"), "{printed}");
    assert!(printed.contains("run.json:2:24: fp16.enabled = 1 is a number"), "{printed}");
}

#[test]
fn a_long_line_is_not_printed_and_many_problems_are_cut_short() {
    use miette::Diagnostic;
    let keys: Vec<_> = (0..1000).map(|n| format!("\"k{n}\": 1")).collect();
    let config = merged(&format!("{{{}}}", keys.join(", ")));
    let error = Checker::new(&schema()).unwrap().verify(&config).unwrap_err();
    assert_eq!(error.problems().len(), 1000);
    assert_eq!(error.to_string().lines().count(), 201);
    assert!(error.to_string().ends_with("\nand 800 more problems"));
    assert!(error.labels().is_none());
}

#[test]
fn a_schema_that_is_none_is_an_error() {
    let error = Checker::new(&json!({ "type": "nubmer" })).unwrap_err().to_string();
    assert!(error.starts_with("the schema is not a JSON Schema of draft 2020-12: "), "{error}");
    let outside = json!({ "$ref": "https://example.org/other.json" });
    assert!(Checker::new(&outside).is_err());
}

/// More than are printed get no suggestion: looking for one among many keys, for each of many, takes
/// minutes.
#[test]
fn only_the_first_unknown_keys_get_a_suggestion() {
    let keys: Vec<_> = (0..1000).map(|n| format!("\"theta{n}\": 1")).collect();
    let config = merged(&format!("{{{}}}", keys.join(", ")));
    let schema = json!({ "properties": { "theta": {} }, "additionalProperties": false });
    let problems = check(&config, &schema).expect("a schema");
    let helped = |problem: &&Problem| problem.message.contains("did you mean \"theta\"?");
    assert_eq!((problems.len(), problems.iter().filter(helped).count()), (1000, 200));
    assert!(problems.iter().any(|problem| problem.message == "unknown key \"theta999\""));
}

#[test]
fn a_key_that_belongs_elsewhere_is_told_where() {
    let schema = json!({
        "properties": {
            "a": { "properties": { "inner": {} }, "additionalProperties": false },
            "b": { "properties": { "other": {} }, "additionalProperties": false },
            "top": {},
        },
        "additionalProperties": false,
    });
    let config = merged(r#"{ "inner": 1, "a": { "top": 1 }, "b": { "inner": 1 } }"#);
    let problems = check(&config, &schema).expect("a schema");
    let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "unknown key \"inner\"; it belongs in a",
            "a: unknown key \"top\"; it belongs at the top level",
            "b: unknown key \"inner\"; known keys: \"other\""
        ]
    );
}
