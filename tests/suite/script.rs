//! TorchScript models against PyTorch's own training of them.
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use trainyard::script::{Outline, Repeats, Script};
use trainyard::{
    BoxError, Branch, BuildContext, Engine, LayerCall, LayerWrap, Layers, Loss, Moment, Next,
    Parts, Plugin, PluginSpec, Section,
};
use trainyard_tests::{Made, plan, registry};

/// A plugin of another crate: closes the gates that it is told to.
struct Closing;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Config {
    layers: Vec<String>,
    closed: Vec<usize>,
    scale: f64,
}

impl Section for Closing {
    const KEYS: &'static [&'static str] = &["closing"];
    type Config = Config;

    fn layer_patterns(config: &Config) -> Vec<String> {
        config.layers.clone()
    }
}

impl PluginSpec for Closing {
    fn build(config: &Config, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        parts.plugin(Closed(Arc::new(config.clone())));
        Ok(())
    }
}

struct Closed(Arc<Config>);

impl Plugin for Closed {
    fn begin_forward(&mut self, _: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        Ok(Some(self.0.clone()))
    }
}

impl LayerWrap for Config {
    fn layer(&self, call: &LayerCall<'_>, x: &Tensor, next: Next<'_>) -> Result<Branch, BoxError> {
        if self.closed.contains(&call.block) {
            return Ok(Branch::Skipped);
        }
        match next.run(x)? {
            Branch::Ran { output, scale } => Ok(Branch::Ran { output, scale: scale * self.scale }),
            skipped => Ok(skipped),
        }
    }
}

fn engine(made: &Made, layers: &[&str], closed: &[i64], more: &str) -> (VarStore, Engine<Script>) {
    scaled(made, layers, (closed, 1.0), more)
}

fn scaled(
    made: &Made,
    layers: &[&str],
    (closed, scale): (&[i64], f64),
    more: &str,
) -> (VarStore, Engine<Script>) {
    let closing = match layers {
        [] => String::new(),
        _ => {
            format!(
                r#""closing": {{ "layers": {layers:?}, "closed": {closed:?}, "scale": {scale:?} }},"#
            )
        }
    };
    let json = format!(
        r#"{{ {closing} "training": {{ "seed": 11 }}, {more}
             "optimizer": {{ "type": "SGD", "params": {{ "lr": 0.1 }} }} }}"#
    );
    let plan = plan(registry().add::<Closing>(), &json).unwrap();
    let (variables, blocks) = (tch::nn::VarStore::new(tch::Device::Cpu), Layers::new());
    let patterns = plan.layer_patterns();
    let script =
        Script::load(&made.path(), &variables, &blocks, &patterns, Repeats::EachCall).unwrap();
    let engine = plan.engine(script, &variables, &blocks).unwrap();
    (variables, engine)
}

