//! Layer calls: where a model lets the engine in.
//!
//! A model asks [`Layers`] for one [`Block`] handle for each of its blocks while it is built, and
//! makes its layer calls through them. Until an engine attaches, a handle is inert: the model
//! computes bit for bit what it would compute without.
use crate::error::{BoxError, Error};
use crate::report::LayerCalls;
use std::borrow::Borrow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tch::nn::{self, ModuleT};
use tch::{TchError, Tensor};
use trainyard_config::BlockInfo;

/// One call of a layer: a residual branch, or a whole block.
#[derive(Debug, Clone, Copy)]
pub struct LayerCall<'a> {
    /// Index of the block, 0 = nearest the input.
    pub block: usize,
    /// Index of the branch within its block; 0 for a whole block.
    pub sublayer: usize,
    /// `encoder.3.attention`, or `encoder.3` for a whole block.
    pub name: &'a str,
    /// Whether the model runs to be trained.
    pub train: bool,
}

/// What a layer call contributes to the residual stream.
#[derive(Debug)]
pub enum Branch {
    /// Nothing: the layer was not computed, the stream passes unchanged.
    Skipped,
    /// `output` times `scale`. For a whole block the scaled thing is what the block changed.
    Ran {
        /// What the layer returned, of the stream's shape.
        output: Tensor,
        /// Factor on the contribution; 1 leaves it as it is, bit for bit.
        scale: f64,
    },
}

/// Wraps the layer calls of one forward. Decided by [`Plugin::begin_forward`](crate::Plugin), hence
/// immutable: recomputing an activation in the backward pass meets the same decision.
pub trait LayerWrap: Send + Sync {
    /// Runs around one layer call with input `x`. `next.run(x)` is the rest of the stack; not calling
    /// it skips the layer.
    ///
    /// # Errors
    /// Any; the step then fails with it.
    fn layer(&self, call: &LayerCall<'_>, x: &Tensor, next: Next<'_>) -> Result<Branch, BoxError>;
}

/// The rest of the stack: the plugins further in, then the layer itself.
pub struct Next<'a> {
    call: &'a LayerCall<'a>,
    stack: &'a [Arc<dyn LayerWrap>],
    board: &'a Switchboard,
    layer: &'a dyn Fn(&Tensor) -> Tensor,
}

impl Next<'_> {
    /// Runs the rest of the stack on `x`.
    ///
    /// # Errors
    /// Those of the plugins further in.
    pub fn run(self, x: &Tensor) -> Result<Branch, BoxError> {
        match self.stack.split_first() {
            Some((outermost, stack)) => outermost.layer(self.call, x, Next { stack, ..self }),
            None => {
                self.board.run.fetch_add(1, Relaxed);
                Ok(Branch::Ran { output: (self.layer)(x), scale: 1.0 })
            }
        }
    }
}

pub(crate) type Stack = Arc<[Arc<dyn LayerWrap>]>;

/// What all handles of one model share.
#[derive(Default)]
struct Switchboard {
    blocks: Mutex<Vec<BlockInfo>>,
    stack: RwLock<Option<Stack>>,
    offered: AtomicU64,
    run: AtomicU64,
    settling: Mutex<Vec<Settling>>,
}

/// What a model does once a backward pass is over.
type Settling = Box<dyn Fn() -> Result<(), Error> + Send + Sync>;

