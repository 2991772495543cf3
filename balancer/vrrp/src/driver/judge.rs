//! Which packets are believed: every check of RFC 9568, section 7.1, and which router it is for. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::SocketKey;
use crate::counts::Discard;
use crate::packet::{Advert, HOPS, PacketError, Version};
use crate::router::Router;
use crate::socket::{Family, Packet};

/// Every check of RFC 9568, section 7.1, and which router it is for.
pub(super) fn judge(
    packet: &Packet<'_>,
    (interface, family): &SocketKey,
    routers: &[Router],
) -> Result<(usize, Advert, IpAddr), Discard> {
    let source = packet.source;
    let here = |router: &Router| router.config.interface == *interface && router.family() == *family;
    if routers.iter().any(|router| router.source == Some(source) || router.has_address(source)) {
        return Err(Discard::Own);
    }
    let known = routers.iter().filter(|router| here(router));
    let is_peer = known.clone().any(|router| router.config.peers.contains(&source));
    // Unicast may pass routers, and then its sender is what is checked.
    if packet.hops != Some(HOPS) && !is_peer {
        return Err(Discard::Hops);
    }
    let mut decoded = Advert::decode(packet.payload, source, packet.destination);
    if let (Err(PacketError::Checksum), true) = (&decoded, is_peer && *family == Family::V6) {
        // The kernel does not say where a packet of IPv6 went; to a peer it went here.
        let own = known.clone().find_map(|router| router.source);
        decoded = Advert::decode(packet.payload, source, own.unwrap_or(packet.destination));
    }
    let advert = decoded?;
    let found = routers.iter().position(|router| here(router) && router.config.vrid == advert.vrid);
    let at = found.ok_or(Discard::Vrid)?;
    let config = &routers[at].config;
    if !config.peers.is_empty() && !config.peers.contains(&source) {
        return Err(Discard::Stranger);
    }
    if config.version != advert.version {
        return Err(Discard::Version);
    }
    if !routers[at].agrees(&advert) {
        return Err(Discard::Addresses);
    }
    let same_interval = advert.interval.abs_diff(config.interval) < Duration::from_secs(1);
    if advert.version == Version::V2 && !same_interval {
        return Err(Discard::Interval);
    }
    Ok((at, advert, source))
}
