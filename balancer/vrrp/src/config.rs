//! The settings of the virtual address, in the proxy's process and alone.
//!
//! How they are read, and which layer counts, is `skep_base::settings`'.

pub mod rows;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Command, Subcommand};
use skep_base::log::LogConfig;
use skep_base::settings::{ConfigError, Layers, Setting, log, values};
use skep_members::settings::{Given, edge_key};

use crate::mesh::PEERS_MAX;
use crate::packet::{ADDRESSES_MAX, Checksum, INTERVAL_MAX, INTERVAL_V2_MAX, PRIORITY_OWNER, Version};
use crate::socket::Family;
use crate::track::{TRACKS_MAX, Track};
use crate::{Handover, ROUTERS_MAX, RouterConfig, VirtualAddress, VrrpConfig};

const VRID_DEFAULT: u8 = 51;
/// High: the skew time that a graceful change costs without the mesh is what is missing to 256.
const PRIORITY_DEFAULT: u8 = 200;
const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1000);
const MESH_PORT_DEFAULT: u16 = 7402;
/// Longest interface name that the kernel takes, in bytes.
const INTERFACE_LEN_MAX: usize = 15;

/// What VRRP is told where it runs alone, beside a proxy.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub vrrp: VrrpConfig,
    pub keys: Option<Given>,
    pub admin: SocketAddr,
    pub log: LogConfig,
    /// Said in the log once there is one.
    pub warnings: Vec<String>,
}

/// How VRRP runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the proxy's process.
    Inside,
    /// As a process of its own.
    Alone,
}

/// The verb that stands first in the balancer's program, and whose flags are its own.
pub const VERB: &str = "vrrp";

/// The program as it is beside [`VERB`], which has settings of its own.
fn program() -> Command {
    Command::new("skep-balancer vrrp")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Holds virtual addresses by VRRP for a proxy elsewhere on this host, with no proxy in this process")
        .after_help(
            "SIGTERM hands the addresses over, then ends; SIGHUP reads the file of the cluster key again.\n\
             Exit status: 0 done, 1 failed, 2 a bad flag or configuration.",
        )
}

/// [`VERB`] has no verbs.
#[derive(Debug, Subcommand)]
enum NoVerb {}

/// Reads a command line whose verb is [`VERB`], or, of a program that has no other, none.
pub fn parse<I, A>(args: I, env: impl Fn(&str) -> Option<OsString>) -> Result<AgentConfig, ConfigError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    // Its flags are its own: the verb is no argument among them.
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.get(1).is_some_and(|verb| verb == VERB) {
        args.remove(1);
    }
    let (layers, _) =
        skep_base::settings::parse::<NoVerb, _, OsString>(program(), rows::SETTINGS, args, &env)?;
    resolve_alone(&layers)
}

/// The settings of [`VERB`].
fn resolve_alone(layers: &Layers) -> Result<AgentConfig, ConfigError> {
    let (keys, warnings) = edge_key(layers)?;
    let vrrp = resolve(layers, Place::Alone, keys.is_some(), layers.duration(&rows::DRAIN)?)?;
    let vrrp = vrrp.ok_or_else(|| ConfigError::Invalid {
        origin: layers.origin(&rows::VIP),
        reason: "name the virtual address, as in --vip 10.0.0.100/24".into(),
    })?;
    Ok(AgentConfig { vrrp, keys, admin: layers.address(&rows::ADMIN)?, log: log(layers)?, warnings })
}

