//! What a training run is: the loop, its observers, the folder that it writes, progress, stopping, and how a
//! program begins and ends.
//!
//! A loop of one's own is [`Engine::step`](trainyard::Engine::step). Who wants everything around it:
//!
//! ```text
//! let plan = with_data(registry.read("run.json")?, &data)?;
//! let engine = plan.engine(model, &variables, &layers)?;
//! let weights = Weights::of(&variables);
//! Run::new(plan, engine, data)?
//!     .observed(screen.progress("train"))
//!     .saved(move |_, files| weights.save(files))
//!     .written_to(Folder::claim("runs/one".as_ref(), OUTPUTS, Existing::Refuse)?)
//!     .until(Stop::on_signals()?)
//!     .train(|model, batch, train| model.loss(batch, train))?;
//! ```
//!
//! Where things are: [`Run`] has the loop as pseudo-code, [`Event`] what observers are told, [`Data`] where batches
//! come from, [`Origin`] where a run begins, [`Folder`] and [`replace`] how files are written, [`Stop`] how signals end a run.
mod cadence;
mod data;
mod error;
pub mod failure;
mod files;
mod folder;
mod keeping;
mod log;
mod machine;
mod memory;
mod needs;
mod origin;
pub mod program;
pub mod progress;
mod record;
mod run;
mod stop;
mod weights;

pub use cadence::Cadence;
pub use data::{Batches, Data};
pub use error::RunError;
pub use files::{Content, Files, Trial, Written, replace};
pub use folder::{Existing, Folder};
pub use memory::{check_fits, check_state};
pub use needs::{batch_shape, missing};
pub use origin::{Begin, Origin};
pub use record::{OUTPUTS, Record};
pub use run::{Run, next, with_data};
pub use stop::{Stop, ignored_signals};
pub use trainyard::{Ending, Event, Observer};
pub use weights::{Weights, write as write_safetensors};
