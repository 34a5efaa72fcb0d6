//! TorchScript modules: loading, what they are made of, running them with gated calls, saving.
use crate::error::{Error, Result, check};
use crate::ffi;
use crate::store::text;
use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::ptr::null_mut;
use tch::{Device, Tensor};
use torch_sys::C_tensor;

/// Which thing it is, whatever its name: shared modules and tied parameters have several. For comparison,
/// among what one script holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(*const c_void);

/// A module of a script.
#[derive(Debug, Clone)]
pub struct Module {
    /// Dotted; empty for the script itself.
    pub name: String,
    /// Its class: `__torch__.torch.nn.modules.linear.Linear`.
    pub class: String,
    /// The same for all names of one module.
    pub identity: Identity,
    /// Whether it has a `forward`.
    pub forward: bool,
}

/// A tensor that a script keeps.
#[derive(Debug)]
pub struct Variable {
    /// Dotted.
    pub name: String,
    /// The tensor itself.
    pub tensor: Tensor,
    /// A parameter; else a buffer.
    pub parameter: bool,
    /// The same for all names of one tensor.
    pub identity: Identity,
}

/// An argument of a script's forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type as TorchScript writes it: `Tensor`, `Optional[Tensor]`, `int`.
    pub kind: String,
    /// A tensor, or a tensor or none.
    pub tensor: bool,
    /// It has a default, or may be none.
    pub optional: bool,
}

/// How many operations know by a constant whether they train, and how many by the module's mode.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// Dropouts and normalisations that always train.
    pub on: usize,
    /// Those that never do.
    pub off: usize,
    /// Those that follow the mode.
    pub switched: usize,
    /// Of these, those that a trace had in training mode for good: they follow the mode since it was loaded.
    pub freed: usize,
    /// Other operations that draw random numbers, and under no condition.
    pub random: usize,
}

/// A call of a module in the code of another.
#[derive(Debug, Clone)]
pub struct Call {
    /// Index of the module among those asked for.
    pub module: usize,
    /// Calls with the same number stand in one method, called once as a whole.
    pub visit: usize,
    /// Dotted name of the module in whose code the call stands.
    pub caller: String,
    /// The method that is called.
    pub method: String,
    /// File and line of the source, where the script tells.
    pub place: String,
    /// Type of the output.
    pub output: String,
    /// An attribute that the module assigns and code outside of it reads; empty if there is none.
    pub assigned: String,
    /// Stands in a loop.
    pub looped: bool,
    /// Stands in a branch of a condition.
    pub conditional: bool,
    /// Runs on a thread of its own.
    pub forked: bool,
    /// The script begins or awaits something on other threads, outside of the modules asked for.
    pub threads: bool,
    /// The output is a tensor, or a tuple that begins with one: the stream.
    pub streams: bool,
    /// What the tuple has behind it is used.
    pub rest_used: bool,
    /// What the tuple has behind it may be none.
    pub rest_optional: bool,
    /// What the module is called with.
    pub inputs: Vec<CallInput>,
}

/// One of the inputs of a [`Call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallInput {
    /// It is a tensor.
    pub tensor: bool,
    /// A sum leads from it to the output, over nothing but operations that keep what a tensor stands for.
    pub residual: bool,
    /// The module may write to it: to a tensor's memory, to a list.
    pub written: bool,
    /// Index of the latest earlier call whose stream it is.
    pub from: Option<usize>,
}

/// A tensor that a forward returned.
#[derive(Debug)]
pub struct Output {
    /// Its key in a dictionary or named tuple; empty if it has none.
    pub name: String,
    /// The tensor itself.
    pub tensor: Tensor,
}

/// A loaded module: parameters and buffers, and graphs that run operation by operation.
#[derive(Debug)]
pub struct Script(*mut c_void);

// SAFETY: the module behind the pointer has no ties to the thread that made it; `&self` methods that change it are
// not called from two threads at once, as `Script` is not `Sync`.
unsafe impl Send for Script {}

