//! The place where the ranks of a run meet: the store there, and the way to it.
use super::address::{Link, Place, alone, is_here, is_link_local, listen, of_this_machine, place};
use super::session::{Claim, claim};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use trainyard::{BoxError, World};
use trainyard_native::{Store, set_log_level};

/// The level of libtorch's log that tells only what ends the process.
const FATAL: i32 = 3;

/// Who keeps the store.
pub(super) fn keeper(world: &World) -> &'static str {
    if world.launcher_answers { "the launcher" } else { "rank 0" }
}

/// Where the ranks of one run meet.
#[derive(Clone)]
pub(super) struct Rendezvous {
    /// The store, with keys of other runs too.
    pub store: Arc<Store>,
    /// How this process reaches it.
    pub link: Link,
    /// Why others may not find it, where there is reason to think so.
    pub doubt: Option<String>,
    /// The run that this process belongs to.
    pub run: u64,
    /// Tells one engine's meeting from the next.
    pub number: u64,
}

type Known = HashMap<(String, u16, usize), Rendezvous>;

fn known() -> MutexGuard<'static, Known> {
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process connects to a place once: rank 0 keeps the store there for as long as it lives. `timeout`: from the
/// start of the meeting until `until`.
pub(super) fn rendezvous(
    world: &World,
    (host, port): (&str, u16),
    (timeout, until): (Duration, Instant),
) -> Result<Rendezvous, BoxError> {
    let key = (host.to_owned(), port, world.rank);
    if let Some(rendezvous) = known().get_mut(&key) {
        rendezvous.number += 1;
        return Ok(rendezvous.clone());
    }
    // c10d logs each failure of the store with a C++ stack; ours is one sentence.
    if std::env::var_os("TORCH_CPP_LOG_LEVEL").is_none() {
        set_log_level(FATAL)?;
    }
    let mut before = None;
    let mut way = connect(world, host, port, (timeout, until))?;
    loop {
        match claim(&way.store, world, left(until)) {
            Ok(Claim::Ours(run)) => {
                let Way { store, link, doubt } = way;
                let store = Arc::new(store);
                let rendezvous = Rendezvous { store, link, doubt, run, number: 0 };
                known().insert(key, rendezvous.clone());
                return Ok(rendezvous);
            }
            Ok(Claim::Before(holder)) => {
                let rank = world.rank;
                before = Some(format!(
                    "an earlier run, whose rank {rank} was {holder}, and no later one"
                ));
            }
            Ok(Claim::Elsewhere(launch)) => {
                let own = world.launch.as_deref().unwrap_or_default();
                before = Some(format!(
                    "{launch}, and this is {own}: give each a port of its own, by MASTER_PORT or --rdzv"
                ));
            }
            // The earlier run's rank 0 has ended in the middle, and its store with it.
            Err(error) if before.is_none() => return Err(error),
            Err(_) => {}
        }
        // With less time left, connecting anew would only fail for want of it.
        if let (Some(before), true) = (&before, left(until) <= 2 * AGAIN) {
            return Err(format!("at {host}:{port} there is {before}").into());
        }
        thread::sleep(AGAIN);
        // Another rank 0 keeps another store, and a launcher the same.
        if !world.launcher_answers {
            way = connect(world, host, port, (timeout, until))?;
        }
    }
}

/// For a run that another one follows: the next [`rendezvous`] is at that one.
pub(super) fn leave(world: &World, (host, port): (&str, u16)) {
    known().remove(&(host.to_owned(), port, world.rank));
}

/// How long until a store with an earlier run is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long until a name that does not resolve, or a host that does not answer, is tried again.
const SOON: Duration = Duration::from_millis(50);

/// A store, and how it is reached.
struct Way {
    store: Store,
    link: Link,
    doubt: Option<String>,
}

fn connect(
    world: &World,
    host: &str,
    port: u16,
    (timeout, until): (Duration, Instant),
) -> Result<Way, BoxError> {
    let way = match world.rank == 0 && !world.launcher_answers {
        true => keep(world, host, port, until)?,
        false => find(world, host, port, (timeout, until))?,
    };
    way.store.set_timeout(timeout)?;
    Ok(way)
}

