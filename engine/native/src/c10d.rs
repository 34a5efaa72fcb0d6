//! Process groups: collectives among the ranks of a run.
use crate::error::{Error, Result, check};
use crate::ffi;
use crate::store::{Store, ms, text};
use std::ffi::{c_int, c_void};
use std::net::IpAddr;
use std::ptr::null_mut;
use std::time::Duration;
use tch::{Device, Tensor};

/// How a collective puts the ranks' tensors together, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Reduction {
    /// Their sum.
    Sum = 0,
    /// The least.
    Min = 3,
    /// The greatest.
    Max = 4,
}

/// A c10d process group: its ranks call the same collectives in the same order, each of which runs in the
/// background and gives a [`Work`].
#[derive(Debug)]
pub struct ProcessGroup {
    raw: *mut c_void,
    rank: usize,
    size: usize,
    gloo: bool,
}

// SAFETY: a c10d backend may move between threads; what `&self` does is not guarded by c10d, hence no Sync.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// A group on Gloo, for tensors on the CPU. `size` ranks meet under the keys of `store`. The others
    /// reach this process at `address`, or by the `interface` of that name. `timeout` holds for
    /// each collective.
    ///
    /// # Errors
    /// No such address or interface here; a rank did not come in time.
    pub fn gloo(
        store: &Store,
        (address, interface): (IpAddr, Option<&str>),
        (rank, size): (usize, usize),
        timeout: Duration,
    ) -> Result<Self> {
        let (rank_c, size_c) = place(rank, size)?;
        let address = text(&address.to_string())?;
        let interface = interface.map(text).transpose()?;
        let interface = interface.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
        let (mut raw, store) = (null_mut(), store.as_ptr());
        // SAFETY: a live store, of which the group keeps a reference; texts that end with NUL and outlive
        // the call; `raw` is written on success.
        check(unsafe {
            let timeout = ms(timeout);
            let address = address.as_ptr();
            ffi::ty_group_gloo(&mut raw, store, address, interface, rank_c, size_c, timeout)
        })?;
        Ok(ProcessGroup { raw, rank, size, gloo: true })
    }

    /// A group on NCCL, for tensors on CUDA devices, of which each rank uses another; see
    /// [`gloo`](ProcessGroup::gloo). CUDA has to be [loaded](crate::load_cuda).
    ///
    /// # Errors
    /// CUDA is not loaded; this build has no NCCL, for want of its headers.
    pub fn nccl(store: &Store, (rank, size): (usize, usize), timeout: Duration) -> Result<Self> {
        let place = place(rank, size)?;
        if tch::Cuda::device_count() < 1 {
            return Err(Error("NCCL needs a CUDA device, and none is loaded".to_owned()));
        }
        let raw = nccl(store, place, ms(timeout))?;
        Ok(ProcessGroup { raw, rank, size, gloo: false })
    }

    /// This process's number in the group, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes are in the group.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Replaces `tensor`, of one shape and kind on all ranks, by its reduction over them.
    ///
    /// # Errors
    /// The backend has no such tensors; a connection is gone already.
    pub fn all_reduce(&self, tensor: &Tensor, how: Reduction) -> Result<Work> {
        self.usable(&[tensor])?;
        self.work([tensor], |work, group| {
            // SAFETY: a live group and tensor; the work keeps the tensor until it is done.
            unsafe { ffi::ty_all_reduce(work, group, tensor.as_ptr(), how as c_int) }
        })
    }

    /// Replaces `tensor` on every rank by what it is on `root`.
    ///
    /// # Errors
    /// As [`all_reduce`](ProcessGroup::all_reduce); there is no such rank.
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        self.usable(&[tensor])?;
        let (root, _) = place(root, self.size)?;
        self.work([tensor], |work, group| {
            // SAFETY: as in `all_reduce`.
            unsafe { ffi::ty_broadcast(work, group, tensor.as_ptr(), root) }
        })
    }

    /// Puts every rank's `own` behind one another into `gathered`, which has as many elements as all of
    /// them.
    ///
    /// # Errors
    /// As [`all_reduce`](ProcessGroup::all_reduce); the sizes do not fit.
    pub fn all_gather(&self, gathered: &Tensor, own: &Tensor) -> Result<Work> {
        self.parts(gathered, own)?;
        self.work([gathered, own], |work, group| {
            // SAFETY: as in `all_reduce`.
            unsafe { ffi::ty_all_gather(work, group, gathered.as_ptr(), own.as_ptr()) }
        })
    }

    /// Reduces `whole` over the ranks and leaves this rank's part of the result in `own`: the inverse of
    /// [`all_gather`](ProcessGroup::all_gather).
    ///
    /// # Errors
    /// As [`all_gather`](ProcessGroup::all_gather).
    pub fn reduce_scatter(&self, own: &Tensor, whole: &Tensor, how: Reduction) -> Result<Work> {
        self.parts(whole, own)?;
        self.work([own, whole], |work, group| {
            // SAFETY: as in `all_reduce`.
            unsafe {
                ffi::ty_reduce_scatter(work, group, own.as_ptr(), whole.as_ptr(), how as c_int)
            }
        })
    }

    /// Done once all ranks have called it.
    ///
    /// # Errors
    /// A connection is gone already.
    pub fn barrier(&self) -> Result<Work> {
        // SAFETY: a live group.
        self.work([], |work, group| unsafe { ffi::ty_barrier(work, group) })
    }

    /// Gives up what is under way: the peers' waits for this rank end with an error at once, and the group
    /// is of no more use. Gloo's waits of this rank itself end with their timeout all the same.
    ///
    /// # Errors
    /// The backend's.
    pub fn abort(&self) -> Result<()> {
        // SAFETY: a live group.
        check(unsafe { ffi::ty_group_abort(self.raw) })
    }

    /// Leaves the group to itself, for good: releasing it would wait for what is under way, which after a
    /// failure may be long.
    pub fn leak(self) {
        std::mem::forget(self);
    }

    fn work<const N: usize>(
        &self,
        tensors: [&Tensor; N],
        start: impl FnOnce(*mut *mut c_void, *mut c_void) -> *mut std::ffi::c_char,
    ) -> Result<Work> {
        let mut raw = null_mut();
        check(start(&mut raw, self.raw))?;
        Ok(Work { raw, _tensors: tensors.iter().map(|tensor| tensor.shallow_clone()).collect() })
    }

    fn usable(&self, tensors: &[&Tensor]) -> Result<()> {
        match tensors
            .iter()
            .find(|tensor| !tensor.is_contiguous() || self.gloo != (tensor.device() == Device::Cpu))
        {
            None => Ok(()),
            Some(other) if other.is_contiguous() => Err(Error(format!(
                "{} takes no tensor on {:?}",
                if self.gloo { "Gloo" } else { "NCCL" },
                other.device()
            ))),
            Some(other) => Err(Error(format!(
                "a tensor of size {:?} is not contiguous, which a collective needs",
                other.size()
            ))),
        }
    }

    fn parts(&self, whole: &Tensor, part: &Tensor) -> Result<()> {
        self.usable(&[whole, part])?;
        match whole.numel() == part.numel() * self.size && whole.kind() == part.kind() {
            true => Ok(()),
            false => Err(Error(format!(
                "{} elements of {:?} are not {} ranks' {} of {:?}",
                whole.numel(),
                whole.kind(),
                self.size,
                part.numel(),
                part.kind()
            ))),
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: made by the shim, released once.
        unsafe { ffi::ty_group_free(self.raw) }
    }
}

