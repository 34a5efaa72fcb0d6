//! The ranks of one arm, as processes.
use super::super::peer::{PAUSE, Peer, script_command};
use super::super::setting::Setting;
use super::worker::{Job, worker_command};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;
use std::thread::sleep;
use trainyard::BoxError;
use trainyard_native::kill_with_parent;

/// Threads of a rank.
const THREADS: i32 = 1;

/// The processes of one arm.
pub struct Team {
    ranks: Vec<Peer>,
    name: String,
    /// Steps so far.
    steps: u64,
}

/// What a turn of a team came to, a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Turn {
    /// Seconds until the slowest rank was done.
    pub seconds: f64,
    /// Bytes of gradients that a rank gave to be summed, mean; 0 where the rank does not tell.
    pub bytes: f64,
    /// Blocks that a rank ran, mean; 0 where the rank does not tell.
    pub depth: f64,
}

/// How the processes of a team hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// They are the ranks of one world.
    Connected,
    /// Each is a world of its own.
    Alone,
}

impl Team {
    /// `count` ranks of ours which train the model of `setting`, with the sections `more` switched on.
    ///
    /// # Errors
    /// One does not start, which it tells itself on standard error.
    pub fn training(
        count: usize,
        ties: Ties,
        setting: &Setting,
        sections: Value,
    ) -> Result<Team, BoxError> {
        let Setting { model, batch, time, .. } = setting.clone();
        Team::of(count, ties, &Job::Train { model, batch, time, sections })
    }

    /// `count` processes that do `job`.
    ///
    /// # Errors
    /// As [`training`](Team::training).
    pub fn of(count: usize, ties: Ties, job: &Job) -> Result<Team, BoxError> {
        Team::start(job.name(), count, ties, || worker_command(job))
    }

    /// `count` ranks in PyTorch's DistributedDataParallel, which train the model of `setting`.
    ///
    /// # Errors
    /// As [`training`](Team::training).
    pub fn torch(count: usize, setting: &Setting, precision: &str) -> Result<Team, BoxError> {
        let model = &setting.model;
        let sizes = json!({
            "layers": model.layers, "hidden": model.hidden, "heads": model.heads,
            "vocabulary": model.vocabulary, "max_positions": model.max_positions,
            "dropout": model.dropout,
        });
        let [batch, time] = [setting.batch, setting.time].map(|size| size.to_string());
        let arguments = [precision, &batch, &time, &sizes.to_string()];
        let script = "ddp_step.py";
        Team::start(script, count, Ties::Connected, || Ok(script_command(script, &arguments)))
    }

    fn start(
        name: &str,
        count: usize,
        ties: Ties,
        command: impl Fn() -> Result<Command, BoxError>,
    ) -> Result<Team, BoxError> {
        let port = free_port()?.to_string();
        let mut ranks = Vec::new();
        for rank in 0..count {
            let mut command = command()?;
            let (place, size) = if ties == Ties::Connected { (rank, count) } else { (0, 1) };
            for (variable, value) in [
                ("RANK", place),
                ("WORLD_SIZE", size),
                ("LOCAL_RANK", place),
                ("LOCAL_WORLD_SIZE", size),
            ] {
                command.env(variable, value.to_string());
            }
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
            for variable in ["TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"] {
                command.env_remove(variable);
            }
            kill_with_parent(&mut command);
            ranks.push(Peer::spawn(&format!("rank {rank} of {name}"), command, THREADS)?);
        }
        for rank in &mut ranks {
            rank.ready(THREADS)?;
        }
        Ok(Team { ranks, name: name.to_owned(), steps: 0 })
    }

    /// Steps that it has made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What its processes say they are.
    pub fn about(&self) -> &str {
        self.ranks.first().map_or("", Peer::about)
    }

    /// `count` steps of all ranks at once, with this process idle.
    ///
    /// # Errors
    /// A rank ends or answers something else.
    pub fn step(&mut self, count: usize) -> Result<Turn, BoxError> {
        let answers = self.ask("step", count)?;
        self.steps += count as u64;
        let mut turn = Turn::default();
        let each = 1.0 / (count * answers.len()) as f64;
        for numbers in &answers {
            let width = numbers.len() / count.max(1);
            if width == 0 || numbers.len() % count != 0 {
                let given = numbers.len();
                return Err(format!("{} gave {given} numbers for {count} steps", self.name).into());
            }
            let column = |at: usize| {
                let one = |step: &[f64]| step.get(at).copied().unwrap_or(0.0);
                numbers.chunks(width).map(one).sum::<f64>()
            };
            turn.seconds = turn.seconds.max(column(0) / count as f64);
            turn.bytes += column(1) * each;
            turn.depth += column(2) * each;
        }
        Ok(turn)
    }

    /// What each process answers, all asked at once.
    ///
    /// # Errors
    /// A process ends or answers something else than numbers.
    pub fn ask(&mut self, arm: &str, count: usize) -> Result<Vec<Vec<f64>>, BoxError> {
        sleep(PAUSE);
        self.ranks.iter_mut().try_for_each(|rank| rank.ask(arm, count))?;
        let answers = self.ranks.iter_mut().map(Peer::numbers).collect();
        sleep(PAUSE);
        answers
    }
}

/// A port that nobody uses now.
fn free_port() -> Result<u16, BoxError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_ranks_send_and_lone_ones_do_not() -> Result<(), BoxError> {
        let setting = Setting::quick();
        let mut together = Team::training(2, Ties::Connected, &setting, json!({}))?;
        let mut alone = Team::training(2, Ties::Alone, &setting, json!({}))?;
        for count in [1, 2] {
            let (connected, single) = (together.step(count)?, alone.step(count)?);
            assert!(connected.seconds > 0.0 && single.seconds > 0.0);
            assert!(connected.bytes > 0.0 && single.bytes == 0.0, "{connected:?} {single:?}");
            assert_eq!((connected.depth, single.depth), (3.0, 3.0));
        }
        assert_eq!((together.steps(), alone.steps()), (3, 3));
        let error = together.ask("no_such_arm", 1).unwrap_err().to_string();
        // A test program says that it failed before it ends.
        assert!(error.starts_with("rank 0 of training "), "{error}");
        Ok(())
    }
}
