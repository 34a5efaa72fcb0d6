use std::fs;

use miette::SourceCode;

use super::*;

#[test]
fn a_bad_text_gets_one_sentence_with_its_place() {
    for (text, message) in [
        ("", "1:1: there is no value here; an object, { ... }, is expected"),
        ("// only this\n", "1:1: there is no value here; an object, { ... }, is expected"),
        ("[1]", "1:1: the top level is a list; an object, { ... }, is expected"),
        ("\n 3", "2:2: the top level is a single value; an object, { ... }, is expected"),
        (r#""a""#, "1:1: the top level is a string; an object, { ... }, is expected"),
        ("{", "1:1: this { is never closed"),
        ("{\n\"a\": [1", "2:6: this [ is never closed"),
        (r#"{"a": 1}}"#, "1:9: the configuration ended before this"),
        (r#"{"a": 1 "b": 2}"#, "1:8: a comma is missing here"),
        (r#"{"a": [1 2]}"#, "1:9: a comma is missing here"),
        (r#"{"a": 01}"#, "1:8: a number may not start with a 0 before other digits"),
        (r#"{"a" 1}"#, "1:6: a colon is missing after this key"),
        (r#"{"a": }"#, "1:7: a value is missing after the colon"),
        (r#"{"a":"#, "1:6: a value is missing after the colon"),
        (r#"{"a": 1,,"b": 1}"#, "1:9: a key is missing before this comma"),
        (r#"{"a": [1,,2]}"#, "1:10: a value is missing before this comma"),
        (r#"{"a": 1]"#, "1:8: this ] closes nothing; } is expected"),
        (r#"{"a": [1}"#, "1:9: this } closes nothing"),
        ("{“a”: 1}", r#"1:2: a string needs straight double quotes (")"#),
        ("{\"a\": True,\n}", r#"1:7: True is not JSON; write true (HJSON reads the text "True,")"#),
        (
            r#"{"a": None}"#,
            r#"1:7: None is not JSON; write null, or leave the key out (HJSON reads the text "None}")"#,
        ),
        (r#"{"a": NaN }"#, "1:7: infinity and NaN are not JSON numbers"),
        (r#"{"a": -Infinity}"#, "1:7: infinity and NaN are not JSON numbers"),
        (r#"{"a": auto}"#, r#"1:7: text needs double quotes: "auto""#),
        (r#"{"a": .5}"#, "1:7: a number needs digits on both sides of its point"),
        (r#"{"a": 5.}"#, "1:7: a number needs digits on both sides of its point"),
        (r#"{"a": +5}"#, "1:7: a number may not start with +"),
        (r#"{"a": 0x1F}"#, "1:7: a hexadecimal number is not JSON"),
        (r#"{"a": 1e}"#, "1:9: a digit is missing in this number"),
        (r#"{"a": /* no}"#, "1:7: this /* is never closed"),
        (r#"{"a": 1;}"#, "1:8: ';' does not belong here"),
        ("{\u{a0}}", "1:2: U+00A0 is not JSON white space; use a space"),
        ("{\u{c}}", "1:2: U+000C is not JSON white space; use a space"),
        (r#"{"é": "x}"#, "1:7: this string is never closed"),
        ("{\"a\": \"x\n\"}", "1:7: this string is not closed before the end of its line"),
        ("{\"a\": \"x\ty\"}", r"1:9: control character in a string; write it as \t"),
        ("{\"a\": \"x\u{1b}y\"}", r"1:9: control character in a string; write it as \u001b"),
        (r#"{"a": "\q"}"#, r"1:8: \q is not a JSON escape; a backslash is written \\"),
        (r#"{"a": "\u12"}"#, r"1:8: \u needs four hexadecimal digits, as in \u00e9"),
        (
            r#"{"a": "\ud800"}"#,
            "1:8: half a surrogate pair; a character beyond U+FFFF takes two such escapes, or is written as it is",
        ),
        (r#"{"a": {"b": [1e999]}}"#, "1:14: a.b[0] = 1e999 is too large for a 64-bit float"),
        (r#"{"a": 1e-999}"#, "1:7: a = 1e-999 is too close to zero for a 64-bit float"),
    ] {
        assert_eq!(reading_problems(text), [format!("run.json:{message}")], "{text:?}");
    }
}

#[test]
fn the_earlier_of_two_faults_is_told_first() {
    // The stray quote opens a string that runs over the line's end, but the word comes first.
    assert_eq!(
        reading_problems("{\"a\": yes,\n \"b: 1\n}"),
        [
            r#"run.json:1:7: yes is not JSON; write true (HJSON reads the text "yes,")"#,
            "run.json:2:2: this string is not closed before the end of its line",
        ]
    );
}

#[test]
fn every_key_given_twice_is_told_with_both_places() {
    let text =
        "{\"a\": 1,\n \"b\": {\"x\": [{\"lr\": 1, \"lr\": 2, \"l\\u0072\": 3}]},\n \"a\": 4}";
    assert_eq!(
        reading_problems(text),
        [
            "run.json:2:24: b.x[0]: key \"lr\" is given twice, first at 2:15",
            "run.json:2:33: b.x[0]: key \"lr\" is given twice, first at 2:15",
            "run.json:3:2: key \"a\" is given twice, first at 1:2",
        ]
    );
    let error = merged(text).section::<u64>("a").expect_err("a key is given twice");
    assert_eq!(error.problems()[2].kind, ProblemKind::Duplicate);
    assert_eq!(error.problems()[2].path, "a");
    assert_eq!(error.problems()[2].line_column(), Some((3, 2)));
}

#[test]
fn values_and_places_are_exact() {
    let text = "\u{feff}{ // comment\n  \"$schema\": \"x\", /* é */ \"naïve.Key\": [0.1, {\"\": -0.0,},],\n\
         \"max\": 18446744073709551615, \"min\": -9223372036854775808, \"e\": 5e-324,\n\
         \"pi\": 3.141592653589793116, \"null\": null, \"{}\": {}, \"[]\": [],\n\
         \"😀\": \"\\ud83d\\ude00\\n\\\"\\u0000\"}";
    let document = parsed(text).unwrap();
    let expected = json!({
        "$schema": "x", "naïve.Key": [0.1, { "": -0.0 }],
        "max": u64::MAX, "min": i64::MIN, "e": 5e-324,
        "pi": std::f64::consts::PI, "null": null, "{}": {}, "[]": [], "😀": "😀\n\"\0"
    });
    assert_eq!(document.value(), &expected);
    assert!(document.value()["naïve.Key"][1][""].as_f64().unwrap().is_sign_negative());
    let place = |path: &str| {
        let path = Path::parse(path).unwrap();
        let span = document.value_span(&path).expect("a value");
        (document.source().line_column(span.start), &document.source().as_str()[span])
    };
    assert_eq!(place(r#""naïve.Key"[1]."""#), ((2, 51), "-0.0"));
    assert_eq!(place("e"), ((3, 64), "5e-324"));
    assert_eq!(place("null"), ((4, 37), "null"));
    let key = document.key_span(&Path::default().key("😀")).unwrap();
    assert_eq!(&document.source().as_str()[key], "\"😀\"");
    assert_eq!(document.key_span(&Path::default()), None);
    assert_eq!(document.value_span(&Path::parse("naïve").unwrap()), None);
}

#[test]
fn deep_nesting_is_an_error_at_the_129th_bracket() {
    let nested =
        |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert_eq!(reading_problems(&nested(128)), [""; 0]);
    let message = "run.json:1:133: nested deeper than 128 levels";
    assert_eq!(reading_problems(&nested(129)), [message]);
    assert_eq!(reading_problems(&nested(100_000)), [message]);
    let open = format!("{{\"a\":{}", "[".repeat(100_000));
    assert_eq!(reading_problems(&open), [message]);
    let objects = "{\"a\":".repeat(100_000);
    assert_eq!(reading_problems(&objects), ["run.json:1:641: nested deeper than 128 levels"]);
    // Brackets in strings and comments do not nest.
    let quoted =
        format!("{{\"a\": \"{0}\\\"{0}\\\\\", /*{0}*/ //{0}\n\"b\": []}}", "[".repeat(500));
    assert_eq!(reading_problems(&quoted), [""; 0]);
}

#[test]
fn a_text_with_too_many_values_is_refused_before_it_is_parsed() {
    let list = |values: usize| format!("{{\"a\":[{}]}}", vec!["1"; values].join(","));
    assert_eq!(reading_problems(&list(90_000)), [""; 0]);
    let problems = reading_problems(&list(1_000_000));
    assert_eq!(problems, ["run.json:1:200004: more than 100000 values"]);
}

#[test]
fn what_is_no_readable_file_gets_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let told = |name: &str| {
        let error = Source::read(path(name)).expect_err("not readable").to_string();
        error.replace(&path(name).display().to_string(), name)
    };
    fs::write(path("good.json"), "{}").unwrap();
    assert_eq!(Source::read(path("good.json")).unwrap().as_str(), "{}");

    assert_eq!(told("missing.json"), "missing.json: there is no such file");
    fs::create_dir(path("folder")).unwrap();
    assert_eq!(told("folder"), "folder: this is a directory; a configuration file is expected");
    fs::write(path("latin.json"), b"{\n\"a\": \"\xe9\"}").unwrap();
    assert_eq!(told("latin.json"), "latin.json:2: byte 0xe9 at 8 is not UTF-8");
    fs::write(path("utf16.json"), b"\xff\xfe{\0}\0").unwrap();
    assert_eq!(
        told("utf16.json"),
        "utf16.json:1: byte 0xff at 0 is not UTF-8; it looks like UTF-16, save it as UTF-8"
    );
    // Without the mark that tells.
    for (name, bytes) in [("le.json", b"{\0\"\0a\0\"\0".as_slice()), ("be.json", b"\0{\0\n\0}")] {
        fs::write(path(name), bytes).unwrap();
        let sentence =
            "this file has a zero in every second byte; it looks like UTF-16, save it as UTF-8";
        assert_eq!(told(name), format!("{name}: {sentence}"));
    }
    // A hole of 100 MB takes no room on the disk.
    fs::File::create(path("large.json")).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(
        told("large.json"),
        "large.json: this file has 104857600 bytes; a configuration has at most 16 MiB"
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_or_device_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for path in [pipe.as_path(), "/dev/zero".as_ref()] {
        let message = Source::read(path).expect_err("no file").to_string();
        let expected = "this is a pipe, socket or device; a configuration file is expected";
        assert_eq!(message, format!("{}: {expected}", path.display()));
    }
}

/// What only HJSON can mean is read, with its places, and what is not JSON in it is known.
#[test]
fn hjson_is_read_as_other_programs_read_it() {
    for (text, value, fault) in [
        ("# é\n{\"a\": 1}", json!({ "a": 1 }), "1:1: this is not JSON: a comment starts with"),
        ("{a: 1}", json!({ "a": 1 }), "1:2: this is not JSON: this key needs double quotes"),
        ("{'a': 'b # c'} # d", json!({ "a": "b # c" }), "1:2: this is not JSON: a string needs"),
        (
            "{'a': 1, 'b': 'c\"d'}",
            json!({ "a": 1, "b": "c\"d" }),
            "1:2: this is not JSON: a string needs",
        ),
        ("{\"a\": 1\n \"b\": [1\n2]}", json!({ "a": 1, "b": [1, 2] }), "1:8: this is not JSON: a"),
        ("a: 1\nb: {c: 2}", json!({ "a": 1, "b": { "c": 2 } }), "1:1: this is not JSON"),
        ("/* x: */ // y\n\"a\": 1", json!({ "a": 1 }), "2:4: this is not JSON: a key outside of"),
        ("// x\n\"a\": 1", json!({ "a": 1 }), "2:4: this is not JSON: a key outside of"),
    ] {
        let document = Document::parse(Source::text("run.json", text)).expect(text);
        assert_eq!(document.value(), &value, "{text:?}");
        let note = document.not_json().expect(text).to_string();
        assert!(note.starts_with(&format!("run.json:{fault}")), "{note}");
        let place = document.value_span(&Path::default().key("a")).expect("a is there");
        let written = &text[place];
        assert!(written == "1" || written == "'b # c'", "{written:?} in {text:?}");
    }
    let document = Document::parse(Source::text("run.json", "{} // JSON")).unwrap();
    assert_eq!(document.not_json(), None);
    // A duplicate is one here too; and what comes after the first oddity is what is wrong.
    assert_eq!(
        reading_problems("# c\na: 1\na: 2"),
        ["run.json:3:1: key \"a\" is given twice, first at 2:1"]
    );
    assert_eq!(
        reading_problems("# c\n{ \"a\": True,\n}"),
        [r#"run.json:2:8: True is not JSON; write true (HJSON reads the text "True,")"#]
    );
    // A dictionary of Python's on one line: its quotes are HJSON, its words are not.
    assert_eq!(
        reading_problems("{'a': 8, 'b': {'c': True}}"),
        [r#"run.json:1:21: True is not JSON; write true (HJSON reads the text "True}}")"#]
    );
}

/// Who copies a dictionary of Python's is told of all its words in one go, and of what else is wrong.
#[test]
fn words_without_quotes_are_told_at_once() {
    let text = "{'a': True, // None\n 'b': [None, -inf, 'None'], c: auto # True\n \"True\": off,\n 'c': 1}";
    let document = parsed(text).expect("it can be read on");
    let path = |problem: &Problem| (problem.path.clone(), problem.line_column());
    let found: Vec<_> = document.problems().iter().map(path).collect();
    let place = |path: &str, line, column| (path.to_owned(), Some((line, column)));
    let expected = [
        place("a", 1, 7),
        place("b[0]", 2, 8),
        place("b[1]", 2, 14),
        place("c", 2, 32),
        place("True", 3, 10),
        place("c", 4, 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(document.problems()[3].message, r#"text needs double quotes: "auto""#);
    assert_eq!(document.problems()[5].kind, ProblemKind::Duplicate);
    let value = json!({ "a": true, "b": [null, null, "None"], "c": "auto", "True": false });
    assert_eq!(document.value(), &value);
    // A line's end is a comma, a comment is no part of a key, and the text is what HJSON reads.
    let listed = reading_problems("a: [\n True\n False\n]");
    assert_eq!(listed.len(), 2, "{listed:?}");
    let told = reading_problems("{a: True, size /* of all */: 32}");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        reading_problems("{a: True # on A100\n}"),
        [r#"run.json:1:5: True is not JSON; write true (HJSON reads the text "True # on A100")"#]
    );
    assert_eq!(reading_problems("{'a': -x/**/: 1}").len(), 1);
    assert_eq!(reading_problems("a: foo.bin\nb-c: True\n_d: _e\nf: [1e-5, -2, -0.5]").len(), 3);
    // A fault further down does not hide them, nor is hidden.
    assert_eq!(
        reading_problems("{a: True,\n b: 'x',\n c: None, d: (1, 2),\n e: False}"),
        [
            r#"run.json:1:5: True is not JSON; write true (HJSON reads the text "True,")"#,
            r#"run.json:3:5: None is not JSON; write null, or leave the key out (HJSON reads the text "None, d: (1, 2),")"#,
        ]
    );
    assert_eq!(
        reading_problems("{a: True,\n d: (1, 2),\n e: False}"),
        [
            r#"run.json:1:5: True is not JSON; write true (HJSON reads the text "True,")"#,
            "run.json:2:5: a list stands in [ ], not in ( )",
        ]
    );
    assert_eq!(
        reading_problems("a: True\nb: '''\n x\n'''"),
        [
            r#"run.json:1:4: True is not JSON; write true (HJSON reads the text "True")"#,
            "run.json:2:4: a text in ''' is not read; write it on one line, in double quotes",
        ]
    );
    assert_eq!(
        reading_problems("a: 1\nb: '''x'''"),
        ["run.json:2:4: a text in ''' is not read; write it on one line, in double quotes"]
    );
    assert_eq!(reading_problems("{\"a\": 1)}"), ["run.json:1:8: ')' does not belong here"]);
    // A text of several words is one fault.
    let text = "{\n \"a\": hello world\n \"b\": 1\n}";
    let told = reading_problems(text);
    assert_eq!(told, [r#"run.json:2:7: text needs double quotes: "hello world""#]);
    assert_eq!(
        reading_problems("a: hello world\nb: True\nc: (1, 2)\n"),
        [
            r#"run.json:1:4: text needs double quotes: "hello world""#,
            r#"run.json:2:4: True is not JSON; write true (HJSON reads the text "True")"#,
            "run.json:3:4: a list stands in [ ], not in ( )",
        ]
    );
    // What is wrong with the values themselves is told with them, and once.
    let config = merged("train_batch_size: None\nfp16: True\noptimizer: {type: 'Adm', params: {}}");
    let checker = Checker::new(&schema()).expect("a schema");
    let paths: Vec<_> = checker.check(&config).iter().map(|p| p.path.clone()).collect();
    assert_eq!(paths, ["train_batch_size", "fp16", "optimizer.type"]);
    // Not for ever, whatever the file.
    let many = format!("{{\"a\": [{}]}}", "True,".repeat(90_000));
    assert_eq!(reading_problems(&many).len(), 1000);
}

/// A text without quotes is told whatever characters are in it, with what else is wrong, as a value of an
/// object and as an item of a list.
#[test]
fn texts_without_quotes_are_told_whatever_is_in_them() {
    for text in [
        "./logs/a",
        "../a",
        "/var/log",
        "~/logs",
        "logs/a",
        "logs/a b",
        "gs://bucket/a",
        "a/*b",
        "C:\\logs\\a",
        "${HOME}/logs",
        "$HOME",
        "range(1, 2)",
        "a[0]",
        "<path>",
        "@here",
        "%s",
        "2026/11/30",
        ".",
        "..",
        "it's",
        "é/a",
    ] {
        let told = serde_json::Value::from(text).to_string();
        for end in [",", "", " // a comment", " /* one */,"] {
            let whole = format!("{{ \"a\": {text}{end}\n \"b\": True,\n \"c\": [{text}, 1] }}");
            let document = parsed(&whole).unwrap_or_else(|error| panic!("{whole}: {error}"));
            let problems: Vec<_> = document.problems().iter().map(|p| p.message.clone()).collect();
            let quotes = format!("text needs double quotes: {told}");
            assert_eq!(problems.len(), 3, "{whole}: {problems:?}");
            assert_eq!((&problems[0], &problems[2]), (&quotes, &quotes), "{whole}");
            let value = json!({ "a": text, "b": true, "c": [text, 1] });
            assert_eq!(document.value(), &value, "{whole}");
        }
    }
    // Numbers in another writing keep their own sentence, and what is no text is not taken for one.
    for (text, told) in [
        ("{\"a\": .5}", "1:7: a number needs digits on both sides of its point"),
        ("{\"a\": +1}", "1:7: a number may not start with +"),
        ("{\"a\": 0x10}", "1:7: a hexadecimal number is not JSON"),
        ("{\"a\": “x”}", "1:7: a string needs straight double quotes (\")"),
        ("{\"a\": (1, 2)}", "1:7: a list stands in [ ], not in ( )"),
        ("{ / \"a\": 1}", "1:3: a comment starts with // or /*"),
        ("{\"a\": foo {\"b\": 1}}", "1:7: text needs double quotes: \"foo\""),
    ] {
        assert_eq!(reading_problems(text).first(), Some(&format!("run.json:{told}")), "{text}");
    }
    for text in ["{\"a\": true // yes\n}", "{\"a\": 1//one\n}", "{\"a\": true/* x */}"] {
        assert_eq!(reading_problems(text), [""; 0], "{text}");
    }
}

/// The message and what is underlined count lines alike, whatever ends them.
#[test]
fn lines_end_in_three_ways() {
    for end in ["\n", "\r\n", "\r"] {
        let text = format!("{{{end}  \"a\": 1,{end}  \"b\": 2{end}}}");
        let document = parsed(&text).unwrap();
        let place = document.value_span(&Path::default().key("b")).expect("a value");
        assert_eq!(document.source().line_column(place.start), (3, 8), "{end:?}");
        let underlined = document.source().read_span(&place.into(), 0, 0).expect("a line");
        assert_eq!(underlined.line(), 2, "{end:?}");
    }
}

/// What is told of a value names the keys that lead to it, a hundred thousand times over if need be: they
/// may not be long.
#[test]
fn keys_are_not_long_and_faults_not_without_number() {
    let long = |length: usize| format!("{{\"a\": {{\"{}\": 1}}}}", "k".repeat(length));
    assert_eq!(reading_problems(&long(999)), [""; 0]);
    let told = "run.json:1:8: a: the keys that lead here have more than 1000 bytes";
    assert_eq!(reading_problems(&long(1000)), [told]);
    let twice = format!("{{{}}}", vec!["\"a\": 1"; 4000].join(","));
    assert_eq!(reading_problems(&twice).len(), 1000);
}

/// A number that is only noted may be of any size; one that the program reads may not.
#[test]
fn whole_numbers_beyond_64_bits() {
    let config = merged("{\"a\": 100000000000000000000, \"b\": 18446744073709551616}");
    assert!(config.problems().is_empty());
    assert_eq!(config.value()["a"], json!(1e20));
    let error = config.section::<u64>("b").expect_err("too large").to_string();
    assert!(error.ends_with("b = 18446744073709551616 does not fit a 64-bit integer"), "{error}");
    // Where serde cannot tell the place, which is behind a `type`.
    #[derive(Debug, serde::Deserialize)]
    #[serde(tag = "type", content = "params")]
    #[allow(dead_code)]
    enum Choice {
        A { steps: u64 },
    }
    let config = merged(r#"{"c": {"params": {"steps": 1e30}, "type": "A"}}"#);
    let error = config.section::<Choice>("c").expect_err("too large").to_string();
    assert!(error.ends_with("c.params.steps = 1e30 does not fit a 64-bit integer"), "{error}");
}

/// What a text says to a terminal is not handed on, and what is underlined stays where it is.
#[test]
fn commands_to_a_terminal_are_not_printed() {
    let text = "{ \"a\": \"\u{1b}]0;x\u{7}\u{9b}\u{202e}\", // \u{7f}\n \"b\": 1 }";
    let source = Source::text("a\u{1b}.json", text);
    let shown = source.read_span(&(0..text.len()).into(), 0, 0).expect("a text");
    let expected = "{ \"a\": \"?]0;x?\u{b7}\u{fffd}\", // ?\n \"b\": 1 }";
    assert_eq!(std::str::from_utf8(shown.data()), Ok(expected));
    assert_eq!((shown.name(), expected.len()), (Some("a?.json"), text.len()));
    assert_eq!(source.as_str(), text);
}
