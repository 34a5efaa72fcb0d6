//! `trainyard launch`.
mod end;
mod lines;
mod memory;
mod options;
mod ranks;
mod signals;
mod world;

use clap::error::ErrorKind;
use end::{End, name_of};
pub use options::Args;
use options::{Count, node};
use ranks::{Outcome, Ranks};
use signal_hook::consts::SIGKILL;
use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;
use std::time::Duration;
use tracing::{info, warn};
use trainyard::BoxError;
use trainyard_run::failure::tell;
use world::{Endpoint, World, gpus};

/// Exit statuses of a program that is not there, and of one that cannot be run, as shells have them.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
/// Exit status of a wrong command line, as clap has it.
const USAGE: u8 = 2;

const THREADS: &str = "OMP_NUM_THREADS";

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let node = match node(args.nnodes, args.node_rank, args.rdzv.is_some(), args.max_restarts) {
        Ok(node) => node,
        Err(wrong) => {
            // Where nobody reads standard error there is nobody to tell.
            let _ = clap::Error::raw(ErrorKind::ValueValidation, wrong + "\n").print();
            return Ok(ExitCode::from(USAGE));
        }
    };
    let ranks_per_node = match args.nproc_per_node {
        Count::Of(count) => count,
        Count::Auto => u32::try_from(gpus_here()).unwrap_or(u32::MAX).clamp(1, 1024),
    };
    let cores = available_parallelism().map_or(1, |cores| cores.get());
    let threads = match env::var_os(THREADS) {
        Some(_) => None,
        None => Some((cores / ranks_per_node as usize).max(1)),
    };
    let killed_before = memory::kills();
    let mut ranks = Ranks::new()?;
    let mut restarts = 0;
    loop {
        let master = args.rdzv.clone().map_or_else(free_endpoint, Ok)?;
        let world = World { ranks_per_node, nodes: args.nnodes, node, master };
        info!("{}", told_at_start(&world, threads, cores));
        if let Err((error, status)) = start(&args, &world, (threads, restarts), &mut ranks) {
            tell(&format!("error: {error}\n"));
            return Ok(ExitCode::from(status));
        }
        let outcome = ranks.watch(Duration::from_secs(args.grace));
        if let Some(status) = outcome.stopped {
            tell(&format!("{}\n", told_of_stop(&world, outcome.received, status)));
            return Ok(ExitCode::from(status));
        }
        let Some(first) = outcome.first else { return Ok(ExitCode::SUCCESS) };
        let killed = memory::why_killed(killed_before, memory::kills());
        let told = told_at_end(&ranks, first, &outcome, world.size(), killed);
        if restarts < args.max_restarts && outcome.received.is_none() && ranks.forget() {
            restarts += 1;
            warn!("launch: {told}; starting all ranks again, {restarts} of {}", args.max_restarts);
            continue;
        }
        tell(&format!("error: {told}\n"));
        return Ok(ExitCode::from(first.1.status()));
    }
}

/// Starts the ranks of this node; else a sentence and the exit status.
fn start(
    args: &Args,
    world: &World,
    (threads, restarts): (Option<usize>, u32),
    ranks: &mut Ranks,
) -> Result<(), (String, u8)> {
    for local in 0..world.ranks_per_node {
        let mut command = Command::new(&args.program[0]);
        // One that holds for a launcher's launcher, not for these ranks: here rank 0 hosts the store.
        command.args(&args.program[1..]).env_remove("TORCHELASTIC_USE_AGENT_STORE");
        command.envs(world.variables(local));
        // Two at one address must not exchange ranks; of one on another node nothing is known.
        match world.nodes {
            1 => command.env(trainyard::World::LAUNCH, std::process::id().to_string()),
            _ => command.env_remove(trainyard::World::LAUNCH),
        };
        command.env(trainyard::World::RESTARTS, restarts.to_string());
        command.envs(threads.map(|threads| (THREADS, threads.to_string())));
        let rank = world.rank(local);
        let prefix = if args.no_prefix { String::new() } else { format!("[rank {rank}] ") };
        ranks.start(rank, &prefix, command).map_err(|error| {
            let (why, status) = not_started(&error);
            let program = args.program[0].to_string_lossy();
            (format!("cannot start rank {rank}: `{program}` {why}"), status)
        })?;
    }
    Ok(())
}

fn gpus_here() -> usize {
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
    gpus(visible.as_deref(), devices.filter_map(|entry| entry.file_name().into_string().ok()))
}

