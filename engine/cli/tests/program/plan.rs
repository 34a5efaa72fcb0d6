use crate::{configuration, folder, trainyard, write};
use serde_json::{Value, json};

/// Three units of ten elements; forward 1 s, backward 1 s each, update 1 s.
fn figures() -> Value {
    let unit = |block: Option<usize>| {
        json!({
            "block": block, "elements": 10, "forward_seconds": 0.0, "backward_seconds": 1.0,
            "update_seconds": 0.0,
        })
    };
    json!({
        "about": "by hand", "samples": 4, "forward_seconds": 1.0, "update_seconds": 1.0,
        "element_bytes": 4, "copy_seconds_per_byte": 0.0,
        "units": [unit(None), unit(Some(0)), unit(None)],
        "link": {
            "hop_seconds": 0.0, "bytes_per_second": 40.0, "processor_seconds_per_byte": 0.025,
        },
    })
}

#[test]
fn a_table_by_hand() {
    let folder = folder();
    write(folder.path(), "figures.json", &figures().to_string());
    let plan = |more: &[&str]| {
        let arguments = [&["plan", "--model", "figures.json", "--ranks", "1..2"], more].concat();
        let ran = trainyard(folder.path(), &arguments);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
        ran.stdout
    };
    // 120 bytes at 40 a second, all of them a rank's own work: 5 s become 8.
    let table = plan(&["--gates", "off"]);
    let last: Vec<_> = table.lines().last().expect("rows").split_whitespace().collect();
    assert_eq!(last[..4], ["2", "off", "6553600", "8000.0"], "{table}");
    assert_eq!(last[7..], ["1", "0.625", "0.000"], "{table}");
    // A card does it: only the last unit shows.
    let table = plan(&["--gates", "off", "--bucket", "10", "--offloaded"]);
    assert!(table.contains(" 6000.0 "), "{table}");

    let all: Value =
        serde_json::from_str(&plan(&["--format", "json", "--theta", "1"])).expect("JSON");
    let rows = all["predictions"].as_array().expect("rows");
    assert_eq!(rows.len(), 2 * 4);
    // Nothing drops at theta 1, whatever the gates.
    for row in &rows[4..] {
        assert_eq!(row["step"]["seconds"], 8.0, "{row}");
        assert_eq!(
            (&row["step"]["bytes_on_the_wire"], &row["saved"]),
            (&json!(120.0), &json!(0.0))
        );
    }
}

#[test]
fn curves_over_the_number_of_ranks() {
    let folder = folder();
    write(folder.path(), "figures.json", &figures().to_string());
    let plan = |more: &[&str]| {
        let arguments =
            ["plan", "--model", "figures.json", "--ranks", "1,2,4", "--chart", "plan.svg"];
        let ran = trainyard(folder.path(), &[&arguments, more].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
        std::fs::read_to_string(folder.path().join("plan.svg")).expect("a picture")
    };
    // Both panels' legends, without the curve that savings are counted from in the second.
    let svg = plan(&["--gates", "off,shared,independent"]);
    let count = |text: &str| svg.matches(text).count();
    assert_eq!(
        (count(">no dropping<"), count(">shared gates<"), count(">independent gates<")),
        (1, 2, 2)
    );
    assert!(svg.contains("time of a step, ms") && svg.contains("saved at theta 0.5, %"), "{svg}");
    // One curve of three points, besides its mark in the legend.
    let svg = plan(&["--gates", "off"]);
    let curves: Vec<_> = svg.lines().filter(|line| line.starts_with("<polyline")).collect();
    assert_eq!(curves.len(), 2, "{svg}");
    assert_eq!(curves[0].split('"').nth(1).map(|points| points.split(' ').count()), Some(3));

    let arguments = ["plan", "--model", "figures.json", "--chart", "none/plan.svg"];
    let ran = trainyard(folder.path(), &arguments);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("cannot write none/plan.svg"), "{ran:#?}");
}

#[test]
fn wrong_figures_are_named() {
    let folder = folder();
    let fails = |text: &str, more: &[&str]| {
        write(folder.path(), "figures.json", text);
        let ran = trainyard(folder.path(), &[&["plan", "--model", "figures.json"], more].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
        ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = fails("{}", &[]);
    assert!(said.contains("figures.json is no file of figures (missing field `about`"), "{said}");
    let mut wrong = figures();
    wrong["units"][1]["backward_seconds"] = json!(-1.0);
    let said = fails(&wrong.to_string(), &[]);
    let expected =
        "figures.json: units[1].backward_seconds = -1 is not a time in seconds, 0 or more";
    assert!(said.contains(expected), "{said}");
    let mut alone = figures();
    alone["link"] = Value::Null;
    let said = fails(&alone.to_string(), &["--link", "1"]);
    assert!(said.contains("figures.json has no link") && said.contains("say --hop"), "{said}");
}

#[test]
fn what_ranks_measure_can_be_planned_with() {
    let folder = folder();
    let program = env!("CARGO_BIN_EXE_trainyard");
    let measure =
        [program, "plan", "--measure", "run.json", "--seconds", "0", "--out", "figures.json"];
    let launch = ["launch", "--nproc-per-node", "2", "--"];
    let ran = trainyard(folder.path(), &[launch.as_slice(), &measure].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let plan = ["plan", "--model", "figures.json", "--ranks", "1,1024", "--format", "json"];
    let ran = trainyard(folder.path(), &plan);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let about = all["about"].as_str().expect("words");
    assert!(
        about.starts_with("measured: 2 layers of 16,") && about.contains("2 rank(s)"),
        "{about}"
    );
    assert!(all["link"]["bytes_per_second"].as_f64().is_some_and(|speed| speed > 0.0), "{all}");
    let seconds = |row: usize| all["predictions"][row]["step"]["seconds"].as_f64().expect("time");
    assert!(seconds(4) > seconds(0) && seconds(0) > 0.0, "{all}");
}

#[test]
fn what_cannot_be_measured_is_told() {
    let folder = folder();
    let fails = |change: fn(&mut Value)| {
        let mut config = configuration();
        change(&mut config);
        write(folder.path(), "run.json", &config.to_string());
        let ran = trainyard(folder.path(), &["plan", "--measure", "run.json", "--seconds", "0"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
        ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = fails(|config| config["gradient_accumulation_steps"] = json!(2));
    assert!(said.contains("a step of 2 micro-batches cannot be measured"), "{said}");
    let said = fails(|config| config["data"]["sequence_length"] = json!(32));
    assert!(said.contains("more than model.max_positions = 16"), "{said}");
}
