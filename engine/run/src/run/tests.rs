//! Runs of a model of one weight, on data of a user's own.
use super::*;
use crate::{Existing, OUTPUTS, Weights};
use std::cell::RefCell;
use std::rc::Rc;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::config::{Document, Layers as Settings, Source};
use trainyard::{Layers, Loss};

/// Eight numbers to train on and four to validate on.
struct Numbers;

impl Data for Numbers {
    type Batch = f64;

    fn training_samples(&self) -> usize {
        8
    }

    fn validation_samples(&self) -> usize {
        4
    }

    fn training(&self, _: BatchShape, from: u64) -> Result<Batches<Vec<f64>>, BoxError> {
        Ok(Box::new((from..).map(|step| Ok(vec![step as f64]))))
    }

    fn validation(&self, _: BatchShape) -> Result<Batches<f64>, BoxError> {
        Ok(Box::new([1.0, 2.0].into_iter().map(Ok)))
    }
}

fn run(steps: u64) -> (Run<Tensor, Numbers>, VarStore) {
    let text = format!(
        r#"{{ "train_batch_size": 2, "training": {{ "total_steps": {steps}, "evaluate_every": 2 }},
            "optimizer": {{ "type": "SGD", "params": {{ "lr": 0.1 }} }} }}"#
    );
    let document = Document::parse(Source::text("test", text)).expect("JSON");
    let plan = trainyard_plugins::registry().plan(Settings::new(document)).expect("it is right");
    let variables = VarStore::new(Device::Cpu);
    let weight = variables.root().ones("weight", &[1]);
    let engine = plan.engine(weight, &variables, &Layers::new()).expect("an engine");
    (Run::new(plan, engine, Numbers).expect("a run"), variables)
}

fn loss(weight: &Tensor, batch: &f64, _: bool) -> Loss {
    Loss::mean((weight * *batch).square().sum(tch::Kind::Float), 2)
}

type Told = Rc<RefCell<Vec<String>>>;

/// An observer that writes down what it is told.
fn listener() -> (Told, impl Observer + 'static) {
    let told = Told::default();
    let heard = told.clone();
    let observer = move |event: &Event<'_>| {
        heard.borrow_mut().push(match event {
            Event::Started { completed_steps, total_steps, plan, .. } => {
                let size = &plan.config().value()["train_batch_size"];
                format!("started {completed_steps} of {total_steps}, batch {size}")
            }
            Event::Step { attempt, report } => format!("step {} {attempt}", report.step),
            Event::Failed { attempt, step, .. } => format!("failed {step} {attempt}"),
            Event::Evaluating { step, done, batches } => {
                format!("evaluating {step}: {done} of {batches}")
            }
            Event::Evaluated { step, .. } => format!("evaluated {step}"),
            Event::Stopping { step, total_steps, by } => {
                format!("stopping {step} of {total_steps}, {by:?}")
            }
            Event::Warned { message } => format!("warned {message}"),
            Event::Checkpointed { path } => {
                format!("checkpointed {}", path.file_name().unwrap_or_default().display())
            }
            Event::Saved { file, bytes } => format!("saved {file} {}", *bytes > 0),
            Event::Ended { ending } => format!("ended {ending}"),
            _ => "another".to_owned(),
        });
        Ok(())
    };
    (told, observer)
}

#[test]
fn observers_are_told_in_order() {
    let outer = tempfile::tempdir().unwrap();
    let folder = Folder::claim(outer.path(), OUTPUTS, Existing::Refuse).unwrap();
    let ((run, variables), (told, observer)) = (run(3), listener());
    let weights = Weights::of(&variables);
    let run = run.observed(observer).saved(move |_, files| weights.save(files)).written_to(folder);
    assert_eq!({ run }.train(loss).unwrap(), Ending::Completed);
    let expected = [
        "started 0 of 3, batch 2",
        "step 0 0",
        "step 1 1",
        "evaluating 2: 0 of 2",
        "evaluating 2: 1 of 2",
        "evaluated 2",
        "step 2 2",
        "evaluating 3: 0 of 2",
        "evaluating 3: 1 of 2",
        "evaluated 3",
        "saved model.safetensors true",
        "ended completed",
    ];
    assert_eq!(*told.borrow(), expected);
}

#[test]
fn a_run_that_is_asked_ends_behind_its_step() {
    let ((run, _), (told, observer), stop) = (run(9), listener(), Stop::new());
    let asked = stop.clone();
    let asking = move |event: &Event<'_>| {
        if matches!(event, Event::Step { report, .. } if report.step == 1) {
            asked.ask();
        }
        Ok(())
    };
    let mut run = run.observed(observer).observed(asking).until(stop);
    assert_eq!(run.train(loss).unwrap(), Ending::Stopped);
    assert_eq!(run.engine().completed_steps(), 2);
    let told = told.borrow();
    assert!(!told.iter().any(|event| event.starts_with("evaluated")), "{told:?}");
    assert_eq!(told[3..], ["stopping 2 of 9, None", "ended stopped"]);
}

