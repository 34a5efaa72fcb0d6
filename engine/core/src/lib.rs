//! Trainyard: a declarative training engine over libtorch.
//!
//! A user keeps their [`tch`] model and writes one JSON file; every feature is a [`Plugin`], and the
//! engine knows none of them. One step, in one direction:
//!
//! ```text
//! batch
//!   for each micro-batch
//!     plugins.begin_forward(moment)      decide as data: gates are drawn here, before any tensor flows
//!     precision.forward                  -> the model's layer calls -> the plugins, outermost first -> the layer
//!     backward of loss x scale x weight  weight: this micro-batch's share of what the step counts
//!                                        in the last one, gradients that are complete leave for the ranks
//!   gradients by parameter name          a parameter that no layer call touched is idle, not zero
//!   communicator                         has summed them over the ranks
//!   precision.unscale; all finite?       no -> skip the update, say so
//!   plugins.gradients                    clipping, noise, what an idle parameter gets
//!   optimizer.update, group by group     at the learning rate of this step; idle parameters stay as they are
//!   plugins.end_step(report)             monitors, progress, checkpoints
//! report { step, loss, count, lr, grad_norm, skipped, idle_parameters, metrics, samples_per_second, ... }
//! ```
//!
//! Where things are: [`Layers`] and its handles wrap a model, [`script`] one from PyTorch; a [`Registry`] lists the plugins that a
//! program knows and reads the JSON into a [`Plan`]; the plan builds an [`Engine`], whose
//! [`step`](Engine::step) is the above. [`Optimizer`], [`LearningRate`], [`Precision`] and
//! [`Communicator`] are slots that one section each may fill. What can be computed from (configuration,
//! seed, step) is computed and never saved: see [`draw`].
//!
//! Shapes are written `[batch, time, width]`; times are in seconds; steps count from 0.

mod archive;
mod averaging;
mod communicator;
mod engine;
mod error;
mod event;
mod gradients;
mod kept;
mod layers;
mod loss;
mod optimizer;
mod parts;
mod plan;
mod plugin;
mod precision;
pub mod program;
mod registry;
mod report;
pub mod script;
mod strides;

pub use averaging::Averaging;
pub use communicator::{Communicator, Fingerprint, Introduction, Mismatch, Pending, Solo};
pub use engine::{Engine, EngineState};
pub use error::{Error, Result, panic_message};
pub use event::{Ending, Event, Observer};
pub use gradients::Gradients;
pub use layers::{Block, Branch, Gated, LayerCall, LayerWrap, Layers, Next, SubLayer};
pub use loss::{IntoLoss, Loss};
pub use optimizer::{Optimizer, Update};
pub use parts::{BuildContext, Parts};
pub use plan::Plan;
pub use plugin::{Plugin, PluginSpec};
pub use precision::{Float32, Precision};
pub use registry::Registry;
pub use report::{Evaluation, LayerCalls, Report, Skipped};
pub use trainyard_config as config;
pub use trainyard_config::draw;
pub use trainyard_config::{
    Absent, Answer, Attention, Auto, BatchSizes, BlockInfo, BoxError, Checkpointing, Clash,
    Constant, Context, Curve, Dialect, Explanation, Group, GroupOptions, Holds, Invalid, Known,
    LearningRate, Moment, Otherwise, Outline, Pattern, Rates, Remark, Resume, Says, Schedule,
    Section, Settings, Training, World, truth,
};
pub use trainyard_native::load_cuda;
