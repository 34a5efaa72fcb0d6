//! Several micro-batches are one large batch; three calls are one step.
use tch::Tensor;
use trainyard_tests::{Inputs, Small, engine, registry, same_bits};

fn config(accumulation: u64) -> String {
    format!(
        r#"{{ "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": {accumulation},
             "gradient_clipping": 0.5,
             "optimizer": {{ "type": "AdamW", "params": {{ "lr": 0.01, "eps": 1e-4 }} }} }}"#
    )
}

fn part((x, y): &Inputs, from: i64, rows: i64) -> Inputs {
    (x.narrow(0, from, rows), y.narrow(0, from, rows))
}

fn distance(a: &trainyard::EngineState, b: &trainyard::EngineState) -> f64 {
    let square = |t: Tensor| (&t * &t).sum(tch::Kind::Double).double_value(&[]);
    let difference: f64 = a.model.iter().map(|(name, t)| square(t - &b.model[name])).sum();
    let whole: f64 = a.model.values().map(|t| square(t.shallow_clone())).sum();
    (difference / whole).sqrt()
}

#[test]
fn micro_batches_of_different_counts_equal_one_batch() {
    let (_a, mut whole) = engine(registry(), &config(1), 0.0);
    let (_b, mut parts) = engine(registry(), &config(3), 0.0);
    for step in 0..20 {
        let all = Small::inputs(12, step * 72);
        let split = [part(&all, 0, 1), part(&all, 1, 4), part(&all, 5, 7)];
        let one = whole.step(&[all], |model, batch| model.loss(batch, true)).unwrap();
        let three = parts.step(&split, |model, batch| model.loss(batch, true)).unwrap();
        assert_eq!((one.count, three.count), (12, 12));
        assert!((one.loss - three.loss).abs() < 1e-6 * one.loss);
        let (a, b) = (one.grad_norm.unwrap(), three.grad_norm.unwrap());
        assert!((a - b).abs() < 1e-5 * a, "{a} {b}");
    }
    let relative = distance(&whole.state(), &parts.state());
    assert!(relative < 1e-6, "{relative}");
}

#[test]
fn a_step_takes_as_many_micro_batches_as_the_file_says() {
    let (_variables, mut engine) = engine(registry(), &config(2), 0.0);
    let before = engine.state();
    for given in [1, 3] {
        let batches: Vec<_> = (0..given).map(|_| Small::inputs(4, 0)).collect();
        let error = engine.step(&batches, |model, batch| model.loss(batch, true)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a step got {given} micro-batches; gradient_accumulation_steps is 2")
        );
    }
    same_bits(&before, &engine.state());
}

#[test]
fn a_micro_batch_that_counts_nothing_has_no_part() {
    let (_a, mut one) = engine(registry(), &config(1), 0.0);
    let (_b, mut two) = engine(registry(), &config(2), 0.0);
    let full = || Small::inputs(4, 0);
    let empty = || Small::inputs(0, 0);
    one.step(&[full()], |model, batch| model.loss(batch, true)).unwrap();
    // The mean over no rows is not a number.
    two.step(&[empty(), full()], |model, batch| model.loss(batch, true)).unwrap();
    assert!(distance(&one.state(), &two.state()) < 1e-7);
    let before = two.state();
    let report = two.step(&[empty(), empty()], |model, batch| model.loss(batch, true)).unwrap();
    assert!(report.skipped && distance(&before, &two.state()) == 0.0);
}

#[test]
fn three_calls_are_one_step() {
    let (_a, mut one) = engine(registry(), &config(2), 0.1);
    let (_b, mut three) = engine(registry(), &config(2), 0.1);
    for step in 0..5 {
        let batches = [Small::inputs(4, step), Small::inputs(4, step + 50)];
        let whole = one.step(&batches, |model, batch| model.loss(batch, true)).unwrap();
        let mut reports = Vec::new();
        for batch in &batches {
            let loss = three.forward(|model| model.loss(batch, true)).unwrap();
            three.backward(&loss).unwrap();
            reports.push(three.update().unwrap());
        }
        assert!(reports[0].is_none());
        assert_eq!(reports[1].as_ref().unwrap().loss, whole.loss);
    }
    same_bits(&one.state(), &three.state());
    assert_eq!(
        three.update().unwrap_err().to_string(),
        "`update` needs a `forward` and a `backward` first"
    );
    let batch = Small::inputs(4, 0);
    let loss = three.forward(|model| model.loss(&batch, true)).unwrap();
    three.backward(&loss).unwrap();
    let error = three.backward(&loss).unwrap_err();
    assert_eq!(error.to_string(), "`backward` needs the loss of a `forward` before it");
}

/// Evaluating in the middle leaves the training as it would have been, dropout and gates included.
#[test]
fn evaluation_leaves_no_trace() {
    let json = r#"{ "progressive_layer_drop": { "enabled": true, "schedule": "constant" },
                    "optimizer": { "type": "AdamW", "params": { "lr": 0.01 } } }"#;
    let (_a, mut plain) = engine(registry(), json, 0.1);
    let (_b, mut watched) = engine(registry(), json, 0.1);
    for step in 0..8 {
        let batch = Small::inputs(4, step);
        let a = plain.step(&[&batch], |model, batch| model.loss(batch, true)).unwrap();
        let b = watched.step(&[&batch], |model, batch| model.loss(batch, true)).unwrap();
        assert_eq!(a.loss, b.loss);
        let held_out = [Small::inputs(3, 900), Small::inputs(1, 990)];
        let found = watched.evaluate(&held_out, |model, batch| model.loss(batch, false)).unwrap();
        let again = watched.evaluate(&held_out, |model, batch| model.loss(batch, false)).unwrap();
        assert_eq!((found, found.count), (again, 4));
    }
    same_bits(&plain.state(), &watched.state());
}
