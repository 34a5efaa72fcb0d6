//! What of the offered tensors goes where.
use super::{InitOptions, Offer, Strictness, Wanted};
use std::collections::HashMap;
use tch::Kind;

/// Names and differences that are told at most; of the others, how many.
const TOLD: usize = 6;

/// What goes where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Places among what is offered and in the model.
    pub loaded: Vec<(usize, usize)>,
    /// Names of the model's.
    pub missing: Vec<String>,
    /// Names of what is offered.
    pub unexpected: Vec<String>,
}

/// Matches what is offered with what the model wants, by name.
///
/// # Errors
/// A sentence: what does not fit, and what to do.
pub fn fit(options: &InitOptions, offers: &[Offer], model: &[Wanted]) -> Result<Fit, String> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, wanted) in model.iter().enumerate() {
        places.extend(wanted.names.iter().map(|name| (name.as_str(), place)));
    }
    let mut fit = Fit::default();
    let mut found = vec![false; model.len()];
    let (mut shapes, mut types) = (Vec::new(), Vec::new());
    for (number, offer) in offers.iter().enumerate() {
        let Some(&place) = places.get(offer.name.as_str()) else {
            fit.unexpected.push(offer.name.clone());
            continue;
        };
        let (name, tensor) = (&offer.name, &model[place].tensor);
        if offer.size != tensor.size() {
            shapes.push(format!(
                "`{name}` is {:?} there and {:?} in the model",
                offer.size,
                tensor.size()
            ));
        } else if !converts(offer.kind, tensor.kind()) {
            let kind = offer.kind.map_or("another type".to_owned(), |kind| format!("{kind:?}"));
            types.push(format!("`{name}` is {kind} there and {:?} in the model", tensor.kind()));
        }
        // A tensor with several names may be offered by each of them.
        if !std::mem::replace(&mut found[place], true) {
            fit.loaded.push((number, place));
        }
    }
    let lacks = model.iter().zip(&found).filter(|(wanted, found)| wanted.required && !**found);
    fit.missing = lacks.map(|(wanted, _)| wanted.names[0].clone()).collect();
    fit.unexpected.sort();
    if fit.loaded.is_empty() {
        return Err(nothing_in_common(offers, model));
    }
    if !shapes.is_empty() {
        return Err(format!(
            "{}: give the model those sizes, or leave tensors out with null in init_from.names",
            listed(&shapes, "; ")
        ));
    }
    if !types.is_empty() {
        return Err(listed(&types, "; "));
    }
    if options.missing == Strictness::Error && !fit.missing.is_empty() {
        return Err(format!(
            "{}{}; init_from.names renames, and \"missing\": \"warn\" lets them begin as without init_from",
            told_missing(&fit.missing),
            others(&fit.unexpected)
        ));
    }
    if options.unexpected == Strictness::Error && !fit.unexpected.is_empty() {
        return Err(format!(
            "{}; init_from.names renames them, or leaves them out with null",
            told_unexpected(&fit.unexpected)
        ));
    }
    Ok(fit)
}

/// In a line.
pub fn told_missing(names: &[String]) -> String {
    let (tensors, are) = count(names);
    format!("{tensors} of the model {are} not there: {}", quoted(names))
}

/// In a line.
pub fn told_unexpected(names: &[String]) -> String {
    let (tensors, are) = count(names);
    format!("{tensors} there {are} not the model's: {}", quoted(names))
}

fn count(names: &[String]) -> (String, &'static str) {
    match names.len() {
        1 => ("1 tensor".to_owned(), "is"),
        count => (format!("{count} tensors"), "are"),
    }
}

fn others(unexpected: &[String]) -> String {
    match unexpected {
        [] => String::new(),
        some => format!("; what is there besides: {}", quoted(some)),
    }
}

fn nothing_in_common(offers: &[Offer], model: &[Wanted]) -> String {
    let theirs: Vec<_> = offers.iter().map(|offer| offer.name.clone()).collect();
    let ours: Vec<_> = model.iter().map(|wanted| wanted.names[0].clone()).collect();
    format!(
        "no name is in both: there are {}; the model has {}; init_from.names renames, as in \
         {{\"bert.*\": \"*\"}}",
        quoted(&theirs),
        quoted(&ours)
    )
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { listed(&quoted, ", ") }
}

/// Some of them, and how many others there are.
fn listed(all: &[String], between: &str) -> String {
    match all.len().saturating_sub(TOLD) {
        0 => all.join(between),
        more => format!("{}{between}and {more} more", all[..TOLD].join(between)),
    }
}

/// Whether values of the one type may become ones of the other.
fn converts(from: Option<Kind>, to: Kind) -> bool {
    let class = |kind: Kind| match kind {
        Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double => 0,
        Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64 => 1,
        Kind::Bool => 2,
        _ => 3,
    };
    from.is_some_and(|from| from == to || (class(from) == class(to) && class(to) < 3))
}
