//! What the tests share: a small model, engines from a line of JSON, what is logged, PyTorch's Python.
pub mod archives;
mod logged;
mod python;
pub mod runs;
mod scripts;
mod small;
pub mod table;
pub mod unusual;

pub use logged::logged;
pub use python::{python, run as run_python};
pub use scripts::Made;
pub use small::{Inputs, Small, engine, plan, registry, same_bits, train};
