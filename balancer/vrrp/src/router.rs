//! One virtual router with its hands: the machine, and what carries out what it says.
//!
//! No tasks. The methods that tell the kernel are awaited by the driver, which is not cancelled
//! in between.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;

use crate::announce::{Announcer, Mac};
use crate::counts::{self, RouterCounts};
use crate::handing::{Draining, Handing, SendingOn};
use crate::machine::confirm::Peer;
use crate::machine::{Action, Machine, MachineConfig, PRIORITY_WEAK, Reason, State};
use crate::mesh::LEADERS_MAX;
use crate::netlink::{Assigned, Link, Netlink};
use crate::notify::{Notice, Notifier};
use crate::packet::{Advert, PRIORITY_OWNER, PRIORITY_STOPS};
use crate::socket::{AdvertSocket, Family};
use crate::status::RouterStatus;
use crate::track::Assessment;
use crate::vmac::{VirtualMac, virtual_mac};
use crate::{RouterConfig, VirtualAddress};
use strangers::Strangers;

mod strangers;
mod virtual_mac;

/// How long an address stays when nobody refreshes it: after `kill -9` it goes by itself. The
/// kernel counts seconds; with 2 it is gone after 2.0 to 2.4 s.
pub const ADDRESS_LIFETIME: Duration = Duration::from_secs(2);
/// How often the lifetime is renewed. Also the longest that an address is missing whose loss the
/// kernel failed to report.
pub const REFRESH_INTERVAL: Duration = Duration::from_millis(300);
/// When the network is told again after a take-over: often while the one before may still have
/// the address (its lifetime), then once more, then rarely, for switches that forgot.
const ANNOUNCE_STEPS: [(Duration, Duration); 3] = [
    (Duration::from_millis(200), Duration::from_millis(20)),
    (Duration::from_secs(3), Duration::from_millis(100)),
    (Duration::from_secs(6), Duration::from_secs(1)),
];
const ANNOUNCE_REFRESH: Duration = Duration::from_secs(30);

/// What routers act with. Cheap to clone.
pub struct Hands {
    pub netlink: Netlink,
    pub announcer: Arc<Announcer>,
    pub notifier: Notifier,
    /// Of the router's interface and family; None while there is none.
    pub socket: Option<Arc<AdvertSocket>>,
}

/// One virtual router.
#[derive(Debug)]
pub struct Router {
    pub config: RouterConfig,
    pub machine: Machine,
    pub counts: Arc<RouterCounts>,
    /// Its interface, where there is one.
    pub link: Option<Link>,
    /// What it sends from.
    pub source: Option<IpAddr>,
    /// Who is Active, as its advertisements say.
    pub active: Option<IpAddr>,
    /// The virtual MAC, while this one is Active.
    vmac: Option<VirtualMac>,
    /// The one before is being closed.
    vmac_closes: Option<JoinHandle<()>>,
    health: Option<String>,
    reason: Reason,
    since: SystemTime,
    /// When it became Active.
    taken: Option<Instant>,
    announce_at: Option<Instant>,
    refresh_at: Option<Instant>,
    pub strangers: Strangers,
    /// Unicast peers whose advertisements the mesh is to confirm.
    pub peers: BTreeMap<IpAddr, Peer>,
    expected: BTreeSet<IpAddr>,
    /// Who has named this one as the next, by each of its dialers: nobody says it twice.
    pub named_by: [Option<IpAddr>; LEADERS_MAX],
    /// As the status shows it.
    pub successor: bool,
    pub handing: Option<Handing>,
    pub draining: Option<Draining>,
    pub sending_on: Option<SendingOn>,
    /// When one that is weak hands over to one that could do better.
    pub makes_way_at: Option<Instant>,
}

