//! Which run of a store a rank belongs to. A launcher's store outlives runs: it starts ranks anew after a failure,
//! on each machine by a count of its own, and one program after another.
use super::holder::Holder;
use std::time::Duration;
use trainyard::{BoxError, World};
use trainyard_native::Store;

/// The keys of all runs of the store begin so.
fn prefix(run: u64) -> String {
    format!("trainyard/{run}")
}

fn rank_key(run: u64, rank: usize) -> String {
    format!("{}/rank/{rank}", prefix(run))
}

/// Whose rank it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// This process's, in that run.
    Ours(u64),
    /// Another's, of a run before this process's own, which has not begun yet.
    Before(Holder),
    /// None here: the store is that of another launch.
    Elsewhere(String),
}

/// Under this key rank 0 says whose store it is, where its launcher tells its launches apart.
const LAUNCH: &str = "trainyard/launch";

/// Takes this process's rank: rank 0 in a run that it begins, the others in the last one that began, for which
/// they wait `patience`.
///
/// # Errors
/// A second process has the same rank and runs; rank 0 does not come; the store is gone.
pub(super) fn claim(store: &Store, world: &World, patience: Duration) -> Result<Claim, BoxError> {
    let own = world.launch.as_ref().filter(|_| !world.launcher_answers);
    if let Some(own) = own {
        if world.rank == 0 {
            store.set(LAUNCH, own.as_bytes())?;
        }
        let launch = store.get(LAUNCH, patience).map_err(|_| no_word(patience))?;
        let launch = String::from_utf8_lossy(&launch);
        if launch != *own {
            return Ok(Claim::Elsewhere(launch.into_owned()));
        }
    }
    if world.rank > 0 {
        let first = store.get(&rank_key(0, 0), patience);
        first.map_err(|_| no_word(patience))?;
    }
    let this = Holder::this();
    let mut run = if world.rank > 0 { last(store)? } else { 0 };
    loop {
        let first = store.set_first(&rank_key(run, world.rank), this.written().as_bytes())?;
        let first = Holder::read(&String::from_utf8_lossy(&first));
        if first == this {
            return Ok(Claim::Ours(run));
        }
        // Where a launcher has moved the ranks, the one before may have been on another machine.
        let elsewhere = world.launcher_answers && first.host() != this.host();
        if !first.has_ended() && !elsewhere {
            return Err(format!("rank {} is there twice: {this}, and {first}", world.rank).into());
        }
        if world.rank > 0 || !world.launcher_answers {
            return Ok(Claim::Before(first));
        }
        run += 1;
    }
}

/// The last run that began.
fn last(store: &Store) -> Result<u64, BoxError> {
    let mut run = 0;
    while is_over(store, run)? {
        run += 1;
    }
    Ok(run)
}

/// Whether another run began after `run`.
///
/// # Errors
/// The store is gone.
pub(super) fn is_over(store: &Store, run: u64) -> Result<bool, BoxError> {
    Ok(store.has(&rank_key(run + 1, 0))?)
}

/// The store under keys of one meeting of a run alone.
///
/// # Errors
/// Never, the prefix being text.
pub(super) fn of_meeting(store: &Store, run: u64, number: u64) -> Result<Store, BoxError> {
    Ok(store.prefixed(&format!("{}/{number}", prefix(run)))?)
}

pub(super) fn no_word(patience: Duration) -> String {
    format!("no word from rank 0 within {} s", patience.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn store() -> Store {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        Store::keep(listener, SOON).expect("a store")
    }

    fn world(rank: usize, launcher_answers: bool) -> World {
        World { launcher_answers, ..World::local(rank, 2, 1) }
    }

    fn ended() -> Holder {
        let this = Holder::this().written();
        let (id, rest) = this.split_once(' ').expect("three parts");
        let (started, host) = rest.split_once(' ').expect("three parts");
        let before = started.parse::<u64>().expect("a number") - 1;
        Holder::read(&format!("{id} {before} {host}"))
    }

    #[test]
    fn a_launchers_store_has_one_run_after_another() {
        let store = store();
        let claim = |rank| claim(&store, &world(rank, true), SOON).expect("it is free");
        // A run of which both ranks have ended.
        for rank in [0, 1] {
            store.set(&rank_key(0, rank), ended().written().as_bytes()).expect("a key");
        }
        // Rank 1 comes first: there is no run for it yet.
        assert_eq!(claim(1), Claim::Before(ended()));
        assert!(!is_over(&store, 0).expect("a store"));
        assert_eq!(claim(0), Claim::Ours(1));
        assert!(is_over(&store, 0).expect("a store"));
        assert_eq!(claim(1), Claim::Ours(1));
        // Ranks of other machines went before.
        let elsewhere = Holder::read("1 1 elsewhere");
        for rank in [0, 1] {
            store.set(&rank_key(1, rank), elsewhere.written().as_bytes()).expect("a key");
        }
        assert_eq!((claim(1), claim(0)), (Claim::Before(elsewhere), Claim::Ours(2)));
    }

    #[test]
    fn a_second_process_of_a_rank_is_told() {
        let store = store();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let holder = Holder::of(other.id()).expect("it runs");
        for rank in [0, 1] {
            store.set(&rank_key(0, rank), holder.written().as_bytes()).expect("a key");
            for launcher_answers in [false, true] {
                let error = claim(&store, &world(rank, launcher_answers), SOON).unwrap_err();
                let expected =
                    format!("rank {rank} is there twice: {}, and {holder}", Holder::this());
                assert_eq!(error.to_string(), expected);
            }
        }
        other.kill().expect("it is ours");
        other.wait().expect("it is ours");
        assert_eq!(claim(&store, &world(1, false), SOON).unwrap(), Claim::Before(holder));
    }

    /// Two launches that come to one port: nobody joins the other's, and takes no rank there.
    #[test]
    fn a_store_of_another_launch_is_left_alone() {
        let store = store();
        let of = |rank, launch: &str| World { launch: Some(launch.into()), ..world(rank, false) };
        let claim = |world: &World| claim(&store, world, SOON).expect("a store");
        assert_eq!(claim(&of(0, "step 0")), Claim::Ours(0));
        assert_eq!(claim(&of(1, "step 1")), Claim::Elsewhere("step 0".into()));
        assert_eq!(claim(&of(1, "step 0")), Claim::Ours(0));
    }

    #[test]
    fn rank_0_is_waited_for() {
        let patience = Duration::from_millis(50);
        let error = claim(&store(), &world(1, true), patience).unwrap_err();
        assert_eq!(error.to_string(), "no word from rank 0 within 0.05 s");
    }
}