fn loss(script: &Script, inputs: &[(String, Tensor)], train: bool) -> Result<Loss, BoxError> {
    let outputs = script.forward(inputs, train)?;
    let loss = outputs.get("loss").or(outputs.at(0)).expect("an output");
    Ok(Loss::mean(loss.shallow_clone(), 1))
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

/// Loss and gradients of a training forward against PyTorch's under `prefix`.
fn agrees(made: &Made, prefix: &str, engine: &mut Engine<Script>) {
    let inputs = made.inputs();
    let found = engine.forward(|script| loss(script, &inputs, true)).unwrap();
    engine.backward(&found).unwrap();
    let (ours, theirs) = (&found.mean, &made.tensors[&format!("{prefix}loss")]);
    let (ours, theirs) = (ours.double_value(&[]), theirs.double_value(&[]));
    assert!((ours - theirs).abs() <= 1e-5 * theirs.abs(), "loss {ours} and {theirs}");
    let (mut difference, mut whole, mut met) = (0.0, 0.0, 0);
    for (name, parameter) in engine.parameters() {
        match made.tensors.get(&format!("{prefix}grad/{name}")) {
            None => assert!(!parameter.grad().defined(), "{name} has a gradient here only"),
            Some(theirs) => {
                assert!(parameter.grad().defined(), "{name} has a gradient in PyTorch only");
                difference += norm(&(parameter.grad() - theirs)).powi(2);
                whole += norm(theirs).powi(2);
                met += 1;
            }
        }
    }
    let of_theirs =
        made.tensors.keys().filter(|k| k.starts_with(&format!("{prefix}grad/"))).count();
    assert_eq!(met, of_theirs, "PyTorch has gradients of parameters that are not here");
    let relative = if whole > 0.0 { (difference / whole).sqrt() } else { difference };
    assert!(relative <= 1e-5, "{prefix}: all gradients together differ by {relative}");
}

/// Without gates, with all of them open, open and scaled, and with some closed.
fn compare(name: &str, layers: &str) {
    let made = Made::new(name);
    let closed: Vec<i64> = Vec::try_from(&made.tensors["closed"]).unwrap();
    agrees(&made, "", &mut engine(&made, &[], &[], "").1);
    agrees(&made, "", &mut engine(&made, &[layers], &[], "").1);
    agrees(&made, "scaled/", &mut scaled(&made, &[layers], (&[], 1.7), "").1);
    agrees(&made, "closed/", &mut engine(&made, &[layers], &closed, "").1);
}

/// Conditions on attributes and inputs, and what a layer turns and turns back.
#[test]
fn layers_whose_residual_connection_stands_behind_conditions_agree_with_pytorch() {
    compare("flagged", "layers.*");
    compare("early", "layers.*");
}

/// Loops that keep what they were given, differences, a normalisation by hand.
#[test]
fn layers_whose_residual_connection_is_written_otherwise_agree_with_pytorch() {
    compare("adding", "layers.*");
    compare("by_hand", "layers.*");
}

/// What a layer made it may change.
#[test]
fn layers_that_write_to_tensors_of_their_own_agree_with_pytorch() {
    compare("fresh_moving", "layers.*");
}

/// A skipped layer gives back what it was given; what the script then writes to has to be a copy.
#[test]
fn a_script_that_writes_to_what_layers_return_agrees_with_pytorch() {
    compare("in_place", "layers.*");
    compare("by_shelf", "layers.*");
}

#[test]
fn decoders_that_look_at_an_encoder_agree_with_pytorch() {
    compare("coded", "decoders.*");
    let outline = Outline::read(&Made::new("coded").path()).unwrap();
    let both = ["layers.*", "decoders.*"].map(str::to_owned);
    let gates = outline.gates(&both, Repeats::Refused).unwrap();
    let gates: Vec<_> = gates.iter().map(|(name, stream)| (name.as_str(), *stream)).collect();
    assert_eq!(gates, [("layers.0", 0), ("layers.1", 0), ("decoders.0", 0), ("decoders.1", 0)]);
}

#[test]
fn a_trace_agrees_with_pytorch() {
    compare("bert", "layer.*");
}

#[test]
fn a_trace_without_its_layers_agrees_with_pytorch() {
    compare("all_closed", "layer.*");
}

#[test]
fn a_script_with_a_loop_conditions_and_defaults_agrees_with_pytorch() {
    compare("looped", "blocks.*");
    compare("compiled", "blocks.*");
}

#[test]
fn layers_that_a_loop_picks_by_number_agree_with_pytorch() {
    compare("indexed", "layers.*");
}

#[test]
fn layers_whose_forward_calls_methods_of_their_own_agree_with_pytorch() {
    compare("helping", "layers.*");
}

#[test]
fn a_network_with_batch_normalisation_agrees_with_pytorch() {
    compare("images", "stage.*");
    compare("traced_images", "stage.*");
}

/// A block's branches as layers: a module of several that share one class, and so one graph.
#[test]
fn branches_inside_of_layers_are_gated_one_by_one() {
    let made = Made::new("looped");
    let (_, layers, script) = made.load(&["blocks.*.attention", "blocks.2.feed"]).unwrap();
    let names: Vec<_> = layers.blocks().into_iter().map(|block| block.name).collect();
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| format!("blocks.{i}.attention"));
    assert_eq!(names, [a, b, c, "blocks.2.feed".to_owned(), d]);
    drop(script);
    let mut engine = engine(&made, &["blocks.*.attention", "blocks.2.feed"], &[1, 3], "").1;
    let inputs = made.inputs();
    let found = engine.forward(|script| loss(script, &inputs, true)).unwrap();
    engine.backward(&found).unwrap();
    for (name, parameter) in engine.parameters() {
        let closed = name.starts_with("blocks.1.attention") || name.starts_with("blocks.2.feed");
        let idle = closed || name == "head.bias";
        assert_eq!(parameter.grad().defined(), !idle, "{name}");
    }
}

