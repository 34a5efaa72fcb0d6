//! Models that `torch.export` wrote, trained as they are.
//!
//! Such a file is a graph of operators as JSON beside raw weights. It is read without Python, and nothing in it is
//! unpickled. The graph is compiled once, into calls through libtorch's dispatcher by the operators' own schemas, and runs
//! in order, so that gradients, autocast and random numbers are as in PyTorch.
mod archive;
mod compile;
mod expression;
mod kinds;
mod modes;
mod numbers;
mod outline;
mod place;
mod run;
mod saved;
mod schema;
mod shapes;
mod signature;
mod steps;

pub use crate::script::{Argument, OutlineModule, Outputs};
pub use archive::is_program;
pub use modes::Counts as Modes;
pub use outline::Outline;

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::script::arranged;
use compile::{Compiler, Names};
use run::Forward;
use shapes::Shapes;
use signature::{Inputs, Returned, Source};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use steps::{Slot, Step};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard_native::{Output, Value};

/// What may be behind a program without parameters.
const NO_PARAMETERS: &str =
    "export the model itself, with parameters and not with constants in their place";

/// An exported program in training.
#[derive(Debug)]
pub struct Program {
    device: Device,
    steps: Vec<Step>,
    slots: usize,
    inputs: Inputs,
    /// Of the graph's inputs, those that it writes to.
    written: HashSet<Slot>,
    outputs: Vec<(Returned, Slot)>,
    shapes: Shapes,
    arguments: Vec<Argument>,
    modes: Modes,
    /// The first node that draws random numbers in evaluation too.
    draws: Option<String>,
    fingerprint: String,
    /// The file that it was loaded from.
    archive: Mutex<Archive>,
}

impl Program {
    /// Loads the program at `path` on the device of `variables`, and puts its parameters and buffers there under the
    /// names that they have in Python. What the file froze stays frozen; what has several names goes by the first.
    ///
    /// # Errors
    /// The file is none of torch.export's, damaged or of another version; a parameter is not finite; a node cannot run
    /// here.
    pub fn load(path: &Path, variables: &VarStore) -> Result<Self> {
        let at = |detail: String| Error::Script(format!("{}: {detail}", path.display()));
        let program = Self::read(path, variables.device()).map_err(at)?;
        Kept::check(&program.inputs.kept, NO_PARAMETERS).map_err(at)?;
        Kept::add_to(&program.inputs.kept, variables)?;
        program.say_mode(path);
        Ok(program)
    }

    fn read(path: &Path, device: Device) -> std::result::Result<Self, String> {
        let contents = archive::read(path)?;
        let inputs = Inputs::of(&contents, device)?;
        let returned = signature::outputs(&contents)?;
        let graph = &contents.program.graph_module.graph;
        let shapes = Shapes::of(&contents.program, &inputs.arguments)?;
        let mut names = Names::new();
        for (slot, (name, _)) in inputs.sources.iter().enumerate() {
            names.insert(name.clone(), slot);
        }
        let mut compiler = Compiler::new(inputs.sources.len(), device);
        compiler.hasher.update(&contents.constants_hash.to_le_bytes());
        let mut steps = compiler.graph(graph, &mut names, 0)?;
        let outputs = returned.into_iter().map(|output| match names.get(&output.value) {
            Some(slot) => Ok((output, *slot)),
            None => Err(format!("nothing makes the output `{}`", output.value)),
        });
        let outputs: Vec<_> = outputs.collect::<std::result::Result<_, _>>()?;
        steps::free(&mut steps, &mut outputs.iter().map(|(_, slot)| *slot).collect());
        for (slot, place) in &compiler.written {
            if let Source::Kept(name, _) = &inputs.sources[*slot].1
                && inputs.kept.iter().any(|kept| kept.name == *name && kept.parameter)
            {
                return Err(format!(
                    "node {place} writes parameter `{name}`, which only the optimizer may: write to a copy of it"
                ));
            }
        }
        let mut draws = None;
        steps::each_call(&steps, &mut |step, call| {
            if call.draws {
                draws.get_or_insert_with(|| step.place.to_string());
            }
        });
        let argument = |name: &String| Argument {
            name: name.clone(),
            kind: "Tensor".to_owned(),
            tensor: true,
            optional: false,
        };
        Ok(Program {
            device,
            slots: compiler.slots(),
            written: compiler.written.keys().copied().collect(),
            arguments: inputs.arguments.iter().map(argument).collect(),
            fingerprint: format!("{:016x}", compiler.hasher.digest()),
            modes: compiler.modes,
            archive: Mutex::new(contents.archive),
            steps,
            inputs,
            outputs,
            shapes,
            draws,
        })
    }

