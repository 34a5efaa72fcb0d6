//! How the ranks of a run find one another, and make sure that they belong together.
use super::entrance::{address, entrance, keeper, left};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use trainyard::{BoxError, Introduction, World};
use trainyard_native::Store;

/// What the ranks have in common once they have met.
pub(super) struct Meeting {
    /// The store, under keys of this meeting alone.
    pub store: Store,
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
    let (world, introduction) = (world.clone(), introduction.clone());
    let met = within(timeout + SLACK + ANSWER, move || {
        meeting(&world, (&host, port), &introduction, timeout)
    });
    let meeting = met.unwrap_or_else(|| Err(silent.into()))?;
    let address = meeting.address;
    let done = within(timeout + SLACK, move || next(meeting));
    let done = done.unwrap_or_else(|| Err(format!("no connection within {seconds} s").into()));
    done.map_err(|error| {
        format!(
            "the ranks met, but cannot reach one another: this one is at {address}, or where \
             GLOO_SOCKET_IFNAME says; is that open to the others, on all ports, and are all still there? \
             ({})",
            error.to_string().lines().next().unwrap_or_default()
        )
        .into()
    })
}

/// Runs `body` in a thread of its own, which is left to itself when it takes longer: c10d's store waits
/// for the bytes of an answer without end.
fn within<T: Send + 'static>(
    limit: Duration,
    body: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more to one that is late.
    thread::spawn(move || sender.send(body()).ok());
    receiver.recv_timeout(limit).ok()
}

/// Every rank compares its introduction with rank 0's and tells it; rank 0 gathers that and gives all the
/// same word, to go on or why not.
fn meeting(
    world: &World,
    (host, port): (&str, u16),
    introduction: &Introduction,
    timeout: Duration,
) -> Result<Meeting, BoxError> {
    let until = Instant::now() + timeout;
    let (entrance, number) = entrance(world, host, port, timeout)?;
    let store = entrance.prefixed(&format!("trainyard/{}/{number}", world.restarts))?;
    if let Some(problem) = check_size(&store, world)? {
        let (key, word) = match world.rank {
            0 => ("introduction".to_owned(), json!({"problem": problem}).to_string()),
            rank => (format!("verdict/{rank}"), problem.clone()),
        };
        store.set(&key, word.as_bytes())?;
        store.set(&format!("heard/{}", world.rank), b"")?;
        return Err(problem.into());
    }
    check_alone(&store, world)?;
    let mine = json!({"configuration": introduction.configuration, "model": introduction.model});
    let go = match world.rank {
        0 => {
            store.set("introduction", mine.to_string().as_bytes())?;
            let problem = gather(&store, world.world_size, until, timeout)?;
            store.set("go", problem.as_bytes())?;
            if !problem.is_empty() {
                // The store ends with this process; those who came shall read it before.
                let soon = (Instant::now() + LATE).min(until + ANSWER);
                (1..world.world_size)
                    .for_each(|rank| drop(store.get(&format!("heard/{rank}"), left(soon))));
            }
            problem
        }
        rank => {
            let seconds = timeout.as_secs_f64();
            let no_word = |_| format!("no word from rank 0 within {seconds} s");
            let first = store.get("introduction", left(until)).map_err(no_word)?;
            let difference = compare(&first, introduction, rank)?;
            store.set(&format!("verdict/{rank}"), difference.unwrap_or_default().as_bytes())?;
            let go = text(store.get("go", left(until) + SLACK).map_err(no_word)?);
            store.set(&format!("heard/{rank}"), b"")?;
            go
        }
    };
    match go.is_empty() {
        true => Ok(Meeting { store, address: address(world, host, port) }),
        false => Err(go.into()),
    }
}

/// What is wrong if this rank was started as one of another number.
fn check_size(store: &Store, world: &World) -> Result<Option<String>, BoxError> {
    let World { rank, world_size, .. } = world;
    let first = text(store.set_first("world_size", world_size.to_string().as_bytes())?);
    let differs = first != world_size.to_string();
    Ok(differs.then(|| {
        format!(
            "rank {rank} was started as one of {world_size}, and another rank as one of {first}"
        )
    }))
}

/// A second process of one rank is told so, and the others go on with the first.
fn check_alone(store: &Store, world: &World) -> Result<(), BoxError> {
    let me = format!("process {} of {}", std::process::id(), host_name());
    let first = text(store.set_first(&format!("rank/{}", world.rank), me.as_bytes())?);
    match first == me {
        true => Ok(()),
        false => Err(format!("rank {} is there twice: {me}, and {first}", world.rank).into()),
    }
}

/// Waits for every rank's word; empty, or why they cannot go on.
fn gather(
    store: &Store,
    world_size: usize,
    until: Instant,
    timeout: Duration,
) -> Result<String, BoxError> {
    let mut missing = Vec::new();
    for rank in 1..world_size {
        match store.get(&format!("verdict/{rank}"), left(until)) {
            Ok(verdict) if verdict.is_empty() => {}
            Ok(verdict) => return Ok(text(verdict)),
            Err(_) => missing.push(rank),
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

fn compare(first: &[u8], mine: &Introduction, rank: usize) -> Result<Option<String>, BoxError> {
    let first: Value = serde_json::from_slice(first)?;
    if let Some(problem) = first["problem"].as_str() {
        return Err(problem.into());
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
        let silent = within(patience + ANSWER, move || {
            let told = self.store.set(&key(own), b"");
            part();
            told.and_then(|()| silent(&self.store, (own, world_size), patience)).ok()
        });
        match silent.flatten() {
            None => Some(format!("{}, where the ranks met, no longer answers", keeper(world))),
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

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `rank 3`, `ranks 1, 2`.
fn ranks(list: &[usize]) -> String {
    let numbers: Vec<_> = list.iter().map(usize::to_string).collect();
    format!("rank{} {}", if list.len() == 1 { "" } else { "s" }, numbers.join(", "))
}