/// One layer that is called twice, and so is two layers deep.
#[test]
fn each_call_of_a_repeated_layer_is_gated() {
    for name in ["repeated", "traced_repeated"] {
        let made = Made::new(name);
        agrees(&made, "", &mut engine(&made, &["layers.*"], &[], "").1);
        agrees(&made, "closed/", &mut engine(&made, &["layers.*"], &[0, 1], "").1);
        let with_one = |closed: i64| {
            let (_, mut engine) = engine(&made, &["layers.*"], &[closed], "");
            let inputs = made.inputs();
            engine.forward(|script| loss(script, &inputs, true)).unwrap().mean.double_value(&[])
        };
        let (first, second) = (with_one(0), with_one(1));
        assert_eq!(first, second, "either leaves the layer once");
        for with_another in ["loss", "closed/loss"] {
            assert_ne!(first, made.tensors[with_another].double_value(&[]));
        }
    }
    let outline = Outline::read(&Made::new("in_loop").path()).unwrap();
    let error = outline.gates(&["layers.*".to_owned()], Repeats::EachCall).unwrap_err();
    assert!(error.to_string().contains("nobody knows how often"), "{error}");
    let outline = Outline::read(&Made::new("two_branches").path()).unwrap();
    outline.gates(&["layers.*".to_owned()], Repeats::EachCall).unwrap();
}

#[test]
fn names_ties_and_what_is_frozen() {
    let made = Made::new("bert");
    let (variables, _, script) = made.load(&[]).unwrap();
    assert_eq!(script.tied(), [("decoder.weight".to_owned(), "embedding.weight".to_owned())],);
    let names = variables.variables();
    assert!(names.contains_key("layer.2.attention.qkv.weight"), "{:?}", names.keys());
    assert!(!names.contains_key("decoder.weight"));
    let inputs: Vec<_> = script.inputs().iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, ["ids", "labels"]);
    let made = Made::new("looped");
    let (variables, _, script) = made.load(&[]).unwrap();
    let frozen = variables.variables().into_iter().filter(|(_, tensor)| !tensor.requires_grad());
    assert_eq!(frozen.map(|(name, _)| name).collect::<Vec<_>>(), ["head.bias"]);
    let optional: Vec<_> = script.inputs().iter().map(|input| input.optional).collect();
    assert_eq!(optional, [false, false, true, true]);
}

