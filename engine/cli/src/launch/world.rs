//! Who the ranks are, and what they are told of it.
use std::fmt;
use std::str::FromStr;

/// Where the ranks find rank 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, of IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = "write HOST:PORT, such as node0:29500 or [fd00::1]:29500";
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("it has no port; {right}"));
        };
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or(format!("the bracket stays open; {right}"))?,
            None if host.contains(':') => {
                return Err(format!("an address with colons needs brackets; {right}"));
            }
            None => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/[]@".contains(c)) {
            return Err(format!("`{host}` is not a host; {right}"));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Endpoint { host: host.to_owned(), port }),
            _ => Err(format!("port `{port}` is not a number from 1 to 65535; {right}")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// All the ranks, and which of them are here.
#[derive(Debug, Clone)]
pub struct World {
    /// Ranks on each node, this one too.
    pub ranks_per_node: u32,
    pub nodes: u32,
    /// This node, from 0.
    pub node: u32,
    pub master: Endpoint,
}

impl World {
    /// Ranks on all nodes.
    pub fn size(&self) -> u64 {
        u64::from(self.nodes) * u64::from(self.ranks_per_node)
    }

    /// The rank of this node's rank `local`, which counts from 0.
    pub fn rank(&self, local: u32) -> u64 {
        u64::from(self.node) * u64::from(self.ranks_per_node) + u64::from(local)
    }

    /// The variables of this node's rank `local`, by torchrun's names
    /// (<https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables>).
    pub fn variables(&self, local: u32) -> [(&'static str, String); 7] {
        [
            ("RANK", self.rank(local).to_string()),
            ("WORLD_SIZE", self.size().to_string()),
            ("LOCAL_RANK", local.to_string()),
            ("LOCAL_WORLD_SIZE", self.ranks_per_node.to_string()),
            ("GROUP_RANK", self.node.to_string()),
            ("MASTER_ADDR", self.master.host.clone()),
            ("MASTER_PORT", self.master.port.to_string()),
        ]
    }
}

/// How many GPUs there are: those that CUDA_VISIBLE_DEVICES lets be seen, else all of NVIDIA's, by the
/// names of the device files (`nvidia0`, ...).
pub fn gpus(visible: Option<&str>, devices: impl Iterator<Item = String>) -> usize {
    let numbered = |name: &String| {
        let number = name.strip_prefix("nvidia");
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let all = devices.filter(numbered).count();
    // CUDA takes the list up to the first that it does not know, such as -1.
    let known = |device: &&str| !device.is_empty() && *device != "-1";
    let seen = |list: &str| list.split(',').map(str::trim).take_while(known).count();
    visible.map_or(all, |list| seen(list).min(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let right = |text: &str| {
            let endpoint: Endpoint = text.parse().expect("it is right");
            assert_eq!(endpoint.to_string(), text);
            (endpoint.host, endpoint.port)
        };
        assert_eq!(right("node-0.cluster:29500"), ("node-0.cluster".to_owned(), 29500));
        assert_eq!(right("[fd00::1]:1"), ("fd00::1".to_owned(), 1));
        for (wrong, why) in [
            ("node0", "it has no port"),
            ("node0:", "port `` is not a number from 1 to 65535"),
            ("node0:0", "port `0`"),
            ("node0:65536", "port `65536`"),
            ("node0:tcp", "port `tcp`"),
            (":29500", "`` is not a host"),
            ("no de:1", "`no de` is not a host"),
            ("fd00::1:29500", "needs brackets"),
            ("[fd00::1:29500", "the bracket stays open"),
            ("tcp://node0:29500", "needs brackets"),
        ] {
            let error = wrong.parse::<Endpoint>().expect_err(wrong);
            assert!(error.contains(why) && error.contains("HOST:PORT"), "{wrong}: {error}");
        }
    }

    #[test]
    fn variables_of_the_second_node() {
        let master = Endpoint { host: "fd00::1".to_owned(), port: 29500 };
        let world = World { ranks_per_node: 4, nodes: 3, node: 1, master };
        let expected = [
            ("RANK", "6"),
            ("WORLD_SIZE", "12"),
            ("LOCAL_RANK", "2"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("GROUP_RANK", "1"),
            ("MASTER_ADDR", "fd00::1"),
            ("MASTER_PORT", "29500"),
        ];
        assert_eq!(world.variables(2), expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn gpus_that_are_seen() {
        let count = |visible| {
            let names =
                ["null", "nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia"];
            gpus(visible, names.into_iter().map(str::to_owned))
        };
        assert_eq!(count(None), 3);
        assert_eq!(count(Some("1, 10")), 2);
        assert_eq!(count(Some("0,-1,1")), 1);
        assert_eq!(count(Some("")), 0);
        assert_eq!(count(Some("0,1,2,3")), 3, "no more than there are");
    }
}