/// A collective under way. Dropping it does not stop it.
#[derive(Debug)]
pub struct Work {
    raw: *mut c_void,
    /// The backend reads and writes them meanwhile.
    _tensors: Vec<Tensor>,
}

// SAFETY: c10d's works may be asked and waited for from any one thread.
unsafe impl Send for Work {}

impl Work {
    /// Whether it is over, well or not.
    ///
    /// # Errors
    /// The backend's.
    pub fn done(&self) -> Result<bool> {
        let mut done = false;
        // SAFETY: a live work; `done` outlives the call.
        check(unsafe { ffi::ty_work_done(self.raw, &mut done) })?;
        Ok(done)
    }

    /// Waits until it is over; on CUDA, lets what comes next on the current stream wait.
    ///
    /// # Errors
    /// It failed: a peer is gone, or too late.
    pub fn wait(self) -> Result<()> {
        // SAFETY: a live work.
        check(unsafe { ffi::ty_work_wait(self.raw, -1) })
    }

    /// Waits until it is over, on CUDA too, so long at most.
    ///
    /// # Errors
    /// It failed: a peer is gone, or too late.
    pub fn wait_on_host(self, timeout: Duration) -> Result<()> {
        // SAFETY: a live work.
        check(unsafe { ffi::ty_work_wait(self.raw, ms(timeout)) })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: made by the shim, released once; the group has a reference of its own while it runs.
        unsafe { ffi::ty_work_free(self.raw) }
    }
}

fn place(rank: usize, size: usize) -> Result<(c_int, c_int)> {
    match (c_int::try_from(rank), c_int::try_from(size)) {
        (Ok(rank_c), Ok(size_c)) if rank < size => Ok((rank_c, size_c)),
        _ => Err(Error(format!("there is no rank {rank} of {size}"))),
    }
}

#[cfg(nccl)]
fn nccl(store: &Store, (rank, size): (c_int, c_int), timeout: i64) -> Result<*mut c_void> {
    const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtrainyard_nccl.so"));
    let (mut raw, image, length) = (null_mut(), IMAGE.as_ptr(), IMAGE.len());
    // SAFETY: a live store, of which the group keeps a reference; the image of a library that was linked
    // to the libtorch of this build; `raw` is written on success.
    check(unsafe {
        ffi::ty_group_nccl(&mut raw, store.as_ptr(), image, length, rank, size, timeout)
    })?;
    Ok(raw)
}

