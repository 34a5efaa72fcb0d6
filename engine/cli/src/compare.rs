//! `trainyard compare`.
use crate::input::{Overrides, Ranks};
use crate::outline::registry;
use crate::output::print;
use crate::validate::{Answer, Kind, Verdict};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::config::{Document, Layers, Source};
use trainyard::{BoxError, Registry};

/// Compare the answers to many configurations with DeepSpeed's own verdicts, as a page of Markdown
///
/// A table of verdicts is text with tabs and a header. Columns, in any order, others passed over:
/// `file` (a name in the folder) or `config` (the text itself, with \n for line ends); `world_size` or
/// `filled_ws` (ranks; - for none that fits); `verdict` (accept or reject; without it, what has an
/// error is rejected); `error`, `message_or_warnings` or `init_problems` (why).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  trainyard compare configs --verdicts verdicts.tsv > report.md")]
pub struct Args {
    /// Folder of the configuration files
    folder: PathBuf,
    /// Table of DeepSpeed's verdicts; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    verdicts: Vec<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let registry = registry().assume();
    let mut page =
        "# DeepSpeed's verdicts and ours\n\nWritten by `trainyard compare`; docs/deepspeed.md says \
                    what the answers mean. DeepSpeed's verdicts are those of its own code on each \
                    configuration, with `\"auto\"` filled in and a number of ranks that fits.\n"
            .to_owned();
    for table in &args.verdicts {
        let cases = read(table)?;
        let compared: Vec<_> =
            cases.iter().map(|case| Compared::new(case, &args.folder, &registry)).collect();
        let name = table.file_stem().unwrap_or_default().to_string_lossy();
        page += &section(&name, &compared);
    }
    page += WHY;
    print(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// Why the verdicts differ where they do.
const WHY: &str = r#"
## Why they differ

Turned away here, accepted by DeepSpeed:

- *Refused* keys ask for what is not here; docs/deepspeed.md lists them. Training without it would be another training.
- *Unknown* keys are read by nobody: DeepSpeed passes over them in silence at the top level and in `activation_checkpointing`, `flops_profiler`, `checkpoint`, `timers` and `optimizer`, and fails on a param that is unknown (`max_grad_norm`) when its engine is built.
- A scheduler's name is looked at by DeepSpeed only when its engine is built, and is an error then; the verdicts on the probes are from before that.
- `hysteresis` below 1 passes there: without ZeRO nobody looks at it, and with ZeRO the loss scale could never fall.
- A `warmup_type` that is neither `log` nor `linear` is `log` to DeepSpeed, with a warning; whoever writes `cosine` means something else.

Accepted here, rejected by DeepSpeed, each with a note:

- `null` for a section is read as if it were left out, and so is `"auto"`; or it is filled in, as a trainer does before DeepSpeed sees it.
- A section without `enabled` is off.
- No batch size at all: the program's micro-batches are what they are.
- A schedule without `total_num_steps` ends with the run.
"#;

/// A configuration and what DeepSpeed says of it.
struct Case {
    name: String,
    /// The text, where it is in the table.
    text: Option<String>,
    ranks: Option<u64>,
    /// Why DeepSpeed turns it away; none where it does not.
    rejected: Option<String>,
}

fn read(table: &Path) -> Result<Vec<Case>, BoxError> {
    let text = fs::read_to_string(table)
        .map_err(|error| format!("cannot read {}: {error}", table.display()))?;
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |names: &[&str]| header.iter().position(|cell| names.contains(cell));
    let Some(subject) = column(&["file", "config"]) else {
        let table = table.display();
        return Err(format!("{table}: there is no column `file` or `config` in the header").into());
    };
    let inside = header[subject] == "config";
    let (ranks, verdict) = (column(&["world_size", "filled_ws"]), column(&["verdict"]));
    let whys = ["error", "message_or_warnings", "init_problems"].map(|name| column(&[name]));
    let cases = lines.filter(|line| !line.is_empty()).map(|line| {
        let cells: Vec<_> = line.split('\t').collect();
        let cell = |at: Option<usize>| at.and_then(|at| cells.get(at)).copied().unwrap_or_default();
        let why = whys.iter().map(|at| cell(*at)).find(|why| !why.is_empty()).unwrap_or_default();
        let rejected = match (verdict, cell(verdict)) {
            (Some(_), verdict) => verdict == "reject",
            (None, _) => !why.is_empty() || cell(ranks) == "-",
        };
        let name = cell(Some(subject));
        Case {
            name: name.to_owned(),
            text: inside.then(|| name.replace("\\n", "\n")),
            ranks: cell(ranks).parse().ok(),
            rejected: rejected.then(|| why.to_owned()),
        }
    });
    Ok(cases.collect())
}

/// Both verdicts on a configuration.
struct Compared<'c> {
    case: &'c Case,
    ours: Verdict,
}

impl<'c> Compared<'c> {
    fn new(case: &'c Case, folder: &Path, registry: &Registry) -> Self {
        let layers = match &case.text {
            Some(text) => Document::parse(Source::text("text", text)).map(Layers::new),
            None => Overrides::default().read(&folder.join(&case.name)),
        };
        let ours = Verdict::of(case.name.clone(), layers, registry, &Ranks::of(case.ranks));
        Compared { case, ours }
    }

    fn rejected(&self) -> bool {
        self.case.rejected.is_some()
    }

