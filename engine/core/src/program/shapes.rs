//! What the inputs of a program have to be like: types, sizes, and the conditions under which its graph is the model's.
use super::expression::{Expression, Sizes};
use super::kinds;
use super::numbers::Number;
use super::schema::{ExportedProgram, Range, Size};
use crate::script::numpy;
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// The least size of a dynamic dimension that PyTorch writes down where it was told nothing. It says that sizes of 0 and 1
/// were not looked at, and binds nobody: a graph that differs for them has a condition of its own.
const LEAST: i64 = 2;

/// What is held against each batch.
#[derive(Debug)]
pub struct Shapes {
    inputs: Vec<Input>,
    ranges: Vec<(String, Range)>,
    /// As they were written, and parsed.
    conditions: Vec<(String, Expression)>,
}

#[derive(Debug)]
struct Input {
    name: String,
    kind: Kind,
    sizes: Vec<Expression>,
}

impl Shapes {
    /// Of the program's inputs `names`, in order.
    ///
    /// # Errors
    /// A type, a size or a condition is not known here.
    pub fn of(program: &ExportedProgram, names: &[String]) -> Result<Self, String> {
        let values = &program.graph_module.graph.tensor_values;
        let input = |name: &String| {
            let meta =
                values.get(name).ok_or_else(|| format!("nothing is said of input `{name}`"))?;
            let kind = kinds::kind(meta.dtype).ok_or_else(|| {
                format!("input `{name}` is of type {} of the schema, which is not read", meta.dtype)
            })?;
            let size = |size: &Size| match size {
                Size::AsInt(size) => Ok(Expression::Number(Number::Int(*size))),
                Size::AsExpr(size) => Expression::parse(&size.expr_str).map_err(|error| {
                    let text = beginning(&size.expr_str);
                    format!("size {text:?} of input `{name}` cannot be checked: {error}")
                }),
            };
            let sizes = meta.sizes.iter().map(size).collect::<Result<_, _>>()?;
            Ok(Input { name: name.clone(), kind, sizes })
        };
        let inputs = names.iter().map(input).collect::<Result<Vec<_>, String>>()?;
        let condition = |text: &String| {
            let at = |error: String| {
                let text = beginning(text);
                format!("the program holds only where {text}, which cannot be checked: {error}")
            };
            let parsed = Expression::parse(text).map_err(at)?;
            for (of, axis) in parsed.inputs() {
                let known = inputs.iter().find(|input| input.name == of);
                if known.is_none_or(|input| axis >= input.sizes.len()) {
                    return Err(at(format!("no input has {of}.size({axis})")));
                }
            }
            Ok((text.clone(), parsed))
        };
        let conditions = program.guards_code.iter().map(condition).collect::<Result<_, _>>()?;
        let ranges = program.range_constraints.iter().map(|(name, range)| (name.clone(), *range));
        Ok(Shapes { ranges: ranges.collect(), conditions, inputs })
    }

    /// Dynamic dimensions, in words: `ids [s43, 12]`.
    pub fn lines(&self) -> Vec<String> {
        let line = |input: &Input| format!("{} {}", input.name, shown(&input.sizes));
        self.inputs.iter().map(line).collect()
    }

    /// Checks a batch, `tensors` in the order of the inputs.
    ///
    /// # Errors
    /// The input, its size and what would be right.
    pub fn check(&self, tensors: &[&Tensor]) -> Result<(), String> {
        let sizes: Vec<_> = tensors.iter().map(|tensor| tensor.size()).collect();
        let mut found = Found { shapes: self, sizes: &sizes, symbols: HashMap::new() };
        for (input, tensor) in self.inputs.iter().zip(tensors) {
            if tensor.kind() != input.kind {
                let (name, kind) = (&input.name, numpy(input.kind));
                return Err(format!(
                    "input `{name}` is {}, and the program was exported for {kind}: save the data as {kind} \
                     (`{name}.astype(\"{kind}\")` in numpy)",
                    numpy(tensor.kind())
                ));
            }
        }
        // First what names a size, then what is computed from it.
        for (input, given) in self.inputs.iter().zip(&sizes) {
            if input.sizes.len() != given.len() {
                return Err(self.differs(input, given));
            }
            for (axis, (size, &given_size)) in input.sizes.iter().zip(given).enumerate() {
                let Expression::Symbol(name) = size else { continue };
                match found.symbols.insert(name.clone(), (given_size, &input.name, axis)) {
                    Some((other, of, at)) if other != given_size => {
                        return Err(format!(
                            "input `{}` is {given_size} along axis {axis} and `{of}` is {other} along axis {at}, which the \
                             program has as one size, {name}",
                            input.name
                        ));
                    }
                    _ => {}
                }
            }
        }
        for (input, given) in self.inputs.iter().zip(&sizes) {
            for (size, &given_size) in input.sizes.iter().zip(given) {
                if size.value(&found)? != Number::Int(given_size) {
                    return Err(self.differs(input, given));
                }
            }
        }
        for (name, range) in &self.ranges {
            let Some(&(size, input, axis)) = found.symbols.get(name) else { continue };
            let least = range.min_val.filter(|least| *least > LEAST);
            if least.is_some_and(|least| size < least)
                || range.max_val.is_some_and(|most| size > most)
            {
                let bound = |bound: Option<i64>| bound.map_or("any".to_owned(), |b| b.to_string());
                return Err(format!(
                    "input `{input}` is {size} along axis {axis}, and the program was exported for {} to {}",
                    bound(least.or(Some(1))),
                    bound(range.max_val)
                ));
            }
        }
        for (text, condition) in &self.conditions {
            if !condition.value(&found)?.truth() {
                let mut sizes: Vec<_> = condition
                    .inputs()
                    .into_iter()
                    .filter_map(|(input, axis)| {
                        Some(format!("`{input}` is {} along axis {axis}", found.size(input, axis)?))
                    })
                    .collect();
                sizes.dedup();
                return Err(format!(
                    "the program holds only where {condition}, and {}: export it for such sizes ({text})",
                    sizes.join(", ")
                ));
            }
        }
        Ok(())
    }