impl Router {
    pub fn new(config: RouterConfig) -> Self {
        let machine = Machine::new(MachineConfig {
            interval: config.interval,
            preempt: config.preempt,
            preempt_delay: config.preempt_delay,
        });
        let expected = config.addresses.iter().map(|address| address.ip).collect();
        let strangers = Strangers::new(config.interval);
        Self {
            config,
            machine,
            counts: Arc::default(),
            link: None,
            source: None,
            active: None,
            vmac: None,
            vmac_closes: None,
            health: None,
            reason: Reason::Started,
            since: SystemTime::now(),
            taken: None,
            announce_at: None,
            refresh_at: None,
            strangers,
            peers: BTreeMap::new(),
            expected,
            named_by: [None; LEADERS_MAX],
            successor: false,
            handing: None,
            draining: None,
            sending_on: None,
            makes_way_at: None,
        }
    }

    /// Whether that one has named this one as the next, and nothing but the mesh is to be heeded.
    pub fn is_named_by(&self, leader: IpAddr, now: Instant) -> bool {
        self.named_by.contains(&Some(leader)) && !self.strangers.present(now)
    }

    pub fn family(&self) -> Family {
        self.config.family()
    }

    pub fn is_active(&self) -> bool {
        self.machine.state() == State::Active
    }

    pub fn has_address(&self, ip: IpAddr) -> bool {
        self.expected.contains(&ip)
    }

    /// Whether the advertisement speaks of the same addresses, in whatever order.
    pub fn agrees(&self, advert: &Advert) -> bool {
        advert.addresses.len() == self.expected.len()
            && advert.addresses.iter().all(|address| self.expected.contains(address))
    }