impl Script {
    /// Loads a module with its tensors on `device`. Constants that name a device name this one then.
    ///
    /// # Errors
    /// libtorch's: no such file, not TorchScript, of a version it cannot read.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let path = path_text(path)?;
        let (kind, index) = match device {
            Device::Cpu => (-1, 0),
            Device::Cuda(index) => (1, i32::try_from(index).unwrap_or(i32::MAX)),
            other => {
                return Err(Error(format!("{other:?}: a script runs on a CPU or CUDA device")));
            }
        };
        let mut out = null_mut();
        // SAFETY: `path` ends with NUL and outlives the call, `out` is written on success.
        check(unsafe { ffi::ty_script_load(&mut out, path.as_ptr(), kind, index) })
            .map_err(plain)?;
        Ok(Script(out))
    }

    /// Every module, outer ones first, once for each of its names; and every tensor likewise.
    ///
    /// # Errors
    /// If shared modules give it too many names.
    pub fn places(&self) -> Result<(Vec<Module>, Vec<Variable>)> {
        let mut found = (Vec::new(), Vec::new());
        // SAFETY: a live script; `place` gets the `found` that outlives the call.
        check(unsafe { ffi::ty_script_places(self.0, place, (&raw mut found).cast()) })?;
        Ok(found)
    }

    /// What `forward` takes, in order.
    ///
    /// # Errors
    /// If there is no `forward`.
    pub fn arguments(&self) -> Result<Vec<Argument>> {
        let mut found = Vec::new();
        // SAFETY: a live script; `argument` gets the `found` that outlives the call.
        check(unsafe { ffi::ty_script_arguments(self.0, argument, (&raw mut found).cast()) })?;
        Ok(found)
    }

    /// How its operations know whether they train.
    ///
    /// # Errors
    /// None known.
    pub fn modes(&self) -> Result<Modes> {
        let mut modes = Modes::default();
        // SAFETY: a live script; `modes` outlives the call.
        check(unsafe { ffi::ty_script_modes(self.0, &mut modes) })?;
        Ok(modes)
    }

    /// The calls of `modules` that a forward makes, in the order of the code. A module that may be one of
    /// several at some place is taken for each of them.
    ///
    /// # Errors
    /// If the code is too large to follow.
    pub fn calls(&self, modules: &[Identity]) -> Result<Vec<Call>> {
        let pointers: Vec<_> = modules.iter().map(|identity| identity.0).collect();
        let mut found = Vec::new();
        // SAFETY: a live script, pointers that are only compared; `call` gets the `found` that outlives
        // the call.
        check(unsafe {
            let context = (&raw mut found).cast();
            ffi::ty_script_calls(self.0, pointers.as_ptr(), pointers.len(), call, context)
        })
        .map_err(plain)?;
        Ok(found)
    }

    /// Has the calls of `forward`, and `forward1` and on as traces have them, of the given modules go through the callback of
    /// [`forward`](Script::forward) from now on; `gated`: each module with the index of the residual stream
    /// among its inputs. Once, before the first forward.
    ///
    /// # Errors
    /// None known.
    pub fn gate(&mut self, gated: &[(Identity, usize)]) -> Result<()> {
        let pointers: Vec<_> = gated.iter().map(|(identity, _)| identity.0).collect();
        let streams: Vec<_> = gated.iter().map(|(_, stream)| *stream).collect();
        // SAFETY: a live script, two lists of one length; the pointers are only compared.
        check(unsafe {
            ffi::ty_script_gate(self.0, pointers.as_ptr(), streams.as_ptr(), pointers.len())
        })
    }

    /// Runs the script. `inputs`: for each argument a tensor, or none for its default. `train` sets the mode of
    /// all its modules. `layer` gets the index of a gated module, its stream, and what runs the module; it
    /// returns the stream behind it. A panic of it ends the forward and goes on from here.
    ///
    /// The outputs are all tensors among what the script returns, in order.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(
        &self,
        inputs: &[Option<&Tensor>],
        train: bool,
        layer: &dyn Fn(usize, &Tensor, Run<'_>) -> Tensor,
    ) -> Result<Vec<Output>> {
        let handles: Vec<_> = inputs.iter().map(|input| ffi::handle(*input)).collect();
        let mut context = Context { layer, outputs: Vec::new(), panic: None };
        // SAFETY: a live script, a list with its length of null or valid tensor pointers; the callbacks get the
        // `context` that outlives the call, and run on this thread.
        let done = check(unsafe {
            let context = (&raw mut context).cast();
            let (count, list) = (handles.len(), handles.as_ptr());
            ffi::ty_script_forward(self.0, list, count, train, run_layer, output, context)
        });
        if let Some(panic) = context.panic {
            resume_unwind(panic);
        }
        done.map_err(plain)?;
        Ok(context.outputs)
    }

    /// Puts what forwards assigned to buffers into the tensors that were loaded, which others hold. Not between a
    /// forward and its backward pass, which may need them as they were. A forward does so first.
    ///
    /// # Errors
    /// If a buffer was given another shape.
    pub fn settle(&self) -> Result<()> {
        // SAFETY: a live script.
        check(unsafe { ffi::ty_script_settle(self.0) }).map_err(plain)
    }

    /// Writes the module as it was loaded, with its tensors as they are now, on the CPU. `extra`: names and contents
    /// of what lies beside it in the archive.
    ///
    /// # Errors
    /// If `to` does not take it, or libtorch cannot make the archive.
    pub fn save(&self, extra: &[(&str, &str)], to: &mut dyn Write) -> Result<()> {
        let names = extra.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
        let files: Vec<_> = names
            .iter()
            .zip(extra)
            .map(|(name, (_, content))| ffi::Extra {
                name: name.as_ptr(),
                content: content.as_ptr().cast(),
                size: content.len(),
            })
            .collect();
        let mut sink = Sink { to, failed: None };
        // SAFETY: a live script, a list with its length whose texts outlive the call; `write` gets the `sink` that
        // outlives it too.
        let made = check(unsafe {
            let context = (&raw mut sink).cast();
            ffi::ty_script_save(self.0, files.as_ptr(), files.len(), write, context)
        });
        match sink.failed {
            Some(error) => Err(Error(error.to_string())),
            None => made.map_err(plain),
        }
    }
}

