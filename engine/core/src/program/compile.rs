//! From a graph to steps: names become slots, operators are found, arguments matched with their schemas.
use super::kinds;
use super::modes;
use super::numbers::{Function, Number};
use super::place::Place;
use super::schema::{Argument, Graph, Node, OptionalTensor, Symbolic};
use super::steps::{Action, Bind, Call, Check, Feed, Operand, Scope, Slot, Step};
use std::collections::{BTreeSet, HashMap};
use tch::Device;
use trainyard_native::{Given, Operator, OperatorCall, Signature, Value};
use xxhash_rust::xxh3::Xxh3;

/// How many nodes a program may have, those of its inner graphs included.
const MOST_NODES: usize = 1_000_000;

/// How deep graphs may lie in one another.
const MOST_NESTED: usize = 20;

/// A graph's names with their slots.
pub type Names = HashMap<String, Slot>;

/// What is compiled, and what is known of it so far.
pub struct Compiler {
    /// What takes the place of the devices in the graph.
    device: String,
    /// For each slot the inputs of the whole program whose memory it may be.
    origins: Vec<BTreeSet<Slot>>,
    /// Inputs of the whole program that it writes to, with the first place that does.
    pub written: HashMap<Slot, Place>,
    operators: HashMap<String, (Operator, Signature)>,
    pub modes: modes::Counts,
    nodes: usize,
    /// Stands for what the graph does.
    pub hasher: Xxh3,
}

impl Compiler {
    /// For a program with so many inputs, which have the first slots.
    pub fn new(inputs: usize, device: Device) -> Self {
        let device = match device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        Compiler {
            device,
            origins: (0..inputs).map(|input| BTreeSet::from([input])).collect(),
            written: HashMap::new(),
            operators: HashMap::new(),
            modes: modes::Counts::default(),
            nodes: 0,
            hasher: Xxh3::new(),
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.origins.len()
    }

    /// The steps of `graph`, whose inputs have the slots in `names`; what it makes is added to them.
    ///
    /// # Errors
    /// The node that cannot run, and why.
    pub fn graph(
        &mut self,
        graph: &Graph,
        names: &mut Names,
        depth: usize,
    ) -> Result<Vec<Step>, String> {
        if depth > MOST_NESTED {
            return Err(format!("more than {MOST_NESTED} graphs lie in one another"));
        }
        let mut steps = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            self.nodes += 1;
            if self.nodes > MOST_NODES {
                return Err(format!("the program has more than {MOST_NODES} nodes"));
            }
            self.hasher.update(node.target.as_bytes());
            let place = Place::of(node);
            let at = |error: String| format!("node {place}: {error}");
            let mut action = self.node(node, &place, names, depth).map_err(at)?;
            if let (Some(Action::Call(call)), Some(keep)) =
                (&mut action, modes::kept(node, &graph.nodes[index + 1..]))
            {
                call.evaluating = Some(self.filling(keep).map_err(at)?);
                call.draws = false;
                self.modes.random -= 1;
                self.modes.switched += 1;
            }
            steps.extend(action.map(|action| Step { action, place, free: Vec::new() }));
        }
        Ok(steps)
    }

    fn node(
        &mut self,
        node: &Node,
        place: &Place,
        names: &mut Names,
        depth: usize,
    ) -> Result<Option<Action>, String> {
        let target = node.target.as_str();
        if let Some(name) = target.strip_prefix("torch.ops.higher_order.") {
            return self.region(name, node, names, depth).map(Some);
        }
        for input in &node.inputs {
            self.hasher.update(format!("{}={:?};", input.name, input.arg).as_bytes());
        }
        self.hasher.update(format!("{:?}", node.outputs).as_bytes());
        if let Some(check) = check(node, names)? {
            return Ok(check);
        }
        match target.strip_prefix("torch.ops.") {
            Some(operator) => self.call(operator, node, place, names).map(Some),
            None => {
                let function = Function::named(target)
                    .ok_or("it is a function of Python's that is not known here")?;
                let operands = node
                    .inputs
                    .iter()
                    .map(|input| operand(&input.arg, names))
                    .collect::<Result<_, _>>()?;
                let [Argument::AsSymInt(to) | Argument::AsSymFloat(to) | Argument::AsSymBool(to)] =
                    &node.outputs[..]
                else {
                    return Err("its result is no number".to_owned());
                };
                let Symbolic::AsName(name) = to else {
                    return Err("its result has no name".to_owned());
                };
                let result = self.slot(name, names, BTreeSet::new())?;
                Ok(Some(Action::Compute { function, operands, result }))
            }
        }
    }