/// Trains with gates and in bf16, saves, and has PyTorch evaluate.
fn round_trip(name: &str, layers: &str) {
    let made = Made::new(name);
    let (variables, mut engine) = engine(&made, &[layers], &[1], r#""bf16": { "enabled": true },"#);
    let inputs = made.inputs();
    let before = variables.variables();
    let before: Vec<_> = before.into_iter().map(|(name, t)| (name, t.copy())).collect();
    for _ in 0..3 {
        engine.step(&[()], |script, ()| loss(script, &inputs, true)).unwrap();
    }
    let saved = made.beside("trained.pt");
    engine.model().write(&mut std::fs::File::create(&saved).unwrap()).unwrap();
    let now = variables.variables();
    let moved = before.iter().filter(|(name, tensor)| !now[name].equal(tensor)).count();
    assert!(moved > 3, "only {moved} tensors changed");
    let theirs = made.evaluated(&saved);
    for (name, tensor) in &now {
        let theirs = &theirs[&format!("state/{name}")];
        assert!(tensor.equal(theirs), "{name} is another tensor in PyTorch");
    }
    let ours =
        tch::no_grad(|| loss(engine.model(), &inputs, false)).unwrap().mean.double_value(&[]);
    let theirs = theirs["loss"].double_value(&[]);
    assert!((ours - theirs).abs() <= 1e-5 * theirs.abs(), "loss {ours} here and {theirs} there");
    // What was saved loads here too, and trains.
    let (_, _, again) = Made::load_from(&saved, &[layers]).unwrap();
    let again = tch::no_grad(|| loss(&again, &inputs, false)).unwrap().mean.double_value(&[]);
    assert!((ours - again).abs() <= 1e-6 * ours.abs(), "loss {ours} and, loaded again, {again}");
}

#[test]
fn trained_weights_go_back_to_pytorch() {
    round_trip("bert", "layer.*");
    round_trip("looped", "blocks.*");
    round_trip("spread", "layers.*");
}

#[test]
fn buffers_go_back_to_pytorch() {
    round_trip("images", "stage.*");
    round_trip("traced_images", "stage.*");
}

#[test]
fn bf16_acts_inside_of_a_script() {
    let made = Made::new("bert");
    let (_, mut full) = engine(&made, &["layer.*"], &[], "");
    let (_, mut half) = engine(&made, &["layer.*"], &[], r#""bf16": { "enabled": true },"#);
    let inputs = made.inputs();
    let value = |engine: &mut Engine<Script>| {
        let found = engine.forward(|script| loss(script, &inputs, true)).unwrap();
        found.mean.double_value(&[])
    };
    let (full, half) = (value(&mut full), value(&mut half));
    let apart = (full - half).abs() / full;
    assert!(apart > 1e-6 && apart < 0.02, "{full} in float32, {half} in bf16");
}

#[test]
fn modes_switch_where_a_trace_was_made_in_training() {
    let twice = |script: &Script, inputs: &[(String, Tensor)], train: bool| {
        let run = || loss(script, inputs, train).unwrap().mean.double_value(&[]);
        [run(), run()]
    };
    let made = Made::new("dropping");
    let (_, _, script) = made.load(&["layer.*"]).unwrap();
    let [a, b] = twice(&script, &made.inputs(), true);
    assert_ne!(a, b, "dropout is random in training");
    let [a, b] = twice(&script, &made.inputs(), false);
    assert_eq!(a, b, "and off in evaluation");
    let modes = Outline::read(&made.path()).unwrap().modes();
    assert_eq!((modes.on, modes.off, modes.freed), (0, 0, 4));
    let saved = made.beside("saved.pt");
    script.write(&mut std::fs::File::create(&saved).unwrap()).unwrap();
    let theirs = made.evaluated(&saved)["loss"].double_value(&[]);
    assert!((a - theirs).abs() <= 1e-5 * theirs, "{a} here, {theirs} in PyTorch");

    let made = Made::new("evaluated");
    let (_, _, script) = made.load(&[]).unwrap();
    let [a, b] = twice(&script, &made.inputs(), true);
    assert_eq!(a, b, "a trace made in evaluation mode stays in it");
    let modes = Outline::read(&made.path()).unwrap().modes();
    assert_eq!((modes.on, modes.off, modes.freed), (0, 4, 0));
}

#[test]
fn modes_of_recurrence_and_of_what_is_random() {
    let made = Made::new("moody");
    let (_, _, script) = made.load(&[]).unwrap();
    let modes = Outline::read(&made.path()).unwrap().modes();
    assert_eq!((modes.on, modes.off, modes.freed), (0, 0, 3), "LSTM, normalisation, RReLU");
    let run =
        |train| script.forward(&made.inputs(), train).unwrap().at(0).unwrap().double_value(&[]);
    assert_ne!(run(true), run(true));
    assert_eq!(run(false), run(false));

    let modes = Outline::read(&Made::new("random").path()).unwrap().modes();
    assert_eq!((modes.freed, modes.random), (1, 2), "a dropout, and twice what nobody can switch");

    let modes = Outline::read(&Made::new("helped").path()).unwrap().modes();
    assert_eq!((modes.on, modes.off, modes.freed), (1, 0, 0), "a function has no mode to follow");
}

#[test]
fn stacks_that_share_weights() {
    let made = Made::new("tied");
    let stacks = Outline::read(&made.path()).unwrap().stacks();
    let mut patterns: Vec<_> = stacks.iter().map(|stack| stack.pattern.as_str()).collect();
    patterns.sort_unstable();
    assert_eq!(patterns, ["again.*", "first.*"]);
    assert_eq!(stacks[0].parameters, stacks[1].parameters);
}

#[test]
fn one_pattern_for_two_classes_is_not_suggested() {
    let stacks = Outline::read(&Made::new("mixed").path()).unwrap().stacks();
    assert_eq!(stacks.len(), 2);
    for stack in stacks {
        let why = stack.refused.expect("it would make layers of the others too");
        assert!(why.contains("matches 2 of another class too"), "{why}");
    }
}

#[test]
fn an_outline_shows_modules_and_suggests_a_pattern() {
    let made = Made::new("bert");
    let outline = Outline::read(&made.path()).unwrap();
    let root = &outline.modules()[0];
    // Embedding, four layers, and the decoder's bias: its weight is the embedding's.
    let layer = (8 * 24 + 24) + (8 * 8 + 8) + (8 * 16 + 16) + (16 * 8 + 8) + 4 * 8;
    assert_eq!((root.name.as_str(), root.parameters), ("", 20 * 8 + 4 * layer + 20));
    let stacks = outline.stacks();
    assert_eq!((stacks[0].pattern.as_str(), stacks[0].count), ("layer.*", 4));
    assert_eq!((stacks[0].parameters, &stacks[0].refused), (4 * layer, &None));
    let gates = outline.gates(&["layer.*".to_owned()], Repeats::Refused).unwrap();
    assert_eq!(gates.iter().map(|(name, _)| name.as_str()).next_back(), Some("layer.3"));
    assert_eq!(outline.tied().len(), 1);
}
