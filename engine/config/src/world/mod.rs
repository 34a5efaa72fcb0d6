//! This process among those that train one model together, as its launcher set it.
mod slurm;

use crate::error::{Error, Result};

/// This process among those that train one model together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// This process's number, from 0.
    pub rank: usize,
    /// How many processes there are.
    pub world_size: usize,
    /// This process's number among those of its machine, from 0: which GPU is its own.
    pub local_rank: usize,
    /// How many processes its machine has, where the launcher says so.
    pub local_world_size: Option<usize>,
    /// Host and port where the ranks meet; none in a world of one.
    pub master: Option<(String, u16)>,
    /// Whether the launcher answers there, as torchrun does; otherwise rank 0 has to.
    pub launcher_answers: bool,
    /// Whether the launcher gives each process processors of its own, as srun and mpirun do.
    pub binds_processors: bool,
    /// What tells this launch from others of its launcher, where that says so: two of them on one machine may
    /// come to the same port.
    pub launch: Option<String>,
    /// Who says all this, for messages: `torchrun's variables`, `Slurm`.
    pub launcher: &'static str,
}

impl Default for World {
    fn default() -> Self {
        World::solo()
    }
}

/// The port where ranks meet when nothing else is said: PyTorch's.
const PORT: u16 = 29500;

/// What `MASTER_PORT` has to be.
const A_PORT: &str = "a port, 1 to 65535";

impl World {
    /// The variable by which `trainyard launch` tells its own ranks from another's on the same machine.
    pub const LAUNCH: &'static str = "TRAINYARD_LAUNCH";

    /// The variable by which torchrun and `trainyard launch` tell how often they have started the ranks again.
    pub const RESTARTS: &'static str = "TORCHELASTIC_RESTART_COUNT";

    /// A world of one process.
    pub fn solo() -> Self {
        World {
            rank: 0,
            world_size: 1,
            local_rank: 0,
            local_world_size: None,
            master: None,
            launcher_answers: false,
            binds_processors: false,
            launch: None,
            launcher: "as asked for",
        }
    }

    /// Rank `rank` of `world_size`, all on this machine, which meet at `port`.
    pub fn local(rank: usize, world_size: usize, port: u16) -> Self {
        World {
            rank,
            world_size,
            local_rank: rank,
            local_world_size: Some(world_size),
            master: Some(("127.0.0.1".to_owned(), port)),
            ..World::solo()
        }
    }

    /// Reads the variables of the environment; see [`from_variables`](World::from_variables).
    ///
    /// # Errors
    /// As [`from_variables`](World::from_variables).
    pub fn from_env() -> Result<Self> {
        World::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads what a launcher sets: `RANK` and `WORLD_SIZE` with their companions (torchrun, `trainyard
    /// launch`, Kubernetes' operators), else Open MPI's, else a Slurm step's variables; otherwise this
    /// process is alone. `MASTER_ADDR` and `MASTER_PORT` hold in all three.
    ///
    /// # Errors
    /// A variable that is no number, a rank beyond the world, or no place to meet, by name and value.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let world = if set("RANK").is_some() || set("WORLD_SIZE").is_some() {
            torchrun(&set)?
        } else if set("OMPI_COMM_WORLD_RANK").is_some() {
            // Within a Slurm job `mpirun` reaches the other machines by a step of its own.
            open_mpi(&set)?
        } else if set("SLURM_PROCID").is_some() && slurm::in_a_step(&set) {
            slurm::world(&set)?
        } else {
            return Ok(World::solo());
        };
        let World { rank, world_size, launcher, .. } = world;
        if rank >= world_size {
            return Err(Error::World(format!(
                "rank {rank} of {world_size} does not exist ({launcher}): ranks are 0 to the world's \
                 size less 1"
            )));
        }
        if world_size > 1 && world.master.is_none() {
            return Err(Error::World(format!(
                "MASTER_ADDR is not set: where do the {world_size} ranks meet ({launcher})? Set it to \
                 the host of rank 0"
            )));
        }
        Ok(world)
    }
}

/// Looks a variable up.
type Set<'a> = &'a dyn Fn(&str) -> Option<String>;