    /// A graph of its own that runs with another setting.
    fn region(
        &mut self,
        name: &str,
        node: &Node,
        names: &mut Names,
        depth: usize,
    ) -> Result<Action, String> {
        let arguments: Vec<_> = node.inputs.iter().map(|input| &input.arg).collect();
        let (scope, graph, given) = match (name, &arguments[..]) {
            (
                "wrap_with_set_grad_enabled",
                [Argument::AsBool(on), Argument::AsGraph(inner), given @ ..],
            ) => (Scope::Gradients(*on), &inner.graph, given),
            (
                "wrap_with_autocast",
                [
                    Argument::AsString(_),
                    kind,
                    Argument::AsBool(on),
                    _,
                    Argument::AsGraph(inner),
                    given @ ..,
                ],
            ) => {
                let kind = match kind {
                    Argument::AsScalarType(kind) => kinds::kind(*kind),
                    _ => None,
                };
                let kind = match (on, kind) {
                    (false, _) => None,
                    (true, Some(kind)) => Some(kind),
                    (true, None) => {
                        return Err("it switches autocast on and names no type".to_owned());
                    }
                };
                (Scope::Autocast(kind), &inner.graph, given)
            }
            _ => {
                return Err(format!(
                    "`{name}` runs a part of the model as often as data says, or another way, which is not read: export the \
                     model without it"
                ));
            }
        };
        self.hasher.update(format!("{scope:?}").as_bytes());
        if graph.inputs.len() != given.len() {
            return Err(format!(
                "its graph takes {} values, and gets {}",
                graph.inputs.len(),
                given.len()
            ));
        }
        let mut inner = Names::new();
        for (input, given) in graph.inputs.iter().zip(given) {
            for (name, given) in made(input)?.into_iter().zip(made(given)?) {
                inner.insert(name.to_owned(), known(given, names)?);
            }
        }
        let steps = self.graph(graph, &mut inner, depth + 1)?;
        let outer: Vec<_> = each_made(&node.outputs)?;
        let results: Vec<_> = each_made(&graph.outputs)?;
        if outer.len() != results.len() {
            return Err(format!(
                "its graph makes {} values, and {} are taken",
                results.len(),
                outer.len()
            ));
        }
        for (name, result) in outer.into_iter().zip(results) {
            let slot = known(result, &inner)?;
            names.insert(name.to_owned(), slot);
        }
        Ok(Action::Within { scope, steps })
    }

    fn call(
        &mut self,
        name: &str,
        node: &Node,
        place: &Place,
        names: &mut Names,
    ) -> Result<Action, String> {
        let (operator, signature) = self.operator(name)?;
        let mut given: Vec<_> = signature.arguments.iter().map(|_| Given::Default).collect();
        let mut feeds = Vec::new();
        let mut set = BTreeSet::new();
        for input in &node.inputs {
            let at = signature.arguments.iter().position(|argument| argument.name == input.name);
            let at =
                at.ok_or_else(|| format!("this libtorch's operator takes no `{}`", input.name))?;
            if !set.insert(at) {
                return Err(format!("`{}` is given twice", input.name));
            }
            match self
                .value(&input.arg, names)
                .map_err(|error| format!("`{}`: {error}", input.name))?
            {
                Constant(value) => given[at] = Given::Value(value),
                Fed(feed) => {
                    given[at] = Given::Later;
                    feeds.push((at, feed));
                }
            }
        }
        self.note_writes(&signature, &feeds, place);
        let of_torch = |error: trainyard_native::Error| error.0;
        let training = operator.call(&given).map_err(of_torch)?;
        let switched = modes::evaluating(&signature, &mut given, &mut self.modes);
        let evaluating = match switched {
            true => Some(operator.call(&given).map_err(of_torch)?),
            false => None,
        };
        let draws = signature.random && !modes::has_mode(&signature);
        if draws {
            self.modes.random += 1;
        }
        let results = self.results(node, &signature, &feeds, names)?;
        Ok(Action::Call(Box::new(Call { training, evaluating, draws, feeds, results })))
    }

