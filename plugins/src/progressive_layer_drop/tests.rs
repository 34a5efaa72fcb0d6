//! The plugin inside an engine, around models small enough to know every number.
use super::config::{Depth, Ranks, Redraw, Unit};
use super::gates::{Gate, Law, gates};
use super::*;
use std::sync::atomic::AtomicU64;
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::config::{Document, Layers as ConfigLayers, Source};
use trainyard::{
    Block, Engine, Gated, Group, GroupOptions, Layers, Loss, Optimizer, Plan, Registry, SubLayer,
    Update,
};

/// Updates nothing, so that every step sees the same model.
struct Still;

impl Optimizer for Still {
    fn slots(&self, _: &GroupOptions) -> &'static [&'static str] {
        &[]
    }

    fn update(&mut self, _: &Update<'_>) -> Result<(), BoxError> {
        Ok(())
    }
}

impl Section for Still {
    const KEYS: &'static [&'static str] = &["still"];
    type Config = bool;

    fn outline(_: &bool, context: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        let options = GroupOptions { lr: 0.0, weight_decay: 0.0, adapt: false };
        outline.optimizer(vec![Group { options, parameters: context.parameters.clone() }])
    }
}

impl PluginSpec for Still {
    fn build(_: &bool, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        parts.optimizer(Still);
        Ok(())
    }
}

fn plan(section: &str) -> trainyard::Result<Plan> {
    let text = format!("{{ \"still\": true, \"progressive_layer_drop\": {section} }}");
    let document = Document::parse(Source::text("run.json", text))?;
    Registry::new().add::<ProgressiveLayerDrop>().add::<Still>().plan(ConfigLayers::new(document))
}

/// What `section` does to `model`; the model's weights are drawn from a fixed seed.
fn engine<M>(
    section: &str,
    model: impl Fn(&nn::Path<'_>, &Layers) -> M,
) -> trainyard::Result<Engine<M>> {
    tch::manual_seed(1);
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let model = model(&variables.root(), &layers);
    plan(section)?.engine(model, &variables, &layers)
}

/// One linear map that counts its calls.
#[derive(Debug)]
struct Counted {
    map: nn::Linear,
    calls: AtomicU64,
}

impl Counted {
    fn new(path: nn::Path<'_>) -> Self {
        let map = nn::linear(path, 4, 4, nn::LinearConfig { bias: false, ..Default::default() });
        Counted { map, calls: AtomicU64::new(0) }
    }

    fn run(&self, x: &Tensor) -> Tensor {
        self.calls.fetch_add(1, Relaxed);
        self.map.forward(x)
    }

    /// Whether it was called since the last time of asking.
    fn ran(&self) -> bool {
        self.calls.swap(0, Relaxed) > 0
    }

    fn learned(&self) -> bool {
        self.map.ws.grad().defined()
    }
}

impl ModuleT for Counted {
    fn forward_t(&self, x: &Tensor, _: bool) -> Tensor {
        self.run(x)
    }
}

/// A plain projection, then blocks of two residual branches.
struct Branched {
    input: nn::Linear,
    blocks: Vec<[(SubLayer, Counted); 2]>,
}

impl Branched {
    fn new(path: &nn::Path<'_>, layers: &Layers) -> Self {
        let block = |i: usize| {
            let path = path / "encoder" / i;
            let block: Block = layers.block(&path);
            ["attention", "feed_forward"]
                .map(|name| (block.sublayer(name), Counted::new(&path / name)))
        };
        let blocks = (0..4).map(block).collect();
        Branched { input: nn::linear(path / "input", 4, 4, Default::default()), blocks }
    }

    fn loss(&self, train: bool) -> Loss {
        let x = self.input.forward(&Tensor::ones([2, 4], (Kind::Float, Device::Cpu)));
        let branches = self.blocks.iter().flatten();
        let x = branches.fold(x, |x, (layer, f)| layer.residual(&x, train, |x| f.run(x)));
        Loss::mean(x.square().mean(Kind::Float), 1)
    }

    fn branches(&self) -> impl Iterator<Item = &Counted> {
        self.blocks.iter().flatten().map(|(_, f)| f)
    }
}

/// Whole blocks, which map x to x + f(x).
struct Whole {
    input: Tensor,
    blocks: Vec<Gated<Residual>>,
}

#[derive(Debug)]
struct Residual(Counted);

impl ModuleT for Residual {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        x + self.0.forward_t(x, train)
    }
}

impl Whole {
    fn new(path: &nn::Path<'_>, layers: &Layers) -> Self {
        let blocks = (0..3).map(|i| Residual(Counted::new(path / i)));
        Whole { input: path.ones("input", &[1, 4]), blocks: layers.wrap(blocks) }
    }

