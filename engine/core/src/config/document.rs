//! Text to values, each with the place where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};

use super::hjson::{Relaxed, missing_comma};
use super::note::Note;
use super::path::{Path, Segment};
use super::problem::{ConfigError, Origin, Problem, ProblemKind};
use super::scan::{Fault, scan};
use super::show::{clipped, named};
use super::source::Source;
use super::syntax::explain;

/// A configuration text that has been parsed: JSON with comments and trailing commas, an object at
/// the top; or the HJSON that DeepSpeed reads, which is noted.
///
/// Values are exact: an integer is an `i64` or a `u64`, anything with a point or an exponent the
/// nearest `f64`, as is an integer beyond 64 bits. What is readable but wrong (a key given twice, a float
/// beyond 64 bits) is
/// kept in [`problems`](Document::problems), so that it can be told together with what a schema
/// finds.
#[derive(Clone, Debug)]
pub struct Document {
    source: Source,
    value: Value,
    root: Node,
    problems: Vec<Problem>,
    not_json: Option<Fault>,
}

/// Where a value stands, and its key if it has one; as a tree of the same shape as the value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub key: Option<Range<usize>>,
    pub value: Range<usize>,
    pub children: Children,
}

#[derive(Clone, Debug)]
pub(super) enum Children {
    None,
    Keys(BTreeMap<String, Node>),
    Items(Vec<Node>),
}

impl Document {
    /// Parses a text.
    ///
    /// # Errors
    /// The first syntax error, with its place: not JSON, no object at the top, nested deeper than
    /// 128 levels, more than 100,000 values.
    pub fn parse(source: Source) -> Result<Document, ConfigError> {
        let text = source.as_str();
        let mut reader = Reader::new(&source, 0);
        let fault = match parse(text, false).and_then(object) {
            Ok(value) => {
                let (value, root) = reader.value(value, None);
                let problems = reader.problems;
                return Ok(Document { source, value, root, problems, not_json: None });
            }
            Err(fault) => fault,
        };
        let relaxed = Relaxed::new(text);
        let read =
            parse(&relaxed.text, true).and_then(object).and_then(|value| {
                match missing_comma(&relaxed.text, &value) {
                    Some(fault) => Err(fault),
                    None => Ok(value),
                }
            });
        let later = match read {
            Ok(value) => {
                let mut reader = Reader::new(&source, relaxed.shift);
                let (value, root) = reader.value(value, None);
                let problems = reader.problems;
                return Ok(Document { source, value, root, problems, not_json: Some(fault) });
            }
            Err(later) => later,
        };
        // What only HJSON allows is not what is wrong where HJSON gets lines further, or as far as a word
        // without quotes.
        let (begin, end) = (later.span.start, later.span.end.min(text.len()));
        let begin = begin.saturating_sub(relaxed.shift).min(text.len());
        let end = end.saturating_sub(relaxed.shift).max(begin);
        let whole = text.is_char_boundary(begin) && text.is_char_boundary(end);
        let word = whole && text[begin..].starts_with(char::is_alphabetic);
        let between = text.get(fault.span.start..begin).filter(|_| whole).unwrap_or_default();
        let further = between.contains('\n') || word && !between.is_empty();
        let fault = match further {
            true => Fault::new(begin..end, later.message),
            false => fault,
        };
        reader.fault(ProblemKind::Syntax, "", fault);
        let problems = reader.problems;
        Err(ConfigError::new(&source, problems).expect("there is a fault"))
    }

    /// What is in the text that JSON does not have, if it was read as HJSON.
    pub(super) fn not_json(&self) -> Option<Note> {
        let fault = self.not_json.as_ref()?;
        Some(Note {
            path: String::new(),
            message: format!(
                "this is not JSON: {}; it is read as HJSON, as DeepSpeed does",
                fault.message
            ),
            origin: Some(Origin::file(&self.source, fault.span.clone())),
        })
    }

