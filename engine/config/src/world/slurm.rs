//! A step of Slurm's: who this process is by its variables, and on which host rank 0 is.
use super::{PORT, Set, World, master_host, number, port};
use crate::error::{Error, Result};

/// A batch script and an interactive shell run outside of the steps that `srun` makes, though the job's
/// variables are there; where Slurm gives them a step, its number is one of the highest.
pub(super) fn in_a_step(set: Set<'_>) -> bool {
    const RESERVED: u32 = 0xffff_fff0;
    set("SLURM_STEP_ID").is_some_and(|step| step.parse().is_ok_and(|step: u32| step < RESERVED))
}

pub(super) fn world(set: Set<'_>) -> Result<World> {
    let size = |name| number(set, name);
    let world_size: usize = match size("SLURM_STEP_NUM_TASKS")? {
        Some(tasks) => tasks,
        None => size("SLURM_NTASKS")?.ok_or_else(|| {
            Error::World("SLURM_NTASKS is not set, and SLURM_PROCID is: srun sets both".to_owned())
        })?,
    };
    let rank = number(set, "SLURM_PROCID")?.unwrap_or(0);
    let host = match master_host(set) {
        // One process meets nobody.
        None if world_size > 1 => host_of_rank_0(set, rank)?,
        given => given,
    };
    // Two jobs on one node, or two steps of a job, must not meet.
    let (job, step) = (number::<u64>(set, "SLURM_JOB_ID")?, number::<u64>(set, "SLURM_STEP_ID")?);
    let step = step.unwrap_or(0);
    let own = job.map_or(PORT, |job| 20000 + (job.wrapping_add(step) % 10000) as u16);
    let port = port(set, own)?;
    Ok(World {
        rank,
        world_size,
        local_rank: number(set, "SLURM_LOCALID")?.unwrap_or(0),
        local_world_size: set("SLURM_STEP_TASKS_PER_NODE").as_deref().and_then(tasks_of_each),
        master: host.map(|host| (host, port)),
        launcher_answers: false,
        binds_processors: true,
        launch: job.map(|job| format!("step {step} of Slurm's job {job}")),
        launcher: "by Slurm's variables",
    })
}

/// The first host of the step's, which has rank 0 unless the ranks are laid out in another way.
fn host_of_rank_0(set: Set<'_>, rank: usize) -> Result<Option<String>> {
    let lists = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"];
    let Some((name, list)) = lists.iter().find_map(|name| Some((name, set(name)?))) else {
        return Ok(None);
    };
    let first = first_host(&list).map_err(|why| {
        let advice = "set MASTER_ADDR to the host of rank 0, for all ranks";
        Error::World(format!("{name} = {list:?} is no list of hosts: {why}; {advice}"))
    })?;
    match set("SLURMD_NODENAME").filter(|_| rank == 0) {
        Some(here) if here != first => Err(Error::World(format!(
            "rank 0 is on {here}, and the first host of {name} = {list:?} is {first}, where the others would \
             look for it: set MASTER_ADDR to {here}, for all ranks"
        ))),
        _ => Ok(Some(first)),
    }
}

/// The first host of Slurm's list, as `scontrol show hostnames` has it: `rack[0-1]node[003-005,9],login1`
/// begins with `rack0node003`. The others are never made.
///
/// # Errors
/// What of the list cannot be read, the first host or a later one.
fn first_host(list: &str) -> std::result::Result<String, String> {
    let mut hosts = items(list)?.into_iter().map(first_of);
    let first = hosts.next().ok_or("it is empty")??;
    hosts.try_for_each(|host| host.map(drop))?;
    Ok(first)
}

