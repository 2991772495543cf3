//! Advertisements: to bytes and back, VRRPv3 (RFC 9568) for both families and VRRPv2 (RFC 3768).
//!
//! ```text
//! v3: 0x31 | VRID | priority | count | 0:4, interval in cs:12 | checksum 16 | addresses
//! v2: 0x21 | VRID | priority | count | auth type | interval in s | checksum 16 | addresses | auth data 8
//! ```
//!
//! Pure. Decoding takes any bytes: it never panics, and allocates no more than came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The protocol's number in an IP header.
pub const PROTOCOL: u8 = 112;
/// Where advertisements go.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL and hop limit of every advertisement; a router on the way would have lowered it.
pub const HOPS: u8 = 255;
/// The priority of who owns the addresses anyway.
pub const PRIORITY_OWNER: u8 = 255;
/// The priority that says: I stop, take over.
pub const PRIORITY_STOPS: u8 = 0;
/// Most addresses in one advertisement: of IPv6, so that it fits a frame of 1,500 bytes.
pub const ADDRESSES_MAX: usize = 64;
/// Longest interval that 12 bits of centiseconds can say.
pub const INTERVAL_MAX: Duration = Duration::from_millis(40_950);
/// Longest interval of version 2.
pub const INTERVAL_V2_MAX: Duration = Duration::from_secs(255);

const HEADER_BYTES: usize = 8;
const TYPE_ADVERTISEMENT: u8 = 1;
/// After the addresses of version 2; also where there is no password.
const AUTH_DATA_BYTES: usize = 8;

/// Which protocol version is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    V2,
    #[default]
    V3,
}

/// What the checksum of a version 3 packet over IPv4 covers.
///
/// RFC 9568 (5.2.8) says the message alone; RFC 5798 said the pseudo-header too, and keepalived
/// holds to that: it discards the other form, and then both hosts are Active. Both are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    #[default]
    PseudoHeader,
    Message,
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub version: Version,
    pub vrid: u8,
    /// 0: the sender stops being Active.
    pub priority: u8,
    /// Until the sender's next; never zero in one that was decoded.
    pub interval: Duration,
    /// All of one family.
    pub addresses: Vec<IpAddr>,
}

/// Why bytes are no advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("shorter or longer than its own count of addresses says")]
    Length,
    #[error("a version that is not spoken here")]
    Version,
    #[error("not an advertisement")]
    Type,
    #[error("the checksum is wrong")]
    Checksum,
    #[error("no address is in it (erratum 8299)")]
    CountZero,
    #[error("its interval is zero (erratum 8301)")]
    IntervalZero,
    #[error("it carries an authentication that is not spoken here")]
    Authentication,
}

impl Advert {
    /// The bytes after the IP header. `source` and `destination` are those of that header.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, checksum: Checksum) -> Vec<u8> {
        let count = self.addresses.len().min(ADDRESSES_MAX);
        let mut out = Vec::with_capacity(HEADER_BYTES + 16 * count + AUTH_DATA_BYTES);
        let version = if self.version == Version::V3 { 3 } else { 2 };
        out.extend([version << 4 | TYPE_ADVERTISEMENT, self.vrid, self.priority, count as u8]);
        match self.version {
            Version::V3 => out.extend(centiseconds(self.interval).to_be_bytes()),
            Version::V2 => {
                let seconds = self.interval.min(INTERVAL_V2_MAX).as_secs().max(1);
                out.extend([0, seconds as u8]);
            }
        }
        out.extend([0, 0]);
        for address in &self.addresses[..count] {
            match address {
                IpAddr::V4(address) => out.extend(address.octets()),
                IpAddr::V6(address) => out.extend(address.octets()),
            }
        }
        if self.version == Version::V2 {
            out.extend([0; AUTH_DATA_BYTES]);
        }
        let with_pseudo = self.version == Version::V3
            && (checksum == Checksum::PseudoHeader || matches!(source, IpAddr::V6(_)));
        let pseudo = if with_pseudo { pseudo_header(source, destination, out.len()) } else { 0 };
        let sum = !fold(pseudo + sum(&out));
        out[6..8].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// Reads the bytes after the IP header, whose addresses are `source` and `destination`.
    pub fn decode(bytes: &[u8], source: IpAddr, destination: IpAddr) -> Result<Self, PacketError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(PacketError::Length);
        };
        let version = match header[0] >> 4 {
            3 => Version::V3,
            2 if source.is_ipv4() => Version::V2,
            _ => return Err(PacketError::Version),
        };
        if header[0] & 15 != TYPE_ADVERTISEMENT {
            return Err(PacketError::Type);
        }
        let (vrid, priority, count) = (header[1], header[2], usize::from(header[3]));
        if count == 0 {
            return Err(PacketError::CountZero);
        }
        let address_bytes = if source.is_ipv4() { 4 } else { 16 };
        let trailer = if version == Version::V2 { AUTH_DATA_BYTES } else { 0 };
        if rest.len() != count * address_bytes + trailer {
            return Err(PacketError::Length);
        }
        if !checksum_holds(bytes, version, source, destination) {
            return Err(PacketError::Checksum);
        }
        let interval = match version {
            Version::V3 => {
                Duration::from_millis(10 * u64::from(u16::from_be_bytes([header[4] & 15, header[5]])))
            }
            Version::V2 if header[4] != 0 => return Err(PacketError::Authentication),
            Version::V2 => Duration::from_secs(header[5].into()),
        };
        if interval.is_zero() {
            return Err(PacketError::IntervalZero);
        }
        let addresses = rest[..count * address_bytes]
            .chunks_exact(address_bytes)
            .filter_map(|chunk| match *chunk {
                [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
                _ => chunk.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
            })
            .collect();
        Ok(Self { version, vrid, priority, interval, addresses })
    }
}

fn checksum_holds(bytes: &[u8], version: Version, source: IpAddr, destination: IpAddr) -> bool {
    let message = sum(bytes);
    let with_pseudo = || fold(pseudo_header(source, destination, bytes.len()) + message) == 0xffff;
    match (version, source) {
        (Version::V2, _) => fold(message) == 0xffff,
        (Version::V3, IpAddr::V4(_)) => with_pseudo() || fold(message) == 0xffff,
        (Version::V3, IpAddr::V6(_)) => with_pseudo(),
    }
}

/// 12 bits; never 0.
fn centiseconds(interval: Duration) -> u16 {
    (interval.min(INTERVAL_MAX).as_millis() / 10).max(1) as u16
}

/// The sum of 16-bit words (RFC 1071), not folded yet.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let whole: u64 = words.by_ref().map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    whole + words.remainder().first().map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

fn pseudo_header(source: IpAddr, destination: IpAddr, len: usize) -> u64 {
    let address = |address| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(source) + address(destination) + len as u64 + u64::from(PROTOCOL)
}

/// The checksum of bytes whose own field is zero, as RFC 1071 has it.
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The checksum of an ICMPv6 message, whose own field is zero.
pub(super) fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    const ICMPV6: u64 = 58;
    let pseudo = sum(&source.octets()) + sum(&destination.octets()) + message.len() as u64 + ICMPV6;
    !fold(pseudo + sum(message))
}

#[cfg(test)]
mod tests;