/// An evaluation ends before its next batch, also the last one, and what it has found is told to nobody.
#[test]
fn a_run_that_is_asked_leaves_the_rest_of_an_evaluation_out() {
    for (steps, at) in [(9, 2), (9, 4), (3, 3)] {
        let ((run, _), (told, observer), stop) = (run(steps), listener(), Stop::new());
        let asked = stop.clone();
        let evaluated = Rc::new(RefCell::new(Vec::new()));
        let seen = evaluated.clone();
        let forward = move |weight: &Tensor, batch: &f64, train: bool| {
            if !train {
                seen.borrow_mut().push(*batch);
            }
            loss(weight, batch, train)
        };
        let asking = move |event: &Event<'_>| {
            if matches!(event, Event::Evaluating { step, done: 1, .. } if *step == at) {
                asked.ask();
            }
            Ok(())
        };
        let mut run = run.observed(observer).observed(asking).until(stop);
        assert_eq!(run.train(forward).unwrap(), Ending::Stopped);
        assert_eq!(run.engine().completed_steps(), at);
        let stopping = format!("stopping {at} of {steps}, None");
        let told = told.borrow();
        assert_eq!(told[told.len() - 2..], [stopping.as_str(), "ended stopped"], "{told:?}");
        assert!(!told.contains(&format!("evaluated {at}")), "{told:?}");
        assert_eq!(evaluated.borrow().last(), Some(&1.0), "the second batch was not run");
    }
}

/// Whoever is killed during an evaluation has lost no step.
#[test]
fn a_step_is_in_the_log_before_its_evaluation() {
    let outer = tempfile::tempdir().unwrap();
    let folder = Folder::claim(outer.path(), OUTPUTS, Existing::Refuse).unwrap();
    let path = outer.path().join("steps.jsonl");
    let read = move || std::fs::read_to_string(&path).unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (lines, now) = (seen.clone(), read.clone());
    let observer = move |event: &Event<'_>| {
        if let Event::Evaluating { done: 0, .. } = event {
            lines.borrow_mut().push(now().lines().count());
        }
        Ok(())
    };
    run(3).0.observed(observer).written_to(folder).train(loss).unwrap();
    assert_eq!(*seen.borrow(), [2, 4]);
    let text = read();
    let keys = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["validation_loss"].is_f64())
    });
    let expected = [(0, false), (1, false), (2, true), (2, false), (3, true)];
    assert_eq!(keys.collect::<Vec<_>>(), expected);
}

/// The model is looked at once the last update is done.
#[test]
fn weights_that_overflowed_are_not_saved() {
    let outer = tempfile::tempdir().unwrap();
    let folder = Folder::claim(outer.path(), OUTPUTS, Existing::Refuse).unwrap();
    let (run, variables) = run(1);
    let weights = Weights::of(&variables);
    let mut run = run.saved(move |_, files| weights.save(files)).written_to(folder);
    let overflowing = |weight: &Tensor, batch: &f64, train: bool| {
        if !train {
            let _ = weight.detach().fill_(f64::INFINITY);
        }
        loss(weight, batch, train)
    };
    let error = run.train(overflowing).unwrap_err().to_string();
    assert!(error.starts_with("parameter `weight` is not finite after 1 steps"), "{error}");
    drop(run);
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1, "the log alone");
}

#[test]
fn what_cannot_be_saved_is_known_before_the_first_step() {
    let outer = tempfile::tempdir().unwrap();
    let folder = Folder::claim(outer.path(), OUTPUTS, Existing::Refuse).unwrap();
    let ((run, _), (told, observer)) = (run(3), listener());
    let save = |_: &Tensor, files: &mut dyn Files| {
        Ok(files.file("model.safetensors", &mut |_| Err("no such type".into()))?)
    };
    let error = run.observed(observer).saved(save).written_to(folder).train(loss).unwrap_err();
    assert_eq!(error.to_string(), "model.safetensors could not be written: no such type");
    assert_eq!(*told.borrow(), ["ended failed"]);
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0);
}

#[test]
fn a_step_that_fails_and_an_observer_that_refuses_end_a_run() {
    let ((run, _), (told, observer)) = (run(3), listener());
    let failing = |weight: &Tensor, batch: &f64, train: bool| match *batch {
        1.0 => Err("not this one"),
        _ => Ok(loss(weight, batch, train)),
    };
    let error = run.observed(observer).train(failing).unwrap_err().to_string();
    assert!(error.ends_with("not this one"), "{error}");
    assert_eq!(told.borrow()[1..], ["step 0 0", "failed 1 1", "ended failed"]);

    let refusing = |event: &Event<'_>| match event {
        Event::Step { .. } => Err("enough".into()),
        _ => Ok(()),
    };
    let (run, _) = self::run(3);
    let mut run = run.observed(refusing);
    assert_eq!(run.train(loss).unwrap_err().to_string(), "enough");
    assert_eq!(run.engine().completed_steps(), 1);
}
