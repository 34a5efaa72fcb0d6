//! The ranks of a run as a communicator, on c10d's process groups.
use super::config::Backend;
use super::handshake::{Meeting, meet, within};
use super::program;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tch::{Device, Kind, Tensor};
use trainyard::{BoxError, Communicator, Introduction, Pending, World};
use trainyard_native::{ProcessGroup, Reduction, Work};

/// The ranks of a run. It connects when the engine joins.
pub struct Cluster {
    world: World,
    backend: Backend,
    timeout: Duration,
    met: Mutex<Option<Met>>,
    failed: Arc<AtomicBool>,
}

/// What there is once the ranks have met.
struct Met {
    meeting: Meeting,
    /// For a few numbers of the host; always on Gloo.
    control: ProcessGroup,
    /// For gradients and weights.
    data: ProcessGroup,
}

impl Cluster {
    /// `timeout`: how long a rank waits for the others.
    pub fn new(world: World, backend: Backend, timeout: Duration) -> Self {
        Cluster { world, backend, timeout, met: Mutex::default(), failed: Arc::default() }
    }

    fn met(&self) -> MutexGuard<'_, Option<Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(
        &self,
        operation: impl FnOnce(&Met) -> trainyard_native::Result<Work>,
    ) -> Result<Box<dyn Pending>, BoxError> {
        let met = self.met();
        let met = met.as_ref().ok_or("the ranks have not met, or parted after a failure")?;
        let work = noted(&self.failed, operation(met))?;
        Ok(Box::new(UnderWay { work, timeout: self.timeout, failed: self.failed.clone() }))
    }
}

impl Communicator for Cluster {
    fn rank(&self) -> usize {
        self.world.rank
    }

    fn world_size(&self) -> usize {
        self.world.world_size
    }

    fn join(&self, introduction: &Introduction) -> Result<(), BoxError> {
        let on_cuda = matches!(introduction.device, Device::Cuda(_));
        let backend = match self.backend {
            Backend::Auto if on_cuda => Backend::Nccl,
            Backend::Auto => Backend::Gloo,
            Backend::Gloo if on_cuda => {
                return Err(
                    "distributed.backend = \"gloo\" is for models on the CPU; this one is on a \
                            CUDA device, so use \"nccl\" or \"auto\""
                        .into(),
                );
            }
            Backend::Nccl if !on_cuda => {
                return Err(
                    "distributed.backend = \"nccl\" is for models on a CUDA device; this one is \
                            on the CPU, so use \"gloo\" or \"auto\""
                        .into(),
                );
            }
            chosen => chosen,
        };
        share_processors(&self.world);
        let place = (self.world.rank, self.world.world_size);
        let (timeout, device) = (self.timeout, introduction.device);
        let mut introduction = introduction.clone();
        introduction.fingerprints.extend(program::fingerprints());
        let met = meet(&self.world, &introduction, timeout, move |meeting| {
            let control = group(&meeting, "control", Backend::Gloo, place, timeout)?;
            let data = group(&meeting, "data", backend, place, timeout)?;
            // NCCL connects to the others only as it first has something to send, and would wait for them without end.
            let one = Tensor::f_ones([1], (Kind::Float, device))?;
            data.all_reduce(&one, Reduction::Sum)?.wait_on_host(timeout)?;
            Ok(Met { meeting, control, data })
        })?;
        *self.met() = Some(met);
        Ok(())
    }

    fn sum(&self, tensor: &Tensor) -> Result<Box<dyn Pending>, BoxError> {
        self.start(|met| met.data.all_reduce(tensor, Reduction::Sum))
    }

    fn sum_on_host(&self, tensor: &Tensor) -> Result<Box<dyn Pending>, BoxError> {
        self.start(|met| met.control.all_reduce(tensor, Reduction::Sum))
    }

    fn broadcast(&self, tensor: &Tensor) -> Result<Box<dyn Pending>, BoxError> {
        self.start(|met| met.data.broadcast(tensor, 0))
    }

    fn abandon(&self) {
        self.failed.store(true, Relaxed);
    }

    fn likely_cause(&self) -> Option<String> {
        // What comes next finds no ranks.
        let Met { meeting, control, data } = self.met().take()?;
        meeting.who_is_silent(&self.world, move || part([control, data]))
    }
}

/// Ends what failed.
fn part(groups: [ProcessGroup; 2]) {
    for group in groups {
        // So that the others learn of it now, and not when their time is up; and so that nothing on a device waits
        // for them any more.
        group.abort().ok();
        // Releasing it would wait for what is under way, which may be as long as the timeout.
        group.leak();
    }
}

/// How long a group may take to end what is under way.
const PARTING: Duration = Duration::from_secs(1);

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(Met { control, data, .. }) = self.met().take() else { return };
        let groups = [control, data];
        // In a thread of its own, for another rank may have ended while this one waits for it.
        match self.failed.load(Relaxed) {
            true => within(PARTING, move || part(groups)),
            false => within(self.timeout, move || drop(groups)),
        };
    }
}

fn group(
    meeting: &Meeting,
    name: &str,
    backend: Backend,
    place: (usize, usize),
    timeout: Duration,
) -> Result<ProcessGroup, BoxError> {
    let store = meeting.store.prefixed(name)?;
    Ok(match backend {
        Backend::Nccl => ProcessGroup::nccl(&store, place, timeout)?,
        _ => {
            let interface = std::env::var("GLOO_SOCKET_IFNAME").ok();
            let interface = interface.as_deref().filter(|name| !name.is_empty());
            ProcessGroup::gloo(&store, (meeting.address, interface), place, timeout)?
        }
    })
}

/// Takes note of a failure.
fn noted<T>(failed: &AtomicBool, result: trainyard_native::Result<T>) -> Result<T, BoxError> {
    result.map_err(|error| {
        failed.store(true, Relaxed);
        error.into()
    })
}

/// A collective under way.
struct UnderWay {
    work: Work,
    timeout: Duration,
    failed: Arc<AtomicBool>,
}

impl Pending for UnderWay {
    fn done(&self) -> Result<bool, BoxError> {
        Ok(self.work.done()?)
    }

    fn wait(self: Box<Self>) -> Result<(), BoxError> {
        let UnderWay { work, failed, .. } = *self;
        noted(&failed, work.wait())
    }

    fn wait_on_host(self: Box<Self>) -> Result<(), BoxError> {
        let UnderWay { work, timeout, failed } = *self;
        noted(&failed, work.wait_on_host(timeout))
    }
}

/// Gives this rank its part of the machine's processors, where nobody else has decided: ranks that each
/// start a thread on every one of them get in each other's way.
fn share_processors(world: &World) {
    let ranks = world.local_world_size.unwrap_or(1);
    let decided = world.binds_processors || std::env::var_os("OMP_NUM_THREADS").is_some();
    if ranks < 2 || decided {
        return;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors / ranks).max(1);
    tracing::info!(
        "OMP_NUM_THREADS is not set; {threads} of {processors} threads for each of {ranks} ranks"
    );
    tch::set_num_threads(threads as i32);
}
