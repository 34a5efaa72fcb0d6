//! Conditions and sizes that a program has as text: a small part of Python, parsed and never run by it.
use super::numbers::{Function, Number};
use std::fmt;

/// How deep an expression may be nested.
const MOST_NESTED: usize = 60;

/// How many numbers, sizes and names it may have. `1+1+1+...` lies as deep in itself as it is long.
const MOST_OPERANDS: usize = 250;

/// How long its text may be.
const MOST_BYTES: usize = 1 << 16;

/// What is computed from the sizes of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    Number(Number),
    /// A size that has a name: `s43`.
    Symbol(String),
    /// The size of an input along an axis.
    Size {
        input: String,
        axis: usize,
    },
    Apply(Function, Vec<Expression>),
}

/// What an expression is computed from.
pub trait Sizes {
    /// None where nothing is known of it.
    fn symbol(&self, name: &str) -> Option<i64>;
    /// None where there is no such axis.
    fn size(&self, input: &str, axis: usize) -> Option<i64>;
}

impl Expression {
    /// Parses what PyTorch writes of a condition (`L['ids'].size()[0] == 12*L['labels'].size()[0]`) or of a size
    /// (`Mul(Integer(12), Symbol('s43', positive=True, integer=True))`).
    ///
    /// # Errors
    /// What it does not know, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("it has {} bytes, more than {MOST_BYTES}", text.len()));
        }
        let mut parser = Parser { text, at: 0, depth: 0, operands: 0, copied: 0 };
        let found = parser.either()?;
        parser.space();
        match parser.at == text.len() {
            true => Ok(found),
            false => Err(parser.odd()),
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// A size that it needs is not known; the arithmetic's.
    pub fn value(&self, sizes: &dyn Sizes) -> Result<Number, String> {
        Ok(match self {
            Expression::Number(number) => *number,
            Expression::Symbol(name) => Number::Int(
                sizes.symbol(name).ok_or_else(|| format!("no input has the size {name}"))?,
            ),
            Expression::Size { input, axis } => {
                Number::Int(sizes.size(input, *axis).ok_or_else(|| format!("no input has {self}"))?)
            }
            Expression::Apply(function, operands) => {
                let operands: Result<Vec<_>, _> =
                    operands.iter().map(|operand| operand.value(sizes)).collect();
                function.apply(&operands?)?
            }
        })
    }

    /// Every input whose size it asks for, with the axis.
    pub fn inputs(&self) -> Vec<(&str, usize)> {
        match self {
            Expression::Size { input, axis } => vec![(input, *axis)],
            Expression::Apply(_, operands) => operands.iter().flat_map(Self::inputs).collect(),
            _ => Vec::new(),
        }
    }

    /// How many numbers, names and functions are in it.
    fn size(&self) -> usize {
        match self {
            Expression::Apply(_, operands) => 1 + operands.iter().map(Self::size).sum::<usize>(),
            _ => 1,
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Number(number) => write!(f, "{number}"),
            Expression::Symbol(name) => write!(f, "{name}"),
            Expression::Size { input, axis } => write!(f, "{input}.size({axis})"),
            Expression::Apply(function, operands) => {
                let sign = OPERATORS.iter().find(|(_, of, _)| of == function);
                let shown: Vec<_> = operands
                    .iter()
                    .map(|operand| match (operand, sign) {
                        (Expression::Apply(..), Some(_)) => format!("({operand})"),
                        _ => operand.to_string(),
                    })
                    .collect();
                match sign {
                    Some((sign, ..)) if operands.len() > 1 => {
                        write!(f, "{}", shown.join(&format!(" {sign} ")))
                    }
                    _ => write!(f, "{function:?}({})", shown.join(", ")),
                }
            }
        }
    }
}

/// Between two operands, with how tightly each binds. Longer signs stand before those that they begin with.
const OPERATORS: [(&str, Function, u8); 15] = [
    ("or", Function::Or, 1),
    ("and", Function::And, 2),
    ("==", Function::Eq, COMPARES),
    ("!=", Function::Ne, COMPARES),
    ("<=", Function::Le, COMPARES),
    (">=", Function::Ge, COMPARES),
    ("<", Function::Lt, COMPARES),
    (">", Function::Gt, COMPARES),
    ("+", Function::Add, 5),
    ("-", Function::Sub, 5),
    ("**", Function::Pow, 8),
    ("*", Function::Mul, 6),
    ("//", Function::FloorDiv, 6),
    ("/", Function::TrueDiv, 6),
    ("%", Function::Mod, 6),
];

const COMPARES: u8 = 4;
const NEGATES: u8 = 7;
const POWERS: u8 = 8;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    operands: usize,
    /// Parts of operands that stand in two comparisons.
    copied: usize,
}