    /// What the forward takes: tensors, by the names of its arguments.
    pub fn inputs(&self) -> &[Argument] {
        &self.arguments
    }

    /// Other names of tensors that have several, each with the first one.
    pub fn tied(&self) -> &[(String, String)] {
        &self.inputs.tied
    }

    /// The names that the model's `state_dict` has in Python, each with the one that its tensor has here.
    pub fn state_dict(&self) -> &[(String, String)] {
        &self.inputs.state_dict
    }

    /// Stands for what the file does, whatever its weights are: for its graph and constants.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// That the program can be evaluated: no node of it draws random numbers but those that are off then.
    ///
    /// # Errors
    /// The first node that does.
    pub fn check_evaluation(&self) -> Result<()> {
        match &self.draws {
            None => Ok(()),
            Some(place) => Err(Error::Script(format!(
                "node {place} draws random numbers and does not say whether it trains, as stochastic depth written by hand \
                 does, so that an evaluation would draw too: export the model without it, its probability set to 0"
            ))),
        }
    }

    /// Runs the program on inputs by name, in training or evaluation mode. An evaluation leaves every buffer as it was.
    ///
    /// # Errors
    /// An input is missing, unknown, of another type or of a size that the program was not exported for; the node that
    /// failed; in evaluation mode those of [`check_evaluation`](Self::check_evaluation).
    pub fn forward<N: AsRef<str>, T: Borrow<Tensor>>(
        &self,
        inputs: &[(N, T)],
        train: bool,
    ) -> Result<Outputs> {
        let given: Vec<&Tensor> =
            arranged(&self.arguments, inputs)?.into_iter().flatten().collect();
        if !train {
            self.check_evaluation()?;
        }
        self.shapes.check(&given).map_err(Error::Script)?;
        let mut forward = Forward {
            values: (0..self.slots).map(|_| Value::None).collect(),
            train,
            device: self.device,
        };
        for (slot, (_, source)) in self.inputs.sources.iter().enumerate() {
            // What is written is the caller's, or the same in each run; buffers change where the model trains.
            let (tensor, copied) = match source {
                Source::Kept(_, tensor) => (tensor, !train),
                Source::Constant(tensor) => (tensor, true),
                Source::Argument(index) => (given[*index], true),
                Source::Nothing => continue,
            };
            forward.values[slot] = Value::Tensor(match copied && self.written.contains(&slot) {
                true => copy(tensor)?,
                false => tensor.shallow_clone(),
            });
        }
        forward.run(&self.steps).map_err(Error::Script)?;
        let output = |(returned, slot): &(Returned, Slot)| {
            let tensor = forward.tensor(*slot)?.shallow_clone();
            Ok(Output { name: returned.name.clone(), tensor })
        };
        let outputs: std::result::Result<Vec<_>, String> =
            self.outputs.iter().map(output).collect();
        Ok(Outputs(outputs.map_err(Error::Script)?))
    }

    fn say_mode(&self, path: &Path) {
        let Modes { switched, off, .. } = self.modes;
        if off > 0 {
            tracing::warn!(
                "{}: {off} of its dropouts and normalisations never train, as the program was exported in evaluation mode \
                 (`model.train()` before torch.export.export has them train); {switched} follow the mode",
                path.display()
            );
        }
        if let Err(error) = self.check_evaluation() {
            tracing::warn!("{}: no evaluation: {error}", path.display());
        }
    }
}

fn copy(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    tch::no_grad(|| copy.f_copy_(tensor))?;
    Ok(copy)
}
