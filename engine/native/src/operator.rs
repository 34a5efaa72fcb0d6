//! libtorch's operators by name, called as their schemas describe them.
use crate::error::{Error, Result, check};
use crate::ffi;
use crate::store::text;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use tch::Tensor;
use torch_sys::C_tensor;

/// What an operator takes or returns.
#[derive(Debug)]
pub enum Value {
    /// Nothing.
    None,
    /// One tensor.
    Tensor(Tensor),
    /// Several, of which some may be missing.
    Tensors(Vec<Option<Tensor>>),
    /// A whole number; also a type of numbers, a layout, a memory format by libtorch's own number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A real number.
    Float(f64),
    /// Real numbers.
    Floats(Vec<f64>),
    /// True or false.
    Bool(bool),
    /// Several of these.
    Bools(Vec<bool>),
    /// A text; also a device.
    Text(String),
}

impl Value {
    /// The same value, tensors with the same memory.
    pub fn shared(&self) -> Self {
        match self {
            Value::None => Value::None,
            Value::Tensor(tensor) => Value::Tensor(tensor.shallow_clone()),
            Value::Tensors(tensors) => {
                let shared = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
                Value::Tensors(tensors.iter().map(shared).collect())
            }
            Value::Int(number) => Value::Int(*number),
            Value::Ints(numbers) => Value::Ints(numbers.clone()),
            Value::Float(number) => Value::Float(*number),
            Value::Floats(numbers) => Value::Floats(numbers.clone()),
            Value::Bool(truth) => Value::Bool(*truth),
            Value::Bools(truths) => Value::Bools(truths.clone()),
            Value::Text(text) => Value::Text(text.clone()),
        }
    }
}

/// An argument of an operator, or what it returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name; empty for most of what is returned.
    pub name: String,
    /// Its type as schemas write it: `Tensor`, `Optional[int]`, `List[bool]`.
    pub kind: String,
    /// It has a default.
    pub optional: bool,
    /// The operator writes to it.
    pub written: bool,
    /// What may have the same memory has one of these names too.
    pub sets: Vec<String>,
}

/// What an operator takes and returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// In order.
    pub arguments: Vec<Parameter>,
    /// In order.
    pub results: Vec<Parameter>,
    /// It draws random numbers.
    pub random: bool,
}

/// An operator of libtorch's.
#[derive(Debug, Clone)]
pub struct Operator(Arc<Handle>);

#[derive(Debug)]
struct Handle(*mut c_void);

// SAFETY: what is behind the pointer points into libtorch's table of operators, which all threads may read.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by the shim, released once.
        unsafe { ffi::ty_operator_free(self.0) }
    }
}

impl Operator {
    /// The operator `name`, as `aten::add`, with the overload, as `Tensor` or nothing; none if libtorch has no such one.
    ///
    /// # Errors
    /// A name holds a NUL.
    pub fn find(name: &str, overload: &str) -> Result<Option<Self>> {
        let (name, overload) = (text(name)?, text(overload)?);
        let mut out = null_mut();
        // SAFETY: texts that end with NUL and outlive the call; `out` is written on success.
        check(unsafe { ffi::ty_operator_find(&mut out, name.as_ptr(), overload.as_ptr()) })?;
        Ok((!out.is_null()).then(|| Operator(Arc::new(Handle(out)))))
    }

    /// What it takes and returns.
    ///
    /// # Errors
    /// None known.
    pub fn signature(&self) -> Result<Signature> {
        let mut found = Signature::default();
        let mut random = false;
        // SAFETY: a live operator; `parameter` gets the `found` that outlives the call.
        check(unsafe {
            let context = (&raw mut found).cast();
            ffi::ty_operator_describe(self.0.0, &mut random, parameter, context)
        })?;
        found.random = random;
        Ok(found)
    }

    /// A call of it. `values`: for each argument its value; none for one that each run gives. An argument that is left
    /// out has its default.
    ///
    /// # Errors
    /// A value is not of the argument's type, or missing where there is no default.
    pub fn call(&self, values: &[Given]) -> Result<Call> {
        let mut raw = Raw::default();
        let list: Vec<_> = values
            .iter()
            .map(|value| match value {
                Given::Value(value) => raw.of(value),
                Given::Default | Given::Later => ffi::Value::default(),
            })
            .collect();
        let later: Vec<_> = values.iter().map(|value| matches!(value, Given::Later)).collect();
        let mut out = null_mut();
        // SAFETY: a live operator, two lists of one length whose items point to what `values` and `raw` keep.
        check(unsafe {
            ffi::ty_operator_fill(&mut out, self.0.0, list.as_ptr(), later.as_ptr(), list.len())
        })?;
        Ok(Call(out))
    }
}

/// What an argument of a [`Call`] gets.
#[derive(Debug)]
pub enum Given {
    /// What the schema says.
    Default,
    /// This, in each run.
    Value(Value),
    /// What each run says.
    Later,
}

/// An operator with what is known of its arguments.
#[derive(Debug)]
pub struct Call(*mut c_void);

