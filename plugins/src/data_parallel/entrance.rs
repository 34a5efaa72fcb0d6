//! The place where the ranks of a run meet: the store there, and the way to it.
use super::session::{Claim, claim};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, ToSocketAddrs, UdpSocket};
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
pub(super) struct Entrance {
    /// The store, with keys of other runs too.
    pub store: Arc<Store>,
    /// The run that this process belongs to.
    pub run: u64,
    /// Tells one engine's meeting from the next.
    pub number: u64,
}

type Entrances = HashMap<(String, u16, usize), Entrance>;

fn entrances() -> MutexGuard<'static, Entrances> {
    static ENTRANCES: LazyLock<Mutex<Entrances>> = LazyLock::new(Mutex::default);
    ENTRANCES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process connects to a place once: rank 0 keeps the store there for as long as it lives. `timeout`: from the
/// start of the meeting until `until`.
pub(super) fn entrance(
    world: &World,
    (host, port): (&str, u16),
    (timeout, until): (Duration, Instant),
) -> Result<Entrance, BoxError> {
    let key = (host.to_owned(), port, world.rank);
    if let Some(entrance) = entrances().get_mut(&key) {
        entrance.number += 1;
        return Ok(entrance.clone());
    }
    // c10d logs each failure of the store with a C++ stack; ours is one sentence.
    if std::env::var_os("TORCH_CPP_LOG_LEVEL").is_none() {
        set_log_level(FATAL)?;
    }
    let mut before = None;
    let mut store = connect(world, host, port, (timeout, until))?;
    loop {
        match claim(&store, world, left(until)) {
            Ok(Claim::Ours(run)) => {
                let entrance = Entrance { store: Arc::new(store), run, number: 0 };
                entrances().insert(key, entrance.clone());
                return Ok(entrance);
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
            store = connect(world, host, port, (timeout, until))?;
        }
    }
}

/// For a run that another one follows: the next [`entrance`] is to that one.
pub(super) fn leave(world: &World, (host, port): (&str, u16)) {
    entrances().remove(&(host.to_owned(), port, world.rank));
}

/// How long until a store with an earlier run is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

fn connect(
    world: &World,
    host: &str,
    port: u16,
    (timeout, until): (Duration, Instant),
) -> Result<Store, BoxError> {
    let server = world.rank == 0 && !world.launcher_answers;
    if !server {
        reach(host, port, until).map_err(|error| {
            format!(
                "nobody answers at {host}:{port} within {} s: has {} started, and is that its address? \
                 ({error})",
                timeout.as_secs_f64(),
                keeper(world)
            )
        })?;
    }
    let connected = Store::connect(host, port, server, left(until))
        .and_then(|store| store.set_timeout(timeout).map(|()| store));
    connected.map_err(|error| {
        let error = error.to_string();
        let said = error.lines().next().unwrap_or_default();
        match server {
            true if said.contains("in use") => format!(
                "port {port}, where the ranks are to meet, is taken on this machine, by another program \
                 or another rank 0: take a free one, by MASTER_PORT or --rdzv ({said})"
            ),
            true => format!("rank 0 cannot open {host}:{port} for the ranks to meet ({said})"),
            false => format!(
                "{host}:{port}, where the ranks meet, does not answer as {} would: is it another program \
                 that listens there? ({said})",
                keeper(world)
            ),
        }
        .into()
    })
}

/// How long one of a host's addresses is tried before the next.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Waits until somebody accepts connections there.
fn reach(host: &str, port: u16, until: Instant) -> std::io::Result<()> {
    let connect = || {
        let mut last = Ok(());
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(until).min(ATTEMPT)) {
                Ok(_) => return Ok(()),
                Err(error) => last = Err(error),
            }
        }
        last
    };
    loop {
        match connect() {
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(50)),
            reached => return reached,
        }
    }
}

/// Where the others reach this process: the address from which it reaches the master, unless that is the
/// machine itself and others are elsewhere.
pub(super) fn address(world: &World, host: &str, port: u16) -> IpAddr {
    // Connecting sends nothing; it only asks which way a packet would go.
    let from = |any: IpAddr, host: &str, port: u16| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((host, port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let towards = |host: &str, port: u16| {
        from(Ipv4Addr::UNSPECIFIED.into(), host, port)
            .or_else(|| from(Ipv6Addr::UNSPECIFIED.into(), host, port))
    };
    let route = towards(host, port).unwrap_or(Ipv4Addr::LOCALHOST.into());
    match route.is_loopback() && world.local_world_size != Some(world.world_size) {
        // An address that is kept free for examples (RFC 5737): it lies beyond the default route.
        true => towards("192.0.2.1", 9).unwrap_or(route),
        false => route,
    }
}

/// The time that is left, and never none, which c10d takes for no limit.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
