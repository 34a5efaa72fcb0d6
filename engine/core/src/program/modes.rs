//! Training and evaluation: which arguments of operators tell them apart.
use super::schema::{Argument, NamedArgument, Node};
use trainyard_native::{Given, Signature, Value};

/// Arguments that say whether an operator trains, whatever it is called, and what they are in evaluation mode: those of
/// dropouts and recurrent networks, of normalisations, of attention.
const FLAGS: [(&str, Off); 4] = [
    ("train", Off::False),
    ("training", Off::False),
    ("use_input_stats", Off::False),
    ("dropout_p", Off::Zero),
];

/// What a flag is in evaluation mode.
#[derive(Clone, Copy)]
enum Off {
    False,
    Zero,
}

/// How many operators know whether they train.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// That train where the program does, and not in an evaluation.
    pub switched: usize,
    /// That never do, as the program was exported in evaluation mode.
    pub off: usize,
    /// That draw random numbers in both.
    pub random: usize,
}

/// Whether the operator has a flag.
pub fn has_mode(signature: &Signature) -> bool {
    flags(signature).next().is_some()
}

/// Sets the flags in `given`, the operator's arguments, as evaluation mode has them; whether that changes anything.
pub fn evaluating(signature: &Signature, given: &mut [Given], counts: &mut Counts) -> bool {
    // Without running figures there is nothing to normalise by but the batch's own.
    let figures = signature.arguments.iter().position(|argument| argument.name == "running_mean");
    if figures.is_some_and(|at| !matches!(given[at], Given::Later)) {
        return false;
    }
    let mut any = (false, false);
    for (at, off) in flags(signature) {
        let trains = match (&given[at], off) {
            (Given::Value(Value::Bool(train)), Off::False) => *train,
            (Given::Value(Value::Float(p)), Off::Zero) => *p != 0.0,
            // A default is never to train.
            _ => false,
        };
        any = (any.0 || trains, any.1 || !trains);
        if trains {
            given[at] = Given::Value(match off {
                Off::False => Value::Bool(false),
                Off::Zero => Value::Float(0.0),
            });
        }
    }
    match any {
        (true, _) => counts.switched += 1,
        // Attention without dropout is the same in both.
        (false, true)
            if signature.arguments.iter().all(|argument| argument.name != "dropout_p") =>
        {
            counts.off += 1;
        }
        _ => {}
    }
    any.0
}

/// Of a node that draws the mask of stochastic depth, as timm writes it, the probability to keep: `bernoulli_(keep)`, which
/// the first of the nodes `behind` that look at it divides by `keep`, in place.
pub fn kept(node: &Node, behind: &[Node]) -> Option<f64> {
    let number = |node: &Node, name: &str| {
        let given = node.inputs.iter().find(|input| input.name == name)?;
        if let Argument::AsFloat(number) = &given.arg { number.value() } else { None }
    };
    if node.target != "torch.ops.aten.bernoulli_.float" {
        return None;
    }
    let said = node.inputs.iter().any(|input| input.name == "p");
    // What the schema has where nothing is said.
    let keep = if said { number(node, "p")? } else { 0.5 };
    let [Argument::AsTensor(mask)] = &node.outputs[..] else { return None };
    let is = |input: &NamedArgument, name: &str| matches!(&input.arg, Argument::AsTensor(of) if of.name == name);
    let reads = |input: &NamedArgument| is(input, &mask.name);
    let first = behind.iter().find(|node| node.inputs.iter().any(reads))?;
    // Under the name that it had before it was drawn nobody may look at it either.
    let drawn = node.inputs.iter().find(|input| input.name == "self")?;
    let Argument::AsTensor(drawn) = &drawn.arg else { return None };
    if behind.iter().any(|node| node.inputs.iter().any(|input| is(input, &drawn.name))) {
        return None;
    }
    let divides = first.target == "torch.ops.aten.div_.Tensor"
        && first.inputs.iter().any(|input| input.name == "self" && reads(input));
    (keep > 0.0 && divides && number(first, "other") == Some(keep)).then_some(keep)
}

