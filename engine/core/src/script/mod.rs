//! Models that PyTorch wrote as TorchScript, trained as they are.
//!
//! Calls of the modules that a pattern names become layer calls, so that every plugin works on them as
//! it does on a model in Rust. The file's own graphs decide the rest; nothing is optimised, so that an
//! operation of a script does just what it does in PyTorch without a compiler.
mod answers;
mod archive;
mod gates;
mod outline;
mod parts;

pub(crate) use answers::numpy;
pub use gates::Repeats;
pub use outline::{Outline, OutlineModule, Stack};
pub(crate) use parts::lies_in;
pub use trainyard_native::{Argument, Modes};

use crate::error::{Error, Result, panic_message};
use crate::kept::Kept;
use crate::layers::{Block, LayerFailure, Layers, fail_in};
use gates::Gate;
use parts::Parts;
use serde_json::Value;
use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use trainyard_native as native;

/// What may be behind a script without parameters.
const NO_PARAMETERS: &str =
    "`torch.jit.freeze` makes constants of them, and so does an export for inference";

/// A TorchScript module in training.
#[derive(Debug)]
pub struct Script {
    /// Shared with what settles it once a backward pass is over.
    module: Arc<Mutex<native::Script>>,
    /// Of the first parameter of real numbers.
    kind: Option<Kind>,
    arguments: Vec<Argument>,
    /// For each gated module its calls, in the order of the forward.
    gated: Vec<Vec<Block>>,
    /// The modules' names.
    names: Vec<String>,
    tied: Vec<(String, String)>,
    fingerprint: String,
    buffers: Vec<String>,
    state_dict: Option<Vec<String>>,
}

impl Script {
    /// Loads the module at `path` on the device of `variables`, puts its parameters and buffers there under
    /// their own dotted names, and makes a layer call in `layers` of each call of a module that one of
    /// `patterns` matches, in the order of the forward; `repeats` says what of those with several calls. What
    /// the file froze stays frozen; what has several names goes by the first.
    ///
    /// # Errors
    /// The file is not TorchScript, damaged or of another version; a parameter is not finite; a pattern
    /// matches nothing; a layer cannot be skipped soundly.
    pub fn load(
        path: &Path,
        variables: &VarStore,
        layers: &Layers,
        patterns: &[String],
        repeats: Repeats,
    ) -> Result<Self> {
        let at = |detail: String| Error::Script(format!("{}: {detail}", path.display()));
        let fingerprint = archive::check(path).map_err(at)?;
        let state_dict = archive::state_dict(path).map_err(at)?;
        let of_torch = |error: native::Error| at(error.0);
        let mut module = native::Script::load(path, variables.device()).map_err(of_torch)?;
        let parts = Parts::of(&module).map_err(of_torch)?;
        Kept::check(&parts.variables, NO_PARAMETERS).map_err(at)?;
        let arguments = module.arguments().map_err(of_torch)?;
        say_mode(path, &module.modes().map_err(of_torch)?);
        let gates = gates::find(&module, &parts.modules, patterns, repeats).map_err(at)?;
        let (mut sites, mut names) = (Vec::new(), Vec::new());
        let mut gated: Vec<Vec<Block>> = Vec::new();
        for Gate { name, identity, stream } in gates {
            let block = layers.named(name.clone());
            match sites.iter().position(|site| *site == (identity, stream)) {
                Some(known) => gated[known].push(block),
                None => {
                    sites.push((identity, stream));
                    names.push(name);
                    gated.push(vec![block]);
                }
            }
        }
        module.gate(&sites).map_err(of_torch)?;
        Kept::add_to(&parts.variables, variables)?;
        let module = Arc::new(Mutex::new(module));
        let settled = Arc::downgrade(&module);
        layers.settle_with(move || match settled.upgrade() {
            Some(module) => locked(&module).settle().map_err(|error| Error::Script(error.0)),
            None => Ok(()),
        });
        let real = parts.variables.iter().filter(|v| v.parameter && v.tensor.is_floating_point());
        let kind = real.map(|variable| variable.tensor.kind()).next();
        let buffers = parts.variables.iter().filter(|variable| !variable.parameter);
        let buffers = buffers.map(|variable| variable.name.clone()).collect();
        Ok(Script {
            module,
            kind,
            arguments,
            gated,
            names,
            tied: parts.tied,
            fingerprint,
            buffers,
            state_dict,
        })
    }

    /// What the forward takes, in order.
    pub fn inputs(&self) -> &[Argument] {
        &self.arguments
    }

    /// Other names of tensors that have several, each with the first one.
    pub fn tied(&self) -> &[(String, String)] {
        &self.tied
    }

