//! Figures of trainings: what noisy timings allow to be said, charts, and what a step takes on many ranks.
pub mod chart;
pub mod scaling;
pub mod statistics;
