//! Which address peers are told.
//!
//! Pure but for the questions to the system which addresses are its own and which one a route
//! starts at: asked with unconnected UDP sockets, nothing is sent. [`find`] asks name servers, too.
//! No tasks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use crate::seeds::{self, Seed};

/// What `--advertise` takes: an address, or an IP address with the port of the bind address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    pub ip: IpAddr,
    pub port: Option<u16>,
}

/// No address can be told to peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvertiseError {
    #[error("{0:?} is no address to advertise: expected an IP address or ip:port")]
    Malformed(String),
    #[error("{0} cannot be advertised: nobody can reach it")]
    Unreachable(SocketAddr),
    #[error(
        "there is no route to the seeds and no other address than loopback; say which address to tell peers with --advertise"
    )]
    None,
}

impl From<SocketAddr> for Advertise {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: Some(address.port()) }
    }
}

impl FromStr for Advertise {
    type Err = AdvertiseError;

    fn from_str(text: &str) -> Result<Self, AdvertiseError> {
        let address = text.parse().map(|address: SocketAddr| Self::from(address));
        let ip = || text.parse().map(|ip| Self { ip, port: None });
        address.or_else(|_| ip()).map_err(|_| AdvertiseError::Malformed(text.chars().take(300).collect()))
    }
}

/// The address to tell peers, in this order:
///
/// 1. the one that the flag gives;
/// 2. the bind address, if it is one;
/// 3. the one of this machine's among the seeds' addresses: the name of a service gives the
///    addresses of all its tasks, this one's included;
/// 4. the local end of the route to the first seed that has a route;
/// 5. where the seeds' names have no address yet, the one that the machine's own name has: a
///    container on several networks has its name at the one that it shares with others, and the
///    default route leads elsewhere;
/// 6. the local end of the default route, else loopback.
///
/// `bind` has its real port by now (not 0).
pub async fn find(
    bind: SocketAddr,
    seeds: &[Seed],
    flag: Option<Advertise>,
) -> Result<SocketAddr, AdvertiseError> {
    // What is said needs no name server.
    let is_said = flag.is_some() || !bind.ip().is_unspecified();
    let found = if is_said { Vec::new() } else { seeds::resolve_now(seeds).await };
    let is_named = !is_said && found.is_empty() && !seeds.is_empty();
    let named = if is_named { seeds::own_addresses().await } else { Vec::new() };
    choose(bind, &found, &named, flag, is_local, route_to)
}

fn choose(
    bind: SocketAddr,
    seeds: &[SocketAddr],
    named: &[IpAddr],
    flag: Option<Advertise>,
    is_local: impl Fn(IpAddr) -> bool,
    route_to: impl Fn(SocketAddr) -> Option<IpAddr>,
) -> Result<SocketAddr, AdvertiseError> {
    if let Some(flag) = flag {
        return reachable(SocketAddr::new(flag.ip, flag.port.unwrap_or(bind.port())));
    }
    if !bind.ip().is_unspecified() {
        return reachable(bind);
    }
    let seeds: Vec<_> = seeds.iter().filter(|seed| can_speak(bind, seed.ip())).collect();
    // The seed with the own port is this very process; one with another port a neighbour here.
    let own = |same_port: bool| {
        let at = |seed: &&&SocketAddr| (seed.port() == bind.port()) == same_port && is_local(seed.ip());
        seeds.iter().find(at).map(|seed| seed.ip())
    };
    let route = || seeds.iter().find_map(|seed| route_to(**seed));
    let by_name = || {
        let usable = |ip: &&IpAddr| !ip.is_loopback() && (bind.is_ipv6() || ip.is_ipv4()) && is_local(**ip);
        named.iter().find(usable).copied()
    };
    let found = own(true).or_else(|| own(false)).or_else(route).or_else(by_name);
    let found = found.or_else(|| if seeds.is_empty() { alone(bind, &route_to) } else { None });
    reachable(SocketAddr::new(found.ok_or(AdvertiseError::None)?, bind.port()))
}

/// Whether a socket bound to `bind` reaches `ip`; an IPv6 one may reach both.
fn can_speak(bind: SocketAddr, ip: IpAddr) -> bool {
    bind.is_ipv6() || ip.is_ipv4()
}

/// Addresses of documentation networks (RFC 5737, RFC 3849): they are nobody's, so the route to
/// them is the default one. Nothing is sent.
fn alone(bind: SocketAddr, route_to: impl Fn(SocketAddr) -> Option<IpAddr>) -> Option<IpAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let v6 = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9));
    let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if bind.is_ipv6() {
        route_to(v6).or_else(|| route_to(v4)).or(loopback)
    } else {
        route_to(v4).or(loopback)
    }
}