    /// Linear in each block, so that its mean over the gates is its value at full depth.
    fn loss(&self, train: bool) -> Loss {
        let x = self.input.shallow_clone();
        let x = self.blocks.iter().fold(x, |x, block| block.forward_t(&x, train));
        Loss::mean(x.sum(Kind::Float), 1)
    }
}

/// The law of a section with a constant theta and defaults otherwise.
fn constant(theta: f64) -> Law {
    let schedule = config::Course::Constant;
    let config = Config { theta, schedule, ..Config::default() };
    let theta = Theta::new(&config, None).expect("constant needs no length of the run");
    Law { theta, depth: Depth::Linear, redraw: Redraw::MicroBatch, ranks: Ranks::Shared }
}

#[test]
fn a_dropped_layer_is_not_computed_and_idle() -> trainyard::Result<()> {
    for (gate, unit) in [("block", Unit::Block), ("sublayer", Unit::Sublayer)] {
        let section = format!(
            "{{ \"enabled\": true, \"theta\": 0.25, \"schedule\": \"constant\", \"gate\": {gate:?} }}"
        );
        let layers = Layers::new();
        Branched::new(&VarStore::new(Device::Cpu).root(), &layers);
        let sites = Sites::new(&layers.blocks(), None, unit).expect("the model has blocks");
        let draws = if unit == Unit::Block { 1 } else { 2 };
        let mut engine = engine(&section, Branched::new)?;
        for step in 0..20 {
            let report = engine.step(&[()], |model, ()| model.loss(true))?;
            let now = Moment { step, attempt: step, micro_batch: 0 };
            let gates = gates(&constant(0.25), &sites, 42, now, 0);
            let open: Vec<_> = (0..8).map(|j| gates[j * draws / 2] != Gate::Drop).collect();
            let ran: Vec<_> = engine.model().branches().map(Counted::ran).collect();
            let learned: Vec<_> = engine.model().branches().map(Counted::learned).collect();
            assert_eq!((&ran, &learned), (&open, &open), "{gate}, step {step}");
            let kept = open.iter().filter(|&&open| open).count();
            assert_eq!(report.idle_parameters, 8 - kept);
            assert_eq!((report.layer_calls.offered, report.layer_calls.run), (8, kept as u64));
            assert_eq!(report.metrics["realised_depth"], kept as f64 / 2.0);
            assert_eq!(report.metrics["theta"], 0.25);
            assert_eq!(report.metrics["expected_depth"], 4.0 - 2.5 * 0.75);
        }
    }
    Ok(())
}

#[test]
fn the_mean_output_is_that_of_full_depth() -> trainyard::Result<()> {
    let section = r#"{ "enabled": true, "theta": 0.5, "schedule": "constant" }"#;
    let mut engine = engine(section, Whole::new)?;
    let full = engine.evaluate([()], |model, ()| model.loss(false))?.loss;
    let mut losses = Vec::new();
    for _ in 0..2000 {
        losses.push(engine.step(&[()], |model, ()| model.loss(true))?.loss);
    }
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / n;
    let five_errors = 5.0 * (variance / n).sqrt();
    assert!(five_errors > 0.0 && (mean - full).abs() < five_errors, "{mean}, not {full}");
    Ok(())
}

