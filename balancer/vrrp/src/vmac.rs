//! The virtual MAC address, beside the interface's own.
//!
//! Hosts then never see the address move; switches do, by the frames that are sent from the virtual
//! MAC: advertisements and gratuitous ARP. What takes frames that come for it, and says it in answers
//! of ARP, lives in the kernel by two sockets of this process alone: the interface is made to take one
//! more address, a rule lets the host believe that such frames are for it, and another writes the
//! address into what the kernel answers. Without the process there is nothing of it, and while the
//! router is no Active neither (RFC 9568, section 6.4.2). As section 8.1.2 has it, such an answer's
//! frame comes from the interface's own MAC. IPv4 alone. No tasks; all goes with the value.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::link::InfoKind;
use socket2::{Domain, Protocol, Socket, Type};

use crate::VrrpError;
use crate::announce::Mac;
use crate::netlink::{Link, Netlink};
use crate::nftables::{
    Base, Chain, FAMILY_ARP, FAMILY_NETDEV, HOOK_ARP_OUT, HOOK_INGRESS, OwnedTable, Rule, octets,
};
use crate::sys;

const ARP_OPERATION: u32 = 6;
const ARP_SENDER_MAC: u32 = 8;
const ARP_SENDER: u32 = 14;
const ARP_REQUEST: [u8; 2] = [0, 1];
const ARP_ANSWER: [u8; 2] = [0, 2];
const FRAME_TARGET: u32 = 0;

/// RFC 9568, section 7.3.
pub fn virtual_mac(vrid: u8) -> Mac {
    [0, 0, 0x5e, 0, 1, vrid]
}

/// The interface has the virtual MAC as well, as long as this value lives.
#[derive(Debug)]
pub struct VirtualMac {
    index: u32,
    own: IpAddr,
    _taken: Socket,
    _believed: OwnedTable,
    _said: OwnedTable,
}

impl VirtualMac {
    /// On the interface, which has `own` as its address.
    pub fn open(link: &Link, vrid: u8, addresses: &[IpAddr], own: IpAddr) -> io::Result<Self> {
        let mac = virtual_mac(vrid);
        let believed = vec![Rule::default().matches(Base::Link, FRAME_TARGET, &mac).for_this_host()];
        let chain = |name, hook, rules| Chain { name, hook, priority: 0, device: None, rules };
        let ingress = Chain { device: Some(link.name.clone()), ..chain("ingress", HOOK_INGRESS, believed) };
        let said = addresses.iter().flat_map(|address| {
            let saying = |what: &[u8]| {
                let rule = Rule::default().goes_by(link.index).matches(Base::Network, ARP_OPERATION, what);
                rule.matches(Base::Network, ARP_SENDER, &octets(*address))
            };
            [
                saying(&ARP_ANSWER).write(Base::Network, ARP_SENDER_MAC, &mac, false),
                // Who is asked learns of who asks: this host asks in its own name.
                saying(&ARP_REQUEST).write(Base::Network, ARP_SENDER, &octets(own), false),
            ]
        });
        let output = chain("output", HOOK_ARP_OUT, said.collect());
        let (believed, said) =
            (OwnedTable::new(FAMILY_NETDEV, &[ingress])?, OwnedTable::new(FAMILY_ARP, &[output])?);
        // Protocol 0: it is given no frame to receive.
        let taken = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        sys::take_mac(&taken, link.index, mac)?;
        Ok(Self { index: link.index, own, _taken: taken, _believed: believed, _said: said })
    }

    /// Whether it is on this interface, with this address of its own.
    pub fn fits(&self, link: &Link, own: IpAddr) -> bool {
        (self.index, self.own) == (link.index, own)
    }
}

/// Before the first use: the interface can have a second MAC, and nobody on it has this one. Versions
/// before had a macvlan for it, which outlives a process that is killed: what one of them has left
/// behind is removed.
pub async fn make_way(netlink: &Netlink, link: &Link, vrid: u8) -> Result<(), VrrpError> {
    if let Some(InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap) = link.kind {
        return Err(VrrpError::NoSecondMac(link.name.clone()));
    }
    let has_it = |other: &Link| other.below == Some(link.index) && other.mac == Some(virtual_mac(vrid));
    for other in netlink.links().await?.into_iter().filter(has_it) {
        let ours = other.name == format!("skep-vrrp.{vrid}") && other.kind == Some(InfoKind::MacVlan);
        if !ours {
            return Err(VrrpError::MacTaken { interface: other.name, vrid });
        }
        tracing::warn!(interface = other.name, "an earlier run has left its virtual MAC behind: removed");
        netlink.remove_link(other.index).await?;
    }
    Ok(())
}
