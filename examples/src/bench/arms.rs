//! The same training step by hand and through the engine.
use super::setting::Setting;
use crate::plain_bert;
use serde_json::{Value, json};
use std::slice;
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{BoxError, Engine, Layers, Loss, Pattern, Plan, Registry, Report};
use trainyard_models::bert;
use trainyard_native::{AdamStep, clear_gradients, fused_adam, norm_of, scale_all};

const LR: f64 = 1e-4;
const WEIGHT_DECAY: f64 = 0.01;
const CLIP: f64 = 1.0;
const NO_DECAY: [&str; 2] = ["bias", "*norm"];

/// Seed of the weights.
const SEED: i64 = 1;

/// Steps before timing: allocations, threads, caches.
pub const WARM_UP: usize = 3;

/// The plan of these sections.
///
/// # Errors
/// The configuration's.
pub fn plan(registry: Registry, sections: &Value) -> Result<Plan, BoxError> {
    let document = Document::parse(Source::text("benchmark", sections.to_string()))?;
    Ok(registry.plan(config::Layers::new(document))?)
}

/// Random tokens, 15 % of which are to be predicted.
pub struct Batch {
    /// Token ids `[batch, time]`.
    ids_bt: Tensor,
    /// Places in the flattened `[batch * time]`.
    masked_k: Tensor,
    /// The tokens there.
    labels_k: Tensor,
}

impl Batch {
    /// A batch of the size of `setting`; the same `seed` gives the same one.
    pub fn random(setting: &Setting, seed: i64) -> Self {
        tch::manual_seed(seed);
        let tokens = |size: &[i64]| {
            Tensor::randint(setting.model.vocabulary, size, (Kind::Int64, setting.device))
        };
        let places = setting.batch * setting.time;
        let masked = (places * 15 / 100).max(1);
        let shuffled = Tensor::randperm(places, (Kind::Int64, setting.device));
        Batch {
            ids_bt: tokens(&[setting.batch, setting.time]),
            masked_k: shuffled.narrow(0, 0, masked),
            labels_k: tokens(&[masked]),
        }
    }
}

/// The loop as one writes it by hand and with care: the plain model, the gradients' norm clipped, fused
/// AdamW in two groups, every list that can be made once made once.
pub struct Bare {
    model: plain_bert::Bert,
    /// Those with weight decay first.
    parameters: Vec<Tensor>,
    decayed: usize,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    steps: Vec<i64>,
}

impl Bare {
    /// A new model of the sizes of `setting`.
    pub fn new(setting: &Setting) -> Self {
        tch::manual_seed(SEED);
        let variables = VarStore::new(setting.device);
        let model = plain_bert::Bert::new(variables.root(), &setting.model);
        let mut named: Vec<_> = variables.variables().into_iter().collect();
        named.sort_by_cached_key(|(name, _)| (no_decay(name), name.clone()));
        let decayed = named.iter().filter(|(name, _)| !no_decay(name)).count();
        let zeros = || named.iter().map(|(_, tensor)| tensor.zeros_like().detach()).collect();
        Bare {
            model,
            decayed,
            exp_avgs: zeros(),
            exp_avg_sqs: zeros(),
            steps: vec![0; named.len()],
            parameters: named.into_iter().map(|(_, tensor)| tensor).collect(),
        }
    }

