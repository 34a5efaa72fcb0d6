//! Models of torch.export against PyTorch's own training of them, at another batch size than the exported one.
use std::fs;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::program::Program;
use trainyard::{BoxError, Engine, Layers, Loss};
use trainyard_tests::{Made, logged, plan, registry};

/// Furthest that two numbers may lie apart, relative to the larger.
const TOLERANCE: f64 = 1e-6;

fn loaded(made: &Made) -> (VarStore, Program) {
    let variables = VarStore::new(Device::Cpu);
    let program = Program::load(&made.path(), &variables).unwrap_or_else(|e| panic!("{e}"));
    (variables, program)
}

fn engine(made: &Made, more: &str) -> (VarStore, Engine<Program>) {
    let (variables, program) = loaded(made);
    let json =
        format!(r#"{{ {more} "optimizer": {{ "type": "SGD", "params": {{ "lr": 0.1 }} }} }}"#);
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
    let relative = (ours - theirs).abs() / theirs.abs();
    // `--success-output immediate` shows them.
    println!("{name}: {relative:.1e}");
    assert!(relative <= TOLERANCE, "{name}: {ours} and {theirs}");
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
    println!("{prefix}: {relative:.1e}");
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
    assert!(
        norm(&(&output - theirs)) <= TOLERANCE * norm(theirs),
        "the evaluation's output differs"
    );
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

/// Evaluations of models that drop, and one forward of training with PyTorch's own masks.
#[test]
fn dropout_draws_as_in_pytorch_and_not_in_an_evaluation() {
    for name in ["dropped", "bert_dropped", "noise"] {
        let made = Made::exported(name);
        let inputs = made.inputs();
        let (_variables, program) = loaded(&made);
        let before = made.tensors["before"].double_value(&[]);
        close(name, evaluated(&program, &inputs).0, before);
        trainyard_native::set_parallel_dropout(false).unwrap();
        tch::manual_seed(7);
        let trained = loss(&program, &inputs, true).unwrap().mean.double_value(&[]);
        close(name, trained, made.tensors["losses"].double_value(&[0]));
        assert_ne!(trained, before, "{name} drops");
    }
}

/// Operators that draw and do not say what for are left alone in training, and no evaluation runs them.
#[test]
fn what_draws_for_an_unknown_reason_is_not_evaluated() {
    let made = Made::exported("doubt");
    let (_variables, program) = loaded(&made);
    let inputs = made.inputs();
    assert!(loss(&program, &inputs, true).is_ok());
    let error = program.forward(&inputs, false).map(drop).unwrap_err().to_string();
    for part in ["aten.rand_like.default", "of module `part`", "programs.py:"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

/// The log says that a program exported in evaluation mode never drops.
#[test]
fn the_mode_of_the_export_is_said() {
    let made = Made::exported("evaluating");
    let ((_variables, program), lines) = logged(tracing::Level::WARN, || loaded(&made));
    assert!(lines.contains("1 of its dropouts and normalisations never train"), "{lines}");
    let inputs = made.inputs();
    let value = |train| loss(&program, &inputs, train).unwrap().mean.double_value(&[]);
    assert_eq!(value(true), value(false));
}

/// Running figures change in training and not in an evaluation, which goes by them.
#[test]
fn an_evaluation_leaves_buffers_as_they_were() {
    let made = Made::exported("in_place");
    let (variables, program) = loaded(&made);
    let inputs = made.inputs();
    let seen = || variables.variables()["part.seen"].double_value(&[]);
    let before = seen();
    let _ = evaluated(&program, &inputs);
    assert_eq!(seen(), before);
    loss(&program, &inputs, true).unwrap();
    assert_ne!(seen(), before);
}

/// Autocast reaches the operators, and gradients stay float32; the region that switches it off keeps its format.
#[test]
fn a_program_runs_under_autocast() {
    for name in ["bert", "in_place"] {
        let made = Made::exported(name);
        let (_variables, mut engine) = engine(&made, r#""bf16": { "enabled": true },"#);
        let inputs = made.inputs();
        let found = engine.forward(|program| loss(program, &inputs, true)).unwrap();
        engine.backward(&found).unwrap();
        let (ours, theirs) =
            (found.mean.double_value(&[]), made.tensors["losses"].double_value(&[0]));
        let apart = (ours - theirs).abs() / theirs.abs();
        assert!(apart > 1e-7 && apart < 2e-2, "{name}: {ours} and {theirs}");
    }
}

/// A batch of other sizes than the graph has in common, of another type, or one that is no loss.
#[test]
fn batches_that_do_not_fit_are_named() {
    let made = Made::exported("bert");
    let (_variables, program) = loaded(&made);
    let of = |name: &str| made.tensors[&format!("input/{name}")].shallow_clone();
    let with = |name: &str, tensor: Tensor| -> String {
        let inputs: Vec<_> = made
            .inputs()
            .into_iter()
            .map(|(own, old)| if own == name { (own, tensor.shallow_clone()) } else { (own, old) })
            .collect();
        program.forward(&inputs, true).map(drop).unwrap_err().to_string()
    };
    assert_eq!(
        with("labels", of("labels").to_kind(Kind::Float)),
        "input `labels` is float32, and the program was exported for int64: save the data as int64 \
         (`labels.astype(\"int64\")` in numpy)"
    );
    let said = with("labels", of("labels").narrow(0, 0, 3));
    assert!(said.starts_with("input `"), "{said}");
    assert!(said.contains("as one size"), "{said}");
    let said = with("input_ids", of("input_ids").narrow(1, 0, 6));
    assert!(
        said.contains("input `input_ids` is of size [5, 6], and the program was exported for [s"),
        "{said}"
    );
}

/// Names of tied weights are all saved, and lead to one tensor, which trains once.
#[test]
fn tied_weights_are_one() {
    let made = Made::exported("tied");
    let (variables, program) = loaded(&made);
    assert_eq!(program.tied(), [("out.weight".to_owned(), "words.weight".to_owned())]);
    assert_eq!(variables.len(), 1);
    let names: Vec<_> = program.state_dict().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["words.weight", "out.weight"]);
}

/// A trained program is written as PyTorch reads it, with all names of tied weights; what is read again here is the same.
#[test]
fn a_trained_program_goes_back_to_python() {
    for name in ["in_place", "tied", "resnet"] {
        let made = Made::exported(name);
        let (_variables, mut engine) = engine(&made, "");
        let losses = Vec::<f64>::try_from(&made.tensors["losses"]).unwrap();
        for _ in losses {
            let batch = [made.inputs()];
            engine.step(&batch, |program, inputs| loss(program, inputs, true)).unwrap();
        }
        let saved = made.beside("saved.pt2");
        let mut file = fs::File::create(&saved).expect("a file");
        engine.model().write(&mut file).unwrap_or_else(|e| panic!("{e}"));
        let found = made.ran(&saved);
        close(name, found["loss"].double_value(&[]), made.tensors["then"].double_value(&[]));
        let state =
            found.iter().filter_map(|(key, tensor)| Some((key.strip_prefix("state/")?, tensor)));
        agree(&made, "state", state);
        let again = Program::load(&saved, &VarStore::new(Device::Cpu)).unwrap();
        let inputs = made.inputs();
        assert_eq!(evaluated(&again, &inputs), evaluated(engine.model(), &inputs), "{name}");
        // A second time, as what was read is still there.
        let mut second = Vec::new();
        engine.model().write(&mut second).unwrap();
        assert!(fs::read(&saved).expect("the file") == second, "{name}");
    }
}
