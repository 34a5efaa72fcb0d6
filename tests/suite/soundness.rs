//! Numbers that are not finite, losses that are none, states of other optimizers: told by name, and nothing is lost.
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tracing::Level;
use trainyard::script::{Repeats, Script};
use trainyard::{Engine, Layers, Loss, Skipped};
use trainyard_tests::{Made, Small, engine, logged, plan, registry, same_bits, train};

const OPTIMIZERS: [&str; 6] = ["AdamW", "Lamb", "SGD", "Lion", "Adagrad", "Muon"];
const PRECISIONS: [&str; 4] = [
    "",
    r#""bf16": { "enabled": true },"#,
    r#""bf16": { "enabled": true, "check_grad_overflow": false },"#,
    r#""fp16": { "enabled": true, "initial_scale_power": 4 },"#,
];

/// Two parameters, of which `a` is made second.
fn pair(json: &str) -> Engine<[Tensor; 2]> {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let parameter = |name: &str| {
        let ones = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        variables.root().add(name, ones, true)
    };
    let model = [parameter("z"), parameter("a")];
    plan(registry(), json).unwrap().engine(model, &variables, &layers).unwrap()
}

/// The loss is finite; the gradient of `a` has a number that is none among finite ones.
fn poisoned([z, a]: &[Tensor; 2]) -> Tensor {
    let hidden = Tensor::from_slice(&[1f32, 1.0, 0.0, 1.0]).view([2, 2]);
    z.sum(Kind::Float)
        + (a * hidden).sqrt().sum(Kind::Float) * 0.0
        + (a * 0.0).sqrt().sum(Kind::Float)
}

fn sound([z, a]: &[Tensor; 2]) -> Tensor {
    z.square().sum(Kind::Float) + a.square().sum(Kind::Float)
}

/// Every optimizer, precision, with clipping and without: looked at before any update.
#[test]
fn a_gradient_that_is_not_finite_is_never_applied() {
    for optimizer in OPTIMIZERS {
        for precision in PRECISIONS {
            for clipping in ["", r#""gradient_clipping": 1,"#] {
                for terminates in [false, true] {
                    let json = format!(
                        r#"{{ {precision} {clipping} "training": {{ "terminate_on_nan": {terminates} }},
                              "optimizer": {{ "type": "{optimizer}" }} }}"#
                    );
                    let mut engine = pair(&json);
                    engine.step(&[()], |model, ()| Loss::mean(sound(model), 1)).unwrap();
                    let before = engine.state();
                    let found = engine.step(&[()], |model, ()| Loss::mean(poisoned(model), 1));
                    let after = engine.state();
                    for (name, tensor) in &before.model {
                        assert!(tensor.equal(&after.model[name]), "{json}: {name} moved");
                    }
                    let fp16 = precision.contains("fp16");
                    match found {
                        // A loss scale that is too large does the same, and is the first guess.
                        Ok(report) if fp16 => {
                            assert_eq!(report.skip_reason, Some(Skipped::Overflow), "{json}")
                        }
                        Ok(report) if !terminates => {
                            assert_eq!(report.skip_reason, Some(Skipped::NonFinite), "{json}");
                            assert!(report.loss.is_finite() && report.skipped);
                        }
                        Err(error) if terminates && !fp16 => assert_eq!(
                            error.to_string(),
                            "`training` failed at step 1: the norm of the gradients is NaN; the first parameter it \
                             reached is `a`",
                            "{json}"
                        ),
                        other => panic!("{json}: {other:?}"),
                    }
                    assert_eq!((after.step, before.step), (1, 1));
                    let good = engine.step(&[()], |model, ()| Loss::mean(sound(model), 1)).unwrap();
                    assert_eq!((good.step, good.skipped), (1, false), "{json}");
                }
            }
        }
    }
}

