//! Build script of every crate here that has programs or tests: lets them find libtorch when they
//! run, and tells the crates that depend on this one where it is (`DEP_TRAINYARD_LIBTORCH_LIB`).
//!
//! The folder comes from torch-sys, by way of `engine/native` and `engine/core`: cargo hands such
//! facts on from one crate to the next only.
use std::env;

/// Crates from which the folder may have come, by their `links` key.
const SOURCES: [&str; 3] = ["TRAINYARD", "TRAINYARD_NATIVE", "TCH"];

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    let lib = SOURCES.iter().find_map(|name| env::var(format!("DEP_{name}_LIBTORCH_LIB")).ok());
    if let Some(lib) = lib {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::metadata=libtorch_lib={lib}");
    }
}
