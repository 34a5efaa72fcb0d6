//! A configuration written anew as JSON, with changes: what is not changed stays where it stands, comments
//! included.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use crate::text::document::{Children, Document, Node};
use crate::text::hjson::comments;
use crate::text::path::{Path, Segment};

/// Changes to be made to a text. Paths are those before any change.
pub struct Rewrite<'d> {
    document: &'d Document,
    names: BTreeMap<Path, String>,
    values: BTreeMap<Path, Value>,
    removed: BTreeSet<Path>,
    comments: bool,
}

/// A text written anew.
pub struct Rewritten {
    /// JSON; with comments where the text had some and they were to be kept.
    pub text: String,
    /// What was changed beside what was asked for, to make it JSON; a clause each.
    pub tidied: Vec<&'static str>,
}

/// Text to be put in the place of some bytes of the original.
struct Edit {
    at: Range<usize>,
    text: String,
}

impl<'d> Rewrite<'d> {
    /// No changes yet. `document` is free of [problems](Document::problems).
    pub fn new(document: &'d Document) -> Self {
        Rewrite {
            document,
            names: BTreeMap::new(),
            values: BTreeMap::new(),
            removed: BTreeSet::new(),
            comments: true,
        }
    }

    /// Gives the key at the end of `path` another name.
    pub fn rename(&mut self, path: Path, key: impl Into<String>) {
        self.names.insert(path, key.into());
    }

    /// Puts a value in the place of that at `path`.
    pub fn set(&mut self, path: Path, value: Value) {
        self.values.insert(path, value);
    }

    /// Takes out the key at the end of `path`, with its value.
    pub fn remove(&mut self, path: Path) {
        self.removed.insert(path);
    }

    /// Leaves out the comments.
    pub fn without_comments(&mut self) {
        self.comments = false;
    }

    /// The text with all changes.
    pub fn finish(&self) -> Rewritten {
        let text = self.document.source().as_str();
        let (comments, lines) = (comments(text).collect(), lines(text));
        let mut out = Writer { text, comments, lines, ..Writer::default() };
        // In HJSON, the brackets around the whole may be left out.
        let bare = !text[self.document.root().value.clone()].starts_with('{');
        if bare {
            out.tidied.insert("brackets around the whole");
            out.edits.push(Edit { at: 0..0, text: "{\n".to_owned() });
        }
        self.inside(&Path::default(), self.document.root(), &mut out);
        for comment in out.comments.clone() {
            let hash = text[comment.clone()].starts_with('#');
            match (self.comments, hash) {
                (false, _) => out.take_out(comment),
                (true, true) => {
                    out.tidied.insert("comments with // for those with #");
                    out.replace(comment.start..comment.start + 1, "//".to_owned());
                }
                (true, false) => {}
            }
        }
        out.edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
        let (mut written, mut at) = (String::with_capacity(text.len()), 0);
        for Edit { at: place, text: new } in out.edits {
            // Within what was taken out there is nothing to change.
            if place.start >= at {
                written.push_str(&text[at..place.start]);
                written.push_str(&new);
            }
            at = at.max(place.end);
        }
        written.push_str(&text[at..]);
        written.truncate(written.trim_end().len());
        written.push_str(if bare { "\n}\n" } else { "\n" });
        Rewritten { text: written, tidied: out.tidied.into_iter().collect() }
    }

    /// Recursion is as deep as the text is nested, which is bounded.
    fn inside(&self, path: &Path, node: &Node, out: &mut Writer<'_>) {
        let mut children: Vec<(Path, &Node)> = match &node.children {
            Children::None => return,
            Children::Keys(nodes) => {
                nodes.iter().map(|(key, node)| (path.key(key), node)).collect()
            }
            Children::Items(nodes) => {
                nodes.iter().enumerate().map(|(index, node)| (path.index(index), node)).collect()
            }
        };
        children.sort_by_key(|(_, node)| node.value.start);
        let last = children.iter().rposition(|(path, _)| !self.removed.contains(path));
        let end = node.value.end;
        for (index, (path, child)) in children.iter().enumerate() {
            let next = children.get(index + 1).map_or(end, |(_, next)| start(next));
            let comma = out.comma(child.value.end..next);
            if self.removed.contains(path) {
                let end = comma.filter(|comma| blank(&out.text[child.value.end..*comma]));
                out.take_out(start(child)..end.map_or(child.value.end, |comma| comma + 1));
                if let (None, Some(comma)) = (end, comma) {
                    out.replace(comma..comma + 1, String::new());
                }
                continue;
            }
            self.one(path, child, out);
            match (comma, last == Some(index)) {
                (Some(comma), true) => {
                    if index + 1 == children.len() {
                        out.tidied.insert("no comma behind the last value");
                    }
                    out.replace(comma..comma + 1, String::new());
                }
                (None, false) => {
                    out.tidied.insert("commas at the ends of lines");
                    out.replace(child.value.end..child.value.end, ",".to_owned());
                }
                _ => {}
            }
        }
    }

