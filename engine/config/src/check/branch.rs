//! Which of several schemas an object or a list was meant to fit when it fits none.

use std::collections::BTreeSet;

use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde_json::Value;

use crate::check::expectation::Choice;

/// The errors of one alternative of an `anyOf` or `oneOf`.
type Branch = Vec<ValidationError<'static>>;

/// What the errors of all alternatives come down to.
pub(crate) enum Meant<'e> {
    /// These errors: of the alternative that was meant, or common to all.
    Errors(Vec<&'e ValidationError<'static>>),
    /// The key that tells the alternatives apart has none of their values.
    Tag(&'e ValidationError<'static>, Vec<Choice>),
}

/// What `error` comes down to, if `branches`, the errors of its alternatives, tell: an alternative
/// is out if it wants another type of value, or another value for a key that tells alternatives
/// apart, such as `"type": "Adam"`.
pub(crate) fn meant<'e>(
    error: &'e ValidationError<'_>,
    branches: &'e [Branch],
) -> Option<Meant<'e>> {
    if !error.instance().is_object() && !error.instance().is_array() {
        return None;
    }
    let at = error.instance_path().as_str();
    let possible: Vec<_> = branches.iter().filter(|branch| of_the_type(branch, at)).collect();
    let untagged: Vec<_> =
        possible.iter().filter(|branch| wrong_tag(branch, at).is_none()).collect();
    match (possible.as_slice(), untagged.as_slice()) {
        ([], _) => None,
        ([only], _) => Some(Meant::Errors(only.iter().collect())),
        (_, [only]) => Some(Meant::Errors(only.iter().collect())),
        (all, []) => {
            let tags: Vec<_> = all.iter().filter_map(|branch| wrong_tag(branch, at)).collect();
            let choices = tags.iter().flat_map(|tag| values(tag)).map(Choice::Literal).collect();
            Some(Meant::Tag(tags.first()?, choices))
        }
        (_, several) => {
            // Keys that every alternative misses; else the alternative that came nearest.
            let common =
                several.iter().map(|branch| required(branch).map(|(key, _)| key).collect());
            let common: BTreeSet<&str> = common.reduce(|a: BTreeSet<_>, b| &a & &b)?;
            let missing = required(several[0]).filter(|(key, _)| common.contains(key));
            let missing: Vec<_> = missing.map(|(_, error)| error).collect();
            if missing.is_empty() {
                let nearest = several.iter().min_by_key(|branch| branch.len())?;
                return Some(Meant::Errors(nearest.iter().collect()));
            }
            Some(Meant::Errors(missing))
        }
    }
}

/// Whether an alternative with these errors is at least of the value's type.
fn of_the_type(branch: &Branch, at: &str) -> bool {
    use ValidationErrorKind::*;
    let own = branch.iter().filter(|error| error.instance_path().as_str() == at);
    own.map(|error| error.kind()).all(|kind| match kind {
        Type { .. } | Enum { .. } | Constant { .. } | FalseSchema => false,
        AnyOf { context } | OneOfNotValid { context } => {
            context.iter().any(|branch| of_the_type(branch, at))
        }
        _ => true,
    })
}

/// The error of a key directly inside the value that should have had one of a few fixed values.
fn wrong_tag<'e>(branch: &'e Branch, at: &str) -> Option<&'e ValidationError<'static>> {
    branch.iter().find(|error| {
        let inside = error.instance_path().as_str().strip_prefix(at);
        let direct = inside.is_some_and(|key| key.matches('/').count() == 1);
        direct && !values(error).is_empty()
    })
}

/// The values that an error of `const` or `enum` would have accepted.
fn values(error: &ValidationError<'_>) -> Vec<Value> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => vec![(**expected_value).clone()],
        ValidationErrorKind::Enum { options } => options.as_array().cloned().unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The keys that are missing.
fn required(branch: &Branch) -> impl Iterator<Item = (&str, &ValidationError<'static>)> {
    branch.iter().filter_map(|error| match error.kind() {
        ValidationErrorKind::Required { property } => Some((property.as_str()?, error)),
        _ => None,
    })
}