/// An update beyond float32 shows before a model is saved, and at the latest in the next step.
#[test]
fn an_update_that_overflows_is_found_by_name() {
    for optimizer in ["AdamW", "SGD", "Lion", "Adagrad"] {
        for precision in &PRECISIONS[..2] {
            let json = format!(
                r#"{{ {precision} "optimizer": {{ "type": "{optimizer}", "params": {{ "lr": 1e300 }} }} }}"#
            );
            let mut engine = pair(&json);
            engine.check_finite().unwrap();
            engine.step(&[()], |model, ()| Loss::mean(sound(model), 1)).unwrap();
            let expected = "parameter `z` is not finite after 1 steps, so no later step can be: an update overflowed";
            assert_eq!(engine.check_finite().unwrap_err().to_string(), expected, "{optimizer}");
            let next = engine.step(&[()], |model, ()| Loss::mean(sound(model), 1));
            assert_eq!(next.unwrap_err().to_string(), expected, "{optimizer}");
        }
    }
}

/// What is looked at before a model is saved: what was sound and is to stay so.
#[test]
fn what_is_infinite_by_design_may_be_and_stay_so() {
    // Whether it is a parameter, whether that trains, what it begins as and what it becomes; whether that is right.
    let (inf, nan) = (f64::NEG_INFINITY, f64::NAN);
    for (parameter, trains, before, after, right) in [
        (true, true, 1.0, 2.0, true),
        (true, true, 1.0, inf, false),
        (true, true, 1.0, nan, false),
        (true, true, inf, inf, true),
        (true, true, inf, nan, false),
        (true, true, nan, nan, true),
        (true, false, inf, inf, true),
        (true, false, 1.0, inf, true),
        (true, false, 1.0, nan, false),
        (true, false, nan, inf, true),
        (false, false, 1.0, inf, true),
        (false, false, inf, inf, true),
        (false, false, inf, nan, false),
        (false, false, nan, nan, true),
    ] {
        let case = format!("{parameter} {trains}: {before} to {after}");
        let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
        let values = Tensor::from_slice(&[0f32, before as f32]);
        let table = variables.root().add("table", values, parameter).set_requires_grad(trains);
        let model = [variables.root().ones("z", &[2]), variables.root().ones("a", &[2])];
        let json = r#"{ "optimizer": { "type": "SGD" } }"#;
        let plan = plan(registry(), json).unwrap();
        let mut engine = plan.engine(model, &variables, &layers).unwrap();
        engine.check_finite().unwrap_or_else(|error| panic!("{case}: {error}"));
        engine.step(&[()], |model, ()| Loss::mean(sound(model), 1)).unwrap();
        let _ = tch::no_grad(|| table.get(1).fill_(after));
        let found = engine.check_finite();
        assert_eq!(found.is_ok(), right, "{case}: {found:?}");
        assert!(found.err().is_none_or(|error| error.to_string().contains("`table`")), "{case}");
        // A step that fails for another reason is not blamed on it.
        let next = engine.step(&[()], |model, ()| Loss::mean(sound(model) * nan, 1));
        assert_eq!(next.is_ok(), right || !trains || before == inf, "{case}: {next:?}");
    }
}

#[test]
fn an_evaluation_without_a_finite_loss_is_told() {
    let run = |terminates: bool, factor: f64| {
        let mut engine = pair(&format!(
            r#"{{ "training": {{ "terminate_on_nan": {terminates} }}, "optimizer": {{ "type": "SGD" }} }}"#
        ));
        logged(Level::WARN, || {
            engine.evaluate([()], |model, ()| Loss::mean(sound(model) * factor, 1))
        })
    };
    let (found, log) = run(false, f64::NAN);
    assert!(
        found.unwrap().loss.is_nan()
            && log.contains("WARN step 0: the loss of an evaluation is NaN"),
        "{log}"
    );
    let (found, _) = run(true, f64::INFINITY);
    let expected = "`training` failed at step 0: the loss of an evaluation is inf";
    assert_eq!(found.unwrap_err().to_string(), expected);
    let (found, log) = run(true, 1.0);
    assert_eq!((found.unwrap().measured(), log.as_str()), (Some(8.0), ""));
}