    /// One step; its loss.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(&mut self, batch: &Batch) -> Result<f64, BoxError> {
        clear_gradients(&self.parameters)?;
        let loss = self.model.loss(&batch.ids_bt, &batch.masked_k, &batch.labels_k, true);
        loss.f_backward()?;
        tch::no_grad(|| self.update())?;
        Ok(loss.f_double_value(&[])?)
    }

    fn update(&mut self) -> Result<(), BoxError> {
        let gradients: Vec<_> = self.parameters.iter().map(Tensor::grad).collect();
        let norm = norm_of(&gradients)?;
        scale_all(&gradients, &(CLIP / (norm + 1e-6)).f_clamp_max(1.0)?)?;
        self.steps.iter_mut().for_each(|step| *step += 1);
        let (all, decayed) = (self.parameters.len(), self.decayed);
        for (group, weight_decay) in [(0..decayed, WEIGHT_DECAY), (decayed..all, 0.0)] {
            fused_adam(
                &self.parameters[group.clone()],
                &gradients[group.clone()],
                &self.exp_avgs[group.clone()],
                &self.exp_avg_sqs[group.clone()],
                &self.steps[group],
                None,
                AdamStep {
                    lr: LR,
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    weight_decay,
                    decoupled: true,
                },
            )?;
        }
        Ok(())
    }
}

fn no_decay(name: &str) -> bool {
    NO_DECAY.iter().any(|pattern| Pattern::new(pattern).matches_within(name))
}

/// The same through the engine.
pub struct Driven(Engine<bert::Bert>);

impl Driven {
    /// A new model of the sizes of `setting`, with the sections `more` switched on.
    ///
    /// # Errors
    /// The configuration's.
    pub fn new(registry: Registry, setting: &Setting, more: Value) -> Result<Self, BoxError> {
        tch::manual_seed(SEED);
        let variables = VarStore::new(setting.device);
        let layers = Layers::new();
        let model = bert::Bert::new(variables.root(), &setting.model, &layers);
        let sections = Driven::sections(more);
        Ok(Driven(plan(registry, &sections)?.engine(model, &variables, &layers)?))
    }

    /// Its sections: the optimizer and clipping as the loop by hand has them, and `more`.
    pub fn sections(more: Value) -> Value {
        let mut sections = json!({
            "optimizer": {
                "type": "AdamW",
                "params": { "lr": LR, "weight_decay": WEIGHT_DECAY },
                "no_decay": NO_DECAY,
            },
            "gradient_clipping": CLIP,
        });
        if let (Value::Object(sections), Value::Object(more)) = (&mut sections, more) {
            sections.extend(more);
        }
        sections
    }

    /// One step.
    ///
    /// # Errors
    /// The engine's.
    pub fn step(&mut self, batch: &Batch) -> Result<Report, BoxError> {
        let forward = |model: &bert::Bert, batch: &Batch| {
            let loss = model.loss(&batch.ids_bt, &batch.masked_k, &batch.labels_k, true);
            Loss::mean(loss, batch.labels_k.size()[0] as u64)
        };
        Ok(self.0.step(slice::from_ref(batch), forward)?)
    }

    /// How many tensors the optimizer updates.
    pub fn tensors(&self) -> usize {
        self.0.parameters().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two do the same work: what differs in time is the engine.
    #[test]
    fn by_hand_and_through_the_engine_the_training_is_the_same() -> Result<(), BoxError> {
        let mut setting = Setting::quick();
        setting.model.dropout = 0.0;
        let mut bare = Bare::new(&setting);
        let mut driven = Driven::new(trainyard_plugins::registry(), &setting, json!({}))?;
        for seed in 0..4 {
            let batch = Batch::random(&setting, seed);
            let (loss, report) = (bare.step(&batch)?, driven.step(&batch)?);
            assert!((loss - report.loss).abs() < 1e-6, "step {seed}: {loss}, {}", report.loss);
            assert!(report.grad_norm.is_some_and(|norm| norm > CLIP), "clipping has work to do");
        }
        let (decayed, rest): (Vec<_>, Vec<_>) =
            driven.0.parameters().partition(|(name, _)| !no_decay(name));
        assert_eq!(decayed.len(), bare.decayed);
        for ((name, ours), theirs) in decayed.iter().chain(&rest).zip(&bare.parameters) {
            let far = (*ours - theirs).abs().max().double_value(&[]);
            assert!(far < 1e-6, "{name}: {far}");
        }
        Ok(())
    }
}
