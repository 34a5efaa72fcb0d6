//! What comes back is what was saved.
use super::*;
use crate::{Error, Saver, find};
use serde_json::json;

const OPTIMIZERS: [&str; 6] = [
    r#"{ "type": "AdamW", "params": { "lr": 0.01 } }"#,
    r#"{ "type": "Lamb", "params": { "lr": 0.01 } }"#,
    r#"{ "type": "SGD", "params": { "lr": 0.01, "momentum": 0.9 } }"#,
    r#"{ "type": "Adagrad", "params": { "lr": 0.01 } }"#,
    r#"{ "type": "Lion", "params": { "lr": 0.001 } }"#,
    r#"{ "type": "Muon", "params": { "lr": 0.01 } }"#,
];

#[test]
fn training_goes_on_as_if_nothing_had_been() {
    for optimizer in OPTIMIZERS {
        let folder = tempfile::tempdir().unwrap();
        let mut straight = engine_of(optimizer, 5);
        let losses = train(&mut straight, 6);
        let mut first = engine_of(optimizer, 5);
        train(&mut first, 3);
        let mut checkpoints = Checkpoints::claim(folder.path(), Keep::default()).unwrap();
        let path = checkpoints.save(&Snapshot::take(&first, Extra::default()).unwrap()).unwrap();
        assert_eq!(path, Some(folder.path().join("step-3")));
        let mut second = engine_of(optimizer, 5);
        train(&mut second, 1);
        find(folder.path()).unwrap().0.restore(&mut second).unwrap();
        assert_eq!(train(&mut second, 6), losses[3..], "{optimizer}");
        let differences = differences(&second.state(), &straight.state());
        assert_eq!(differences, Vec::<String>::new(), "{optimizer}");
    }
}

#[test]
fn what_the_user_keeps_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine();
    train(&mut engine, 1);
    let mean = Tensor::from_slice(&[1.5f32, -0.0]);
    let extra = || Extra {
        user: json!({ "epoch": 3, "third": 1.0 / 3.0, "least": f64::MIN_POSITIVE }),
        tensors: vec![("mean".to_owned(), mean.shallow_clone())],
        validation_loss: Some(0.1 + 0.2),
        run: json!([1, 2]),
        configuration: json!({ "seed": u64::MAX }),
        files: Vec::new(),
    };
    let mut checkpoints = Checkpoints::claim(folder.path(), Keep::default()).unwrap();
    checkpoints.save_tagged("mine", &Snapshot::take(&engine, extra()).unwrap()).unwrap();
    let extra = extra();
    let (checkpoint, broken) = find(folder.path()).unwrap();
    assert!(broken.is_empty());
    assert_eq!(checkpoint.path(), folder.path().join("mine"));
    assert_eq!(checkpoint.user(0).unwrap(), extra.user);
    assert!(checkpoint.user_tensors(0).unwrap()["mean"].equal(&mean));
    assert_eq!(checkpoint.state().validation_loss, extra.validation_loss);
    assert_eq!(checkpoint.state().run, extra.run);
    assert_eq!(checkpoint.configuration().unwrap(), extra.configuration);
    for tag in ["", ".hidden", "a/b", ".."] {
        let error = checkpoints.save_tagged(tag, &snapshot(1)).unwrap_err().to_string();
        assert!(error.contains("is no name for a checkpoint"), "{error}");
    }
}

/// What is written is what was copied, whatever the training does meanwhile.
#[test]
fn a_save_beside_the_training_is_of_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { last: 100, ..Keep::default() };
    let mut saver = Saver::new(Checkpoints::claim(folder.path(), keep).unwrap());
    let mut engine = engine();
    for step in 1..=8 {
        train(&mut engine, step);
        saver.save(&engine, Extra::default()).unwrap();
    }
    assert_eq!(saver.finish().unwrap(), Some(folder.path().join("step-8")));
    for found in crate::list(folder.path()).unwrap() {
        holds_its_step(&found.outcome.unwrap());
    }
    assert_eq!(crate::list(folder.path()).unwrap().len(), 8);
}

#[test]
fn a_failed_save_is_told_once_and_the_next_one_works() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("checkpoints");
    let mut saver = Saver::new(Checkpoints::claim(&folder, Keep::default()).unwrap());
    let mut engine = engine();
    train(&mut engine, 1);
    std::fs::rename(&folder, outer.path().join("away")).unwrap();
    saver.save(&engine, Extra::default()).unwrap();
    let error = saver.finish().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot write {}", folder.display())), "{error}");
    assert_eq!(saver.poll().unwrap(), None);
    std::fs::rename(outer.path().join("away"), &folder).unwrap();
    saver.save(&engine, Extra::default()).unwrap();
    drop(saver);
    assert_eq!(newest_step(&folder), Some(1));
}

#[test]
fn a_state_of_another_model_or_optimizer_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[2], 1));
    let checkpoint = find(folder.path()).unwrap().0;
    for (mut other, said) in [
        (engine_of(OPTIMIZERS[0], 6), "the model: `linear.bias` is [5], saved, and [6] here"),
        (engine_of(OPTIMIZERS[1], 5), "its optimizer is "),
    ] {
        let before = other.state();
        let error = checkpoint.restore(&mut other).unwrap_err();
        assert!(matches!(error, Error::DoesNotFit { .. }));
        let error = error.to_string();
        assert!(error.contains("does not fit this run") && error.contains(said), "{error}");
        assert!(error.contains("; to begin anew with its weights alone"), "{error}");
        let after = other.state();
        assert!(before.model.iter().all(|(name, tensor)| tensor.equal(&after.model[name])));
        assert_eq!(after.step, 0);
    }
}

#[test]
fn a_second_run_in_the_folder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let first = Checkpoints::claim(folder.path(), Keep::default()).unwrap();
    let error = Checkpoints::claim(folder.path(), Keep::default()).unwrap_err().to_string();
    let id = std::process::id();
    let expected = format!("{} is in use by the run of process {id}", folder.path().display());
    assert!(error.starts_with(&expected), "{error}");
    drop(first);
    Checkpoints::claim(folder.path(), Keep::default()).unwrap();
}
