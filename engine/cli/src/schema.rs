//! `trainyard schema`.
use crate::output::print;
use std::process::ExitCode;
use trainyard::BoxError;

/// Print the JSON Schema of a configuration file
#[derive(clap::Args)]
#[command(after_help = "Example:\n  trainyard schema > trainyard.schema.json\n\n\
    Then let a configuration begin with \"$schema\": \"trainyard.schema.json\", and an editor such as \
    VS Code completes and checks it.")]
pub struct Args {}

pub fn run(Args {}: Args) -> Result<ExitCode, BoxError> {
    // Keys are sorted, so that the text is the same whenever the configuration is.
    let schema = serde_json::to_string_pretty(&crate::outline::registry().schema())?;
    print(&(schema + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
