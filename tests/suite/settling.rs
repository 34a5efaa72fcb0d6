//! What a script's forward assigns to a buffer is there as soon as its step is over.
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::script::{Repeats, Script};
use trainyard::{BoxError, Engine, Layers, Loss};
use trainyard_tests::{Made, plan, registry};

const CONFIG: &str = r#"{ "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;

fn engine(made: &Made, json: &str) -> (VarStore, Engine<Script>) {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let script = Script::load(&made.path(), &variables, &layers, &[], Repeats::Refused).unwrap();
    let engine = plan(registry(), json).unwrap().engine(script, &variables, &layers).unwrap();
    (variables, engine)
}

fn loss(script: &Script, inputs: &[(String, Tensor)], train: bool) -> Result<Loss, BoxError> {
    Ok(Loss::mean(script.forward(inputs, train)?.at(0).expect("an output").shallow_clone(), 1))
}

fn step(engine: &mut Engine<Script>, made: &Made, micro_batches: usize) {
    let inputs = made.inputs();
    engine.step(&vec![(); micro_batches], |script, ()| loss(script, &inputs, true)).unwrap();
}

/// The buffer `name`, in the state and in the variables.
fn both((variables, engine): &(VarStore, Engine<Script>), name: &str) -> [f64; 2] {
    [&engine.state().model[name], &variables.variables()[name]]
        .map(|tensor| tensor.double_value(&[]))
}

#[test]
fn a_state_has_what_the_last_forward_left() {
    for name in ["images", "averaged"] {
        let made = Made::new(name);
        for micro_batches in [1, 3] {
            let mut run = engine(&made, CONFIG);
            for done in 1..4 {
                step(&mut run.1, &made, micro_batches);
                assert_eq!(both(&run, "seen"), [(done * micro_batches) as f64; 2], "{name}");
            }
        }
    }
}

/// In a process that has trained already: what was loaded stays, and the training goes on from it.
#[test]
fn a_state_that_is_loaded_is_not_undone() {
    for name in ["images", "averaged"] {
        let made = Made::new(name);
        let mut run = engine(&made, CONFIG);
        step(&mut run.1, &made, 1);
        let saved = run.1.state();
        for _ in 0..3 {
            step(&mut run.1, &made, 1);
        }
        run.1.load_state(&saved).unwrap();
        assert_eq!(both(&run, "seen"), [1.0; 2], "{name}");
        step(&mut run.1, &made, 1);
        assert_eq!(both(&run, "seen"), [2.0; 2], "{name}");
        let mut straight = engine(&made, CONFIG);
        (0..2).for_each(|_| step(&mut straight.1, &made, 1));
        for (name, tensor) in &straight.1.state().model {
            assert!(tensor.equal(&run.1.state().model[name]), "{name}");
        }
    }
}

/// A forward that fails behind its assignment, one that only evaluates, and the same file saved.
#[test]
fn every_way_out_of_a_forward_settles() {
    let made = Made::new("averaged");
    let mut run = engine(&made, CONFIG);
    step(&mut run.1, &made, 1);
    let inputs = made.inputs();
    let failed = run.1.step(&[()], |script, ()| {
        loss(script, &inputs, true)?;
        Err::<Loss, BoxError>("no".into())
    });
    assert!(failed.is_err());
    assert_eq!(both(&run, "seen"), [2.0; 2]);
    let trained = run.1.evaluate([()], |script, ()| loss(script, &inputs, true)).unwrap();
    assert!(trained.loss.is_finite());
    assert_eq!(both(&run, "seen"), [3.0; 2]);
    let saved = made.beside("saved.pt");
    run.1.model().write(&mut std::fs::File::create(&saved).unwrap()).unwrap();
    assert_eq!(made.evaluated(&saved)["state/seen"].int64_value(&[]), 3);
}

/// A buffer that repeats one number takes a state, and keeps repeating.
#[test]
fn a_buffer_that_repeats_itself_is_loaded() {
    let made = Made::new("averaged");
    let mut run = engine(&made, CONFIG);
    let mut saved = run.1.state();
    saved.model.insert("ones".to_owned(), Tensor::from_slice(&[3f32; 5]));
    run.1.load_state(&saved).unwrap();
    let found: BTreeMap<_, _> = run.0.variables().into_iter().collect();
    assert_eq!(found["ones"], Tensor::from_slice(&[3f32; 5]));
    assert_eq!(found["ones"].stride(), [0]);
}