fn too_many() -> String {
    format!("it has more than {MOST_OPERANDS} operands")
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Result<Expression, String> {
        self.binding(0)
    }

    /// An expression whose operators bind more tightly than `least`.
    fn binding(&mut self, least: u8) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MOST_NESTED {
            return Err(format!("more than {MOST_NESTED} expressions lie in one another"));
        }
        let mut left = self.operand()?;
        // Of `2 <= a <= 5` the operand in the middle is one of two comparisons.
        let mut middle: Option<Expression> = None;
        while let Some((sign, function, tightness)) = self.operator() {
            if tightness <= least {
                break;
            }
            self.at += sign.len();
            // Powers bind to the right.
            let right =
                self.binding(if tightness == POWERS { tightness - 1 } else { tightness })?;
            left = match (tightness == COMPARES, middle.take()) {
                (true, before) => {
                    let chained = before.is_some();
                    let first = match before {
                        Some(before) => {
                            // It stands there twice.
                            self.copied += before.size();
                            if self.copied > MOST_OPERANDS {
                                return Err(too_many());
                            }
                            before
                        }
                        None => left.clone(),
                    };
                    middle = Some(right.clone());
                    let compared = Expression::Apply(function, vec![first, right]);
                    match chained {
                        true => Expression::Apply(Function::And, vec![left, compared]),
                        false => compared,
                    }
                }
                (false, _) => Expression::Apply(function, vec![left, right]),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    /// The operator that comes next, which is not taken.
    fn operator(&mut self) -> Option<(&'static str, Function, u8)> {
        self.space();
        let rest = &self.text[self.at..];
        OPERATORS.into_iter().find(|(sign, ..)| {
            let word = sign.starts_with(char::is_alphabetic);
            rest.strip_prefix(sign)
                .is_some_and(|after| !word || !after.starts_with(|c: char| is_name(c)))
        })
    }

    fn operand(&mut self) -> Result<Expression, String> {
        self.operands += 1;
        if self.operands > MOST_OPERANDS {
            return Err(too_many());
        }
        self.space();
        let rest = &self.text[self.at..];
        let first = rest.chars().next().ok_or("it ends too early")?;
        if self.takes("(") {
            let found = self.either()?;
            self.need(")")?;
            return Ok(found);
        }
        if self.takes("-") {
            let operand = self.binding(NEGATES)?;
            return Ok(Expression::Apply(Function::Neg, vec![operand]));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if !is_name(first) {
            return Err(self.odd());
        }
        match self.name() {
            "not" => Ok(Expression::Apply(Function::Not, vec![self.binding(COMPARES - 1)?])),
            "True" => Ok(Expression::Number(Number::Bool(true))),
            "False" => Ok(Expression::Number(Number::Bool(false))),
            "L" => self.size(),
            "Symbol" => {
                self.need("(")?;
                let name = self.quoted()?.to_owned();
                // What is assumed of it: `positive=True`.
                while self.takes(",") {
                    self.space();
                    self.name();
                    self.need("=")?;
                    self.space();
                    self.name();
                }
                self.need(")")?;
                Ok(Expression::Symbol(name))
            }
            "Integer" | "Float" => {
                self.need("(")?;
                let found = self.either()?;
                self.need(")")?;
                Ok(found)
            }
            name => {
                let function = Function::named(name)
                    .ok_or_else(|| format!("`{name}` is no function that is known here"))?;
                self.need("(")?;
                let mut operands = vec![self.either()?];
                while self.takes(",") {
                    operands.push(self.either()?);
                }
                self.need(")")?;
                Ok(Expression::Apply(function, operands))
            }
        }
    }

    /// What follows `L`: `['ids'].size()[0]`, or of an input that lies in another `['batch']['ids'].size()[0]`, which
    /// the program calls `batch_ids`.
    fn size(&mut self) -> Result<Expression, String> {
        let mut names = Vec::new();
        while self.takes("[") {
            self.space();
            let quoted = self.text[self.at..].starts_with(['\'', '"']);
            names.push(if quoted { self.quoted()? } else { self.digits() });
            self.need("]")?;
        }
        self.need(".")?;
        if self.name() != "size" {
            return Err(self.odd());
        }
        self.need("(")?;
        self.need(")")?;
        self.need("[")?;
        let axis = self.digits().parse().map_err(|_| self.odd())?;
        self.need("]")?;
        Ok(Expression::Size { input: names.join("_"), axis })
    }

    fn number(&mut self) -> Result<Expression, String> {
        let start = self.at;
        self.digits();
        let mut real = self.follows(&['.']);
        self.digits();
        if self.follows(&['e', 'E']) {
            real = true;
            self.follows(&['-', '+']);
            self.digits();
        }
        let text = &self.text[start..self.at];
        let number = match real {
            true => text.parse().ok().map(Number::Float),
            false => text.parse().ok().map(Number::Int),
        };
        let odd = || format!("`{text}` is no number that is known here");
        number.map(Expression::Number).ok_or_else(odd)
    }

    fn quoted(&mut self) -> Result<&'a str, String> {
        self.space();
        let rest = &self.text[self.at..];
        let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c));
        let quote = quote.ok_or_else(|| self.odd())?;
        let inner = &rest[1..];
        let end = inner.find(quote).ok_or("a text does not end")?;
        self.at += end + 2;
        match inner[..end].contains('\\') {
            true => Err(self.odd()),
            false => Ok(&inner[..end]),
        }
    }

    /// A name, with the module it comes from: `math.trunc`. A size's `.size` is no part of it.
    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.find(|c| !is_name(c) && c != '.').unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn digits(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.space();
        let there = self.text[self.at..].starts_with(sign);
        if there {
            self.at += sign.len();
        }
        there
    }

    /// As `takes`, with nothing between.
    fn follows(&mut self, signs: &[char]) -> bool {
        let there = self.text[self.at..].starts_with(signs);
        self.at += usize::from(there);
        there
    }

    fn need(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(self.odd()) }
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn odd(&self) -> String {
        let rest: String = self.text[self.at..].chars().take(30).collect();
        if rest.is_empty() {
            "it ends too early".to_owned()
        } else {
            format!("`{rest}` is not known here")
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given;

    impl Sizes for Given {
        fn symbol(&self, name: &str) -> Option<i64> {
            (name == "s4").then_some(6)
        }

        fn size(&self, input: &str, axis: usize) -> Option<i64> {
            match (input, axis) {
                ("ids", 0) => Some(5),
                ("ids", 1) => Some(12),
                ("batch_x", 0) => Some(7),
                _ => None,
            }
        }
    }

    fn value(text: &str) -> Result<Number, String> {
        Expression::parse(text)?.value(&Given)
    }

    #[test]
    fn what_pytorch_writes_is_computed() {
        use Number::{Bool, Float, Int};
        for (text, expected) in [
            ("L['ids'].size()[0] == 5", Bool(true)),
            ("(12*L['ids'].size()[0]) == (5*L[\"ids\"].size()[1])", Bool(true)),
            ("L['batch']['x'].size()[0] % 4 != 3", Bool(false)),
            ("2 <= L['ids'].size()[0] <= 4", Bool(false)),
            ("2 <= L['ids'].size()[0] and L['ids'].size()[0] <= 5", Bool(true)),
            ("not L['ids'].size()[0] == 5 or 1 > 2", Bool(false)),
            ("1 + 2 * 3 - 4 // 3", Int(6)),
            ("2 - 3 - 4", Int(-5)),
            ("2 ** 3 ** 2", Int(512)),
            ("-2 ** 2", Int(-4)),
            ("-(7) // 2", Int(-4)),
            ("math.trunc(torch.sym_float(L['ids'].size()[0]) / 2.0)", Int(2)),
            ("1e3 + 0.5", Float(1000.5)),
            ("Mul(Integer(12), Symbol('s4', positive=True, integer=True))", Int(72)),
            ("Add(Integer(-1), FloorDiv(Symbol('s4', integer=True), Integer(4)))", Int(0)),
            ("Max(Integer(1), Symbol('s4', positive=True, integer=True))", Int(6)),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let deep = format!("{}1{}", "(".repeat(100), ")".repeat(100));
        let long = format!("1{}", "+1".repeat(30_000));
        let wide = format!("Max(1{})", ", 1".repeat(20_000));
        // Each middle operand stands in two comparisons.
        let chained = format!("{}1{}", "1<(".repeat(29), ")<1".repeat(29));
        for (text, said) in [
            ("__import__('os')", "`__import__` is no function that is known here"),
            ("L['ids'].stride()[0]", "`()[0]` is not known here"),
            ("L['ids']", "it ends too early"),
            ("L['ids'].size()[0] ==", "it ends too early"),
            ("1 2", "`2` is not known here"),
            ("x == 1", "`x` is no function that is known here"),
            ("99999999999999999999", "`99999999999999999999` is no number that is known here"),
            ("L['other'].size()[0]", "no input has other.size(0)"),
            ("Symbol('s5')", "no input has the size s5"),
            (&deep, "more than 60 expressions lie in one another"),
            (&long, "it has more than 250 operands"),
            (&wide, "it has more than 250 operands"),
            (&chained, "it has more than 250 operands"),
            ("", "it ends too early"),
            ("1 ü", "`ü` is not known here"),
        ] {
            assert_eq!(value(text), Err(said.to_owned()), "{text}");
        }
    }

    /// As long as may be, on a test's small stack.
    #[test]
    fn long_expressions_are_computed() {
        let long = format!("1{}", "+1".repeat(249));
        assert_eq!(value(&long), Ok(Number::Int(250)));
        let chained = format!("1{}", " <= 1".repeat(249));
        assert_eq!(value(&chained), Ok(Number::Bool(true)));
        let wide = format!("Add(1{})", ", 1".repeat(248));
        assert_eq!(value(&wide), Ok(Number::Int(249)));
        let deep = format!("{}1{}", "(".repeat(58), ")".repeat(58));
        assert_eq!(value(&deep), Ok(Number::Int(1)));
        assert!(Expression::parse(&long).expect("it parses").to_string().len() > 249);
    }

    #[test]
    fn expressions_are_shown_as_one_writes_them() {
        let shown = |text: &str| Expression::parse(text).expect("it parses").to_string();
        assert_eq!(shown("Mul(Integer(12), Symbol('s4', integer=True))"), "12 * s4");
        assert_eq!(
            shown("(12*L['ids'].size()[0]) == (L['labels'].size()[0])"),
            "(12 * ids.size(0)) == labels.size(0)"
        );
    }
}
