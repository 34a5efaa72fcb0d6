//! Agreement with PyTorch, run live.
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::{Engine, Layers, Loss};
use trainyard_models::{BertConfig, Norm, bert::Bert};
use trainyard_tests::{plan, python, registry};

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

fn named(
    prefix: &str,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)).collect()
}

/// Loss and gradients of our BERT against PyTorch's, with gates drawn by progressive layer dropping or
/// without.
fn compare(order: Norm, pld: bool) {
    let c = BertConfig {
        layers: 4,
        hidden: 32,
        heads: 4,
        vocabulary: 90,
        max_positions: 20,
        dropout: 0.0,
        norm: order,
        ..Default::default()
    };
    tch::manual_seed(5);
    let store = VarStore::new(Device::Cpu);
    let layers = Layers::new();
    let model = Bert::new(store.root(), &c, &layers);
    // BERT's initialisation leaves the scores nearly flat: larger weights make the test sharper.
    tch::no_grad(|| {
        for (_, mut tensor) in store.variables() {
            let noise = tensor.randn_like() * 0.1;
            let _ = tensor.g_add_(&noise);
        }
    });
    let ids = Tensor::randint(90, [3, 16], (Kind::Int64, Device::Cpu));
    let masked = Tensor::from_slice(&[0i64, 7, 20, 33, 47]);
    let labels = Tensor::from_slice(&[5i64, 80, 2, 41, 9]);
    let json = format!(
        r#"{{ "training": {{ "seed": 11 }}, "optimizer": {{ "type": "SGD", "params": {{ "lr": 0.0 }} }},
             "progressive_layer_drop":
                 {{ "enabled": {pld}, "schedule": "constant", "theta": 0.4, "gate": "sublayer" }} }}"#
    );
    let mut engine: Engine<Bert> =
        plan(registry(), &json).unwrap().engine(model, &store, &layers).unwrap();
    let report =
        engine.step(&[()], |m, ()| Loss::mean(m.loss(&ids, &masked, &labels, true), 5)).unwrap();

    let grads: Vec<_> = engine.parameters().map(|(n, t)| (n.to_owned(), t.grad())).collect();
    let scales = scales(&grads, pld);
    let mut inputs =
        named("weights/", engine.parameters().map(|(n, t)| (n.to_owned(), t.detach())));
    inputs.extend([
        ("ids".to_owned(), ids),
        ("masked".to_owned(), masked),
        ("labels".to_owned(), labels),
        ("scales".to_owned(), Tensor::from_slice(&scales)),
        ("heads".to_owned(), Tensor::from(4i64)),
        ("post".to_owned(), Tensor::from(i64::from(order == Norm::Post))),
    ]);
    let made = python("bert.py", &inputs);

    let loss = made["loss"].double_value(&[]);
    assert!((report.loss - loss).abs() <= 1e-6 * loss, "loss {} and {loss}", report.loss);
    let (mut difference, mut whole) = (0.0, 0.0);
    for (name, ours) in &grads {
        let Some(theirs) = made.get(name) else {
            assert!(!ours.defined(), "{name} has a gradient here and none in PyTorch");
            continue;
        };
        assert!(ours.defined(), "{name} has no gradient here and one in PyTorch");
        let (apart, size) = (norm(&(ours - theirs)), norm(theirs));
        // The true gradient of a key's bias is 0: there only the absolute size means anything.
        assert!(apart <= 1e-5 * size + 1e-7, "{name}: {apart} apart, of {size}");
        difference += apart * apart;
        whole += size * size;
    }
    let relative = (difference / whole).sqrt();
    assert!(relative <= 1e-5, "all gradients together: {relative}");
}

/// The factor on each branch, told from the gradients: what was dropped has none.
fn scales(grads: &[(String, Tensor)], pld: bool) -> Vec<f32> {
    let ran = |i: usize, branch: &str| {
        let name = format!("layers.{i}.{branch}.weight");
        grads.iter().any(|(n, t)| *n == name && t.defined())
    };
    let scale = |i: usize, branch: &str| match (pld, ran(i, branch)) {
        (_, false) => 0.0,
        (false, true) => 1.0,
        // Keep probability of block i of 4 at theta 0.4.
        (true, true) => (1.0 / (1.0 - (i + 1) as f64 / 4.0 * 0.6)) as f32,
    };
    let scales: Vec<_> =
        (0..4).flat_map(|i| [scale(i, "attention.output"), scale(i, "down")]).collect();
    let closed = scales.iter().filter(|s| **s == 0.0).count();
    assert_eq!(pld, closed > 0, "the seed must draw some gates closed, {closed} are");
    scales
}

#[test]
fn bert_agrees_with_pytorch() {
    compare(Norm::Pre, false);
    compare(Norm::Post, false);
}

#[test]
fn bert_with_gates_agrees_with_pytorch_with_branches_left_out_and_scaled() {
    compare(Norm::Pre, true);
    compare(Norm::Post, true);
}

