//! Every layout and kind of tensor trains as the plain one does, with every optimizer, on one rank and on two.
use crate::processes::{free_port, place};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use trainyard::{Engine, Layers};
use trainyard_tests::unusual::{Layout, Unusual};
use trainyard_tests::{Made, plan, registry};

const OPTIMIZERS: [(&str, &str); 6] = [
    ("adam", r#"{"type": "AdamW", "params": {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-4}}"#),
    ("lamb", r#"{"type": "Lamb", "params": {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-4}}"#),
    ("sgd", r#"{"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9, "nesterov": true}}"#),
    // The sign of a gradient near 0 hangs on its rounding errors.
    ("lion", r#"{"type": "Lion", "params": {"lr": 1e-7, "weight_decay": 0.1}}"#),
    ("adagrad", r#"{"type": "Adagrad", "params": {"lr": 0.05, "eps": 1e-4}}"#),
    (
        "muon",
        r#"{"type": "Muon", "params": {"muon_lr": 0.02, "adam_lr": 0.01, "eps": 1e-4, "ns_dtype": "fp32"}}"#,
    ),
];

const VARIANTS: [(&str, &str); 4] = [
    ("plain", ""),
    ("clipped", r#", "gradient_clipping": 0.05"#),
    ("bf16", r#", "bf16": {"enabled": true}"#),
    ("fp16", r#", "fp16": {"enabled": true, "initial_scale_power": 8}"#),
];

fn engine(json: &str, what: (Layout, Kind), sparse: bool) -> Engine<Unusual> {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let model = Unusual::new(&variables.root(), 1, what, sparse);
    plan(registry(), json).unwrap().engine(model, &variables, &layers).unwrap()
}

/// Two micro-batches of different counts in each step.
fn train(engine: &mut Engine<Unusual>, steps: std::ops::Range<i64>, kind: Kind) {
    for step in steps {
        let batches = [Unusual::samples(3, step, kind), Unusual::samples(5, step + 50, kind)];
        engine.step(&batches, |model, samples| model.loss(samples, true)).unwrap();
    }
}

fn parameters(engine: &Engine<Unusual>) -> BTreeMap<String, Tensor> {
    engine
        .parameters()
        .map(|(name, t)| (name.to_owned(), t.detach().to_kind(Kind::Double)))
        .collect()
}

/// The largest difference between two sets of tensors of the same names.
fn apart(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let largest = |(name, a): (&String, &Tensor)| match a.numel() {
        0 => 0.0,
        _ => (a - &b[name]).abs().max().double_value(&[]),
    };
    a.iter().map(largest).fold(0.0, f64::max)
}

#[test]
fn every_layout_trains_as_row_major_with_every_optimizer_and_precision() {
    for (optimizer, section) in OPTIMIZERS {
        for (variant, more) in VARIANTS {
            let json = format!(r#"{{ "optimizer": {section}{more} }}"#);
            let run = |layout| {
                let mut engine = engine(&json, (layout, Kind::Float), false);
                let start = parameters(&engine);
                train(&mut engine, 0..6, Kind::Float);
                (start, engine)
            };
            let (start, plain) = run(Layout::RowMajor);
            assert!(
                apart(&start, &parameters(&plain)) > 1e-8,
                "{optimizer} {variant}: nothing moved"
            );
            for layout in &Layout::ALL[1..] {
                let (_, other) = run(*layout);
                let apart = apart(&parameters(&plain), &parameters(&other));
                assert!(apart < 1e-6, "{layout:?} {optimizer} {variant}: {apart:e}");
            }
        }
    }
}

/// A state knows nothing of layouts: it goes from any to any other, and on from there.
#[test]
fn a_state_loads_into_every_layout() {
    for (optimizer, section) in OPTIMIZERS {
        let json = format!(r#"{{ "optimizer": {section} }}"#);
        let mut straight = engine(&json, (Layout::RowMajor, Kind::Float), false);
        train(&mut straight, 0..6, Kind::Float);
        for from in Layout::ALL {
            let mut first = engine(&json, (from, Kind::Float), false);
            train(&mut first, 0..3, Kind::Float);
            let saved = first.state();
            for into in Layout::ALL {
                let mut second = engine(&json, (into, Kind::Float), false);
                train(&mut second, 7..9, Kind::Float);
                second.load_state(&saved).unwrap();
                assert_eq!(apart(&parameters(&first), &parameters(&second)), 0.0);
                train(&mut second, 3..6, Kind::Float);
                let apart = apart(&parameters(&straight), &parameters(&second));
                assert!(apart < 1e-6, "{optimizer}, {from:?} into {into:?}: {apart:e}");
            }
        }
    }
}

/// Parameters, slots and gradients in float64, which float32 is near to; both in one model.
#[test]
fn float64_trains_in_float64_with_every_optimizer() {
    for (optimizer, section) in OPTIMIZERS {
        for (variant, more) in &VARIANTS[..2] {
            let json = format!(r#"{{ "optimizer": {section}{more} }}"#);
            let run = |layout, kind| {
                let mut engine = engine(&json, (layout, kind), false);
                train(&mut engine, 0..6, kind);
                engine
            };
            let (short, long) =
                (run(Layout::RowMajor, Kind::Float), run(Layout::RowMajor, Kind::Double));
            let turned = run(Layout::TurnedGaps, Kind::Double);
            let (near, nearer) = (
                apart(&parameters(&short), &parameters(&long)),
                apart(&parameters(&long), &parameters(&turned)),
            );
            // Muon makes its matrices orthogonal in float32.
            let most = if optimizer == "muon" { 1e-6 } else { 1e-14 };
            assert!(near < 1e-5 && nearer < most, "{optimizer} {variant}: {near:e} {nearer:e}");
            assert!(near > 1e-10 || optimizer == "lion", "{optimizer} {variant}: {near:e}");
            let state = long.state();
            let tensors = state.optimizer.values().flat_map(|(_, slots)| slots.values());
            let mut all = state.model.values().chain(tensors);
            assert!(all.all(|tensor| tensor.kind() == Kind::Double), "{optimizer} {variant}");
        }
    }
}

#[test]
fn float32_and_float64_share_a_group() {
    for (optimizer, section) in OPTIMIZERS {
        let json = format!(r#"{{ "optimizer": {section}, "gradient_clipping": 0.05 }}"#);
        let run = |kinds: [Kind; 2]| {
            let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
            let weight = |name: &str, kind| {
                let values = Tensor::from_slice(&[0.5, -1.0, 2.0, 0.25]).view([2, 2]);
                variables.root().add(name, values.to_kind(kind), true)
            };
            let model = [weight("a", kinds[0]), weight("b", kinds[1])];
            let mut engine =
                plan(registry(), &json).unwrap().engine(model, &variables, &layers).unwrap();
            for _ in 0..3 {
                let loss = |[a, b]: &[Tensor; 2], (): &()| {
                    let squares =
                        a.to_kind(Kind::Double).square() * b.to_kind(Kind::Double).square();
                    trainyard::Loss::mean(squares.sum(Kind::Double), 1)
                };
                engine.step(&[()], loss).unwrap();
            }
            engine
                .parameters()
                .map(|(n, t)| (n.to_owned(), t.detach().to_kind(Kind::Double)))
                .collect()
        };
        let (one, both) = (run([Kind::Double; 2]), run([Kind::Float, Kind::Double]));
        let apart = apart(&one, &both);
        assert!(apart < 1e-6 && apart > 0.0, "{optimizer}: {apart:e}");
    }
}

/// A sparse gradient is made dense, whatever the parameter's layout: the training is that of a dense one, to the bit.
#[test]
fn sparse_gradients_train_as_dense_ones() {
    for (optimizer, section) in OPTIMIZERS {
        for (variant, more) in VARIANTS {
            for layout in [Layout::RowMajor, Layout::Turned, Layout::Gaps] {
                let json = format!(r#"{{ "optimizer": {section}{more} }}"#);
                let run = |sparse| {
                    let mut engine = engine(&json, (layout, Kind::Float), sparse);
                    train(&mut engine, 0..4, Kind::Float);
                    parameters(&engine)
                };
                let apart = apart(&run(false), &run(true));
                assert!(apart < 1e-6, "{optimizer} {variant} {layout:?}: {apart:e}");
            }
        }
    }
}

/// What processes left in a folder.
struct Ran(TempDir);

impl Ran {
    fn new(world_size: usize, cases: &[Value]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("cases.json");
        std::fs::write(&file, Value::from(cases).to_string()).expect("the cases are written");
        let port = free_port();
        let start = |rank| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_unusual"));
            command
                .args([file.as_path(), folder.path()])
                .env("OMP_NUM_THREADS", "1")
                .stderr(Stdio::piped());
            if world_size > 1 {
                place(&mut command, rank, world_size, ("127.0.0.1", port));
            }
            command.spawn().expect("the program of the tests")
        };
        let ranks: Vec<_> = (0..world_size).map(start).collect();
        for (rank, child) in ranks.into_iter().enumerate() {
            let output = child.wait_with_output().expect("it was started");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "rank {rank} of {world_size}: {said}");
        }
        Ran(folder)
    }

    fn path(&self, name: &str, rank: usize, end: &str) -> std::path::PathBuf {
        self.0.path().join(format!("{name}.{rank}.{end}"))
    }

    fn tensors(&self, name: &str, rank: usize) -> BTreeMap<String, Tensor> {
        let found = Tensor::read_npz(self.path(name, rank, "npz"));
        found.expect("the rank wrote it").into_iter().collect()
    }

    fn reports(&self, name: &str, rank: usize) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.path(name, rank, "json")).expect("the rank wrote it");
        serde_json::from_str(&text).expect("it is JSON")
    }
}

fn section(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Trains the cases on one rank and on two, which have to be the same: parameters and reports.
fn one_rank_and_two(cases: &[Value]) -> [Ran; 2] {
    let [alone, together] = [1, 2].map(|world_size| Ran::new(world_size, cases));
    for case in cases {
        let name = case["name"].as_str().expect("a case has a name");
        let [first, second] = [0, 1].map(|rank| together.tensors(name, rank));
        assert_eq!(apart(&first, &second), 0.0, "{name}: the ranks differ");
        let apart = apart(&alone.tensors(name, 0), &first);
        assert!(apart < 1e-6, "{name}: two ranks are {apart:e} from one");
        let [one, two] = [alone.reports(name, 0), together.reports(name, 0)];
        assert_eq!(two, together.reports(name, 1), "{name}");
        for (one, two) in one.iter().zip(&two) {
            for key in ["count", "skipped", "skip_reason", "step"] {
                assert_eq!(one[key], two[key], "{name}: {key}");
            }
        }
    }
    [alone, together]
}

#[test]
fn every_layout_and_kind_trains_on_two_ranks_as_on_one() {
    let mut cases = Vec::new();
    for (optimizer, text) in OPTIMIZERS {
        for layout in Layout::ALL {
            for double in [false, true] {
                let name = format!("{optimizer}-{}-{double}", layout.name());
                let config = json!({ "optimizer": section(text), "distributed": { "reduce_bucket_size": 40 } });
                cases.push(json!({ "name": name, "layout": layout.name(), "double": double, "config": config }));
            }
        }
    }
    for (name, sparse) in [("sparse", true), ("dense", false)] {
        let config = json!({ "optimizer": section(OPTIMIZERS[0].1) });
        cases.push(json!({ "name": name, "sparse": sparse, "layout": "turned", "config": config }));
    }
    let [_, together] = one_rank_and_two(&cases);
    assert!(apart(&together.tensors("dense", 0), &together.tensors("sparse", 0)) < 1e-6);
}

/// All ranks have rank 0's, whatever kind it is and however it lies; rank 1 began with others.
#[test]
fn buffers_of_every_kind_are_shared() {
    let config = json!({ "optimizer": section(OPTIMIZERS[2].1) });
    let [alone, together] =
        one_rank_and_two(&[json!({ "name": "b", "buffers": true, "config": config })]);
    let found = together.tensors("b", 1);
    assert!(
        ["repeated", "one", "complex", "int16", "flags", "half"]
            .iter()
            .all(|name| found.contains_key(*name))
    );
    assert_eq!(
        apart(&alone.tensors("b", 0), &found).min(1e-6),
        apart(&alone.tensors("b", 0), &found)
    );
}

/// Nothing is counted by one rank, by the other, by both in the same step; and in an evaluation.
#[test]
fn ranks_that_count_nothing_train_as_one() {
    let mut cases = Vec::new();
    for (name, uncounted) in [
        ("none", json!([])),
        ("first", json!([[1, 0]])),
        ("second", json!([[1, 1]])),
        ("both", json!([[1, 0], [1, 1]])),
        ("all", json!([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]])),
    ] {
        for (optimizer, text) in OPTIMIZERS {
            let config = json!({ "optimizer": section(text), "gradient_clipping": 1.0 });
            cases.push(json!({ "name": format!("{name}-{optimizer}"), "uncounted": uncounted, "config": config }));
        }
    }
    let [alone, together] = one_rank_and_two(&cases);
    for (optimizer, _) in OPTIMIZERS {
        let skipped = |name: &str| -> Vec<_> {
            let reports = together.reports(&format!("{name}-{optimizer}"), 1);
            reports[..4]
                .iter()
                .map(|report| (report["skipped"] == true, report["step"].clone()))
                .collect()
        };
        let steps = |skipped: [bool; 4]| -> Vec<_> {
            skipped.into_iter().zip([0, 1, 2, 3].map(Value::from)).collect()
        };
        assert_eq!(skipped("first"), steps([false; 4]));
        assert_eq!(skipped("both"), steps([false, true, false, false]));
        assert_eq!(skipped("all"), steps([true; 4]));
        let last = together.reports(&format!("all-{optimizer}"), 0).pop().expect("an evaluation");
        assert_eq!(last, json!({ "evaluation": null, "count": 0 }));
    }
    let moved = |name: &str| apart(&alone.tensors("all-sgd", 0), &alone.tensors(name, 0));
    assert!(moved("none-sgd") > 1e-3);
    assert_eq!(moved("all-lamb"), 0.0, "no optimizer moves what had nothing to learn from");
}

/// What a forward assigned on rank 0 is what all ranks evaluate with.
#[test]
fn ranks_evaluate_with_what_rank_0_assigned() {
    let made = Made::new("averaged");
    let config = json!({ "optimizer": section(OPTIMIZERS[2].1) });
    let ran = Ran::new(2, &[json!({ "name": "a", "script": made.path(), "config": config })]);
    let [first, second] = [0, 1].map(|rank| ran.tensors("a", rank));
    assert_eq!(apart(&first, &second), 0.0);
    assert_eq!(first["seen"].double_value(&[]), 8.0, "two micro-batches in each of four steps");
    // Rank 1's images are twice rank 0's, so its mean was another.
    let mean = made.tensors["input/images"].mean(Kind::Double).double_value(&[]);
    let expected = mean * (1.0 - 0.9f64.powi(8));
    let found = first["mean"].double_value(&[]);
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    let _: &Path = ran.0.path();
}