    /// Stands for what the file does, whatever its weights are: for its code, attributes and constants.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Runs the module on inputs by name, in training or evaluation mode.
    ///
    /// # Errors
    /// An input that the forward does not take, or one that it needs is missing; the script's own, with the
    /// layer's name where one failed; a plugin's.
    pub fn forward<N: AsRef<str>, T: Borrow<Tensor>>(
        &self,
        inputs: &[(N, T)],
        train: bool,
    ) -> Result<Outputs> {
        let arranged = arranged(&self.arguments, inputs)?;
        // How often each gated module was called: a layer call that runs twice would be scaled twice.
        let met = RefCell::new(vec![0; self.gated.len()]);
        let layer = |site: usize, x: &Tensor, run: native::Run<'_>| {
            let name = &self.names[site];
            let number = met.borrow()[site];
            met.borrow_mut()[site] += 1;
            let Some(block) = self.gated[site].get(number) else {
                fail_in(name, gates::TWICE.into());
            };
            block.run(x, train, |x| {
                let output = run.on(x).unwrap_or_else(|error| fail_in(name, error.into()));
                match x.size() == output.size() {
                    true => output,
                    false => fail_in(name, gates::shapes(&x.size(), &output.size()).into()),
                }
            })
        };
        let module = locked(&self.module);
        let run = || module.forward(&arranged, train, &layer);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outputs)) => Ok(Outputs(outputs)),
            Ok(Err(native::Error(said))) => {
                Err(Error::Script(match answers::other_kinds(&said, inputs, self.kind) {
                    Some(answer) => format!("{answer} ({said})"),
                    None => said,
                }))
            }
            Err(payload) => Err(Error::Script(match payload.downcast::<LayerFailure>() {
                Ok(failure) => failure.0.to_string(),
                Err(payload) => {
                    panic_message(&*payload).lines().next().unwrap_or_default().to_owned()
                }
            })),
        }
    }

    /// The names of tensors that are no parameters.
    pub fn buffers(&self) -> &[String] {
        &self.buffers
    }

    /// The names that the model's `state_dict` has in Python, where the file says so: in its extra file
    /// `state_dict.json`, a list. A TorchScript itself has buffers that are no part of it (`persistent=False`), and
    /// does not tell which they are.
    pub fn state_dict(&self) -> Option<&[String]> {
        self.state_dict.as_deref()
    }

    /// Writes the module as TorchScript: the file that was loaded, with the weights as they are now, on the CPU.
    ///
    /// # Errors
    /// `to` does not take it, or libtorch cannot make the archive.
    pub fn write(&self, to: &mut dyn Write) -> Result<()> {
        let names = self.state_dict.as_ref().map(|names| Value::from(names.as_slice()).to_string());
        let extra: Vec<_> =
            names.iter().map(|names| (archive::STATE_DICT, names.as_str())).collect();
        locked(&self.module).save(&extra, to).map_err(|error| Error::Script(error.0))
    }
}

/// The inputs by argument; none for a default.
///
/// # Errors
/// One that the forward does not take, or one that it needs is missing.
pub(crate) fn arranged<'a, N: AsRef<str>, T: Borrow<Tensor>>(
    arguments: &[Argument],
    inputs: &'a [(N, T)],
) -> Result<Vec<Option<&'a Tensor>>> {
    let mut by_name: HashMap<_, _> =
        inputs.iter().map(|(name, tensor)| (name.as_ref(), tensor.borrow())).collect();
    let mut take = |argument: &Argument| match by_name.remove(argument.name.as_str()) {
        Some(_) if !argument.tensor => Err(Error::Script(format!(
            "`{}` is of type {}, which is no tensor",
            argument.name, argument.kind
        ))),
        None if !argument.optional => Err(Error::Script(format!(
            "the forward needs `{}`, of type {}, which is not among the inputs",
            argument.name, argument.kind
        ))),
        given => Ok(given),
    };
    let arranged = arguments.iter().map(&mut take).collect::<Result<_>>()?;
    match by_name.keys().min() {
        None => Ok(arranged),
        Some(name) => {
            let known: Vec<_> = arguments.iter().map(|argument| argument.name.as_str()).collect();
            Err(Error::Script(format!(
                "the forward takes no `{name}`; it takes {}",
                known.join(", ")
            )))
        }
    }
}

/// A panic under the lock, of a layer's callback, leaves nothing half done that the next forward does not begin anew.
fn locked(module: &Mutex<native::Script>) -> MutexGuard<'_, native::Script> {
    module.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a forward returned: every tensor of it in order, those in tuples, lists and dictionaries too.
#[derive(Debug)]
pub struct Outputs(pub(crate) Vec<native::Output>);

impl Outputs {
    /// The output at `index`, counted from 0.
    pub fn at(&self, index: usize) -> Option<&Tensor> {
        self.0.get(index).map(|output| &output.tensor)
    }

    /// The output under that key of a dictionary, or of that name in a named tuple.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|output| output.name == name).map(|output| &output.tensor)
    }

    /// Names of the outputs, in order; empty for one that has none.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|output| output.name.as_str())
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tensor in what the forward returned.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn say_mode(path: &Path, modes: &Modes) {
    let Modes { on, off, switched, random, .. } = *modes;
    if random > 0 {
        tracing::warn!(
            "{}: operations that draw random numbers under no condition, as stochastic depth in a trace does: \
             {random}; they draw in evaluation too; script it instead (torch.jit.script), which keeps the condition",
            path.display()
        );
    }
    if on + off > 0 {
        tracing::warn!(
            "{}: a trace has baked in the mode: of its dropouts and normalisations, {on} always train, \
             {off} never do, {switched} follow the mode",
            path.display()
        );
    }
}