#[test]
fn evaluation_and_full_depth_are_untouched() -> trainyard::Result<()> {
    let loss_of = |section: &str, train: bool| -> trainyard::Result<f64> {
        let mut engine = engine(section, Branched::new)?;
        engine.step(&[()], |model, ()| model.loss(train)).map(|report| report.loss)
    };
    let off = loss_of(r#"{ "enabled": false }"#, true)?;
    let deep = r#"{ "enabled": true, "theta": 0.01, "schedule": "constant" }"#;
    assert_eq!(loss_of(deep, false)?, off);
    assert_eq!(loss_of(r#"{ "enabled": true, "theta": 1 }"#, true)?, off);
    assert_ne!(loss_of(deep, true)?, off);
    // The first step of the exponential schedule.
    assert_eq!(loss_of(r#"{ "enabled": true }"#, true)?, off);
    let evaluated = engine(deep, Branched::new)?.evaluate([()], |model, ()| model.loss(true))?;
    assert_eq!(evaluated.loss, off);
    Ok(())
}

#[test]
fn only_matching_blocks_are_gated() -> trainyard::Result<()> {
    let section = r#"{ "enabled": true, "theta": 1e-9, "schedule": "constant",
        "layers": ["encoder.1", "encoder.3"] }"#;
    let mut engine = engine(section, Branched::new)?;
    for _ in 0..20 {
        engine.step(&[()], |model, ()| model.loss(true))?;
        let ran: Vec<_> = engine.model().branches().map(Counted::ran).collect();
        // The last gated block never runs; those that no pattern matches always do.
        assert_eq!([ran[0], ran[1], ran[4], ran[5]], [true; 4]);
        assert_eq!([ran[6], ran[7]], [false; 2]);
    }
    Ok(())
}

#[test]
fn a_step_that_fails_midway_leaves_no_trace() -> trainyard::Result<()> {
    let section = r#"{ "enabled": true, "theta": 0.25, "schedule": "constant", "seed": 5 }"#;
    let depth = |engine: &mut Engine<Branched>, micro_batches: &[()]| {
        engine
            .step(micro_batches, |model, ()| model.loss(true))
            .map(|r| r.metrics["realised_depth"])
    };
    let mut retried = engine(section, Branched::new)?;
    let mut calls = 0;
    let failed = retried.step(&[(), ()], |model, ()| {
        calls += 1;
        if calls == 2 { Err("no more data") } else { Ok(model.loss(true)) }
    });
    assert!(failed.is_err());
    let first = depth(&mut engine(section, Branched::new)?, &[()])?;
    assert_eq!(depth(&mut retried, &[()])?, first);
    let both = depth(&mut engine(section, Branched::new)?, &[(), ()])?;
    assert_ne!(
        both, first,
        "both micro-batches have the same depth, which shows nothing: pick a seed"
    );
    Ok(())
}

#[test]
fn idle_parameters_decay_if_asked_to() -> trainyard::Result<()> {
    let section = |idle: &str| {
        format!(
            "{{ \"enabled\": true, \"theta\": 1e-9, \"schedule\": \"constant\", \"idle\": {idle:?} }}"
        )
    };
    // Idle parameters, and parameters that the optimizer left alone.
    let idle = |rule: &str| -> trainyard::Result<(usize, usize)> {
        let mut engine = engine(&section(rule), Branched::new)?;
        let idle = engine.step(&[()], |model, ()| model.loss(true))?.idle_parameters;
        Ok((idle, engine.parameters().count() - engine.state().optimizer.len()))
    };
    let (idle_count, alone) = idle("skip")?;
    assert!(idle_count >= 2 && alone == idle_count);
    assert_eq!(idle("decay")?, (idle_count, 0));
    Ok(())
}

#[test]
fn what_is_wrong_is_said() {
    let branched = |section: &str| engine(section, Branched::new).err().map(|e| e.to_string());
    let on = |rest: &str| branched(&format!("{{ \"enabled\": true, {rest} }}")).unwrap_or_default();
    let cases = [
        (r#""theta": 0"#, "theta = 0 is not in (0, 1]"),
        (r#""theta": 1.5"#, "theta = 1.5 is not in (0, 1]"),
        (r#""theta": "0.5""#, "theta"),
        (r#""gamma": -1"#, "gamma"),
        (r#""gamma": "fast""#, "gamma"),
        (r#""gamma": "auto""#, "gamma = \"auto\" is 100 / total steps"),
        (r#""schedule": "linear""#, "the length of the run is not known"),
        (r#""full_depth_tail": 1"#, "full_depth_tail = 1 is not in [0, 1)"),
        (
            r#""layers": "decoder.*""#,
            "layers: pattern \"decoder.*\" does not match any of the model's 4 blocks",
        ),
        (r#""layers": ["encoder.*", "x"]"#, "layers[1]: pattern \"x\" does not match any"),
        (r#""layers": []"#, "layers"),
        (r#""tetha": 0.5"#, "tetha"),
    ];
    for (section, expected) in cases {
        let message = on(section);
        assert!(
            message.starts_with("run.json:1:") && message.contains(expected),
            "{section}: {message}"
        );
    }
    let plain = |_: &nn::Path<'_>, _: &Layers| ();
    let message = engine(r#"{ "enabled": true }"#, plain).err().map(|e| e.to_string());
    assert!(message.is_some_and(|m| m.contains("offers no layer calls")));
    assert!(engine(r#"{ "enabled": false, "layers": "x" }"#, plain).is_ok());
}

#[test]
fn the_plan_shows_theta() -> trainyard::Result<()> {
    let layers = Layers::new();
    let variables = VarStore::new(Device::Cpu);
    Whole::new(&variables.root(), &layers);
    let shown = plan(r#"{ "enabled": true }"#)?.explain(&layers, vec![])?;
    let (section, line) = &shown.lines[0];
    assert_eq!(section, "progressive_layer_drop");
    assert!(
        line.starts_with("gates 3 blocks whole: a closed gate passes the block's input on"),
        "{line}"
    );
    let theta = shown.curves.iter().find(|curve| curve.name == "theta").expect("theta is shown");
    assert_eq!(theta.value.at(0), 1.0);
    let off = plan(r#"{ "enabled": false }"#)?.explain(&layers, vec![])?;
    assert_eq!(off.lines[0].1, "off: `enabled` is not true");
    assert!(off.curves.iter().all(|curve| curve.name != "theta"));
    Ok(())
}
