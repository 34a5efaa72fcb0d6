//! Trainyard as a whole.
mod accumulation;
mod faults;
mod idle;
mod outside;
mod parity;
mod plugins;
mod readme;
mod wrapping;
