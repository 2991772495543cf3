//! What the kernel knows of interfaces and addresses, and how it is told.
//!
//! One task of its own carries the netlink connection; it ends with the last handle. Requests are
//! bounded by a time-out; dropping one may leave it done or not, which the next refresh settles.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Error, Handle, MulticastGroup, new_multicast_connection};
use tokio::time::timeout;

use crate::announce::Mac;

/// Time for an answer of the kernel; it takes microseconds.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Without this, an address stays for good.
const FOREVER: u32 = u32::MAX;

/// The kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("netlink cannot be opened: {0}")]
    Open(#[from] std::io::Error),
    #[error("the kernel refuses: {0}")]
    Refused(Error),
    #[error("the kernel does not answer")]
    Silent,
}

impl NetlinkError {
    /// What was to be removed is not there, or what was to be made is.
    fn is_settled(&self) -> bool {
        const SETTLED: [i32; 3] = [-libc::EADDRNOTAVAIL, -libc::ENODEV, -libc::EEXIST];
        matches!(self, Self::Refused(Error::NetlinkError(error))
            if error.code.is_some_and(|code| SETTLED.contains(&code.get())))
    }
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub index: u32,
    /// Switched on, and with a carrier.
    pub up: bool,
    /// None where it is no Ethernet.
    pub mac: Option<Mac>,
    /// What the kernel calls its kind, where it is made of another or of nothing.
    pub kind: Option<InfoKind>,
    /// The index of the one that it is made of.
    pub below: Option<u32>,
}

/// An address that an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// It cannot be sent from yet, or never.
    pub tentative: bool,
}

/// What changed in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Link(Link),
    LinkGone(u32),
    Address(Assigned),
    AddressGone(Assigned),
}

/// Asks and tells the kernel.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens it, and a stream of what changes. Must be called within a runtime.
    pub fn open() -> Result<(Self, impl Stream<Item = Change> + Unpin + Send + 'static), NetlinkError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        let changes = messages.filter_map(|(message, _)| std::future::ready(change(message)));
        Ok((Self { handle }, changes))
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match bounded(found.try_next()).await {
            Ok(found) => Ok(found.map(|message| link(&message))),
            Err(error) if error.is_settled() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages: Vec<LinkMessage> = bounded(self.handle.link().get().execute().try_collect()).await?;
        Ok(messages.iter().map(link).collect())
    }

    pub async fn addresses(&self, index: u32) -> Result<Vec<Assigned>, NetlinkError> {
        let found = self.handle.address().get().set_link_index_filter(index).execute();
        let messages: Vec<AddressMessage> = bounded(found.try_collect()).await?;
        Ok(messages.iter().filter_map(assigned).collect())
    }

    /// Adds an address, or refreshes it. With a lifetime it goes by itself: what holds it may be
    /// killed, and nobody would take it away.
    pub async fn add(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        lifetime: Option<Duration>,
    ) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address, prefix).replace();
        let message = request.message_mut();
        let valid = lifetime.map_or(FOREVER, |lifetime| lifetime.as_secs() as u32);
        let mut info = CacheInfo::default();
        (info.ifa_valid, info.ifa_preferred) = (valid, valid);
        if address.is_ipv6() {
            // Never a source of its own accord; and nothing to detect: who had it before may well
            // have it still, for a moment.
            info.ifa_preferred = 0;
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        message.attributes.push(AddressAttribute::CacheInfo(info));
        bounded(request.execute()).await
    }

    /// Removes an address; none there is no error.
    pub async fn remove(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), NetlinkError> {
        // Built as an addition is: the kernel compares address and prefix.
        let mut adding = self.handle.address().add(index, address, prefix);
        let message = std::mem::take(adding.message_mut());
        settled(bounded(self.handle.address().del(message).execute()).await)
    }

    /// Removes an interface; none there is no error.
    pub async fn remove_link(&self, index: u32) -> Result<(), NetlinkError> {
        settled(bounded(self.handle.link().del(index).execute()).await)
    }
}

fn settled(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_settled() => Ok(()),
        other => other,
    }
}

async fn bounded<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, NetlinkError> {
    match timeout(TIMEOUT, request).await {
        Ok(result) => result.map_err(NetlinkError::Refused),
        Err(_) => Err(NetlinkError::Silent),
    }
}

fn change(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Change::Link(link(&message))),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(message) => assigned(&message).map(Change::Address),
        RouteNetlinkMessage::DelAddress(message) => assigned(&message).map(Change::AddressGone),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mac: None,
        kind: None,
        below: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Link(index) => link.below = Some(*index),
            LinkAttribute::LinkInfo(all) => {
                link.kind = all
                    .iter()
                    .find_map(|it| if let LinkInfo::Kind(kind) = it { Some(kind.clone()) } else { None });
            }
            LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().ok(),
            _ => {}
        }
    }
    link
}

fn assigned(message: &AddressMessage) -> Option<Assigned> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(Assigned {
        index: message.header.index,
        // On a point-to-point link the other's address is the second.
        address: local.or(address)?,
        prefix: message.header.prefix_len,
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}