    /// The address to send from, among those of the interface: never a virtual one. Of IPv6 the
    /// link-local one, but for peers that are not on the link.
    pub fn choose_source(&mut self, assigned: &[Assigned], is_virtual: impl Fn(IpAddr) -> bool) -> bool {
        let on_link = |address: IpAddr| match address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => true,
        };
        let wants_link_local = self.config.peers.iter().all(|peer| on_link(*peer));
        let shares_network = |it: &Assigned| {
            self.config.addresses.iter().any(|address| in_network(address.ip, it.address, it.prefix))
        };
        let mut fitting: Vec<&Assigned> = assigned
            .iter()
            .filter(|it| Family::of(it.address) == self.family() && !it.tentative && !is_virtual(it.address))
            .filter(|it| self.family() == Family::V4 || on_link(it.address) == wants_link_local)
            .collect();
        fitting.sort_by_key(|it| !shares_network(it));
        let source = fitting.first().map(|it| it.address);
        let changed = source != self.source;
        self.source = source;
        changed
    }

    /// What may be claimed now.
    pub fn assess(&mut self, assessment: &Assessment) -> Option<u8> {
        let interface = &self.config.interface;
        let fault = match (&self.link, self.source) {
            (None, _) => Some(format!("the interface {interface} is gone")),
            (Some(link), _) if !link.up => Some(format!("the interface {interface} is down")),
            (_, None) => Some(format!("{interface} has no {} address", self.family().as_str())),
            _ => assessment.fault.clone(),
        };
        if fault.is_some() {
            self.health = fault;
            return None;
        }
        if assessment.weak.is_some() {
            self.health.clone_from(&assessment.weak);
            return Some(PRIORITY_WEAK);
        }
        self.health.clone_from(&assessment.penalty_reason);
        Some(match self.config.priority {
            PRIORITY_OWNER => PRIORITY_OWNER,
            // Also of one that is configured with the least: who is well is not weak.
            priority => priority.saturating_sub(assessment.penalty).max(PRIORITY_WEAK + 1),
        })
    }

    /// When [`Router::upkeep`] or the machine wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let planned = [
            self.handing.as_ref().map(|it| it.until),
            self.draining.as_ref().map(|it| it.until),
            self.sending_on.as_ref().map(|it| it.until),
            self.makes_way_at,
        ];
        let own = [self.machine.deadline(), self.announce_at, self.refresh_at];
        planned.into_iter().chain(own).flatten().min()
    }

    /// Carries out what the machine said. Says whether anything is to be published.
    pub async fn carry_out(&mut self, actions: &[Action], hands: &Hands, now: Instant) -> bool {
        let mut changed = false;
        for action in actions {
            match *action {
                Action::Advertise(priority) => self.advertise(priority, hands),
                Action::Take(reason) => {
                    self.taken = Some(now);
                    self.active = None;
                    // Taken back before those connections were over: it may speak of it again.
                    self.draining = None;
                    self.set_addresses(hands).await;
                    self.refresh_at = Some(now + REFRESH_INTERVAL);
                    self.announce(hands, now);
                    counts::add(&self.counts.became_active);
                    self.changed(reason, hands);
                    changed = true;
                }
                Action::Reassert => {
                    self.taken = Some(now);
                    self.announce(hands, now);
                }
                Action::Release(reason) => {
                    (self.taken, self.announce_at) = (None, None);
                    if self.draining.is_none() {
                        self.forget_addresses(hands).await;
                    }
                    self.close_vmac();
                    self.changed(reason, hands);
                    changed = true;
                }
                Action::Changed(reason) => {
                    self.changed(reason, hands);
                    changed = true;
                }
            }
        }
        changed
    }

    pub fn upkeep_is_due(&self, now: Instant) -> bool {
        [self.refresh_at, self.announce_at].into_iter().flatten().any(|at| at <= now)
    }

    /// Renews the addresses' lifetime and tells the network, where it is time to.
    pub async fn upkeep(&mut self, hands: &Hands, now: Instant) {
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = Some(now + REFRESH_INTERVAL);
            self.set_addresses(hands).await;
        }
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce(hands, now);
        }
    }

    /// Someone has taken an address away: back with it.
    pub async fn restore(&mut self, hands: &Hands, now: Instant) {
        counts::add(&self.counts.address_restored);
        tracing::warn!(vrid = self.config.vrid, "an address was taken away by another and is put back");
        self.set_addresses(hands).await;
        self.announce(hands, now);
    }

    fn advertise(&self, priority: u8, hands: &Hands) {
        let (Some(socket), Some(source)) = (&hands.socket, self.source) else { return };
        let advert = Advert {
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.interval,
            addresses: self.config.addresses.iter().map(|address| address.ip).collect(),
        };
        let group = [self.family().group()];
        let targets = if self.config.peers.is_empty() { &group[..] } else { &self.config.peers[..] };
        for target in targets {
            let payload = advert.encode(source, *target, self.config.checksum);
            let sent = match (self.device(), source) {
                // A peer may be beyond a router, and the way to it is the kernel's affair.
                (Some((index, mac)), IpAddr::V4(source))
                    if self.vmac.is_some() && self.config.peers.is_empty() =>
                {
                    hands.announcer.advertise(index, mac, source, &payload)
                }
                _ => socket.send(source, *target, &payload),
            };
            match sent {
                Ok(()) => counts::add(&self.counts.adverts_sent),
                Err(error) => {
                    counts::add(&self.counts.send_failures);
                    tracing::debug!(vrid = self.config.vrid, %target, %error, "advertisement not sent");
                }
            }
        }
        if priority == PRIORITY_STOPS {
            counts::add(&self.counts.priority_zero_sent);
        }
    }

    /// The interface's index, and the MAC that the addresses are at.
    fn device(&self) -> Option<(u32, Mac)> {
        let link = self.link.as_ref()?;
        let mac = link.mac?;
        // Where it could not be taken, nobody would hear what is sent to it.
        Some((link.index, if self.vmac.is_some() { virtual_mac(self.config.vrid) } else { mac }))
    }

    async fn set_addresses(&mut self, hands: &Hands) {
        self.keep_vmac().await;
        let Some((index, _)) = self.device() else { return };
        for VirtualAddress { ip, prefix } in self.config.addresses.iter().copied() {
            if let Err(error) = hands.netlink.add(index, ip, prefix, Some(ADDRESS_LIFETIME)).await {
                counts::add(&self.counts.address_failures);
                tracing::error!(vrid = self.config.vrid, address = %ip, %error, "the address cannot be set");
            }
        }
    }

    /// Takes the addresses away, also those that an earlier run has left behind.
    pub async fn remove_addresses(&self, hands: &Hands) {
        let Some((index, _)) = self.device() else { return };
        for VirtualAddress { ip, prefix } in self.config.addresses.iter().copied() {
            if let Err(error) = hands.netlink.remove(index, ip, prefix).await {
                counts::add(&self.counts.address_failures);
                tracing::error!(vrid = self.config.vrid, address = %ip, %error, "the address cannot be removed");
            }
        }
    }

    /// Takes the addresses away and renews them no more.
    pub async fn forget_addresses(&mut self, hands: &Hands) {
        self.refresh_at = None;
        self.remove_addresses(hands).await;
    }

    fn announce(&mut self, hands: &Hands, now: Instant) {
        let Some((index, mac)) = self.device() else { return };
        let forwards = self.family() == Family::V6 && forwards_ipv6(&self.config.interface);
        for address in &self.config.addresses {
            match hands.announcer.announce(index, mac, address.ip, forwards) {
                Ok(()) => counts::add(&self.counts.announcements),
                Err(error) => tracing::debug!(address = %address.ip, %error, "announcement not sent"),
            }
        }
        let age = self.taken.map_or(Duration::MAX, |taken| now.saturating_duration_since(taken));
        let step = ANNOUNCE_STEPS.iter().find(|(until, _)| age < *until);
        self.announce_at = Some(now + step.map_or(ANNOUNCE_REFRESH, |(_, step)| *step));
    }

    fn changed(&mut self, reason: Reason, hands: &Hands) {
        let state = self.machine.state();
        (self.reason, self.since) = (reason, SystemTime::now());
        counts::add(&self.counts.transitions);
        let why = match (&self.health, reason) {
            (Some(health), Reason::ClaimLost) => health.clone(),
            _ => reason.as_str().to_owned(),
        };
        let addresses: Vec<String> = self.config.addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(",");
        tracing::info!(
            vrid = self.config.vrid,
            family = self.family().as_str(),
            interface = self.config.interface,
            addresses,
            state = state.as_str(),
            priority = self.machine.claim(),
            "virtual router: {why}"
        );
        hands.notifier.tell(Notice {
            state: state.as_str(),
            reason: why,
            vrid: self.config.vrid,
            family: self.family().as_str(),
            interface: self.config.interface.clone(),
            addresses,
            priority: self.machine.claim().unwrap_or(0),
        });
    }

    pub fn status(&self, now: Instant) -> RouterStatus {
        RouterStatus {
            vrid: self.config.vrid,
            family: self.family().as_str(),
            interface: self.config.interface.clone(),
            addresses: self.config.addresses.iter().map(ToString::to_string).collect(),
            state: self.machine.state().as_str(),
            reason: self.reason.as_str(),
            since: self.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            priority: self.config.priority,
            effective_priority: self.machine.claim(),
            health: self.health.clone(),
            source: self.source.map(|source| source.to_string()),
            active: if self.is_active() { self.source } else { self.active }.map(|it| it.to_string()),
            successor: self.successor,
            confirmed_peers: self.peers.values().filter(|peer| peer.is_confirmed()).count(),
            stranger: self.strangers.present(now),
            forwarding: self.sending_on.is_some(),
            draining: self.draining.is_some(),
        }
    }
}

fn in_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let cut = |bits: u128, all: u32| bits.checked_shr(all.saturating_sub(prefix.into())).unwrap_or(0);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            cut(one.to_bits().into(), 32) == cut(other.to_bits().into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => cut(one.to_bits(), 128) == cut(other.to_bits(), 128),
        _ => false,
    }
}

/// What the host says of itself to its neighbours must be the same in every advertisement.
fn forwards_ipv6(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}
