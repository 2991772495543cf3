//! What the driver does with the mesh's word: designate, follow, hand over.
//!
//! A hand-over from A to B, where B is the one that A has named as the next:
//!
//! 1. A: `prepare`. It goes on as Active.
//! 2. B sends on what belongs to A, and says `ready`. Nothing comes to it yet.
//! 3. A falls quiet about the addresses, which it keeps, and sends priority 0.
//! 4. B, as the designated one, takes over at once: advertisement, addresses, gratuitous ARP.
//! 5. A's connections end; A takes the addresses away and says `bye`; B stops sending on.
//!
//! At every step a silence of the other ends in what the RFC says.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use super::Driver;
use crate::Handover;
use crate::counts;
use crate::forwarding::{Forwarding, Quiet, has_open_connections};
use crate::handing::{Draining, Handing, SendingOn, Then};
use crate::machine::{Action, PRIORITY_WEAK, State};
use crate::mesh::{Event, Message, Speaker, Target, What};
use crate::router::Router;

/// Time for the next to make itself ready.
const READY_TIMEOUT: Duration = Duration::from_millis(400);
/// How long another has to be able to do better until a weak one hands over to it: less than the shortest down interval
/// after which that one would take the addresses by itself.
const BETTER_FOR: Duration = Duration::from_millis(200);
/// The one before may take this much longer to drain than it said, until nothing is sent on.
const FORWARDING_SLACK: Duration = Duration::from_secs(5);
/// Longest time that is sent on for another, whatever it says.
const FORWARDING_MAX: Duration = Duration::from_secs(3600);
/// How long one who gives the addresses back keeps silent about connections of the next one's: until that one has told
/// the network that it has them.
const HELD_BACK: Duration = Duration::from_secs(1);
/// How long a closed connection's last bytes are waited for.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);
const LAST_BYTES_INTERVAL: Duration = Duration::from_millis(20);

/// Where another's mesh listens.
pub fn mesh_address(ip: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, port, 0, scope).into(),
        _ => SocketAddr::new(ip, port),
    }
}

fn addresses(router: &Router) -> Vec<IpAddr> {
    router.config.addresses.iter().map(|address| address.ip).collect()
}

impl Driver {
    /// Gives up what the router has, by a hand-over where there is someone to hand over to.
    pub(super) async fn give_up(&mut self, at: usize, then: Then) {
        if let Some(handing) = &mut self.routers[at].handing {
            // The last word counts.
            handing.then = then;
            return;
        }
        let is_open = self.routers[at].is_active() && self.shortcuts(at);
        let able = self.mesh.as_ref().and_then(|mesh| mesh.next_of(at));
        if is_open && self.mesh.is_some() && able.is_none() && then == Then::Claim(Some(PRIORITY_WEAK)) {
            return self.stay(at).await;
        }
        let carries_over = self.handover != Handover::Off && !self.routers[at].config.vmac;
        let heir = able.or_else(|| self.mesh.as_ref().and_then(|mesh| mesh.any_of(at)));
        let next = heir.filter(|_| is_open && carries_over);
        let prepare = Message::Prepare { seconds: self.drain.as_secs() };
        match (next, &self.mesh) {
            (Some(next), Some(mesh)) if mesh.tell(at, next, prepare) => {
                let until = Instant::now() + READY_TIMEOUT;
                self.routers[at].handing = Some(Handing { next, then, until });
            }
            // That one has yet to read what it was told before.
            (Some(_), Some(_)) if then == Then::Claim(Some(PRIORITY_WEAK)) => self.stay(at).await,
            _ => self.apply(at, then).await,
        }
    }

    /// A weak one stays Active where no member of the mesh could do better. Where no other is in the mesh, it asks once
    /// whether somebody else is there.
    async fn stay(&mut self, at: usize) {
        let (mut actions, now) = (Vec::new(), Instant::now());
        let is_alone = self.mesh.as_ref().is_none_or(|mesh| mesh.any_of(at).is_none());
        let router = &mut self.routers[at];
        if router.machine.stay_weak(is_alone, now, &mut actions) {
            tracing::info!(vrid = router.config.vrid, "virtual router: weak, and no other could do better");
            self.carry_out(at, &mut actions, now).await;
            self.publish();
        }
    }

    /// Whether anything but the RFC's timers may decide: not where others are in the group.
    pub(super) fn shortcuts(&self, at: usize) -> bool {
        !self.routers[at].strangers.present(Instant::now())
    }

    async fn apply(&mut self, at: usize, then: Then) {
        let (mut actions, now) = (Vec::new(), Instant::now());
        match then {
            Then::Claim(claim) => {
                let machine = &mut self.routers[at].machine;
                machine.set_claim(claim, now, &mut actions);
                if claim == Some(PRIORITY_WEAK) {
                    machine.make_way(now, &mut actions);
                }
            }
            Then::Stop => self.routers[at].machine.stop(&mut actions),
        }
        self.carry_out(at, &mut actions, now).await;
    }

