//! How the ranks of a run find one another, and make sure that they belong together.
use super::entrance::{Entrance, address, entrance, keeper, leave, left};
use super::session;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use trainyard::{BoxError, Introduction, World};
use trainyard_native::Store;

/// What the ranks have in common once they have met.
#[derive(Clone)]
pub(super) struct Meeting {
    /// The store, under keys of this meeting alone.
    pub store: Arc<Store>,
    /// Where the other ranks reach this process.
    pub address: IpAddr,
}

/// How long a rank that failed waits for word from the others.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// How much longer rank 0 does, since the store ends with it.
const LAST: Duration = Duration::from_millis(500);

/// Longer than rank 0's wait, so that its word on who is missing still comes.
const SLACK: Duration = Duration::from_secs(2);

/// How long ranks may come after others and still learn what is wrong.
const LATE: Duration = Duration::from_secs(5);

/// How long a rank waits for word until it looks whether another run has begun, and whether the store is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long a store that answers at all may take for it.
const ANSWER: Duration = Duration::from_secs(1);

/// Meets the other ranks at the world's master, within `timeout`, and does `next` with what they have in
/// common, such as connecting to each.
pub(super) fn meet<T: Send + 'static>(
    world: &World,
    introduction: &Introduction,
    timeout: Duration,
    next: impl FnOnce(Meeting) -> Result<T, BoxError> + Send + 'static,
) -> Result<T, BoxError> {
    let (host, port) = world.master.clone().ok_or("nobody says where the ranks meet")?;
    let seconds = timeout.as_secs_f64();
    let silent = format!(
        "{host}:{port}, where the ranks meet, does not answer within {seconds} s: is {} stuck, or is it \
         another program that listens there?",
        keeper(world),
    );
    let (introduction, own) = (introduction.clone(), world.clone());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let entered = || drop(sender.send(None));
        let met = meeting(&own, (&host, port), &introduction, timeout, &entered);
        sender.send(Some(met)).ok()
    });
    // Once to come to the place, and once more for all others to come.
    let meeting = loop {
        match receiver.recv_timeout(timeout + SLACK + ANSWER) {
            Ok(Some(met)) => break met?,
            Ok(None) => {}
            Err(_) => return Err(silent.into()),
        }
    };
    let common = meeting.clone();
    let done = within(timeout + ANSWER, move || next(meeting));
    let done = done.unwrap_or_else(|| Err(format!("no connection within {seconds} s").into()));
    done.map_err(|error| {
        let address = common.address;
        let silent = common.who_is_silent(world, || {});
        let silent = silent.map(|silent| silent + " Or: ").unwrap_or_default();
        let said = error.to_string();
        let said = said.lines().next().unwrap_or_default();
        format!(
            "the ranks met, but have not reached one another: {silent}this one is at {address}, or where \
             GLOO_SOCKET_IFNAME says; is that open to the others, on all ports? ({said})"
        )
        .into()
    })
}

/// Runs `body` in a thread of its own, which is left to itself when it takes longer: c10d's store waits
/// for the bytes of an answer without end.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    body: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more to one that is late.
    thread::spawn(move || sender.send(body()).ok());
    receiver.recv_timeout(limit).ok()
}

/// Meets in the last run that began, also where that is a later one than the first that was there. Calls
/// `entered` as often as a run is found.
fn meeting(
    world: &World,
    place: (&str, u16),
    introduction: &Introduction,
    timeout: Duration,
    entered: &dyn Fn(),
) -> Result<Meeting, BoxError> {
    loop {
        let until = Instant::now() + timeout;
        let entrance = entrance(world, place, (timeout, until))?;
        entered();
        if let Some(store) = compare_all(world, &entrance, introduction, timeout)? {
            let address = address(world, place.0, place.1);
            return Ok(Meeting { store: Arc::new(store), address });
        }
        leave(world, place);
    }
}

/// Every rank compares its introduction with rank 0's and tells it; rank 0 gathers that and gives all the
/// same word, to go on or why not. The store under keys of this meeting; none where another run began meanwhile.
fn compare_all(
    world: &World,
    entrance: &Entrance,
    introduction: &Introduction,
    timeout: Duration,
) -> Result<Option<Store>, BoxError> {
    // From when there is a run, and so a rank 0, which then began to wait itself or did so before.
    let until = Instant::now() + timeout;
    let store = session::of_meeting(&entrance.store, entrance.run, entrance.number)?;
    let go = match world.rank {
        0 => {
            let mine = json!({
                "configuration": introduction.configuration,
                "model": introduction.model,
                "world_size": world.world_size,
            });
            store.set("introduction", mine.to_string().as_bytes())?;
            let problem = gather(&store, world.world_size, until, timeout)?;
            store.set("go", problem.as_bytes())?;
            if !problem.is_empty() {
                // The store ends with this process; those who came shall read it before.
                let soon = (Instant::now() + LATE).min(until + ANSWER);
                for rank in 1..world.world_size {
                    if welcome(&store, rank, soon)? {
                        store.get(&format!("heard/{rank}"), left(soon)).ok();
                    }
                }
            }
            problem
        }
        rank => {
            let patience = Patience { world, entrance, timeout };
            let word = |key: &str| patience.wait(&store, key, until + SLACK);
            // What a run says whose rank 0 has ended is of no use: it has to answer first.
            store.set(&format!("hello/{rank}"), b"")?;
            let welcomed = word(&format!("welcome/{rank}"));
            let first = match welcomed {
                Ok(None) => return Ok(None),
                Ok(Some(_)) => word("introduction")?,
                // Rank 0 waits for as many as it knows of.
                Err(silence) => match store.get("introduction", left(Instant::now())) {
                    Ok(first) => {
                        return Err(
                            compare(&first, introduction, world)?.map_or(silence, Into::into)
                        );
                    }
                    Err(_) => return Err(silence),
                },
            };
            let Some(first) = first else { return Ok(None) };
            let difference = compare(&first, introduction, world)?;
            store.set(&format!("verdict/{rank}"), difference.unwrap_or_default().as_bytes())?;
            let Some(go) = word("go")? else { return Ok(None) };
            store.set(&format!("heard/{rank}"), b"")?;
            text(go)
        }
    };
    if go.is_empty() { Ok(Some(store)) } else { Err(go.into()) }
}

