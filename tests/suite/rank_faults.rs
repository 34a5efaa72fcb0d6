//! Whatever happens to one rank, all the others end soon, each with a sentence that says why.
use crate::processes::{PATIENCE, Process, faulty, free_port, listening, order, place, soon};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use trainyard_native::Store;

/// So many ranks, of which one misbehaves; by rank.
fn ranks(world_size: usize, culprit: usize, width: i64, fault: &Value) -> Vec<Process> {
    let port = free_port();
    let start = |rank| {
        let mut order = order(100_000);
        order["width"] = json!(width);
        if rank == culprit {
            order["fault"] = fault.clone();
        }
        Process::rank(rank, world_size, port, &order)
    };
    (0..world_size).map(start).collect()
}

/// Asserts that all ranks but one end with a sentence that names the operation and the lost rank.
fn survivors_name(lost: usize, operation: &str, ranks: &mut [Process]) {
    let cause = match lost {
        0 => "rank 0, where the ranks met, no longer answers: ended, or stuck? (".to_owned(),
        _ => format!("no word from rank {lost} since: ended, or stuck? ("),
    };
    let until = soon();
    for (rank, process) in ranks.iter_mut().enumerate().filter(|(rank, _)| *rank != lost) {
        let said = process.ends_by(until).sentence();
        assert!(said.starts_with(&format!("rank {rank}: {operation} failed: {cause}")), "{said}");
    }
}

fn killed(world_size: usize, lost: usize, place: &str, width: i64) {
    let mut ranks =
        ranks(world_size, lost, width, &json!({"act": "kill", "place": place, "step": 3}));
    assert_eq!(ranks[lost].ends().signal(), Some(Signal::KILL.as_raw()));
    survivors_name(lost, "averaging the gradients of step 3", &mut ranks);
}

/// Runs cases side by side, since most of their time is waiting.
fn at_once<C: Sync>(cases: &[C], run: impl Fn(&C) + Sync) {
    thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(|| run(case)))));
}

#[test]
fn one_is_killed_within_a_step() {
    at_once(&[(2, 0), (2, 1), (3, 2)], |&(world_size, lost)| {
        killed(world_size, lost, "forward", 8)
    });
}

/// Nine megabytes a layer, in one case: it is likely that some are half on their way.
#[test]
fn one_is_killed_while_gradients_are_on_their_way() {
    at_once(&[(2, 0, 8), (2, 1, 1500), (3, 0, 8)], |&(world_size, lost, width)| {
        killed(world_size, lost, "backward", width);
    });
}

/// Not all of them speak to the one that is killed.
#[test]
fn one_of_four_is_killed() {
    killed(4, 1, "backward", 8);
}

#[test]
fn one_is_killed_before_it_comes() {
    let fault = json!({"act": "kill", "place": "start"});
    let (mut first, mut second) = (ranks(2, 0, 8, &fault), ranks(2, 1, 8, &fault));
    let said = first[1].fails();
    let nobody = "rank 1: meeting the others failed: nobody answers at 127.0.0.1:";
    assert!(said.starts_with(nobody), "{said}");
    assert!(said.contains("within 3 s: has rank 0 started, and is that its address?"), "{said}");
    let said = second[0].fails();
    assert_eq!(said, "rank 0: meeting the others failed: rank 1 of 2 did not come within 3 s");
}

#[test]
fn one_never_comes() {
    let (port, order) = (free_port(), order(1));
    let mut ranks = [0, 1].map(|rank| Process::rank(rank, 3, port, &order));
    for (rank, process) in ranks.iter_mut().enumerate() {
        let missing = "meeting the others failed: rank 2 of 3 did not come within 3 s";
        assert_eq!(process.fails(), format!("rank {rank}: {missing}"));
    }
}

/// Rank 0 comes late, so that who was there before waits longer; who never comes is named by both.
#[test]
fn one_comes_late_and_one_never() {
    let (port, mut order) = (free_port(), order(1));
    order["config"]["distributed"]["timeout_seconds"] = json!(6);
    let start = |rank| (rank, Process::rank(rank, 3, port, &order));
    let early = start(2);
    thread::sleep(Duration::from_millis(3500));
    for (rank, mut process) in [early, start(0)] {
        let missing = "meeting the others failed: rank 1 of 3 did not come within 6 s";
        assert_eq!(process.ends().sentence(), format!("rank {rank}: {missing}"));
    }
}

