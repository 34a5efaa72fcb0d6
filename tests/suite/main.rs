//! Trainyard as a whole.
mod accumulation;
mod faults;
mod idle;
mod parity;
mod plugins;
mod readme;
mod wrapping;
