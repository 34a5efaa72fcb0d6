//! Trains a small BERT twice, Progressive Layer Dropping off and on, and compares: `make demo`.
use clap::Parser;
use std::process::ExitCode;
use trainyard_examples::demo;
use trainyard_run::program;

fn main() -> ExitCode {
    let options = demo::Options::parse();
    program::run(|screen| {
        print!("{}", demo::run(&options, screen)?);
        Ok(())
    })
}
