//! `trainyard migrate`.
use crate::outline::registry;
use crate::output::print;
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard::config::{Document, Layers, Path, Rewrite, Source};
use trainyard_plugins::deepspeed;
use trainyard_run::failure::tell;

/// Print a configuration as JSON with today's names in place of old ones, and what was changed
///
/// What is read as HJSON becomes JSON. Comments stay, as // or /* */. The text goes to standard output, a
/// line for each change to standard error; the file itself is left alone. Whether the values are right is not
/// looked at: that is `trainyard validate`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard migrate old.json > new.json\n  \
    trainyard migrate old.json --no-comments > plain.json")]
pub struct Args {
    /// Configuration file
    file: PathBuf,
    /// Leave out the comments, which not every reader of JSON takes
    #[arg(long)]
    no_comments: bool,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let document = Document::parse(Source::read(&args.file)?)?;
    let config = Layers::new(document.clone()).merge();
    config.require_none(config.problems().to_vec())?;
    let mut rewrite = Rewrite::new(&document);
    if args.no_comments {
        rewrite.without_comments();
    }
    let mut changes = Vec::new();
    for (path, value) in registry().catalog().coercions(&config) {
        let says = match path.find(document.value()) {
            Some(written) => format!("= {written} is written {value}"),
            None => continue,
        };
        rewrite.set(path.clone(), value);
        changes.push((path, says));
    }
    let renamed = deepspeed::migrate(document.value(), &mut rewrite);
    changes.extend(renamed.into_iter().map(|change| (change.path, change.says)));
    let place = |path: &Path| document.key_span(path).map_or(0, |span| span.start);
    changes.sort_by_key(|(path, _)| place(path));
    let written = rewrite.finish();
    let file = args.file.display();
    let mut told = String::new();
    for (path, says) in &changes {
        let (line, column) = document.source().line_column(place(path));
        told += &format!("{file}:{line}:{column}: {path} {says}\n");
    }
    for what in &written.tidied {
        told += &format!("{file}: as JSON: {what}\n");
    }
    if told.is_empty() {
        told = format!("{file}: nothing to change\n");
    }
    print(&written.text)?;
    tell(&told);
    Ok(ExitCode::SUCCESS)
}