#[cfg(not(nccl))]
fn nccl(_: &Store, _: (c_int, c_int), _: i64) -> Result<*mut c_void> {
    Err(Error(
        "this program was built without NCCL, whose headers were not beside torch; \
         `scripts/setup --full` brings them"
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::kept;
    use std::net::Ipv4Addr;
    use std::thread;
    use tch::Kind;

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Runs `body` on as many threads as ranks; their results by rank.
    fn ranks<T: Send>(size: usize, body: impl Fn(ProcessGroup) -> T + Sync) -> Vec<T> {
        let ((_kept, port), body) = (kept(TIMEOUT), &body);
        thread::scope(|scope| {
            let run = |rank| {
                scope.spawn(move || {
                    let store = Store::connect("127.0.0.1", port, TIMEOUT).unwrap();
                    let here = (Ipv4Addr::LOCALHOST.into(), None);
                    body(ProcessGroup::gloo(&store, here, (rank, size), TIMEOUT).unwrap())
                })
            };
            let threads: Vec<_> = (0..size).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn range(from: usize, count: usize) -> Tensor {
        let (from, count) = (from as i64, count as i64);
        Tensor::arange_start(from, from + count, (Kind::Float, Device::Cpu))
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn collectives() {
        let found = ranks(3, |group| {
            let rank = group.rank();
            let (sum, max, sent) = (range(rank, 2), range(rank, 2), range(10 * rank, 2));
            let works =
                [group.all_reduce(&sum, Reduction::Sum), group.all_reduce(&max, Reduction::Max)];
            works.into_iter().for_each(|work| work.unwrap().wait().unwrap());
            group.broadcast(&sent, 2).unwrap().wait().unwrap();
            let (gathered, part) = (range(0, 6), range(0, 2));
            group.all_gather(&gathered, &sent).unwrap().wait().unwrap();
            group.reduce_scatter(&part, &range(0, 6), Reduction::Sum).unwrap().wait().unwrap();
            let barrier = group.barrier().unwrap();
            while !barrier.done().unwrap() {
                thread::yield_now();
            }
            [sum, max, sent, gathered, part].map(|tensor| values(&tensor))
        });
        for (rank, found) in found.into_iter().enumerate() {
            let [sum, max, sent, gathered, part] = found;
            assert_eq!((sum, max), (vec![3.0, 6.0], vec![2.0, 3.0]));
            assert_eq!(sent, [20.0, 21.0]);
            assert_eq!(gathered, [20.0, 21.0].repeat(3));
            assert_eq!(part, [2 * rank, 2 * rank + 1].map(|i| 3.0 * i as f64));
        }
    }

    #[test]
    fn brain_floats_are_summed() {
        for found in ranks(2, |group| {
            let tensor = range(group.rank() + 1, 3).to_kind(Kind::BFloat16);
            group.all_reduce(&tensor, Reduction::Sum).unwrap().wait().unwrap();
            values(&tensor)
        }) {
            assert_eq!(found, [3.0, 5.0, 7.0]);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        ranks(1, |group| {
            let error = group.all_reduce(&range(0, 6).view([2, 3]).tr(), Reduction::Sum);
            assert!(error.unwrap_err().to_string().contains("[3, 2] is not contiguous"));
            let error = group.all_gather(&range(0, 6), &range(0, 5)).unwrap_err().to_string();
            assert!(error.contains("6 elements of Float are not 1 ranks' 5"), "{error}");
        });
    }

    #[test]
    fn a_peer_that_ends_fails_the_wait() {
        let found = ranks(2, |group| match group.rank() {
            0 => Ok(()),
            _ => group.all_reduce(&range(0, 1000), Reduction::Sum).and_then(Work::wait),
        });
        assert!(found[1].is_err(), "{found:?}");
    }

    #[test]
    fn a_peer_that_gives_up_fails_the_wait() {
        let all_over = std::sync::Barrier::new(3);
        for found in ranks(3, |group| {
            let sum = group.all_reduce(&range(0, 1000), Reduction::Sum).unwrap();
            let found = match group.rank() {
                0 => group.abort().map(|()| None),
                _ => Ok(sum.wait().err()),
            };
            all_over.wait();
            group.leak();
            found
        })
        .into_iter()
        .skip(1)
        {
            let said = found.unwrap().expect("the sum had no part of rank 0's").to_string();
            assert!(said.contains("by peer"), "{said}");
        }
    }

    #[test]
    fn nccl_says_what_is_missing() {
        if tch::Cuda::device_count() > 0 {
            return;
        }
        let (store, _) = kept(TIMEOUT);
        let error = ProcessGroup::nccl(&store, (0, 1), TIMEOUT).unwrap_err().to_string();
        assert!(error.contains("needs a CUDA device"), "{error}");
    }

    #[test]
    fn there_is_no_rank_beyond_the_size() {
        assert_eq!(place(2, 2), Err(Error("there is no rank 2 of 2".to_owned())));
    }
}