/// A trace takes a batch of one, whose variance is not a number.
#[test]
fn statistics_that_are_no_numbers_are_told_by_name() {
    let made = Made::new("single");
    let row: Vec<_> =
        made.inputs().into_iter().map(|(name, x)| (name, x.narrow(0, 0, 1))).collect();
    let load = |terminates: bool| {
        let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
        let script =
            Script::load(&made.path(), &variables, &layers, &[], Repeats::Refused).unwrap();
        let json = format!(
            r#"{{ "training": {{ "terminate_on_nan": {terminates} }}, "optimizer": {{ "type": "SGD" }} }}"#
        );
        plan(registry(), &json).unwrap().engine(script, &variables, &layers).unwrap()
    };
    let loss = |script: &Script,
                inputs: &[(String, Tensor)],
                train: bool|
     -> Result<Loss, trainyard::BoxError> {
        Ok(Loss::mean(script.forward(inputs, train)?.at(0).expect("an output").shallow_clone(), 1))
    };
    let said = "buffer `norm.running_var` is not a number (NaN)";
    let mut engine = load(false);
    let (report, log) =
        logged(Level::WARN, || engine.step(&[()], |script, ()| loss(script, &row, true)).unwrap());
    assert!(!report.skipped && log.contains(&format!("WARN step 0: {said}")), "{log}");
    let (_, log) =
        logged(Level::WARN, || engine.step(&[()], |script, ()| loss(script, &row, true)).unwrap());
    assert!(!log.contains(said), "told once: {log}");
    let error = engine.check_finite().unwrap_err().to_string();
    assert!(error.starts_with(&format!("after 2 steps {said}")), "{error}");
    let error =
        load(true).step(&[()], |script, ()| loss(script, &row, true)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("`training` failed at step 0: {said}")), "{error}");
    let mut whole = load(true);
    whole.step(&[()], |script, ()| loss(script, &made.inputs(), true)).unwrap();
    whole.check_finite().unwrap();
}

/// Whatever the counts, with a loss in 16 bits as in 32: the gradient of a mean of ones by a weight of 1 is 2.
#[test]
fn a_short_loss_is_weighted_as_one_large_batch() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for precision in ["", r#""fp16": { "enabled": true, "initial_scale_power": 4 },"#] {
            for counts in [&[4, 4, 4][..], &[1, 2, 4], &[3, 5, 7], &[12], &[4, 0, 4, 4], &[0, 7, 1]]
            {
                let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
                let weight = variables.root().add("w", Tensor::from(1f32), true);
                let json = format!(
                    r#"{{ {precision} "optimizer": {{ "type": "SGD", "params": {{ "lr": 1.0 }} }} }}"#
                );
                let mut engine =
                    plan(registry(), &json).unwrap().engine(weight, &variables, &layers).unwrap();
                let loss = |w: &Tensor, &count: &u64| {
                    Loss::mean((w * Tensor::from(1f32)).square().to_kind(kind), count)
                };
                let report = engine.step(counts, loss).unwrap();
                let moved = 1.0 - engine.model().double_value(&[]);
                assert!((moved - 2.0).abs() < 2e-6, "{kind:?} {precision} {counts:?}: {moved}");
                assert_eq!(report.count, counts.iter().sum::<u64>());
            }
        }
    }
}

#[test]
fn a_step_with_nothing_counted_changes_nothing_and_is_over() {
    for optimizer in OPTIMIZERS {
        for precision in PRECISIONS {
            for accumulation in [1, 3] {
                let json = format!(
                    r#"{{ {precision} "gradient_clipping": 1, "optimizer": {{ "type": "{optimizer}" }} }}"#
                );
                let (_a, mut straight) = engine(registry(), &json, 0.0);
                let (_b, mut with_gap) = engine(registry(), &json, 0.0);
                train(&mut straight, 1);
                train(&mut with_gap, 1);
                let before = with_gap.state();
                let empty: Vec<_> = (0..accumulation).map(|_| Small::inputs(0, 0)).collect();
                let (report, log) = logged(Level::WARN, || {
                    with_gap.step(&empty, |model, batch| model.loss(batch, true)).unwrap()
                });
                assert!(
                    log.contains("WARN step 1 is skipped: no micro-batch counted anything"),
                    "{log}"
                );
                assert_eq!(
                    (report.skipped, report.skip_reason),
                    (true, Some(Skipped::NothingCounted))
                );
                assert_eq!((report.step, report.count, report.loss.is_nan()), (1, 0, true));
                let mut after = with_gap.state();
                assert_eq!((after.step, after.attempt), (2, 2));
                (after.step, after.attempt) = (before.step, before.attempt);
                same_bits(&before, &after);
                let found = with_gap
                    .evaluate([Small::inputs(0, 0)], |model, batch| model.loss(batch, false))
                    .unwrap();
                assert_eq!((found.count, found.measured()), (0, None));
            }
        }
    }
}

