//! The code of a TorchScript file, read for what reaches out of the model: libtorch evaluates defaults of arguments
//! as it loads a file, by whatever they call.

/// Groups of operators that compute, and nothing else.
const GROUPS: [&str; 4] = ["aten", "prim", "prims", "cuda"];

/// How deep expressions and blocks may lie in one another: libtorch's compiler calls itself as often.
const MOST_NESTED: usize = 300;

/// That no code in `source` can reach what is outside of the model: no operator that opens files, none but those
/// of [`GROUPS`], no class of libtorch's own, nothing that runs as the file is loaded. And that libtorch can follow how deep
/// it is nested.
///
/// # Errors
/// What it reaches, with the line.
pub(super) fn check(source: &str) -> Result<(), String> {
    let mut line = 1;
    let mut rest = source;
    // The last tokens, latest first.
    let mut last = [Token::Mark('\n'); 5];
    let mut nesting = Nesting { open: vec![0], branches: 0 };
    // At how many brackets a `getattr` closes.
    let mut attributes = Vec::new();
    while let Some((token, length)) = next(rest) {
        let dot = Token::Mark('.');
        let at = |what: &str| Err(format!("line {line}: {what}"));
        if nesting.after(token, rest) > MOST_NESTED {
            return at(&format!(
                "more than {MOST_NESTED} expressions and blocks lie in one another"
            ));
        }
        if token == Token::Space {
            line += rest[..length].matches('\n').count();
            rest = &rest[length..];
            continue;
        }
        // Before a colon it is an attribute's name.
        let declares = token == Token::Mark(':') && nesting.open.len() == 1;
        if let [Token::Name(name @ ("ops" | "torch" | "__torch__")), before, ..] = last
            && before != dot
            && token != dot
            && !declares
        {
            return at(&format!("`{name}` stands alone, and may stand for any operator"));
        }
        if let [Token::Name("torch"), Token::Mark('.'), Token::Name("__torch__"), ..] = last
            && token != dot
        {
            return at(
                "`__torch__.torch` stands alone, and may stand for any class of libtorch's own",
            );
        }
        match (token, last) {
            (Token::Name("__setstate__"), _) => {
                return at("`__setstate__` would run as the file is loaded");
            }
            (Token::Name("from_file"), [Token::Mark('.'), ..]) => {
                return at("`from_file` opens files");
            }
            (Token::Mark('('), [Token::Name("save"), Token::Mark('.'), ..]) => {
                return at("`save` writes files; a method of the model's own needs another name");
            }
            (Token::Name(group), [Token::Mark('.'), Token::Name("ops"), before, ..])
                if before != dot && !GROUPS.contains(&group) =>
            {
                return at(&format!("`ops.{group}` has operators that do more than compute"));
            }
            (
                Token::Name("classes"),
                [
                    Token::Mark('.'),
                    Token::Name("torch"),
                    Token::Mark('.'),
                    Token::Name("__torch__"),
                    ..,
                ],
            ) => {
                return at(
                    "`__torch__.torch.classes` are libtorch's own, and may reach out of the model",
                );
            }
            (Token::Mark('('), [Token::Name("getattr"), ..]) => attributes.push(nesting.open.len()),
            (Token::Mark(')'), [name, comma, ..])
                if attributes.last() == Some(&(nesting.open.len() + 1)) =>
            {
                attributes.pop();
                let plain = matches!(name, Token::Text(text) if !text.contains('\\')
                    && !["from_file", "save"].contains(&text));
                if !plain || comma != Token::Mark(',') {
                    return at("`getattr` asks for a name that is hidden, or opens files");
                }
            }
            _ => {}
        }
        last.rotate_right(1);
        last[0] = token;
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    Ok(())
}

/// How deep the code is nested.
struct Nesting {
    /// For each open bracket the operators since the last comma, each of which may hold all before it; outside of
    /// brackets the indentation as well.
    open: Vec<usize>,
    /// Further branches of a condition, each of which lies in the one before.
    branches: usize,
}

impl Nesting {
    /// How deep it is after `token`, with which `rest` begins.
    fn after(&mut self, token: Token<'_>, rest: &str) -> usize {
        let outside = self.open.len() == 1;
        if let Some(operators) = self.open.last_mut() {
            match token {
                Token::Space if outside && rest.starts_with('\n') => {
                    *operators = rest[1..].find(|c: char| c != ' ' && c != '\t').unwrap_or(0);
                }
                Token::Mark(',') if !outside => *operators = 0,
                Token::Mark(c) if "+-*/%&|^<>=~.@".contains(c) => *operators += 1,
                Token::Name("not" | "and" | "or" | "if" | "in" | "is" | "lambda") => {
                    *operators += 1
                }
                Token::Name("elif") => self.branches += 1,
                Token::Name("def") => self.branches = 0,
                Token::Mark('(' | '[' | '{') => self.open.push(0),
                Token::Mark(')' | ']' | '}') if !outside => drop(self.open.pop()),
                _ => {}
            }
        }
        self.open.len() + self.open.iter().sum::<usize>() + self.branches
    }
}

/// Whether a module of Python's names classes that libtorch makes.
pub(super) fn is_foreign(module: &str) -> bool {
    module == "__torch__.torch.classes" || module.starts_with("__torch__.torch.classes.")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// What stands between the quotes.
    Text(&'a str),
    Mark(char),
    /// White space or a comment.
    Space,
}

/// The first token and its length.
fn next(source: &str) -> Option<(Token<'_>, usize)> {
    let first = source.chars().next()?;
    let length_of = |part: &dyn Fn(char) -> bool| source.find(|c| !part(c)).unwrap_or(source.len());
    Some(match first {
        '#' => (Token::Space, length_of(&|c| c != '\n')),
        '\\' | '\n' => (Token::Space, 1),
        c if c.is_whitespace() => (Token::Space, length_of(&|c| c.is_whitespace() && c != '\n')),
        '"' | '\'' => {
            let quote = &source[..1];
            let quotes = quote.repeat(3);
            let quotes = if source.starts_with(&quotes) { &*quotes } else { quote };
            let length = end_of_text(source, quotes);
            let text = source[quotes.len()..length].strip_suffix(quotes).unwrap_or_default();
            (Token::Text(text), length)
        }
        c if is_name(c) => {
            let length = length_of(&is_name);
            (Token::Name(&source[..length]), length)
        }
        c => (Token::Mark(c), c.len_utf8()),
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where a text that begins with these quotes ends.
fn end_of_text(source: &str, quotes: &str) -> usize {
    let mut at = quotes.len();
    while at < source.len() {
        let rest = &source[at..];
        if rest.starts_with(quotes) {
            return at + quotes.len();
        }
        let mut chars = rest.chars();
        let escaped = chars.next() == Some('\\');
        at = source.len() - chars.as_str().len();
        if escaped {
            at += chars.next().map_or(0, char::len_utf8);
        }
    }
    source.len()
}