/// Answers a rank that comes by then.
fn welcome(store: &Store, rank: usize, until: Instant) -> Result<bool, BoxError> {
    let hello = format!("hello/{rank}");
    // Who came while another was waited for came in time.
    let came = store.get(&hello, left(until)).is_ok() || store.has(&hello)?;
    if came {
        store.set(&format!("welcome/{rank}"), b"")?;
    }
    Ok(came)
}

/// How a rank waits for word from rank 0.
struct Patience<'a> {
    world: &'a World,
    entrance: &'a Entrance,
    timeout: Duration,
}

impl Patience<'_> {
    /// What `key` is set to by then; none if another run begins before.
    fn wait(&self, store: &Store, key: &str, until: Instant) -> Result<Option<Vec<u8>>, BoxError> {
        let Patience { world, entrance, timeout } = self;
        let gone = || format!("{}, where the ranks meet, no longer answers", keeper(world));
        loop {
            if let Ok(value) = store.get(key, left(until).min(LOOK)) {
                return Ok(Some(value));
            }
            let over = session::is_over(&entrance.store, entrance.run).map_err(|_| gone())?;
            if world.launcher_answers && over {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Err(session::no_word(*timeout).into());
            }
        }
    }
}

/// Answers every rank and waits for its word; empty, or why they cannot go on.
fn gather(
    store: &Store,
    world_size: usize,
    until: Instant,
    timeout: Duration,
) -> Result<String, BoxError> {
    let mut missing = Vec::new();
    for rank in 1..world_size {
        let came = welcome(store, rank, until)?;
        let verdict = || store.get(&format!("verdict/{rank}"), left(until + ANSWER)).ok();
        match came.then(verdict).flatten() {
            Some(verdict) if verdict.is_empty() => {}
            Some(verdict) => return Ok(text(verdict)),
            None => missing.push(rank),
        }
    }
    Ok(match missing.is_empty() {
        true => String::new(),
        false => format!(
            "{} of {world_size} did not come within {} s",
            ranks(&missing),
            timeout.as_secs_f64()
        ),
    })
}

/// How this rank differs from rank 0, if it does.
fn compare(first: &[u8], mine: &Introduction, world: &World) -> Result<Option<String>, BoxError> {
    let first: Value = serde_json::from_slice(first)?;
    let (rank, world_size) = (world.rank, world.world_size);
    if first["world_size"] != world_size {
        return Ok(Some(format!(
            "rank {rank} was started as one of {world_size}, and rank 0 as one of {}",
            first["world_size"]
        )));
    }
    let model: Vec<String> = serde_json::from_value(first["model"].clone())?;
    let theirs = (&first["configuration"], model.as_slice());
    Ok(Introduction::difference(theirs, rank, (&mine.configuration, &mine.model)))
}

impl Meeting {
    /// After a failure: tells the others of it, then parts from them, and says who is silent soon after.
    pub fn who_is_silent(
        self,
        world: &World,
        part: impl FnOnce() + Send + 'static,
    ) -> Option<String> {
        let (own, world_size) = (world.rank, world.world_size);
        let patience = if own == 0 { LAST_WORDS + LAST } else { LAST_WORDS };
        let (sender, parted) = mpsc::channel();
        let silent = within(patience + ANSWER, move || {
            let told = self.store.set(&key(own), b"");
            // Ending what is under way on a device may take longer than the others need to speak.
            thread::spawn(move || {
                part();
                sender.send(()).ok()
            });
            told.and_then(|()| silent(&self.store, (own, world_size), patience)).ok()
        });
        if silent.is_some() {
            // A process should not end in the middle of it.
            parted.recv_timeout(ANSWER).ok();
        }
        match silent.flatten() {
            None => Some(format!(
                "{}, where the ranks met, no longer answers: ended, or stuck? (If it ended over another rank, its \
                 own last line names that one.)",
                keeper(world)
            )),
            Some(silent) if silent.is_empty() => None,
            Some(silent) => {
                Some(format!("no word from {} since: ended, or stuck?", ranks(&silent)))
            }
        }
    }
}

/// Where rank `rank` says that it failed.
fn key(rank: usize) -> String {
    format!("failed/{rank}")
}

/// Who does not say soon that they failed too.
fn silent(
    store: &Store,
    (own, world_size): (usize, usize),
    patience: Duration,
) -> trainyard_native::Result<Vec<usize>> {
    let until = Instant::now() + patience;
    let mut silent: Vec<usize> = (0..world_size).filter(|&rank| rank != own).collect();
    while !silent.is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
        let said = |&rank: &usize| store.has(&key(rank)).map(|said| (rank, said));
        match silent.iter().map(said).collect::<trainyard_native::Result<Vec<_>>>() {
            Ok(all) => silent = all.into_iter().filter(|a| !a.1).map(|a| a.0).collect(),
            // Rank 0 said its last word, took the store with it, and has not waited for this rank.
            Err(_) if !silent.contains(&0) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(silent)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `rank 3`, `ranks 1, 2`.
fn ranks(list: &[usize]) -> String {
    let numbers: Vec<_> = list.iter().map(usize::to_string).collect();
    format!("rank{} {}", if list.len() == 1 { "" } else { "s" }, numbers.join(", "))
}