    /// What a mask of stochastic depth is in evaluation: nothing is dropped, and the division by `keep` behind it leaves 1.
    fn filling(&mut self, keep: f64) -> Result<OperatorCall, String> {
        let (fill, _) = self.operator("aten.fill_.Scalar")?;
        fill.call(&[Given::Later, Given::Value(Value::Float(keep))]).map_err(|error| error.0)
    }

    /// `aten.add.Tensor`.
    fn operator(&mut self, name: &str) -> Result<(Operator, Signature), String> {
        if let Some((operator, signature)) = self.operators.get(name) {
            return Ok((operator.clone(), signature.clone()));
        }
        let mut parts = name.splitn(3, '.');
        let (group, operator) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let overload = parts.next().unwrap_or("default");
        if group != "aten" {
            return Err(format!(
                "`{group}` has operators of its own, which are not PyTorch's: export the model with what `torch` has"
            ));
        }
        if operator == "from_file" {
            return Err("it opens files, which no model may".to_owned());
        }
        let overload = if overload == "default" { "" } else { overload };
        let found =
            Operator::find(&format!("aten::{operator}"), overload).map_err(|error| error.0)?;
        let found = found.ok_or("this libtorch (2.11) has no such operator")?;
        let signature = found.signature().map_err(|error| error.0)?;
        self.operators.insert(name.to_owned(), (found.clone(), signature.clone()));
        Ok((found, signature))
    }

    fn note_writes(&mut self, signature: &Signature, feeds: &[(usize, Feed)], place: &Place) {
        for (at, feed) in feeds {
            if !signature.arguments[*at].written {
                continue;
            }
            for slot in tensors(feed) {
                for origin in self.origins[slot].clone() {
                    self.written.entry(origin).or_insert_with(|| place.clone());
                }
            }
        }
    }

    /// Where results go; what shares memory with an argument has its origins.
    fn results(
        &mut self,
        node: &Node,
        signature: &Signature,
        feeds: &[(usize, Feed)],
        names: &mut Names,
    ) -> Result<Vec<Bind>, String> {
        if !node.outputs.is_empty() && node.outputs.len() != signature.results.len() {
            return Err(format!(
                "{} results are taken, and this libtorch's operator has {}",
                node.outputs.len(),
                signature.results.len()
            ));
        }
        let bind = |(output, result): (&Argument, &trainyard_native::Parameter)| {
            let mut origins = BTreeSet::new();
            for (at, feed) in feeds {
                if signature.arguments[*at].sets.iter().any(|set| result.sets.contains(set)) {
                    origins.extend(
                        tensors(feed).into_iter().flat_map(|slot| self.origins[slot].clone()),
                    );
                }
            }
            let several = matches!(output, Argument::AsTensors(_) | Argument::AsOptionalTensors(_));
            let slots: Result<Vec<_>, String> = made(output)?
                .into_iter()
                .map(|name| self.slot(name, names, origins.clone()))
                .collect();
            let slots = slots?;
            Ok(match (&slots[..], several) {
                (_, true) => Bind::Slots(slots),
                ([slot], false) => Bind::Slot(*slot),
                _ => Bind::Nowhere,
            })
        };
        node.outputs.iter().zip(&signature.results).map(bind).collect()
    }

    fn slot(
        &mut self,
        name: &str,
        names: &mut Names,
        origins: BTreeSet<Slot>,
    ) -> Result<Slot, String> {
        self.origins.push(origins);
        let slot = self.origins.len() - 1;
        match names.insert(name.to_owned(), slot) {
            None => Ok(slot),
            Some(_) => Err(format!("`{name}` is made twice")),
        }
    }

