//! Tells the network who has an address: gratuitous ARP, and unsolicited neighbour advertisements; and
//! carries advertisements that come from another MAC than the interface's.
//!
//! No tasks. The socket is open from the start: opening one at a take-over costs milliseconds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{GROUP_V4, icmpv6_checksum, internet_checksum};
use crate::socket::{IPV4_HEADER_BYTES, with_ipv4_header};
use crate::sys;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Of ff02::1, all nodes.
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Of 224.0.0.18, all VRRP routers.
const VRRP_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 18];

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Sends frames that announce addresses.
#[derive(Debug)]
pub struct Announcer {
    socket: Socket,
}

impl Announcer {
    pub fn open() -> io::Result<Self> {
        // Protocol 0: it sends, and is given nothing to receive.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Says on the interface that `address` is at `mac`. `router`: the host forwards IPv6, and
    /// says so; who learns of it otherwise would drop it as a default router.
    pub fn announce(&self, index: u32, mac: Mac, address: IpAddr, router: bool) -> io::Result<()> {
        let (ethertype, target, frame) = match address {
            IpAddr::V4(address) => (ETHERTYPE_ARP, BROADCAST, gratuitous_arp(mac, address)),
            IpAddr::V6(address) => {
                (ETHERTYPE_IPV6, ALL_NODES_MAC, neighbour_advertisement(mac, address, router))
            }
        };
        self.send(index, ethertype, target, &frame)
    }

    /// Multicasts an encoded advertisement from `mac`, as a virtual router that has one of its own does.
    pub fn advertise(&self, index: u32, mac: Mac, source: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let mut packet = with_ipv4_header(source, GROUP_V4, payload);
        let checksum = internet_checksum(&packet[..IPV4_HEADER_BYTES]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let frame = [&VRRP_MAC[..], &mac, &ETHERTYPE_IPV4.to_be_bytes(), &packet].concat();
        self.send(index, ETHERTYPE_IPV4, VRRP_MAC, &frame)
    }

    fn send(&self, index: u32, ethertype: u16, target: Mac, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &sys::link_address(index, ethertype, target)?).map(drop)
    }
}

/// The request form, which is what keepalived sends and every stack obeys.
pub fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let address = address.octets();
    let ethertype = ETHERTYPE_ARP.to_be_bytes();
    [&BROADCAST[..], &mac, &ethertype, &REQUEST, &mac, &address, &BROADCAST, &address].concat()
}

/// RFC 4861, section 4.4: unsolicited, overriding.
pub fn neighbour_advertisement(mac: Mac, address: Ipv6Addr, router: bool) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    const ROUTER: u8 = 0x80;
    const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let head = [136, 0, 0, 0, flags, 0, 0, 0];
    let mut message = [&head[..], &address.octets(), &TARGET_LINK_ADDRESS, &mac].concat();
    let checksum = icmpv6_checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let length = (message.len() as u16).to_be_bytes();
    let ip = [0x60, 0, 0, 0, length[0], length[1], 58, 255];
    let (source, target) = (address.octets(), ALL_NODES.octets());
    let ethertype = ETHERTYPE_IPV6.to_be_bytes();
    [&ALL_NODES_MAC[..], &mac, &ethertype, &ip, &source, &target, &message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn gratuitous_arp_is_byte_for_byte_that_of_keepalived() {
        let frame = gratuitous_arp([0x32, 0x45, 0x73, 0x59, 0x7b, 0xb1], Ipv4Addr::new(10, 78, 0, 200));
        let expected = "ffffffffffff324573597bb108060001080006040001324573597bb10a4e00c8ffffffffffff0a4e00c8";
        assert_eq!(hex(&frame), expected);
    }

    #[test]
    fn a_neighbour_advertisement_overrides_and_its_checksum_holds() {
        let address = "fd78::200".parse().unwrap();
        let frame = neighbour_advertisement([2, 0, 0, 0, 0, 7], address, false);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(&frame[14 + 6..14 + 8], [58, 255]);
        let mut message = frame[54..].to_vec();
        assert_eq!((message[0], message[4]), (136, 0x20));
        assert_eq!(neighbour_advertisement([2, 0, 0, 0, 0, 7], address, true)[54 + 4], 0xa0);
        let sent = [message[2], message[3]];
        message[2..4].fill(0);
        assert_eq!(icmpv6_checksum(address, ALL_NODES, &message).to_be_bytes(), sent);
    }
}
