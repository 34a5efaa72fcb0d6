//! Models for the tests, made by PyTorch.
use crate::python::run;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use tempfile::TempDir;
use trainyard::Layers;
use trainyard::script::{Repeats, Script};

/// A model that `tests/python/scripts.py` or `programs.py` wrote, and what PyTorch makes of it.
#[derive(Debug)]
pub struct Made {
    folder: TempDir,
    /// Of the model's file.
    name: String,
    /// See the script.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Made {
    /// Makes the model called `name`.
    ///
    /// # Panics
    /// If Python cannot.
    pub fn new(name: &str) -> Self {
        Self::by("scripts.py", name, "pt")
    }

    /// Makes the model called `name` as torch.export has it.
    ///
    /// # Panics
    /// If Python cannot.
    pub fn exported(name: &str) -> Self {
        Self::by("programs.py", name, "pt2")
    }

    fn by(script: &str, name: &str, extension: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(script, ["make".as_ref(), folder.path(), name.as_ref()]);
        let tensors = Tensor::read_npz(folder.path().join(format!("{name}.npz")));
        let tensors = tensors.expect("what the script wrote").into_iter().collect();
        Made { folder, name: format!("{name}.{extension}"), tensors }
    }

    /// The model's file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// A file beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The inputs by name.
    pub fn inputs(&self) -> Vec<(String, Tensor)> {
        let inputs = self.tensors.iter().filter_map(|(key, tensor)| {
            Some((key.strip_prefix("input/")?.to_owned(), tensor.shallow_clone()))
        });
        inputs.collect()
    }

    /// Loads it on the CPU.
    ///
    /// # Errors
    /// Those of [`Script::load`].
    pub fn load(&self, patterns: &[&str]) -> trainyard::Result<(VarStore, Layers, Script)> {
        Self::load_from(&self.path(), patterns)
    }

    /// Loads another file on the CPU.
    ///
    /// # Errors
    /// Those of [`Script::load`].
    pub fn load_from(
        path: &Path,
        patterns: &[&str],
    ) -> trainyard::Result<(VarStore, Layers, Script)> {
        let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
        let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let script = Script::load(path, &variables, &layers, &patterns, Repeats::Refused)?;
        Ok((variables, layers, script))
    }

    /// What PyTorch finds in the TorchScript file `saved`: the `loss` in evaluation mode, and `state/` with its
    /// parameters and buffers.
    ///
    /// # Panics
    /// If Python cannot.
    pub fn evaluated(&self, saved: &Path) -> BTreeMap<String, Tensor> {
        self.found("scripts.py", "evaluate", saved)
    }

    /// What PyTorch finds in the file `saved` of torch.export: the `loss`, as its graph has it, and `state/` with its
    /// parameters and buffers.
    ///
    /// # Panics
    /// If Python cannot.
    pub fn ran(&self, saved: &Path) -> BTreeMap<String, Tensor> {
        self.found("programs.py", "run", saved)
    }

    fn found(&self, script: &str, what: &str, saved: &Path) -> BTreeMap<String, Tensor> {
        let (given, made) = (self.beside("given.npz"), self.beside("made.npz"));
        Tensor::write_npz(&self.inputs(), &given).expect("the inputs can be written");
        run(script, [what.as_ref(), saved, &given, &made]);
        Tensor::read_npz(made).expect("what the script wrote").into_iter().collect()
    }
}