/// One meets the others, and is gone before they connect.
#[test]
fn one_is_gone_after_the_meeting() {
    let (port, order) = (free_port(), order(1));
    let mut ranks = [0, 2].map(|rank| (rank, Process::rank(rank, 3, port, &order)));
    let store = Store::connect("127.0.0.1", port, PATIENCE).expect("rank 0 keeps it");
    let heard = |key: &str| store.get(&format!("trainyard/0/0/{key}"), PATIENCE).expect("a word");
    let say = |key: &str, what: Value| {
        let said = what.to_string();
        store.set(&format!("trainyard/0/0/{key}"), said.as_bytes()).expect("the store");
    };
    say("hello/1", json!({"local": "127.0.0.1", "peer": "127.0.0.1"}));
    heard("welcome/1");
    say("verdict/1", json!({}));
    let go: Value = serde_json::from_slice(&heard("go")).expect("it is JSON");
    assert_eq!(go["problem"], Value::Null, "they may go on");
    let until = soon();
    for (rank, process) in &mut ranks {
        let said = process.ends_by(until).sentence();
        let met = "the ranks met, but have not reached one another: no word from rank 1 since: ended, or stuck? ";
        let expected = format!("rank {rank}: meeting the others failed: {met}");
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// Two launches on one machine, whose launcher does not give each a port.
#[test]
fn ranks_of_two_launches_at_one_port() {
    let port = free_port();
    let rank = |job: &str, rank: usize, timeout: u64| {
        let mut order = order(3);
        order["config"]["distributed"]["timeout_seconds"] = json!(timeout);
        let mut command = faulty(&order);
        let rank = rank.to_string();
        for (name, value) in
            [("RANK", rank.as_str()), ("SIZE", "2"), ("LOCAL_RANK", &rank), ("LOCAL_SIZE", "2")]
        {
            command.env(format!("OMPI_COMM_WORLD_{name}"), value);
        }
        command.env("PMIX_NAMESPACE", job).env("MASTER_PORT", port.to_string());
        Process::start(command)
    };
    let mut first = rank("first", 0, 60);
    let mut stray = rank("second", 1, 3);
    let said = stray.fails();
    let there = format!(
        "rank 1: meeting the others failed: at 127.0.0.1:{port} there is Open MPI's job first, and this is Open \
         MPI's job second: give each a port of its own, by MASTER_PORT or --rdzv"
    );
    assert_eq!(said, there);
    let mut second = rank("first", 1, 60);
    assert!(first.ends().status.success() && second.ends().status.success());
}

/// One gives up between its backward pass and its update: it ends at once, and the others with it, however
/// long they might wait.
#[test]
fn one_leaves_a_step_half_done() {
    let port = free_port();
    let start = |rank| {
        let mut order = order(100_000);
        order["config"]["distributed"]["timeout_seconds"] = json!(60);
        order["fault"] = json!({"act": "fail", "place": "update", "step": 3, "rank": 1});
        Process::rank(rank, 3, port, &order)
    };
    let mut all: Vec<_> = (0..3).map(start).collect();
    // Sooner than it might have waited.
    assert_eq!(all[1].ends().sentence(), "no more data");
    // What an evaluation would have sent would have met the others' gradients.
    assert!(all[1].stdout().contains("evaluated `evaluate` comes before the last `backward`"));
    survivors_name(1, "averaging the gradients of step 3", &mut all);
}

fn stalled(world_size: usize, lost: usize, place: &str) {
    let fault = json!({"act": "stop", "place": place, "step": 3});
    let mut ranks = ranks(world_size, lost, 8, &fault);
    ranks[lost].is_stopped();
    survivors_name(lost, "averaging the gradients of step 3", &mut ranks);
    // It goes on, alone, and learns of it.
    let id = i32::try_from(ranks[lost].id()).ok().and_then(Pid::from_raw).expect("an id");
    kill_process(id, Signal::CONT).expect("it is ours");
    let said = ranks[lost].fails();
    assert!(said.starts_with(&format!("rank {lost}: averaging the gradients of step ")), "{said}");
}

#[test]
fn one_stalls() {
    at_once(&[(2, 1, "forward"), (2, 0, "backward"), (3, 1, "backward")], |case| {
        stalled(case.0, case.1, case.2);
    });
}

/// A forward that fails, and a rank with less data than the others.
#[test]
fn one_ends_by_itself() {
    let fault = json!({"act": "fail", "place": "forward", "step": 3});
    let mut failing = ranks(2, 1, 8, &fault);
    let said = failing[1].ends().sentence();
    assert_eq!(said, "the forward failed at step 3, micro-batch 0: no more data");
    survivors_name(1, "averaging the gradients of step 3", &mut failing);

    let mut short = ranks(2, 0, 8, &json!({"act": "end", "place": "forward", "step": 3}));
    assert!(short[0].ends().status.success());
    survivors_name(0, "averaging the gradients of step 3", &mut short);
}

/// Listens, and does `what` to whoever comes.
fn stranger(what: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || listener.incoming().flatten().for_each(what));
    port
}

#[test]
fn a_stranger_at_the_port_says_nothing() {
    let port = stranger(std::mem::forget);
    let mut ranks = [0, 1].map(|rank| Process::rank(rank, 2, port, &order(1)));
    let said = ranks[0].fails();
    let taken =
        format!("rank 0: meeting the others failed: port {port}, where the ranks are to meet,");
    assert!(said.starts_with(&taken), "{said}");
    let advice = "by another program or another rank 0: take a free one, by MASTER_PORT or --rdzv";
    assert!(said.contains(advice), "{said}");
    assert_eq!(
        ranks[1].fails(),
        format!(
            "rank 1: meeting the others failed: 127.0.0.1:{port}, where the ranks meet, does not answer \
             within 3 s: is rank 0 stuck, or is it another program that listens there?"
        )
    );
}

#[test]
fn a_stranger_at_the_port_talks_nonsense() {
    let nonsense = stranger(|mut stream| {
        // It does not matter whether anybody reads it.
        let _ = stream.write_all(&[0xfe; 4096]);
        thread::sleep(PATIENCE);
    });
    let rude = stranger(drop);
    at_once(&[nonsense, rude], |&port| {
        let said = Process::rank(1, 2, port, &order(1)).fails();
        let place =
            format!("rank 1: meeting the others failed: 127.0.0.1:{port}, where the ranks meet,");
        assert!(said.starts_with(&format!("{place} does not answer ")), "{said}");
        assert!(said.contains("is it another program that listens there?"), "{said}");
    });
}

/// Ranks 0 to 2 of 3, of which rank 1 has another order: all say the same, also the one that comes last.
fn all_refuse(change: impl Fn(&mut Value), expected: &str) {
    let port = free_port();
    let mut other = order(1);
    change(&mut other);
    let start = |rank, order| Process::rank(rank, 3, port, order);
    let same = order(1);
    let (mut first, mut second) = (start(0, &same), start(1, &other));
    let said = |rank| format!("rank {rank}: meeting the others failed: {expected}");
    assert_eq!(second.fails(), said(1));
    assert_eq!(start(2, &same).fails(), said(2));
    assert_eq!(first.fails(), said(0));
}

#[test]
fn ranks_with_different_configurations() {
    all_refuse(
        |order| order["config"]["optimizer"]["params"]["lr"] = json!(0.2),
        "the ranks have different configurations: optimizer.params.lr is 0.1 on rank 0 and 0.2 on \
         rank 1",
    );
}

#[test]
fn ranks_with_different_models() {
    all_refuse(
        |order| order["width"] = json!(9),
        "the ranks have different models: where rank 0 has `layers.0.bias` of size [8] and kind \
         Float, rank 1 has `layers.0.bias` of size [9] and kind Float",
    );
}

#[test]
fn ranks_with_different_data() {
    all_refuse(
        |order| order["data"] = json!("b"),
        "the ranks do not have the same data: its fingerprint is a on rank 0 and b on rank 1",
    );
}

/// Gradients are laid out in the order in which the parameters were made.
#[test]
fn ranks_that_make_their_models_in_different_orders() {
    all_refuse(
        |order| order["backwards"] = json!(true),
        "the ranks have different models: where rank 0 has `layers.0.bias` as parameter 0 to be made, rank 1 has \
         `layers.3.bias` as parameter 0 to be made",
    );
}

#[test]
fn ranks_of_different_worlds() {
    at_once(&[[2, 3], [3, 2]], |&[first, second]| {
        let port = free_port();
        let mut ranks = [(0, first), (1, second)]
            .map(|(rank, world_size)| Process::rank(rank, world_size, port, &order(1)));
        for (rank, process) in ranks.iter_mut().enumerate() {
            let said = process.fails();
            let expected =
                format!("rank 1 was started as one of {second}, and rank 0 as one of {first}");
            assert_eq!(said, format!("rank {rank}: meeting the others failed: {expected}"));
        }
    });
}

/// One that rank 0 does not know of: it has to wait to learn it.
#[test]
fn a_rank_beyond_the_world_of_the_others() {
    let (port, mut pausing) = (free_port(), order(100_000));
    pausing["fault"] = json!({"act": "pause", "place": "forward"});
    let mut ranks = [0, 1].map(|rank| Process::rank(rank, 2, port, &pausing));
    ranks[0].says("step 0 ");
    let said = Process::rank(2, 3, port, &order(1)).fails();
    let expected = "rank 2 was started as one of 3, and rank 0 as one of 2";
    assert_eq!(said, format!("rank 2: meeting the others failed: {expected}"));
    let step = ranks[0].stdout().lines().count();
    ranks[0].says(&format!("step {} ", step + 3));
}

/// The second process of a rank is refused; the others go on with the first.
#[test]
fn a_rank_is_there_twice() {
    let port = free_port();
    let mut order = order(100_000);
    order["fault"] = json!({"act": "pause", "place": "forward"});
    let mut ranks = [0, 1].map(|rank| Process::rank(rank, 2, port, &order));
    ranks[0].says("step 0 ");
    let mut third = Process::rank(1, 2, port, &order);
    let said = third.fails();
    let ids = [third.id(), ranks[1].id()].map(|id| format!("process {id} of "));
    assert!(said.starts_with("rank 1: meeting the others failed: rank 1 is there twice: "));
    assert!(ids.iter().all(|id| said.contains(id)), "{said}");
    let said = Process::rank(0, 2, port, &order).fails();
    assert!(said.contains("is taken on this machine, by another program or another rank 0"));
    let step = ranks[0].stdout().lines().count();
    ranks[0].says(&format!("step {} ", step + 3));
}

#[test]
fn a_rank_that_is_no_number() {
    let mut command = faulty(&order(1));
    place(&mut command, 0, 2, ("127.0.0.1", free_port()));
    command.env("RANK", "first");
    assert_eq!(Process::start(command).fails(), "RANK = \"first\" is not a whole number");
}

/// A host's addresses that are not rank 0's, and such that hold on one wire only.
#[test]
fn a_place_where_the_ranks_cannot_meet() {
    let start = |rank, host| {
        let mut command = faulty(&order(1));
        place(&mut command, rank, 2, (host, free_port()));
        Process::start(command)
    };
    let said = start(0, "192.0.2.77").fails();
    let missing = "rank 0: meeting the others failed: rank 1 of 2 did not come within 3 s; 192.0.2.77 is no address \
        of the machine that rank 0 is on: unless it is forwarded there, set MASTER_ADDR to one that is";
    assert!(said.starts_with(missing), "{said}");
    for rank in [0, 1] {
        let said = start(rank, "fe80::1%lo").fails();
        let refused =
            format!("rank {rank}: meeting the others failed: fe80::1%lo is a link-local address, ");
        assert!(said.starts_with(&refused), "{said}");
        assert!(
            said.contains("set MASTER_ADDR or --rdzv to another address of rank 0's machine"),
            "{said}"
        );
    }
}

/// With all that a launcher may say of one machine, and nothing: nobody else can connect.
#[test]
fn ranks_of_one_machine_listen_on_loopback_alone() {
    let mut pausing = order(100_000);
    pausing["fault"] = json!({"act": "pause", "place": "forward"});
    let cases = [
        ("127.0.0.1", None),
        ("127.0.0.1", Some("2")),
        ("localhost", None),
        ("localhost", Some("2")),
    ];
    at_once(&cases, |&(host, here)| {
        let port = free_port();
        let start = |rank| {
            let mut command = faulty(&pausing);
            place(&mut command, rank, 2, (host, port));
            match here {
                Some(here) => command.env("LOCAL_WORLD_SIZE", here),
                None => command.env_remove("LOCAL_WORLD_SIZE"),
            };
            Process::start(command)
        };
        let mut ranks = [0, 1].map(start);
        ranks.iter_mut().for_each(|rank| rank.says("step 0 "));
        for (rank, process) in ranks.iter().enumerate() {
            let listening = listening(process.id());
            // The store, and Gloo's two groups.
            assert!(listening.len() >= 2 - rank, "{listening:?}");
            assert!(
                listening.iter().all(|at| at.ip().is_loopback()),
                "{host}, {here:?}: {listening:?}"
            );
            assert_eq!(listening.iter().any(|at| at.port() == port), rank == 0, "{listening:?}");
        }
    });
}

#[test]
fn an_unknown_host() {
    let mut command = faulty(&order(1));
    place(&mut command, 1, 2, ("no..host", free_port()));
    let said = Process::start(command).fails();
    let nobody = "rank 1: meeting the others failed: nobody answers at no..host:";
    assert!(said.starts_with(nobody) && said.contains("lookup"), "{said}");
}