    fn value(&self, argument: &Argument, names: &Names) -> Result<Known, String> {
        let number = |of: i64| Constant(Value::Int(of));
        Ok(match argument {
            Argument::AsNone(_) => Constant(Value::None),
            Argument::AsTensor(tensor) => Fed(Feed::Slot(known(&tensor.name, names)?)),
            Argument::AsTensors(tensors) => {
                let slots = tensors.iter().map(|tensor| known(&tensor.name, names).map(Some));
                Fed(Feed::Tensors(slots.collect::<Result<_, _>>()?))
            }
            Argument::AsOptionalTensors(tensors) => {
                let slot = |tensor: &OptionalTensor| match tensor {
                    OptionalTensor::AsTensor(tensor) => known(&tensor.name, names).map(Some),
                    OptionalTensor::AsNone(_) => Ok(None),
                };
                Fed(Feed::Tensors(tensors.iter().map(slot).collect::<Result<_, _>>()?))
            }
            Argument::AsOptionalTensor(OptionalTensor::AsTensor(tensor)) => {
                Fed(Feed::Slot(known(&tensor.name, names)?))
            }
            Argument::AsOptionalTensor(OptionalTensor::AsNone(_)) => Constant(Value::None),
            Argument::AsInt(of) => number(*of),
            Argument::AsInts(of) => Constant(Value::Ints(of.clone())),
            Argument::AsFloat(of) => Constant(Value::Float(of.value().ok_or("it is no number")?)),
            Argument::AsFloats(of) => {
                let all = of.iter().map(|of| of.value()).collect::<Option<_>>();
                Constant(Value::Floats(all.ok_or("an item is no number")?))
            }
            Argument::AsBool(of) => Constant(Value::Bool(*of)),
            Argument::AsBools(of) => Constant(Value::Bools(of.clone())),
            Argument::AsString(of) => Constant(Value::Text(of.clone())),
            Argument::AsSymInt(of) | Argument::AsSymFloat(of) | Argument::AsSymBool(of) => {
                match symbolic(of, names)? {
                    Operand::Known(number) => Constant(number.into()),
                    Operand::Slot(slot) => Fed(Feed::Slot(slot)),
                }
            }
            Argument::AsSymInts(of) => Fed(Feed::Ints(all_symbolic(of, names)?)),
            Argument::AsSymFloats(of) => Fed(Feed::Floats(all_symbolic(of, names)?)),
            Argument::AsSymBools(of) => Fed(Feed::Bools(all_symbolic(of, names)?)),
            Argument::AsScalarType(of) => number(
                kinds::type_number(*of).ok_or_else(|| format!("type {of} is not known here"))?,
            ),
            Argument::AsMemoryFormat(of) => number(
                kinds::memory_format(*of)
                    .ok_or_else(|| format!("memory format {of} is not known here"))?,
            ),
            Argument::AsLayout(of) => number(
                kinds::layout(*of).ok_or("tensors of another layout than strided are not read")?,
            ),
            Argument::AsDevice(device) => match device.r#type.as_str() {
                "cpu" | "cuda" => Constant(Value::Text(self.device.clone())),
                other => return Err(format!("device {other:?} is neither a CPU nor a GPU")),
            },
            Argument::AsCustomObj(object) => {
                return Err(format!("an object of class {} is not read", object.class_fqn));
            }
            Argument::AsGraph(_)
            | Argument::AsStrings(_)
            | Argument::AsOperator(_)
            | Argument::AsComplex(_)
            | Argument::AsNestedTensors(_)
            | Argument::AsIntLists(_)
            | Argument::AsStringToArgument(_) => {
                return Err(
                    "values of this kind (complex numbers, graphs, lists of lists) are not read"
                        .to_owned(),
                );
            }
        })
    }
}

/// What an argument gets: in each run the same, or what the run made.
enum Known {
    Constant(Value),
    Fed(Feed),
}
use Known::{Constant, Fed};

/// The nodes by which a graph holds something true; no action where there is nothing to look at.
fn check(node: &Node, names: &Names) -> Result<Option<Option<Action>>, String> {
    let given =
        |name: &str| node.inputs.iter().find(|input| input.name == name).map(|input| &input.arg);
    let needed = |name: &str| given(name).ok_or_else(|| format!("`{name}` is missing"));
    Ok(match node.target.strip_prefix("torch.ops.aten.") {
        Some("_assert_scalar.default") => {
            let message = match given("assert_msg") {
                Some(Argument::AsString(message)) => message.clone(),
                _ => "a condition of the model".to_owned(),
            };
            let number = operand(needed("self")?, names)?;
            Some(Some(Action::Check(Check::True { number, message })))
        }
        // Types and devices change, by design, under autocast and on a GPU.
        Some("_assert_tensor_metadata.default") => {
            let sizes = match given("size") {
                None | Some(Argument::AsNone(_)) => return Ok(Some(None)),
                Some(Argument::AsInts(sizes)) => {
                    sizes.iter().map(|size| Operand::Known(Number::Int(*size))).collect()
                }
                Some(Argument::AsSymInts(sizes)) => all_symbolic(sizes, names)?,
                Some(_) => return Err("`size` is no list of sizes".to_owned()),
            };
            let Argument::AsTensor(tensor) = needed("a")? else {
                return Err("`a` is no tensor".to_owned());
            };
            Some(Some(Action::Check(Check::Sizes { tensor: known(&tensor.name, names)?, sizes })))
        }
        Some("sym_constrain_range.default" | "sym_constrain_range_for_size.default") => {
            let bound = |name: &str| match given(name) {
                Some(Argument::AsInt(bound)) => Some(*bound),
                _ => None,
            };
            let number = operand(needed("size")?, names)?;
            let (least, most) = (bound("min"), bound("max"));
            Some(Some(Action::Check(Check::Within { number, least, most })))
        }
        _ => None,
    })
}

