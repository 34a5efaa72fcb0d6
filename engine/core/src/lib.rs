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

mod auto;
mod averaging;
mod clash;
mod communicator;
pub mod config;
mod convert;
pub mod draw;
mod engine;
mod error;
mod gradients;
mod known;
mod layers;
mod loss;
mod moment;
mod optimizer;
mod parts;
mod pattern;
mod plan;
mod plugin;
mod precision;
mod registry;
mod remark;
mod report;
mod schedule;
pub mod script;
mod settings;
mod world;

pub use auto::{Auto, Otherwise};
pub use averaging::Averaging;
pub use clash::Clash;
pub use communicator::{Communicator, Introduction, Pending, Solo};
pub use engine::{Engine, EngineState};
pub use error::{BoxError, Error, Invalid, Result, panic_message};
pub use gradients::Gradients;
pub use known::{Answer, Holds, Known, truth};
pub use layers::{Block, BlockInfo, Branch, Gated, LayerCall, LayerWrap, Layers, Next, SubLayer};
pub use loss::{IntoLoss, Loss};
pub use moment::Moment;
pub use optimizer::{Group, GroupOptions, Optimizer, Update};
pub use parts::{BuildContext, Curve, Parts};
pub use pattern::Pattern;
pub use plan::{Explanation, Plan};
pub use plugin::{Plugin, PluginSpec};
pub use precision::{Float32, Precision};
pub use registry::Registry;
pub use remark::{Absent, Remark};
pub use report::{Evaluation, LayerCalls, Report};
pub use schedule::{Constant, LearningRate, Rates, Schedule};
pub use settings::{Attention, BatchSizes, Settings, Training};
pub use trainyard_native::load_cuda;
pub use world::World;
