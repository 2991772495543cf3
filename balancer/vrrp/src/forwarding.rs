//! A hand-over that cuts no connection: established ones are served to their end where they are.
//!
//! The new holder sends on what only a listening socket of its own would take (or what connection
//! tracking does not know) to the one before: [`Forwarding`]; and what comes from where a connection came from that
//! is over here, until one begins there again: a host remembers those for a minute (RFC 9293, TIME-WAIT), and would
//! answer for them. The one before keeps the address, and is
//! [`Quiet`] about it: it answers nobody who asks for the address, and asks others in its own
//! name, for a question of IPv4 or IPv6 carries its sender's address, too. Both end with their
//! value, or with the process. No tasks.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Handover;
use crate::nftables::{
    Base, Chain, FAMILY_ARP, FAMILY_IPV4, FAMILY_IPV6, HOOK_ARP_IN, HOOK_ARP_OUT, HOOK_INPUT, HOOK_OUTPUT,
    HOOK_PREROUTING, MEMBERS_MAX, OwnedTable, Rule, Sources, octets,
};
use crate::socket::Family;

/// Before address translation and its connection tracking's verdicts, after tracking itself.
const PRIORITY: i32 = -150;
/// Offsets in the headers of IPv4 and IPv6, ARP, and neighbour discovery.
const IPV4_DESTINATION: u32 = 16;
const IPV6_DESTINATION: u32 = 24;
const IPV6_SOURCE: u32 = 8;
const IPV4_HOPS: u32 = 8;
const IPV6_HOPS: u32 = 7;
const ARP_SENDER: u32 = 14;
const ARP_TARGET: u32 = 24;
const DISCOVERY_TARGET: u32 = 8;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// The set of where connections came from that are over here.
const OVER: &str = "over";
/// How much of the kernel's list of connections is read: a line of 150 bytes each.
const LIST_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// States of a connection, as that list has them.
const TIME_WAIT: &str = "06";
const CLOSE: &str = "07";
const LISTEN: &str = "0A";

/// What was begun elsewhere is sent on to there.
#[derive(Debug)]
pub struct Forwarding {
    _table: OwnedTable,
}

impl Forwarding {
    /// Sends on to `before` over the interface what comes for the addresses, which are of its family.
    pub fn start(how: Handover, addresses: &[IpAddr], before: IpAddr, index: u32) -> io::Result<Self> {
        let over = if how == Handover::Socket { over(addresses) } else { Vec::new() };
        Self::of(how, addresses, before, over, |rule| rule.copy_to(before, index).drop())
    }

    /// Answers nothing of that, and sends it nowhere: it belongs to `next`, who takes the addresses.
    pub fn hold_back(how: Handover, addresses: &[IpAddr], next: IpAddr) -> io::Result<Self> {
        Self::of(how, addresses, next, Vec::new(), Rule::drop)
    }

    fn of(
        how: Handover,
        addresses: &[IpAddr],
        to: IpAddr,
        over: Vec<SocketAddr>,
        does: impl Fn(Rule) -> Rule,
    ) -> io::Result<Self> {
        let (family, offset, hops) = match Family::of(to) {
            Family::V4 => (FAMILY_IPV4, IPV4_DESTINATION, IPV4_HOPS),
            Family::V6 => (FAMILY_IPV6, IPV6_DESTINATION, IPV6_HOPS),
        };
        let comes = |address: &IpAddr| Rule::default().matches(Base::Network, offset, &octets(*address));
        let begun_elsewhere = |address: &IpAddr| match how {
            Handover::Socket => comes(address).tcp_not_first().only_listener(),
            Handover::Conntrack | Handover::Off => comes(address).untracked().tcp_not_first(),
        };
        // What is nobody's goes round where each sends it on to the next, and a copy's hops count down past zero.
        let sent_on =
            |rule: Rule| [rule.clone().at_most(Base::Network, hops, 1).drop(), does(rule)].into_iter();
        let has_over = !over.is_empty();
        let rules = |address: &IpAddr| {
            let again = has_over.then(|| comes(address).tcp_first().take_source_out(OVER, family));
            let is_over = has_over.then(|| comes(address).tcp_not_first().source_in(OVER, family));
            let sent_on = [Some(begun_elsewhere(address)), is_over].into_iter().flatten().flat_map(&sent_on);
            again.into_iter().chain(sent_on).collect::<Vec<_>>()
        };
        let rules = addresses.iter().flat_map(rules).collect();
        let chain =
            Chain { name: "prerouting", hook: HOOK_PREROUTING, priority: PRIORITY, device: None, rules };
        let set = has_over.then_some(Sources { name: OVER, members: over });
        Ok(Self { _table: OwnedTable::with(family, set.as_ref(), &[chain])? })
    }
}

/// The addresses are here, and nobody is told.
#[derive(Debug)]
pub struct Quiet {
    _table: OwnedTable,
}