    /// The next has not said that it is ready: it hangs, or is gone.
    async fn go_without(&mut self, at: usize) {
        match &self.routers[at].handing {
            // It would do no better.
            Some(handing) if handing.then == Then::Claim(Some(PRIORITY_WEAK)) => {
                if let Some(mesh) = &mut self.mesh {
                    mesh.pass_over(at, handing.next);
                }
                self.routers[at].handing = None;
                self.stay(at).await;
            }
            _ => self.go(at, false).await,
        }
    }

    /// The next is ready.
    async fn go(&mut self, at: usize, forwarding: bool) {
        let Some(handing) = self.routers[at].handing.take() else { return };
        let router = &mut self.routers[at];
        let next = self.mesh.as_ref().and_then(|mesh| mesh.address_of(at, handing.next));
        if let Some(sending) = router.sending_on.take_if(|sending| Some(sending.to) == next) {
            // It gets the addresses back, and would send the same here again. Until it has them, clients send again what
            // comes here of its own: an answer would end that.
            let until = Instant::now() + HELD_BACK;
            let held = Forwarding::hold_back(self.handover, &addresses(router), sending.to);
            router.sending_on =
                held.ok().map(|held| SendingOn { _forwarding: held, until, held_back: true, to: sending.to });
        }
        if let (true, Some(own)) = (forwarding && router.is_active(), router.source) {
            match Quiet::start(&addresses(router), own) {
                Ok(quiet) => {
                    let until = Instant::now() + self.drain + READY_TIMEOUT;
                    router.draining = Some(Draining { _quiet: quiet, next: handing.next, until });
                    counts::add(&router.counts.handovers);
                }
                Err(error) => {
                    tracing::warn!(vrid = router.config.vrid, %error, "connections will be cut: no rule can be set")
                }
            }
        }
        self.apply(at, handing.then).await;
    }

    /// Claims what health says; a claim that is lost is handed over.
    pub(super) async fn set_claim(&mut self, at: usize, claim: Option<u8>) {
        let gives_up = claim.is_none_or(|claim| claim == PRIORITY_WEAK);
        let link_is_up = self.routers[at].link.as_ref().is_some_and(|link| link.up);
        let router = &self.routers[at];
        let is_news = router.machine.claim() != claim || router.handing.is_some();
        if gives_up && link_is_up && router.is_active() && is_news {
            return self.give_up(at, Then::Claim(claim)).await;
        }
        if self.routers[at].handing.as_ref().is_some_and(|handing| handing.then != Then::Stop) {
            // Well again before the next was ready.
            self.routers[at].handing = None;
        }
        let (mut actions, now) = (Vec::new(), Instant::now());
        self.routers[at].machine.set_claim(claim, now, &mut actions);
        self.carry_out(at, &mut actions, now).await;
    }

    /// Something came by the mesh.
    pub(super) async fn on_mesh(&mut self, event: Event) {
        let Some(mesh) = &mut self.mesh else { return };
        mesh.note(&event);
        let (at, now) = (event.router, Instant::now());
        if let Speaker::Watched(peer) = event.from {
            return self.on_word(at, peer, event.what).await;
        }
        let mut actions: Vec<Action> = Vec::new();
        let router = &mut self.routers[at];
        match (event.from, event.what) {
            (Speaker::Watcher(id, _), What::Said(Message::Ask { number })) => {
                mesh.answer(at, id, router.word(), number)
            }
            (_, What::Connected { address, .. }) => router.strangers.forget(address),
            (Speaker::Leader(_, address), What::Unreachable) => router.strangers.missed(address, now),
            (Speaker::Leader(dialer, address), What::Said(Message::Next { you: true })) => {
                router.named_by[dialer] = Some(address);
            }
            (Speaker::Leader(dialer, _), What::Said(Message::Next { you: false })) => {
                router.named_by[dialer] = None;
            }
            // One that has stopped meanwhile, or is in a fault, takes nothing over, and does not say that it would.
            (Speaker::Leader(_, address), What::Said(Message::Prepare { seconds }))
                if router.machine.state() == State::Backup =>
            {
                let forwarding = self.send_on(at, address, seconds);
                if let Some(mesh) = &self.mesh {
                    mesh.tell_leader(at, address, Message::Ready { forwarding });
                }
            }
            (Speaker::Leader(dialer, address), What::Gone { orderly }) => {
                router.sending_on.take_if(|sending| sending.to == address);
                if !orderly && router.active == Some(address) {
                    counts::add(&router.counts.peer_losses);
                    router.machine.set_designated(router.is_named_by(address, now));
                    router.machine.active_lost(now, &mut actions);
                }
                // What others said of the next stands.
                router.named_by[dialer] = None;
            }
            (Speaker::Follower(id), What::Said(Message::Ready { forwarding }))
                if router.handing.as_ref().is_some_and(|handing| handing.next == id) =>
            {
                self.go(at, forwarding).await;
            }
            (Speaker::Follower(id), What::Gone { .. }) => {
                let handing = router.handing.as_ref().is_some_and(|handing| handing.next == id);
                let draining = router.draining.as_ref().is_some_and(|draining| draining.next == id);
                if handing {
                    self.go_without(at).await;
                }
                if draining {
                    // Nobody sends on to here any more.
                    self.end_draining(at).await;
                }
            }
            _ => {}
        }
        self.carry_out(at, &mut actions, now).await;
        self.publish();
    }