fn flags(signature: &Signature) -> impl Iterator<Item = (usize, Off)> {
    signature.arguments.iter().enumerate().filter_map(|(at, argument)| {
        let flag = FLAGS.iter().find(|(name, _)| *name == argument.name);
        flag.map(|(_, off)| (at, *off))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trainyard_native::{Operator, Value as Number};

    /// Every operator with a flag that a model of PyTorch's has, with what it is then, and one without.
    #[test]
    fn flags_are_found_by_their_names() {
        for (name, overload, argument) in [
            ("dropout", "", "train"),
            ("dropout_", "", "train"),
            ("feature_dropout", "", "train"),
            ("alpha_dropout", "", "train"),
            ("feature_alpha_dropout", "", "train"),
            ("native_dropout", "", "train"),
            ("batch_norm", "", "training"),
            ("native_batch_norm", "", "training"),
            ("instance_norm", "", "use_input_stats"),
            ("scaled_dot_product_attention", "", "dropout_p"),
            ("lstm", "input", "train"),
            ("gru", "input", "train"),
            ("rnn_tanh", "input", "train"),
            ("rrelu", "", "training"),
        ] {
            let operator = Operator::find(&format!("aten::{name}"), overload).unwrap();
            let signature = operator.expect(name).signature().unwrap();
            let at = signature.arguments.iter().position(|a| a.name == argument).expect(name);
            let on =
                || if argument == "dropout_p" { Number::Float(0.5) } else { Number::Bool(true) };
            let mut given: Vec<_> = signature.arguments.iter().map(|_| Given::Later).collect();
            given[at] = Given::Value(on());
            let mut counts = Counts::default();
            assert!(evaluating(&signature, &mut given, &mut counts), "{name}");
            assert!(
                matches!(given[at], Given::Value(Number::Bool(false) | Number::Float(0.0))),
                "{name}: {:?}",
                given[at]
            );
            assert_eq!((counts.switched, counts.off), (1, 0), "{name}");
            // Once off it stays off.
            assert!(!evaluating(&signature, &mut given, &mut counts), "{name}");
        }
        let plain = Operator::find("aten::relu", "").unwrap().expect("relu").signature().unwrap();
        assert!(!has_mode(&plain));
    }

    /// Of a mask that anybody else looks at, or that is divided by something else, nobody knows what it is for.
    #[test]
    fn masks_of_stochastic_depth_are_known_by_what_divides_them() {
        let node = |target: &str, inputs: Value, output: &str| -> Node {
            let outputs = json!([{ "as_tensor": { "name": output } }]);
            let node = json!({ "target": format!("torch.ops.aten.{target}"), "inputs": inputs, "outputs": outputs });
            serde_json::from_value(node).expect("a node")
        };
        let of = |name: &str| json!({ "name": "self", "arg": { "as_tensor": { "name": name } } });
        let real = |name: &str, number: f64| json!({ "name": name, "arg": { "as_float": number } });
        let drawn =
            |p: &[Value]| node("bernoulli_.float", json!([&[of("empty")], p].concat()), "mask");
        let divided =
            |target: &str, by: f64| node(target, json!([of("mask"), real("other", by)]), "scaled");
        let read = |name: &str| node("sin.default", json!([of(name)]), "made");
        let kept = |p: &[Value], behind: Vec<Node>| kept(&drawn(p), &behind);
        let p = [real("p", 0.7)];
        assert_eq!(kept(&p, vec![read("x"), divided("div_.Tensor", 0.7), read("mask")]), Some(0.7));
        assert_eq!(kept(&[], vec![divided("div_.Tensor", 0.5)]), Some(0.5));
        assert_eq!(kept(&p, vec![divided("div_.Tensor", 0.5)]), None);
        assert_eq!(kept(&p, vec![divided("div.Tensor", 0.7)]), None);
        assert_eq!(kept(&p, vec![read("mask"), divided("div_.Tensor", 0.7)]), None);
        assert_eq!(kept(&p, vec![divided("div_.Tensor", 0.7), read("empty")]), None);
        assert_eq!(kept(&[real("p", 0.0)], vec![divided("div_.Tensor", 0.0)]), None);
        assert_eq!(kept(&p, vec![]), None);
    }

    #[test]
    fn a_normalisation_without_running_figures_stays_as_it_is() {
        let operator = Operator::find("aten::batch_norm", "").unwrap().expect("batch_norm");
        let signature = operator.signature().unwrap();
        let mut given: Vec<_> = signature.arguments.iter().map(|_| Given::Later).collect();
        given[3] = Given::Value(Number::None);
        given[5] = Given::Value(Number::Bool(true));
        assert!(!evaluating(&signature, &mut given, &mut Counts::default()));
        assert!(matches!(given[5], Given::Value(Number::Bool(true))));
    }
}