/// None where no virtual address is asked for. `has_keys`: the mesh needs one.
pub fn resolve(
    layers: &Layers,
    place: Place,
    has_keys: bool,
    drain: Duration,
) -> Result<Option<VrrpConfig>, ConfigError> {
    let Some(text) = layers.get(&rows::VIP).map(|given| given.text.to_owned()) else {
        return without_addresses(layers).map(|()| None);
    };
    let version = layers.read(&rows::VRRP_VERSION, version)?.unwrap_or_default();
    let interval = layers.read(&rows::ADVERT_INTERVAL, |text| interval(text, version))?;
    let default = if version == Version::V2 { Duration::from_secs(1) } else { INTERVAL_DEFAULT };
    let defaults = RouterConfig {
        vrid: layers.read(&rows::VRID, vrid)?.unwrap_or(VRID_DEFAULT),
        interface: layers.read(&rows::VRRP_INTERFACE, interface)?.unwrap_or_default(),
        addresses: Vec::new(),
        priority: layers.read(&rows::PRIORITY, priority)?.unwrap_or(PRIORITY_DEFAULT),
        interval: interval.unwrap_or(default),
        preempt: layers.read(&rows::PREEMPT, values::switch)?.unwrap_or(false),
        preempt_delay: layers.read(&rows::PREEMPT_DELAY, preempt_delay)?.unwrap_or_default(),
        version,
        checksum: layers.read(&rows::VRRP_CHECKSUM, checksum)?.unwrap_or_default(),
        vmac: layers.read(&rows::VMAC, values::switch)?.unwrap_or(false),
        peers: layers.read(&rows::VRRP_PEERS, |text| values::list(text, ip))?.unwrap_or_default(),
        peers_proven: layers.read(&rows::VRRP_PEERS_PROVEN, values::switch)?.unwrap_or(false),
    };
    let invalid =
        |setting: &Setting, reason: String| ConfigError::Invalid { origin: layers.origin(setting), reason };
    let routers = groups(&text, &defaults).map_err(|reason| invalid(&rows::VIP, reason))?;
    if routers.iter().any(|router| router.interface.is_empty()) {
        let reason = "name the interface of the virtual addresses, as in --vrrp-interface eth0".to_owned();
        return Err(invalid(&rows::VRRP_INTERFACE, reason));
    }
    if version == Version::V2 && routers.iter().any(|router| router.family() == Family::V6) {
        return Err(invalid(&rows::VRRP_VERSION, "version 2 is for IPv4 alone".into()));
    }
    if defaults.vmac && routers.iter().any(|router| router.family() == Family::V6) {
        return Err(invalid(&rows::VMAC, "the virtual MAC address is for IPv4 alone here".into()));
    }
    let families = |family| routers.iter().any(|router| router.family() == family);
    if let Some(peer) = defaults.peers.iter().find(|peer| !families(Family::of(**peer))) {
        let reason = format!("{peer} is of a family that no virtual address has");
        return Err(invalid(&rows::VRRP_PEERS, reason));
    }
    if let Some(router) = routers.iter().find(|router| !defaults.peers.is_empty() && router.peers.is_empty())
    {
        let reason = format!("no peer is of the family of {}", router.addresses[0]);
        return Err(invalid(&rows::VRRP_PEERS, reason));
    }
    let tracks = layers.read(&rows::TRACK, |text| values::list(text, Track::parse))?.unwrap_or_default();
    if tracks.len() > TRACKS_MAX {
        return Err(invalid(&rows::TRACK, format!("{} are too many: at most {TRACKS_MAX}", tracks.len())));
    }
    let mesh = layers.read(&rows::VRRP_MESH, mesh_port)?;
    if let (Some(Some(_)), false) = (mesh, has_keys) {
        let reason = "the mesh needs a key: make one with `skep-node keygen`, and give it, or its edge key, with \
                      --cluster-key-file";
        return Err(invalid(&rows::VRRP_MESH, reason.into()));
    }
    let has_mesh = has_keys && mesh != Some(None);
    // Where peers are watched, each costs connections.
    let watched = if has_mesh { &defaults.peers[..] } else { &[] };
    let twice = |(at, peer): &(usize, &IpAddr)| watched[..*at].contains(peer);
    if let Some((_, peer)) = watched.iter().enumerate().find(twice) {
        return Err(invalid(&rows::VRRP_PEERS, format!("{peer} stands in it twice")));
    }
    if watched.len() > PEERS_MAX {
        let reason = format!("{} peers are too many: at most {PEERS_MAX}", watched.len());
        return Err(invalid(&rows::VRRP_PEERS, reason));
    }
    if defaults.peers_proven && (defaults.peers.is_empty() || !has_mesh) {
        let reason =
            "peers prove what they advertise by the mesh: name them with --vrrp-peers, and give a key";
        return Err(invalid(&rows::VRRP_PEERS_PROVEN, reason.into()));
    }
    let by_place = if place == Place::Inside { Handover::Socket } else { Handover::Conntrack };
    Ok(Some(VrrpConfig {
        routers,
        notify: layers.get(&rows::NOTIFY).map(|given| given.text.to_owned()),
        mesh_port: mesh.unwrap_or(Some(MESH_PORT_DEFAULT)).filter(|_| has_keys),
        handover: layers.read(&rows::VRRP_HANDOVER, handover)?.unwrap_or(by_place),
        drain,
        tracks,
    }))
}

