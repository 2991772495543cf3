//! The virtual MAC address: a macvlan interface that has it, and the addresses.
//!
//! Hosts then never see the address move; switches do, by the advertisements, which are sent from
//! the virtual MAC. IPv4 alone. The kernel answers for every address on every interface: rules
//! keep the real MAC from answering for the virtual address, and the virtual one for others. No
//! tasks; the rules go with this value, the interface by [`VirtualInterface::remove`].

use std::net::IpAddr;
use std::sync::Arc;

use crate::VrrpError;
use crate::announce::Mac;
use crate::netlink::{Link, Netlink};
use crate::nftables::{Base, Chain, FAMILY_ARP, HOOK_ARP_IN, HOOK_ARP_OUT, OwnedTable, Rule, octets};
use crate::socket::{AdvertSocket, Family};

const ARP_SENDER: u32 = 14;
const ARP_TARGET: u32 = 24;

/// A macvlan of ours.
#[derive(Debug)]
pub struct VirtualInterface {
    pub parent: u32,
    pub index: u32,
    pub mac: Mac,
    /// Sends from the virtual MAC.
    pub socket: Arc<AdvertSocket>,
    _rules: OwnedTable,
}

/// RFC 9568, section 7.3.
pub fn virtual_mac(vrid: u8) -> Mac {
    [0, 0, 0x5e, 0, 1, vrid]
}

impl VirtualInterface {
    /// Makes it on the interface, which has `own` as its address.
    pub async fn open(
        netlink: &Netlink,
        parent: &Link,
        vrid: u8,
        addresses: &[IpAddr],
        own: IpAddr,
    ) -> Result<Self, VrrpError> {
        let (name, mac) = (format!("skep-vrrp.{vrid}"), virtual_mac(vrid));
        let link = netlink.add_macvlan(parent.index, &name, mac).await?;
        let open = |what: &str, error| VrrpError::Open { what: format!("{what} {name}"), error };
        let socket = AdvertSocket::open_to_send(Family::V4, &name, link.index);
        let socket = Arc::new(socket.map_err(|error| open("a VRRP socket on", error))?);
        let rules = rules(parent.index, link.index, addresses, own);
        let rules = rules.map_err(|error| open("rules for ARP on", error))?;
        Ok(Self { parent: parent.index, index: link.index, mac, socket, _rules: rules })
    }

    pub async fn remove(self, netlink: &Netlink) {
        if let Err(error) = netlink.remove_link(self.index).await {
            tracing::warn!(%error, "the interface of the virtual MAC address cannot be removed");
        }
    }
}

fn rules(parent: u32, index: u32, addresses: &[IpAddr], own: IpAddr) -> std::io::Result<OwnedTable> {
    let all = |rule: &dyn Fn(&[u8]) -> Rule| -> Vec<Rule> {
        addresses.iter().map(|address| rule(&octets(*address))).collect()
    };
    let mut input = all(&|it| Rule::default().came_by(parent).matches(Base::Network, ARP_TARGET, it).drop());
    input.extend(all(&|it| Rule::default().came_by(index).matches(Base::Network, ARP_TARGET, it).accept()));
    input.push(Rule::default().came_by(index).drop());
    let own = octets(own);
    let output = all(&|it| {
        let rule = Rule::default().goes_by(parent).matches(Base::Network, ARP_SENDER, it);
        rule.write(Base::Network, ARP_SENDER, &own, false)
    });
    let input = Chain { name: "input", hook: HOOK_ARP_IN, priority: 0, rules: input };
    let output = Chain { name: "output", hook: HOOK_ARP_OUT, priority: 0, rules: output };
    OwnedTable::new(FAMILY_ARP, &[input, output])
}