fn reachable(address: SocketAddr) -> Result<SocketAddr, AdvertiseError> {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast || address.port() == 0 {
        return Err(AdvertiseError::Unreachable(address));
    }
    Ok(address)
}

/// The kernel binds to the machine's own addresses alone.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn route_to(target: SocketAddr) -> Option<IpAddr> {
    let any =
        if target.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A machine with 10.0.0.5, which routes everything but 10.9.0.0/16 from there.
    fn machine(bind: &str, seeds: &[&str], flag: Option<&str>) -> Result<SocketAddr, AdvertiseError> {
        let seeds: Vec<_> = seeds.iter().map(|seed| at(seed)).collect();
        let own: IpAddr = "10.0.0.5".parse().unwrap();
        let route =
            |to: SocketAddr| (!to.ip().to_string().starts_with("10.9.") && to.is_ipv4()).then_some(own);
        choose(at(bind), &seeds, &[], flag.map(|flag| flag.parse().unwrap()), |ip| ip == own, route)
    }

    #[test]
    fn while_no_seed_has_an_address_the_machines_own_name_tells_which_network_is_shared() {
        let ips =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let own = ips(&["10.0.1.5", "172.18.0.3"]);
        let container = |seeds: &[SocketAddr], named: &[&str]| {
            choose(at("0.0.0.0:7400"), seeds, &ips(named), None, |ip| own.contains(&ip), |_| Some(own[1]))
        };
        assert_eq!(container(&[], &["127.0.1.1", "fd00::5", "10.0.1.5"]), Ok(at("10.0.1.5:7400")));
        assert_eq!(
            container(&[], &["127.0.1.1", "10.9.9.9"]),
            Ok(at("172.18.0.3:7400")),
            "of another machine"
        );
        assert_eq!(
            container(&[at("10.8.0.1:7400")], &["10.0.1.5"]),
            Ok(at("172.18.0.3:7400")),
            "the route is better"
        );
    }

    #[test]
    fn the_flag_comes_first_and_may_leave_the_port_to_the_bind_address() {
        assert_eq!(machine("0.0.0.0:7400", &[], Some("1.2.3.4")), Ok(at("1.2.3.4:7400")));
        assert_eq!(machine("10.0.0.5:7400", &[], Some("1.2.3.4:99")), Ok(at("1.2.3.4:99")));
        assert_eq!(machine("0.0.0.0:7400", &[], Some("::1")), Ok(at("[::1]:7400")));
    }

    #[test]
    fn a_bind_address_that_is_one_is_taken() {
        assert_eq!(machine("127.0.0.1:7400", &["10.0.0.6:7400"], None), Ok(at("127.0.0.1:7400")));
    }

    #[test]
    fn the_own_address_among_the_seeds_is_taken_and_else_the_route_to_them() {
        let tasks = ["10.0.0.4:7400", "10.0.0.5:7400"];
        assert_eq!(machine("0.0.0.0:7400", &tasks, None), Ok(at("10.0.0.5:7400")));
        assert_eq!(machine("[::]:7400", &tasks, None), Ok(at("10.0.0.5:7400")));
        assert_eq!(machine("0.0.0.0:7400", &["10.9.0.1:1", "10.8.0.1:1"], None), Ok(at("10.0.0.5:7400")));
        assert_eq!(machine("0.0.0.0:7400", &["10.9.0.1:1"], None), Err(AdvertiseError::None));
    }

    #[test]
    fn without_seeds_the_default_route_tells() {
        assert_eq!(machine("0.0.0.0:7400", &[], None), Ok(at("10.0.0.5:7400")));
        assert_eq!(machine("[::]:7400", &[], None), Ok(at("10.0.0.5:7400")));
        let nowhere = choose(at("0.0.0.0:7400"), &[], &[], None, |_| false, |_| None);
        assert_eq!(nowhere, Ok(at("127.0.0.1:7400")));
    }

    #[test]
    fn an_address_that_nobody_can_reach_is_refused() {
        for flag in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "1.2.3.4:0"] {
            let refused = machine("0.0.0.0:7400", &[], Some(flag));
            assert!(matches!(refused, Err(AdvertiseError::Unreachable(_))), "{flag}");
        }
        assert!("node:7400".parse::<Advertise>().is_err());
    }

    #[tokio::test]
    async fn the_system_knows_loopback_as_its_own() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("192.0.2.1".parse().unwrap()));
        assert_eq!(route_to(at("127.0.0.1:9")), Some("127.0.0.1".parse().unwrap()));
        let seeds = [Seed::Address(at("127.0.0.1:7400"))];
        assert_eq!(find(at("0.0.0.0:7400"), &seeds, None).await, Ok(at("127.0.0.1:7400")));
    }
}
