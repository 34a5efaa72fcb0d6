//! What Progressive Layer Dropping saves, shown on a small BERT: the same training twice, with it and
//! without.
//!
//! ```text
//! options                              flags -> three configurations that differ in one section
//! arms     for each step:
//!            one batch -> off, on       the other way round in every other step
//!            now and then -> probe      one step with all gates open, one with all closed
//!            when due: both evaluated at full depth
//! completion                           both complete sentences, after the last step
//! figures  times and depths -> saving, and what was promised; losses at equal time
//! output   table, summary.json, curves.svg
//! ```
mod arms;
mod completion;
mod figures;
mod options;
mod output;
mod probe;
mod unigram;

#[cfg(test)]
mod tests;

pub use arms::{Record, Step, Validation, train};
pub use completion::{Completion, SENTENCES, Word};
pub use figures::{EqualTime, Figures};
pub use options::{Options, Plans};
pub use output::{Summary, chart, table};
pub use probe::{OpenAndClosed, Pair};

use trainyard_run::progress::Screen;
use trainyard_run::{Existing, Files, Folder, RunError};

/// What the demo leaves.
const SUMMARY: &str = "summary.json";
const CURVES: &str = "curves.svg";

/// The whole demo; what it prints at its end.
///
/// # Errors
/// The first of the configuration, the data, the training or the files.
pub fn run(options: &Options, screen: &Screen) -> Result<String, RunError> {
    let plans = options.plans()?;
    let config = plans.on.config().value().clone();
    // Found out before the training, not after it. Whoever runs a demo again wants what it shows now.
    let mut folder = Folder::claim(&options.output, &[SUMMARY, CURVES], Existing::Overwrite)?;
    let record = train(plans, &options.sentences(), screen)?;
    let summary = Summary::new(&record, config);
    folder.clear(None)?;
    let (json, svg) = (summary.json(), chart(&record, &summary).svg());
    folder.file(CURVES, &mut |to| Ok(to.write_all(svg.as_bytes())?))?;
    folder.file(SUMMARY, &mut |to| Ok(to.write_all(json.as_bytes())?))?;
    let [summary_file, curves_file] = [SUMMARY, CURVES].map(|name| options.output.join(name));
    Ok(format!("{}\n{}\n{}\n", table(&summary), summary_file.display(), curves_file.display()))
}
