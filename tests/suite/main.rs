//! Trainyard as a whole.
mod accumulation;
mod cuda;
mod faults;
mod idle;
mod operations;
mod optimizers;
mod outside;
mod parity;
mod plugins;
mod precision;
mod ranks;
mod readme;
mod wrapping;