    /// What is wrong here.
    fn complaints(&self) -> impl Iterator<Item = (Kind, String)> {
        let wrong = self.ours.answers.iter();
        let wrong = wrong.filter(|answer| !matches!(answer.kind, Kind::Used | Kind::Noted));
        wrong.map(|answer| {
            // Without the names that are known, which say nothing of the file.
            let message = answer.message.split("; known keys:").next().unwrap_or_default();
            let message = message.split("; the schema lists ").next().unwrap_or_default();
            (answer.kind, message.to_owned())
        })
    }

    /// Whether a note tells what is read here where DeepSpeed stops: it names that, or says what took the
    /// place of an `"auto"`.
    /// That it is about the very key which DeepSpeed stopped at is not checked.
    fn told(&self) -> bool {
        let mut notes = self.ours.answers.iter().filter(|answer| answer.kind == Kind::Noted);
        notes.any(|note| {
            note.message.contains("DeepSpeed stops") || note.message.contains("= \"auto\": ")
        })
    }

    /// Whether all that is wrong is refused or unknown.
    fn refused(&self) -> bool {
        !self.ours.ok && self.complaints().all(|(kind, _)| kind != Kind::Invalid)
    }
}

fn section(name: &str, all: &[Compared<'_>]) -> String {
    let count = |of: &dyn Fn(&Compared<'_>) -> bool| all.iter().filter(|one| of(one)).count();
    let mut page = format!(
        "\n## {name}: {} configurations\n\n| DeepSpeed | accepted here | turned away for refused or \
         unknown keys alone | turned away for something else |\n| --- | --- | --- | --- |\n",
        all.len()
    );
    for (word, rejected) in [("accepts", false), ("rejects", true)] {
        let of = |one: &Compared<'_>| one.rejected() == rejected;
        let _ = writeln!(
            page,
            "| {word} | {} | {} | {} |",
            count(&|one| of(one) && one.ours.ok),
            count(&|one| of(one) && one.refused()),
            count(&|one| of(one) && !one.ours.ok && !one.refused()),
        );
    }
    let share = |part: usize, whole: usize| match whole {
        0 => "-".to_owned(),
        whole => format!("{:.1} % ({part} of {whole})", 100.0 * part as f64 / whole as f64),
    };
    let accepted = count(&|one| !one.rejected());
    let good = count(&|one| !one.rejected() && (one.ours.ok || one.refused()));
    let rejected = count(&|one| one.rejected());
    let both = count(&|one| one.rejected() && !one.ours.ok);
    let told = count(&|one| one.rejected() && one.ours.ok && one.told());
    let _ = writeln!(
        page,
        "\nOf what DeepSpeed accepts, {} is accepted or turned away for refused or unknown keys alone \
         (target: 95 %). Of what it rejects, {} is rejected here. Others are accepted here with a note, which \
         says that DeepSpeed stops at a value, or what took the place of an `\"auto\"`; that the note is \
         about the value at which DeepSpeed stopped was not checked. Together these are {} (target: 95 %).",
        share(good, accepted),
        share(both, rejected),
        share(both + told, rejected),
    );
    // One row for each cause, however many files have it.
    let mut causes = BTreeMap::<(String, String), Vec<&str>>::new();
    for one in all.iter().filter(|one| !one.rejected() && !one.ours.ok) {
        for (kind, message) in one.complaints() {
            let kind = format!("{kind:?}").to_lowercase();
            causes.entry((kind, message)).or_default().push(&one.case.name);
        }
    }
    page += &table(
        "Turned away here, accepted by DeepSpeed",
        ["answer", "why", "configurations"],
        causes.into_iter().map(|((kind, why), names)| {
            let more = if names.len() > 1 {
                format!(" and {} more", names.len() - 1)
            } else {
                String::new()
            };
            [kind, why, format!("`{}`{more}", names[0])]
        }),
    );
    let notes = |one: &Compared<'_>| {
        let noted = |answer: &&Answer| answer.kind == Kind::Noted && !answer.idle;
        let notes = one.ours.answers.iter().filter(noted);
        notes.map(|answer| answer.message.as_str()).collect::<Vec<_>>().join("; ")
    };
    let theirs = |one: &Compared<'_>| one.case.rejected.clone().unwrap_or_default();
    page += &table(
        "Accepted here, rejected by DeepSpeed",
        ["configuration", "DeepSpeed", "notes here"],
        all.iter()
            .filter(|one| one.rejected() && one.ours.ok)
            .map(|one| [format!("`{}`", one.case.name), theirs(one), notes(one)]),
    );
    page += &table(
        "Rejected by both",
        ["configuration", "DeepSpeed", "here"],
        all.iter().filter(|one| one.rejected() && !one.ours.ok).map(|one| {
            let mut ours: Vec<_> = one.complaints().map(|(_, message)| message).collect();
            ours.truncate(3);
            [format!("`{}`", one.case.name), theirs(one), ours.join("; ")]
        }),
    );
    page
}

/// A table under a heading; nothing if it has no rows.
fn table(heading: &str, header: [&str; 3], rows: impl Iterator<Item = [String; 3]>) -> String {
    let cell = |text: &str| {
        let text = text.replace('|', "\\|").replace(['\n', '\r'], " ");
        match text.char_indices().nth(240) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    };
    let mut rows = rows.map(|cells| format!("| {} |\n", cells.map(|text| cell(&text)).join(" | ")));
    let Some(first) = rows.next() else { return String::new() };
    let rest: String = rows.collect();
    format!("\n### {heading}\n\n| {} |\n| --- | --- | --- |\n{first}{rest}", header.join(" | "))
}
