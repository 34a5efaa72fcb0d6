//! The path of a value inside a configuration: `optimizer.params.betas[1]`.

use std::fmt;

use serde_json::Value;

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A key of an object.
    Key(String),
    /// A place in a list, counted from 0.
    Index(usize),
}

/// Where a value stands in a configuration; the empty path is the whole of it.
///
/// Written with dots between keys and brackets around list places; a key with characters other
/// than letters, digits, `_`, `-` and `$` is written as a JSON string: `sizes."a.b"[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The segments from the outermost in.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is the path of the whole configuration.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path, one key deeper.
    pub fn key(&self, key: impl Into<String>) -> Path {
        self.with(Segment::Key(key.into()))
    }

    /// This path, one place of a list deeper.
    pub fn index(&self, index: usize) -> Path {
        self.with(Segment::Index(index))
    }

    /// The path of what holds this value; `None` for the whole configuration.
    pub fn parent(&self) -> Option<Path> {
        self.0.split_last().map(|(_, rest)| Path(rest.to_vec()))
    }

    /// Reads a path as [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Path, String> {
        let mut path = Path::default();
        let mut rest = text;
        loop {
            let (key, after) = take_key(rest).map_err(|why| format!("path {text:?} {why}"))?;
            path.0.push(Segment::Key(key));
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let place = inner.split_once(']').map(|(n, after)| (n.parse(), after));
                let Some((Ok(index), after)) = place else {
                    return Err(format!("path {text:?} has a [ without a list place and a ]"));
                };
                path.0.push(Segment::Index(index));
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return Ok(path),
                None => return Err(format!("path {text:?} has no dot before {rest:?}")),
            }
        }
    }

    /// The path that the JSON Pointer of a place inside `value` names. Only the value tells whether
    /// `0` in a pointer is the first place of a list or a key of digits.
    pub(crate) fn from_pointer(pointer: &str, value: &Value) -> Path {
        let mut inside = Some(value);
        let steps = pointer.split('/').skip(1).map(|step| {
            let key = step.replace("~1", "/").replace("~0", "~");
            let segment = match (inside, key.parse()) {
                (Some(Value::Array(_)), Ok(index)) => Segment::Index(index),
                _ => Segment::Key(key),
            };
            inside = inside.and_then(|value| find(value, std::slice::from_ref(&segment)));
            segment
        });
        steps.collect()
    }

    /// The value at this path inside `value`.
    /// What stands at this path inside `value`.
    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        find(value, &self.0)
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    fn with(&self, segment: Segment) -> Path {
        let mut segments = self.0.clone();
        segments.push(segment);
        Path(segments)
    }
}

/// The value at the path `segments` inside `value`.
pub(crate) fn find<'v>(value: &'v Value, segments: &[Segment]) -> Option<&'v Value> {
    segments.iter().try_fold(value, |value, segment| match segment {
        Segment::Key(key) => value.as_object()?.get(key),
        Segment::Index(index) => value.as_array()?.get(*index),
    })
}

/// The key that `text` starts with, bare or as a JSON string, and what follows it.
fn take_key(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
        return match stream.next() {
            Some(Ok(key)) => Ok((key, &text[stream.byte_offset()..])),
            _ => Err("has a quoted key that is not a JSON string".into()),
        };
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    match &text[..end] {
        "" => Err("has an empty key".into()),
        key => Ok((key.to_owned(), &text[end..])),
    }
}

impl FromIterator<Segment> for Path {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Path {
        Path(segments.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let dot = if place == 0 { "" } else { "." };
                    let bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
                    if !key.is_empty() && key.chars().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{}", crate::text::show::quoted(key))?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for text in ["a", "a.b_c.d-e", "a[0][12].b", r#""a.b".c"#, r#"x."".y"#, r#"x."[\"\n".y"#] {
            assert_eq!(Path::parse(text).map(|path| path.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_bad_path_says_what_is_wrong() {
        for (text, message) in [
            ("", r#"path "" has an empty key"#),
            ("a..b", r#"path "a..b" has an empty key"#),
            ("a.", r#"path "a." has an empty key"#),
            ("a[x]", r#"path "a[x]" has a [ without a list place and a ]"#),
            ("a[1", r#"path "a[1" has a [ without a list place and a ]"#),
            ("a[1]b", r#"path "a[1]b" has no dot before "b""#),
            ("\"a", r#"path "\"a" has a quoted key that is not a JSON string"#),
        ] {
            assert_eq!(Path::parse(text), Err(message.to_owned()));
        }
    }
}
