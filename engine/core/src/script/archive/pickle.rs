//! The pickles of a TorchScript file, followed before libtorch follows them: what they say of sizes, strides and
//! places in memory it believes.
//!
//! Knows the opcodes that torch.jit.save writes and builds nothing: of each value it keeps what decides whether
//! libtorch may see it. Opcodes: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>.
use std::ops::Range;
use std::rc::Rc;

/// How deep values may lie within each other: whatever walks them calls itself as often.
const MOST_DEPTH: usize = 1000;

/// That the `pickle` is one that torch.jit.save could have written, and every tensor in it lies within its
/// storage, a record of `size_of` bytes.
///
/// # Errors
/// What is wrong, with the tensor's name or the place in the pickle.
pub(super) fn check(pickle: &[u8], size_of: &dyn Fn(&str) -> Option<u64>) -> Result<(), String> {
    let mut machine = Machine {
        pickle,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        containers: Vec::new(),
        size_of,
    };
    if machine.take(2)? != b"\x80\x02" {
        return Err("this is no pickle of protocol 2".to_owned());
    }
    while machine.step()? {}
    match machine.stack.len() {
        1 if machine.marks.is_empty() => Ok(()),
        left => Err(format!("it ends with {left} values where one is the module")),
    }
}

#[derive(Debug, Clone)]
enum Value {
    /// A number, truth value or nothing.
    Plain,
    Int(i64),
    /// Where it stands in the pickle.
    Text(Range<usize>),
    Tuple(Rc<[Value]>, usize),
    /// A list or dictionary, by number: what is put into it later shows in all its places.
    Container(usize),
    Function(Function),
    /// A type of elements, with the bytes that one takes.
    Element(u64),
    /// So many elements in a record.
    Storage(u64),
    Tensor,
    /// An instance of a class of the script; how deep.
    Object(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Tensor,
    Hooks,
    /// A list that is given its type.
    Typed,
    Complex,
    Device,
    Class,
}

#[derive(Debug)]
struct Container {
    list: bool,
    depth: usize,
    /// It lies in another value, and may not grow any more: it could come to lie in itself.
    used: bool,
}

struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Sizes of the stack where collections begin.
    marks: Vec<usize>,
    memo: Vec<Value>,
    containers: Vec<Container>,
    size_of: &'a dyn Fn(&str) -> Option<u64>,
}

