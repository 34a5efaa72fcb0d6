//! What goes wrong is said, and the engine goes on.
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::{Error, Layers, Loss};
use trainyard_tests::{Small, engine, plan, registry, same_bits, train};

const PLD: &str = r#"{ "progressive_layer_drop": { "enabled": true, "schedule": "constant" },
                       "optimizer": { "type": "AdamW", "params": { "lr": 0.01 } } }"#;

#[test]
fn a_panicking_or_failing_forward_is_an_error_and_the_step_can_be_tried_again() {
    let (_a, mut undisturbed) = engine(registry(), PLD, 0.1);
    let (_b, mut shaken) = engine(registry(), PLD, 0.1);
    train(&mut undisturbed, 3);
    train(&mut shaken, 3);

    let wrong = (Tensor::ones([2, 5], (Kind::Float, Device::Cpu)), Tensor::from(0f32));
    let good = Small::inputs(4, 0);
    let error = shaken.step(&[&good, &wrong], |m, b| m.loss(b, true)).unwrap_err();
    assert!(matches!(error, Error::Panicked { step: 3, micro_batch: 1, .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("the forward panicked at step 3, micro-batch 1: "), "{text}");
    assert!(text.contains("shapes cannot be multiplied"), "{text}");
    assert!(!text.contains('\n'), "{text}");

    let error = shaken.step(&[()], |_, ()| Err::<Loss, _>("no more data")).unwrap_err();
    assert_eq!(error.to_string(), "the forward failed at step 3, micro-batch 0: no more data");

    // A panic inside `no_grad` must not leave gradients off.
    let inside = |m: &Small, b: &&(Tensor, Tensor)| tch::no_grad(|| m.loss(b, true));
    assert!(matches!(shaken.step(&[&wrong], inside), Err(Error::Panicked { .. })));
    let detached = |m: &Small, b: &&(Tensor, Tensor)| Loss::mean(m.loss(b, true).mean.detach(), 4);
    assert!(matches!(shaken.step(&[&good], detached), Err(Error::Usage(_))), "a detached loss");

    let leaf = |_: &Small, _: &()| Loss::mean(Tensor::from(1f32), 1);
    assert!(matches!(shaken.step(&[()], leaf), Err(Error::Usage(_))), "a loss of no parameter");

    train(&mut undisturbed, 3);
    train(&mut shaken, 3);
    same_bits(&undisturbed.state(), &shaken.state());
}

#[test]
fn misuse_of_the_engine_is_said() {
    let store = VarStore::new(Device::Cpu);
    let layers = Layers::new();
    let _model = Small::new(store.root(), &layers, 2, 0.0);
    let error = plan(registry(), "{}").unwrap().engine((), &store, &layers).err().unwrap();
    assert!(
        error.to_string().starts_with("run.json:1:1: no section sets the optimizer")
            && error.to_string().contains("\"optimizer\""),
        "{error}"
    );
    let mut first = plan(registry(), PLD).unwrap().engine((), &store, &layers).unwrap();
    let error = plan(registry(), PLD).unwrap().engine((), &store, &layers).err().unwrap();
    assert_eq!(error.to_string(), "these layers belong to another engine already");
    let none: [(); 0] = [];
    let error = first.step(&none, |(), ()| Loss::mean(Tensor::from(0f32), 1)).unwrap_err();
    assert_eq!(error.to_string(), "a step needs at least one micro-batch");
    let found = first.evaluate(none, |(), _| Loss::mean(Tensor::from(0f32), 1)).unwrap();
    assert_eq!((found.count, found.measured()), (0, None), "there is no batch");
    drop(first);
    let (mut short, layers_of_short) = (VarStore::new(Device::Cpu), Layers::new());
    let _model = Small::new(short.root(), &layers_of_short, 2, 0.0);
    short.bfloat16();
    let error = plan(registry(), PLD).unwrap().engine((), &short, &layers_of_short).err().unwrap();
    let said = error.to_string();
    let expected = " is bfloat16, in which small steps are lost; make the model in float32 and switch on `bf16`";
    assert!(said.starts_with("parameter `") && said.contains(expected), "{said}");
    assert!(plan(registry(), PLD).unwrap().engine((), &store, &layers).is_ok(), "free again");
}

#[test]
fn a_state_of_another_model_is_refused_whole() {
    let (_a, mut engine) = engine(registry(), PLD, 0.0);
    train(&mut engine, 2);
    let before = engine.state();
    let mut other = engine.state();
    other.model.insert("blocks.0.attention.bias".to_owned(), Tensor::from_slice(&[1f32]));
    assert_eq!(
        engine.load_state(&other).unwrap_err().to_string(),
        "the saved state does not fit: the model: `blocks.0.attention.bias` is [1], saved, and [6] here"
    );
    other.model.remove("blocks.0.attention.bias");
    assert!(engine.load_state(&other).unwrap_err().to_string().contains("which is not saved"));
    let mut other = engine.state();
    other.plugins.insert("nonsense".to_owned(), serde_json::json!(1));
    assert!(engine.load_state(&other).unwrap_err().to_string().contains("`nonsense`"));
    same_bits(&before, &engine.state());
}

#[test]
fn bad_configurations_are_named_with_their_place() {
    let cases = [
        (r#"{ "progressive_layer_drop": { "theta": 1.5 } }"#, "theta = 1.5 is not in (0, 1]"),
        (r#"{ "progressive_layer_drop": { "theta": 0 } }"#, "theta = 0 is not in (0, 1]"),
        (r#"{ "progressive_layer_drop": { "theta": "0.5" } }"#, "theta = \"0.5\""),
        (r#"{ "progressive_layer_drop": { "gamma": -1 } }"#, "gamma = -1"),
        (r#"{ "progresive_layer_drop": {} }"#, "did you mean \"progressive_layer_drop\"?"),
        (r#"{ "train_batch_size": 10, "train_micro_batch_size_per_gpu": 4 }"#, "8 or 12 would be"),
        ("", "there is no value here"),
        ("[1]", "object"),
        ("{", "run.json:1:"),
    ];
    for (json, expected) in cases {
        let text = plan(registry(), json).err().unwrap_or_else(|| panic!("{json}")).to_string();
        assert!(text.contains(expected), "{json}: {text}");
        assert!(text.starts_with("run.json"), "{json}: {text}");
    }
}

/// A user's own program may print the error with miette and get the text underlined.
#[test]
fn an_error_of_the_configuration_is_a_diagnostic_with_labels() {
    let json = r#"{ "progressive_layer_drop": { "theta": 1.5 } }"#;
    let error = plan(registry(), json).err().expect("theta is too large");
    let labels: Vec<_> = miette::Diagnostic::labels(&error).expect("a place").collect();
    assert_eq!(labels[0].offset(), json.find("1.5").expect("it is there"));
}

/// JSON knows one kind of number: 1e3 is a whole one.
#[test]
fn whole_numbers_may_be_written_as_floats() {
    let json = r#"{ "train_batch_size": 8.0, "training": { "total_steps": 1e2 },
                    "optimizer": { "type": "SGD", "params": { "lr": 1 } },
                    "scheduler": { "type": "WarmupLR", "params": { "warmup_num_steps": 1e1 } } }"#;
    let plan = plan(registry(), json).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(plan.total_steps().unwrap(), Some(100));
    let store = VarStore::new(Device::Cpu);
    assert!(plan.engine((), &store, &Layers::new()).is_ok());
}

#[test]
fn what_needs_the_model_is_checked_against_it() {
    let build = |json: &str, blocks: i64| {
        let store = VarStore::new(Device::Cpu);
        let layers = Layers::new();
        let model = Small::new(store.root(), &layers, blocks, 0.0);
        let plan = plan(registry(), json).expect("right so far");
        plan.engine(model, &store, &layers).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(build(PLD, 2), "");
    let none = build(PLD, 0);
    assert!(none.contains("progressive_layer_drop") && none.contains("no layer calls"), "{none}");
    let pattern = PLD.replace(r#""enabled""#, r#""layers": "encoder.*", "enabled""#);
    let text = build(&pattern, 2);
    assert!(text.contains("\"encoder.*\"") && text.contains("blocks.0"), "{text}");
}