/// Opens the place, as rank 0.
fn keep(world: &World, host: &str, port: u16, until: Instant) -> Result<Way, BoxError> {
    let closed = |why: &dyn std::fmt::Display| {
        format!("rank 0 cannot open {host}:{port} for the ranks to meet ({why})")
    };
    let addresses = loop {
        match resolve(host, port) {
            Err(_) if Instant::now() < until => thread::sleep(SOON),
            resolved => break resolved.map_err(|error| closed(&error))?,
        }
    };
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    let addresses = beyond_the_wire(host, addresses, true)?;
    let place = place(&addresses, alone(world, host), is_here);
    let listener = listen(place, port).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port}, where the ranks are to meet, is taken on this machine, by another program \
             or another rank 0: take a free one, by MASTER_PORT or --rdzv ({error})"
        ),
        _ => closed(&error),
    })?;
    let doubt = match place {
        Place::At(at) => {
            tracing::debug!("rank 0 listens at {at}, port {port}");
            None
        }
        Place::Everywhere => {
            tracing::info!(
                "{host} is this machine's own name, and on loopback here: rank 0 listens at port {port} on all \
                 interfaces. An address as MASTER_ADDR would keep it to one"
            );
            None
        }
        Place::NotHere(at) => Some(format!(
            "{} is no address of the machine that rank 0 is on: unless it is forwarded there, set MASTER_ADDR to \
             one that is{}, for all ranks",
            if host == at.to_string() { host.to_owned() } else { format!("{host} ({at})") },
            such_as(of_this_machine())
        )),
    };
    if let Some(doubt) = &doubt {
        tracing::warn!("{doubt}");
    }
    let store = Store::keep(listener, left(until)).map_err(|error| closed(&first_line(error)))?;
    Ok(Way { store, link: Link::own(place), doubt })
}

/// Goes to the place that rank 0 or a launcher opened.
fn find(
    world: &World,
    host: &str,
    port: u16,
    (timeout, until): (Duration, Instant),
) -> Result<Way, BoxError> {
    let keeper = keeper(world);
    let stream = reach(host, port, until)?.map_err(|error| {
        format!(
            "nobody answers at {host}:{port} within {} s: has {keeper} started, and is that its address? \
             MASTER_ADDR gives it, to all ranks ({error})",
            timeout.as_secs_f64(),
        )
    })?;
    let link = Link::of(&stream)?;
    drop(stream);
    let store = Store::connect(&link.peer.to_string(), port, left(until)).map_err(|error| {
        format!(
            "{host}:{port}, where the ranks meet, does not answer as {keeper} would: is it another program \
             that listens there? ({})",
            first_line(error)
        )
    })?;
    Ok(Way { store, link, doubt: None })
}

fn first_line(error: impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// How long one of a host's addresses is tried before the next.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Waits until somebody accepts connections there.
///
/// # Errors
/// Outside: no address of the host can be used. Inside: nobody came.
fn reach(host: &str, port: u16, until: Instant) -> Result<io::Result<TcpStream>, BoxError> {
    loop {
        let mut last = resolve(host, port);
        if let Ok(addresses) = &last {
            let ips = beyond_the_wire(host, addresses.iter().map(SocketAddr::ip).collect(), false)?;
            for ip in ips {
                match TcpStream::connect_timeout(&(ip, port).into(), left(until).min(ATTEMPT)) {
                    Ok(stream) => return Ok(Ok(stream)),
                    Err(error) => last = Err(error),
                }
            }
        }
        match last {
            Err(error) if Instant::now() >= until => return Ok(Err(error)),
            _ => thread::sleep(SOON),
        }
    }
}

/// A host's addresses, at least one.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(addresses),
    }
}

/// Those addresses that hold beyond one wire. `own`: they are to be this machine's.
///
/// # Errors
/// None does.
fn beyond_the_wire(host: &str, mut all: Vec<IpAddr>, own: bool) -> Result<Vec<IpAddr>, BoxError> {
    all.retain(|address| !is_link_local(*address));
    if !all.is_empty() {
        return Ok(all);
    }
    let others = if own { such_as(of_this_machine()) } else { String::new() };
    Err(format!(
        "{host} is a link-local address, which holds on one wire and cannot be told to other machines: set \
         MASTER_ADDR or --rdzv to another address of rank 0's machine{others}, for all ranks"
    )
    .into())
}

/// `, such as 10.0.0.1 or fd00::1`.
fn such_as(addresses: Vec<IpAddr>) -> String {
    let shown: Vec<_> = addresses.iter().take(4).map(IpAddr::to_string).collect();
    if shown.is_empty() { String::new() } else { format!(", such as {}", shown.join(" or ")) }
}

/// The time that is left, and never none, which c10d takes for no limit.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_holds_on_one_wire_is_refused() {
        let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("an address")).collect();
        let mixed =
            beyond_the_wire("n", ips(&["fe80::1", "10.0.0.1"]), true).expect("one is right");
        assert_eq!(mixed, ips(&["10.0.0.1"]));
        let error =
            beyond_the_wire("fe80::1%eth0", ips(&["fe80::1"]), false).unwrap_err().to_string();
        assert!(error.starts_with("fe80::1%eth0 is a link-local address, "), "{error}");
        assert!(
            error.contains("set MASTER_ADDR or --rdzv to another address of rank 0's machine, for")
        );
        assert_eq!(such_as(ips(&["10.0.0.1", "fd00::1"])), ", such as 10.0.0.1 or fd00::1");
        assert_eq!(such_as(Vec::new()), "");
    }
}