    fn differs(&self, input: &Input, given: &[i64]) -> String {
        format!(
            "input `{}` is of size {given:?}, and the program was exported for {}: a size that is to differ has to be dynamic \
             (dynamic_shapes) when it is exported",
            input.name,
            shown(&input.sizes)
        )
    }
}

/// As much of a condition as one reads.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn shown(sizes: &[Expression]) -> String {
    let sizes: Vec<_> = sizes.iter().map(Expression::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// The sizes of a batch.
struct Found<'a> {
    shapes: &'a Shapes,
    sizes: &'a [Vec<i64>],
    /// With the input and the axis that have them.
    symbols: HashMap<String, (i64, &'a str, usize)>,
}

impl Sizes for Found<'_> {
    fn symbol(&self, name: &str) -> Option<i64> {
        self.symbols.get(name).map(|(size, ..)| *size)
    }

    fn size(&self, input: &str, axis: usize) -> Option<i64> {
        let at = self.shapes.inputs.iter().position(|known| known.name == input)?;
        self.sizes.get(at)?.get(axis).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tch::Device;

    fn symbol(name: &str) -> Value {
        json!({ "as_expr": { "expr_str": format!("Symbol('{name}', positive=True, integer=True)") } })
    }

    fn meta(dtype: u32, sizes: &[Value]) -> Value {
        let zero = json!({ "as_int": 0 });
        json!({ "dtype": dtype, "sizes": sizes, "strides": [], "storage_offset": zero, "layout": 7 })
    }

    fn shapes(guards: &[&str], range: Value) -> Result<Shapes, String> {
        let twice = json!({ "as_expr": { "expr_str": "Mul(Integer(2), Symbol('s1', positive=True, integer=True))" } });
        let program = json!({
            "graph_module": {
                "graph": {
                    "inputs": [], "outputs": [], "nodes": [],
                    "tensor_values": {
                        "ids": meta(5, &[symbol("s1"), json!({ "as_int": 4 })]),
                        "y": meta(7, &[symbol("s2")]),
                        "z": meta(7, &[twice]),
                    },
                },
                "signature": { "input_specs": [], "output_specs": [] },
            },
            "range_constraints": { "s1": range },
            "guards_code": guards,
        });
        let program: ExportedProgram = serde_json::from_value(program).expect("a program");
        Shapes::of(&program, &["ids", "y", "z"].map(str::to_owned))
    }

    /// What is said of inputs of these sizes.
    fn said(shapes: &Shapes, ids: &[i64], y: i64, z: i64) -> String {
        let of = |size: &[i64], kind| Tensor::zeros(size, (kind, Device::Cpu));
        let (ids, y, z) = (of(ids, Kind::Int64), of(&[y], Kind::Float), of(&[z], Kind::Float));
        shapes.check(&[&ids, &y, &z]).err().unwrap_or_else(|| "fine".to_owned())
    }

    #[test]
    fn batches_are_held_against_sizes_ranges_and_conditions() {
        let shapes = shapes(
            &["L['ids'].size()[0] == L['y'].size()[0]", "L['y'].size()[0] % 2 != 1 or True"],
            json!({ "min_val": 2, "max_val": 8 }),
        )
        .unwrap();
        assert_eq!(said(&shapes, &[3, 4], 3, 6), "fine");
        assert_eq!(said(&shapes, &[1, 4], 1, 2), "fine", "a range that begins at 2 binds nobody");
        assert_eq!(
            said(&shapes, &[9, 4], 9, 18),
            "input `ids` is 9 along axis 0, and the program was exported for 1 to 8"
        );
        assert_eq!(
            said(&shapes, &[3, 4], 5, 6),
            "the program holds only where ids.size(0) == y.size(0), and `ids` is 3 along axis 0, `y` is 5 along axis \
             0: export it for such sizes (L['ids'].size()[0] == L['y'].size()[0])"
        );
        for (ids, z) in [(&[3, 5][..], 6), (&[3], 6), (&[3, 4], 7)] {
            let said = said(&shapes, ids, 3, z);
            assert!(said.contains("has to be dynamic (dynamic_shapes)"), "{ids:?}: {said}");
        }
        let x = Tensor::zeros([3, 4], (Kind::Float, Device::Cpu));
        let error = shapes.check(&[&x, &x, &x]).unwrap_err();
        assert_eq!(
            error,
            "input `ids` is float32, and the program was exported for int64: save the data as int64 (`ids.astype(\"int64\")` in numpy)"
        );
    }

    #[test]
    fn ranges_that_begin_later_bind() {
        let shapes = shapes(&[], json!({ "min_val": 3, "max_val": null })).unwrap();
        assert_eq!(said(&shapes, &[3, 4], 3, 6), "fine");
        assert_eq!(
            said(&shapes, &[2, 4], 2, 4),
            "input `ids` is 2 along axis 0, and the program was exported for 3 to any"
        );
    }

    #[test]
    fn conditions_that_cannot_be_checked_are_refused() {
        for (guard, expected) in [
            ("L['ids'].stride()[0] == 1", "`()[0] == 1` is not known here"),
            ("L['w'].size()[0] == 1", "no input has w.size(0)"),
            ("L['y'].size()[1] == 1", "no input has y.size(1)"),
        ] {
            let error = shapes(&[guard], json!({ "min_val": 2, "max_val": null })).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "the program holds only where {guard}, which cannot be checked: {expected}"
                )
            );
        }
    }
}
