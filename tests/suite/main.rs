//! Trainyard as a whole.
mod accumulation;
mod cuda;
mod existing;
mod faults;
mod idle;
mod launchers;
mod operations;
mod optimizers;
mod outside;
mod parity;
mod plugins;
mod precision;
mod processes;
mod rank_faults;
mod ranks;
mod readme;
mod wrapping;
