//! What a script holds: modules, parameters and buffers.
use crate::error::Result;
use crate::strides::{distinct, is_overlapping};
use std::collections::HashMap;
use tch::nn::{Path, VarStore};
use trainyard_native::{self as native, Identity, Module, Variable};

#[derive(Debug)]
pub(super) struct Parts {
    /// Each module once, outer ones first.
    pub modules: Vec<Module>,
    /// Each tensor once.
    pub variables: Vec<Variable>,
    /// Further names of tensors, each with the first one.
    pub tied: Vec<(String, String)>,
}

impl Parts {
    pub fn of(script: &native::Script) -> native::Result<Self> {
        let (mut modules, mut variables) = script.places()?;
        let mut first: HashMap<Identity, String> = HashMap::new();
        modules.retain(|module| first.insert(module.identity, String::new()).is_none());
        first.clear();
        let mut tied = Vec::new();
        variables.retain(|variable| match first.get(&variable.identity) {
            Some(name) => {
                tied.push((variable.name.clone(), name.clone()));
                false
            }
            None => {
                first.insert(variable.identity, variable.name.clone());
                true
            }
        });
        Ok(Parts { modules, variables, tied })
    }

    /// Each parameter with all its names.
    pub fn parameter_names(&self) -> Vec<(&Variable, Vec<&str>)> {
        let mut others: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, first) in &self.tied {
            others.entry(first).or_default().push(name);
        }
        let parameters = self.variables.iter().filter(|variable| variable.parameter);
        let named = parameters.map(|variable| {
            let name = variable.name.as_str();
            let further = others.get(name).into_iter().flatten().copied();
            (variable, std::iter::once(name).chain(further).collect())
        });
        named.collect()
    }

    /// That there are parameters, that every one has memory of its own for each element, and is finite, and that no
    /// buffer is NaN.
    pub fn check(&self) -> std::result::Result<(), String> {
        if !self.variables.iter().any(|variable| variable.parameter) {
            return Err("there is nothing to train: it has no parameters; `torch.jit.freeze` makes constants of them, and so \
                        does an export for inference"
                .to_owned());
        }
        for Variable { name, tensor, parameter, .. } in &self.variables {
            // A buffer may repeat itself along whole axes, which `expand` makes of one item.
            let own = if *parameter { Ok(tensor.shallow_clone()) } else { distinct(tensor) };
            if is_overlapping(&own.map_err(|error| error.to_string())?) {
                let what = if *parameter { "parameter" } else { "buffer" };
                return Err(format!(
                    "{what} `{name}` of shape {:?} and strides {:?} has several elements at one place of memory, as \
                     `expand` makes them, so that no step can change each: export it after `.contiguous()`",
                    tensor.size(),
                    tensor.stride()
                ));
            }
        }
        let floating = |v: &&Variable| v.parameter && v.tensor.is_floating_point();
        let parameters: Vec<_> = self.variables.iter().filter(floating).collect();
        let tensors: Vec<_> = parameters.iter().map(|v| v.tensor.detach()).collect();
        if let Some(index) = native::first_non_finite(&tensors).map_err(|error| error.0)? {
            return Err(format!(
                "parameter `{}` has values that are not finite; a training that diverged may have \
                 written them",
                parameters[index].name
            ));
        }
        // Masks are infinite for good reason.
        let buffers =
            self.variables.iter().filter(|v| !v.parameter && v.tensor.is_floating_point());
        for buffer in buffers {
            let nan = buffer.tensor.f_isnan().and_then(|nan| nan.f_any()?.f_int64_value(&[]));
            if nan.map_err(|error| error.to_string())? != 0 {
                return Err(format!(
                    "buffer `{}` has values that are NaN; a training that diverged may have written them",
                    buffer.name
                ));
            }
        }
        Ok(())
    }

    /// Puts parameters and buffers into `variables`, sharing their memory.
    pub fn add_to(&self, variables: &VarStore) -> Result<()> {
        for variable in &self.variables {
            let (folder, name) = match variable.name.rsplit_once('.') {
                Some((folder, name)) => (below(variables.root(), folder), name),
                None => (variables.root(), variable.name.as_str()),
            };
            // Whole numbers have no gradient; complex ones have, and the engine says what it trains.
            let differentiable =
                variable.tensor.is_floating_point() || variable.tensor.f_is_complex()?;
            let trainable = variable.parameter && differentiable;
            let frozen = trainable && !variable.tensor.requires_grad();
            let added = folder.add(name, variable.tensor.shallow_clone(), trainable);
            if frozen {
                let _ = added.f_set_requires_grad(false)?;
            }
        }
        Ok(())
    }
}

/// Whether the dotted name `inner` lies below `outer`, which is empty for the script itself.
pub(super) fn lies_in(inner: &str, outer: &str) -> bool {
    match outer {
        "" => !inner.is_empty(),
        outer => inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.')),
    }
}

fn below<'a>(root: Path<'a>, folder: &str) -> Path<'a> {
    folder.split('.').fold(root, |path, name| path / name)
}