// SAFETY: what is behind the pointer is not tied to a thread; runs only read it.
unsafe impl Send for Call {}
// SAFETY: as above.
unsafe impl Sync for Call {}

impl Call {
    /// Runs the operator, with values for the arguments at these places. It may write to tensors among them.
    ///
    /// # Errors
    /// A value is not of the argument's type; the operator's own.
    pub fn run(&self, later: &[(usize, Value)]) -> Result<Vec<Value>> {
        let mut raw = Raw::default();
        let places: Vec<_> = later.iter().map(|(place, _)| *place).collect();
        let values: Vec<_> = later.iter().map(|(_, value)| raw.of(value)).collect();
        let mut found: Vec<Value> = Vec::new();
        // SAFETY: a live call, two lists of one length whose items point to what `later` and `raw` keep; `result`
        // gets the `found` that outlives the call.
        check(unsafe {
            let context = (&raw mut found).cast();
            let (places, values) = (places.as_ptr(), values.as_ptr());
            ffi::ty_call_run(self.0, places, values, later.len(), result, context)
        })
        .map_err(first_line)?;
        Ok(found)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: made by the shim, released once.
        unsafe { ffi::ty_call_free(self.0) }
    }
}

/// What values look like on the other side, with the lists that these point to.
#[derive(Default)]
struct Raw(Vec<Vec<ffi::Handle>>);

impl Raw {
    /// Valid while `value` and `self` are.
    fn of(&mut self, value: &Value) -> ffi::Value {
        let plain =
            |kind, whole: i64, real: f64| ffi::Value { kind, count: 0, whole, real, items: null() };
        let list = |kind, count, items: *const c_void| ffi::Value {
            kind,
            count,
            whole: 0,
            real: 0.0,
            items,
        };
        match value {
            Value::None => plain(NONE, 0, 0.0),
            Value::Tensor(tensor) => list(TENSOR, 1, tensor.as_ptr().cast()),
            Value::Tensors(tensors) => {
                self.0.push(tensors.iter().map(|tensor| ffi::handle(tensor.as_ref())).collect());
                let items = self.0.last().map_or(null(), |items| items.as_ptr().cast());
                list(TENSORS, tensors.len(), items)
            }
            Value::Int(number) => plain(INT, *number, 0.0),
            Value::Ints(numbers) => list(INTS, numbers.len(), numbers.as_ptr().cast()),
            Value::Float(number) => plain(FLOAT, 0, *number),
            Value::Floats(numbers) => list(FLOATS, numbers.len(), numbers.as_ptr().cast()),
            Value::Bool(truth) => plain(BOOL, i64::from(*truth), 0.0),
            Value::Bools(truths) => list(BOOLS, truths.len(), truths.as_ptr().cast()),
            Value::Text(text) => list(TEXT, text.len(), text.as_ptr().cast()),
        }
    }
}

/// The shim's `TyKind`, in order; 0 is a default.
const NONE: c_int = 1;
const TENSOR: c_int = 2;
const TENSORS: c_int = 3;
const INT: c_int = 4;
const INTS: c_int = 5;
const FLOAT: c_int = 6;
const FLOATS: c_int = 7;
const BOOL: c_int = 8;
const BOOLS: c_int = 9;
const TEXT: c_int = 10;

