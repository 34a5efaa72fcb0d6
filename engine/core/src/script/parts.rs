//! What a script holds: modules, parameters and buffers.
use crate::kept::Kept;
use std::collections::HashMap;
use trainyard_native::{self as native, Identity, Module};

#[derive(Debug)]
pub(super) struct Parts {
    /// Each module once, outer ones first.
    pub modules: Vec<Module>,
    /// Each tensor once.
    pub variables: Vec<Kept>,
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
        let kept =
            |native::Variable { name, tensor, parameter, .. }| Kept { name, tensor, parameter };
        Ok(Parts { modules, variables: variables.into_iter().map(kept).collect(), tied })
    }

    /// Each parameter with all its names.
    pub fn parameter_names(&self) -> Vec<(&Kept, Vec<&str>)> {
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
}

/// Whether the dotted name `inner` lies below `outer`, which is empty for the script itself.
pub(crate) fn lies_in(inner: &str, outer: &str) -> bool {
    match outer {
        "" => !inner.is_empty(),
        outer => inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.')),
    }
}
