//! Which advertisements of unicast peers are believed. Pure.
//!
//! VRRP has no authentication (RFC 9568, 9), and who can send from a peer's address can say anything in its
//! name. The mesh is mutual TLS: of a peer that is on a connection at this moment it knows better.
//!
//! - Who follows this router is a Backup: it is not the Active that its packets claim to be.
//! - While the Active that this one follows is heard, nobody else is the Active.
//! - That the Active stops is believed once the mesh has it, too: a hand-over was prepared, or the connection ends
//!   in order.
//!
//! A peer that is not on a connection, as a keepalived is not, is believed by its address.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::packet::PRIORITY_STOPS;

/// So many intervals without an advertisement, and the Active may be another: its own timers say that later.
const SILENT_INTERVALS: u32 = 2;
/// How long what the one way said is remembered for the other.
const MEMORY: Duration = Duration::from_secs(2);

/// What the mesh knows of who sent an advertisement, and of the Active.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connections {
    /// The sender follows this router.
    pub follows: bool,
    /// Whom this router follows, over a connection that stands.
    pub leader: Option<IpAddr>,
}

/// An advertisement that has passed every check of its own.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    pub source: IpAddr,
    pub priority: u8,
    pub interval: Duration,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Believed,
    /// The mesh knows better.
    Unconfirmed,
    /// The Active stops, it says; the mesh is to say so, too.
    Waits,
}

/// What one router remembers of it.
#[derive(Debug, Default)]
pub struct Confirm {
    /// The last advertisement of an Active that was believed, and when it came.
    heard: Option<(Said, Instant)>,
    /// When the Active was about to hand over.
    prepared: Option<Instant>,
    /// Who said by a packet that it stops, and when.
    stops: Option<(IpAddr, Instant)>,
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= MEMORY
}

impl Confirm {
    pub fn judge(&mut self, said: Said, is_active: bool, mesh: Connections, now: Instant) -> Verdict {
        if is_active && mesh.follows {
            return Verdict::Unconfirmed;
        }
        match mesh.leader.filter(|_| !is_active) {
            Some(leader) if leader != said.source && self.is_heard(leader, now) => {
                return Verdict::Unconfirmed;
            }
            Some(leader)
                if leader == said.source
                    && said.priority == PRIORITY_STOPS
                    && !self.prepared.is_some_and(|at| is_recent(at, now)) =>
            {
                self.stops = Some((leader, now));
                return Verdict::Waits;
            }
            _ => {}
        }
        self.heard = (said.priority != PRIORITY_STOPS).then_some((said, now));
        self.stops = None;
        Verdict::Believed
    }

    fn is_heard(&self, leader: IpAddr, now: Instant) -> bool {
        self.heard.is_some_and(|(said, at)| {
            said.source == leader
                && now.saturating_duration_since(at) <= said.interval.saturating_mul(SILENT_INTERVALS)
        })
    }

    /// The Active is about to hand over, as the mesh says.
    pub fn prepares(&mut self, now: Instant) {
        self.prepared = Some(now);
    }

    /// The connection to the Active has ended in order. Whether that bears out what it said by a packet: it stops.
    pub fn ended(&mut self, leader: IpAddr, now: Instant) -> bool {
        self.prepared = None;
        self.stops.take().is_some_and(|(source, at)| source == leader && is_recent(at, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn said(last: u8, priority: u8) -> Said {
        Said { source: peer(last), priority, interval: INTERVAL }
    }

    #[test]
    fn who_follows_is_no_active_and_who_does_not_may_be_one() {
        let (mut confirm, now) = (Confirm::default(), Instant::now());
        let follows = Connections { follows: true, leader: None };
        for priority in [PRIORITY_STOPS, 1, 255] {
            assert_eq!(confirm.judge(said(2, priority), true, follows, now), Verdict::Unconfirmed);
            assert_eq!(
                confirm.judge(said(3, priority), true, Connections::default(), now),
                Verdict::Believed
            );
        }
    }

    #[test]
    fn while_the_active_is_heard_nobody_else_is_and_once_it_is_silent_another_may_be() {
        let (mut confirm, now) = (Confirm::default(), Instant::now());
        let follows = Connections { follows: false, leader: Some(peer(1)) };
        assert_eq!(confirm.judge(said(1, 200), false, follows, now), Verdict::Believed);
        assert_eq!(confirm.judge(said(2, 255), false, follows, now + INTERVAL), Verdict::Unconfirmed);
        // It hangs, and its connection stands: another has taken over.
        let later = now + INTERVAL * SILENT_INTERVALS + Duration::from_millis(1);
        assert_eq!(confirm.judge(said(2, 150), false, follows, later), Verdict::Believed);
        // What was said of another does not make the one that is followed heard.
        assert_eq!(confirm.judge(said(3, 255), false, follows, later), Verdict::Believed);
    }

    #[test]
    fn that_the_active_stops_is_believed_once_the_mesh_has_it() {
        let (mut confirm, now) = (Confirm::default(), Instant::now());
        let follows = Connections { follows: false, leader: Some(peer(1)) };
        assert_eq!(confirm.judge(said(1, PRIORITY_STOPS), false, follows, now), Verdict::Waits);
        assert!(!confirm.ended(peer(2), now), "another's connection");
        assert_eq!(confirm.judge(said(1, PRIORITY_STOPS), false, follows, now), Verdict::Waits);
        assert!(confirm.ended(peer(1), now + INTERVAL));
        assert!(!confirm.ended(peer(1), now + INTERVAL), "once");
        // It goes on after all.
        confirm.judge(said(1, PRIORITY_STOPS), false, follows, now);
        assert_eq!(confirm.judge(said(1, 200), false, follows, now), Verdict::Believed);
        assert!(!confirm.ended(peer(1), now));
        // Long ago.
        confirm.judge(said(1, PRIORITY_STOPS), false, follows, now);
        assert!(!confirm.ended(peer(1), now + MEMORY * 2));
        // Said by the mesh first.
        confirm.prepares(now);
        assert_eq!(confirm.judge(said(1, PRIORITY_STOPS), false, follows, now + INTERVAL), Verdict::Believed);
        assert_eq!(confirm.judge(said(1, PRIORITY_STOPS), false, follows, now + MEMORY * 2), Verdict::Waits);
        assert_eq!(
            confirm.judge(said(1, PRIORITY_STOPS), false, Connections::default(), now),
            Verdict::Believed,
            "who is on no connection is believed by its address"
        );
    }
}
