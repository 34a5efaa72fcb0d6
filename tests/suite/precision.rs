//! Training in bfloat16 and float16: what is cast, what is scaled, and what happens to numbers that are
//! not finite.
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};
use tracing::Level;
use trainyard::{Engine, EngineState, Layers, Loss, Report};
use trainyard_native::clear_autocast_cache;
use trainyard_tests::{Small, engine, logged, plan, registry, same_bits};

const BF16: &str = r#""bf16": { "enabled": true }"#;
const FP16: &str = r#""fp16": { "enabled": true, "initial_scale_power": 8 }"#;

/// A configuration of some sections, with AdamW where they set no optimizer.
fn config(sections: &[&str]) -> String {
    let adam = r#""optimizer": { "type": "AdamW", "params": { "lr": 0.01 } }"#;
    let own = sections.iter().any(|section| section.starts_with(r#""optimizer""#));
    let sections = sections.iter().copied().chain((!own).then_some(adam));
    format!("{{ {} }}", sections.collect::<Vec<_>>().join(", "))
}

fn step(engine: &mut Engine<Small>, batches: &[(Tensor, Tensor)]) -> Report {
    engine.step(batches, |model, batch| model.loss(batch, true)).unwrap_or_else(|e| panic!("{e}"))
}

/// Over all parameters, relative to the second.
fn distance(a: &EngineState, b: &EngineState) -> f64 {
    let square = |t: Tensor| (&t * &t).sum(Kind::Double).double_value(&[]);
    let difference: f64 = a.model.iter().map(|(name, t)| square(t - &b.model[name])).sum();
    let whole: f64 = b.model.values().map(|t| square(t.shallow_clone())).sum();
    (difference / whole).sqrt()
}

/// A weight `[2, 2]` whose gradient is the loss scale itself, in float16: 65536 overflows.
fn brittle(sections: &[&str]) -> Engine<Tensor> {
    let variables = VarStore::new(Device::Cpu);
    let weight = variables.root().var("weight", &[2, 2], Init::Const(0.5));
    let plan = plan(registry(), &config(sections)).unwrap_or_else(|e| panic!("{e}"));
    plan.engine(weight, &variables, &Layers::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn brittle_step(engine: &mut Engine<Tensor>) -> trainyard::Result<Report> {
    let x = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
    let loss = |w: &Tensor, (): &()| Loss::mean(x.linear(w, None::<&Tensor>).sum(Kind::Float), 1);
    let report = engine.step(&[()], loss)?;
    Ok(Report { seconds: 0.0, ..report })
}

const DYNAMIC: &str = r#""fp16": { "enabled": true, "initial_scale_power": 17,
                                   "loss_scale_window": 2, "hysteresis": 2 }"#;
const WARMUP: &str = r#""scheduler": { "type": "WarmupLR", "params":
    { "warmup_max_lr": 1, "warmup_num_steps": 100, "warmup_type": "linear" } }"#;

#[test]
fn a_model_that_overflows_recovers_and_skipped_steps_are_none() {
    let mut plain = brittle(&[WARMUP]);
    let rates: Vec<_> = (0..7).map(|_| brittle_step(&mut plain).unwrap().lr).collect();
    let mut engine = brittle(&[DYNAMIC, WARMUP]);
    let mut found = Vec::new();
    for attempt in 0..12 {
        let before = engine.state();
        let report = brittle_step(&mut engine).unwrap();
        let after = engine.state();
        assert_eq!((before.attempt, after.attempt), (attempt, attempt + 1));
        assert_eq!(after.step - before.step, u64::from(!report.skipped));
        let moved = !before.model["weight"].equal(&after.model["weight"]);
        let norm = report.grad_norm.unwrap();
        match report.skipped {
            false => assert_eq!((moved, norm), (report.lr > 0.0, 2.0)),
            true => {
                assert!(!moved && !norm.is_finite());
                let updates = |s: &EngineState| s.optimizer.get("weight").map(|(n, _)| *n);
                assert_eq!(updates(&before), updates(&after));
            }
        }
        assert_eq!(report.lr, rates[report.step as usize], "the schedule counts updates");
        found.push((report.loss_scale, report.skipped, report.step));
    }
    let large = |step| (65536.0, true, step);
    let good = |step| (32768.0, false, step);
    assert_eq!(
        found,
        [
            // Two overflows halve at first, then each one does, until the scale has doubled again
            // after three good steps.
            (131072.0, true, 0),
            (131072.0, true, 0),
            large(0),
            good(0),
            good(1),
            good(2),
            large(3),
            large(3),
            good(3),
            good(4),
            good(5),
            large(6),
        ]
    );
}

#[test]
fn a_resumed_run_goes_on_with_the_scale() {
    for at in 1..8 {
        let (mut straight, mut first) = (brittle(&[DYNAMIC]), brittle(&[DYNAMIC]));
        let all: Vec<_> = (0..14).map(|_| brittle_step(&mut straight).unwrap()).collect();
        let key = |r: &Report| (r.loss_scale, r.skipped, r.step, r.loss);
        (0..at).for_each(|_| drop(brittle_step(&mut first).unwrap()));
        let saved = first.state();
        assert!(saved.plugins.contains_key("fp16"));
        let mut second = brittle(&[DYNAMIC]);
        second.load_state(&saved).unwrap();
        let rest: Vec<_> = (at..14).map(|_| key(&brittle_step(&mut second).unwrap())).collect();
        assert_eq!(all[at..].iter().map(key).collect::<Vec<_>>(), rest);
        same_bits(&straight.state(), &second.state());
    }
    let mut saved = brittle(&[DYNAMIC]).state();
    saved.plugins.insert("fp16".to_owned(), serde_json::json!({ "scale": -1 }));
    let error = brittle(&[DYNAMIC]).load_state(&saved).unwrap_err();
    assert!(error.to_string().starts_with("`fp16` failed at step 0: missing field"), "{error}");
    let error = brittle(&[BF16]).load_state(&brittle(&[DYNAMIC]).state()).unwrap_err();
    assert!(error.to_string().contains("section `fp16`, which is not switched on"), "{error}");
}

#[test]
fn a_static_scale_stays_and_gives_up_after_20_overflows_in_a_row() {
    let mut fits = brittle(&[r#""fp16": { "enabled": true, "loss_scale": 1000 }"#]);
    for _ in 0..3 {
        let report = brittle_step(&mut fits).unwrap();
        assert_eq!((report.loss_scale, report.skipped), (1000.0, false));
        assert!((report.grad_norm.unwrap() - 2.0).abs() < 1e-6);
    }
    let mut too_large = brittle(&[r#""fp16": { "enabled": true, "loss_scale": 65536 }"#]);
    for _ in 0..19 {
        let report = brittle_step(&mut too_large).unwrap();
        assert_eq!((report.loss_scale, report.skipped), (65536.0, true));
    }
    assert_eq!(
        brittle_step(&mut too_large).unwrap_err().to_string(),
        "`fp16` failed at step 0: 20 overflows in a row at a loss scale of 65536, which goes no \
         lower; the training has diverged, or float16 cannot hold this model: try bf16"
    );
}

/// What a forward finds when it runs in each precision, and what the gradients are.
#[test]
fn forwards_run_in_16_bits_and_gradients_are_float32() {
    for (section, kind) in [(BF16, Kind::BFloat16), (FP16, Kind::Half)] {
        let (variables, mut engine) = engine(registry(), &config(&[section]), 0.0);
        let (batch, mut seen) = (Small::inputs(4, 0), Vec::new());
        let mut look = |model: &Small| {
            let w = Tensor::ones([6, 6], (Kind::Float, Device::Cpu));
            seen.push(batch.0.matmul(&w).kind());
            model.loss(&batch, true)
        };
        let loss = engine.forward(&mut look).unwrap();
        engine.backward(&loss).unwrap();
        for (name, parameter) in variables.variables() {
            assert_eq!(parameter.grad().kind(), Kind::Float, "{name}");
            assert_eq!(parameter.kind(), Kind::Float, "{name}");
        }
        engine.update().unwrap().expect("one micro-batch is a step");
        engine.evaluate([()], |model, ()| look(model)).unwrap();
        assert_eq!(seen, [kind, kind]);
        let w = Tensor::ones([6, 6], (Kind::Float, Device::Cpu));
        assert_eq!(batch.0.matmul(&w).kind(), Kind::Float, "not outside");
    }
}

/// The same weights serve all micro-batches of a step, cast once, and give the very gradients that they
/// give when each micro-batch casts them.
#[test]
fn weights_are_cast_once_a_step() {
    for section in [BF16, FP16] {
        let run = |again: bool| {
            let (_variables, mut engine) = engine(registry(), &config(&[section]), 0.1);
            for step in 0..5 {
                let batches = [0, 1, 2].map(|i| Small::inputs(3 + i, step * 90 + i));
                let forward = |model: &Small, batch: &(Tensor, Tensor)| {
                    if again {
                        clear_autocast_cache().unwrap();
                    }
                    model.loss(batch, true)
                };
                engine.step(&batches, forward).unwrap();
            }
            engine.state()
        };
        same_bits(&run(false), &run(true));
    }

    // A weight that moves during a step shows which micro-batches cast it.
    let mut engine = brittle(&[BF16]);
    let x = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
    let mut losses = Vec::new();
    let forward = |w: &Tensor, add: &f64| {
        let _ = tch::no_grad(|| w.shallow_clone().g_add_scalar_(*add));
        let mean = x.linear(w, None::<&Tensor>).sum(Kind::Float);
        losses.push(mean.double_value(&[]));
        Loss::mean(mean, 1)
    };
    let add = [0.0, 1.0, 1.0];
    let forward = &mut { forward };
    engine.step(&add, &mut *forward).unwrap();
    engine.step(&add, &mut *forward).unwrap();
    assert_eq!(losses[..3], [2.0; 3]);
    assert_ne!(losses[3], 2.0);
    assert_eq!(losses[3..], [losses[3]; 3]);
}

/// An evaluation makes casts that lead to no gradient; training must not meet them.
#[test]
fn evaluation_leaves_no_trace_in_mixed_precision() {
    for section in [BF16, FP16] {
        let json = config(&[section]);
        let (_a, mut plain) = engine(registry(), &json, 0.1);
        let (_b, mut watched) = engine(registry(), &json, 0.1);
        let held_out = [Small::inputs(3, 900)];
        for at in 0..6 {
            let batch = Small::inputs(4, at);
            let before = watched.evaluate(&held_out, |m, b| m.loss(b, false)).unwrap();
            let a = step(&mut plain, std::slice::from_ref(&batch));
            // Between forward and backward, too.
            let loss = watched.forward(|model| model.loss(&batch, true)).unwrap();
            let between = watched.evaluate(&held_out, |m, b| m.loss(b, false)).unwrap();
            assert_eq!(before, between);
            watched.backward(&loss).unwrap();
            let b = watched.update().unwrap().expect("one micro-batch is a step");
            assert_eq!((a.loss, b.idle_parameters), (b.loss, 0));
            let after = watched.evaluate(&held_out, |m, b| m.loss(b, false)).unwrap();
            assert!(
                after != before,
                "the new weights are evaluated, not the casts of the old ones"
            );
        }
        same_bits(&plain.state(), &watched.state());
        // What changes the weights is seen at once: an update, a state loaded after a forward, a hand.
        let look = |e: &mut Engine<Small>| e.evaluate(&held_out, |m, b| m.loss(b, false)).unwrap();
        let batch = [Small::inputs(4, 6)];
        step(&mut watched, &batch);
        look(&mut watched);
        let trained = look(&mut watched);
        step(&mut plain, &batch);
        assert_eq!(look(&mut plain), trained);
        let (c, mut loaded) = engine(registry(), &json, 0.1);
        loaded.forward(|model| model.loss(&Small::inputs(4, 0), true)).unwrap();
        loaded.load_state(&watched.state()).unwrap();
        assert_eq!(look(&mut loaded), trained);
        tch::no_grad(|| {
            c.trainable_variables().iter_mut().for_each(|w| drop(w.g_mul_scalar_(0.5)))
        });
        assert_ne!(look(&mut loaded), trained);
    }
}

#[test]
fn gradients_are_unscaled_before_clipping_and_before_the_optimizer() {
    let rest = [
        r#""gradient_clipping": 0.01"#,
        r#""optimizer": { "type": "SGD", "params": { "lr": 1 } }"#,
    ];
    let run = |precision: Option<&str>| {
        let sections: Vec<_> = precision.into_iter().chain(rest).collect();
        let (_variables, mut engine) = engine(registry(), &config(&sections), 0.0);
        let start = engine.state();
        let report = step(&mut engine, &[Small::inputs(4, 0), Small::inputs(7, 30)]);
        (distance(&start, &engine.state()), report, engine.state())
    };
    let (moved, plain, state) = run(None);
    assert!(plain.grad_norm.unwrap() > 0.01, "clipped");
    assert_eq!(plain.loss_scale, 1.0);
    for (section, scale) in [(BF16, 1.0), (FP16, 256.0)] {
        let (_, report, other) = run(Some(section));
        assert_eq!((report.loss_scale, report.skipped), (scale, false));
        let (a, b) = (report.grad_norm.unwrap(), plain.grad_norm.unwrap());
        assert!(a != b && (a - b).abs() < 0.02 * b, "{section}: norm {a}, {b} in float32");
        let off = distance(&other, &state);
        assert!(off < 0.03 * moved, "{section}: {off} of {moved}");
    }
}

#[test]
fn training_in_16_bits_ends_where_float32_does() {
    let adam = r#""optimizer": { "type": "AdamW", "params": { "lr": 0.002 } }"#;
    let run = |sections: &[&str]| {
        let config = config(&[sections, &[adam]].concat());
        let (_variables, mut engine) = engine(registry(), &config, 0.0);
        let reports: Vec<_> = (0..60).map(|_| step(&mut engine, &[Small::inputs(8, 0)])).collect();
        assert!(reports.iter().all(|report| !report.skipped));
        let held_out = engine.evaluate([Small::inputs(8, 0)], |m, b| m.loss(b, false)).unwrap();
        assert!(held_out.loss < 0.5 * reports[0].loss, "{held_out:?}");
        held_out.loss
    };
    let drop = r#""progressive_layer_drop": { "enabled": true, "schedule": "constant" }"#;
    for drop in [None, Some(drop)] {
        let plain = run(&drop.into_iter().collect::<Vec<_>>());
        for section in [BF16, FP16] {
            let loss = run(&drop.into_iter().chain([section]).collect::<Vec<_>>());
            assert!(loss != plain && (loss - plain).abs() < 0.05 * plain, "{loss}, not {plain}");
        }
    }
}

/// Layers that a step leaves out are idle in 16 bits, too: neither weights nor moments move.
#[test]
fn skipped_layers_are_idle() {
    let drop = r#""progressive_layer_drop":
        { "enabled": true, "schedule": "constant", "theta": 0.3, "gate": "sublayer" }"#;
    for section in [BF16, FP16] {
        let (_variables, mut engine) = engine(registry(), &config(&[drop, section]), 0.0);
        let mut idle = 0;
        for at in 0..15 {
            let before = engine.state();
            let report = step(&mut engine, &[Small::inputs(4, at)]);
            let after = engine.state();
            assert_eq!(report.idle_parameters, 16 - 2 * report.layer_calls.run as usize);
            let updates = |s: &EngineState, name: &str| s.optimizer.get(name).map(|(n, _)| *n);
            let still = before.model.keys().filter(|name| {
                updates(&before, name) == updates(&after, name)
                    && before.model[*name].equal(&after.model[*name])
            });
            assert_eq!(still.count(), report.idle_parameters, "{section}, step {at}");
            idle += report.idle_parameters;
        }
        assert!(idle > 20, "{idle}");
    }
}

/// Parameters `z`, made first, and `a`.
fn two_parameters(sections: &[&str]) -> Engine<[Tensor; 2]> {
    let variables = VarStore::new(Device::Cpu);
    let make = |name: &str| variables.root().var(name, &[2, 2], Init::Const(0.5));
    let model = [make("z"), make("a")];
    let plan = plan(registry(), &config(sections)).unwrap_or_else(|e| panic!("{e}"));
    plan.engine(model, &variables, &Layers::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn input(x: f64) -> Tensor {
    Tensor::full([1, 2], x, (Kind::Float, Device::Cpu))
}

fn both([z, a]: &[Tensor; 2], x: &Tensor) -> Loss {
    let y = x.linear(z, None::<&Tensor>).linear(a, None::<&Tensor>);
    Loss::mean(y.sum(Kind::Float), 1)
}

const STOP: &str = r#""training": { "terminate_on_nan": true }"#;

#[test]
fn nan_in_the_data_names_the_step_and_the_first_parameter() {
    for section in [None, Some(BF16), Some(FP16)] {
        let sections: Vec<_> = section.into_iter().collect();
        let mut engine = two_parameters(&sections);
        engine.step(&[input(1.0)], both).unwrap();
        let before = engine.state();
        let (report, log) = logged(Level::INFO, || engine.step(&[input(f64::NAN)], both).unwrap());
        assert!(report.skipped && report.loss.is_nan() && report.step == 1);
        let after = engine.state();
        assert_eq!((after.step, after.attempt), (1, 2));
        for (name, tensor) in &before.model {
            assert!(tensor.equal(&after.model[name]), "{name}");
            assert_eq!(before.optimizer[name].0, after.optimizer[name].0);
        }
        assert!(log.contains("WARN"), "{log}");
        assert!(
            log.contains(
                "step 1 is skipped: the loss is NaN; the first parameter it reached is `z`"
            ),
            "{log}"
        );
        let good = engine.step(&[input(1.0)], both).unwrap();
        assert_eq!((good.step, good.skipped), (1, false));

        let mut engine = two_parameters(&[&sections[..], &[STOP]].concat());
        let error = engine.step(&[input(1.0), input(f64::INFINITY)], both).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`training` failed at step 0: the loss is inf; the first parameter it reached is `z`"
        );
    }
}

/// An overflow in float16 is no reason to stop.
#[test]
fn an_ordinary_overflow_neither_warns_nor_stops() {
    let mut engine = brittle(&[DYNAMIC, STOP]);
    let (report, log) = logged(Level::INFO, || brittle_step(&mut engine).unwrap());
    assert!(report.skipped && !log.contains("WARN"), "{log}");
    assert!(log.contains("a gradient overflowed"), "{log}");
}

/// The root of 0 has a derivative that is not a number once it meets another 0.
#[test]
fn a_gradient_that_is_not_finite_under_a_loss_that_is() {
    let loss = |[z, a]: &[Tensor; 2], x: &Tensor| {
        let finite = x.linear(z, None::<&Tensor>).sum(Kind::Float);
        Loss::mean(finite + (a * 0.0).sqrt().sum(Kind::Float), 1)
    };
    let blind = r#""bf16": { "enabled": true, "check_grad_overflow": false }"#;
    let clip = r#""gradient_clipping": 1"#;
    for sections in [&[BF16][..], &[clip], &[blind, clip], &[blind], &[]] {
        let mut engine = two_parameters(sections);
        assert!(engine.step(&[input(1.0)], loss).unwrap().skipped, "{sections:?}");
        let mut engine = two_parameters(&[sections, &[STOP]].concat());
        let error = engine.step(&[input(1.0)], loss).err().map(|e| e.to_string());
        let expected = "`training` failed at step 0: the norm of the gradients is NaN; the first parameter it reached is `a`";
        assert_eq!(error.as_deref(), Some(expected));
    }
}

#[test]
fn what_cannot_be_is_said_in_one_sentence() {
    let complaint = |sections: &[&str]| {
        let text = config(sections);
        let store = VarStore::new(Device::Cpu);
        let plan = plan(registry(), &text);
        plan.and_then(|plan| plan.engine((), &store, &Layers::new()).map(drop))
            .err()
            .map(|e| e.to_string())
    };
    for (section, sentence) in [
        (r#""fp16": { "enabled": true, "loss_scale": -1 }"#, "fp16.loss_scale = -1 is not >= 0"),
        (
            r#""bf16": { "enabled": true, "loss_scale": 0 }"#,
            r#"bf16: unknown key "loss_scale"; known keys: "bf16_master_weights_and_grads", "bf16_optimizer_states", "check_grad_overflow", "enabled", "immediate_grad_update""#,
        ),
        (
            r#""bf16": { "enabled": true, "bf16_optimizer_states": true }"#,
            "bf16_optimizer_states = true is not supported: the optimizer's state is always float32",
        ),
        (r#""fp16": { "enabled": true, "hysteresis": 0 }"#, "fp16.hysteresis = 0 is not >= 1"),
        (
            r#""fp16": { "min_loss_scale": 0.25 }"#,
            "fp16.min_loss_scale = 0.25 is not a whole number; a whole number >= 0 is expected",
        ),
    ] {
        let text = complaint(&[section]).unwrap_or_else(|| panic!("{section}"));
        assert!(text.starts_with("run.json:1:") && text.ends_with(sentence), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    let text = complaint(&[BF16, FP16]).expect("both");
    assert!(
        text.ends_with("fp16 is on, and `bf16` too: both set the precision; keep one"),
        "{text}"
    );
    let off = r#""fp16": { "enabled": false, "fp16_master_weights_and_grads": true }"#;
    assert_eq!(complaint(&[BF16, off]), None);
}
