//! A compiled program: what is called with what, in order.
use super::numbers::{Function, Number};
use super::place::Place;
use std::collections::HashSet;
use tch::Kind;
use trainyard_native::{OperatorCall, Value};

/// Where a value of a run lies.
pub type Slot = usize;

/// One thing that a run does.
#[derive(Debug)]
pub struct Step {
    pub action: Action,
    pub place: Place,
    /// What nothing needs behind it.
    pub free: Vec<Slot>,
}

#[derive(Debug)]
pub enum Action {
    Call(Box<Call>),
    /// Arithmetic on numbers that are no tensors.
    Compute {
        function: Function,
        operands: Vec<Operand>,
        result: Slot,
    },
    /// What a graph holds true: a number that is not 0, sizes of a tensor, the range of a number.
    Check(Check),
    /// A region in which gradients or autocast are on or off.
    Within {
        scope: Scope,
        steps: Vec<Step>,
    },
}

/// A call of an operator.
#[derive(Debug)]
pub struct Call {
    pub training: OperatorCall,
    /// The same in evaluation mode, where that differs.
    pub evaluating: Option<OperatorCall>,
    /// It draws random numbers in evaluation too, and nobody knows what it stands for.
    pub draws: bool,
    /// By the place among the operator's arguments.
    pub feeds: Vec<(usize, Feed)>,
    pub results: Vec<Bind>,
}

/// What an argument gets in each run.
#[derive(Debug)]
pub enum Feed {
    Slot(Slot),
    Ints(Vec<Operand>),
    Floats(Vec<Operand>),
    Bools(Vec<Operand>),
    Tensors(Vec<Option<Slot>>),
}

/// A number that is known, or that another step makes.
#[derive(Debug, Clone, Copy)]
pub enum Operand {
    Known(Number),
    Slot(Slot),
}

/// Where a result goes.
#[derive(Debug)]
pub enum Bind {
    Nowhere,
    Slot(Slot),
    Slots(Vec<Slot>),
}

#[derive(Debug)]
pub enum Check {
    True { number: Operand, message: String },
    Sizes { tensor: Slot, sizes: Vec<Operand> },
    Within { number: Operand, least: Option<i64>, most: Option<i64> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Gradients(bool),
    /// On in this type, or off.
    Autocast(Option<Kind>),
}

impl Operand {
    fn slot(&self) -> Option<Slot> {
        match self {
            Operand::Slot(slot) => Some(*slot),
            Operand::Known(_) => None,
        }
    }
}

impl Feed {
    fn slots(&self) -> Vec<Slot> {
        match self {
            Feed::Slot(slot) => vec![*slot],
            Feed::Ints(operands) | Feed::Floats(operands) | Feed::Bools(operands) => {
                operands.iter().filter_map(Operand::slot).collect()
            }
            Feed::Tensors(slots) => slots.iter().flatten().copied().collect(),
        }
    }
}

impl Bind {
    fn slots(&self) -> &[Slot] {
        match self {
            Bind::Nowhere => &[],
            Bind::Slot(slot) => std::slice::from_ref(slot),
            Bind::Slots(slots) => slots,
        }
    }
}

impl Action {
    /// All that it reads or makes, but for a region's steps.
    fn slots(&self) -> Vec<Slot> {
        match self {
            Action::Call(call) => {
                let read = call.feeds.iter().flat_map(|(_, feed)| feed.slots());
                read.chain(call.results.iter().flat_map(Bind::slots).copied()).collect()
            }
            Action::Compute { operands, result, .. } => {
                operands.iter().filter_map(Operand::slot).chain([*result]).collect()
            }
            Action::Check(Check::True { number, .. } | Check::Within { number, .. }) => {
                number.slot().into_iter().collect()
            }
            Action::Check(Check::Sizes { tensor, sizes }) => {
                sizes.iter().filter_map(Operand::slot).chain([*tensor]).collect()
            }
            Action::Within { .. } => Vec::new(),
        }
    }
}

/// Has each slot freed behind the last step that touches it. `later`: those that are needed behind all of them. What
/// another slot shares memory with stays as long as that one, for libtorch counts who holds it.
pub fn free(steps: &mut [Step], later: &mut HashSet<Slot>) {
    for step in steps.iter_mut().rev() {
        let mut last: Vec<_> =
            step.action.slots().into_iter().filter(|slot| later.insert(*slot)).collect();
        last.sort_unstable();
        step.free = last;
        if let Action::Within { steps, .. } = &mut step.action {
            free(steps, later);
        }
    }
}

/// Every call, those in regions too.
pub fn each_call<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Step, &'a Call)) {
    for step in steps {
        match &step.action {
            Action::Call(call) => visit(step, call),
            Action::Within { steps, .. } => each_call(steps, visit),
            _ => {}
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(number) => Value::Int(number),
            Number::Float(number) => Value::Float(number),
            Number::Bool(truth) => Value::Bool(truth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adding(operands: &[Slot], result: Slot) -> Step {
        let operands = operands.iter().map(|slot| Operand::Slot(*slot)).collect();
        let action = Action::Compute { function: Function::Add, operands, result };
        Step { action, place: Place::default(), free: Vec::new() }
    }

    /// What is used in a region for the last time is freed in it, an output never, and what nobody uses at once.
    #[test]
    fn slots_are_freed_behind_their_last_use() {
        let inner = vec![adding(&[0, 2], 3), adding(&[3, 3], 4)];
        let within = Action::Within { scope: Scope::Gradients(false), steps: inner };
        let mut steps = vec![
            adding(&[0, 1], 2),
            Step { action: within, place: Place::default(), free: Vec::new() },
            adding(&[4, 1], 5),
            adding(&[1, 1], 6),
        ];
        free(&mut steps, &mut HashSet::from([5]));
        assert!(steps[0].free.is_empty());
        let Action::Within { steps: inner, .. } = &steps[1].action else { panic!("a region") };
        assert_eq!((&inner[0].free[..], &inner[1].free[..]), (&[0, 2][..], &[3][..]));
        assert_eq!((&steps[2].free[..], &steps[3].free[..]), (&[4][..], &[1, 6][..]));
    }
}
