//! What Progressive Layer Dropping saves, shown on a small BERT: the same training twice, with it and
//! without.
//!
//! ```text
//! options                              flags -> three configurations that differ in one section
//! arms     for each step:
//!            one batch -> off, on       the other way round in every other step
//!            now and then -> probe      one step with all gates open, one with all closed
//!            when due: both evaluated at full depth
//! figures  times and depths -> saving, and what was promised
//! output   table, summary.json, curves.svg
//! ```
mod arms;
mod figures;
mod options;
mod output;
mod probe;
mod unigram;

#[cfg(test)]
mod tests;

pub use arms::{Record, Step, Validation, train};
pub use figures::Figures;
pub use options::{Options, Plans};
pub use output::{Summary, chart, table, write};
pub use probe::{OpenAndClosed, Pair};

use std::fs;
use trainyard_run::RunError;
use trainyard_run::progress::Screen;

/// The whole demo; what it prints at its end.
///
/// # Errors
/// The first of the configuration, the data, the training or the files.
pub fn run(options: &Options, screen: &Screen) -> Result<String, RunError> {
    let plans = options.plans()?;
    let config = plans.on.config().value().clone();
    // Found out before the training, not after it.
    fs::create_dir_all(&options.output).map_err(|e| output::cannot_write(&options.output, &e))?;
    let record = train(plans, screen)?;
    let summary = Summary::new(&record, config);
    let summary_file = options.output.join("summary.json");
    let curves_file = options.output.join("curves.svg");
    write(&summary_file, &summary.json())?;
    write(&curves_file, &chart(&record, &summary).svg())?;
    Ok(format!("{}\n{}\n{}\n", table(&summary), summary_file.display(), curves_file.display()))
}
