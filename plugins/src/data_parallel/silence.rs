//! After a failure: who no longer speaks.
use super::handshake::{ANSWER, Meeting, ranks, within};
use super::rendezvous::keeper;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use trainyard::World;
use trainyard_native::Store;

/// How long a rank that failed waits for word from the others.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// How much longer rank 0 does, since the store ends with it.
const LAST: Duration = Duration::from_millis(500);

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
