//! The keys of data parallelism, in worlds of one and of many.
use super::cluster::Cluster;
use super::config::Backend;
use crate::optimizer::Optimizer;
use crate::registry;
use serde_json::json;
use std::time::Duration;
use tch::Device;
use tch::nn::{Init, VarStore};
use trainyard::config::{self, Document, Source};
use trainyard::{Communicator, Introduction, Layers, Plan, Registry, Result, World};

fn plan(registry: Registry, world: World, text: &str) -> Result<Plan> {
    let document = Document::parse(Source::text("run.json", text)).expect("it is JSON");
    registry.plan_in(world, config::Layers::new(document))
}

fn lines(world: World, text: &str) -> Vec<String> {
    let plan = plan(registry(), world, text).unwrap();
    let parameters = vec![("weight".to_owned(), vec![2, 3])];
    let explanation = plan.explain(&Layers::new(), parameters).unwrap();
    explanation.lines.into_iter().map(|(section, line)| format!("{section}: {line}")).collect()
}

#[test]
fn mistakes() {
    for (text, sentence) in [
        (
            r#"{"distributed": {"backend": "mpi"}}"#,
            r#"run.json:1:29: distributed.backend = "mpi" is not one of "auto", "gloo", "nccl""#,
        ),
        (
            r#"{"distributed": {"timeout_seconds": 0}}"#,
            "run.json:1:37: distributed.timeout_seconds = 0 is not in [1, 1000000]",
        ),
        (
            r#"{"distributed": {"reduce_bucket_size": 0}}"#,
            "run.json:1:40: distributed.reduce_bucket_size = 0 is not >= 1",
        ),
        (
            r#"{"gradient_predivide_factor": 0}"#,
            "run.json:1:31: gradient_predivide_factor = 0 is not > 0",
        ),
        (
            r#"{"communication_data_type": "int8"}"#,
            r#"run.json:1:29: communication_data_type = "int8" is not one of "fp32", "fp16", "bf16""#,
        ),
    ] {
        let error = plan(registry(), World::solo(), text).map(drop).unwrap_err().to_string();
        assert_eq!(error, sentence);
    }
}

/// A launcher switches it on, not the file.
#[test]
fn the_world_decides() {
    let optimizer = r#"{"optimizer": {"type": "SGD"}}"#;
    let about = |world| lines(world, optimizer).into_iter().filter(|l| l.contains("rank")).count();
    assert_eq!(about(World::solo()), 0);
    let many = lines(World::local(1, 4, 29500), optimizer);
    assert!(many.iter().any(|line| line.contains("rank 1 of 4")), "{many:?}");
    let one = r#"{"optimizer": {"type": "SGD"}, "prescale_gradients": true}"#;
    let one = lines(World::solo(), one);
    // By one name, whichever of its keys are there.
    assert!(one.contains(&"distributed: nothing to average: one rank".to_owned()), "{one:?}");
}

#[test]
fn a_program_without_it_does_not_train_on_many_ranks() {
    let text = r#"{"optimizer": {"type": "SGD"}}"#;
    let plan = plan(Registry::new().add::<Optimizer>(), World::local(0, 2, 29500), text).unwrap();
    let variables = VarStore::new(Device::Cpu);
    let _ = variables.root().var("weight", &[2, 3], Init::Const(1.0));
    let error = plan.engine((), &variables, &Layers::new()).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("this is rank 0 of 2") && error.contains("plugin"), "{error}");
}

#[test]
fn a_backend_for_another_device_is_refused() {
    let introduction = Introduction {
        configuration: json!({}),
        model: Vec::new(),
        fingerprints: Vec::new(),
        device: Device::Cpu,
    };
    let cluster = |backend| Cluster::new(World::local(0, 2, 1), backend, Duration::from_secs(1));
    let error = cluster(Backend::Nccl).join(&introduction).unwrap_err().to_string();
    assert!(error.contains("this one is on the CPU, so use \"gloo\""), "{error}");
    let introduction = Introduction { device: Device::Cuda(0), ..introduction };
    let error = cluster(Backend::Gloo).join(&introduction).unwrap_err().to_string();
    assert!(error.contains("so use \"nccl\""), "{error}");
}