/// The items of a list: commas within brackets part none.
fn items(list: &str) -> std::result::Result<Vec<&str>, String> {
    let (mut items, mut start, mut open) = (Vec::new(), 0, false);
    for (at, c) in list.char_indices() {
        match c {
            '[' if open => return Err("a bracket opens within another".to_owned()),
            ']' if !open => return Err("a bracket closes that did not open".to_owned()),
            '[' | ']' => open = c == '[',
            ',' if !open => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err("a bracket stays open".to_owned());
    }
    items.push(&list[start..]);
    items.retain(|item| !item.is_empty());
    Ok(items)
}

/// The first of the hosts that an item stands for. Brackets match in it.
fn first_of(item: &str) -> std::result::Result<String, String> {
    let (mut host, mut rest) = (String::new(), item);
    while let Some((text, inside)) = rest.split_once('[') {
        let (ranges, after) = inside.split_once(']').unwrap_or((inside, ""));
        host += text;
        host += first_number(ranges)?;
        rest = after;
    }
    Ok(host + rest)
}

/// The first number of `003-005,9`, as it is written.
fn first_number(ranges: &str) -> std::result::Result<&str, String> {
    let mut lows = ranges.split(',').map(|range| {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Of any length: by value.
        let value = |text: &'_ str| {
            let value = text.trim_start_matches('0');
            (value.len(), value.to_owned())
        };
        match digits(low) && digits(high) && value(low) <= value(high) {
            true => Ok(low),
            false => Err(format!("{range:?} is no range of numbers")),
        }
    });
    let first = lows.next().expect("text that is split has a first part")?;
    lows.try_for_each(|low| low.map(drop))?;
    Ok(first)
}