/// Where an archive goes, and the first error on the way.
struct Sink<'a> {
    to: &'a mut dyn Write,
    failed: Option<io::Error>,
}

extern "C" fn write(context: *mut c_void, bytes: *const c_void, size: usize) {
    // SAFETY: the shim hands back what `save` gave it.
    let sink = unsafe { &mut *context.cast::<Sink<'_>>() };
    if sink.failed.is_some() || size == 0 {
        return;
    }
    // SAFETY: so many bytes, which live during this call.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size) };
    // A panic must not go through C++.
    let written = catch_unwind(AssertUnwindSafe(|| sink.to.write_all(bytes)));
    sink.failed = written.unwrap_or_else(|_| Err(io::Error::other("the writer panicked"))).err();
}

impl Drop for Script {
    fn drop(&mut self) {
        // SAFETY: made by the shim, released once.
        unsafe { ffi::ty_script_free(self.0) }
    }
}

/// Runs a gated module, on the inputs that the script gives it but for the stream.
#[derive(Clone, Copy)]
pub struct Run<'a>(*mut c_void, PhantomData<&'a ()>);

impl Run<'_> {
    /// The module's output for the stream `x`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn on(&self, x: &Tensor) -> Result<Tensor> {
        let mut out = null_mut();
        // SAFETY: the call is under way as long as `self` lives; `out` is written on success.
        check(unsafe { ffi::ty_script_layer(self.0, x.as_ptr(), &mut out) }).map_err(plain)?;
        Ok(ffi::take(out))
    }
}

struct Context<'a> {
    layer: &'a dyn Fn(usize, &Tensor, Run<'_>) -> Tensor,
    outputs: Vec<Output>,
    panic: Option<Box<dyn Any + Send>>,
}

