//! Text to values, each with the place where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};

use crate::problems::note::{Note, Weight};
use crate::problems::problem::{ConfigError, Origin, Problem, ProblemKind};
use crate::text::hjson::{Relaxed, Word, missing_comma};
use crate::text::path::{Path, Segment};
use crate::text::scan::{Fault, scan};
use crate::text::show::{clipped, named};
use crate::text::source::Source;
use crate::text::syntax::explain;

/// Most bytes of the keys that lead to a value: every message and every answer names them.
const MAX_PATH_BYTES: usize = 1000;
/// Most faults of one text that are kept.
const MAX_PROBLEMS: usize = 1000;

/// A configuration text that has been parsed: JSON with comments and trailing commas, an object at
/// the top; or HJSON, which is noted.
///
/// Values are exact: an integer is an `i64` or a `u64`, anything with a point or an exponent the
/// nearest `f64`, as is an integer beyond 64 bits. What is readable but wrong (a key given twice, a float
/// beyond 64 bits, Python's `True`) is kept in [`problems`](Document::problems), so that it can be told
/// together with what a schema finds.
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
pub(crate) struct Node {
    pub key: Option<Range<usize>>,
    pub value: Range<usize>,
    pub children: Children,
}

#[derive(Clone, Debug)]
pub(crate) enum Children {
    None,
    Keys(BTreeMap<String, Node>),
    Items(Vec<Node>),
}

impl Document {
    /// Parses a text.
    ///
    /// # Errors
    /// The first syntax error, with its place: not JSON, no object at the top, nested deeper than
    /// 128 levels, more than 100,000 values. Keys of more than 1,000 bytes on the way to a value are
    /// among the [`problems`](Document::problems), of which at most 1,000 are kept.
    pub fn parse(source: Source) -> Result<Document, ConfigError> {
        let text = source.as_str();
        let fault = match parse(text, false).and_then(object) {
            Ok(value) => return Ok(Document::of(&source, Reader::new(&source), value)),
            Err(fault) => fault,
        };
        let relaxed = Relaxed::new(text);
        let later = match read_relaxed(&relaxed.text) {
            Ok(value) => {
                let reader = Reader { shift: relaxed.shift, ..Reader::new(&source) };
                let read = Document::of(&source, reader, value);
                return Ok(Document { not_json: Some(fault), ..read });
            }
            Err(later) => later,
        };
        let shift = relaxed.shift;
        let (readable, words) = relaxed.without_words(text);
        match read_relaxed(&readable) {
            Ok(value) => {
                let reader = Reader { shift, words, ..Reader::new(&source) };
                let read = Document::of(&source, reader, value);
                if !read.problems.is_empty() {
                    return Ok(read);
                }
            }
            Err(last) => {
                let faults = up_to(text, words, last.shifted(shift, text));
                if let Some(error) = told(&source, faults) {
                    return Err(error);
                }
            }
        }
        // What only HJSON allows is not what is wrong where HJSON gets lines further, or as far as a word
        // without quotes.
        let later = later.shifted(shift, text);
        let (begin, end) = (later.span.start, later.span.end);
        let whole = text.is_char_boundary(begin) && text.is_char_boundary(end);
        let word = whole && text[begin..].starts_with(char::is_alphabetic);
        let between = text.get(fault.span.start..begin).filter(|_| whole).unwrap_or_default();
        let further = between.contains('\n') || word && !between.is_empty();
        let fault = if further { later } else { fault };
        Err(told(&source, vec![fault]).expect("there is a fault"))
    }

    /// What `reader` makes of the parser's tree.
    fn of(source: &Source, mut reader: Reader<'_>, value: ast::Value<'_>) -> Document {
        let (value, root) = reader.value(value, None);
        let problems = reader.problems;
        Document { source: source.clone(), value, root, problems, not_json: None }
    }