/// How many tasks each node has, where all have as many: `4(x2)`, and not `4(x2),3`.
fn tasks_of_each(text: &str) -> Option<usize> {
    let (tasks, repeated) = text.split_once("(x").unwrap_or((text, "1)"));
    repeated.strip_suffix(')')?.parse::<usize>().ok()?;
    tasks.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{master, world};
    use super::*;

    const STEP: [(&str, &str); 7] = [
        ("SLURM_PROCID", "5"),
        ("SLURM_NTASKS", "8"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
        ("SLURM_JOB_NODELIST", "gpu[012-013]"),
        ("SLURM_JOB_ID", "1234567"),
    ];

    #[test]
    fn slurm_gives_the_first_node() {
        let found = world(&STEP).expect("all is set");
        assert_eq!((found.rank, found.world_size, found.local_rank), (5, 8, 1));
        assert_eq!(found.local_world_size, Some(4));
        assert_eq!(found.master, master("gpu012", 24567));
        let launch = Some("step 0 of Slurm's job 1234567".to_owned());
        assert_eq!(found.launch, launch);
        let given = [STEP.as_slice(), &[("MASTER_ADDR", "a"), ("MASTER_PORT", "5")]].concat();
        assert_eq!(world(&given).map(|w| w.master), Ok(master("a", 5)));
    }

    #[test]
    fn steps_of_a_job_have_a_port_each() {
        let step = |step| {
            world(&[
                ("SLURM_PROCID", "1"),
                ("SLURM_NTASKS", "2"),
                ("SLURM_STEP_ID", step),
                ("SLURM_JOB_NODELIST", "a"),
                ("SLURM_JOB_ID", "77"),
            ])
        };
        let (first, second) = (step("0").expect("all is set"), step("1").expect("all is set"));
        assert_eq!((first.master, second.master), (master("a", 20077), master("a", 20078)));
        assert_ne!(first.launch, second.launch);
    }

    /// An item, and the first host that `scontrol show hostnames` makes of it.
    const ITEMS: [(&str, &str); 14] = [
        ("alpha", "alpha"),
        ("node-1.cluster", "node-1.cluster"),
        ("node7", "node7"),
        ("node[7,9]", "node7"),
        ("node[003-005,9]", "node003"),
        ("n[9,003-005]", "n9"),
        ("blue-gpu[810-811]", "blue-gpu810"),
        ("n[08-12]-ib", "n08-ib"),
        ("[1-3]", "1"),
        ("rack[0-1]node[2-3]", "rack0node2"),
        ("r[00,02]i[1-2]n[03-07]", "r00i1n03"),
        ("r[1]i[0,1-2]n[0010].x", "r1i0n0010.x"),
        ("big[0-999999999]", "big0"),
        ("huge[00000000000000000001-99999999999999999999]", "huge00000000000000000001"),
    ];

    /// What cannot be read, and the part that says why.
    const WRONG: [(&str, &str); 12] = [
        ("n[7", "a bracket stays open"),
        ("n7]", "a bracket closes that did not open"),
        ("n[7-[8]]", "a bracket opens within another"),
        ("n[]", "\"\" is no range"),
        ("n[1,]", "\"\" is no range"),
        ("n[1-]", "\"1-\" is no range"),
        ("n[-1]", "\"-1\" is no range"),
        ("n[3-1]", "\"3-1\" is no range"),
        ("n[1-2-3]", "\"1-2-3\" is no range"),
        ("tux[0-2,5]-[a-b]", "\"a-b\" is no range"),
        ("n[1 2]", "\"1 2\" is no range"),
        ("n[\u{661}]", "is no range"),
    ];

    /// Every item, alone and beside every other, right or wrong.
    #[test]
    fn lists_of_hosts() {
        for (item, first) in ITEMS {
            assert_eq!(first_host(item).as_deref(), Ok(first));
            for (other, _) in ITEMS {
                for list in [format!("{item},{other}"), format!(",{item},,{other},")] {
                    assert_eq!(first_host(&list).as_deref(), Ok(first), "{list}");
                }
            }
            for (wrong, why) in WRONG {
                for list in [wrong.to_owned(), format!("{wrong},{item}"), format!("{item},{wrong}")]
                {
                    let error = first_host(&list).expect_err(&list);
                    // What opens may close in the item behind it, and then stand within it.
                    let open = wrong == "n[7";
                    assert!(open || error.contains(why), "{list}: {error}");
                }
            }
        }
        assert_eq!(first_host(",").unwrap_err(), "it is empty");
    }

    #[test]
    fn a_list_that_cannot_be_read_asks_for_the_address() {
        let list = |list| [&STEP[..5], &[("SLURM_STEP_NODELIST", list)]].concat();
        assert_eq!(
            world(&list("tux[0-2,5]-[a-b]")).unwrap_err(),
            "SLURM_STEP_NODELIST = \"tux[0-2,5]-[a-b]\" is no list of hosts: \"a-b\" is no range of numbers; \
             set MASTER_ADDR to the host of rank 0, for all ranks"
        );
        let given = [list("n["), vec![("MASTER_ADDR", "a"), ("MASTER_PORT", "5")]].concat();
        assert_eq!(world(&given).map(|w| w.master), Ok(master("a", 5)));
        let alone = [list("n["), vec![("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0")]];
        let alone: Vec<_> = alone.concat().into_iter().rev().collect();
        assert_eq!(world(&alone).map(|w| w.master), Ok(None));
    }

    /// As `srun --distribution=arbitrary` may lay them out.
    #[test]
    fn rank_0_on_another_host_than_the_first() {
        let at = |rank, node| {
            world(&[
                ("SLURM_PROCID", rank),
                ("SLURM_NTASKS", "2"),
                ("SLURM_STEP_ID", "0"),
                ("SLURM_STEP_NODELIST", "n[1-2]"),
                ("SLURMD_NODENAME", node),
            ])
        };
        assert_eq!(at("0", "n1").map(|w| w.master), Ok(master("n1", PORT)));
        assert_eq!(at("1", "n2").map(|w| w.master), Ok(master("n1", PORT)));
        assert_eq!(
            at("0", "n2").unwrap_err(),
            "rank 0 is on n2, and the first host of SLURM_STEP_NODELIST = \"n[1-2]\" is n1, where the others \
             would look for it: set MASTER_ADDR to n2, for all ranks"
        );
    }

    #[test]
    fn tasks_of_a_node() {
        for (text, tasks) in
            [("4", Some(4)), ("4(x2)", Some(4)), ("4(x2),3", None), ("4,3", None), ("x", None)]
        {
            assert_eq!(tasks_of_each(text), tasks, "{text}");
        }
    }
}
