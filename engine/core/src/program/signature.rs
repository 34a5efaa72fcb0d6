//! What goes into a program and comes out: tensors of the file, arguments of the forward, outputs with their names.
use super::archive::{Contents, Place, Stored};
use super::schema::{Argument, InputSpec, NamedTuple, OutputSpec};
use crate::kept::Kept;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Tensor};

/// Bytes of a tensor's name at most, and parts between its dots: each is a module that is kept by its whole name.
const MOST_NAME: usize = 1000;
const MOST_PARTS: usize = 64;

/// How deep what a forward returns may be nested.
const MOST_NESTED: usize = 20;

/// What one input of the graph gets.
#[derive(Debug)]
pub enum Source {
    /// A parameter or a buffer, with its first name.
    Kept(String, Tensor),
    Constant(Tensor),
    /// The argument of the forward with this number.
    Argument(usize),
    /// Nothing that the graph looks at.
    Nothing,
}

/// What a program takes and keeps.
#[derive(Debug, Default)]
pub struct Inputs {
    /// By the graph's inputs, in order; with their names.
    pub sources: Vec<(String, Source)>,
    /// Each parameter and buffer once, by its first name.
    pub kept: Vec<Kept>,
    /// Where each of these lies in the file.
    pub places: Vec<Place>,
    /// Other names of tensors that have several, each with the first.
    pub tied: Vec<(String, String)>,
    /// Names of the arguments of the forward.
    pub arguments: Vec<String>,
    /// Names that the Python model's `state_dict` has, each with the first one of its tensor.
    pub state_dict: Vec<(String, String)>,
}

impl Inputs {
    /// Of what a file holds, its tensors on `device`.
    ///
    /// # Errors
    /// A tensor is missing, or an input is of a kind that is not read.
    pub fn of(contents: &Contents, device: Device) -> Result<Self, String> {
        let mut found = Inputs::default();
        let mut first: HashMap<_, (String, Tensor)> = HashMap::new();
        for spec in &contents.program.graph_module.signature.input_specs {
            let (name, source) = match spec {
                InputSpec::Parameter { arg, parameter_name: name } => {
                    let stored = stored(&contents.weights, name, "parameter")?;
                    let source = found.keep(name, stored, (true, true), device, &mut first)?;
                    (arg.name.clone(), source)
                }
                InputSpec::Buffer { arg, buffer_name: name, persistent } => {
                    let there = contents.weights.get(name);
                    let stored = match there {
                        Some(there) => there,
                        None => stored(&contents.constants, name, "buffer")?,
                    };
                    let source =
                        found.keep(name, stored, (false, *persistent), device, &mut first)?;
                    (arg.name.clone(), source)
                }
                InputSpec::TensorConstant { arg, tensor_constant_name: name } => {
                    let stored = stored(&contents.constants, name, "constant")?;
                    let tensor = stored.tensor.f_to_device(device).map_err(|e| e.to_string())?;
                    (arg.name.clone(), Source::Constant(tensor))
                }
                InputSpec::UserInput { arg } => match arg {
                    Argument::AsTensor(tensor) => {
                        found.arguments.push(tensor.name.clone());
                        (tensor.name.clone(), Source::Argument(found.arguments.len() - 1))
                    }
                    Argument::AsNone(_)
                    | Argument::AsInt(_)
                    | Argument::AsFloat(_)
                    | Argument::AsBool(_)
                    | Argument::AsString(_) => (String::new(), Source::Nothing),
                    _ => {
                        return Err("the forward takes something else than tensors; export a module whose forward takes \
                                    tensors only"
                            .to_owned());
                    }
                },
                InputSpec::ConstantInput { name } => (name.clone(), Source::Nothing),
                InputSpec::CustomObj { custom_obj_name } => {
                    return Err(format!(
                        "`{custom_obj_name}` is an object of a class of its own, which is not read"
                    ));
                }
                InputSpec::Token(_) => {
                    return Err("the program has operators with effects, such as printing, which are not run".to_owned());
                }
            };
            found.sources.push((name, source));
        }
        Ok(found)
    }

    fn keep(
        &mut self,
        name: &str,
        stored: &Stored,
        (parameter, persistent): (bool, bool),
        device: Device,
        first: &mut HashMap<Place, (String, Tensor)>,
    ) -> Result<Source, String> {
        if name.len() > MOST_NAME || name.split('.').count() > MOST_PARTS {
            let short: String = name.chars().take(40).collect();
            return Err(format!(
                "the name of a tensor, `{short}...`, has more than {MOST_NAME} bytes or {MOST_PARTS} parts"
            ));
        }
        let (own, tensor) = match first.get(&stored.place) {
            Some((own, tensor)) => {
                self.tied.push((name.to_owned(), own.clone()));
                (own.clone(), tensor.shallow_clone())
            }
            None => {
                let tensor = stored.tensor.f_to_device(device).map_err(|e| e.to_string())?;
                let differentiable = tensor.is_floating_point();
                let tensor = tensor
                    .f_set_requires_grad(parameter && differentiable && stored.requires_grad)
                    .map_err(|error| error.to_string())?;
                self.kept.push(Kept {
                    name: name.to_owned(),
                    tensor: tensor.shallow_clone(),
                    parameter,
                });
                self.places.push(stored.place.clone());
                first.insert(stored.place.clone(), (name.to_owned(), tensor.shallow_clone()));
                (name.to_owned(), tensor)
            }
        };
        if persistent {
            self.state_dict.push((name.to_owned(), own.clone()));
        }
        Ok(Source::Kept(own, tensor))
    }
}

