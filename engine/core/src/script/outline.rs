//! What a script is made of, for showing.
use super::archive;
use super::gates::{self, Gate, Repeats};
use super::parts::{Parts, lies_in};
use crate::error::{Error, Result};
use crate::kept::Kept;
use std::collections::HashMap;
use std::path::Path;
use tch::Device;
use trainyard_config::Pattern;
use trainyard_native::{self as native, Argument, Modes, Module};

/// What a TorchScript file holds.
#[derive(Debug)]
pub struct Outline {
    script: native::Script,
    parts: Parts,
    described: Vec<OutlineModule>,
    arguments: Vec<Argument>,
    modes: Modes,
    buffers: u64,
}

/// A module of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineModule {
    /// Dotted; empty for the script itself.
    pub name: String,
    /// Its class in Python: `torch.nn.modules.linear.Linear`.
    pub class: String,
    /// Elements of the parameters in it, those of modules inside and those that other modules have as well
    /// included, each tensor once.
    pub parameters: u64,
    /// Of them, frozen ones.
    pub frozen: u64,
    /// Whether it has a forward, and so could be a layer.
    pub forward: bool,
}

/// Modules of one class that lie side by side under numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Matches just them: `encoder.layer.*`.
    pub pattern: String,
    /// Their names.
    pub names: Vec<String>,
    /// Their class in Python.
    pub class: String,
    /// How many there are.
    pub count: usize,
    /// Elements of their parameters.
    pub parameters: u64,
    /// Why they cannot be skipped; none if they can.
    pub refused: Option<String>,
}

impl Outline {
    /// Reads the TorchScript file at `path`.
    ///
    /// # Errors
    /// It is not TorchScript, damaged or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let at = |detail: String| Error::Script(format!("{}: {detail}", path.display()));
        archive::check(path).map_err(at)?;
        let of_torch = |error: native::Error| at(error.0);
        let script = native::Script::load(path, Device::Cpu).map_err(of_torch)?;
        let parts = Parts::of(&script).map_err(of_torch)?;
        let names = parts.parameter_names();
        let described = parts.modules.iter().map(|module| described(module, &names)).collect();
        let buffers =
            parts.variables.iter().filter(|v| !v.parameter).map(|v| v.tensor.numel() as u64).sum();
        Ok(Outline {
            arguments: script.arguments().map_err(of_torch)?,
            modes: script.modes().map_err(of_torch)?,
            parts,
            described,
            buffers,
            script,
        })
    }

    /// Every module, the script itself first and outer ones before inner ones.
    pub fn modules(&self) -> &[OutlineModule] {
        &self.described
    }

    /// What the forward takes.
    pub fn arguments(&self) -> &[Argument] {
        &self.arguments
    }

    /// How its operations know whether they train.
    pub fn modes(&self) -> Modes {
        self.modes
    }

    /// Other names of tensors that have several, each with the first one.
    pub fn tied(&self) -> &[(String, String)] {
        &self.parts.tied
    }

    /// Elements of all buffers.
    pub fn buffers(&self) -> u64 {
        self.buffers
    }

    /// The layers that `patterns` would gate, in the order of the forward, each with the name of the module
    /// and the index of its residual stream among its inputs.
    ///
    /// # Errors
    /// Those of [`Script::load`](super::Script::load) that are about patterns.
    pub fn gates(&self, patterns: &[String], repeats: Repeats) -> Result<Vec<(String, usize)>> {
        let gates = gates::find(&self.script, &self.parts.modules, patterns, repeats)
            .map_err(Error::Script)?;
        Ok(gates.into_iter().map(|Gate { name, stream, .. }| (name, stream)).collect())
    }

    /// Stacks of at least two alike modules that have parameters and a forward; those that can be skipped
    /// first, larger ones first.
    pub fn stacks(&self) -> Vec<Stack> {
        let mut stacks: Vec<Stack> = Vec::new();
        let mut index: HashMap<(&str, &str), usize> = HashMap::new();
        let layers = self.described.iter().filter(|m| m.forward && m.parameters > 0);
        for module in layers {
            let (parent, number) = module.name.rsplit_once('.').unwrap_or(("", &module.name));
            if number.parse::<u64>().is_err() {
                continue;
            }
            let place = *index.entry((parent, &module.class)).or_insert_with(|| {
                let pattern =
                    if parent.is_empty() { "*".to_owned() } else { format!("{parent}.*") };
                let class = module.class.clone();
                let names = Vec::new();
                stacks.push(Stack {
                    pattern,
                    names,
                    class,
                    count: 0,
                    parameters: 0,
                    refused: None,
                });
                stacks.len() - 1
            });
            stacks[place].names.push(module.name.clone());
            stacks[place].count += 1;
            stacks[place].parameters += module.parameters;
        }
        stacks.retain(|stack| stack.count > 1);
        for stack in &mut stacks {
            let matched = Pattern::new(&stack.pattern);
            let others =
                self.described.iter().filter(|m| m.forward && matched.matches(&m.name)).count()
                    - stack.count;
            let refused =
                || self.gates(std::slice::from_ref(&stack.pattern), Repeats::Refused).err();
            stack.refused = match others {
                0 => refused().map(|e| e.to_string()),
                n => Some(format!(
                    "the pattern matches {n} of another class too; name those that are to be layers one by one"
                )),
            };
        }
        stacks.sort_by_key(|s| (s.refused.is_some(), std::cmp::Reverse(s.parameters)));
        stacks
    }
}

fn described(module: &Module, parameters: &[(&Kept, Vec<&str>)]) -> OutlineModule {
    let inside = |name: &&str| lies_in(name, &module.name);
    let parameters = || {
        parameters
            .iter()
            .filter(|(_, names)| names.iter().any(inside))
            .map(|(parameter, _)| *parameter)
    };
    let elements = |v: &Kept| v.tensor.numel() as u64;
    OutlineModule {
        name: module.name.clone(),
        class: class(&module.class),
        parameters: parameters().map(elements).sum(),
        frozen: parameters().filter(|v| !v.tensor.requires_grad()).map(elements).sum(),
        forward: module.forward,
    }
}

/// The class in Python: TorchScript puts a word before it, and a number in for each further copy.
fn class(name: &str) -> String {
    let own = |part: &&str| *part != "__torch__" && !part.starts_with("___torch_mangle_");
    name.split('.').filter(own).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    #[test]
    fn classes_as_python_has_them() {
        let name = "__torch__.torch.nn.modules.linear.___torch_mangle_12.Linear";
        assert_eq!(super::class(name), "torch.nn.modules.linear.Linear");
        assert_eq!(super::class("__torch__.Net"), "Net");
    }
}