/// Fifty steps on shapes from a scalar to a matrix, some gradients missing now and then. Lion and Muon in
/// float32 against float64.
#[test]
fn optimizers_agree_with_pytorch() {
    const STEPS: i64 = 50;
    let configs = [
        ("lamb", r#""Lamb", "params": { "lr": 1e-2, "eps": 1e-6, "weight_decay": 0.01 }"#),
        (
            "adamw",
            r#""AdamW", "params": { "lr": 1e-2, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1 }"#,
        ),
        (
            "adam_l2",
            r#""Adam", "params": { "lr": 1e-2, "weight_decay": 0.05, "adam_w_mode": false }"#,
        ),
        ("sgd", r#""SGD", "params": { "lr": 1e-1, "weight_decay": 0.01 }"#),
        ("momentum", r#""SGD", "params": { "lr": 1e-1, "momentum": 0.9, "weight_decay": 0.01 }"#),
        ("nesterov", r#""SGD", "params": { "lr": 1e-1, "momentum": 0.9, "nesterov": true }"#),
        ("lion", r#""Lion", "params": { "lr": 1e-2, "betas": [0.9, 0.99], "weight_decay": 0.1 }"#),
        ("adagrad", r#""Adagrad", "params": { "lr": 1e-1 }"#),
        (
            "adagrad_all",
            r#""Adagrad", "params": { "lr": 1e-1, "lr_decay": 0.05, "weight_decay": 0.01,
                "initial_accumulator_value": 0.3, "eps": 1e-6 }"#,
        ),
        ("muon", r#""Muon", "params": { "muon_lr": 1e-2, "adam_lr": 1e-3, "weight_decay": 0.1 }"#),
        (
            "muon_fp32",
            r#""Muon", "params": { "lr": 1e-2, "weight_decay": 0.1, "momentum": 0.8, "betas": [0.8, 0.9],
                "eps": 1e-8, "ns_dtype": "fp32", "adjust_lr_fn": "match_rms_adamw" }"#,
        ),
    ];
    let shapes: [(&str, &[i64]); 6] = [
        ("a", &[]),
        ("b", &[7]),
        ("c", &[5, 3]),
        ("d", &[2, 3, 4]),
        ("e", &[16, 16]),
        ("embedding", &[4, 3]),
    ];
    let mut inputs = Vec::new();
    let mut ours = Vec::new();
    for (name, config) in configs {
        tch::manual_seed(3);
        let store = VarStore::new(Device::Cpu);
        let parameters: Vec<_> =
            shapes.map(|(p, shape)| (p, store.root().randn_standard(p, shape))).into();
        inputs.extend(
            parameters.iter().map(|(p, t)| (format!("{name}/parameter/{p}"), t.detach().copy())),
        );
        let json = format!(r#"{{ "optimizer": {{ "type": {config} }} }}"#);
        let mut engine =
            plan(registry(), &json).unwrap().engine((), &store, &Layers::new()).unwrap();
        for step in 0..STEPS {
            tch::manual_seed(1000 + step);
            let used = parameters.iter().enumerate().filter(|(i, _)| (step + *i as i64) % 5 != 1);
            let grads: Vec<_> = used.map(|(_, (p, t))| (*p, t, t.randn_like().detach())).collect();
            // The gradient of sum(g * w) is g.
            let loss = || {
                let terms: Vec<_> =
                    grads.iter().map(|(_, w, g)| (*w * g).sum(Kind::Float)).collect();
                Loss::mean(Tensor::stack(&terms, 0).sum(Kind::Float), 1)
            };
            engine.step(&[()], |(), ()| loss()).unwrap();
            inputs.extend(
                grads.iter().map(|(p, _, g)| (format!("{name}/gradient/{p}/{step}"), g.copy())),
            );
        }
        ours.extend(parameters.iter().map(|(p, t)| (format!("{name}/{p}"), t.detach())));
    }
    let theirs = python("optimizers.py", &inputs);
    assert_eq!(theirs.len(), ours.len());
    for (optimizer, _) in configs {
        let of = |(name, _): &&(String, Tensor)| name.starts_with(&format!("{optimizer}/"));
        let square = |apart: f64| apart * apart;
        let difference: f64 =
            ours.iter().filter(of).map(|(n, t)| square(norm(&(t - &theirs[n])))).sum();
        let whole: f64 = ours.iter().filter(of).map(|(n, _)| square(norm(&theirs[n]))).sum();
        let relative = (difference / whole).sqrt();
        // Where a sum in bfloat16 falls between two of its numbers, the order of its terms, which differs
        // between shapes of a batch, decides on the third digit of an update.
        let allowed = if optimizer == "muon" { 1e-5 } else { 1e-6 };
        assert!(relative < allowed, "{optimizer}: {relative}");
    }
}