    fn send_on(&mut self, at: usize, before: IpAddr, seconds: u64) -> bool {
        let (how, router) = (self.handover, &mut self.routers[at]);
        let can = how != Handover::Off && router.config.peers.is_empty();
        let Some(link) = router.link.as_ref().filter(|_| can) else { return false };
        match Forwarding::start(how, &addresses(router), before, link.index) {
            Ok(forwarding) => {
                let length = (Duration::from_secs(seconds) + FORWARDING_SLACK).min(FORWARDING_MAX);
                let until = Instant::now() + length;
                router.sending_on =
                    Some(SendingOn { _forwarding: forwarding, to: before, held_back: false, until });
                counts::add(&router.counts.handovers_taken);
                true
            }
            Err(error) => {
                tracing::warn!(vrid = router.config.vrid, %error, "connections will be cut: no rule can be set");
                false
            }
        }
    }

    /// What is due, and what is to be said because something else has changed. Once in each turn.
    pub(super) async fn keep_mesh(&mut self) {
        let now = Instant::now();
        for at in 0..self.routers.len() {
            if self.routers[at].handing.as_ref().is_some_and(|handing| handing.until <= now) {
                self.go_without(at).await;
            }
            let router = &mut self.routers[at];
            if router.sending_on.as_ref().is_some_and(|sending| sending.until <= now) {
                router.sending_on = None;
            }
            if router.draining.as_ref().is_some_and(|draining| draining.until <= now) {
                self.end_draining(at).await;
            }
            self.look_at_peers(at);
            self.tell_state(at);
            let before = self.routers[at].successor;
            self.follow_and_name(at);
            self.make_way(at).await;
            if self.routers[at].successor != before {
                self.publish();
            }
        }
    }

    /// A weak one hands over to whoever has come that could do better, once that has lasted: all may be well again.
    async fn make_way(&mut self, at: usize) {
        let router = &self.routers[at];
        let is_weak = router.is_active() && router.machine.claim() == Some(PRIORITY_WEAK);
        let has_better = || self.mesh.as_ref().is_some_and(|mesh| mesh.next_of(at).is_some());
        if !is_weak || router.handing.is_some() || !self.shortcuts(at) || !has_better() {
            self.routers[at].makes_way_at = None;
            return;
        }
        let now = Instant::now();
        if *self.routers[at].makes_way_at.get_or_insert(now + BETTER_FOR) <= now {
            self.routers[at].makes_way_at = None;
            self.give_up(at, Then::Claim(Some(PRIORITY_WEAK))).await;
        }
    }

    fn follow_and_name(&mut self, at: usize) {
        let open = self.shortcuts(at);
        let router = &mut self.routers[at];
        let Some(mesh) = &mut self.mesh else { return };
        // Who stops, or is in a fault, still sends on, and takes nothing.
        let claim = router.machine.claim().filter(|_| router.machine.state() != State::Initialize);
        let priority = claim.unwrap_or_default();
        let scope = router.link.as_ref().map_or(0, |link| link.index);
        let active = router.active.filter(|_| router.machine.state() == State::Backup);
        // Who is sent on to is followed on beside it: its end of the connection is the end of that.
        let before = router.sending_on.as_ref().map(|sending| sending.to).filter(|it| Some(*it) != active);
        let port = self.mesh_port;
        let target = |address| Target { address: mesh_address(address, port, scope), priority };
        mesh.set_targets(at, [active, before].map(|it| it.map(target)));
        if router.is_active() {
            // Also while it hands over: the next one is to act on priority 0.
            mesh.name_next(at, open);
            router.successor = open && mesh.next_of(at).is_some();
        } else {
            let keep = router.draining.as_ref().map(|draining| draining.next);
            mesh.dismiss(at, keep);
            router.successor = active.is_some_and(|it| router.is_named_by(it, Instant::now()));
        }
    }

    /// The connections that were left here are over, or their time is.
    pub(super) async fn end_draining(&mut self, at: usize) {
        let Some(draining) = self.routers[at].draining.take() else { return };
        if !self.routers[at].is_active() {
            let hands = self.hands_of(at);
            self.routers[at].forget_addresses(&hands).await;
        }
        // Only now may others speak of the address from here: it is gone.
        drop(draining);
        self.publish();
    }

    /// Before the process ends: what is left of closed connections, then the addresses.
    pub(super) async fn end_all_draining(&mut self) {
        let all: Vec<IpAddr> =
            self.routers.iter().filter(|router| router.draining.is_some()).flat_map(addresses).collect();
        let last_bytes = async {
            while has_open_connections(&all) {
                tokio::time::sleep(LAST_BYTES_INTERVAL).await;
            }
        };
        if !all.is_empty() && tokio::time::timeout(LAST_BYTES_TIMEOUT, last_bytes).await.is_err() {
            tracing::debug!("connections are still open at the address that was handed over");
        }
        for at in 0..self.routers.len() {
            self.end_draining(at).await;
            self.follow_and_name(at);
        }
    }
}