fn stored<'a>(
    all: &'a BTreeMap<String, Stored>,
    name: &str,
    what: &str,
) -> Result<&'a Stored, String> {
    all.get(name).ok_or_else(|| format!("the archive has no values of {what} `{name}`"))
}

/// An output of the graph that the forward returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// The name of its value in the graph.
    pub value: String,
    /// Its key in a dictionary or named tuple; empty if it has none.
    pub name: String,
}

/// The tensors that the forward returns, in order.
///
/// # Errors
/// The graph has outputs that no program in training mode has.
pub fn outputs(contents: &Contents) -> Result<Vec<Returned>, String> {
    let module = &contents.program.graph_module;
    let root = module.module_call_graph.iter().find(|call| call.fqn.is_empty());
    let spec = root.and_then(|call| call.signature.as_ref()).map(|found| found.out_spec.as_str());
    let names =
        spec.map(|spec| names(spec, &module.treespec_namedtuple_fields)).unwrap_or_default();
    let mut names = names.into_iter();
    let mut found = Vec::new();
    for spec in &module.signature.output_specs {
        let lowered = |what: &str, name: &str| {
            Err(format!(
                "the program writes {what} `{name}` behind its graph, as a lowered one does; save it as it is \
                         exported, without run_decompositions"
            ))
        };
        let value = match spec {
            OutputSpec::UserOutput { arg: Argument::AsTensor(tensor) }
            | OutputSpec::LossOutput { arg: tensor } => Some(tensor.name.clone()),
            OutputSpec::UserOutput { .. } => None,
            OutputSpec::BufferMutation { buffer_name } => return lowered("buffer", buffer_name),
            OutputSpec::ParameterMutation { parameter_name } => {
                return lowered("parameter", parameter_name);
            }
            OutputSpec::UserInputMutation { user_input_name } => {
                return lowered("input", user_input_name);
            }
            OutputSpec::GradientToParameter(_) | OutputSpec::GradientToUserInput(_) => {
                return Err(
                    "the program has its own backward pass; save it as it is exported".to_owned()
                );
            }
            OutputSpec::Token(_) => {
                return Err(
                    "the program has operators with effects, such as printing, which are not run"
                        .to_owned(),
                );
            }
        };
        let name = names.next().unwrap_or_default();
        found.extend(value.map(|value| Returned { value, name }));
    }
    Ok(found)
}

/// For each leaf of what a forward returns the key that it has where it lies; empty for one that has none, and nothing at
/// all for a text that is not understood.
fn names(spec: &str, tuples: &BTreeMap<String, NamedTuple>) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(Value::Array(parts)) = serde_json::from_str::<Value>(spec)
        && let Some(root) = parts.get(1)
    {
        leaves(root, String::new(), tuples, 0, &mut found);
    }
    found
}

fn leaves(
    spec: &Value,
    name: String,
    tuples: &BTreeMap<String, NamedTuple>,
    depth: usize,
    found: &mut Vec<String>,
) {
    let Some(Value::String(kind)) = spec.get("type") else {
        return found.push(name);
    };
    let children = spec.get("children_spec").and_then(Value::as_array);
    // Keys of a dictionary or of a model's own class of outputs; of a named tuple its class.
    let context = spec.get("context").and_then(Value::as_str).unwrap_or_default();
    let parsed = serde_json::from_str::<Value>(context).ok();
    let keys: Vec<_> = match parsed {
        Some(Value::Array(keys)) => {
            keys.iter().map(|key| key.as_str().unwrap_or_default().to_owned()).collect()
        }
        Some(Value::String(class)) if kind.ends_with("namedtuple") => {
            tuples.get(&class).map(|tuple| tuple.field_names.clone()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if depth > MOST_NESTED {
        return;
    }
    for (index, child) in children.into_iter().flatten().enumerate() {
        leaves(child, keys.get(index).cloned().unwrap_or_default(), tuples, depth + 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_the_keys_of_what_they_lie_in() {
        let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
        let spec = |kind: &str, context: &str, count: usize| {
            let children = vec![leaf; count].join(", ");
            format!(r#"{{"type": "{kind}", "context": {context}, "children_spec": [{children}]}}"#)
        };
        let of = |root: &str| names(&format!("[1, {root}]"), &BTreeMap::new());
        assert_eq!(of(&spec("builtins.tuple", r#""null""#, 2)), ["", ""]);
        let dict = spec("builtins.dict", r#""[\"loss\", \"logits\"]""#, 2);
        assert_eq!(of(&dict), ["loss", "logits"]);
        let outer = format!(
            r#"{{"type": "builtins.list", "context": "null", "children_spec": [{dict}, {leaf}]}}"#
        );
        assert_eq!(of(&outer), ["loss", "logits", ""]);
        assert_eq!(of(leaf), [""]);
        assert!(of("no JSON").is_empty());
        let named = spec("collections.namedtuple", r#""\"m.Out\"""#, 2);
        let fields = NamedTuple { field_names: vec!["a".to_owned(), "b".to_owned()] };
        let tuples = BTreeMap::from([("m.Out".to_owned(), fields)]);
        assert_eq!(names(&format!("[1, {named}]"), &tuples), ["a", "b"]);
    }
}
