//! Which addresses a page may be fetched from: all that the Internet routes to, and what the operator names.
//!
//! The tables are IANA's special-purpose registries (RFC 6890, as of 2026) as far as they do not say
//! `Globally Reachable: True`, with what else is nobody's server: multicast, what is not allocated, and one
//! public address that a cloud answers to its own machines alone. An IPv4 address inside an IPv6 one is
//! judged as what it reaches. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ports that need no leave.
const PORTS: [u16; 2] = [80, 443];

/// What is not global, as address and bits, with its name.
const V4: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared, behind a carrier's NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([168, 63, 129, 16], 32, "a cloud's own, for its machines"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "of protocols"),
    ([192, 0, 2, 0], 24, "for documentation"),
    ([192, 88, 99, 0], 24, "a 6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "for documentation"),
    ([203, 0, 113, 0], 24, "for documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// Inside those above, and global.
const V4_GLOBAL: &[([u8; 4], u8)] = &[([192, 0, 0, 9], 32), ([192, 0, 0, 10], 32)];

/// What is not global inside 2000::/3, outside of which nothing is, but what translates to IPv4.
const V6: &[([u16; 8], u8, &str)] = &[
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "a Teredo tunnel"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "of protocols"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "for documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "a 6to4 tunnel"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "for documentation"),
];

/// Inside those above, and global.
const V6_GLOBAL: &[([u16; 8], u8)] = &[
    ([0x2001, 1, 0, 0, 0, 0, 0, 1], 128),
    ([0x2001, 1, 0, 0, 0, 0, 0, 2], 128),
    ([0x2001, 1, 0, 0, 0, 0, 0, 3], 128),
    ([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),
    ([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
    ([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28),
];

/// Outside 2000::/3, for their names alone.
const V6_OUTSIDE: &[([u16; 8], u8, &str)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "translated within a network"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discarded"),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "of segment routing"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "private"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// ::ffff:0:0/96, what a socket for both families calls an IPv4 address.
const MAPPED: [u16; 8] = [0, 0, 0, 0, 0, 0xffff, 0, 0];
/// 64:ff9b::/96, through which a network without IPv4 reaches it (RFC 6052).
const TRANSLATED: [u16; 8] = [0x64, 0xff9b, 0, 0, 0, 0, 0, 0];

/// Why an address is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} is not a public address ({1})")]
    Address(IpAddr, &'static str),
    #[error("port {0} is not allowed")]
    Port(u16),
}

/// A network, and ports there, which an operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    network: IpAddr,
    bits: u8,
    /// None: those that need no leave.
    ports: Option<RangeInclusive<u16>>,
}

impl Allow {
    fn holds(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => within_v4(address, network, self.bits),
            (IpAddr::V6(network), IpAddr::V6(address)) => within_v6(address, network, self.bits),
            _ => false,
        }
    }

    fn lifts(&self, port: u16) -> bool {
        self.ports.as_ref().map_or_else(|| PORTS.contains(&port), |ports| ports.contains(&port))
    }
}

/// What is wrong with the text of an [`Allow`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no NET[:PORTS], as 10.0.0.0/8, 127.0.0.1:8080, 10.1.0.0/16:8000-8999 or [fd00::]/8:*")]
pub struct NoAllow(String);

impl FromStr for Allow {
    type Err = NoAllow;

    /// An address, with the bits of its network and a port, a range of ports, or `*`. An IPv6 address with
    /// ports stands in brackets.
    fn from_str(text: &str) -> Result<Self, NoAllow> {
        read(text).ok_or_else(|| NoAllow(text.to_owned()))
    }
}

fn read(text: &str) -> Option<Allow> {
    // Of an IPv6 address without brackets each colon is its own.
    let (network, ports) = match text.rsplit_once(':') {
        Some((network, ports)) if network.starts_with('[') == network.contains(':') => {
            match network.starts_with('[') && !network.contains(']') {
                true => (text, None),
                false => (network, Some(ports)),
            }
        }
        _ => (text, None),
    };
    let (address, bits) = match network.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (network, None),
    };
    let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let network: IpAddr = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => address.parse().ok()?,
    };
    let most = if network.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    if bits > most {
        return None;
    }
    let ports = match ports {
        None => None,
        Some("*") => Some(0..=u16::MAX),
        Some(ports) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            if first > last {
                return None;
            }
            Some(first..=last)
        }
    };
    Some(Allow { network, bits, ports })
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            IpAddr::V4(network) => write!(f, "{network}/{}", self.bits)?,
            IpAddr::V6(network) => write!(f, "[{network}]/{}", self.bits)?,
        }
        match &self.ports {
            None => Ok(()),
            Some(ports) if *ports == (0..=u16::MAX) => f.write_str(":*"),
            Some(ports) if ports.start() == ports.end() => write!(f, ":{}", ports.start()),
            Some(ports) => write!(f, ":{}-{}", ports.start(), ports.end()),
        }
    }
}

/// Whether an address may be connected to at a port.
pub fn judge(to: SocketAddr, allowed: &[Allow]) -> Result<(), Refused> {
    let reached = reached(to.ip());
    let named = || allowed.iter().filter(|it| it.holds(to.ip()) || it.holds(reached));
    if named().any(|it| it.lifts(to.port())) {
        return Ok(());
    }
    match special(reached) {
        Some(name) if named().next().is_none() => Err(Refused::Address(to.ip(), name)),
        None if PORTS.contains(&to.port()) => Ok(()),
        _ => Err(Refused::Port(to.port())),
    }
}

/// What an address reaches: of an IPv6 address that stands for an IPv4 one, that.
fn reached(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match [MAPPED, TRANSLATED].iter().any(|prefix| within_v6(v6, Ipv6Addr::from(*prefix), 96)) {
        true => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        false => address,
    }
}

/// What an address is, where it is not global.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => {
            let in_v4 = |network: [u8; 4], bits: u8| within_v4(v4, network.into(), bits);
            if V4_GLOBAL.iter().any(|(network, bits)| in_v4(*network, *bits)) {
                return None;
            }
            V4.iter().find(|(network, bits, _)| in_v4(*network, *bits)).map(|(.., name)| *name)
        }
        IpAddr::V6(v6) => {
            let in_v6 = |network: [u16; 8], bits: u8| within_v6(v6, network.into(), bits);
            if V6_GLOBAL.iter().any(|(network, bits)| in_v6(*network, *bits)) {
                return None;
            }
            if !in_v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3) {
                let known = V6_OUTSIDE.iter().find(|(network, bits, _)| in_v6(*network, *bits));
                return Some(known.map_or("not allocated", |(.., name)| name));
            }
            V6.iter().find(|(network, bits, _)| in_v6(*network, *bits)).map(|(.., name)| *name)
        }
    }
}

fn within_v4(address: Ipv4Addr, network: Ipv4Addr, bits: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    (address.to_bits() ^ network.to_bits()) & mask == 0
}

fn within_v6(address: Ipv6Addr, network: Ipv6Addr, bits: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    (address.to_bits() ^ network.to_bits()) & mask == 0
}

#[cfg(test)]
mod tests;