    /// The text.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The values, as the text has them.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What is wrong with the text although it could be parsed.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Forgets the keys of the top level that are in `keys`, and what is wrong with them.
    pub(super) fn remove(&mut self, keys: &BTreeSet<String>) {
        let first = |path: &str| match Path::parse(path).ok()?.segments().first() {
            Some(Segment::Key(key)) => Some(key.clone()),
            _ => None,
        };
        let removed = |path: &str| first(path).is_some_and(|key| keys.contains(&key));
        self.problems.retain(|problem| !removed(&problem.path));
        if let (Value::Object(values), Children::Keys(nodes)) =
            (&mut self.value, &mut self.root.children)
        {
            values.retain(|key, _| !keys.contains(key));
            nodes.retain(|key, _| !keys.contains(key));
        }
    }

    /// Bytes of the text that the value at `path` takes; `None` if the text has no such value.
    pub fn value_span(&self, path: &Path) -> Option<Range<usize>> {
        self.node(path).map(|node| node.value.clone())
    }

    /// Bytes of the text that the key at the end of `path` takes, quotes included.
    pub fn key_span(&self, path: &Path) -> Option<Range<usize>> {
        self.node(path).and_then(|node| node.key.clone())
    }

    /// The tree of places.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        path.segments().iter().try_fold(&self.root, |node, segment| {
            match (segment, &node.children) {
                (Segment::Key(key), Children::Keys(nodes)) => nodes.get(key),
                (Segment::Index(index), Children::Items(nodes)) => nodes.get(*index),
                _ => None,
            }
        })
    }
}

/// A value written on a command line or in the environment: JSON where it is JSON, else a string.
///
/// # Errors
/// The text begins like a list, an object or a string of JSON and is none, or has a number that
/// does not fit, or a key twice.
pub(super) fn value_or_text(text: &str) -> Result<Value, String> {
    let parsed = match parse(text, false) {
        Ok(Some(parsed)) => parsed,
        Err(fault) if text.trim_start().starts_with(['{', '[', '"']) => return Err(fault.message),
        _ => return Ok(text.into()),
    };
    let source = Source::text("", text);
    let mut reader = Reader::new(&source, 0);
    let (value, _) = reader.value(parsed, None);
    match reader.problems.into_iter().next() {
        Some(problem) => Err(problem.message),
        None => Ok(value),
    }
}

/// The object that the top level has to be.
fn object(value: Option<ast::Value<'_>>) -> Result<ast::Value<'_>, Fault> {
    match value {
        Some(value @ ast::Value::Object(_)) => Ok(value),
        None => Err(Fault::new(0..0, "there is no value here; an object, { ... }, is expected")),
        Some(value) => {
            let kind = match value {
                ast::Value::Array(_) => "a list",
                ast::Value::StringLit(_) => "a string",
                _ => "a single value",
            };
            let message = format!("the top level is {kind}; an object, {{ ... }}, is expected");
            Err(Fault::new(span(value.range()), message))
        }
    }
}

/// JSON with comments and trailing commas, and none of the parser's further extensions but, where
/// `relaxed`, those that HJSON has too.
fn parse(text: &str, relaxed: bool) -> Result<Option<ast::Value<'_>>, Fault> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: relaxed,
        allow_missing_commas: relaxed,
        allow_single_quoted_strings: relaxed,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let unusual = scan(text)?;
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options);
    // Both passes stop at their first fault; the earlier of the two is the cause.
    let wrong = parsed.as_ref().err().map(|error| explain(text, error));
    match [unusual, wrong].into_iter().flatten().min_by_key(|fault| fault.span.start) {
        Some(fault) => Err(fault),
        None => Ok(parsed.ok().and_then(|parsed| parsed.value)),
    }
}

/// Turns the parser's tree into values and places, collecting problems on the way.
struct Reader<'s> {
    source: &'s Source,
    /// How many bytes the parser's text has before those of the source.
    shift: usize,
    path: Path,
    problems: Vec<Problem>,
}

impl<'s> Reader<'s> {
    fn new(source: &'s Source, shift: usize) -> Self {
        Reader { source, shift, path: Path::default(), problems: Vec::new() }
    }

    /// Where something of the parser's stands in the source; the brackets that were put around it are
    /// taken for its ends.
    fn span(&self, range: jsonc_parser::common::Range) -> Range<usize> {
        let end = self.source.as_str().len();
        let at = |offset: usize| offset.saturating_sub(self.shift).min(end);
        at(range.start)..at(range.end)
    }

