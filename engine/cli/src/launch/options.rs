//! What the command line says.
use super::world::Endpoint;
use std::ffi::OsString;
use std::str::FromStr;

/// Start a program as several ranks that train together
///
/// Each rank is a process with RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR
/// and MASTER_PORT set as torchrun sets them. Where OMP_NUM_THREADS is not set, the ranks of a node share
/// its cores. Signals are passed on to the ranks. When a rank fails, the others are ended, and its exit
/// status is this program's.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    trainyard launch --nproc-per-node 2 -- trainyard train --config run.json\n  \
    trainyard launch --nproc-per-node 2 --max-restarts 5 -- trainyard train --config run.json\n  \
    trainyard launch --nproc-per-node 8 --nnodes 2 --node-rank 0 --rdzv node0:29500 -- ./my_program \
    run.json\n  \
    trainyard launch --nproc-per-node 8 --nnodes 2 --node-rank 1 --rdzv node0:29500 -- ./my_program \
    run.json")]
pub struct Args {
    /// Ranks to start on this node; `auto` is as many as it has GPUs, and 1 where it has none
    #[arg(long, alias = "nproc_per_node", value_name = "N")]
    pub nproc_per_node: Count,
    /// Nodes that take part, each with a launcher of its own and the same number of ranks
    #[arg(long, value_name = "M", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub nnodes: u32,
    /// Which of the nodes this is, from 0
    #[arg(long, alias = "node_rank", value_name = "K")]
    pub node_rank: Option<u32>,
    /// Address of node 0, as all nodes reach it, and a port that is free there. On a single node it is
    /// 127.0.0.1 and any free port unless this is given
    #[arg(long, value_name = "HOST:PORT")]
    pub rdzv: Option<Endpoint>,
    /// Seconds that ranks have to end after a signal or after another rank failed, before they are killed
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(0..=86400))]
    pub grace: u64,
    /// Start all ranks again when one fails, so often at most; with a `checkpoint` section the training goes on where
    /// it was. On a single node
    #[arg(long, alias = "max_restarts", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_restarts: u32,
    /// Pass the ranks' lines on without `[rank 0] ` before them
    #[arg(long)]
    pub no_prefix: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// How many ranks a node has.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    Auto,
    Of(u32),
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == "auto" => Ok(Count::Auto),
            Ok(count @ 1..=1024) => Ok(Count::Of(count)),
            _ => Err("give a number of ranks from 1 to 1024, or auto"),
        }
    }
}

/// Which node this is; a sentence where the options do not go together.
pub fn node(nodes: u32, node: Option<u32>, rdzv: bool, restarts: u32) -> Result<u32, String> {
    let last = nodes - 1;
    match node {
        _ if last > 0 && restarts > 0 => Err(format!(
            "--max-restarts {restarts} needs --nnodes 1, and it is {nodes}: the launcher of one node does not know of \
             the others' ranks; torchrun starts those of all nodes again"
        )),
        Some(node) if node > last => {
            let right =
                if last == 0 { "0".to_owned() } else { format!("a number from 0 to {last}") };
            Err(format!("--node-rank {node} is not one of --nnodes {nodes}: {right} would be"))
        }
        None if last > 0 => {
            Err(format!("--nnodes {nodes} needs --node-rank, a number from 0 to {last}"))
        }
        _ if last > 0 && !rdzv => {
            let what = "HOST:PORT, the address of node 0 and a port that is free there";
            Err(format!("--nnodes {nodes} needs --rdzv {what}"))
        }
        node => Ok(node.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together() {
        assert_eq!(node(1, None, false, 3), Ok(0));
        assert_eq!(node(3, Some(2), true, 0), Ok(2));
        for (given, error) in [
            ((1, Some(1), false, 0), "--node-rank 1 is not one of --nnodes 1: 0 would be"),
            ((2, Some(2), true, 0), "--node-rank 2 is not one of --nnodes 2: a number from 0 to 1"),
            ((2, None, true, 0), "--nnodes 2 needs --node-rank, a number from 0 to 1"),
            ((2, Some(0), false, 0), "--nnodes 2 needs --rdzv HOST:PORT"),
            ((2, Some(0), true, 1), "--max-restarts 1 needs --nnodes 1, and it is 2: "),
        ] {
            let (nodes, rank, rdzv, restarts) = given;
            let told = node(nodes, rank, rdzv, restarts).expect_err(error);
            assert!(told.starts_with(error), "{told}");
        }
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Result<Args, String> {
        let words = ["launch"].into_iter().chain(line.split_whitespace());
        let line = <Line as clap::Parser>::try_parse_from(words);
        line.map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_program_begins_where_the_options_end() {
        for line in [
            "--nproc-per-node 2 -- a --nnodes 3",
            "--nproc-per-node 2 a --nnodes 3",
            "--nproc_per_node=2 -- a --nnodes 3",
        ] {
            let args = parsed(line).expect(line);
            assert_eq!(
                (args.program, args.nnodes),
                (vec!["a".into(), "--nnodes".into(), "3".into()], 1)
            );
        }
    }

    #[test]
    fn wrong_options() {
        for (line, why) in [
            ("a", "--nproc-per-node <N>"),
            ("--nproc-per-node 2", "<PROGRAM>"),
            ("--nproc-per-nodes 2 a", "--nproc-per-nodes"),
            (
                "--nproc-per-node 1025 a",
                "'1025' for '--nproc-per-node <N>': give a number of ranks from 1",
            ),
            ("--nproc-per-node all a", "or auto"),
            ("--nproc-per-node 2 --nnodes 0 a", "0 is not in 1..=65536"),
            (
                "--nproc-per-node 2 --rdzv node0 a",
                "'node0' for '--rdzv <HOST:PORT>': it has no port",
            ),
            ("--nproc-per-node 2 --grace -1 a", "'-1'"),
            ("--nproc-per-node 2 --grace 1000000 a", "1000000 is not in 0..=86400"),
        ] {
            let error = parsed(line).map(drop).expect_err(line);
            assert!(error.starts_with("error: ") && error.contains(why), "{line}: {error}");
        }
    }
}