extern "C" fn parameter(context: *mut c_void, given: *const ffi::Parameter) {
    // SAFETY: the shim hands back what `signature` gave it, and a parameter that lives during this call.
    let (found, given) = unsafe { (&mut *context.cast::<Signature>(), &*given) };
    let sets = read(given.sets);
    let made = Parameter {
        name: read(given.name),
        kind: read(given.r#type),
        optional: given.optional,
        written: given.written,
        sets: sets.split_whitespace().map(str::to_owned).collect(),
    };
    if given.result { found.results.push(made) } else { found.arguments.push(made) }
}

extern "C" fn result(context: *mut c_void, given: *const ffi::Value) {
    // SAFETY: the shim hands back what `run` gave it, and a value that lives during this call.
    let (found, given) = unsafe { (&mut *context.cast::<Vec<Value>>(), &*given) };
    let own = |tensor: *mut c_void| ffi::take(tensor.cast::<C_tensor>());
    found.push(match given.kind {
        TENSOR => Value::Tensor(own(given.items.cast_mut())),
        TENSORS if given.count > 0 => {
            // SAFETY: the shim gives so many tensors at `items`.
            let items = unsafe {
                std::slice::from_raw_parts(given.items.cast::<*mut c_void>(), given.count)
            };
            Value::Tensors(items.iter().map(|item| Some(own(*item))).collect())
        }
        TENSORS => Value::Tensors(Vec::new()),
        INT => Value::Int(given.whole),
        FLOAT => Value::Float(given.real),
        BOOL => Value::Bool(given.whole != 0),
        _ => Value::None,
    });
}

fn read(text: *const c_char) -> String {
    // SAFETY: the callbacks above are given texts that end with NUL and live during the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Some operators tell where in libtorch they stand on the lines that follow.
fn first_line(error: Error) -> Error {
    Error(error.0.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn found(name: &str, overload: &str) -> Operator {
        Operator::find(name, overload).unwrap().expect("libtorch has it")
    }

    fn tensor(value: &Value) -> &Tensor {
        match value {
            Value::Tensor(tensor) => tensor,
            other => panic!("{other:?} is no tensor"),
        }
    }

    #[test]
    fn a_schema_tells_defaults_writes_and_what_shares_memory() {
        let add = found("aten::add_", "Tensor").signature().unwrap();
        let names: Vec<_> =
            add.arguments.iter().map(|a| (&*a.name, a.optional, a.written)).collect();
        assert_eq!(names, [("self", false, true), ("other", false, false), ("alpha", true, false)]);
        assert!(!add.random && add.arguments[0].sets == add.results[0].sets);
        assert_eq!(add.arguments[0].sets.len(), 1);
        let unbind = found("aten::unbind", "int").signature().unwrap();
        assert!(unbind.results[0].sets.iter().all(|set| unbind.arguments[0].sets.contains(set)));
        assert!(!unbind.results[0].sets.is_empty());
        assert!(found("aten::bernoulli_", "float").signature().unwrap().random);
        assert!(Operator::find("aten::no_such_operator", "").unwrap().is_none());
    }

    /// Every kind of value, as constant and with the run.
    #[test]
    fn values_arrive_as_the_schema_has_them() {
        let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let with = |op: &Operator, values: Vec<Given>, later: Vec<(usize, Value)>| {
            op.call(&values).and_then(|call| call.run(&later))
        };
        let own = || Value::Tensor(x.shallow_clone());
        let add = found("aten::add", "Tensor");
        // A number for a tensor decides about no type.
        let made = with(
            &add,
            vec![Given::Later, Given::Value(Value::Float(0.5)), Given::Default],
            vec![(0, own())],
        )
        .unwrap();
        assert_eq!(tensor(&made[0]), &(&x + 0.5));
        assert_eq!(tensor(&made[0]).kind(), Kind::Float);
        let sum = found("aten::sum", "dim_IntList");
        let values = vec![
            Given::Later,
            Given::Value(Value::Ints(vec![1])),
            Given::Value(Value::Bool(true)),
            Given::Default,
        ];
        let made = with(&sum, values, vec![(0, own())]).unwrap();
        assert_eq!(tensor(&made[0]).size(), [2, 1]);
        let cat = found("aten::cat", "");
        let both = Value::Tensors(vec![Some(x.shallow_clone()), Some(x.shallow_clone())]);
        let made = with(&cat, vec![Given::Later, Given::Default], vec![(0, both)]).unwrap();
        assert_eq!(tensor(&made[0]).size(), [4, 2]);
        let index = found("aten::index", "Tensor");
        let at = Value::Tensors(vec![None, Some(Tensor::from_slice(&[1i64]))]);
        let made =
            with(&index, vec![Given::Later, Given::Later], vec![(0, own()), (1, at)]).unwrap();
        assert_eq!(tensor(&made[0]), &Tensor::from_slice(&[2f32, 4.0]).view([2, 1]));
        let size = found("aten::sym_size", "int");
        let made =
            with(&size, vec![Given::Later, Given::Later], vec![(0, own()), (1, Value::Int(1))]);
        assert!(matches!(made.unwrap()[..], [Value::Int(2)]));
        let split = found("aten::split", "Tensor");
        let made = with(
            &split,
            vec![Given::Later, Given::Value(Value::Int(1)), Given::Default],
            vec![(0, own())],
        );
        assert!(matches!(&made.unwrap()[..], [Value::Tensors(parts)] if parts.len() == 2));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let add = found("aten::add", "Tensor");
        let error = |values: Vec<Given>| add.call(&values).unwrap_err().0;
        let text = || Given::Value(Value::Text("x".to_owned()));
        assert_eq!(
            error(vec![Given::Later, text(), Given::Default]),
            "`other` is Tensor, and a text was given"
        );
        assert_eq!(
            error(vec![Given::Later, Given::Default, Given::Default]),
            "`other` (Tensor) is missing"
        );
        assert_eq!(error(vec![Given::Later]), "an operator of 3 arguments was given 1");
        let call = add.call(&[Given::Later, Given::Later, Given::Default]).unwrap();
        let (x, y) =
            (Tensor::zeros([2], tch::kind::FLOAT_CPU), Tensor::zeros([3], tch::kind::FLOAT_CPU));
        let error = call.run(&[(0, Value::Tensor(x)), (1, Value::Tensor(y))]).unwrap_err();
        assert!(error.0.starts_with("The size of tensor a (2) must match"), "{error}");
    }

    #[test]
    fn calls_record_what_a_backward_pass_needs() {
        let w = Tensor::from_slice(&[3f32]).set_requires_grad(true);
        let square = found("aten::mul", "Tensor").call(&[Given::Later, Given::Later]).unwrap();
        let made = square
            .run(&[(0, Value::Tensor(w.shallow_clone())), (1, Value::Tensor(w.shallow_clone()))])
            .unwrap();
        tensor(&made[0]).backward();
        assert_eq!(w.grad(), Tensor::from_slice(&[6f32]));
    }
}