    fn one(&self, path: &Path, node: &Node, out: &mut Writer<'_>) {
        if let (Some(place), Some(Segment::Key(key))) = (&node.key, path.segments().last()) {
            let written = &out.text[place.clone()];
            let name = self.names.get(path);
            if name.is_some() || !written.starts_with('"') {
                if name.is_none() {
                    out.tidied.insert("double quotes");
                }
                out.replace(place.clone(), Value::from(name.unwrap_or(key).as_str()).to_string());
            }
        }
        if let Some(value) = self.values.get(path) {
            return out.replace(node.value.clone(), inline(value));
        }
        if out.text[node.value.clone()].starts_with('\'') {
            out.tidied.insert("double quotes");
            let value = path.find(self.document.value()).unwrap_or(&Value::Null);
            out.replace(node.value.clone(), value.to_string());
        }
        self.inside(path, node, out);
    }
}

#[derive(Default)]
struct Writer<'t> {
    text: &'t str,
    /// In the order of the text.
    comments: Vec<Range<usize>>,
    lines: Vec<Line>,
    edits: Vec<Edit>,
    tidied: BTreeSet<&'static str>,
}

impl Writer<'_> {
    fn replace(&mut self, at: Range<usize>, text: String) {
        self.edits.push(Edit { at, text });
    }

    /// Takes out some bytes, and their line if nothing else stands there.
    fn take_out(&mut self, at: Range<usize>) {
        let (first, last) = (self.line(at.start), self.line(at.end));
        let blank_before = first.printed.start >= at.start;
        let blank_behind = last.printed.end <= at.end;
        let at = match last.end < self.text.len() {
            true if blank_before && blank_behind => first.start..last.end + 1,
            // Nor the blanks between what stays and what went.
            _ if !blank_before => self.text[..at.start].trim_end().len()..at.end,
            _ => at,
        };
        self.replace(at, String::new());
    }

    /// The line that the byte at `at` is in, or ends.
    fn line(&self, at: usize) -> &Line {
        &self.lines[self.lines.partition_point(|line| line.end < at).min(self.lines.len() - 1)]
    }

    /// The comma in a part of the text that has nothing but commas, comments and blanks.
    fn comma(&self, part: Range<usize>) -> Option<usize> {
        let commas = self.text[part.clone()].match_indices(',');
        commas.map(|(at, _)| part.start + at).find(|at| !self.in_comment(*at))
    }

    fn in_comment(&self, at: usize) -> bool {
        let next = self.comments.partition_point(|comment| comment.end <= at);
        self.comments.get(next).is_some_and(|comment| comment.contains(&at))
    }
}

/// One line of the text.
struct Line {
    start: usize,
    /// Without the line end.
    end: usize,
    /// From the first character that is no blank to behind the last one.
    printed: Range<usize>,
}

/// The lines of a text, found once: a hostile file has a hundred thousand comments on one.
fn lines(text: &str) -> Vec<Line> {
    let mut start = 0;
    let lines = text.split('\n').map(|line| {
        let end = start + line.len();
        let first = end - line.trim_start().len();
        let printed = first..(start + line.trim_end().len()).max(first);
        let line = Line { start, end, printed };
        start = end + 1;
        line
    });
    lines.collect()
}

/// Where a value begins, its key included.
fn start(node: &Node) -> usize {
    node.key.as_ref().map_or(node.value.start, |key| key.start)
}

fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// `value` on one line, with blanks inside of the brackets of objects.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(keys) if !keys.is_empty() => {
            let inside =
                keys.iter().map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), inline(v)));
            format!("{{ {} }}", inside.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::source::Source;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn what_is_not_changed_stays() {
        let text = "{\n  // about a\n  \"a\": 1,  // one\n  \"b\": { \"c\": [1, 2], \"d\": \"x,y\" },\n  \"e\": 5\n}\n";
        let document = Document::parse(Source::text("t", text)).unwrap();
        let mut rewrite = Rewrite::new(&document);
        assert_eq!(rewrite.finish().text, text);
        assert!(rewrite.finish().tidied.is_empty());
        rewrite.rename(path("b"), "bee");
        rewrite.rename(path("b.d"), "dee");
        rewrite.set(path("b.c"), json!({ "z": true, "y": [] }));
        rewrite.remove(path("e"));
        let changed = rewrite.finish();
        assert_eq!(
            changed.text,
            "{\n  // about a\n  \"a\": 1,  // one\n  \"bee\": { \"c\": { \"y\": [], \"z\": true }, \"dee\": \"x,y\" }\n}\n"
        );
        assert!(changed.tidied.is_empty(), "{:?}", changed.tidied);
        rewrite.without_comments();
        assert!(rewrite.finish().text.starts_with("{\n  \"a\": 1,\n  \"bee\""));
        let mut rewrite = Rewrite::new(&document);
        for key in ["a", "b", "e"] {
            rewrite.remove(path(key));
        }
        assert_eq!(
            Document::parse(Source::text("t", rewrite.finish().text)).unwrap().value(),
            &json!({})
        );
    }

    /// Each comma and each comment costs the same, however many there are: all on one line would take
    /// hours otherwise.
    #[test]
    fn many_comments_and_commas_on_one_line() {
        const MANY: usize = 90_000;
        let item = "/*,*/ 1, ";
        let text = format!("{{ \"a\": [{}2 ] }}", item.repeat(MANY));
        let document = Document::parse(Source::text("t", &text)).unwrap();
        let mut rewrite = Rewrite::new(&document);
        assert_eq!(rewrite.finish().text.trim_end(), text);
        rewrite.without_comments();
        let written = rewrite.finish().text;
        assert_eq!(written.len(), text.len() + 1 - MANY * "/*,*/ ".len() + 1, "{}", &written[..60]);
        serde_json::from_str::<Value>(&written).expect("plain JSON");
    }

    /// A comment within what goes away goes with it, and takes nothing along.
    #[test]
    fn comments_in_what_is_taken_out() {
        let text = "\"old\": { # one\n  # two\n  \"c\": 1 // three\n}\n\"b\": # four\n 2, \"d\": 3";
        let document = Document::parse(Source::text("t", text)).unwrap();
        for (removed, left) in
            [("old", json!({ "b": 2, "d": 3 })), ("b", json!({ "old": { "c": 1 }, "d": 3 }))]
        {
            let mut rewrite = Rewrite::new(&document);
            rewrite.remove(path(removed));
            let written = rewrite.finish().text;
            let again = Document::parse(Source::text("t", &written)).unwrap();
            assert_eq!((again.value(), again.not_json()), (&left, None), "{written}");
        }
    }

    #[test]
    fn hjson_becomes_json() {
        let text = "# all\na: 1 # one\n'b': 'it''s', /* , */\nlist: [\n  1\n  2,\n]";
        let text = text.replace("it''s", "its");
        let document = Document::parse(Source::text("t", text)).unwrap();
        let written = Rewrite::new(&document).finish();
        assert_eq!(
            written.text,
            "{\n// all\n\"a\": 1, // one\n\"b\": \"its\", /* , */\n\"list\": [\n  1,\n  2\n]\n}\n"
        );
        assert_eq!(
            written.tidied,
            [
                "brackets around the whole",
                "commas at the ends of lines",
                "comments with // for those with #",
                "double quotes",
                "no comma behind the last value",
            ]
        );
        let again = Document::parse(Source::text("t", &written.text)).unwrap();
        assert_eq!(again.value(), document.value());
        let mut bare = Rewrite::new(&document);
        bare.without_comments();
        serde_json::from_str::<Value>(&bare.finish().text).expect("plain JSON");
    }
}
