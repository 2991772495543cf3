//! The raw sockets that advertisements come and go by: one for each interface and family.
//!
//! No tasks. [`AdvertSocket::receive`] never waits; [`AdvertSocket::poll_ready`] does, and loses
//! nothing where it is dropped.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll, ready};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::packet::{GROUP_V4, GROUP_V6, HOPS, PROTOCOL};

/// Longest packet that is read, its IP header included; a longer one has a wrong length anyway.
pub const PACKET_BYTES_MAX: usize = 2048;
/// Packets that wait in the kernel while this process is stalled, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;
/// Network control, as keepalived and routers mark it (DSCP CS6).
const TRAFFIC_CLASS: u8 = 0xc0;
/// Of a header without options.
pub const IPV4_HEADER_BYTES: usize = 20;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    pub fn group(self) -> IpAddr {
        match self {
            Self::V4 => GROUP_V4.into(),
            Self::V6 => GROUP_V6.into(),
        }
    }
}

/// What came, not judged yet.
#[derive(Debug)]
pub struct Packet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hops: Option<u8>,
    pub payload: &'a [u8],
}

/// Sends and receives on one interface, in one family.
#[derive(Debug)]
pub struct AdvertSocket {
    family: Family,
    index: u32,
    socket: AsyncFd<Socket>,
}

impl AdvertSocket {
    /// Opens it on the interface of that name and index. Must be called within a runtime.
    pub fn open(family: Family, interface: &str, index: u32) -> io::Result<Self> {
        let opened = Self::open_to_send(family, interface, index)?;
        let socket = opened.socket.get_ref();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        match family {
            Family::V4 => {
                socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
            }
            Family::V6 => {
                socket.set_recv_hoplimit_v6(true)?;
                socket.join_multicast_v6(&GROUP_V6, index)?;
            }
        }
        Ok(opened)
    }

    /// One that has joined no group.
    fn open_to_send(family: Family, interface: &str, index: u32) -> io::Result<Self> {
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(PROTOCOL))))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        match family {
            Family::V4 => {
                socket.set_header_included_v4(true)?;
                socket.set_multicast_loop_v4(false)?;
                // Else groups that others of this host have joined come here too.
                socket.set_multicast_all_v4(false)?;
            }
            Family::V6 => {
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_hops_v6(HOPS.into())?;
                socket.set_unicast_hops_v6(HOPS.into())?;
                socket.set_tclass_v6(TRAFFIC_CLASS.into())?;
                socket.set_multicast_if_v6(index)?;
            }
        }
        Ok(Self { family, index, socket: super::sys::registered(socket)? })
    }

    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sends an encoded advertisement. The source is said, never guessed: the kernel might take
    /// the virtual address.
    pub fn send(&self, source: IpAddr, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let socket = self.socket.get_ref();
        let sent = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let packet = with_ipv4_header(source, destination, payload);
                socket.send_to(&packet, &SocketAddr::from((destination, 0)).into())
            }
            (IpAddr::V6(_), IpAddr::V6(destination)) => {
                let target = SocketAddrV6::new(destination, 0, 0, self.scope(destination));
                socket.send_to(payload, &target.into())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        sent.map(drop)
    }

    /// Sends from this address from now on; IPv6 alone, where the kernel writes the header.
    pub fn bind_v6(&self, source: Ipv6Addr) -> io::Result<()> {
        self.socket.get_ref().bind(&SocketAddrV6::new(source, 0, 0, self.scope(source)).into())
    }

    fn scope(&self, address: Ipv6Addr) -> u32 {
        if address.is_multicast() || address.is_unicast_link_local() { self.index } else { 0 }
    }

    /// The next packet that waits; None where there is none. `buffer` is of [`PACKET_BYTES_MAX`].
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Packet<'a>>> {
        let socket = self.socket.get_ref();
        let received = match self.family {
            Family::V4 => (&mut &*socket).read(buffer).map(|len| (len, None)),
            Family::V6 => super::sys::receive_v6(socket, buffer).map(|it| (it.len, Some(it))),
        };
        let (len, v6) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = &buffer[..len];
        if let Some(received) = v6 {
            return Ok(Some(Packet {
                source: received.source.into(),
                destination: GROUP_V6.into(),
                hops: received.hop_limit,
                payload: bytes,
            }));
        }
        // The kernel has checked the header; what it has not checked is not believed all the same.
        Ok(Some(opened_ipv4(bytes).unwrap_or(Packet {
            source: Ipv4Addr::UNSPECIFIED.into(),
            destination: Ipv4Addr::UNSPECIFIED.into(),
            hops: None,
            payload: &[],
        })))
    }

    /// Waits until there is something to receive (or an error to fetch).
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            // Readiness may be an old one, of what has been received since.
            let mut peek = [MaybeUninit::uninit(); 1];
            match self.socket.get_ref().peek(&mut peek) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Splits an IPv4 packet; None where it is none.
pub fn opened_ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.first_chunk::<IPV4_HEADER_BYTES>()?;
    let header_len = usize::from(header[0] & 15) * 4;
    let whole = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < IPV4_HEADER_BYTES || header[9] != PROTOCOL {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Some(Packet {
        source: address(12).into(),
        destination: address(16).into(),
        hops: Some(header[8]),
        payload: bytes.get(header_len..whole)?,
    })
}

/// The kernel fills in the checksum, where it is a raw socket of IP that sends it.
pub fn with_ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(IPV4_HEADER_BYTES + payload.len());
    let len = (IPV4_HEADER_BYTES + payload.len()) as u16;
    packet.extend([0x45, TRAFFIC_CLASS]);
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0, 0, HOPS, PROTOCOL, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_packet_is_split_by_what_its_header_says() {
        let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), GROUP_V4);
        let packet = with_ipv4_header(source, destination, b"payload");
        let opened = opened_ipv4(&packet).unwrap();
        assert_eq!((opened.source, opened.destination), (source.into(), destination.into()));
        assert_eq!((opened.hops, opened.payload), (Some(255), &b"payload"[..]));
        // What a short frame was padded with is not the packet's.
        let padded = [&packet[..], &[0; 20]].concat();
        assert_eq!(opened_ipv4(&padded).unwrap().payload, b"payload");
        let mut options = packet.clone();
        options[0] = 0x46;
        assert_eq!(opened_ipv4(&options).unwrap().payload, b"oad");
        for broken in [&packet[..19], &packet[..25], &[][..]] {
            assert!(opened_ipv4(broken).is_none());
        }
        for (at, value) in [(0, 0x65), (0, 0x44), (9, 17), (2, 0xff), (3, 19)] {
            let mut broken = packet.clone();
            broken[at] = value;
            assert!(opened_ipv4(&broken).is_none(), "{at} {value}");
        }
    }
}
