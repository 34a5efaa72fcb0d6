//! What a script holds: modules, parameters and buffers.
use crate::error::Result;
use std::collections::HashMap;
use tch::nn::{Path, VarStore};
use trainyard_native::{self as native, Identity, Module, Variable};

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

    /// That every parameter is finite.
    pub fn check_finite(&self) -> std::result::Result<(), String> {
        let floating = |v: &&Variable| v.parameter && v.tensor.is_floating_point();
        let parameters: Vec<_> = self.variables.iter().filter(floating).collect();
        let tensors: Vec<_> = parameters.iter().map(|v| v.tensor.detach()).collect();
        match native::first_non_finite(&tensors).map_err(|error| error.0)? {
            None => Ok(()),
            Some(index) => Err(format!(
                "parameter `{}` has values that are not finite; a training that diverged may have \
                 written them",
                parameters[index].name
            )),
        }
    }

    /// Puts parameters and buffers into `variables`, sharing their memory.
    pub fn add_to(&self, variables: &VarStore) -> Result<()> {
        for variable in &self.variables {
            let (folder, name) = match variable.name.rsplit_once('.') {
                Some((folder, name)) => (below(variables.root(), folder), name),
                None => (variables.root(), variable.name.as_str()),
            };
            let trainable = variable.parameter && variable.tensor.is_floating_point();
            let frozen = trainable && !variable.tensor.requires_grad();
            let added = folder.add(name, variable.tensor.shallow_clone(), trainable);
            if frozen {
                let _ = added.f_set_requires_grad(false)?;
            }
        }
        Ok(())
    }
}

fn below<'a>(root: Path<'a>, folder: &str) -> Path<'a> {
    folder.split('.').fold(root, |path, name| path / name)
}
