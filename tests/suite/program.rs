//! Models of torch.export against PyTorch's own training of them, at another batch size than the exported one.
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::program::Program;
use trainyard::{BoxError, Engine, Layers, Loss};
use trainyard_tests::{Made, plan, registry};

/// Furthest that two numbers may lie apart, relative to the larger.
const TOLERANCE: f64 = 1e-6;

fn loaded(made: &Made) -> (VarStore, Program) {
    let variables = VarStore::new(Device::Cpu);
    let program = Program::load(&made.path(), &variables).unwrap_or_else(|e| panic!("{e}"));
    (variables, program)
}

fn engine(made: &Made, more: &str) -> (VarStore, Engine<Program>) {
    let (variables, program) = loaded(made);
    let json = format!(
        r#"{{ {more} "optimizer": {{ "type": "SGD", "params": {{ "lr": 0.1 }} }} }}"#
    );
    let engine = plan(registry(), &json).unwrap().engine(program, &variables, &Layers::new());
    (variables, engine.unwrap())
}

fn loss(program: &Program, inputs: &[(String, Tensor)], train: bool) -> Result<Loss, BoxError> {
    let outputs = program.forward(inputs, train)?;
    let loss = outputs.get("loss").or(outputs.at(0)).expect("an output");
    Ok(Loss::mean(loss.shallow_clone(), 1))
}

fn evaluated(program: &Program, inputs: &[(String, Tensor)]) -> (f64, Tensor) {
    let outputs = tch::no_grad(|| program.forward(inputs, false)).unwrap_or_else(|e| panic!("{e}"));
    let loss = outputs.get("loss").or(outputs.at(0)).expect("a loss");
    (loss.double_value(&[]), outputs.at(1).expect("another output").shallow_clone())
}

fn close(name: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() <= TOLERANCE * theirs.abs(), "{name}: {ours} and {theirs}");
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

/// How far all tensors `ours` lie from PyTorch's under `prefix`, together.
fn agree<'a>(made: &Made, prefix: &str, ours: impl Iterator<Item = (&'a str, &'a Tensor)>) {
    let (mut difference, mut whole, mut met) = (0.0, 0.0, 0);
    for (name, tensor) in ours {
        let key = format!("{prefix}/{name}");
        let Some(theirs) = made.tensors.get(&key) else { panic!("PyTorch has no {key}") };
        difference += norm(&(tensor - theirs)).powi(2);
        whole += norm(theirs).powi(2);
        met += 1;
    }
    let of_theirs = made.tensors.keys().filter(|key| key.starts_with(&format!("{prefix}/")));
    assert_eq!(met, of_theirs.count(), "PyTorch has others under {prefix}");
    let relative = (difference / whole).sqrt();
    assert!(relative <= TOLERANCE, "{prefix}: all together differ by {relative}");
}

/// The first gradients.
fn first_gradients_agree(made: &Made, inputs: &[(String, Tensor)]) {
    let (_variables, mut engine) = engine(made, "");
    let found = engine.forward(|program| loss(program, inputs, true)).unwrap();
    engine.backward(&found).unwrap();
    let gradients: Vec<_> = engine
        .parameters()
        .map(|(name, tensor)| (name, tensor.grad()))
        .filter(|(_, gradient)| gradient.defined())
        .collect();
    agree(made, "grad", gradients.iter().map(|(name, gradient)| (*name, gradient)));
}

/// Five steps of SGD: losses, the first gradients, all weights and buffers behind them, evaluations before and then.
fn agrees(name: &str) {
    let made = Made::exported(name);
    let inputs = made.inputs();
    first_gradients_agree(&made, &inputs);
    let (variables, mut engine) = engine(&made, "");
    let (before, _) = evaluated(engine.model(), &inputs);
    close("evaluated before", before, made.tensors["before"].double_value(&[]));
    let losses = Vec::<f64>::try_from(&made.tensors["losses"]).unwrap();
    for (step, theirs) in losses.iter().enumerate() {
        let batch = [made.inputs()];
        let report = engine.step(&batch, |program, inputs| loss(program, inputs, true)).unwrap();
        close(&format!("loss {step}"), report.loss, *theirs);
    }
    let ours = variables.variables();
    let program = engine.model();
    let state = program.state_dict().iter().map(|(name, own)| (name.as_str(), &ours[own]));
    agree(&made, "state", state);
    let (loss, output) = evaluated(program, &inputs);
    close("evaluated", loss, made.tensors["evaluated"].double_value(&[]));
    let theirs = &made.tensors["output"];
    assert!(norm(&(&output - theirs)) <= TOLERANCE * norm(theirs), "the evaluation's output differs");
}

macro_rules! agreeing {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            agrees(stringify!($name));
        }
    )* };
}

mod trains_as_in_pytorch {
    use super::agrees;

    agreeing!(bert gpt2 vit resnet mlp normalised in_place transformer lstm gru attention convolution tied);
}
