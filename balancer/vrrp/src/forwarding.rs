//! A hand-over that cuts no connection: established ones are served to their end where they are.
//!
//! The new holder sends on what only a listening socket of its own would take (or what connection
//! tracking does not know) to the one before: [`Forwarding`]. That one keeps the address, and is
//! [`Quiet`] about it: it answers nobody who asks for the address, and asks others in its own
//! name, for a question of IPv4 or IPv6 carries its sender's address, too. Both end with their
//! value, or with the process. No tasks.

use std::io;
use std::net::IpAddr;

use crate::Handover;
use crate::nftables::{
    Base, Chain, FAMILY_ARP, FAMILY_IPV4, FAMILY_IPV6, HOOK_ARP_IN, HOOK_ARP_OUT, HOOK_INPUT, HOOK_OUTPUT,
    HOOK_PREROUTING, OwnedTable, Rule, octets,
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

/// What was begun elsewhere is sent on to there.
#[derive(Debug)]
pub struct Forwarding {
    _table: OwnedTable,
}

impl Forwarding {
    /// Sends on to `before` over the interface what comes for the addresses, which are of its family.
    pub fn start(how: Handover, addresses: &[IpAddr], before: IpAddr, index: u32) -> io::Result<Self> {
        Self::of(how, addresses, before, |rule| rule.copy_to(before, index).drop())
    }

    /// Answers nothing of that, and sends it nowhere: it belongs to `next`, who takes the addresses.
    pub fn hold_back(how: Handover, addresses: &[IpAddr], next: IpAddr) -> io::Result<Self> {
        Self::of(how, addresses, next, Rule::drop)
    }

    fn of(how: Handover, addresses: &[IpAddr], to: IpAddr, does: impl Fn(Rule) -> Rule) -> io::Result<Self> {
        let (family, offset, hops) = match Family::of(to) {
            Family::V4 => (FAMILY_IPV4, IPV4_DESTINATION, IPV4_HOPS),
            Family::V6 => (FAMILY_IPV6, IPV6_DESTINATION, IPV6_HOPS),
        };
        let begun_elsewhere = |address: &IpAddr| {
            let rule = Rule::default().matches(Base::Network, offset, &octets(*address));
            match how {
                Handover::Socket => rule.tcp_not_first().only_listener(),
                Handover::Conntrack | Handover::Off => rule.untracked().tcp_not_first(),
            }
        };
        // What is nobody's goes round where each sends it on to the next, and a copy's hops count down past zero.
        let rules = |address: &IpAddr| {
            let has_gone_round = begun_elsewhere(address).at_most(Base::Network, hops, 1);
            [has_gone_round.drop(), does(begun_elsewhere(address))]
        };
        let rules = addresses.iter().flat_map(rules).collect();
        let chain =
            Chain { name: "prerouting", hook: HOOK_PREROUTING, priority: PRIORITY, device: None, rules };
        Ok(Self { _table: OwnedTable::new(family, &[chain])? })
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
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|table| table.lines().skip(1).any(|line| is_open_at(line, addresses)))
}

/// A line of `/proc/net/tcp`: number, local address, other address, state, ...
fn is_open_at(line: &str, addresses: &[IpAddr]) -> bool {
    const TIME_WAIT: &str = "06";
    const CLOSE: &str = "07";
    const LISTEN: &str = "0A";
    let mut words = line.split_whitespace().skip(1);
    let (Some(local), Some(_), Some(state)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    if [TIME_WAIT, CLOSE, LISTEN].contains(&state) {
        return false;
    }
    let Some((local, _)) = local.split_once(':') else { return false };
    addresses.iter().any(|address| {
        let mapped = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().into(),
            IpAddr::V6(_) => *address,
        };
        local == in_words(*address) || local == in_words(mapped)
    })
}

/// As the kernel prints an address: words of 32 bits in the host's order.
fn in_words(address: IpAddr) -> String {
    let words = octets(address);
    let words = words.chunks_exact(4).map(|it| u32::from_ne_bytes([it[0], it[1], it[2], it[3]]));
    words.map(|word| format!("{word:08X}")).collect()
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
        for (local, state, open) in [
            ("64004E0A", "01", true),
            ("64004E0A", "04", true),
            ("64004E0A", "06", false),
            ("0000000000000000FFFF000064004E0A", "09", true),
            ("65004E0A", "01", false),
            ("00000000", "0A", false),
        ] {
            assert_eq!(is_open_at(&line(local, state), &[address]), open, "{local} {state}");
        }
        assert!(!is_open_at("", &[address]) && !is_open_at("a b", &[address]));
    }
}
