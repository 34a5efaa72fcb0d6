//! A model that PyTorch wrote, whichever way.
use super::saved::Saved;
use std::io;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::program::{Program, is_program};
use trainyard::script::{Argument, Outputs, Repeats, Script};
use trainyard::{BoxError, Layers};
use trainyard_checkpoint::Wanted;
use trainyard_run::{Files, Weights, write_safetensors};

/// By what its file is.
pub enum Model {
    /// torch.jit.save wrote it.
    Script(Box<Script>),
    /// torch.export.save did.
    Program(Box<Program>),
}

impl Model {
    /// Loads the file at `path` on the device of `variables`, with layer calls in `layers` of what `patterns` name.
    ///
    /// # Errors
    /// It is neither, or the model cannot be trained.
    pub fn load(
        path: &Path,
        variables: &VarStore,
        layers: &Layers,
        patterns: &[String],
        repeats: Repeats,
    ) -> Result<Self, BoxError> {
        if !is_program(path) {
            let script = Script::load(path, variables, layers, patterns, repeats)?;
            return Ok(Model::Script(Box::new(script)));
        }
        if let Some(pattern) = patterns.first() {
            return Err(format!(
                "{}: the layers {pattern:?} cannot be dropped: those of a program of torch.export are not found yet; leave \
                 them out, or export the model as TorchScript",
                path.display()
            )
            .into());
        }
        let program = Program::load(path, variables)?;
        // Every run evaluates at its end.
        program.check_evaluation().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Model::Program(Box::new(program)))
    }

    /// What the forward takes, in order.
    pub fn inputs(&self) -> &[Argument] {
        match self {
            Model::Script(script) => script.inputs(),
            Model::Program(program) => program.inputs(),
        }
    }

    /// Stands for what the file does, whatever its weights are.
    pub fn fingerprint(&self) -> &str {
        match self {
            Model::Script(script) => script.fingerprint(),
            Model::Program(program) => program.fingerprint(),
        }
    }

    /// Runs the model on inputs by name, in training or evaluation mode.
    ///
    /// # Errors
    /// The model's.
    pub fn forward(&self, inputs: &[(String, Tensor)], train: bool) -> trainyard::Result<Outputs> {
        match self {
            Model::Script(script) => script.forward(inputs, train),
            Model::Program(program) => program.forward(inputs, train),
        }
    }
}

/// What writes a trained model's files.
pub enum Writer {
    Script(Saved),
    /// The weights, and the names under which they are saved with their own.
    Program(Weights, Vec<(String, String)>),
}

impl Writer {
    /// For a model whose tensors are in `variables`.
    ///
    /// # Errors
    /// A tensor of a program is of a type that cannot be written; libtorch's.
    pub fn new(variables: &VarStore, model: &Model) -> Result<Self, BoxError> {
        Ok(match model {
            Model::Script(script) => Writer::Script(Saved::new(variables, script)?),
            Model::Program(program) => {
                let (weights, names) = (Weights::of(variables), program.state_dict().to_vec());
                let saved = |name: &String| names.iter().any(|(_, own)| own == name);
                let empty = |(name, tensor): &(String, Tensor)| -> Result<_, BoxError> {
                    Ok((name.clone(), Tensor::f_empty([0], (tensor.kind(), Device::Cpu))?))
                };
                let all = weights.tensors().iter().filter(|(name, _)| saved(name));
                let empty: Vec<_> = all.map(empty).collect::<Result<_, _>>()?;
                // Better before the run than at its end.
                write_safetensors(&empty, &mut io::sink())?;
                Writer::Program(weights, names)
            }
        })
    }

    /// The tensors that weights are loaded into, by all their names; those that are not saved may be missing.
    pub fn wanted(&self, model: &Model) -> Vec<Wanted> {
        let (weights, names) = match (self, model) {
            (Writer::Script(saved), Model::Script(script)) => return saved.wanted(script),
            (Writer::Program(weights, names), Model::Program(_)) => (weights, names),
            _ => unreachable!("a writer serves its own model"),
        };
        let wanted = weights.tensors().iter().map(|(own, tensor)| {
            let saved = names.iter().filter(|(_, of)| of == own).map(|(name, _)| name.clone());
            let names: Vec<_> = saved.collect();
            let required = !names.is_empty();
            let names = if required { names } else { vec![own.clone()] };
            Wanted { names, tensor: tensor.shallow_clone(), required }
        });
        wanted.collect()
    }

    /// Writes them.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, model: &Model, files: &mut dyn Files) -> Result<(), BoxError> {
        match (self, model) {
            (Writer::Script(saved), Model::Script(script)) => saved.write(script, files),
            (Writer::Program(weights, names), Model::Program(program)) => {
                files.file("model.pt2", &mut |to| Ok(program.write(to)?))?;
                let named = names.iter().filter_map(|(name, own)| {
                    let (_, tensor) = weights.tensors().iter().find(|(known, _)| known == own)?;
                    Some((name.clone(), tensor))
                });
                let named: Vec<_> = named.collect();
                files.file("model.safetensors", &mut |to| write_safetensors(&named, to))?;
                Ok(())
            }
            _ => unreachable!("a writer serves its own model"),
        }
    }
}
