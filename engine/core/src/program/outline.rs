//! What a program is made of, for showing.
use super::place::Module;
use super::steps::{self, Step};
use super::{Argument, Modes, OutlineModule, Program};
use crate::error::{Error, Result};
use crate::script::lies_in;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::Device;

/// What a file of torch.export holds.
#[derive(Debug)]
pub struct Outline {
    program: Program,
    modules: Vec<OutlineModule>,
}

impl Outline {
    /// Reads the program at `path`.
    ///
    /// # Errors
    /// Those of [`Program::load`].
    pub fn read(path: &Path) -> Result<Self> {
        let at = |detail: String| Error::Script(format!("{}: {detail}", path.display()));
        let program = Program::read(path, Device::Cpu).map_err(at)?;
        let modules = modules(&program);
        Ok(Outline { program, modules })
    }

    /// Every module that has nodes or tensors, the model itself first and outer ones before inner ones.
    pub fn modules(&self) -> &[OutlineModule] {
        &self.modules
    }

    /// What the forward takes.
    pub fn arguments(&self) -> &[Argument] {
        self.program.inputs()
    }

    /// The inputs with their sizes, of which some have names: `ids [s43, 12]`.
    pub fn shapes(&self) -> Vec<String> {
        self.program.shapes.lines()
    }

    /// How its operators know whether they train.
    pub fn modes(&self) -> Modes {
        self.program.modes
    }

    /// Other names of tensors that have several, each with the first one.
    pub fn tied(&self) -> &[(String, String)] {
        self.program.tied()
    }

    /// Elements of all buffers.
    pub fn buffers(&self) -> u64 {
        let buffers = self.program.inputs.kept.iter().filter(|kept| !kept.parameter);
        buffers.map(|kept| kept.tensor.numel() as u64).sum()
    }

    /// How many operators it calls.
    pub fn calls(&self) -> usize {
        let mut count = 0;
        steps::each_call(&self.program.steps, &mut |_, _| count += 1);
        count
    }
}

fn modules(program: &Program) -> Vec<OutlineModule> {
    let mut classes = BTreeMap::new();
    named(&program.steps, &mut classes);
    let mut names: BTreeSet<String> = classes.keys().cloned().collect();
    names.insert(String::new());
    for kept in &program.inputs.kept {
        let mut name = kept.name.as_str();
        while let Some((folder, _)) = name.rsplit_once('.') {
            names.insert(folder.to_owned());
            name = folder;
        }
    }
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, first) in program.tied() {
        others.entry(first).or_default().push(name);
    }
    let described = |name: String| {
        let inside = program.inputs.kept.iter().filter(|kept| {
            let further = others.get(kept.name.as_str()).into_iter().flatten().copied();
            kept.parameter
                && std::iter::once(kept.name.as_str()).chain(further).any(|own| lies_in(own, &name))
        });
        let (mut parameters, mut frozen) = (0, 0);
        for kept in inside {
            let count = kept.tensor.numel() as u64;
            parameters += count;
            frozen += if kept.tensor.requires_grad() { 0 } else { count };
        }
        let class = classes.get(&name).cloned().unwrap_or_default();
        OutlineModule { forward: classes.contains_key(&name), name, class, parameters, frozen }
    };
    let mut modules: Vec<_> = names.into_iter().map(described).collect();
    modules.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    modules
}

/// Numbers in names in their own order.
fn natural(name: &str) -> Vec<(u64, &str)> {
    let part = |part| match str::parse(part) {
        Ok(number) => (number, ""),
        Err(_) => (u64::MAX, part),
    };
    if name.is_empty() { Vec::new() } else { name.split('.').map(part).collect() }
}

/// Classes by the names of modules; further calls of a module are the same one.
fn named(steps: &[Step], found: &mut BTreeMap<String, String>) {
    for step in steps {
        for Module { name, class } in &step.place.modules {
            let own = name.split('@').next().unwrap_or_default();
            found.entry(own.to_owned()).or_insert_with(|| class.clone());
        }
        if let steps::Action::Within { steps, .. } = &step.action {
            named(steps, found);
        }
    }
}