impl Machine<'_> {
    /// Follows one opcode; whether there is another.
    fn step(&mut self) -> Result<bool, String> {
        let place = self.at;
        let opcode = self.byte()?;
        let value = match opcode {
            b'.' => return Ok(false),
            b'N' | 0x88 | 0x89 => Value::Plain,
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            0x8a if self.byte()? == 8 => Value::Int(i64::from_le_bytes(self.array()?)),
            b'G' => self.take(8).map(|_| Value::Plain)?,
            b'X' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                let text = self.at..self.at.saturating_add(length);
                self.take(length)?;
                Value::Text(text)
            }
            b'q' => return self.remember(opcode, 1),
            b'r' => return self.remember(opcode, 4),
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(true);
            }
            b']' => self.container(true),
            b'}' => self.container(false),
            b')' => Value::Tuple(Rc::default(), 1),
            0x85..=0x87 => {
                let elements = self.pop(usize::from(opcode - 0x84))?;
                self.tuple(elements)?
            }
            b't' => {
                let elements = self.since_mark()?;
                self.tuple(elements)?
            }
            b'e' => return self.fill(true),
            b'u' => return self.fill(false),
            b'c' => self.global()?,
            // An instance is made of its class alone here, and is whole once it has its state.
            0x81 => match self.pop(2)?.as_slice() {
                [class @ Value::Function(Function::Class), Value::Tuple(none, _)]
                    if none.is_empty() =>
                {
                    class.clone()
                }
                _ => return Err(self.misplaced(place)),
            },
            b'b' | b'R' => {
                let called = self.pop(2)?;
                match called.as_slice() {
                    [Value::Function(function), argument] if opcode == b'R' => {
                        self.call(*function, argument, place)?
                    }
                    [Value::Function(Function::Class), state] => Value::Object(self.inside(state)?),
                    _ => return Err(self.misplaced(place)),
                }
            }
            b'Q' => {
                let described = self.pop(1)?.remove(0);
                self.storage(&described, place)?
            }
            _ => {
                return Err(format!(
                    "byte {place} is {opcode:#04x}, which torch.jit.save does not write"
                ));
            }
        };
        self.stack.push(value);
        Ok(true)
    }

    fn call(
        &mut self,
        function: Function,
        argument: &Value,
        place: usize,
    ) -> Result<Value, String> {
        let arguments = match argument {
            Value::Tuple(arguments, _) => &**arguments,
            _ => &[],
        };
        match (function, arguments) {
            (Function::Tensor, arguments) => self.tensor(arguments, place),
            (Function::Hooks, []) => Ok(Value::Plain),
            (Function::Typed, [list @ Value::Container(_)]) => Ok(list.clone()),
            (Function::Typed, [list @ Value::Container(_), Value::Text(kind)]) => {
                let deep = self.pickle[kind.clone()].iter().filter(|&&byte| byte == b'[').count();
                self.shallow(deep)?;
                Ok(list.clone())
            }
            (Function::Complex, [_, _]) => Ok(Value::Plain),
            (Function::Device, [Value::Text(_)]) => Ok(Value::Plain),
            (Function::Class, _) => Ok(Value::Object(self.inside(argument)?)),
            _ => Err(self.misplaced(place)),
        }
    }

    /// A storage, described by ("storage", type of elements, record, device, number of elements).
    fn storage(&self, described: &Value, place: usize) -> Result<Value, String> {
        let Value::Tuple(parts, _) = described else { return Err(self.misplaced(place)) };
        let [
            Value::Text(kind),
            Value::Element(bytes),
            Value::Text(record),
            Value::Text(_),
            Value::Int(count),
        ] = &**parts
        else {
            return Err(self.misplaced(place));
        };
        let (kind, record) = (self.text(kind), self.text(record));
        let name = self.name();
        if kind != "storage" {
            return Err(format!(
                "tensor `{name}` lies in a {kind:?}, and a storage is what holds tensors"
            ));
        }
        let count = u64::try_from(*count)
            .map_err(|_| format!("the storage of tensor `{name}` has {count} elements"))?;
        let claimed = count.checked_mul(*bytes);
        match (self.size_of)(&record) {
            Some(size) if claimed.is_some_and(|claimed| claimed <= size) => {
                Ok(Value::Storage(count))
            }
            None if count == 0 => Ok(Value::Storage(0)),
            Some(size) => Err(format!(
                "the storage of tensor `{name}` claims {count} elements of {bytes} bytes, and record {record:?} \
                 has {size} bytes"
            )),
            None => Err(format!("tensor `{name}` lies in record {record:?}, which is not there")),
        }
    }

    /// A tensor of (storage, offset, sizes, strides, whether it has a gradient, hooks).
    fn tensor(&self, arguments: &[Value], place: usize) -> Result<Value, String> {
        let [
            Value::Storage(elements),
            Value::Int(offset),
            Value::Tuple(sizes, _),
            Value::Tuple(strides, _),
            Value::Plain,
            Value::Plain,
        ] = arguments
        else {
            return Err(match arguments.len() {
                7 => format!(
                    "tensor `{}` is a conjugate or negative of another, which cannot be trained",
                    self.name()
                ),
                _ => self.misplaced(place),
            });
        };
        let numbers = |values: &[Value]| {
            let number = |value: &Value| match value {
                Value::Int(number) => u64::try_from(*number).ok(),
                _ => None,
            };
            values.iter().map(number).collect::<Option<Vec<_>>>()
        };
        let fits = || {
            let (sizes, strides) = (numbers(sizes)?, numbers(strides)?);
            let offset = u64::try_from(*offset).ok()?;
            // Sizes beside a zero count as well: they are multiplied before the zero is met.
            let mut filled = sizes.iter().filter(|&&size| size > 0);
            let most = filled.try_fold(1u64, |most, &size| most.checked_mul(size))?;
            let last = sizes.iter().zip(&strides).try_fold(0u64, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            })?;
            let needed = match sizes.contains(&0) {
                true => offset,
                false => offset.checked_add(last)?.checked_add(1)?,
            };
            let small = i64::try_from(most).is_ok() && i64::try_from(last).is_ok();
            (sizes.len() == strides.len() && small && needed <= *elements).then_some(())
        };
        let shown = |values: &[Value]| {
            let number = |value: &Value| match value {
                Value::Int(number) => number.to_string(),
                _ => "?".to_owned(),
            };
            values.iter().take(8).map(number).collect::<Vec<_>>().join(", ")
        };
        fits().map(|()| Value::Tensor).ok_or_else(|| {
            format!(
                "tensor `{}` of sizes [{}] and strides [{}] from element {offset} on reaches beyond its storage of \
                 {elements} elements",
                self.name(),
                shown(sizes),
                shown(strides)
            )
        })
    }

    /// What a name of Python's stands for.
    fn global(&mut self) -> Result<Value, String> {
        let (module, name) = (self.line()?, self.line()?);
        let function = match (&*module, &*name) {
            ("torch._utils", "_rebuild_tensor_v2") => Function::Tensor,
            ("collections", "OrderedDict") => Function::Hooks,
            (
                "torch.jit._pickle",
                "build_intlist" | "build_tensorlist" | "build_doublelist" | "build_boollist"
                | "restore_type_tag",
            ) => Function::Typed,
            ("builtins", "complex") => Function::Complex,
            ("torch", "device") => Function::Device,
            ("torch._utils", "_rebuild_qtensor" | "_rebuild_sparse_tensor") => {
                return Err(format!(
                    "tensor `{}` is quantized or sparse, and only dense ones are trained",
                    self.name()
                ));
            }
            ("torch", kind) => {
                let bytes = kind.strip_suffix("Storage").and_then(bytes_of);
                return bytes.map(Value::Element).ok_or_else(|| {
                    format!(
                        "tensor `{}` is of type torch.{kind}, which cannot be trained",
                        self.name()
                    )
                });
            }
            (module, _) if super::code::is_foreign(module) => {
                return Err(format!(
                    "`{}` is a {module}.{name}, which libtorch makes and no script: it may reach out of the model",
                    self.name()
                ));
            }
            (module, _) if module.split('.').next() == Some("__torch__") => Function::Class,
            _ => {
                return Err(format!(
                    "it asks for Python's {module}.{name}, and a script has only what it brings"
                ));
            }
        };
        Ok(Value::Function(function))
    }

    /// Fills the list or dictionary below the last mark with what is above it.
    fn fill(&mut self, list: bool) -> Result<bool, String> {
        let place = self.at - 1;
        let items = self.since_mark()?;
        let inner = self.deepest(&items)?;
        let floor = self.marks.last().copied().unwrap_or(0);
        let Some(Value::Container(number)) = self.stack[floor..].last() else {
            return Err(self.misplaced(place));
        };
        let container = &mut self.containers[*number];
        if container.list != list || container.used || !list && items.len() % 2 == 1 {
            return Err(self.misplaced(place));
        }
        container.depth = container.depth.max(inner + 1);
        let depth = container.depth;
        self.shallow(depth).map(|()| true)
    }

    fn container(&mut self, list: bool) -> Value {
        self.containers.push(Container { list, depth: 1, used: false });
        Value::Container(self.containers.len() - 1)
    }

    fn tuple(&mut self, elements: Vec<Value>) -> Result<Value, String> {
        let depth = self.deepest(&elements)? + 1;
        self.shallow(depth)?;
        Ok(Value::Tuple(elements.into(), depth))
    }

    /// The depth of what has `inner` in it.
    fn inside(&mut self, inner: &Value) -> Result<usize, String> {
        let depth = self.deepest(std::slice::from_ref(inner))? + 1;
        self.shallow(depth).map(|()| depth)
    }

    /// The greatest depth of these, which come to lie in another value.
    fn deepest(&mut self, values: &[Value]) -> Result<usize, String> {
        let mut deepest = 0;
        for value in values {
            let depth = match value {
                Value::Tuple(_, depth) | Value::Object(depth) => *depth,
                Value::Container(number) => {
                    self.containers[*number].used = true;
                    self.containers[*number].depth
                }
                _ => 0,
            };
            deepest = deepest.max(depth);
        }
        Ok(deepest)
    }

    fn shallow(&self, depth: usize) -> Result<(), String> {
        match depth <= MOST_DEPTH {
            true => Ok(()),
            false => Err(format!(
                "`{}` has values more than {MOST_DEPTH} deep within each other",
                self.name()
            )),
        }
    }

    fn remember(&mut self, opcode: u8, width: usize) -> Result<bool, String> {
        let place = self.at - 1;
        let number = self.number(width)?;
        let value = match self.stack.last() {
            // libtorch makes room for as many as the number says.
            Some(value) if number <= self.memo.len() => value.clone(),
            _ => {
                return Err(format!(
                    "byte {place} ({opcode:#04x}) remembers nothing, or out of order"
                ));
            }
        };
        match self.memo.get_mut(number) {
            Some(known) => *known = value,
            None => self.memo.push(value),
        }
        Ok(true)
    }

    fn recall(&mut self, width: usize) -> Result<Value, String> {
        let number = self.number(width)?;
        let known = self.memo.get(number).cloned();
        known.ok_or_else(|| format!("it recalls value {number} of {}", self.memo.len()))
    }

    /// The last values, in order, none from below a mark.
    fn pop(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() - floor >= count {
            true => Ok(self.stack.split_off(self.stack.len() - count)),
            false => Err(self.misplaced(self.at - 1)),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or_else(|| self.misplaced(self.at - 1))?;
        Ok(self.stack.split_off(mark))
    }

    /// The dotted name of what is being read: the keys of the dictionaries that it comes to lie in.
    fn name(&self) -> String {
        let ends = self.marks.iter().skip(1).copied().chain([self.stack.len()]);
        let keys = self.marks.iter().zip(ends).filter_map(|(&mark, end)| {
            self.stack[mark..end].iter().rev().find_map(|value| match value {
                Value::Text(text) => Some(self.text(text)),
                _ => None,
            })
        });
        let keys: Vec<_> = keys.collect();
        keys.join(".")
    }

    fn text(&self, text: &Range<usize>) -> String {
        String::from_utf8_lossy(&self.pickle[text.clone()]).chars().take(200).collect()
    }

    fn misplaced(&self, place: usize) -> String {
        let opcode = self.pickle.get(place).copied().unwrap_or_default();
        format!("byte {place} ({opcode:#04x}) stands where torch.jit.save does not write it")
    }

    fn number(&mut self, width: usize) -> Result<usize, String> {
        match width {
            1 => Ok(self.byte()?.into()),
            _ => Ok(u32::from_le_bytes(self.array()?) as usize),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.pickle[self.at..];
        let length = rest.iter().take(1000).position(|&byte| byte == b'\n');
        let length =
            length.ok_or_else(|| format!("byte {} begins a name that does not end", self.at))?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|index| bytes[index]))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let rest = &self.pickle[self.at..];
        let taken = rest
            .get(..count)
            .ok_or_else(|| format!("it is cut off after {} bytes", self.pickle.len()))?;
        self.at += count;
        Ok(taken)
    }
}

/// Bytes of an element, by the name of Python's storage.
fn bytes_of(storage: &str) -> Option<u64> {
    Some(match storage {
        "Char" | "Byte" | "Bool" => 1,
        "Half" | "BFloat16" | "Short" => 2,
        "Float" | "Int" | "ComplexHalf" => 4,
        "Double" | "Long" | "ComplexFloat" => 8,
        "ComplexDouble" => 16,
        _ => return None,
    })
}
