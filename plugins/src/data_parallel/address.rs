//! Addresses: at which of them rank 0 listens, and at which the others reach this process.
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use trainyard::World;

/// How a process reached the place where the ranks meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// From this address of its own.
    pub local: IpAddr,
    /// To this one.
    pub peer: IpAddr,
}

impl Link {
    /// Of a connection.
    ///
    /// # Errors
    /// It is no more.
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Link { local: local.ip().to_canonical(), peer: peer.ip().to_canonical() })
    }

    /// Of rank 0 to its own listener.
    pub fn own(place: Place) -> Self {
        let at = match place {
            Place::At(at) if !at.is_unspecified() => at,
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        Link { local: at, peer: at }
    }

    /// Whether it does not leave the machine by an interface that others could come in by.
    pub fn is_internal(&self) -> bool {
        self.local.is_loopback()
    }

    /// Where the others reach the process of this link. From within the machine of the meeting place that is where
    /// a rank of another machine, by its link, found that place.
    pub fn address(&self, elsewhere: Option<Link>) -> IpAddr {
        match elsewhere.filter(|_| self.is_internal()) {
            None => self.local,
            Some(other) if is_here(other.peer) => other.peer,
            // Something in between forwards it: the way back then.
            Some(other) => towards(other.local).unwrap_or(other.peer),
        }
    }
}

/// Where rank 0 listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At this address alone.
    At(IpAddr),
    /// At all, for the master's name is this machine's own, by which it knows itself on loopback only, as Debian's
    /// installer writes 127.0.1.1 into `/etc/hosts`; the others know it by another address.
    Everywhere,
    /// At all, for this address of the master is none of this machine's. Something may forward it here.
    NotHere(IpAddr),
}

/// Where rank 0 listens, whose master has these addresses, at least one. `alone`: all ranks are on this machine.
pub(super) fn place(addresses: &[IpAddr], alone: bool, is_here: impl Fn(IpAddr) -> bool) -> Place {
    // An interface by IPv4 before one by IPv6: a rank that tries both gets there, and one that has no IPv6 too.
    let first = |loopback: bool| {
        let mut fit = addresses.iter().copied().filter(|at| at.is_loopback() == loopback);
        let mut fit: Vec<_> = fit.by_ref().filter(|at| is_here(*at)).collect();
        fit.sort_by_key(IpAddr::is_ipv6);
        fit.first().copied()
    };
    match (first(true), first(false)) {
        (Some(loopback), _) if alone => Place::At(loopback),
        (_, Some(other)) => Place::At(other),
        (Some(_), None) => Place::Everywhere,
        (None, None) => Place::NotHere(addresses[0]),
    }
}

/// Whether all ranks are on this machine, as far as can be told: where the launcher does not say how many there are
/// here, by a master on loopback, unless that only is what the machine's own name stands for.
pub(super) fn alone(world: &World, host: &str) -> bool {
    match world.local_world_size {
        Some(here) => here == world.world_size,
        None => {
            let address = host.parse::<IpAddr>();
            address.map_or(host.eq_ignore_ascii_case("localhost"), |at| at.is_loopback())
        }
    }
}

/// Listens there.
///
/// # Errors
/// The port is taken, or not for this user.
pub(super) fn listen(place: Place, port: u16) -> io::Result<TcpListener> {
    match place {
        Place::At(at) => TcpListener::bind((at, port)),
        // Takes both kinds of addresses, where there is IPv6.
        _ => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            }
            listener => listener,
        },
    }
}

/// Whether it is one of IPv6 that holds on one wire only. Each machine numbers its wires for itself, and Gloo would
/// tell the others this one's number.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(at) if at.is_unicast_link_local())
}

/// Addresses of this machine that others may reach it by.
pub(super) fn of_this_machine() -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let mut fit: Vec<_> =
        all.filter(|interface| !interface.is_loopback()).map(|i| i.ip()).collect();
    fit.retain(|address| !is_link_local(*address));
    fit
}

/// Whether an address is one of this machine's.
pub(super) fn is_here(address: IpAddr) -> bool {
    TcpListener::bind((address, 0)).is_ok()
}