    /// What is in the text that JSON does not have, if it was read as HJSON.
    pub(crate) fn not_json(&self) -> Option<Note> {
        let fault = self.not_json.as_ref()?;
        let message = format!("this is not JSON: {}; it is read as HJSON", fault.message);
        Some(Note {
            path: String::new(),
            says: message.clone(),
            message,
            weight: Weight::default(),
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
    pub(crate) fn remove(&mut self, keys: &BTreeSet<String>) {
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
    pub(crate) fn root(&self) -> &Node {
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
pub(crate) fn value_or_text(text: &str) -> Result<Value, String> {
    let parsed = match parse(text, false) {
        Ok(Some(parsed)) => parsed,
        Err(fault) if text.trim_start().starts_with(['{', '[', '"']) => return Err(fault.message),
        _ => return Ok(text.into()),
    };
    let source = Source::text("", text);
    let read = Document::of(&source, Reader::new(&source), parsed);
    match read.problems.into_iter().next() {
        Some(problem) => Err(problem.message),
        None => Ok(read.value),
    }
}

/// The top level of a text in which what only HJSON has was made JSON's.
fn read_relaxed(text: &str) -> Result<ast::Value<'_>, Fault> {
    let value = parse(text, true).and_then(object)?;
    missing_comma(text, &value).map_or(Ok(value), Err)
}

/// The error of these faults; none if there are none.
fn told(source: &Source, faults: Vec<Fault>) -> Option<ConfigError> {
    let mut reader = Reader::new(source);
    faults.into_iter().for_each(|fault| reader.fault("", fault));
    ConfigError::new(source, reader.problems)
}

/// The words before the fault `last`, at which what is read without words ends, and it; not where the last word is
/// the first of several, for then it is no fault. Nothing where no word comes before it.
fn up_to(text: &str, words: BTreeMap<usize, Word>, last: Fault) -> Vec<Fault> {
    let before = words.into_values().map(|word| word.fault);
    let mut faults: Vec<_> =
        before.take_while(|fault| fault.span.start < last.span.start).collect();
    let Some(word) = faults.last() else { return faults };
    let after = text.get(word.span.end..last.span.start).unwrap_or_default();
    let mut lines = after.lines();
    let rest = lines.next().and_then(|rest| rest.split(['#', '/']).next()).unwrap_or_default();
    let alone = rest.chars().all(|c| c.is_whitespace() || matches!(c, ',' | ']' | '}'));
    if alone && after.contains('\n') && text.get(last.span.clone()).is_some() {
        faults.push(last);
    }
    faults
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
    let unusual = scan(text, relaxed)?;
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
    words: BTreeMap<usize, Word>,
    path: Path,
    /// Of the keys in it, in bytes.
    path_bytes: usize,
    problems: Vec<Problem>,
}

impl<'s> Reader<'s> {
    fn new(source: &'s Source) -> Self {
        Reader {
            source,
            shift: 0,
            words: BTreeMap::new(),
            path: Path::default(),
            path_bytes: 0,
            problems: Vec::new(),
        }
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
        if let Some(Word { fault, meant }) = self.words.remove(&place.start) {
            let place = fault.span.clone();
            self.fault(&self.path.to_string(), fault);
            return (meant, Node { key, value: place, children: Children::None });
        }
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
            self.path_bytes += key.len();
            if self.path_bytes > MAX_PATH_BYTES {
                let path = self.path.to_string();
                let what = format!("the keys that lead here have more than {MAX_PATH_BYTES} bytes");
                let message = format!("{}{what}", crate::layers::config::prefix(&self.path));
                self.problem(ProblemKind::Invalid, &path, message, place, &what);
                self.path_bytes -= key.len();
                continue;
            }
            let (value, node) = self.inside(Segment::Key(key.clone()), property.value, Some(place));
            self.path_bytes -= key.len();
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
        let prefix = crate::layers::config::prefix(&self.path);
        let message =
            format!("{prefix}key {} is given twice, first at {line}:{column}", named(key));
        let path = self.path.key(key).to_string();
        self.problem(ProblemKind::Duplicate, &path, message, again, "given again here");
        if let Some(problem) = self.problems.last_mut().filter(|problem| problem.path == path) {
            problem.labels.push((first, "first given here".into()));
        }
    }

    fn fault(&mut self, path: &str, fault: Fault) {
        let label = fault.message.clone();
        self.problem(ProblemKind::Syntax, path, fault.message, fault.span, &label);
    }

    fn problem(
        &mut self,
        kind: ProblemKind,
        path: &str,
        message: String,
        span: Range<usize>,
        label: &str,
    ) {
        if self.problems.len() < MAX_PROBLEMS {
            let problem = Problem::new(kind, path.to_owned(), message);
            self.problems.push(problem.at(Origin::file(self.source, span), label));
        }
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