/// A port of this machine that nobody listens on. Another program may take it before rank 0 does.
fn free_endpoint() -> Result<Endpoint, BoxError> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    let port = port.map_err(|error| format!("cannot find a free port on 127.0.0.1: {error}"))?;
    Ok(Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port: port.port() })
}

fn told_at_start(world: &World, threads: Option<usize>, cores: usize) -> String {
    let (size, here) = (world.size(), world.ranks_per_node);
    let (first, last) = (world.rank(0), world.rank(here - 1));
    let ranks = match (size, here) {
        (1, _) => "1 rank".to_owned(),
        _ if world.nodes == 1 => format!("{size} ranks"),
        (_, 1) => format!("rank {first} of {size}"),
        _ => format!("ranks {first} to {last} of {size}"),
    };
    let threads = match threads {
        None => format!("{THREADS} as it is set"),
        Some(threads) => format!("{THREADS}={threads} for each, of {cores} cores"),
    };
    format!("launch: {ranks}; rank 0 at {}; {threads}", world.master)
}

/// That the run ended before its end, because it was to.
fn told_of_stop(world: &World, received: Option<i32>, status: u8) -> String {
    let here = if world.nodes == 1 { "" } else { " of this machine" };
    let ranks = match world.ranks_per_node {
        1 => format!("the rank{here} ended by itself"),
        many => format!("all {many} ranks{here} ended by themselves"),
    };
    match received {
        Some(signal) => format!("stopped by {}: {ranks}, with status {status}", name_of(signal)),
        None => format!("stopped: {ranks}, with status {status}"),
    }
}

/// Which rank failed, how, and what it said last; `killed`: why, if it was killed from outside.
fn told_at_end(
    ranks: &Ranks,
    first: (usize, End),
    outcome: &Outcome,
    size: u64,
    killed: &str,
) -> String {
    let (which, end) = first;
    let (rank, process) = ranks.name(which);
    let signal = outcome.received.map(name_of);
    let why = signal.map_or_else(String::new, |signal| format!("{signal} came, and "));
    let who = format!("{why}rank {rank} of {size} (process {process}) {end}");
    // A signal that came is reason enough; what a rank said before it tells nothing.
    if let (End::Signal(_), Some(_)) = (end, signal) {
        return who;
    }
    let hint = if end == End::Signal(SIGKILL) { format!(": {killed}") } else { String::new() };
    match ranks.last_error(which) {
        Some(line) => format!("{who}{hint}; it said last: {line}"),
        None => format!("{who}{hint}; it said nothing on standard error"),
    }
}

/// Why a program did not start, and the exit status for it.
fn not_started(error: &io::Error) -> (String, u8) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            "is not there, or the interpreter that its first line names is not".to_owned(),
            NOT_FOUND,
        ),
        io::ErrorKind::PermissionDenied => ("is not an executable file".to_owned(), NOT_RUN),
        _ => (format!("does not start: {error}"), NOT_RUN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(ranks_per_node: u32, nodes: u32) -> World {
        let master = Endpoint { host: "node0".to_owned(), port: 29500 };
        World { ranks_per_node, nodes, node: nodes - 1, master }
    }

    #[test]
    fn what_is_told_at_start() {
        let told = |ranks, nodes, threads| told_at_start(&world(ranks, nodes), threads, 16);
        let at = "rank 0 at node0:29500; OMP_NUM_THREADS";
        assert_eq!(told(1, 1, None), format!("launch: 1 rank; {at} as it is set"));
        assert_eq!(told(4, 1, Some(4)), format!("launch: 4 ranks; {at}=4 for each, of 16 cores"));
        assert!(told(4, 2, None).starts_with("launch: ranks 4 to 7 of 8; "));
        assert!(told(1, 3, None).starts_with("launch: rank 2 of 3; "));
    }

    #[test]
    fn what_is_told_of_a_stop() {
        let told = |ranks, nodes, signal| told_of_stop(&world(ranks, nodes), signal, 130);
        assert_eq!(told(2, 1, None), "stopped: all 2 ranks ended by themselves, with status 130");
        assert_eq!(
            told(1, 2, Some(2)),
            "stopped by SIGINT: the rank of this machine ended by itself, with status 130"
        );
    }

    #[test]
    fn a_port_is_found() {
        let endpoint = free_endpoint().expect("there is one");
        assert_eq!(endpoint.host, "127.0.0.1");
        assert_ne!(endpoint.port, 0);
    }
}
