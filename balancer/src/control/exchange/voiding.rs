//! What requests have invalidated of stored answers here, told to other balancers; and what they tell.

use std::sync::atomic::Ordering::Relaxed;

use skep_gateway::exchange::voids::{Frame, Void};

use super::{Exchange, in_force};
use crate::core::cache::purges::{Change, Origin};

/// Most frames that a balancer is told at once; the rest waits for the next look.
const FRAMES_MAX: usize = 8;
/// Most that is heard from one look to the next, of all others; what is more is lost. Groups are held against all that is
/// stored, and so have less.
const HEARD_MAX: usize = 1024;
const GROUPS_HEARD_MAX: usize = 64;

/// What was heard since the last look.
#[derive(Debug, Default)]
pub(super) struct Heard {
    urls: usize,
    groups: usize,
}

impl Exchange {
    /// Tells it once: who does not hear it serves what is stored for as long as it may be.
    pub(super) async fn tell_voids(&mut self) {
        self.heard = Heard::default();
        let cache = &self.shared.cache;
        let mut waiting = cache.untold.take();
        for _ in 0..FRAMES_MAX {
            let Some(mut frame) = Frame::next(&mut waiting) else { break };
            frame.from = self.me;
            for (id, peer) in &self.peers {
                frame.to = *id;
                self.gossip.say(peer.address, &frame.encode()).await;
                cache.untold.told.fetch_add(frame.voids.len() as u64, Relaxed);
            }
        }
        cache.untold.put_back(waiting);
    }

    /// Of what is for another run, or of nobody whom gossip shows, nothing is believed.
    pub(super) fn hear_voids(&mut self, frame: &Frame) {
        if frame.to != self.me || !self.peers.contains_key(&frame.from) {
            return;
        }
        let cache = &self.shared.cache;
        let (mut rules, heard) = (Vec::new(), &mut self.heard);
        // Of a service that is not in force here nothing is stored.
        let parts = in_force(&self.shared);
        let is_there = |service| parts.as_ref().is_some_and(|it| it.service_marks.contains(&service));
        for void in &frame.voids {
            match void {
                Void::Url(key) if heard.urls < HEARD_MAX => {
                    heard.urls += 1;
                    cache.invalidate(key);
                }
                Void::Group { service, secure, group, host }
                    if heard.groups < GROUPS_HEARD_MAX && is_there(*service) =>
                {
                    heard.groups += 1;
                    let (service, secure, host) = (*service, *secure, host.clone());
                    rules.push(Change::Group(*group, Origin { service, secure, host }));
                }
                Void::Url(_) | Void::Group { .. } => {
                    cache.untold.lost.fetch_add(1, Relaxed);
                    continue;
                }
            }
            cache.untold.heard.fetch_add(1, Relaxed);
        }
        cache.purges.add_all(rules);
    }
}