impl Switchboard {
    // A lock is poisoned only if a thread panicked between two plain assignments; the data is whole.
    fn stack(&self) -> Option<Stack> {
        self.stack.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None`: no engine, call the layer as if there were no handle.
    fn call(
        &self,
        call: &LayerCall<'_>,
        x: &Tensor,
        layer: &dyn Fn(&Tensor) -> Tensor,
    ) -> Option<Branch> {
        let stack = self.stack()?;
        self.offered.fetch_add(1, Relaxed);
        let next = Next { call, stack: &stack, board: self, layer };
        Some(next.run(x).unwrap_or_else(|error| fail(call, error)))
    }
}

/// Hands out handles while a model is built. Clones share one list of blocks.
#[derive(Clone, Default)]
pub struct Layers(Arc<Switchboard>);

impl std::fmt::Debug for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Layers").field(&self.blocks()).finish()
    }
}

impl Layers {
    /// No blocks yet.
    pub fn new() -> Self {
        Layers::default()
    }

    /// The handle of the next block, in the order of the forward; `path` is where the block's
    /// parameters live and gives the block its name.
    pub fn block<'a>(&self, path: impl Borrow<nn::Path<'a>>) -> Block {
        self.named(path.borrow().components().collect::<Vec<_>>().join("."))
    }

    /// Wraps whole blocks, whose inside stays unseen, and gives back the same thing gated. They are
    /// named by their index.
    pub fn wrap<B: ModuleT>(&self, blocks: impl IntoIterator<Item = B>) -> Vec<Gated<B>> {
        let wrap = |inner| Gated { block: self.named(self.count().to_string()), inner };
        blocks.into_iter().map(wrap).collect()
    }

    /// Wraps the next block whole, as [`wrap`](Layers::wrap) does, and names it by the path that its
    /// parameters are under.
    pub fn gated<'a, B: ModuleT>(&self, path: impl Borrow<nn::Path<'a>>, block: B) -> Gated<B> {
        Gated { block: self.block(path), inner: block }
    }

    /// The blocks so far, in order.
    pub fn blocks(&self) -> Vec<BlockInfo> {
        self.list().clone()
    }

    pub(crate) fn named(&self, name: String) -> Block {
        let mut list = self.list();
        list.push(BlockInfo { name: name.clone(), sublayers: Vec::new() });
        Block { index: list.len() - 1, name: name.into(), board: self.0.clone() }
    }

    fn count(&self) -> usize {
        self.list().len()
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<BlockInfo>> {
        self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stack that layer calls go through from now on; `None` makes the handles inert.
    pub(crate) fn set_stack(&self, stack: Option<Stack>) -> Option<Stack> {
        let mut slot = self.0.stack.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, stack)
    }

    /// Has the model's variables hold what its last forward left, from when the engine asks for it on: a model may
    /// keep what it assigns to itself, until the backward pass that may need the earlier values is over.
    pub(crate) fn settle_with(
        &self,
        settling: impl Fn() -> Result<(), Error> + Send + Sync + 'static,
    ) {
        let mut list = self.0.settling.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Box::new(settling));
    }

    /// Not between a forward and its backward pass.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let list = self.0.settling.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().try_for_each(|settling| settling())
    }

    pub(crate) fn attached(&self) -> bool {
        self.0.stack().is_some()
    }

    /// Layer calls since the last [`take_calls`](Layers::take_calls).
    pub(crate) fn calls(&self) -> LayerCalls {
        LayerCalls { offered: self.0.offered.load(Relaxed), run: self.0.run.load(Relaxed) }
    }

    /// Layer calls since the last time, counted from 0 again.
    pub(crate) fn take_calls(&self) -> LayerCalls {
        LayerCalls { offered: self.0.offered.swap(0, Relaxed), run: self.0.run.swap(0, Relaxed) }
    }
}

/// The handle of one block.
#[derive(Clone)]
pub struct Block {
    index: usize,
    name: Arc<str>,
    board: Arc<Switchboard>,
}

impl Block {
    /// The handle of one residual branch of this block, in the order of the forward. A block is either
    /// called by its branches or [run](Block::run) whole; both would gate it twice.
    pub fn sublayer(&self, name: &str) -> SubLayer {
        let mut list = self.board.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let sublayers = &mut list[self.index].sublayers;
        sublayers.push(name.to_owned());
        SubLayer {
            block: self.index,
            index: sublayers.len() - 1,
            name: format!("{}.{name}", self.name).into(),
            board: self.board.clone(),
        }
    }

    /// The whole block as one layer call: `block(x)` under the engine's control.
    ///
    /// `block` maps `x` to a tensor of the same shape; further inputs (a mask) are captured. A block
    /// that ran with scale s gives `x + s (block(x) - x)`, one that was skipped gives `x`.
    pub fn run(&self, x: &Tensor, train: bool, block: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let call = LayerCall { block: self.index, sublayer: 0, name: &self.name, train };
        match self.board.call(&call, x, &block) {
            None => block(x),
            Some(Branch::Skipped) => x.shallow_clone(),
            Some(Branch::Ran { output, scale: 1.0 }) => output,
            Some(Branch::Ran { output, scale }) => {
                // Under autocast a block may return another kind than it got.
                let scaled = x.f_to_kind(output.kind()).and_then(|x| x.f_lerp(&output, scale));
                scaled.unwrap_or_else(|e| fail(&call, shapes(x, &output, e)))
            }
        }
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}: {})", self.index, self.name)
    }
}

/// The handle of one residual branch.
#[derive(Clone)]
pub struct SubLayer {
    block: usize,
    index: usize,
    name: Arc<str>,
    board: Arc<Switchboard>,
}

impl SubLayer {
    /// `x + branch(x)`, with `branch` under the engine's control.
    ///
    /// `branch` maps `x` to a tensor of the same shape; further inputs (a mask) are captured. A branch
    /// that ran with scale s gives `x + s branch(x)`, one that was skipped gives `x`.
    pub fn residual(&self, x: &Tensor, train: bool, branch: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let call = LayerCall { block: self.block, sublayer: self.index, name: &self.name, train };
        match self.board.call(&call, x, &branch) {
            None => x + branch(x),
            Some(Branch::Skipped) => x.shallow_clone(),
            Some(Branch::Ran { output, scale: 1.0 }) => x + output,
            Some(Branch::Ran { output, scale }) => trainyard_native::add_scaled(x, &output, scale)
                .unwrap_or_else(|e| {
                    fail(&call, shapes(x, &output, TchError::Torch(e.to_string())))
                }),
        }
    }
}

impl std::fmt::Debug for SubLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubLayer({}.{}: {})", self.block, self.index, self.name)
    }
}

/// A whole block under the engine's control: a drop-in [`ModuleT`].
#[derive(Debug)]
pub struct Gated<B> {
    block: Block,
    inner: B,
}

impl<B> Gated<B> {
    /// The block itself.
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

impl<B: ModuleT> ModuleT for Gated<B> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.block.run(x, train, |x| self.inner.forward_t(x, train))
    }
}

/// The payload that carries an error of a layer call out of a forward, which returns a tensor.
pub(crate) struct LayerFailure(pub(crate) BoxError);

/// A forward returns tensors, so an error leaves it by unwinding; the engine turns it back into an
/// error. Outside an engine's step nothing is attached that could fail.
fn fail(call: &LayerCall<'_>, error: BoxError) -> ! {
    tracing::error!(layer = call.name, %error, "a layer call failed");
    std::panic::resume_unwind(Box::new(LayerFailure(error)))
}

/// As [`fail`], for what a layer itself runs into: the error gets the layer's name.
pub(crate) fn fail_in(name: &str, error: BoxError) -> ! {
    std::panic::resume_unwind(Box::new(LayerFailure(format!("layer `{name}`: {error}").into())))
}

fn shapes(x: &Tensor, output: &Tensor, error: TchError) -> BoxError {
    format!("a layer with input {:?} returned {:?}: {error}", x.size(), output.size()).into()
}
