//! Training on a CUDA device, against the same on the processor.
//!
//! Most machines have no such device, so these are ignored unless asked for: `scripts/gpu-check` asks.
//! Without a device they fail; none passes by doing nothing.
use crate::operations::{self, surprises};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use tch::nn::{Path, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::script::{Repeats, Script};
use trainyard::{Layers, Loss, Report};
use trainyard_models::{Bert, BertConfig};
use trainyard_native::{ProcessGroup, Reduction, Store, count_waits, load_cuda};
use trainyard_tests::{Inputs, Made, Small, plan, registry};

const OPTIMIZERS: [&str; 6] = ["AdamW", "Lamb", "SGD", "Lion", "Adagrad", "Muon"];

/// Steps of a comparison.
const STEPS: u64 = 10;

/// How far the weights of the two may be apart after them, as a part of the way they have gone: the
/// devices sum in other orders. Also for losses; for norms ten times as much.
const APART: f64 = 1e-4;

/// The same for the weights under an optimizer. Lion makes a whole step of a momentum next to 0 whichever
/// sign rounding gives it, and one such weight in a million steps is 5e-4 of the way.
fn weights_apart(optimizer: &str) -> f64 {
    if optimizer == "Lion" { 5e-3 } else { APART }
}

/// The device.
///
/// # Panics
/// If there is none, saying why.
fn cuda() -> Device {
    load_cuda().unwrap_or_else(|why| panic!("no CUDA device to test on: {why}"));
    Device::Cuda(0)
}

/// All that bears on the arithmetic of a step: layer dropping, clipping, decay, groups. `more`: sections
/// with a comma behind each.
fn config(optimizer: &str, more: &str) -> String {
    // Where the true gradient is 0, as for the bias of an attention's keys, these would make a step of the
    // rounding, but for `eps`. Lion has none: it leaves those biases alone.
    let (params, group) = match optimizer {
        "AdamW" | "Lamb" | "Adagrad" => (r#", "eps": 1e-4"#, ""),
        "Muon" => (r#", "eps": 1e-4, "ns_dtype": "fp32""#, ""),
        "Lion" => ("", r#"{ "match": ["bias"], "lr": 0 }, "#),
        _ => ("", ""),
    };
    format!(
        r#"{{ "training": {{ "seed": 3 }}, {more}
              "optimizer": {{ "type": "{optimizer}", "params": {{ "lr": 0.01{params} }},
                              "groups": [{group}{{ "match": ["*weight"], "weight_decay": 0.1 }}] }},
              "gradient_clipping": 0.5,
              "progressive_layer_drop":
                  {{ "enabled": true, "schedule": "constant", "theta": 0.5, "gate": "sublayer" }} }}"#
    )
}

/// A model with its batches.
struct Task<M, B> {
    make: fn(Path, &Layers) -> M,
    batch: fn(u64) -> B,
    to: fn(&B, Device) -> B,
    loss: fn(&M, &B) -> Loss,
}

const SMALL: Task<Small, Inputs> = Task {
    make: |root, layers| Small::new(root, layers, 4, 0.0),
    batch: |step| Small::inputs(4, step as i64 * 24),
    to: |(x, y), device| (x.to_device(device), y.to_device(device)),
    loss: |model, batch| model.loss(batch, true),
};

/// Tokens `[batch, time]`, masked places and their tokens.
const BERT: Task<Bert, [Tensor; 3]> = Task {
    make: |root, layers| {
        let sizes = BertConfig { layers: 3, hidden: 64, vocabulary: 97, ..BertConfig::default() };
        Bert::new(root, &BertConfig { max_positions: 16, dropout: 0.0, ..sizes }, layers)
    },
    batch: |step| {
        let tokens = Tensor::arange(4 * 16, (Kind::Int64, Device::Cpu)) * 31 + step as i64 * 7;
        let tokens = tokens.remainder(97);
        let masked = Tensor::arange_start_step(2, 4 * 16, 7, (Kind::Int64, Device::Cpu));
        let labels = (tokens.index_select(0, &masked) + 1).remainder(97);
        [tokens.view([4, 16]), masked, labels]
    },
    to: |batch, device| batch.each_ref().map(|tensor| tensor.to_device(device)),
    loss: |model, [ids, masked, labels]| {
        Loss::mean(model.loss(ids, masked, labels, true), labels.size()[0] as u64)
    },
};

/// The weights before and after, on the processor, and what the steps reported.
struct Trained {
    before: BTreeMap<String, Tensor>,
    after: BTreeMap<String, Tensor>,
    reports: Vec<Report>,
}

impl<M, B> Task<M, B> {
    /// `disturbance`: by which part, at random, the weights are off at the start.
    fn train(&self, json: &str, device: Device, disturbance: f64) -> Trained {
        tch::manual_seed(1);
        let start = VarStore::new(Device::Cpu);
        (self.make)(start.root(), &Layers::new());
        tch::no_grad(|| {
            for (_, mut weight) in start.variables() {
                let off = weight.randn_like() * disturbance + 1.0;
                let _ = weight.g_mul_(&off);
            }
        });
        let (mut variables, layers) = (VarStore::new(device), Layers::new());
        let model = (self.make)(variables.root(), &layers);
        variables.copy(&start).expect("the same names");
        let plan = plan(registry(), json).unwrap_or_else(|e| panic!("{e}"));
        let mut engine = plan.engine(model, &variables, &layers).unwrap_or_else(|e| panic!("{e}"));
        let weights = |of: &VarStore| {
            let here = |(name, tensor): (String, Tensor)| {
                (name, tensor.to_device(Device::Cpu).detach().copy())
            };
            of.variables().into_iter().map(here).collect::<BTreeMap<_, _>>()
        };
        let before = weights(&variables);
        let step = |number| {
            let batch = (self.to)(&(self.batch)(number), device);
            engine.step(&[batch], self.loss).unwrap_or_else(|e| panic!("{e}"))
        };
        let reports = (0..STEPS).map(step).collect();
        Trained { before, after: weights(&variables), reports }
    }

    /// Trains on both, and holds the one against the other.
    fn compare(&self, optimizer: &str) {
        let (device, json) = (cuda(), config(optimizer, ""));
        let (there, here) = (self.train(&json, device, 0.0), self.train(&json, Device::Cpu, 0.0));
        for (a, b) in there.reports.iter().zip(&here.reports) {
            let what = format!("{optimizer}, step {}", a.step);
            assert_eq!(a.layer_calls, b.layer_calls, "{what}");
            assert_eq!(a.idle_parameters, b.idle_parameters, "{what}");
            assert!((a.loss - b.loss).abs() <= APART * b.loss, "{what}: {} {}", a.loss, b.loss);
            let (a, b) = (a.grad_norm.expect("a norm"), b.grad_norm.expect("a norm"));
            assert!((a - b).abs() <= 10.0 * APART * b, "{what}: norms {a} and {b}");
        }
        let apart = there.apart(&here);
        println!("{optimizer}: {apart:.1e} apart");
        assert!(apart <= weights_apart(optimizer), "{optimizer}: {apart} apart");
    }

    /// Trains on the processor from weights that are off by a rounding, and by a thousandth.
    fn disturb(&self, optimizer: &str) {
        let json = config(optimizer, "");
        let [plain, rounded, wrong] =
            [0.0, 6e-8, 1e-3].map(|off| self.train(&json, Device::Cpu, off));
        let (rounding, mistake) = (rounded.apart(&plain), wrong.apart(&plain));
        println!("{optimizer}: {rounding:.1e} and {mistake:.1e} apart");
        let allowed = weights_apart(optimizer);
        assert!(0.0 < rounding && rounding < allowed / 3.0, "{optimizer}: {rounding}");
        assert!(mistake > allowed, "{optimizer}: {mistake}");
    }
}

impl Trained {
    /// How far the weights of the two are apart, as a part of the way they have gone.
    fn apart(&self, other: &Trained) -> f64 {
        distance(&self.after, &other.after) / distance(&other.before, &other.after)
    }
}

/// The Euclidean distance over all weights.
fn distance(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> f64 {
    let square = |(x, y): (&Tensor, &Tensor)| {
        (x - y).to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[])
    };
    a.values().zip(b.values()).map(square).sum::<f64>().sqrt()
}

/// No device is needed to see that the tolerance lets rounding pass and mistakes not.
#[test]
fn the_tolerance_is_between_rounding_and_mistakes() {
    for optimizer in OPTIMIZERS {
        SMALL.disturb(optimizer);
        BERT.disturb(optimizer);
    }
}

/// Where there is a device, the script does its work instead.
#[test]
fn without_a_device_the_script_refuses_in_one_sentence() {
    if load_cuda().is_ok() {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/gpu-check");
    let ran = Command::new(script).arg("/nonexistent/file").output().expect("the script starts");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.starts_with("gpu-check: this machine has no CUDA device"), "{said}");
    assert_eq!((said.lines().count(), ran.stdout.len()), (1, 0), "{said}");
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn adamw_trains_as_on_the_processor() {
    SMALL.compare("AdamW");
    BERT.compare("AdamW");
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn lamb_trains_as_on_the_processor() {
    SMALL.compare("Lamb");
    BERT.compare("Lamb");
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn sgd_trains_as_on_the_processor() {
    SMALL.compare("SGD");
    BERT.compare("SGD");
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn lion_trains_as_on_the_processor() {
    SMALL.compare("Lion");
    BERT.compare("Lion");
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn adagrad_trains_as_on_the_processor() {
    SMALL.compare("Adagrad");
    BERT.compare("Adagrad");
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn muon_trains_as_on_the_processor() {
    SMALL.compare("Muon");
    BERT.compare("Muon");
}

/// Waits for the device in a step of two micro-batches, once the state is there.
fn waits(json: &str, device: Device) -> u64 {
    let (variables, layers) = (VarStore::new(device), Layers::new());
    let model = (BERT.make)(variables.root(), &layers);
    let plan = plan(registry(), json).unwrap_or_else(|e| panic!("{e}"));
    let mut engine = plan.engine(model, &variables, &layers).unwrap_or_else(|e| panic!("{e}"));
    let batches = [0, 1].map(|number| (BERT.to)(&(BERT.batch)(number), device));
    for _ in 0..3 {
        engine.step(&batches, BERT.loss).unwrap_or_else(|e| panic!("{e}"));
    }
    let (report, waits) = count_waits(|| engine.step(&batches, BERT.loss)).expect("CUDA is loaded");
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    assert!(report.loss.is_finite() && !report.skipped);
    waits
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn a_step_waits_for_the_device_once() {
    let device = cuda();
    let one = Tensor::ones([1], (Kind::Float, device));
    let (two, counted) = count_waits(|| (&one + 1.0).double_value(&[0])).expect("CUDA is loaded");
    assert_eq!((two, counted), (2.0, 1), "reading a number is a wait");
    let (_, counted) = count_waits(|| &one + 1.0).expect("CUDA is loaded");
    assert_eq!(counted, 0, "adding is none");
    for optimizer in OPTIMIZERS {
        let float32 = waits(&config(optimizer, ""), device);
        println!("{optimizer}: {float32} waits");
        assert!(float32 <= 1, "{optimizer}: {float32} waits");
        let bf16 = waits(&config(optimizer, r#""bf16": { "enabled": true },"#), device);
        println!("{optimizer} with bf16: {bf16} waits");
        assert!(bf16 <= 1, "{optimizer} with bf16: {bf16} waits");
        // The loss, and the flag that says whether the gradients overflowed.
        let fp16 = waits(
            &config(optimizer, r#""fp16": { "enabled": true, "initial_scale_power": 4 },"#),
            device,
        );
        println!("{optimizer} with fp16: {fp16} waits");
        assert!(fp16 <= 2, "{optimizer} with fp16: {fp16} waits");
    }
}

/// Half precision moves the loss by its rounding, 2^-8 for bf16, and no further.
#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn half_precision_trains_as_float32_does() {
    let device = cuda();
    let losses = |more: &str| {
        let reports = BERT.train(&config("AdamW", more), device, 0.0).reports;
        reports.iter().map(|report| report.loss).collect::<Vec<_>>()
    };
    let plain = losses("");
    assert!(plain[9] < plain[0], "it learns: {plain:?}");
    for (name, more) in [
        ("bf16", r#""bf16": { "enabled": true },"#),
        ("fp16", r#""fp16": { "enabled": true, "initial_scale_power": 8 },"#),
    ] {
        let half = losses(more);
        assert_ne!(half, plain, "{name} changes something");
        for (a, b) in half.iter().zip(&plain) {
            assert!((a - b).abs() <= 0.02 * b, "{name}: {half:?}, float32 {plain:?}");
        }
    }
}

#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn autocast_runs_each_operation_in_the_format_of_the_table() {
    assert_eq!(surprises(cuda(), operations::CUDA), [""; 0]);
}

/// A trace's numbers and devices lie in its constants; its file opens where there is no device.
#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn a_script_trains_as_on_the_processor_and_comes_back() {
    let made = Made::new("bert");
    let trained = |device: Device| {
        let plan =
            plan(registry(), r#"{ "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#)
                .unwrap();
        let (variables, layers) = (VarStore::new(device), Layers::new());
        let patterns = ["layer.*".to_owned()];
        let script =
            Script::load(&made.path(), &variables, &layers, &patterns, Repeats::Refused).unwrap();
        let mut engine = plan.engine(script, &variables, &layers).unwrap();
        let inputs: Vec<_> = made
            .inputs()
            .into_iter()
            .map(|(name, input)| (name, input.to_device(device)))
            .collect();
        let forward = |script: &Script, (): &()| {
            let outputs = script.forward(&inputs, true).unwrap();
            Loss::mean(outputs.at(0).expect("a loss").shallow_clone(), 1)
        };
        let losses: Vec<_> = (0..5).map(|_| engine.step(&[()], forward).unwrap().loss).collect();
        (losses, engine)
    };
    let (here, _) = trained(Device::Cpu);
    let (there, engine) = trained(cuda());
    for (a, b) in here.iter().zip(&there) {
        assert!((a - b).abs() <= APART * a, "{here:?} and, on CUDA, {there:?}");
    }
    let saved = made.beside("saved.pt");
    engine.model().write(&mut std::fs::File::create(&saved).unwrap()).unwrap();
    let evaluated = made.evaluated(&saved)["loss"].double_value(&[]);
    assert!(evaluated < here[4], "{evaluated} after {here:?}");
}

/// NCCL needs a device for each rank, so on one device it is one rank: that it loads, takes tensors of
/// that device alone, and gives them back.
#[test]
#[ignore = "no CUDA device here, as a rule: scripts/gpu-check runs it"]
fn nccl_loads_and_sums() {
    let device = cuda();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let soon = Duration::from_secs(30);
    let store = Store::keep(listener, soon).expect("a store");
    let group = ProcessGroup::nccl(&store, (0, 1), soon).expect("NCCL loads");
    for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
        let ones = Tensor::ones([1000], (kind, device));
        group.all_reduce(&ones, Reduction::Sum).expect("a sum").wait().expect("it ends");
        group.broadcast(&ones, 0).expect("a broadcast").wait().expect("it ends");
        assert_eq!(ones.sum(Kind::Double).double_value(&[]), 1000.0, "{kind:?}");
    }
    group.barrier().expect("a barrier").wait().expect("it ends");
    let one = Tensor::ones([1], (Kind::Float, device));
    group.all_reduce(&one, Reduction::Sum).expect("a sum").wait_on_host(soon).expect("it ends");
    let on_host = Tensor::ones([1], (Kind::Float, Device::Cpu));
    let error = group.all_reduce(&on_host, Reduction::Sum).map(drop).unwrap_err().to_string();
    assert!(error.contains("NCCL takes no tensor on Cpu"), "{error}");
}
