//! What the tests share: a small model, engines from a line of JSON, PyTorch's Python.
pub mod archives;
mod python;
mod scripts;
mod small;
pub mod unusual;

pub use python::python;
pub use scripts::Made;
pub use small::{Inputs, Small, engine, plan, registry, same_bits, train};
