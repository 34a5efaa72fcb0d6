//! The program with a section of its own, from outside.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn custom_plugin(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custom_plugin"));
    command.args(arguments).env_remove("LD_LIBRARY_PATH");
    command.output().expect("the program was built with this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8")
}

fn file(name: &str, json: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, json).expect("cargo's folder can be written");
    path
}

#[test]
fn its_schema_has_the_section() {
    let output = custom_plugin(&["--schema"]);
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let section = &schema["$defs"]["GradientNoise"];
    assert_eq!(schema["properties"]["gradient_noise"]["$ref"], "#/$defs/GradientNoise");
    assert_eq!(section["properties"]["eta"]["minimum"], 0);
    assert_eq!(section["additionalProperties"], false);
    let about = section["description"].as_str().expect("a description");
    assert!(about.starts_with("Adds Gaussian noise"), "{about}");
    assert!(schema["properties"]["progressive_layer_drop"].is_object(), "ours are there too");
}

#[test]
fn a_wrong_value_is_underlined() {
    let optimizer = r#""optimizer": { "type": "AdamW" }"#;
    let section = r#""gradient_noise": { "eta": -1 }"#;
    let path = file("wrong.json", &format!("{{\n  {optimizer},\n  {section}\n}}\n"));
    let output = custom_plugin(&[path.to_str().expect("a UTF-8 path")]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(output.stdout.is_empty());
    assert!(error.contains("wrong.json:3:30: gradient_noise.eta = -1 is not"), "{error}");
    let below = error.lines().skip_while(|line| !line.contains(section)).nth(1);
    assert!(below.is_some_and(|line| line.contains('┬')), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn it_trains() {
    let output = custom_plugin(&[]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let losses: Vec<f64> = printed
        .lines()
        .map(|line| line.rsplit(' ').next().and_then(|loss| loss.parse().ok()).expect("a loss"))
        .collect();
    assert_eq!(losses.len(), 40);
    assert!(losses[39] < 0.8 * losses[0], "{printed}");
}