/// The tensors that are fed.
fn tensors(feed: &Feed) -> Vec<Slot> {
    match feed {
        Feed::Slot(slot) => vec![*slot],
        Feed::Tensors(slots) => slots.iter().flatten().copied().collect(),
        Feed::Ints(_) | Feed::Floats(_) | Feed::Bools(_) => Vec::new(),
    }
}

fn operand(argument: &Argument, names: &Names) -> Result<Operand, String> {
    Ok(match argument {
        Argument::AsInt(of) => Operand::Known(Number::Int(*of)),
        Argument::AsBool(of) => Operand::Known(Number::Bool(*of)),
        Argument::AsFloat(of) => {
            Operand::Known(Number::Float(of.value().ok_or("it is no number")?))
        }
        Argument::AsSymInt(of) | Argument::AsSymFloat(of) | Argument::AsSymBool(of) => {
            symbolic(of, names)?
        }
        _ => return Err("an operand is no number".to_owned()),
    })
}

fn all_symbolic(of: &[Symbolic], names: &Names) -> Result<Vec<Operand>, String> {
    of.iter().map(|of| symbolic(of, names)).collect()
}

fn symbolic(of: &Symbolic, names: &Names) -> Result<Operand, String> {
    Ok(match of {
        Symbolic::AsName(name) => Operand::Slot(known(name, names)?),
        Symbolic::AsInt(of) => Operand::Known(Number::Int(*of)),
        Symbolic::AsBool(of) => Operand::Known(Number::Bool(*of)),
        Symbolic::AsFloat(of) => {
            Operand::Known(Number::Float(of.value().ok_or("it is no number")?))
        }
    })
}

fn known(name: &str, names: &Names) -> Result<Slot, String> {
    names.get(name).copied().ok_or_else(|| format!("nothing before it makes `{name}`"))
}

/// The names that an argument of a graph, or what a node makes, has.
pub fn made(argument: &Argument) -> Result<Vec<&str>, String> {
    let symbolic = |of: &Symbolic| match of {
        Symbolic::AsName(_) => true,
        Symbolic::AsInt(_) | Symbolic::AsFloat(_) | Symbolic::AsBool(_) => false,
    };
    Ok(match argument {
        Argument::AsTensor(tensor) => vec![&tensor.name],
        Argument::AsTensors(tensors) => tensors.iter().map(|tensor| tensor.name.as_str()).collect(),
        Argument::AsOptionalTensor(OptionalTensor::AsTensor(tensor)) => vec![&tensor.name],
        Argument::AsSymInt(of) | Argument::AsSymFloat(of) | Argument::AsSymBool(of)
            if symbolic(of) =>
        {
            match of {
                Symbolic::AsName(name) => vec![name],
                _ => Vec::new(),
            }
        }
        Argument::AsNone(_) | Argument::AsOptionalTensor(OptionalTensor::AsNone(_)) => Vec::new(),
        Argument::AsInt(_) | Argument::AsFloat(_) | Argument::AsBool(_) | Argument::AsString(_) => {
            Vec::new()
        }
        Argument::AsCustomObj(object) => {
            return Err(format!("an object of class {} is not read", object.class_fqn));
        }
        _ => return Err("what is passed on is neither a tensor nor a number".to_owned()),
    })
}

fn each_made(arguments: &[Argument]) -> Result<Vec<&str>, String> {
    let all: Result<Vec<_>, _> = arguments.iter().map(made).collect();
    Ok(all?.concat())
}