/// A setting of the virtual address with no address is a mistake; saying nothing would hide it.
fn without_addresses(layers: &Layers) -> Result<(), ConfigError> {
    let settings = [
        &rows::VRRP_INTERFACE,
        &rows::VRID,
        &rows::PRIORITY,
        &rows::ADVERT_INTERVAL,
        &rows::PREEMPT,
        &rows::PREEMPT_DELAY,
        &rows::VRRP_PEERS,
        &rows::VRRP_PEERS_PROVEN,
        &rows::VRRP_VERSION,
        &rows::VRRP_CHECKSUM,
        &rows::VMAC,
        &rows::TRACK,
        &rows::NOTIFY,
        &rows::VRRP_MESH,
        &rows::VRRP_HANDOVER,
    ];
    match settings.into_iter().find_map(|setting| layers.get(setting)) {
        Some(given) => Err(ConfigError::Invalid {
            origin: given.origin,
            reason: "there is no virtual address: name it with --vip, as in --vip 10.0.0.100/24".into(),
        }),
        None => Ok(()),
    }
}

/// `ADDRESSES [vrid=N] [priority=N] [interface=NAME]; ...`: a router for each group and family.
fn groups(text: &str, defaults: &RouterConfig) -> Result<Vec<RouterConfig>, String> {
    let mut routers: Vec<RouterConfig> = Vec::new();
    for group in text.split(';').map(str::trim).filter(|group| !group.is_empty()) {
        let mut router = defaults.clone();
        let mut addresses = Vec::new();
        for word in group.split_whitespace() {
            match word.split_once('=') {
                Some(("vrid", text)) => router.vrid = vrid(text)?,
                Some(("priority", text)) => router.priority = priority(text)?,
                Some(("interface", text)) => router.interface = interface(text)?,
                Some((key, _)) => {
                    return Err(format!("{key}= is not known: a group has vrid=, priority= and interface="));
                }
                None => addresses.extend(values::list(word, virtual_address)?),
            }
        }
        // RFC 9568, erratum 8300: the link-local address is the first.
        addresses.sort_by_key(|it| !matches!(it.ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        for family in [Family::V4, Family::V6] {
            let of_family: Vec<_> =
                addresses.iter().filter(|it| Family::of(it.ip) == family).copied().collect();
            if of_family.len() > ADDRESSES_MAX {
                return Err(format!(
                    "{} addresses of one VRID are too many: at most {ADDRESSES_MAX}",
                    of_family.len()
                ));
            }
            if of_family.is_empty() {
                continue;
            }
            let peers = defaults.peers.iter().filter(|peer| Family::of(**peer) == family).copied().collect();
            routers.push(RouterConfig { addresses: of_family, peers, ..router.clone() });
        }
        if addresses.is_empty() {
            return Err(format!("{group:?} names no address, as in 10.0.0.100/24"));
        }
    }
    check_distinct(&routers)?;
    Ok(routers)
}

fn check_distinct(routers: &[RouterConfig]) -> Result<(), String> {
    if routers.is_empty() {
        return Err("it names no address, as in 10.0.0.100/24".into());
    }
    if routers.len() > ROUTERS_MAX {
        return Err(format!("{} virtual routers are too many: at most {ROUTERS_MAX}", routers.len()));
    }
    for (at, one) in routers.iter().enumerate() {
        for (second, address) in one.addresses.iter().enumerate() {
            let earlier =
                one.addresses[..second].iter().chain(routers[..at].iter().flat_map(|it| &it.addresses));
            if earlier.into_iter().any(|it| it.ip == address.ip) {
                return Err(format!("{} stands in it twice", address.ip));
            }
        }
        let same = |other: &&RouterConfig| {
            (other.vrid, &other.interface, other.family()) == (one.vrid, &one.interface, one.family())
        };
        if routers[..at].iter().find(same).is_some() {
            return Err(format!("two groups have VRID {}: give each its own, as in vrid=52", one.vrid));
        }
    }
    Ok(())
}

fn virtual_address(text: &str) -> Result<VirtualAddress, String> {
    let expected = || format!("{text:?} is not an address with its prefix length, as in 10.0.0.100/24");
    let (ip_text, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    let ip: IpAddr = ip_text.parse().map_err(|_| expected())?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) => {
            prefix.parse().ok().filter(|prefix| (1..=bits).contains(prefix)).ok_or_else(expected)?
        }
        None => bits,
    };
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err(format!("{ip} is not an address that a host can have"));
    }
    Ok(VirtualAddress { ip, prefix })
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

fn interface(text: &str) -> Result<String, String> {
    let fits = (1..=INTERFACE_LEN_MAX).contains(&text.len())
        && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is not an interface's name, as in eth0")) }
}

fn vrid(text: &str) -> Result<u8, String> {
    values::count(text, 255).map(|vrid| vrid as u8)
}

fn priority(text: &str) -> Result<u8, String> {
    values::count(text, PRIORITY_OWNER.into()).map(|priority| priority as u8)
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "3" => Ok(Version::V3),
        "2" => Ok(Version::V2),
        _ => Err(format!("{text:?} is neither 3 nor 2")),
    }
}

