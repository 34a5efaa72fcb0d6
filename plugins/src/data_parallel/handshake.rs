//! How the ranks of a run find one another, and make sure that they belong together.
use super::address::Link;
use super::rendezvous::{Rendezvous, keeper, leave, left, rendezvous};
use super::session;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use trainyard::{BoxError, Fingerprint, Introduction, World};
use trainyard_native::Store;

/// What the ranks have in common once they have met.
#[derive(Clone)]
pub(super) struct Meeting {
    /// The store, under keys of this meeting alone.
    pub store: Arc<Store>,
    /// Where the other ranks reach this process.
    pub address: IpAddr,
}

/// Longer than rank 0's wait, so that its word on who is missing still comes.
const SLACK: Duration = Duration::from_secs(2);

/// How long ranks may come after others and still learn what is wrong.
const LATE: Duration = Duration::from_secs(5);

/// How long a rank waits for word until it looks whether another run has begun, and whether the store is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long a store that answers at all may take for it.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// What rank 0 opens with.
#[derive(Serialize, Deserialize)]
struct Opening {
    world_size: usize,
    configuration: Value,
    model: Vec<String>,
    fingerprints: Vec<Fingerprint>,
}

/// What another rank answers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Verdict {
    /// Why it cannot be trained together with rank 0.
    problem: Option<String>,
    /// What differs and is only to be told, by name.
    differs: Vec<String>,
}

/// The word that rank 0 gives to all.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Word {
    /// Why nobody goes on.
    problem: Option<String>,
    /// How a rank of another machine than the meeting place's reached that.
    elsewhere: Option<Link>,
}

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
        let rendezvous = rendezvous(world, place, (timeout, until))?;
        entered();
        if let Some((store, elsewhere)) = compare_all(world, &rendezvous, introduction, timeout)? {
            let address = rendezvous.link.address(elsewhere);
            return Ok(Meeting { store: Arc::new(store), address });
        }
        leave(world, place);
    }
}

/// Every rank compares its introduction with rank 0's and tells it; rank 0 gathers that and gives all the
/// same word, to go on or why not. The store under keys of this meeting, and how a rank of another machine
/// reached it; none where another run began meanwhile.
fn compare_all(
    world: &World,
    rendezvous: &Rendezvous,
    introduction: &Introduction,
    timeout: Duration,
) -> Result<Option<(Store, Option<Link>)>, BoxError> {
    // From when there is a run, and so a rank 0, which then began to wait itself or did so before.
    let until = Instant::now() + timeout;
    let store = session::of_meeting(&rendezvous.store, rendezvous.run, rendezvous.number)?;
    let go = match world.rank {
        0 => {
            let mine = Opening {
                world_size: world.world_size,
                configuration: introduction.configuration.clone(),
                model: introduction.model.clone(),
                fingerprints: introduction.fingerprints.clone(),
            };
            store.set("introduction", &serde_json::to_vec(&mine)?)?;
            let word = gather(&store, world, rendezvous, (timeout, until))?;
            store.set("go", &serde_json::to_vec(&word)?)?;
            if word.problem.is_some() {
                // The store ends with this process; those who came shall read it before.
                let soon = (Instant::now() + LATE).min(until + ANSWER);
                for rank in 1..world.world_size {
                    if welcome(&store, rank, soon)?.is_some() {
                        store.get(&format!("heard/{rank}"), left(soon)).ok();
                    }
                }
            }
            word
        }
        rank => {
            let patience = Patience { world, rendezvous, timeout };
            let word = |key: &str| patience.wait(&store, key, until + SLACK);
            // What a run says whose rank 0 has ended is of no use: it has to answer first.
            store.set(&format!("hello/{rank}"), &serde_json::to_vec(&rendezvous.link)?)?;
            let welcomed = word(&format!("welcome/{rank}"));
            let first = match welcomed {
                Ok(None) => return Ok(None),
                Ok(Some(_)) => word("introduction")?,
                // Rank 0 waits for as many as it knows of.
                Err(silence) => match store.get("introduction", left(Instant::now())) {
                    Ok(first) => {
                        let verdict = compare(&first, introduction, world)?;
                        return Err(verdict.problem.map_or(silence, Into::into));
                    }
                    Err(_) => return Err(silence),
                },
            };
            let Some(first) = first else { return Ok(None) };
            let verdict = compare(&first, introduction, world)?;
            store.set(&format!("verdict/{rank}"), &serde_json::to_vec(&verdict)?)?;
            let Some(go) = word("go")? else { return Ok(None) };
            store.set(&format!("heard/{rank}"), b"")?;
            read(0, &go)?
        }
    };
    match go.problem {
        None => Ok(Some((store, go.elsewhere))),
        Some(problem) => Err(problem.into()),
    }
}

