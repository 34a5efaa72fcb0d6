//! What a training step takes on many ranks, from what it takes on one: figures of one rank
//! ([`Figures`], which [`Profiler`] and [`Exchanger`] measure) and a simulation of the exchange of
//! gradients ([`predict`]).
mod exchanger;
mod figures;
mod layout;
mod profiler;
mod simulation;

pub use exchanger::{Exchanged, Exchanger};
pub use figures::{Figures, Link, Pass, Unit};
pub use layout::layout;
pub use profiler::{Profiler, SkipEverySecond};
pub use simulation::{Dropping, Prediction, Scenario, predict};