fn interval(text: &str, version: Version) -> Result<Duration, String> {
    let interval = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let (least, most, step, expected) = match version {
        Version::V3 => {
            (INTERVAL_MIN, INTERVAL_MAX, 10, "from 10ms to 40s 950ms in steps of 10ms, as in 100ms")
        }
        Version::V2 => (Duration::from_secs(1), INTERVAL_V2_MAX, 1000, "of whole seconds, as in 1s"),
    };
    interval
        .filter(|it| {
            (least..=most).contains(it) && it.as_millis() % step == 0 && it.subsec_nanos() % 1_000_000 == 0
        })
        .ok_or_else(|| format!("{text:?} is not an interval {expected}"))
}

fn preempt_delay(text: &str) -> Result<Duration, String> {
    let delay = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let most = PREEMPT_DELAY_MAX.as_secs();
    delay
        .filter(|delay| *delay <= PREEMPT_DELAY_MAX)
        .ok_or_else(|| format!("{text:?} is not a delay of at most {most}s, as in 30s"))
}

fn checksum(text: &str) -> Result<Checksum, String> {
    match text {
        "pseudo-header" => Ok(Checksum::PseudoHeader),
        "message" => Ok(Checksum::Message),
        _ => Err(format!("{text:?} is neither pseudo-header nor message")),
    }
}

fn mesh_port(text: &str) -> Result<Option<u16>, String> {
    match text {
        "off" => Ok(None),
        _ => values::count(text, u16::MAX.into())
            .map(|port| Some(port as u16))
            .map_err(|_| format!("{text:?} is neither a port nor off")),
    }
}

fn handover(text: &str) -> Result<Handover, String> {
    match text {
        "socket" => Ok(Handover::Socket),
        "conntrack" => Ok(Handover::Conntrack),
        "off" => Ok(Handover::Off),
        _ => Err(format!("{text:?} is none of socket, conntrack and off")),
    }
}

#[cfg(test)]
mod tests;