extern "C" fn run_layer(
    context: *mut c_void,
    site: usize,
    x: *mut C_tensor,
    call: *mut c_void,
    out: *mut *mut C_tensor,
) -> bool {
    // SAFETY: the shim hands back what `forward` gave it, whose borrow no other callback has meanwhile but for
    // nested calls of this one, which read `layer` alone until they have returned.
    let layer = unsafe { (*context.cast::<Context<'_>>()).layer };
    let body = || {
        // SAFETY: a tensor that the shim keeps during this call; the clone is ours.
        let x = unsafe { Tensor::clone_from_ptr(x) };
        layer(site, &x, Run(call, PhantomData))
    };
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(mut tensor) => {
            // SAFETY: the shim takes the tensor over, which must not be released here too.
            unsafe { *out = tensor.as_mut_ptr() };
            std::mem::forget(tensor);
            true
        }
        Err(panic) => {
            // SAFETY: as above.
            unsafe { (*context.cast::<Context<'_>>()).panic.get_or_insert(panic) };
            false
        }
    }
}

extern "C" fn output(context: *mut c_void, name: *const c_char, tensor: *mut C_tensor) {
    // SAFETY: the shim hands back what `forward` gave it.
    let outputs = unsafe { &mut (*context.cast::<Context<'_>>()).outputs };
    outputs.push(Output { name: read(name), tensor: ffi::take(tensor) });
}

extern "C" fn place(context: *mut c_void, place: *const ffi::Place) {
    // SAFETY: the shim hands back what `places` gave it, and a place that lives during this call.
    let (found, place) = unsafe { (&mut *context.cast::<(Vec<Module>, Vec<Variable>)>(), &*place) };
    let (name, identity) = (read(place.name), Identity(place.identity));
    if place.tensor.is_null() {
        let class = read(place.r#type);
        found.0.push(Module { name, class, identity, forward: place.forward });
    } else {
        let tensor = ffi::take(place.tensor);
        found.1.push(Variable { name, tensor, parameter: place.parameter, identity });
    }
}

extern "C" fn argument(context: *mut c_void, argument: *const ffi::Argument) {
    // SAFETY: the shim hands back what `arguments` gave it, and an argument that lives during this call.
    let (found, argument) = unsafe { (&mut *context.cast::<Vec<Argument>>(), &*argument) };
    found.push(Argument {
        name: read(argument.name),
        kind: read(argument.r#type),
        tensor: argument.tensor,
        optional: argument.optional,
    });
}

extern "C" fn call(context: *mut c_void, call: *const ffi::Call) {
    // SAFETY: the shim hands back what `calls` gave it, and a call that lives during this one.
    let (found, call) = unsafe { (&mut *context.cast::<Vec<Call>>(), &*call) };
    let (tensor, residual) = (list(call.tensor, call), list(call.residual, call));
    let (written, from) = (list(call.written, call), list(call.from, call));
    let input = |i: usize| CallInput {
        tensor: tensor[i],
        residual: residual[i],
        written: written[i],
        from: usize::try_from(from[i]).ok(),
    };
    found.push(Call {
        module: call.module,
        visit: call.visit,
        caller: read(call.caller),
        method: read(call.method),
        place: read(call.place),
        output: read(call.output),
        assigned: read(call.assigned),
        looped: call.looped,
        conditional: call.conditional,
        forked: call.forked,
        threads: call.threads,
        streams: call.streams,
        rest_used: call.rest_used,
        rest_optional: call.rest_optional,
        inputs: (0..call.inputs).map(input).collect(),
    });
}

/// One of the lists of a call.
fn list<T>(items: *const T, call: &ffi::Call) -> &[T] {
    match call.inputs {
        0 => &[],
        // SAFETY: the shim's lists have an item for each input, and live as long as the call they came with.
        count => unsafe { std::slice::from_raw_parts(items, count) },
    }
}

fn read(text: *const c_char) -> String {
    // SAFETY: the callbacks above are given texts that end with NUL and live during the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn path_text(path: &Path) -> Result<std::ffi::CString> {
    let path = path.to_str().ok_or_else(|| Error(format!("{path:?} is no text in UTF-8")))?;
    text(path)
}

/// What the interpreter says begins with the way through the script and ends with what went wrong.
fn plain(error: Error) -> Error {
    let found = ["RuntimeError: ", "please report a bug to PyTorch. "]
        .iter()
        .find_map(|before| error.0.rsplit_once(before))
        .map(|(_, message)| message.trim());
    match found.and_then(|message| message.lines().next()) {
        Some(line) => Error(line.to_owned()),
        None => error,
    }
}
