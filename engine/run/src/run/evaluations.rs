//! Evaluations that end early, in a world of one and of two: ranks of this process, one on each thread.
use super::*;
use crate::RunError;
use std::net::TcpListener;
use std::thread;
use tch::nn::VarStore;
use tch::{Device, Kind};
use trainyard::config::{Document, Layers as Settings, Source};
use trainyard::{Error, Layers, Loss, World};

/// What happens to one rank, at the second of its batches if it is about one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Observer,
    Data,
    /// There are no batches at all.
    NoData,
    Forward,
    Panic,
    Stop,
}

const FAULTS: [Fault; 6] =
    [Fault::Observer, Fault::Data, Fault::NoData, Fault::Forward, Fault::Panic, Fault::Stop];

/// A user's own error.
#[derive(Debug, thiserror::Error)]
#[error("the disk is gone")]
struct Gone;

/// So many batches to validate on, of which the fault spoils the second.
struct Samples {
    batches: usize,
    fault: Option<Fault>,
}

impl Data for Samples {
    type Batch = usize;

    fn training_samples(&self) -> usize {
        8
    }

    fn validation_samples(&self) -> usize {
        8
    }

    fn training(&self, _: BatchShape, _: u64) -> Result<Batches<Vec<usize>>, BoxError> {
        Ok(Box::new((0..).map(|_| Ok(vec![1]))))
    }

    fn validation(&self, _: BatchShape) -> Result<Batches<usize>, BoxError> {
        let (batches, fault) = (self.batches, self.fault);
        if fault == Some(Fault::NoData) {
            return Err(Gone.into());
        }
        Ok(Box::new((0..batches).map(move |batch| match fault {
            Some(Fault::Data) if batch == 1 => Err(Gone.into()),
            _ => Ok(batch),
        })))
    }
}

/// What became of a rank: how its run ended, after how many steps, and the evaluations that it was told of.
type Came = (Result<Ending<'static>, RunError>, u64, usize);

fn rank(world: World, batches: usize, fault: Option<Fault>) -> Came {
    let text = r#"{ "train_micro_batch_size_per_gpu": 1, "distributed": { "timeout_seconds": 30 },
                    "training": { "total_steps": 3, "evaluate_every": 2 },
                    "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;
    let document = Document::parse(Source::text("test", text)).expect("JSON");
    let plan = trainyard_plugins::registry().plan_in(world, Settings::new(document));
    let plan = plan.expect("it is right");
    let variables = VarStore::new(Device::Cpu);
    let weight = variables.root().ones("weight", &[1]);
    let engine = plan.engine(weight, &variables, &Layers::new()).expect("the ranks meet");
    let run = Run::new(plan, engine, Samples { batches, fault }).expect("a run");
    let (stop, evaluated) = (Stop::new(), std::rc::Rc::new(std::cell::Cell::new(0)));
    let (asked, seen) = (stop.clone(), evaluated.clone());
    let observer = move |event: &Event<'_>| match (event, fault) {
        (Event::Evaluating { done: 1, .. }, Some(Fault::Observer)) => Err("enough".into()),
        (Event::Evaluating { done: 1, .. }, Some(Fault::Stop)) => {
            asked.ask();
            Ok(())
        }
        (Event::Evaluated { .. }, _) => {
            seen.set(seen.get() + 1);
            Ok(())
        }
        _ => Ok(()),
    };
    let mut run = run.observed(observer).until(stop);
    let ending = run.train(|weight, batch, train| match fault {
        Some(Fault::Forward) if !train && *batch == 1 => Err("no such row"),
        Some(Fault::Panic) if !train && *batch == 1 => panic!("no such column"),
        _ => Ok(Loss::mean(weight.square().sum(Kind::Float), 1)),
    });
    (ending, run.engine().completed_steps(), evaluated.get())
}

/// The rank that the fault came to: what it says is what it would say in training.
fn assert_own((ending, steps, evaluated): &Came, fault: Fault) {
    assert_eq!((*steps, *evaluated), (2, 0), "{fault:?}: {ending:?}");
    let right = match (fault, ending) {
        (Fault::Stop, Ok(Ending::Stopped)) => true,
        (Fault::Data | Fault::NoData, Err(RunError::Outside(error))) => error.is::<Gone>(),
        (Fault::Observer, Err(RunError::Outside(error))) => error.to_string() == "enough",
        (Fault::Forward, Err(RunError::Engine(Error::Forward { micro_batch: 1, .. }))) => true,
        (Fault::Panic, Err(RunError::Engine(Error::Panicked { micro_batch: 1, .. }))) => true,
        _ => false,
    };
    assert!(right, "{fault:?}: {ending:?}");
}

#[test]
fn what_ends_an_evaluation_is_told_as_in_training() {
    for fault in FAULTS {
        assert_own(&rank(World::solo(), 3, Some(fault)), fault);
    }
}

/// Whatever it is, on whichever rank, with as many batches as the others or not: all end together, and nobody takes a
/// part of the data for the whole.
#[test]
fn what_ends_an_evaluation_on_one_rank_ends_it_on_all() {
    for fault in FAULTS {
        for (culprit, batches) in [(0, [2, 2]), (0, [3, 1]), (1, [5, 2]), (1, [0, 3])] {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
            let port = port.expect("a free port").port();
            let start = |own: usize| {
                let fault = (own == culprit).then_some(fault);
                thread::spawn(move || rank(World::local(own, 2, port), batches[own], fault))
            };
            let ranks = [0, 1].map(start).map(|rank| rank.join().expect("it does not panic"));
            assert_own(&ranks[culprit], fault);
            let (ending, steps, evaluated) = &ranks[1 - culprit];
            assert_eq!((*steps, *evaluated), (2, 0), "{fault:?}: {ending:?}");
            match (fault, ending) {
                (Fault::Stop, Ok(Ending::Stopped)) => {}
                (Fault::Stop, _) | (_, Ok(_)) => panic!("{fault:?}: {ending:?}"),
                (_, Err(error)) => {
                    let told = format!("rank {culprit} failed in an evaluation: see its own error");
                    assert_eq!(error.to_string(), told, "{fault:?}");
                    assert!(matches!(error, RunError::Peer { .. }), "{error:?}");
                }
            }
        }
    }
}
