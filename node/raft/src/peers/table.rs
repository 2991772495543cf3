//! Which connection leads to which peer, and who dials when.
//!
//! Each peer has a slot. The first who needs a connection starts a dial; the others wait for it.
//! After a failed dial the slot is closed to dials for a while that doubles; a connection that the
//! peer dials opens it at once. Where both dial at the same moment, both sides keep the connection
//! that the smaller id dialed and retire the other. Where the one before has stood for longer than a dial takes,
//! it was no such moment: the peer dials because it uses that one no more, and the new one takes its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_base::id::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Connection;
use super::hello::{CONNECT_TIMEOUT, DialError, HELLO_TIMEOUT};

/// The wait after the first failed dial; it doubles with each further one.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// The longest wait between two dials.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A connection that has stood for so long was not made while the peer dialed: no dial takes as long.
pub(super) const COLLISION_MAX: Duration = CONNECT_TIMEOUT.saturating_add(HELLO_TIMEOUT);

/// Where this many peers have slots, those without a connection are forgotten.
const SLOTS_MAX: usize = 1024;

/// What is known of the way to one peer.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub current: Option<Arc<Connection>>,
    pub dialing: bool,
    /// Consecutive.
    pub failures: u32,
    /// Not before then, because of this.
    pub backoff: Option<(Instant, DialError)>,
    /// The newest protocol that both speak, by the hello of the current connection.
    protocol: u16,
    /// Whether there ever was a connection.
    known: bool,
}

impl Slot {
    pub fn usable(&self) -> Option<&Arc<Connection>> {
        self.current.as_ref().filter(|connection| connection.is_usable())
    }
}

#[derive(Debug)]
pub(super) struct Table {
    local: NodeId,
    collision_max: Duration,
    slots: Mutex<HashMap<NodeId, watch::Sender<Slot>>>,
}

/// How long the wait is after so many failures in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

impl Table {
    pub fn new(local: NodeId, collision_max: Duration) -> Self {
        Self { local, collision_max, slots: Mutex::default() }
    }

