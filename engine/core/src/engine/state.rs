//! What a resumed run needs and cannot compute.
use super::Engine;
use crate::error::{Error, Result};
use crate::strides::distinct;
use serde_json::Value;
use std::collections::BTreeMap;
use tch::Tensor;

/// All that a run cannot compute from (configuration, seed, step): where it stands, the parameters and
/// the optimizer's tensors under the parameters' names, the plugins' few values.
#[derive(Debug)]
pub struct EngineState {
    /// Completed optimizer steps.
    pub step: u64,
    /// Completed rounds, skipped updates included.
    pub attempt: u64,
    /// Parameters and buffers by name.
    pub model: BTreeMap<String, Tensor>,
    /// Which rule's state it is: [`Optimizer::kind`](crate::Optimizer::kind).
    pub optimizer_kind: String,
    /// Optimizer state by parameter name: updates so far, and the tensors of its slots.
    pub optimizer: BTreeMap<String, (i64, BTreeMap<String, Tensor>)>,
    /// States of the plugins and the precision by their first key; only those that have one.
    pub plugins: BTreeMap<String, Value>,
}

impl<M> Engine<M> {
    /// A copy of all that must be saved to go on later as if nothing had happened.
    pub fn state(&self) -> EngineState {
        let copies = |tensors: BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
            tensors.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
        };
        let live = self.live_state();
        let slots = live.optimizer.into_iter();
        EngineState {
            model: copies(live.model),
            optimizer: slots.map(|(name, (updates, t))| (name, (updates, copies(t)))).collect(),
            ..live
        }
    }

    /// As [`state`](Self::state), but in the engine's own memory: the next step changes it.
    pub fn live_state(&self) -> EngineState {
        let variables = self.parameters.iter().chain(&self.buffers);
        let of = |i: usize, tensors: &Vec<Tensor>| {
            let slots = self.slot_names[i].iter().zip(tensors);
            let named = slots.map(|(slot, t)| ((*slot).to_owned(), t.shallow_clone()));
            (self.parameters[i].0.clone(), (self.updates[i], named.collect()))
        };
        let optimizer =
            self.slots.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| of(i, s)));
        let plugins = self.plugins.iter().map(|(name, p)| ((*name).to_owned(), p.state()));
        let (section, precision) = &self.precision;
        let plugins = plugins.chain([((*section).to_owned(), precision.state())]);
        EngineState {
            step: self.step,
            attempt: self.attempt,
            model: variables.map(|(name, t)| (name.clone(), t.detach())).collect(),
            optimizer_kind: self.optimizer.1.kind().to_owned(),
            optimizer: optimizer.collect(),
            plugins: plugins.filter(|(_, state)| !state.is_null()).collect(),
        }
    }

    /// Takes back a state: all of it, or nothing but what plugins and the precision took before one
    /// refused.
    ///
    /// # Errors
    /// If names or shapes are not this model's, the optimizer is of another kind, or a plugin refuses its part.
    pub fn load_state(&mut self, state: &EngineState) -> Result<()> {
        // What a forward left would be put over what is loaded.
        self.layers.settle()?;
        let variables = || self.parameters.iter().chain(&self.buffers);
        let expected = variables().map(|(name, tensor)| (name.as_str(), tensor));
        fits("the model", expected.collect(), &state.model)?;
        let (saved, here) = (&state.optimizer_kind, self.optimizer.1.kind());
        if saved != here {
            return Err(Error::State(format!("its optimizer is {saved}, and this one is {here}")));
        }
        for (name, (_, tensors)) in &state.optimizer {
            let Ok(i) = self.parameters.binary_search_by(|(have, _)| have.cmp(name)) else {
                return Err(Error::State(format!(
                    "`{name}` is no trainable parameter of the model"
                )));
            };
            let slots = self.slot_names[i].iter();
            let expected = slots.map(|slot| (*slot, &self.parameters[i].1));
            fits(&format!("the optimizer's state of `{name}`"), expected.collect(), tensors)?;
        }
        let on = |section: &str| {
            self.precision.0 == section || self.plugins.iter().any(|(name, _)| *name == section)
        };
        if let Some(name) = state.plugins.keys().find(|section| !on(section)) {
            return Err(Error::State(format!(
                "it has a section `{name}`, which is not switched on"
            )));
        }
        let saved = |section: &str| state.plugins.get(section).cloned().unwrap_or(Value::Null);
        let step = state.step;
        let (section, precision) = &mut self.precision;
        let loaded = precision.load_state(saved(section));
        loaded.map_err(|source| Error::Plugin { section, step, source })?;
        for (section, plugin) in &mut self.plugins {
            let loaded = plugin.load_state(saved(section));
            loaded.map_err(|source| Error::Plugin { section, step, source })?;
        }
        self.forget_casts()?;
        tch::no_grad(|| -> Result<()> {
            for (name, tensor) in self.parameters.iter().chain(&self.buffers) {
                fill(tensor, &state.model[name])?;
            }
            for (i, (name, _)) in self.parameters.iter().enumerate() {
                let saved = state.optimizer.get(name);
                self.updates[i] = saved.map_or(0, |(updates, _)| *updates);
                self.slots[i] = None;
                if let Some((_, tensors)) = saved {
                    let mut slots = self.new_slots(i)?;
                    for (slot, name) in slots.iter_mut().zip(self.slot_names[i]) {
                        slot.f_copy_(&tensors[*name])?;
                    }
                    self.slots[i] = Some(slots);
                }
            }
            Ok(())
        })?;
        self.end_round();
        (self.step, self.attempt) = (state.step, state.attempt);
        Ok(())
    }
}

/// Copies `saved`, of its size, into a tensor. What repeats a part of itself takes that part.
fn fill(tensor: &Tensor, saved: &Tensor) -> Result<()> {
    let mut part = distinct(tensor)?;
    let mut shrunk = part.size().into_iter().enumerate();
    let saved = shrunk.try_fold(saved.shallow_clone(), |saved, (axis, size)| {
        saved.f_narrow(axis as i64, 0, size)
    })?;
    Ok(part.f_copy_(&saved)?)
}

/// Checks that a saved map has just the tensors expected, of the shapes expected.
fn fits(
    what: &str,
    expected: BTreeMap<&str, &Tensor>,
    saved: &BTreeMap<String, Tensor>,
) -> Result<()> {
    if let Some(name) = saved.keys().find(|name| !expected.contains_key(name.as_str())) {
        return Err(Error::State(format!("{what} has no `{name}`")));
    }
    for (name, tensor) in expected {
        let Some(found) = saved.get(name) else {
            return Err(Error::State(format!("{what} needs `{name}`, which is not saved")));
        };
        if found.size() != tensor.size() {
            let (found, wanted) = (found.size(), tensor.size());
            return Err(Error::State(format!(
                "{what}: `{name}` is {found:?}, saved, and {wanted:?} here"
            )));
        }
    }
    Ok(())
}