    /// Recursion is as deep as the text is nested, which is bounded.
    fn value(&mut self, value: ast::Value<'_>, key: Option<Range<usize>>) -> (Value, Node) {
        let place = self.span(value.range());
        let (value, children) = match value {
            ast::Value::NullKeyword(_) => (Value::Null, Children::None),
            ast::Value::BooleanLit(literal) => (literal.value.into(), Children::None),
            ast::Value::StringLit(literal) => (literal.value.into(), Children::None),
            ast::Value::NumberLit(literal) => {
                let number = number(literal.value).unwrap_or_else(|why| {
                    let message = format!("{} {why}", clipped(literal.value.to_owned()));
                    let path = self.path.to_string();
                    let full =
                        if path.is_empty() { message } else { format!("{path} = {message}") };
                    self.problem(ProblemKind::Invalid, &path, full, place.clone(), why);
                    Value::Null
                });
                (number, Children::None)
            }
            ast::Value::Array(list) => {
                let inside = list.elements.into_iter().enumerate();
                let (values, nodes) = inside
                    .map(|(index, item)| self.inside(Segment::Index(index), item, None))
                    .unzip::<_, _, Vec<_>, Vec<_>>();
                (Value::Array(values), Children::Items(nodes))
            }
            ast::Value::Object(object) => self.object(object),
        };
        (value, Node { key, value: place, children })
    }

    fn object(&mut self, object: ast::Object<'_>) -> (Value, Children) {
        let mut values = Map::new();
        let mut nodes = BTreeMap::<String, Node>::new();
        for property in object.properties {
            let name = match property.name {
                ast::ObjectPropName::String(literal) => literal,
                // Comes only where HJSON is read.
                ast::ObjectPropName::Word(word) => {
                    ast::StringLit { range: word.range, value: word.value.into() }
                }
            };
            let place = self.span(name.range);
            let key = name.value.into_owned();
            if let Some(first) = nodes.get(&key).and_then(|node| node.key.clone()) {
                self.duplicate(&key, place, first);
                continue;
            }
            let (value, node) = self.inside(Segment::Key(key.clone()), property.value, Some(place));
            values.insert(key.clone(), value);
            nodes.insert(key, node);
        }
        (Value::Object(values), Children::Keys(nodes))
    }

    fn inside(
        &mut self,
        segment: Segment,
        value: ast::Value<'_>,
        key: Option<Range<usize>>,
    ) -> (Value, Node) {
        self.path.push(segment);
        let read = self.value(value, key);
        self.path.pop();
        read
    }

    fn duplicate(&mut self, key: &str, again: Range<usize>, first: Range<usize>) {
        let (line, column) = self.source.line_column(first.start);
        let prefix = super::merged::prefix(&self.path);
        let message =
            format!("{prefix}key {} is given twice, first at {line}:{column}", named(key));
        let path = self.path.key(key).to_string();
        self.problem(ProblemKind::Duplicate, &path, message, again, "given again here");
        let problem = self.problems.last_mut().expect("just pushed");
        problem.labels.push((first, "first given here".into()));
    }

    fn fault(&mut self, kind: ProblemKind, path: &str, fault: Fault) {
        let label = fault.message.clone();
        self.problem(kind, path, fault.message, fault.span, &label);
    }

    fn problem(
        &mut self,
        kind: ProblemKind,
        path: &str,
        message: String,
        span: Range<usize>,
        label: &str,
    ) {
        let problem = Problem::new(kind, path.to_owned(), message);
        self.problems.push(problem.at(Origin::file(self.source, span), label));
    }
}

/// The number that `text` writes; a whole number beyond 64 bits is the nearest float.
///
/// # Errors
/// What to say after the number when 64 bits cannot hold it.
fn number(text: &str) -> Result<Value, &'static str> {
    if !text.contains(['.', 'e', 'E']) {
        let integer = text.parse::<i64>().map(Number::from);
        if let Ok(integer) = integer.or_else(|_| text.parse::<u64>().map(Number::from)) {
            return Ok(Value::Number(integer));
        }
    }
    let float: f64 = text.parse().map_err(|_| "is not a number")?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    if float == 0.0 && mantissa.contains(|c: char| matches!(c, '1'..='9')) {
        return Err("is too close to zero for a 64-bit float");
    }
    Number::from_f64(float).map(Value::Number).ok_or("is too large for a 64-bit float")
}

fn span(range: jsonc_parser::common::Range) -> Range<usize> {
    range.start..range.end
}
