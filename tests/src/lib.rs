//! What the tests share: a small model, engines from a line of JSON, PyTorch's Python.
mod python;
mod small;

pub use python::python;
pub use small::{Inputs, Small, engine, plan, registry, same_bits, train};
