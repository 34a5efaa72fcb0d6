//! Running the steps of a program.
use super::numbers::Number;
use super::steps::{Action, Bind, Call, Check, Feed, Operand, Scope, Slot, Step};
use tch::{Device, Tensor};
use trainyard_native::{self as native, Value};

/// One forward: its values, and in which mode it runs.
pub struct Forward {
    pub values: Vec<Value>,
    pub train: bool,
    pub device: Device,
}

impl Forward {
    /// Runs steps, in order.
    ///
    /// # Errors
    /// The node that failed, and what it said.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            match &step.action {
                Action::Call(call) => self.call(call).map_err(|error| at(step, &error))?,
                Action::Compute { function, operands, result } => {
                    let operands: Result<Vec<_>, _> =
                        operands.iter().map(|operand| self.number(*operand)).collect();
                    let made = operands.and_then(|operands| function.apply(&operands));
                    self.values[*result] = made.map_err(|error| at(step, &error))?.into();
                }
                Action::Check(check) => self.check(check).map_err(|error| at(step, &error))?,
                Action::Within { scope, steps } => self.within(*scope, steps)?,
            }
            for slot in &step.free {
                self.values[*slot] = Value::None;
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        let operator = match (&call.evaluating, self.train) {
            (Some(evaluating), false) => evaluating,
            _ => &call.training,
        };
        let mut later = Vec::with_capacity(call.feeds.len());
        for (place, feed) in &call.feeds {
            later.push((*place, self.fed(feed)?));
        }
        let results = operator.run(&later).map_err(|error| error.0)?;
        for (bind, result) in call.results.iter().zip(results) {
            match (bind, result) {
                (Bind::Nowhere, _) => {}
                (Bind::Slot(slot), result) => self.values[*slot] = result,
                (Bind::Slots(slots), Value::Tensors(tensors)) if slots.len() == tensors.len() => {
                    for (slot, tensor) in slots.iter().zip(tensors) {
                        self.values[*slot] = tensor.map_or(Value::None, Value::Tensor);
                    }
                }
                (Bind::Slots(slots), Value::Tensors(tensors)) => {
                    return Err(format!(
                        "it made {} tensors, and the program takes {}: a size was not dynamic when it was exported",
                        tensors.len(),
                        slots.len()
                    ));
                }
                (Bind::Slots(_), _) => return Err("it made no list of tensors".to_owned()),
            }
        }
        Ok(())
    }

    fn fed(&self, feed: &Feed) -> Result<Value, String> {
        let whole = |operand: &Operand| match self.number(*operand)? {
            Number::Int(number) => Ok(number),
            other => Err(format!("a size is {other}")),
        };
        Ok(match feed {
            Feed::Slot(slot) => self.values[*slot].shared(),
            Feed::Ints(all) => Value::Ints(all.iter().map(whole).collect::<Result<_, String>>()?),
            Feed::Floats(all) => {
                let real = |operand: &Operand| self.number(*operand).map(Number::real);
                Value::Floats(all.iter().map(real).collect::<Result<_, _>>()?)
            }
            Feed::Bools(all) => {
                let truth = |operand: &Operand| self.number(*operand).map(Number::truth);
                Value::Bools(all.iter().map(truth).collect::<Result<_, _>>()?)
            }
            Feed::Tensors(slots) => {
                let tensor = |slot: &Option<Slot>| match slot {
                    Some(slot) => self.tensor(*slot).map(|tensor| Some(tensor.shallow_clone())),
                    None => Ok(None),
                };
                Value::Tensors(slots.iter().map(tensor).collect::<Result<_, _>>()?)
            }
        })
    }

    /// The tensor in a slot.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, slot: Slot) -> Result<&Tensor, String> {
        match &self.values[slot] {
            Value::Tensor(tensor) => Ok(tensor),
            other => Err(format!("a tensor is needed, and {other:?} is there")),
        }
    }

    fn number(&self, operand: Operand) -> Result<Number, String> {
        match operand {
            Operand::Known(number) => Ok(number),
            Operand::Slot(slot) => match &self.values[slot] {
                Value::Int(number) => Ok(Number::Int(*number)),
                Value::Float(number) => Ok(Number::Float(*number)),
                Value::Bool(truth) => Ok(Number::Bool(*truth)),
                other => Err(format!("a number is needed, and {other:?} is there")),
            },
        }
    }

    fn check(&self, check: &Check) -> Result<(), String> {
        match check {
            Check::True { number, message } => match self.number(*number)?.truth() {
                true => Ok(()),
                false => Err(format!("the model holds it true, and it is not: {message}")),
            },
            Check::Sizes { tensor, sizes } => {
                let expected: Result<Vec<_>, _> =
                    sizes.iter().map(|size| self.number(*size)).collect();
                let expected = expected?;
                let found = self.tensor(*tensor)?.size();
                let same = found.len() == expected.len()
                    && found
                        .iter()
                        .zip(&expected)
                        .all(|(size, other)| Number::Int(*size) == *other);
                match same {
                    true => Ok(()),
                    false => Err(format!("a tensor is of size {found:?}, not {expected:?}")),
                }
            }
            Check::Within { number, least, most } => {
                let found = self.number(*number)?;
                let inside = |found: f64| {
                    least.is_none_or(|least| found >= least as f64)
                        && most.is_none_or(|most| found <= most as f64)
                };
                match inside(found.real()) {
                    true => Ok(()),
                    false => Err(format!("{found} is not within {least:?} and {most:?}")),
                }
            }
        }
    }

    fn within(&mut self, scope: Scope, steps: &[Step]) -> Result<(), String> {
        let of_torch = |error: native::Error| error.0;
        let device = self.device;
        match scope {
            Scope::Gradients(true) => tch::with_grad(|| self.run(steps)),
            Scope::Gradients(false) => tch::no_grad(|| self.run(steps)),
            Scope::Autocast(Some(kind)) => {
                let ran = native::autocast(device, kind, || self.run(steps)).map_err(of_torch)?;
                // The next step's weights are others.
                native::clear_autocast_cache().map_err(of_torch)?;
                ran
            }
            Scope::Autocast(None) => {
                native::without_autocast(device, || self.run(steps)).map_err(of_torch)?
            }
        }
    }
}

fn at(step: &Step, error: &str) -> String {
    format!("node {}: {error}", step.place)
}
