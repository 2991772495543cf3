//! Whether a unicast peer is believed: its advertisements are held against what it says by the mesh.

use std::net::IpAddr;
use std::time::Instant;

use super::{Driver, planned};
use crate::counts::Discard;
use crate::machine::Heard;
use crate::machine::confirm::{At, Due, Outcome, Peer, Word};
use crate::mesh::{Seat, What};
use crate::packet::Advert;
use crate::router::Router;

/// Where the mesh finds the router, and the peers whose word it is to bring. This host itself may be among them where
/// it has no address yet; the mesh passes over what has become its own.
pub(super) fn seat(router: &mut Router, port: u16) -> Seat {
    let scope = router.link.as_ref().map_or(0, |link| link.index);
    let config = &router.config;
    let peers: Vec<IpAddr> =
        config.peers.iter().copied().filter(|peer| Some(*peer) != router.source).collect();
    router.peers = peers.iter().map(|peer| (*peer, Peer::new(config.peers_proven))).collect();
    Seat {
        interface: config.interface.clone(),
        vrid: config.vrid,
        family: router.family(),
        peers: peers.into_iter().map(|peer| planned::mesh_address(peer, port, scope)).collect(),
    }
}

fn at_now(router: &Router) -> At {
    At { now: Instant::now(), patience: router.machine.patience(), gives_way: router.is_active() }
}

impl Driver {
    /// An advertisement has passed every check but who sent it.
    pub(super) async fn heard(&mut self, at: usize, advert: &Advert, source: IpAddr) {
        let router = &mut self.routers[at];
        let Some(own) = router.source else { return };
        let heard = Heard { priority: advert.priority, interval: advert.interval, source };
        let moment = at_now(router);
        if router.machine.heeds(&heard, own)
            && let Some(peer) = router.peers.get_mut(&source)
        {
            let verdict = peer.heard(heard, moment);
            if verdict.alone {
                tracing::warn!(
                    vrid = router.config.vrid, peer = %source, priority = heard.priority,
                    "the mesh is silent of a peer for too long: its advertisements are believed without"
                );
            }
            if let (Some(number), Some(mesh)) = (verdict.ask, &self.mesh) {
                mesh.ask(at, source, number);
            }
            if verdict.refused {
                self.refuse(at, source);
            }
            if !verdict.believed {
                return;
            }
        }
        self.heed(at, heard, own).await;
    }

    /// What a peer says of itself confirms an advertisement that is held, or denies it.
    pub(super) async fn on_word(&mut self, at: usize, source: IpAddr, what: What) {
        let router = &mut self.routers[at];
        let is_confirmed = |router: &Router| router.peers.get(&source).is_some_and(Peer::is_confirmed);
        let was_confirmed = is_confirmed(router);
        let outcome = router.learn(source, &what);
        let changed = was_confirmed != is_confirmed(router);
        let own = router.source;
        if let (Some(number), Some(mesh)) = (outcome.ask, &self.mesh) {
            mesh.ask(at, source, number);
        }
        if changed {
            self.publish();
        }
        for _ in 0..outcome.refused {
            self.refuse(at, source);
        }
        if let (Some(heard), Some(own)) = (outcome.believed, own) {
            self.heed(at, heard, own).await;
        }
    }

    /// An advertisement that its sender does not confirm.
    fn refuse(&self, at: usize, source: IpAddr) {
        tracing::debug!(vrid = self.routers[at].config.vrid, %source, "an advertisement is not confirmed");
        self.discard(Discard::Unconfirmed, &self.routers[at].config.interface);
    }

    /// Asks the peers whose word is old, and reaches those anew that do not answer. To be called once in each turn,
    /// after what came was read.
    pub(super) fn look_at_peers(&mut self, at: usize) {
        let router = &mut self.routers[at];
        let (moment, mut changed) = (at_now(router), false);
        for (address, peer) in &mut router.peers {
            let was_confirmed = peer.is_confirmed();
            match (peer.tick(moment), &mut self.mesh) {
                (Some(Due::Ask(number)), Some(mesh)) => mesh.ask(at, *address, number),
                (Some(Due::Reach), Some(mesh)) => mesh.reach(at, *address),
                (None, _) | (_, None) => {}
            }
            changed |= was_confirmed != peer.is_confirmed();
        }
        if changed {
            self.publish();
        }
    }

    /// Tells the peers that watch this one how it is.
    pub(super) fn tell_state(&mut self, at: usize) {
        if let Some(mesh) = &mut self.mesh {
            mesh.tell_state(at, self.routers[at].word());
        }
    }

    /// Nobody confirms anything any more.
    pub(super) fn lose_mesh(&mut self) {
        self.mesh = None;
        let now = Instant::now();
        self.routers.iter_mut().flat_map(|router| router.peers.values_mut()).for_each(|peer| peer.lost(now));
    }
}

impl Router {
    /// What it says of itself to its peers.
    pub(super) fn word(&self) -> Word {
        Word {
            active: self.is_active(),
            priority: self.machine.claim().unwrap_or_default(),
            interval: self.config.interval,
        }
    }

    /// Keeps what the mesh has brought of a peer, also while this host has no address to send from: the mesh does not
    /// bring it again.
    fn learn(&mut self, source: IpAddr, what: &What) -> Outcome {
        let moment = at_now(self);
        let nothing = Outcome::default();
        let Some(peer) = self.peers.get_mut(&source) else { return nothing };
        match what {
            What::Connected { .. } => Outcome { ask: Some(peer.connected(moment.now)), ..nothing },
            What::Said(said) => {
                let Some((word, answers)) = said.word() else { return nothing };
                self.strangers.forget(source);
                peer.said(word, answers, moment)
            }
            What::Gone { .. } => {
                peer.lost(moment.now);
                nothing
            }
            What::Unreachable => nothing,
        }
    }

    /// When [`Driver::look_at_peers`] is to be called at the latest.
    pub(super) fn peers_deadline(&self) -> Option<Instant> {
        let patience = self.machine.patience();
        self.peers.values().filter_map(|peer| peer.deadline(patience)).min()
    }
}

#[cfg(test)]
mod tests;