fn torchrun(set: Set<'_>) -> Result<World> {
    let both = || {
        let missing = if set("RANK").is_none() { "RANK" } else { "WORLD_SIZE" };
        Error::World(format!("{missing} is not set, and its companion is: a launcher sets both"))
    };
    let rank = number(set, "RANK")?.ok_or_else(both)?;
    let world_size: usize = number(set, "WORLD_SIZE")?.ok_or_else(both)?;
    // torchrun sets MASTER_ADDR always; one process by hand needs none.
    let port = port(set, PORT)?;
    let master = master_host(set).map(|host| (host, port));
    Ok(World {
        rank,
        world_size,
        local_rank: number(set, "LOCAL_RANK")?.unwrap_or(0),
        local_world_size: number(set, "LOCAL_WORLD_SIZE")?,
        master,
        launcher_answers: set("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|v| v == "True"),
        binds_processors: false,
        launch: set(World::LAUNCH).map(|id| format!("`trainyard launch` of process {id}")),
        launcher: "by the variables RANK and WORLD_SIZE",
    })
}

fn open_mpi(set: Set<'_>) -> Result<World> {
    let name = "OMPI_COMM_WORLD_SIZE";
    let world_size = number(set, name)?.ok_or_else(|| {
        Error::World(format!("{name} is not set, and OMPI_COMM_WORLD_RANK is: mpirun sets both"))
    })?;
    let local_world_size = number(set, "OMPI_COMM_WORLD_LOCAL_SIZE")?;
    // All on one machine meet there.
    let here = (local_world_size == Some(world_size)).then(|| "127.0.0.1".to_owned());
    let host = master_host(set).or(here);
    let port = port(set, PORT)?;
    let job = set("PMIX_NAMESPACE").or_else(|| set("OMPI_MCA_ess_base_jobid"));
    Ok(World {
        rank: number(set, "OMPI_COMM_WORLD_RANK")?.unwrap_or(0),
        world_size,
        local_rank: number(set, "OMPI_COMM_WORLD_LOCAL_RANK")?.unwrap_or(0),
        local_world_size,
        master: host.map(|host| (host, port)),
        launcher_answers: false,
        binds_processors: true,
        launch: job.map(|job| format!("Open MPI's job {job}")),
        launcher: "by Open MPI's variables",
    })
}

/// `MASTER_ADDR`, without the brackets that an address of IPv6 has beside a port.
fn master_host(set: Set<'_>) -> Option<String> {
    let host = set("MASTER_ADDR")?;
    let host = host.trim();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some(bare.unwrap_or(host).to_owned())
}

fn port(set: Set<'_>, default: u16) -> Result<u16> {
    match number(set, "MASTER_PORT")? {
        // The system would choose one that nobody else knows.
        Some(0) => Err(Error::World(format!("MASTER_PORT = \"0\" is not {A_PORT}"))),
        port => Ok(port.unwrap_or(default)),
    }
}

fn number<T: std::str::FromStr>(set: Set<'_>, name: &str) -> Result<Option<T>> {
    let wrong = |value: &str| {
        let what = if name == "MASTER_PORT" { A_PORT } else { "a whole number" };
        Error::World(format!("{name} = {value:?} is not {what}"))
    };
    set(name).map(|value| value.trim().parse().map_err(|_| wrong(&value))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn world(variables: &[(&str, &str)]) -> std::result::Result<World, String> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        World::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
            .map_err(|error| error.to_string())
    }

    pub(super) fn master(host: &str, port: u16) -> Option<(String, u16)> {
        Some((host.to_owned(), port))
    }

    #[test]
    fn nothing_set_is_a_world_of_one() {
        assert_eq!(world(&[]), Ok(World::solo()));
        // A batch script, outside of any step of it; and one opened with salloc.
        assert_eq!(world(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]), Ok(World::solo()));
        assert_eq!(
            world(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8"), ("SLURM_STEP_ID", "4294967290")]),
            Ok(World::solo())
        );
    }

    #[test]
    fn torchrun_sets_all() {
        let found = world(&[
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("MASTER_ADDR", "node1"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("SLURM_PROCID", "7"),
            ("TRAINYARD_LAUNCH", "12"),
        ]);
        let found = found.expect("all is set");
        assert_eq!(found.launch.as_deref(), Some("`trainyard launch` of process 12"));
        assert_eq!((found.rank, found.world_size, found.local_rank), (3, 4, 1));
        assert_eq!(found.local_world_size, Some(2));
        assert_eq!(found.master, master("node1", 1234));
        assert!(found.launcher_answers);
        assert_eq!(world(&[("RANK", "0"), ("WORLD_SIZE", "1")]).map(|w| w.master), Ok(None));
    }

    #[test]
    fn open_mpi_on_one_machine_needs_no_address() {
        let mpi = |local| {
            world(&[
                ("OMPI_COMM_WORLD_RANK", "1"),
                ("OMPI_COMM_WORLD_SIZE", "2"),
                ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", local),
                ("PMIX_NAMESPACE", "prterun-a-7@1"),
            ])
        };
        let found = mpi("2").expect("all is set");
        assert_eq!(found.master, master("127.0.0.1", PORT));
        assert_eq!(found.launch.as_deref(), Some("Open MPI's job prterun-a-7@1"));
        assert!(mpi("1").unwrap_err().starts_with("MASTER_ADDR is not set: where do the 2 ranks"));
    }

    #[test]
    fn open_mpi_within_a_job_of_slurm_is_open_mpi() {
        let found = world(&[
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node0"),
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_NTASKS", "1"),
        ]);
        assert_eq!(found.map(|world| (world.rank, world.world_size)), Ok((3, 4)));
    }

    #[test]
    fn wrong_variables_are_named() {
        let with = |variables: &[(&str, &str)]| world(variables).unwrap_err();
        assert_eq!(
            with(&[("RANK", "a"), ("WORLD_SIZE", "2")]),
            "RANK = \"a\" is not a whole number"
        );
        assert_eq!(
            with(&[("RANK", "0")]),
            "WORLD_SIZE is not set, and its companion is: a launcher sets both"
        );
        assert!(
            with(&[("RANK", "2"), ("WORLD_SIZE", "2")]).starts_with("rank 2 of 2 does not exist")
        );
        assert_eq!(
            with(&[
                ("RANK", "0"),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "a"),
                ("MASTER_PORT", "70000")
            ]),
            "MASTER_PORT = \"70000\" is not a port, 1 to 65535"
        );
    }
}