impl Quiet {
    /// `own` is the host's own address in the same family.
    pub fn start(addresses: &[IpAddr], own: IpAddr) -> io::Result<Self> {
        let all = |rule: &dyn Fn(&[u8]) -> Rule| addresses.iter().map(|it| rule(&octets(*it))).collect();
        let own_octets = octets(own);
        let (family, chains) = match Family::of(own) {
            Family::V4 => {
                let asked =
                    |address: &[u8]| Rule::default().matches(Base::Network, ARP_TARGET, address).drop();
                let said = |address: &[u8]| {
                    let rule = Rule::default().matches(Base::Network, ARP_SENDER, address);
                    rule.write(Base::Network, ARP_SENDER, &own_octets, false)
                };
                let input =
                    Chain { name: "input", hook: HOOK_ARP_IN, priority: 0, device: None, rules: all(&asked) };
                let output = Chain {
                    name: "output",
                    hook: HOOK_ARP_OUT,
                    priority: 0,
                    device: None,
                    rules: all(&said),
                };
                (FAMILY_ARP, [input, output])
            }
            Family::V6 => {
                let asked = |address: &[u8]| {
                    let rule = Rule::default().icmpv6(SOLICITATION);
                    rule.matches(Base::Transport, DISCOVERY_TARGET, address).drop()
                };
                let answered = |address: &[u8]| {
                    let rule = Rule::default().icmpv6(ADVERTISEMENT);
                    rule.matches(Base::Transport, DISCOVERY_TARGET, address).drop()
                };
                let said = |address: &[u8]| {
                    let rule =
                        Rule::default().icmpv6(SOLICITATION).matches(Base::Network, IPV6_SOURCE, address);
                    rule.write(Base::Network, IPV6_SOURCE, &own_octets, true)
                };
                let mut output: Vec<Rule> = all(&answered);
                output.extend::<Vec<Rule>>(all(&said));
                let input =
                    Chain { name: "input", hook: HOOK_INPUT, priority: 0, device: None, rules: all(&asked) };
                let output =
                    Chain { name: "output", hook: HOOK_OUTPUT, priority: 0, device: None, rules: output };
                (FAMILY_IPV6, [input, output])
            }
        };
        Ok(Self { _table: OwnedTable::new(family, &chains)? })
    }
}

/// Whether a TCP connection of these addresses has something left to say: what is closed may
/// still have bytes on their way that only this host can send again.
pub fn has_open_connections(addresses: &[IpAddr]) -> bool {
    let is_open = |it: &Connection| ![TIME_WAIT, CLOSE, LISTEN].contains(&it.state.as_str());
    connections().any(|it| is_open(&it) && addresses.contains(&it.local.ip()))
}

/// Where connections to these addresses came from that are over, and that this host still answers for.
fn over(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let is_over = |it: &Connection| it.state == TIME_WAIT && addresses.contains(&it.local.ip());
    connections().filter(is_over).map(|it| it.other).take(MEMBERS_MAX).collect()
}

/// As the kernel lists one.
struct Connection {
    local: SocketAddr,
    other: SocketAddr,
    state: String,
}

fn connections() -> impl Iterator<Item = Connection> {
    let lists = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| File::open(path).ok());
    let lines =
        lists.flat_map(|list| BufReader::new(list.take(LIST_BYTES_MAX)).lines().map_while(Result::ok));
    lines.filter_map(|line| Connection::read(&line))
}

impl Connection {
    /// A line: number, local address, other address, state, ...
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (local, other) = (words.next()?, words.next()?);
        Some(Self { local: end(local)?, other: end(other)?, state: words.next()?.to_owned() })
    }
}

/// An end as the kernel prints it: words of 32 bits in the host's order, and a port.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words =
        (0..address.len()).step_by(8).map(|at| u32::from_str_radix(address.get(at..at + 8)?, 16).ok());
    let bytes = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<_>>();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_the_address_are_found_in_the_kernels_table_also_in_mapped_form() {
        let address: IpAddr = "10.78.0.100".parse().unwrap();
        let line = |local: &str, state: &str| {
            format!("  0: {local}:1F90 FA004E0A:C001 {state} 00000000:00000000 02:00000000 00000000 0 0 1")
        };
        for (local, state, is_here) in [
            ("64004E0A", "01", true),
            ("64004E0A", "06", true),
            ("0000000000000000FFFF000064004E0A", "09", true),
            ("65004E0A", "01", false),
            ("00000000", "0A", false),
        ] {
            let read = Connection::read(&line(local, state)).unwrap();
            assert_eq!((read.local.ip() == address, read.local.port()), (is_here, 8080), "{local}");
            assert_eq!((read.other.to_string(), read.state.as_str()), ("10.78.0.250:49153".into(), state));
        }
        let long = "B80D0120000000000000000001000000:0050";
        assert_eq!(end(long).unwrap().to_string(), "[2001:db8::1]:80");
        for text in [
            "",
            "a b",
            "0: 64004E0A:1F90",
            "0: x:1 64004E0A:1 01",
            "0: 64004E0A:1 64004E:1 01",
            "0: é:1 é:1 01",
        ] {
            assert!(Connection::read(text).is_none(), "{text}");
        }
    }
}
