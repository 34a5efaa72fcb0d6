//! What plugins are built from, and what they build.
use crate::averaging::Averaging;
use crate::communicator::Communicator;
use crate::event::Observer;
use crate::optimizer::Optimizer;
use crate::plugin::Plugin;
use crate::precision::Precision;
use tch::Device;
use trainyard_config::Context;

/// What a plugin may know while it is built: what its outline knew, and the device.
#[derive(Debug)]
pub struct BuildContext {
    /// The run and the model's shape.
    pub run: Context,
    /// Where the parameters lie.
    pub device: Device,
}

/// The running parts that the sections of a configuration asked for: any number of plugins, and what
/// fills the slots that the sections [claimed](trainyard_config::Outline).
#[derive(Default)]
pub struct Parts {
    section: &'static str,
    pub(crate) plugins: Vec<(&'static str, Box<dyn Plugin>)>,
    pub(crate) observers: Observers,
    pub(crate) optimizer: Slot<Box<dyn Optimizer>>,
    pub(crate) precision: Slot<Box<dyn Precision>>,
    pub(crate) communicator: Slot<(Box<dyn Communicator>, Averaging)>,
}

/// Observers, each with the section that asked for it.
pub(crate) type Observers = Vec<(&'static str, Box<dyn Observer + Send>)>;

pub(crate) type Slot<T> = Option<(&'static str, T)>;

impl Parts {
    /// Adds a plugin behind those that are there.
    pub fn plugin(&mut self, plugin: impl Plugin + 'static) {
        self.plugins.push((self.section, Box::new(plugin)));
    }

    /// Adds an observer of the run: it is told what a loop tells, the reports of the steps as all ranks have them,
    /// evaluations and the end. The program's loop takes it with [`Engine::take_observers`](crate::Engine::take_observers).
    pub fn observer(&mut self, observer: impl Observer + Send + 'static) {
        self.observers.push((self.section, Box::new(observer)));
    }

    /// Sets the rule of the optimizer, whose groups the section's outline gave.
    pub fn optimizer(&mut self, optimizer: impl Optimizer + 'static) {
        self.optimizer = Some((self.section, Box::new(optimizer)));
    }

    /// Sets the precision.
    pub fn precision(&mut self, precision: impl Precision + 'static) {
        self.precision = Some((self.section, Box::new(precision)));
    }

    /// Sets the communicator, and how gradients are averaged with it.
    pub fn communicator(
        &mut self,
        communicator: impl Communicator + 'static,
        averaging: Averaging,
    ) {
        self.communicator = Some((self.section, (Box::new(communicator), averaging)));
    }

    /// Names the section whose parts come next.
    pub(crate) fn begin(&mut self, section: &'static str) {
        self.section = section;
    }
}