/// What a rank said.
///
/// # Errors
/// It is not as this version says it.
fn read<'a, T: Deserialize<'a>>(rank: usize, said: &'a [u8]) -> Result<T, BoxError> {
    serde_json::from_slice(said).map_err(|error| {
        let version = env!("CARGO_PKG_VERSION");
        format!("rank {rank} does not speak as trainyard {version} does: is it of another version? ({error})")
            .into()
    })
}

/// Answers a rank that comes by then; what it says in its hello.
fn welcome(store: &Store, rank: usize, until: Instant) -> Result<Option<Vec<u8>>, BoxError> {
    let hello = format!("hello/{rank}");
    // Who came while another was waited for came in time.
    let came = match store.get(&hello, left(until)) {
        Err(_) if store.has(&hello)? => Some(store.get(&hello, ANSWER)?),
        came => came.ok(),
    };
    if came.is_some() {
        store.set(&format!("welcome/{rank}"), b"")?;
    }
    Ok(came)
}

/// How a rank waits for word from rank 0.
struct Patience<'a> {
    world: &'a World,
    rendezvous: &'a Rendezvous,
    timeout: Duration,
}

impl Patience<'_> {
    /// What `key` is set to by then; none if another run begins before.
    fn wait(&self, store: &Store, key: &str, until: Instant) -> Result<Option<Vec<u8>>, BoxError> {
        let Patience { world, rendezvous, timeout } = self;
        let gone = || format!("{}, where the ranks meet, no longer answers", keeper(world));
        loop {
            if let Ok(value) = store.get(key, left(until).min(LOOK)) {
                return Ok(Some(value));
            }
            let over = session::is_over(&rendezvous.store, rendezvous.run).map_err(|_| gone())?;
            if world.launcher_answers && over {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Err(session::no_word(*timeout).into());
            }
        }
    }
}

/// Answers every rank and waits for its verdict; the word for all.
fn gather(
    store: &Store,
    world: &World,
    rendezvous: &Rendezvous,
    (timeout, until): (Duration, Instant),
) -> Result<Word, BoxError> {
    let (world_size, mut elsewhere) = (world.world_size, Some(rendezvous.link));
    let (mut missing, mut differs) = (Vec::new(), BTreeMap::<String, Vec<usize>>::new());
    let refused = |problem| Ok(Word { problem: Some(problem), elsewhere: None });
    for rank in 1..world_size {
        let hello = welcome(store, rank, until)?;
        let verdict = || store.get(&format!("verdict/{rank}"), left(until + ANSWER)).ok();
        let verdict = hello.as_ref().and_then(|_| verdict());
        let (Some(hello), Some(verdict)) = (hello, verdict) else {
            missing.push(rank);
            continue;
        };
        let said =
            read::<Verdict>(rank, &verdict).and_then(|v| Ok((v, read::<Link>(rank, &hello)?)));
        let (verdict, link) = match said {
            Ok(said) => said,
            Err(strange) => return refused(strange.to_string()),
        };
        if let Some(problem) = verdict.problem {
            return refused(problem);
        }
        verdict.differs.into_iter().for_each(|name| differs.entry(name).or_default().push(rank));
        elsewhere = elsewhere.filter(|known| !known.is_internal()).or(Some(link));
    }
    if !missing.is_empty() {
        let doubt = rendezvous.doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default();
        let seconds = timeout.as_secs_f64();
        let missing = ranks(&missing);
        return refused(format!(
            "{missing} of {world_size} did not come within {seconds} s{doubt}"
        ));
    }
    for (name, ranks_of_it) in differs {
        let others = ranks(&ranks_of_it);
        tracing::warn!(
            "{others} of {world_size}: not the same {name} as rank 0's; they train together all the same"
        );
    }
    Ok(Word { problem: None, elsewhere: elsewhere.filter(|link| !link.is_internal()) })
}

/// How this rank differs from rank 0, if it does.
///
/// # Errors
/// Rank 0 does not speak as this version does.
fn compare(first: &[u8], mine: &Introduction, world: &World) -> Result<Verdict, BoxError> {
    let first: Opening = read(0, first)?;
    let (rank, world_size) = (world.rank, world.world_size);
    if first.world_size != world_size {
        let problem = format!(
            "rank {rank} was started as one of {world_size}, and rank 0 as one of {}",
            first.world_size
        );
        return Ok(Verdict { problem: Some(problem), differs: Vec::new() });
    }
    let first = Introduction {
        configuration: first.configuration,
        model: first.model,
        fingerprints: first.fingerprints,
        device: mine.device,
    };
    Ok(Verdict {
        problem: first.difference(rank, mine),
        differs: first.remarks(mine).map(str::to_owned).collect(),
    })
}

/// `rank 3`, `ranks 1, 2`.
pub(super) fn ranks(list: &[usize]) -> String {
    let numbers: Vec<_> = list.iter().map(usize::to_string).collect();
    format!("rank{} {}", if list.len() == 1 { "" } else { "s" }, numbers.join(", "))
}
