//! The files of a trained script.
use std::collections::{HashMap, HashSet};
use tch::Tensor;
use tch::nn::VarStore;
use trainyard::BoxError;
use trainyard::script::Script;
use trainyard_checkpoint::Wanted;
use trainyard_run::{Files, Weights, write_safetensors};

/// What is saved of a script: `model.pt`, and for the model in Python the tensors that its `state_dict` has.
///
/// Which those are, the file says where its export wrote it down ([`Script::state_dict`]). Else nobody can know of a
/// buffer that no step changes whether it is one of them: those go to `constants.safetensors`, so that
/// `model.safetensors` has nothing that the model in Python lacks.
pub struct Saved {
    weights: Weights,
    /// The name under which each of the weights is saved; none for one that is no part of the `state_dict`.
    names: Vec<Option<String>>,
    /// As they were loaded: the buffers of which nobody says whether they are a part.
    doubtful: HashMap<String, Tensor>,
}

impl Saved {
    /// Of a script whose tensors are in `variables`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(variables: &VarStore, script: &Script) -> Result<Self, BoxError> {
        let weights = Weights::of(variables);
        let names = names(&weights, script);
        let mut doubtful = HashMap::new();
        if script.state_dict().is_none() {
            let buffers: HashSet<_> = script.buffers().iter().collect();
            for (name, tensor) in
                weights.tensors().iter().filter(|(name, _)| buffers.contains(name))
            {
                let mut copy = tensor.f_empty_like()?;
                copy.f_copy_(tensor)?;
                doubtful.insert(name.clone(), copy);
            }
        }
        Ok(Saved { weights, names, doubtful })
    }

    /// The tensors that weights are loaded into, by all their names. Those that are no part of the `state_dict` may
    /// be missing, and so may buffers of which nobody says whether they are.
    pub fn wanted(&self, script: &Script) -> Vec<Wanted> {
        let tensors = self.weights.tensors().iter().zip(&self.names);
        let wanted = tensors.map(|((own, tensor), saved)| {
            let tied = script.tied().iter().filter(|(_, first)| first == own);
            let names = [own].into_iter().chain(tied.map(|(other, _)| other));
            Wanted {
                names: names.cloned().collect(),
                tensor: tensor.shallow_clone(),
                required: saved.is_some() && !self.doubtful.contains_key(own),
            }
        });
        wanted.collect()
    }

    /// Writes them.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, script: &Script, files: &mut dyn Files) -> Result<(), BoxError> {
        // First, for it puts what the last forward assigned to buffers where the others look.
        files.file("model.pt", &mut |to| Ok(script.write(to)?))?;
        let unchanged = |name: &str, tensor: &Tensor| {
            self.doubtful.get(name).is_some_and(|loaded| loaded.equal(tensor))
        };
        let named = self.weights.tensors().iter().zip(&self.names);
        let named = named.filter_map(|((own, tensor), name)| Some((own, name.clone()?, tensor)));
        let (constants, rest): (Vec<_>, Vec<_>) =
            named.partition(|(own, _, tensor)| unchanged(own, tensor));
        let of = |list: Vec<(_, String, _)>| -> Vec<(String, &Tensor)> {
            list.into_iter().map(|(_, name, tensor)| (name, tensor)).collect()
        };
        let (constants, rest) = (of(constants), of(rest));
        files.file("model.safetensors", &mut |to| write_safetensors(&rest, to))?;
        if !constants.is_empty() {
            files.file("constants.safetensors", &mut |to| write_safetensors(&constants, to))?;
        }
        Ok(())
    }
}

/// The first of each tensor's names that the `state_dict` has.
fn names(weights: &Weights, script: &Script) -> Vec<Option<String>> {
    let own = weights.tensors().iter().map(|(name, _)| name);
    let Some(keys) = script.state_dict() else {
        return own.map(|name| Some(name.clone())).collect();
    };
    let keys: HashSet<_> = keys.iter().collect();
    let mut others: HashMap<&String, Vec<&String>> = HashMap::new();
    for (other, first) in script.tied() {
        others.entry(first).or_default().push(other);
    }
    let first = |name| {
        let all = std::iter::once(name).chain(others.get(name).into_iter().flatten().copied());
        all.into_iter().find(|name| keys.contains(name)).cloned()
    };
    own.map(first).collect()
}
