//! Packets of VRRP as someone on the network can make them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// The client host's address.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 250);
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const PROTOCOL: u8 = 112;

/// An advertisement of VRRP version 3, as RFC 9568 §5.1 has it, from and to these.
pub fn advert_between(
    (source, target): (Ipv4Addr, Ipv4Addr),
    (vrid, priority): (u8, u8),
    interval: Duration,
    addresses: &[&str],
) -> Vec<u8> {
    let centiseconds = (interval.as_millis() / 10) as u16;
    let mut bytes = vec![0x31, vrid, priority, addresses.len() as u8];
    bytes.extend(centiseconds.to_be_bytes());
    bytes.extend([0, 0]);
    for address in addresses {
        bytes.extend(address.parse::<Ipv4Addr>().unwrap().octets());
    }
    // The checksum covers a pseudo-header, too: from, to, protocol, length.
    let (protocol, len) = ([0, PROTOCOL], [0, bytes.len() as u8]);
    let covered = [&source.octets()[..], &target.octets(), &protocol, &len, &bytes].concat();
    let words = covered.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[6..8].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    bytes
}

/// A socket that sends whatever it is given, with this TTL.
pub fn socket(ttl: u32) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(PROTOCOL)))).unwrap();
    socket.set_multicast_if_v4(&SOURCE).unwrap();
    socket.set_multicast_ttl_v4(ttl).unwrap();
    socket.set_ttl_v4(ttl).unwrap();
    socket.set_multicast_loop_v4(false).unwrap();
    socket
}

/// Sends it from an address that is another's.
pub fn forge(source: Ipv4Addr, target: Ipv4Addr, payload: &[u8]) {
    let socket = socket(255);
    socket.set_header_included_v4(true).unwrap();
    let len = (20 + payload.len()) as u16;
    let head = [0x45, 0xc0, (len >> 8) as u8, len as u8, 0, 0, 0, 0, 255, PROTOCOL, 0, 0];
    let packet = [&head[..], &source.octets(), &target.octets(), payload].concat();
    socket.send_to(&packet, &to(target)).unwrap();
}

pub fn to(address: Ipv4Addr) -> socket2::SockAddr {
    std::net::SocketAddr::from((IpAddr::from(address), 0)).into()
}
