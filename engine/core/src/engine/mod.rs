//! The engine: one training step, in one direction.
mod evaluate;
mod forward;
mod non_finite;
mod state;
mod stop;
mod trained;
mod update;
mod watched;

pub use state::EngineState;

use crate::averaging::{Averager, Averaging};
use crate::communicator::{self, Communicator, Fingerprint, Introduction, Solo};
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::layers::Layers;
use crate::loss::IntoLoss;
use crate::optimizer::Optimizer;
use crate::parts::{Observers, Parts};
use crate::plugin::Plugin;
use crate::precision::{Float32, Precision};
use crate::report::{LayerCalls, Report};
use crate::strides::is_dense;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use tracing::{info, warn};
use trainyard_config::{
    Attention, BatchSizes, BlockInfo, Group, GroupOptions, LearningRate, Moment, Training, World,
};
use watched::Watched;

/// A model, the parts its configuration asked for, and where its training stands.
pub struct Engine<M> {
    model: M,
    layers: Layers,
    /// Trainable variables, frozen ones included, sorted by name: a `VarStore` keeps them in a hash
    /// map, whose order differs between processes.
    parameters: Vec<(String, Tensor)>,
    buffers: Vec<(String, Tensor)>,
    /// Indices of the parameters in the order in which the model made them.
    created: Vec<usize>,
    /// Parameters that do not fill one block of memory, by index: an optimizer works on copies that do.
    with_gaps: Vec<usize>,
    watched: Watched,
    groups: Vec<MemberGroup>,
    /// Names of the state tensors by parameter.
    slot_names: Vec<&'static [&'static str]>,
    /// State tensors by parameter, made at its first update.
    slots: Vec<Option<Vec<Tensor>>>,
    /// Updates that each parameter has had.
    updates: Vec<i64>,
    plugins: Vec<(&'static str, Box<dyn Plugin>)>,
    /// Those that no loop has taken yet.
    observers: Observers,
    optimizer: (&'static str, Box<dyn Optimizer>),
    learning_rate: Box<dyn LearningRate>,
    precision: (&'static str, Box<dyn Precision>),
    communicator: Arc<dyn Communicator>,
    /// Averages gradients where there are other ranks.
    averager: Option<Averager>,
    seed: u64,
    sizes: Option<BatchSizes>,
    total_steps: Option<u64>,
    /// A step beyond the last one was warned of.
    beyond_the_end: bool,
    terminate_on_nan: bool,
    step: u64,
    attempt: u64,
    round: Round,
}

/// A parameter group with its parameters by index, all of one kind.
struct MemberGroup {
    options: GroupOptions,
    members: Vec<usize>,
}

/// The micro-batches since the last update.
struct Round {
    began: Instant,
    micro_batches: u64,
    /// How many of them the step has.
    expected: u64,
    losses: Vec<(Tensor, u64)>,
    /// What the losses were divided by before their backward passes, in counted items: known before
    /// the sum of the counts is, and corrected once it is.
    normaliser: Option<f64>,
    /// A forward ran whose backward has not.
    pending: bool,
    /// Layer calls of the round before its latest forward.
    calls_before: LayerCalls,
}

impl Round {
    fn new(expected: u64) -> Self {
        Round {
            began: Instant::now(),
            micro_batches: 0,
            expected,
            losses: Vec::new(),
            normaliser: None,
            pending: false,
            calls_before: LayerCalls::default(),
        }
    }
}

/// What an engine has to know besides its parts.
pub(crate) struct About<'a> {
    pub configuration: &'a Value,
    pub training: &'a Training,
    pub sizes: Option<BatchSizes>,
    pub total_steps: Option<u64>,
    pub world: &'a World,
    pub groups: Vec<Group>,
    pub learning_rate: Box<dyn LearningRate>,
    pub fingerprints: &'a [Fingerprint],
}

impl<M> Engine<M> {
    /// Puts the parts around the model, and meets the other ranks. `Plan::engine` calls it.
    pub(crate) fn new(
        model: M,
        variables: &VarStore,
        layers: &Layers,
        parts: Parts,
        about: About<'_>,
    ) -> Result<Self> {
        let About {
            configuration,
            training,
            sizes,
            total_steps,
            world,
            groups,
            learning_rate,
            fingerprints,
        } = about;
        if layers.attached() {
            return Err(Error::Usage("these layers belong to another engine already".to_owned()));
        }
        let (parameters, buffers) = named(variables);
        trained::check(&parameters)?;
        if world.rank == 0 {
            info!("{}", trained::line(&parameters));
        }
        let (section, optimizer) =
            parts.optimizer.expect("the section that claimed the optimizer builds one");
        let groups = members(&parameters, groups)?;
        let mut slot_names = vec![&[][..]; parameters.len()];
        for group in &groups {
            let names = optimizer.slots(&group.options);
            group.members.iter().for_each(|&member| slot_names[member] = names);
        }
        // They hold for the process: one engine that does not ask must not undo what another asked for.
        if training.deterministic {
            trainyard_native::set_deterministic(true)?;
        }
        if training.flush_denormals {
            trainyard_native::set_flush_denormal(true)?;
        }
        if training.keep_memory {
            trainyard_native::keep_freed_memory()?;
        }
        if training.parallel_dropout {
            trainyard_native::set_parallel_dropout(true)?;
        }
        if training.attention == Attention::Auto {
            trainyard_native::set_own_attention(true)?;
        }
        let created = creation_order(variables, &parameters);
        let with_gaps = (0..parameters.len()).filter(|&i| !is_dense(&parameters[i].1)).collect();
        let (communicator, averaging): (Arc<dyn Communicator>, _) = match parts.communicator {
            Some((_, (communicator, averaging))) => (communicator.into(), averaging),
            None => (Arc::new(Solo), Averaging::default()),
        };
        if world.world_size != communicator.world_size() {
            return Err(Error::World(format!(
                "this is rank {} of {} {}, and no section of this program connects them: its registry \
                 lacks the plugin for data parallelism",
                world.rank, world.world_size, world.launcher
            )));
        }
        let averager = match communicator.world_size() {
            1 => None,
            _ => {
                let introduction = Introduction {
                    configuration: configuration.clone(),
                    model: lines((&parameters, &created), &buffers, &layers.blocks(), total_steps),
                    fingerprints: fingerprints.to_vec(),
                    device: variables.device(),
                };
                let met = communicator.join(&introduction);
                met.map_err(|e| communicator::failed(&*communicator, "meeting the others", e))?;
                communicator::share(&*communicator, &parameters)?;
                communicator::share(&*communicator, &buffers)?;
                let (shared, blocks) = (communicator.clone(), layers.blocks());
                Some(Averager::new(shared, averaging, &parameters, &created, &blocks)?)
            }
        };
        layers.set_stack(Some(Arc::new([])));
        Ok(Engine {
            model,
            layers: layers.clone(),
            slot_names,
            slots: parameters.iter().map(|_| None).collect(),
            updates: vec![0; parameters.len()],
            created,
            with_gaps,
            watched: Watched::new(&parameters, &buffers)?,
            parameters,
            buffers,
            groups,
            plugins: parts.plugins,
            observers: parts.observers,
            optimizer: (section, optimizer),
            learning_rate,
            // It has no state, so its section never shows.
            precision: parts.precision.unwrap_or_else(|| ("", Box::new(Float32))),
            communicator,
            averager,
            seed: training.seed,
            sizes,
            total_steps,
            beyond_the_end: false,
            terminate_on_nan: training.terminate_on_nan,
            step: 0,
            attempt: 0,
            round: Round::new(1),
        })
    }

    /// One optimizer step: `forward` on every micro-batch, their gradients, one update.
    ///
    /// `forward` gets the model and a micro-batch and returns its [`Loss`](crate::Loss), or a `Result`
    /// of one. Before each forward, libtorch's generator is seeded from the run's seed, the attempt and
    /// the micro-batch, so that dropout is the same when a run is resumed.
    ///
    /// # Errors
    /// Another number of micro-batches than the configuration gives, where it gives one; the forward's, a
    /// panic of the forward, a plugin's, libtorch's. The step did not happen then, and
    /// may be tried again (an overflow of fp16 that was found before the error still counts for the loss
    /// scale); but for an error of the optimizer, which may have updated some groups, and of
    /// a plugin's `end_step`, which comes after the step. Among several ranks an error from a step's last
    /// backward pass on leaves this rank out of step with the others, and it says so from then on.
    pub fn step<B, L: IntoLoss>(
        &mut self,
        micro_batches: &[B],
        mut forward: impl FnMut(&M, &B) -> L,
    ) -> Result<Report> {
        if micro_batches.is_empty() {
            return Err(Error::Usage("a step needs at least one micro-batch".to_owned()));
        }
        let (given, configured) = (micro_batches.len() as u64, self.accumulation());
        if self.sizes.is_some() && given != configured {
            return Err(Error::Usage(format!(
                "a step got {given} micro-batches; gradient_accumulation_steps is {configured}"
            )));
        }
        self.begin_round(given)?;
        for batch in micro_batches {
            let loss = self.forward_of(|model| forward(model, batch))?;
            self.backward(&loss)?;
        }
        self.finish_round()
    }

    /// The observers that sections of the configuration asked for, once: the loop that takes them tells them what
    /// happens, as `trainyard-run` does.
    pub fn take_observers(&mut self) -> Vec<Box<dyn Observer + Send>> {
        std::mem::take(&mut self.observers).into_iter().map(|(_, observer)| observer).collect()
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Bytes that the next step takes for good, besides what it computes with: the gradients of the
    /// parameters, and the optimizer's state as far as it is not there yet.
    pub fn bytes_to_come(&self) -> u64 {
        let parameters = self.parameters.iter().zip(&self.slot_names).zip(&self.slots);
        let bytes = parameters.map(|(((_, parameter), names), slots)| {
            let (numbers, width) = (parameter.numel(), parameter.kind().elt_size_in_bytes());
            let state = if slots.is_some() { 0 } else { names.len() * width };
            let gradient = if parameter.requires_grad() { width } else { 0 };
            (numbers * (gradient + state)) as u64
        });
        bytes.sum()
    }

    /// Completed optimizer steps.
    pub fn completed_steps(&self) -> u64 {
        self.step
    }

    /// Rounds so far: completed steps, and those whose update was skipped.
    pub fn attempts(&self) -> u64 {
        self.attempt
    }

    /// Optimizer steps of the whole run, where the configuration gives them.
    pub fn total_steps(&self) -> Option<u64> {
        self.total_steps
    }

    /// Trainable parameters by name, sorted.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// What the model keeps and does not train, by name, sorted: running statistics, tables.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.buffers.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// This process among those that train together, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// How many processes train together.
    pub fn world_size(&self) -> usize {
        self.communicator.world_size()
    }

    /// Says so once where nobody will tell the observers anything.
    fn warn_of_observers(&mut self) {
        for (section, _) in std::mem::take(&mut self.observers) {
            warn!(
                "`{section}` writes nothing: this program's loop does not tell it what happens; \
                 trainyard_run::Run does, or Engine::take_observers gives it to a loop of one's own"
            );
        }
    }

    fn moment(&self) -> Moment {
        let micro_batch = self.round.micro_batches;
        Moment { step: self.step, attempt: self.attempt, micro_batch }
    }

    fn forget_casts(&mut self) -> Result<()> {
        let (section, precision) = &mut self.precision;
        let step = self.step;
        precision.forget_casts().map_err(|source| Error::Plugin { section, step, source })
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect()
    }
}

impl<M> Drop for Engine<M> {
    fn drop(&mut self) {
        // The other ranks shall not wait for what is left of a step that nobody finished.
        if let Some(averager) = &self.averager {
            averager.cancel();
        }
        self.layers.set_stack(None);
        if let Err(error) = self.precision.1.forget_casts() {
            tracing::warn!("casts of the parameters stay: {error}");
        }
    }
}

/// What the other ranks compare: each parameter and buffer, the order in which they were made and the blocks,
/// by which gradients are laid out in buckets, what they lie on, and how long the run is.
fn lines(
    (parameters, created): (&Named, &[usize]),
    buffers: &Named,
    blocks: &[BlockInfo],
    total_steps: Option<u64>,
) -> Vec<String> {
    let line = |(name, tensor): &(String, Tensor)| {
        format!("`{name}` of size {:?} and kind {:?}", tensor.size(), tensor.kind())
    };
    let made = created.iter().enumerate();
    let made = made.map(|(i, &at)| format!("`{}` as parameter {i} to be made", parameters[at].0));
    let blocks = blocks.iter().enumerate();
    let blocks = blocks.map(|(i, block)| format!("`{}` as block {i}", block.name));
    let device = parameters.first().map(|(_, tensor)| match tensor.device() {
        Device::Cpu => "a model on the CPU".to_owned(),
        _ => "a model on a GPU".to_owned(),
    });
    let steps = total_steps.map(|steps| format!("a run of {steps} steps"));
    let all = parameters.iter().chain(buffers).map(line);
    all.chain(made).chain(blocks).chain(device).chain(steps).collect()
}

type Named = Vec<(String, Tensor)>;

/// The trainable variables and the others, each sorted by name.
pub(crate) fn named(variables: &VarStore) -> (Named, Named) {
    // `trainable_variables` has no names; a shallow clone shares its storage.
    let trainable: Vec<_> = variables.trainable_variables().iter().map(storage).collect();
    let mut all: Vec<_> = variables.variables().into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.into_iter().partition(|(_, tensor)| trainable.contains(&storage(tensor)))
}

/// Indices of the parameters in the order in which the model made them.
fn creation_order(variables: &VarStore, parameters: &Named) -> Vec<usize> {
    let index: HashMap<_, _> =
        parameters.iter().enumerate().map(|(i, (_, tensor))| (storage(tensor), i)).collect();
    let made = variables.trainable_variables();
    made.iter().filter_map(|tensor| index.get(&storage(tensor)).copied()).collect()
}

fn storage(tensor: &Tensor) -> (*mut std::ffi::c_void, Vec<i64>) {
    (tensor.data_ptr(), tensor.size())
}

/// The members of a group in groups of one kind of number each, which is as much as an optimizer takes at a time. A
/// group without members stays one.
fn by_kind(parameters: &Named, members: Vec<usize>) -> impl Iterator<Item = Vec<usize>> {
    let mut kinds: Vec<Vec<usize>> = vec![Vec::new()];
    for member in members {
        let kind = |i: usize| parameters[i].1.kind();
        match kinds
            .iter_mut()
            .find(|of| of.first().is_none_or(|&first| kind(first) == kind(member)))
        {
            Some(of) => of.push(member),
            None => kinds.push(vec![member]),
        }
    }
    kinds.into_iter()
}

fn members(parameters: &Named, groups: Vec<Group>) -> Result<Vec<MemberGroup>> {
    let mut index: HashMap<_, _> =
        parameters.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
    let mut out = Vec::new();
    for group in &groups {
        let find = |name: &String| {
            index.remove(name.as_str()).ok_or_else(|| {
                Error::Usage(format!("a parameter group names `{name}`, which is no trainable parameter or in another group too"))
            })
        };
        let members = group.parameters.iter().map(find).collect::<Result<_>>()?;
        let kinds = by_kind(parameters, members);
        out.extend(kinds.map(|members| MemberGroup { options: group.options, members }));
    }
    match index.into_keys().min() {
        None => Ok(out),
        Some(name) => Err(Error::Usage(format!("parameter `{name}` is in no group"))),
    }
}
