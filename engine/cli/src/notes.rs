//! Notes as lines: what matters most first, those that say the same in one.
use crate::validate::{Answer, Kind};
use trainyard::config::Weight;

/// Most paths that a line names.
const NAMED: usize = 4;

/// What is said of one value, or of several alike.
pub struct Line {
    pub weight: Weight,
    /// Line and column of the first of the values.
    pub place: Option<(usize, usize)>,
    /// How many notes it stands for.
    pub notes: usize,
    pub text: String,
}

impl Line {
    /// What it is called: `missing` or `note`.
    pub fn name(&self) -> &'static str {
        match self.weight {
            Weight::Missing => "missing",
            _ => "note",
        }
    }
}

/// The lines of all that is noted in `answers` and asks for something.
pub fn lines<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Vec<Line> {
    let noted = |answer: &&Answer| matches!(answer.kind, Kind::Noted) && !answer.idle;
    let mut groups: Vec<Vec<&Answer>> = Vec::new();
    for answer in answers.into_iter().filter(noted) {
        let alike = |group: &&mut Vec<&Answer>| {
            (group[0].weight, &group[0].says) == (answer.weight, &answer.says)
        };
        match groups.iter_mut().find(alike).filter(|_| !answer.path.is_empty()) {
            Some(group) => group.push(answer),
            None => groups.push(vec![answer]),
        }
    }
    // Stable: within a weight, the order of the file.
    groups.sort_by_key(|group| group[0].weight);
    groups.iter().map(|group| line(group)).collect()
}

fn line(group: &[&Answer]) -> Line {
    let first = group[0];
    let text = match group {
        [one] => one.message.clone(),
        several => format!("{}: {}", named(several), first.says),
    };
    Line { weight: first.weight, place: first.place(), notes: group.len(), text }
}

/// "zero_optimization: stage, overlap_comm and 3 more", or with whole paths where the sections differ.
fn named(several: &[&Answer]) -> String {
    let split = |path: &'_ str| match path.rsplit_once('.') {
        Some((section, key)) => (section.to_owned(), key.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let (section, _) = split(&several[0].path);
    let one = several.iter().all(|answer| split(&answer.path).0 == section);
    let name = |answer: &&&Answer| if one { split(&answer.path).1 } else { answer.path.clone() };
    let names: Vec<_> = several.iter().take(NAMED).map(|answer| name(&answer)).collect();
    let names = match (several.len() - names.len(), names.split_last()) {
        (0, Some((last, rest))) => format!("{} and {last}", rest.join(", ")),
        (more, _) => format!("{} and {more} more", names.join(", ")),
    };
    match one && !section.is_empty() {
        true => format!("{section}: {names}"),
        false => names,
    }
}