    /// The slot of a peer.
    pub fn slot(&self, peer: NodeId) -> watch::Sender<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX && !slots.contains_key(&peer) {
            slots.retain(|_, slot| {
                slot.receiver_count() > 0 || {
                    let slot = slot.borrow();
                    slot.dialing || slot.current.is_some()
                }
            });
        }
        slots.entry(peer).or_default().clone()
    }

    /// All connections that calls use.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter_map(|slot| slot.borrow().current.clone()).collect()
    }

    /// Whether a dial may start now; if so, it is the caller's to do.
    pub fn claim_dial(&self, slot: &watch::Sender<Slot>) -> bool {
        slot.send_if_modified(|slot| {
            let wait = slot.backoff.as_ref().is_some_and(|(until, _)| *until > Instant::now());
            if slot.usable().is_some() || slot.dialing || wait {
                return false;
            }
            slot.dialing = true;
            true
        })
    }

    /// A dial came to nothing.
    pub fn dial_failed(&self, peer: NodeId, error: DialError) {
        self.slot(peer).send_modify(|slot| {
            slot.dialing = false;
            if slot.usable().is_none() {
                slot.failures = slot.failures.saturating_add(1);
                slot.backoff = Some((Instant::now() + backoff(slot.failures), error));
            }
        });
    }

    /// The newest protocol that a peer and this node speak, where they have a connection.
    pub fn protocol_of(&self, peer: NodeId) -> Option<u16> {
        let slot = self.slot(peer);
        let slot = slot.borrow();
        slot.usable().map(|_| slot.protocol)
    }

    /// A connection is there, on which both speak this protocol at most. Answers whether it is one after another.
    pub fn register(&self, new: &Arc<Connection>, protocol: u16) -> bool {
        let mut again = false;
        let mut displaced = None;
        let mut fresh_process = false;
        self.slot(new.peer).send_modify(|slot| {
            again = std::mem::replace(&mut slot.known, true);
            slot.failures = 0;
            slot.backoff = None;
            slot.dialing &= !new.dialed;
            let old = slot.usable().cloned();
            fresh_process = old.as_ref().is_some_and(|old| old.peer_session != new.peer_session);
            match old {
                Some(old) if !fresh_process && !self.prefers(new, &old) => displaced = Some(new.clone()),
                old => {
                    (slot.current, slot.protocol) = (Some(new.clone()), protocol);
                    displaced = old;
                }
            }
        });
        match displaced {
            // The process at its other end is gone: nothing more comes from there.
            Some(old) if fresh_process => old.close("the peer was started anew"),
            Some(old) => old.retire(),
            None => {}
        }
        again
    }

    fn prefers(&self, new: &Connection, old: &Connection) -> bool {
        // The same side dialed again: it knows why. So does a peer that dials long after.
        let peer_knows_why = !new.dialed && old.age() >= self.collision_max;
        new.dialed == old.dialed || new.dialed == (self.local < new.peer) || peer_knows_why
    }

    /// A connection has ended.
    pub fn forget(&self, connection: &Arc<Connection>) {
        self.slot(connection.peer).send_if_modified(|slot| {
            let current = slot.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection));
            if current {
                slot.current = None;
            }
            current
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: NodeId = NodeId(1);
    const LARGE: NodeId = NodeId(2);

    fn connection(peer: NodeId, session: u64, dialed: bool) -> Arc<Connection> {
        Arc::new(Connection::new(peer, session, dialed, None, Arc::default()))
    }

    fn new_table(local: NodeId) -> Table {
        Table::new(local, COLLISION_MAX)
    }

    fn current(table: &Table, peer: NodeId) -> Option<Arc<Connection>> {
        table.slot(peer).borrow().current.clone()
    }

    #[test]
    fn both_sides_keep_the_connection_that_the_smaller_id_dialed() {
        for dialed_first in [true, false] {
            let (at_small, at_large) = (new_table(SMALL), new_table(LARGE));
            let mut order = [true, false];
            if dialed_first {
                order.reverse();
            }
            for by_small in order {
                at_small.register(&connection(LARGE, 7, by_small), 6);
                at_large.register(&connection(SMALL, 8, !by_small), 6);
            }
            assert!(current(&at_small, LARGE).unwrap().dialed);
            assert!(!current(&at_large, SMALL).unwrap().dialed);
        }
    }

    #[test]
    fn a_peer_that_dials_while_a_connection_has_stood_for_long_gets_another() {
        for (collision_max, is_taken) in [(Duration::ZERO, true), (COLLISION_MAX, false)] {
            let table = Table::new(SMALL, collision_max);
            let (old, new) = (connection(LARGE, 7, true), connection(LARGE, 7, false));
            table.register(&old, 6);
            table.register(&new, 6);
            assert_eq!((old.is_usable(), new.is_usable()), (!is_taken, is_taken));
            let kept = if is_taken { &new } else { &old };
            assert!(Arc::ptr_eq(&current(&table, LARGE).unwrap(), kept));
        }
    }

    #[test]
    fn a_new_process_at_the_other_end_replaces_what_was_there() {
        let table = new_table(SMALL);
        let old = connection(LARGE, 7, true);
        table.register(&old, 6);
        let new = connection(LARGE, 8, false);
        assert!(table.register(&new, 5));
        assert!(old.closed.is_cancelled());
        assert!(Arc::ptr_eq(&current(&table, LARGE).unwrap(), &new));
    }

    /// A node that went back to the version before speaks less than it did.
    #[test]
    fn what_a_peer_speaks_is_known_for_as_long_as_there_is_a_connection() {
        let table = new_table(SMALL);
        assert_eq!(table.protocol_of(LARGE), None);
        let old = connection(LARGE, 7, true);
        table.register(&old, 6);
        assert_eq!(table.protocol_of(LARGE), Some(6));
        old.close("test");
        assert_eq!(table.protocol_of(LARGE), None, "before anybody has noticed");
        table.forget(&old);
        assert_eq!(table.protocol_of(LARGE), None);
        table.register(&connection(LARGE, 8, false), 5);
        assert_eq!(table.protocol_of(LARGE), Some(5));
    }

    #[test]
    fn the_wait_between_dials_doubles_up_to_its_bound() {
        assert_eq!(backoff(1), BACKOFF_MIN);
        assert_eq!(backoff(2), 2 * BACKOFF_MIN);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn one_dials_and_the_others_wait() {
        let table = new_table(SMALL);
        let slot = table.slot(LARGE);
        assert!(table.claim_dial(&slot));
        assert!(!table.claim_dial(&slot));
        table.dial_failed(LARGE, DialError::NoAddress);
        assert!(!table.claim_dial(&slot), "inside the backoff");
        table.register(&connection(LARGE, 7, false), 6);
        assert!(!table.claim_dial(&slot), "connected");
        current(&table, LARGE).unwrap().close("test");
        assert!(table.claim_dial(&slot), "an arrival ends the backoff");
    }
}
