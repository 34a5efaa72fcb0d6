//! Many ranks train as one: each test starts processes of `rank`, with the variables that a launcher sets.
use crate::processes::{free_port, place};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tch::{Kind, Tensor};
use tempfile::TempDir;
use trainyard_tests::python;

/// A case for `rank`, and what it is called.
fn case(name: &str, shares: usize, accumulation: usize, config: Value) -> Value {
    json!({
        "name": name, "shares": shares, "steps": 20, "accumulation": accumulation, "config": config,
    })
}

/// What processes left in a folder.
struct Ran(TempDir);

impl Ran {
    /// Runs the cases on so many ranks.
    fn new(world_size: usize, cases: &[Value]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("cases.json");
        std::fs::write(&file, Value::from(cases).to_string()).expect("the cases are written");
        let port = free_port();
        let ranks: Vec<_> = (0..world_size)
            .map(|rank| start(rank, world_size, port, &file, folder.path()))
            .collect();
        for (rank, child) in ranks.into_iter().enumerate() {
            let output = child.wait_with_output().expect("it was started");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "rank {rank} of {world_size}: {said}");
        }
        Ran(folder)
    }

    fn parameters(&self, name: &str, rank: usize) -> BTreeMap<String, Tensor> {
        let path = self.0.path().join(format!("{name}.{rank}.npz"));
        Tensor::read_npz(path).expect("the rank wrote it").into_iter().collect()
    }

    /// The reports of the steps, and then the evaluation.
    fn reports(&self, name: &str, rank: usize) -> Vec<Value> {
        let path = self.0.path().join(format!("{name}.{rank}.json"));
        let text = std::fs::read_to_string(path).expect("the rank wrote it");
        serde_json::from_str(&text).expect("it is JSON")
    }
}

fn start(rank: usize, world_size: usize, port: u16, cases: &Path, folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rank"));
    command.args([cases, folder]).env("OMP_NUM_THREADS", "1").stderr(Stdio::piped());
    if world_size > 1 {
        place(&mut command, rank, world_size, ("127.0.0.1", port));
    }
    command.spawn().expect("the program of the tests")
}

/// How far two sets of parameters are apart, relative to the first, over all of them together.
fn distance(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let square = |tensor: Tensor| tensor.square().sum(Kind::Double).double_value(&[]);
    let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    let difference: f64 = a.iter().map(|(name, a)| square(wide(a) - wide(&b[name]))).sum();
    let size: f64 = a.values().map(|a| square(wide(a))).sum();
    (difference / size).sqrt()
}

fn assert_near(what: &str, a: &Value, b: &Value, tolerance: f64) {
    let (x, y) = (a.as_f64().expect("a number"), b.as_f64().expect("a number"));
    assert!((x - y).abs() <= tolerance * x.abs(), "{what}: {x} and {y}");
}

/// All ranks have the same bits and reports, and the run is that of `alone`. Returns the distance.
fn assert_as_one(alone: &Ran, together: &Ran, world_size: usize, name: &str) -> f64 {
    let (one, first) = (alone.parameters(name, 0), together.parameters(name, 0));
    for rank in 1..world_size {
        let other = together.parameters(name, rank);
        let same = first.iter().all(|(name, tensor)| tensor.equal(&other[name]));
        assert!(same, "{name}: rank {rank} differs from rank 0");
    }
    let distance = distance(&one, &first);
    assert!(distance < 1e-6, "{name}: {world_size} ranks are {distance:.2e} from one");
    let (one, first) = (alone.reports(name, 0), together.reports(name, 0));
    for (step, (a, b)) in one.iter().zip(&first).enumerate() {
        let what = format!("{name}, step {step}");
        for key in ["count", "idle_parameters", "skipped", "loss_scale"] {
            assert_eq!(a[key], b[key], "{what}: {key}");
        }
        let loss = if a.get("loss").is_some() { "loss" } else { "evaluation" };
        assert_near(&format!("{what}: {loss}"), &a[loss], &b[loss], 1e-5);
        if let Some(norm) = a.get("grad_norm").filter(|norm| !norm.is_null()) {
            assert_near(&format!("{what}: norm"), norm, &b["grad_norm"], 1e-5);
        }
    }
    for rank in 1..world_size {
        let other = together.reports(name, rank);
        for (step, (a, b)) in first.iter().zip(&other).enumerate() {
            for key in ["loss", "count", "grad_norm", "idle_parameters", "skipped", "bytes_sent"] {
                assert_eq!(a.get(key), b.get(key), "{name}, step {step}, rank {rank}: {key}");
            }
        }
    }
    distance
}