#[test]
fn a_loss_that_is_none_is_told_with_step_and_shape() {
    let mut engine = pair(r#"{ "optimizer": { "type": "SGD" } }"#);
    engine.step(&[()], |model, ()| Loss::mean(sound(model), 1)).unwrap();
    let whole = |model: &[Tensor; 2]| model[0].to_kind(Kind::Int64).sum(Kind::Int64);
    let mut said = |loss: &dyn Fn(&[Tensor; 2]) -> Tensor| {
        let error = engine.step(&[(), ()], |model, ()| Loss::mean(loss(model), 1));
        error.unwrap_err().to_string()
    };
    for (found, expected) in [
        (
            said(&|model| model[0].shallow_clone()),
            "the forward failed at step 1, micro-batch 0: the loss is Float of [2, 2]; a loss is one real number, the \
             mean over what was counted",
        ),
        (
            said(&whole),
            "the forward failed at step 1, micro-batch 0: the loss is Int64 of []; a loss is one real number, the mean \
             over what was counted",
        ),
        (
            said(&|model| sound(model).detach()),
            "the loss of step 1, micro-batch 0 (Float of []) depends on no parameter that trains: was it detached, or \
             computed under `no_grad`?",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let found = engine
        .evaluate([()], |model, ()| Loss::mean(model[0].shallow_clone(), 1))
        .unwrap_err()
        .to_string();
    assert!(found.ends_with(
        "the loss is Float of [2, 2]; a loss is one real number, the mean over what was counted"
    ));
    let good = engine.step(&[()], |model, ()| Loss::mean(sound(model).view([1]), 1)).unwrap();
    assert_eq!(good.step, 1);
}

#[test]
fn more_micro_batches_than_a_step_has_are_told() {
    let json = r#"{ "train_batch_size": 8, "gradient_accumulation_steps": 2, "optimizer": { "type": "SGD" } }"#;
    let mut engine = pair(json);
    let mut backward = || {
        let loss = engine.forward(|model| Loss::mean(sound(model), 1)).unwrap();
        engine.backward(&loss).map_err(|error| error.to_string())
    };
    assert_eq!((backward(), backward()), (Ok(()), Ok(())));
    assert_eq!(backward(), Err("a step has 2 micro-batches; `update` comes next".to_owned()));
}

#[test]
fn steps_beyond_the_last_are_warned_of_once() {
    let json = r#"{ "training": { "total_steps": 2 }, "optimizer": { "type": "SGD" } }"#;
    let (_variables, mut engine) = engine(registry(), json, 0.0);
    let (_, log) = logged(Level::WARN, || train(&mut engine, 2));
    assert!(!log.contains("beyond"), "{log}");
    let (_, log) = logged(Level::WARN, || train(&mut engine, 3));
    assert_eq!(log.matches("step 2 is beyond the run's 2 steps").count(), 1, "{log}");
    assert!(!log.contains("step 3 is beyond"), "{log}");
}

#[test]
fn a_state_loads_into_its_own_kind_of_optimizer_only() {
    let of = |optimizer: &str| {
        let json = format!(r#"{{ "optimizer": {{ "type": "{optimizer}" }} }}"#);
        let (variables, mut engine) = engine(registry(), &json, 0.0);
        train(&mut engine, 2);
        (variables, engine)
    };
    let kinds = [
        ("AdamW", "Adam"),
        ("Lamb", "Lamb"),
        ("SGD", "SGD"),
        ("Lion", "Lion"),
        ("Adagrad", "Adagrad"),
        ("Muon", "Muon"),
    ];
    for (from, saved) in kinds {
        let state = of(from).1.state();
        for (into, here) in kinds {
            let loaded = of(into).1.load_state(&state).map_err(|error| error.to_string());
            let expected = match from == into {
                true => Ok(()),
                false => Err(format!(
                    "the saved state does not fit: its optimizer is {saved}, and this one is {here}"
                )),
            };
            assert_eq!(loaded, expected);
        }
    }
    // Where the decay goes is no state.
    let state = of("AdamW").1.state();
    let json = r#"{ "optimizer": { "type": "Adam", "params": { "adam_w_mode": false } } }"#;
    engine(registry(), json, 0.0).1.load_state(&state).unwrap();
}