/// The address of this machine from which a packet to `there` would go. Sends nothing.
fn towards(there: IpAddr) -> Option<IpAddr> {
    let any = match there {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((there, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Every mixture of what a name may stand for, with all ranks here or not.
    #[test]
    fn rank_0_listens_where_the_others_come() {
        const HERE: [&str; 5] = ["127.0.0.1", "127.0.1.1", "::1", "10.0.0.1", "fd00::1"];
        let is_here = |at: IpAddr| HERE.contains(&at.to_string().as_str());
        use Place::{At, Everywhere, NotHere};
        let at = |text| At(ip(text));
        for (addresses, alone, several) in [
            (&["127.0.0.1"][..], at("127.0.0.1"), Everywhere),
            (&["127.0.1.1"], at("127.0.1.1"), Everywhere),
            (&["::1", "127.0.0.1"], at("127.0.0.1"), Everywhere),
            (&["::1"], at("::1"), Everywhere),
            (&["10.0.0.1"], at("10.0.0.1"), at("10.0.0.1")),
            (&["127.0.1.1", "10.0.0.1"], at("127.0.1.1"), at("10.0.0.1")),
            (&["fd00::1", "10.0.0.1"], at("10.0.0.1"), at("10.0.0.1")),
            (&["fd00::1", "192.0.2.7"], at("fd00::1"), at("fd00::1")),
            (&["192.0.2.7", "fd00::7"], NotHere(ip("192.0.2.7")), NotHere(ip("192.0.2.7"))),
            (&["127.0.1.1", "192.0.2.7"], at("127.0.1.1"), Everywhere),
        ] {
            let addresses: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
            for (all, expected) in [(true, alone), (false, several)] {
                assert_eq!(place(&addresses, all, is_here), expected, "{addresses:?}, {all}");
            }
        }
    }

    #[test]
    fn all_ranks_are_here_or_not() {
        let world = |here| World { local_world_size: here, ..World::local(0, 2, 1) };
        for (host, unknown) in [
            ("127.0.0.1", true),
            ("127.0.1.1", true),
            ("::1", true),
            ("LocalHost", true),
            ("node0", false),
            ("10.0.0.1", false),
        ] {
            assert!(alone(&world(Some(2)), host) && !alone(&world(Some(1)), host));
            assert_eq!(alone(&world(None), host), unknown, "{host}");
        }
    }

    #[test]
    fn the_others_reach_a_process_where_they_found_the_meeting_place() {
        let link = |local, peer| Link { local: ip(local), peer: ip(peer) };
        let inside = link("127.0.0.1", "127.0.1.1");
        let outside = link("10.0.0.2", "10.0.0.1");
        assert_eq!(inside.address(None), ip("127.0.0.1"));
        assert_eq!(outside.address(Some(link("10.0.0.3", "10.0.0.1"))), ip("10.0.0.2"));
        // One of this machine, which here only loopback is for certain.
        let found = link("10.0.0.2", "127.0.0.3");
        assert_eq!(inside.address(Some(found)), ip("127.0.0.3"));
        // Forwarded: the address of this machine on the way back to who came.
        let forwarded = link("127.0.0.1", "192.0.2.1");
        assert_eq!(inside.address(Some(forwarded)), ip("127.0.0.1"));
    }

    #[test]
    fn one_address_or_all() {
        for (place, at) in [(Place::At(ip("127.0.0.1")), "127.0.0.1"), (Place::Everywhere, "::")] {
            let listener = listen(place, 0).expect("a port");
            let local = listener.local_addr().expect("it is bound");
            assert!(local.ip() == ip(at) || local.ip() == ip("0.0.0.0"), "{local}");
            let reached =
                TcpStream::connect((Ipv4Addr::LOCALHOST, local.port())).expect("it listens");
            assert_eq!(Link::of(&reached).expect("it is open"), Link::own(place));
            let taken = listen(place, local.port()).expect_err("it is taken");
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        }
        assert!(is_link_local(ip("fe80::1")) && !is_link_local(ip("fd00::1")));
        assert!(of_this_machine().into_iter().all(|at| is_here(at) && !at.is_loopback()));
    }
}
