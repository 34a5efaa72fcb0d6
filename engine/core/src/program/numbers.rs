//! Arithmetic on sizes, as Python and SymPy do it.
use std::fmt;

/// A number that is no tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
    Bool(bool),
}

use Number::{Bool, Float, Int};

impl Number {
    pub fn real(self) -> f64 {
        match self {
            Int(number) => number as f64,
            Float(number) => number,
            Bool(truth) => f64::from(u8::from(truth)),
        }
    }

    pub fn truth(self) -> bool {
        self.real() != 0.0
    }

    /// Bools count as 0 and 1, as they do in Python.
    fn whole(self) -> Option<i64> {
        match self {
            Int(number) => Some(number),
            Bool(truth) => Some(i64::from(truth)),
            Float(_) => None,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Int(number) => write!(f, "{number}"),
            Float(number) => write!(f, "{number:?}"),
            Bool(truth) => write!(f, "{truth}"),
        }
    }
}

/// What is done with numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Add,
    Sub,
    Mul,
    TrueDiv,
    FloorDiv,
    Mod,
    Pow,
    Neg,
    Pos,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Not,
    Min,
    Max,
    Trunc,
    Floor,
    Ceil,
    ToFloat,
    Sqrt,
    IfElse,
}

use Function::*;

impl Function {
    /// By what a node's target or an expression calls it; none for another one.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "_operator.add" | "Add" => Add,
            "_operator.sub" => Sub,
            "_operator.mul" | "Mul" => Mul,
            "_operator.truediv" | "FloatTrueDiv" | "IntTrueDiv" => TrueDiv,
            "_operator.floordiv" | "FloorDiv" | "CleanDiv" => FloorDiv,
            "_operator.mod" | "Mod" | "PythonMod" => Mod,
            "_operator.pow" | "Pow" | "PowByNatural" | "FloatPow" => Pow,
            "_operator.neg" => Neg,
            "_operator.pos" => Pos,
            "_operator.eq" | "Equality" | "Eq" => Eq,
            "_operator.ne" | "Unequality" | "Ne" => Ne,
            "_operator.lt" | "StrictLessThan" => Lt,
            "_operator.le" | "LessThan" => Le,
            "_operator.gt" | "StrictGreaterThan" => Gt,
            "_operator.ge" | "GreaterThan" => Ge,
            "_operator.and_" | "And" => And,
            "_operator.or_" | "Or" => Or,
            "torch.sym_not" | "Not" => Not,
            "torch.sym_min" | "Min" => Min,
            "torch.sym_max" | "Max" => Max,
            "math.trunc" | "torch.sym_int" | "TruncToInt" => Trunc,
            "math.floor" | "FloorToInt" => Floor,
            "math.ceil" | "CeilToInt" => Ceil,
            "torch.sym_float" | "ToFloat" => ToFloat,
            "torch.sym_sqrt" | "torch._sym_sqrt" => Sqrt,
            "torch.sym_ite" => IfElse,
            _ => return None,
        })
    }

    /// Applies it.
    ///
    /// # Errors
    /// Another number of operands is needed, the result is too large, or a division is by 0.
    pub fn apply(self, operands: &[Number]) -> Result<Number, String> {
        let found = match (self, operands) {
            // SymPy's take any number of operands.
            (Add | Mul | Min | Max | And | Or, &[first, second, ref rest @ ..])
                if !rest.is_empty() =>
            {
                let both = self.apply(&[first, second])?;
                return rest.iter().try_fold(both, |all, next| self.apply(&[all, *next]));
            }
            (_, &[a]) => self.of_one(a),
            (_, &[a, b]) => self.of_two(a, b)?,
            (IfElse, &[condition, yes, no]) => Some(if condition.truth() { yes } else { no }),
            _ => return Err(format!("{self:?} does not take {} operands", operands.len())),
        };
        found.ok_or_else(|| {
            let operands: Vec<_> = operands.iter().map(Number::to_string).collect();
            format!("{self:?} of {} has no result", operands.join(" and "))
        })
    }

    fn of_one(self, a: Number) -> Option<Number> {
        let rounded = |by: fn(f64) -> f64| match a.whole() {
            Some(whole) => Some(Int(whole)),
            None => to_whole(by(a.real())),
        };
        match self {
            Neg => match a.whole() {
                Some(whole) => whole.checked_neg().map(Int),
                None => Some(Float(-a.real())),
            },
            Pos | Add | Mul | Min | Max | And | Or => Some(a),
            Not => Some(Bool(!a.truth())),
            Trunc => rounded(f64::trunc),
            Floor => rounded(f64::floor),
            Ceil => rounded(f64::ceil),
            ToFloat => Some(Float(a.real())),
            Sqrt => (a.real() >= 0.0).then(|| Float(a.real().sqrt())),
            _ => None,
        }
    }

    fn of_two(self, a: Number, b: Number) -> Result<Option<Number>, String> {
        let (x, y) = (a.real(), b.real());
        let whole = a.whole().zip(b.whole());
        let order = match whole {
            Some((a, b)) => Some(a.cmp(&b)),
            None => x.partial_cmp(&y),
        };
        let by_zero = matches!(self, TrueDiv | FloorDiv | Mod) && y == 0.0;
        if by_zero {
            return Ok(None);
        }
        // Of two numbers bit by bit, as Python has it.
        if let (And | Or, Int(a), Int(b)) = (self, a, b) {
            return Ok(Some(Int(if self == And { a & b } else { a | b })));
        }
        Ok(match (self, whole) {
            (Add, Some((a, b))) => a.checked_add(b).map(Int),
            (Sub, Some((a, b))) => a.checked_sub(b).map(Int),
            (Mul, Some((a, b))) => a.checked_mul(b).map(Int),
            (FloorDiv, Some((a, b))) => floor_div(a, b).map(Int),
            (Mod, Some((a, b))) => {
                a.checked_rem_euclid(b).map(|r| Int(if b < 0 && r != 0 { r + b } else { r }))
            }
            (Pow, Some((a, b))) if b >= 0 => {
                u32::try_from(b).ok().and_then(|b| a.checked_pow(b)).map(Int)
            }
            (Add, None) => Some(Float(x + y)),
            (Sub, None) => Some(Float(x - y)),
            (Mul, None) => Some(Float(x * y)),
            (TrueDiv, _) => Some(Float(x / y)),
            (FloorDiv, None) => Some(Float((x / y).floor())),
            (Mod, None) => Some(Float(x - y * (x / y).floor())),
            (Pow, _) => Some(Float(x.powf(y))),
            (Eq, _) => Some(Bool(order.is_some_and(|order| order.is_eq()))),
            (Ne, _) => Some(Bool(!order.is_some_and(|order| order.is_eq()))),
            (Lt, _) => Some(Bool(order.is_some_and(|order| order.is_lt()))),
            (Le, _) => Some(Bool(order.is_some_and(|order| order.is_le()))),
            (Gt, _) => Some(Bool(order.is_some_and(|order| order.is_gt()))),
            (Ge, _) => Some(Bool(order.is_some_and(|order| order.is_ge()))),
            (And, _) => Some(Bool(a.truth() && b.truth())),
            (Or, _) => Some(Bool(a.truth() || b.truth())),
            (Min, _) => Some(if order.is_some_and(|order| order.is_gt()) { b } else { a }),
            (Max, _) => Some(if order.is_some_and(|order| order.is_lt()) { b } else { a }),
            _ => return Err(format!("{self:?} does not take 2 operands")),
        })
    }
}

fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

fn to_whole(real: f64) -> Option<Number> {
    // 2^63 is the first that does not fit.
    (real >= -(2f64.powi(63)) && real < 2f64.powi(63)).then_some(Int(real as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_pythons() {
        for (function, operands, expected) in [
            (FloorDiv, vec![Int(-7), Int(2)], Int(-4)),
            (FloorDiv, vec![Int(7), Int(-2)], Int(-4)),
            (FloorDiv, vec![Float(7.0), Int(2)], Float(3.0)),
            (Mod, vec![Int(-7), Int(2)], Int(1)),
            (Mod, vec![Int(7), Int(-3)], Int(-2)),
            (Mod, vec![Int(-6), Int(-3)], Int(0)),
            (Pow, vec![Int(2), Int(10)], Int(1024)),
            (Pow, vec![Int(2), Int(-1)], Float(0.5)),
            (Pow, vec![Float(36.0), Float(0.5)], Float(6.0)),
            (TrueDiv, vec![Int(1), Int(2)], Float(0.5)),
            (Mul, vec![Int(2), Int(3), Int(4)], Int(24)),
            (Max, vec![Int(2), Int(9), Int(4)], Int(9)),
            (Min, vec![Int(2), Float(1.5)], Float(1.5)),
            (Eq, vec![Int(2), Float(2.0)], Bool(true)),
            (Ne, vec![Int(2), Int(3)], Bool(true)),
            (And, vec![Bool(true), Bool(false)], Bool(false)),
            (And, vec![Int(26), Int(-8)], Int(24)),
            (Or, vec![Int(24), Int(3)], Int(27)),
            (Or, vec![Int(0), Bool(true)], Bool(true)),
            (Not, vec![Bool(false)], Bool(true)),
            (Trunc, vec![Float(-1.5)], Int(-1)),
            (Floor, vec![Float(-1.5)], Int(-2)),
            (Ceil, vec![Float(1.2)], Int(2)),
            (ToFloat, vec![Int(3)], Float(3.0)),
            (Sqrt, vec![Int(9)], Float(3.0)),
            (Neg, vec![Int(3)], Int(-3)),
            (IfElse, vec![Bool(true), Int(1), Int(2)], Int(1)),
        ] {
            assert_eq!(function.apply(&operands), Ok(expected), "{function:?} {operands:?}");
        }
    }

    #[test]
    fn what_has_no_result_is_an_error() {
        for (function, operands) in [
            (Add, vec![Int(i64::MAX), Int(1)]),
            (Mul, vec![Int(i64::MAX), Int(2)]),
            (FloorDiv, vec![Int(1), Int(0)]),
            (FloorDiv, vec![Int(i64::MIN), Int(-1)]),
            (Mod, vec![Int(1), Int(0)]),
            (TrueDiv, vec![Float(1.0), Float(0.0)]),
            (Pow, vec![Int(10), Int(100)]),
            (Neg, vec![Int(i64::MIN)]),
            (Trunc, vec![Float(1e300)]),
            (Trunc, vec![Float(f64::NAN)]),
            (Sqrt, vec![Int(-1)]),
            (Not, vec![Int(1), Int(2)]),
            (Sub, vec![]),
            (IfElse, vec![Int(1)]),
        ] {
            assert!(function.apply(&operands).is_err(), "{function:?} {operands:?}");
        }
    }
}