fn optimizers() -> [(&'static str, Value); 3] {
    [
        ("sgd", json!({"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9}})),
        // The true gradient of a key's bias is 0: a small eps would blow up its rounding errors.
        ("adamw", json!({"type": "AdamW", "params": {"lr": 1e-3, "eps": 1e-4}})),
        ("lamb", json!({"type": "Lamb", "params": {"lr": 1e-2}})),
    ]
}

fn dropping(ranks: &str) -> Value {
    json!({"enabled": true, "schedule": "constant", "theta": 0.5, "ranks": ranks})
}

/// Optimizers, accumulation, dropping off and on with shared gates; a different number of masked tokens on
/// each rank, and none at all on one of them in one step.
fn cases(shares: usize) -> Vec<Value> {
    let mut cases = Vec::new();
    for (optimizer, section) in optimizers() {
        for accumulation in [1, 3] {
            for dropped in [false, true] {
                let mut config = json!({"optimizer": section, "gradient_clipping": 1.0});
                if dropped {
                    config["progressive_layer_drop"] = dropping("shared");
                }
                let name = format!("{optimizer}-{accumulation}-{dropped}");
                cases.push(case(&name, shares, accumulation, config));
            }
        }
    }
    cases
}

fn names(cases: &[Value]) -> impl Iterator<Item = &str> {
    cases.iter().map(|case| case["name"].as_str().expect("a case has a name"))
}

#[test]
fn two_ranks_train_as_one() {
    let cases = cases(2);
    let (alone, together) = (Ran::new(1, &cases), Ran::new(2, &cases));
    for name in names(&cases) {
        let distance = assert_as_one(&alone, &together, 2, name);
        println!("{name}: {distance:.2e}");
    }
}

#[test]
fn three_ranks_train_as_one() {
    let cases: Vec<_> = cases(3).into_iter().skip(5).step_by(2).collect();
    let (alone, together) = (Ran::new(1, &cases), Ran::new(3, &cases));
    names(&cases).for_each(|name| {
        assert_as_one(&alone, &together, 3, name);
    });
}

/// Buckets of every size, and DeepSpeed's three calls, are the same training.
#[test]
fn buckets_and_calls_change_nothing() {
    let config = |size: u64| {
        let mut config = json!({
            "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
            "progressive_layer_drop": dropping("shared"),
        });
        config["distributed"] = json!({"reduce_bucket_size": size});
        config
    };
    let mut calls = case("calls", 2, 3, config(20_000));
    calls["three_calls"] = json!(true);
    let with_sizes = |mut calls: Value, micro_batch: u64| {
        calls["config"]["train_micro_batch_size_per_gpu"] = json!(micro_batch);
        calls["config"]["gradient_accumulation_steps"] = json!(3);
        calls
    };
    let sizes = [("small", 1), ("block", 20_000), ("all", 1_000_000_000)];
    let cases: Vec<_> = sizes.map(|(name, size)| case(name, 2, 3, config(size))).into();
    let alone = Ran::new(1, &[cases.clone(), vec![with_sizes(calls.clone(), 4)]].concat());
    let together = Ran::new(2, &[cases.clone(), vec![with_sizes(calls, 2)]].concat());
    let first = together.parameters("small", 0);
    for name in ["small", "block", "all", "calls"] {
        assert_as_one(&alone, &together, 2, name);
        let found = together.parameters(name, 0);
        assert!(first.iter().all(|(key, tensor)| tensor.equal(&found[key])), "{name}");
    }
}

/// A block that one rank leaves out and another runs: where it is left out, its gradients count as zero.
#[test]
fn a_rank_that_leaves_a_block_out_contributes_zeros() {
    let section = json!({"type": "SGD", "params": {"lr": 0.1}});
    let config = json!({"optimizer": section, "drop_by_share": true});
    let mut case = case("uneven", 2, 1, config);
    case["shares_are_micro_batches"] = json!(true);
    let cases = [case];
    assert_as_one(&Ran::new(1, &cases), &Ran::new(2, &cases), 2, "uneven");
}

/// What nobody ran is not sent; what was sent is counted to the byte.
#[test]
fn shared_gates_send_less() {
    let mut config = json!({"optimizer": {"type": "SGD", "params": {"lr": 0.1}}});
    let off = case("off", 2, 1, config.clone());
    config["progressive_layer_drop"] = dropping("shared");
    let on = case("on", 2, 1, config.clone());
    config["communication_data_type"] = json!("bf16");
    let half = case("half", 2, 1, config);
    let ran = Ran::new(2, &[off, on, half]);
    let sizes: BTreeMap<_, _> =
        ran.parameters("off", 0).into_iter().map(|(name, t)| (name, t.numel() as u64)).collect();
    let all: u64 = sizes.values().sum();
    let block = |i: usize| -> u64 {
        let prefix = format!("layers.{i}.");
        sizes.iter().filter(|(name, _)| name.starts_with(&prefix)).map(|(_, n)| n).sum()
    };
    assert!((1..4).all(|i| block(i) == block(0)) && block(0) > 0);
    let mut saved = 0;
    for step in 0..20 {
        let report = |name| ran.reports(name, 0).swap_remove(step);
        let bytes = |name| report(name)["bytes_sent"].as_u64().expect("a number");
        assert_eq!(bytes("off"), 4 * all);
        // Two layer calls a block.
        let left_out = 4 - report("on")["layer_calls_run"].as_u64().expect("a number") / 2;
        assert_eq!(bytes("on"), 4 * (all - left_out * block(0)), "step {step}");
        assert_eq!(bytes("half"), bytes("on") / 2);
        saved += left_out;
    }
    assert!(saved > 10, "{saved} of 80 blocks were dropped");
}

/// Gates that differ from rank to rank: nobody hangs, and all ranks stay the same to the bit.
#[test]
fn gates_of_their_own() {
    let config = |ranks: &str, idle: &str| {
        let mut section = dropping(ranks);
        section["idle"] = json!(idle);
        json!({
            "optimizer": {"type": "Lamb", "params": {"lr": 1e-2}},
            "gradient_clipping": 1.0,
            "progressive_layer_drop": section,
        })
    };
    let mut cases = Vec::new();
    for ranks in ["balanced", "independent"] {
        for idle in ["skip", "decay"] {
            cases.push(case(&format!("{ranks}-{idle}"), 3, 2, config(ranks, idle)));
        }
    }
    let ran = Ran::new(3, &cases);
    let mut different = 0;
    for name in names(&cases) {
        let first = ran.parameters(name, 0);
        for rank in 1..3 {
            let other = ran.parameters(name, rank);
            assert!(first.iter().all(|(key, t)| t.equal(&other[key])), "{name}, rank {rank}");
            for (a, b) in ran.reports(name, 0).iter().zip(&ran.reports(name, rank)) {
                assert_eq!(a.get("loss"), b.get("loss"));
                assert_eq!(a.get("idle_parameters"), b.get("idle_parameters"));
                let run = |report: &Value| report.get("layer_calls_run").cloned();
                if name.starts_with("balanced") {
                    assert_eq!(run(a), run(b), "balanced ranks run the same number of layers");
                }
                different += u32::from(run(a) != run(b));
            }
        }
    }
    assert!(different > 20, "independent ranks drew the same {different}");
}

/// One rank's gradients overflow: all skip the step, and all lower the scale.
#[test]
fn all_ranks_agree_on_an_overflow() {
    let config = json!({
        "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
        "fp16": {"enabled": true, "initial_scale_power": 8, "hysteresis": 1},
    });
    let mut case = case("overflow", 2, 1, config);
    case["overflow_at"] = json!(3);
    case["steps"] = json!(6);
    let ran = Ran::new(2, &[case]);
    for rank in 0..2 {
        let reports = ran.reports("overflow", rank);
        let scales: Vec<_> =
            reports[..6].iter().map(|r| r["loss_scale"].as_f64().expect("a number")).collect();
        let skipped: Vec<_> = reports[..6].iter().map(|r| r["skipped"] == true).collect();
        assert_eq!(scales, [256.0, 256.0, 256.0, 256.0, 128.0, 128.0], "rank {rank}");
        assert_eq!(skipped, [false, false, false, true, false, false], "rank {rank}");
    }
    let (first, second) = (ran.parameters("overflow", 0), ran.parameters("overflow", 1));
    assert!(first.iter().all(|(name, tensor)| tensor.equal(&second[name])));
}

/// A sum of gradients in float16 may overflow where no rank's own do, and without a loss scale.
#[test]
fn a_sum_that_overflows_skips_the_step_everywhere() {
    let config = json!({
        "optimizer": {"type": "SGD", "params": {"lr": 0.1}}, "communication_data_type": "fp16",
    });
    let mut case = case("overflow", 2, 1, config);
    (case["overflow_at"], case["steps"]) = (json!(1), json!(3));
    let ran = Ran::new(2, &[case]);
    for rank in 0..2 {
        let reports = ran.reports("overflow", rank);
        let skipped: Vec<_> = reports[..3].iter().map(|r| r["skipped"] == true).collect();
        assert_eq!(skipped, [false, true, false], "rank {rank}");
        assert!(reports[1]["loss"].as_f64().is_some_and(f64::is_finite), "{}", reports[1]);
    }
}

/// Each rank's own while it trains, and rank 0's once they evaluate together.
#[test]
fn an_evaluation_is_of_rank_0s_statistics() {
    let mut case = case("statistics", 2, 1, json!({"optimizer": {"type": "SGD"}}));
    (case["statistics"], case["steps"]) = (json!(true), json!(3));
    let ran = Ran::new(2, &[case]);
    for rank in 0..2 {
        assert_eq!(ran.parameters("statistics", rank)["statistics"].double_value(&[0]), 3.0);
    }
}

/// Half the bytes on the wire, and nearly the same training, whatever is divided before and after.
#[test]
fn gradients_may_travel_in_half() {
    let mut cases = vec![case("full", 2, 1, json!({}))];
    for (name, more) in [
        ("bf16", json!({"communication_data_type": "bf16"})),
        ("fp16", json!({"communication_data_type": "fp16"})),
        ("pre", json!({"communication_data_type": "fp16", "prescale_gradients": true})),
        ("split", json!({"communication_data_type": "fp32", "gradient_predivide_factor": 4})),
    ] {
        cases.push(case(name, 2, 1, more));
    }
    for case in &mut cases {
        case["config"]["optimizer"] = json!({"type": "SGD", "params": {"lr": 0.1}});
    }
    let ran = Ran::new(2, &cases);
    let full = ran.parameters("full", 0);
    for (name, least, most) in
        [("bf16", 1e-7, 1e-3), ("fp16", 1e-8, 1e-4), ("pre", 1e-8, 1e-4), ("split", 0.0, 1e-7)]
    {
        let distance = distance(&full, &ran.parameters(name, 0));
        assert!((least..most).contains(&distance), "{name}: {distance:.2e}");
    }
}

/// The same BERT, weights and batches under PyTorch's DistributedDataParallel, on as many ranks. It counts
/// every rank alike, so all have the same number of masked tokens.
#[test]
fn as_distributed_data_parallel() {
    let optimizer =
        json!({"type": "AdamW", "params": {"lr": 1e-3, "eps": 1e-4, "weight_decay": 0.01}});
    let mut case = case("ddp", 2, 1, json!({"optimizer": optimizer}));
    (case["even"], case["record"]) = (json!(true), json!(true));
    let ran = Ran::new(2, &[case]);
    let mut given = BTreeMap::new();
    for rank in 0..2 {
        let path = ran.0.path().join(format!("ddp.{rank}.given.npz"));
        given.extend(Tensor::read_npz(path).expect("the rank wrote it"));
    }
    let weight = |(name, tensor): (&String, &Tensor)| {
        Some((name.strip_prefix("weights/")?.to_owned(), tensor.shallow_clone()))
    };
    let begun = given.iter().filter_map(weight).collect();
    let theirs = python("ddp.py", &given.into_iter().collect::<Vec<_>>());
    let losses = Vec::<f64>::try_from(&theirs["losses"]).expect("float64");
    assert_eq!(losses.len(), 20);
    for (step, (theirs, ours)) in losses.iter().zip(ran.reports("ddp", 0)).enumerate() {
        assert_near(&format!("step {step}"), &json!(theirs), &ours["loss"], 1e-5);
    }
    let ours = ran.parameters("ddp", 0);
    let theirs = ours.keys().map(|name| (name.clone(), theirs[name].shallow_clone())).collect();
    let (apart, moved) = (distance(&theirs, &ours), distance(&begun, &ours));
    assert!(apart < 1e-5 && moved > 1e-2, "{apart:.2e} apart, {moved:.2e} from the start");
}
