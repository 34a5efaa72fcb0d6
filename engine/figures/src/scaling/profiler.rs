//! Measures one rank's step in parts.
use super::{Pass, Unit, layout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::{
    BoxError, Branch, BuildContext, Engine, LayerCall, LayerWrap, Layers, Loss, Moment, Next,
    Parts, Plan, Plugin, PluginSpec, Section,
};
use trainyard_models::{Bert, BertConfig};
use trainyard_native::Listening;

/// One rank's training, on random tokens, to be timed in parts.
pub struct Profiler {
    engine: Engine<Bert>,
    units: Vec<Unit>,
    /// The unit of each parameter.
    unit_of: Vec<usize>,
    parameters: Vec<Tensor>,
    /// Where their gradients are copied to.
    places: Vec<Tensor>,
    /// When each parameter's gradient was complete, in the latest backward pass.
    completed: Arc<Mutex<Vec<Option<Instant>>>>,
    _listening: Listening,
    /// Token ids `[batch, time]`.
    ids_bt: Tensor,
    /// Places in the flattened `[batch * time]`.
    masked_k: Tensor,
    /// The tokens there.
    labels_k: Tensor,
}

impl Profiler {
    /// `plan`: in a world of one, with the section `skip_every_second` on and no layer dropping. `model`:
    /// its sizes; `batch` sequences of `time` tokens, 15 % of which are to be predicted.
    ///
    /// # Errors
    /// The plan's.
    pub fn new(plan: &Plan, model: &BertConfig, batch: i64, time: i64) -> Result<Self, BoxError> {
        tch::manual_seed(1);
        let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
        let bert = Bert::new(variables.root(), model, &layers);
        let (units, unit_of) = layout(&variables, &layers);
        let parameters = variables.trainable_variables();
        let tensors = || parameters.iter().map(Tensor::shallow_clone).collect();
        let completed = Arc::new(Mutex::new(vec![None; parameters.len()]));
        let heard = completed.clone();
        let engine = plan.engine(bert, &variables, &layers)?;
        let _listening = Listening::new(tensors(), move |index| {
            let mut completed = heard.lock().unwrap_or_else(PoisonError::into_inner);
            completed[index] = Some(Instant::now());
        })?;
        let tokens =
            |size: &[i64]| Tensor::randint(model.vocabulary, size, (Kind::Int64, Device::Cpu));
        let masked = (batch * time * 15 / 100).max(1);
        let shuffled = Tensor::randperm(batch * time, (Kind::Int64, Device::Cpu));
        Ok(Profiler {
            engine,
            units,
            unit_of,
            places: parameters.iter().map(|parameter| parameter.zeros_like().detach()).collect(),
            parameters,
            completed,
            _listening,
            ids_bt: tokens(&[batch, time]),
            masked_k: shuffled.narrow(0, 0, masked),
            labels_k: tokens(&[masked]),
        })
    }

    /// The model in the order in which it is exchanged, without times.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// A step with all blocks and one without any.
    ///
    /// # Errors
    /// The engine's.
    pub fn pass(&mut self) -> Result<Pass, BoxError> {
        let (forward, backward, copy, update) = self.step()?;
        let (forward_without, _, _, update_without) = self.step()?;
        let (forward, update) = ([forward, forward_without], [update, update_without]);
        Ok(Pass { forward, update, copy, backward })
    }

    /// Seconds of forward, of backward by unit, of copying the gradients, and of the update.
    fn step(&mut self) -> Result<(f64, Vec<f64>, f64, f64), BoxError> {
        let began = Instant::now();
        let (ids_bt, masked_k, labels_k) = (&self.ids_bt, &self.masked_k, &self.labels_k);
        let count = labels_k.size()[0] as u64;
        let forward =
            |model: &Bert| Loss::mean(model.loss(ids_bt, masked_k, labels_k, true), count);
        let loss = self.engine.forward(forward)?;
        let forward = began.elapsed().as_secs_f64();

        self.completed().fill(None);
        let began = Instant::now();
        self.engine.backward(&loss)?;
        let backward = self.by_unit(began);
        drop(loss);

        let began = Instant::now();
        tch::no_grad(|| self.copy())?;
        let copy = began.elapsed().as_secs_f64();

        let began = Instant::now();
        let report = self.engine.update()?.ok_or("a step has more than one micro-batch")?;
        if report.skipped {
            return Err("the loss of random tokens is not finite".into());
        }
        Ok((forward, backward, copy, began.elapsed().as_secs_f64()))
    }

    /// From the completion of one unit to that of the next.
    fn by_unit(&self, began: Instant) -> Vec<f64> {
        let mut until = vec![began; self.units.len()];
        for (&unit, completed) in self.unit_of.iter().zip(self.completed().iter()) {
            until[unit] = until[unit].max(completed.unwrap_or(began));
        }
        let mut before = began;
        let next = |&end: &Instant| {
            let end = end.max(before);
            (end - std::mem::replace(&mut before, end)).as_secs_f64()
        };
        until.iter().map(next).collect()
    }

    /// What averaging does with every gradient before it leaves.
    fn copy(&self) -> Result<(), BoxError> {
        let factor = Tensor::from(0.5);
        for (parameter, place) in self.parameters.iter().zip(&self.places) {
            let gradient = parameter.grad();
            if gradient.defined() {
                let _ = gradient.f_mul_out(place, &factor)?;
            }
        }
        Ok(())
    }

    fn completed(&self) -> std::sync::MutexGuard<'_, Vec<Option<Instant>>> {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The section `skip_every_second`: true skips every layer in every second step, the first one not.
#[derive(Debug)]
pub struct SkipEverySecond;

impl Section for SkipEverySecond {
    const KEYS: &'static [&'static str] = &["skip_every_second"];
    type Config = bool;
}

impl PluginSpec for SkipEverySecond {
    fn build(on: &bool, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        if *on {
            parts.plugin(SkipEverySecond);
        }
        Ok(())
    }
}

impl Plugin for SkipEverySecond {
    fn begin_forward(&mut self, now: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        Ok((now.attempt % 2 == 1).then(|| Arc::new(Skip) as _))
    }
}

struct Skip;

impl LayerWrap for Skip {
    fn layer(&self, _: &LayerCall<'_>, _: &Tensor, _: Next<'_>) -> Result<Branch, BoxError> {
        Ok(Branch::Skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trainyard::World;
    use trainyard::config::{self, Document, Source};

    #[test]
    fn all_blocks_and_none_by_turns() -> Result<(), BoxError> {
        let model = BertConfig {
            layers: 3,
            hidden: 8,
            heads: 2,
            vocabulary: 64,
            max_positions: 8,
            ..BertConfig::default()
        };
        let sections = json!({ "optimizer": { "type": "Adam" }, "skip_every_second": true });
        let document = Document::parse(Source::text("test", sections.to_string()))?;
        let registry = trainyard_plugins::registry().add::<SkipEverySecond>();
        let plan = registry.plan_in(World::solo(), config::Layers::new(document))?;
        let mut profiler = Profiler::new(&plan, &model, 2, 8)?;
        let blocks: Vec<_> = profiler.units().iter().map(|unit| unit.block.is_some()).collect();
        for _ in 0..2 {
            let began = Instant::now();
            let (_, all, _, _) = profiler.step()?;
            assert!(all.iter().sum::<f64>() < began.elapsed().as_secs_f64());
            assert!(all.iter().zip(&blocks).all(|(&time, block)| !block || time > 0.0), "{all:?}");
            let (_, none, _, _) = profiler.step()?;
            assert!(
                none.iter().zip(&blocks).all(|(&time, block)| !block || time == 0.0),
                "{none:?}"
            );
            assert!(none.iter().sum::<f64>() > 0.0);
        }
        Ok(())
    }
}
