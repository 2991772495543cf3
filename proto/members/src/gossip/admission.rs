//! What of a message reaches the gossip library: what a member would have sent, and of it what its sender
//! may say.
//!
//! - A member's part in a message is left out where it is none that a member of any version sends: of an
//!   id that is no node's, at an address that nobody has, with numbers that no process counts to, with
//!   keys that are not of one character, with a key that was deleted (none ever is). The library would
//!   fail on some of it, and pass on the rest.
//! - What is told of this process itself is left out: it knows best, and numbers its words from what it
//!   holds to be its own.
//! - **Of a node that has proved itself nothing is taken from an edge**, neither words nor that it lives:
//!   an edge could number them so high that the node's own would be taken for old. Nodes tell each other.
//! - There is room for [`MEMBERS_MAX`] members, and for [`OF_EDGES_MAX`] of those whom edges brought in.
//!
//! A part that is left out does no harm: gossip sends it again and again. No tasks.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chitchat::ChitchatId;
use skep_base::id::NodeId;

use super::record::{VALUE_LEN_MAX, is_reachable};
use super::wire::{Body, Delta, Digest, Malformed, Message, Status};
use crate::key::Form;

/// Most members, the dead that are remembered among them. The digest of all has to leave so much of a
/// datagram that a delta has a whole block: with less, the library counts its bytes wrong, and fails.
pub const MEMBERS_MAX: usize = 640;

/// Most of them of whom edges told first; the others have room whatever edges say.
pub const OF_EDGES_MAX: usize = 128;

/// Most that a heartbeat or a version counts to: at a thousand a second, in thirty years.
const COUNT_MAX: u64 = 1 << 40;

/// Who was let in and is not known to the library for so long never was.
const ADMITTED_FOR: Duration = Duration::from_secs(10);

/// Who is there, as far as admission goes by it.
#[derive(Debug)]
pub struct Admission {
    me: ChitchatId,
    /// The name of the gossip that all processes share.
    gossip: &'static str,
    /// Whether this process can tell who has proved itself, and so who is an edge.
    judges: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    members: HashMap<ChitchatId, Member>,
    proved: HashSet<NodeId>,
}

#[derive(Debug)]
struct Member {
    of_edge: bool,
    /// None once the library knows it.
    admitted: Option<Instant>,
}

impl Admission {
    pub fn new(me: ChitchatId, gossip: &'static str, judges: bool) -> Self {
        Self { me, gossip, judges, known: Mutex::default() }
    }

    /// What is left of a message that was sealed so, and how many parts were left out.
    pub fn admit(&self, form: Form, message: Message, now: Instant) -> Result<(Message, usize), Malformed> {
        let mut judge = Judge {
            me: &self.me,
            of_edge: self.judges && form == Form::Edge,
            known: self.known(),
            now,
            left_out: 0,
        };
        let body = match message.body {
            Body::Syn { digest, gossip } if gossip == self.gossip => {
                Body::Syn { digest: judge.digest(digest), gossip }
            }
            Body::Syn { .. } => return Err(Malformed("of another gossip")),
            // In this order: who is let in by the digest may be told of in the delta.
            Body::SynAck { digest, delta } => {
                let digest = judge.digest(digest);
                Body::SynAck { digest, delta: judge.delta(delta) }
            }
            Body::Ack { delta } => Body::Ack { delta: judge.delta(delta) },
        };
        Ok((Message { body, ..message }, judge.left_out))
    }

    /// Whom the library knows now, and who has proved itself.
    pub fn tell<'a>(
        &self,
        members: impl Iterator<Item = &'a ChitchatId>,
        proved: impl Iterator<Item = NodeId>,
        now: Instant,
    ) {
        let mut known = self.known();
        known.proved = proved.collect();
        let mut stay = HashMap::new();
        for id in members.filter(|id| **id != self.me) {
            let (id, of_edge) = match known.members.remove_entry(id) {
                Some((id, member)) => (id, member.of_edge),
                None => (id.clone(), false),
            };
            stay.insert(id, Member { of_edge, admitted: None });
        }
        // Who was let in just now may not have reached the library.
        let waiting = known.members.drain().filter(|(_, member)| {
            member.admitted.is_some_and(|at| now.saturating_duration_since(at) < ADMITTED_FOR)
        });
        stay.extend(waiting);
        known.members = stay;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes through one message.
struct Judge<'a> {
    me: &'a ChitchatId,
    of_edge: bool,
    known: MutexGuard<'a, Known>,
    now: Instant,
    left_out: usize,
}

impl Judge<'_> {
    fn digest(&mut self, digest: Vec<Digest>) -> Vec<Digest> {
        let listed = digest.len();
        let admitted: Vec<_> = digest
            .into_iter()
            .filter_map(|mut digest| {
                let counts = digest.heartbeat.max(digest.version) <= COUNT_MAX;
                // How much of this process its peer knows is for the peer to say.
                if !counts || digest.floor != 0 || digest.id != *self.me && !self.lets_in(&digest.id) {
                    return None;
                }
                if self.is_beyond_edges(&digest.id) {
                    digest.heartbeat = 0;
                }
                Some(digest)
            })
            .collect();
        self.left_out += listed - admitted.len();
        admitted
    }

    fn delta(&mut self, mut delta: Vec<Delta>) -> Vec<Delta> {
        let listed = delta.len();
        delta.retain(|delta| {
            self.known.members.contains_key(&delta.id)
                && !self.is_beyond_edges(&delta.id)
                && is_of_a_member(delta)
        });
        self.left_out += listed - delta.len();
        delta
    }

    /// Whether a member is known, or is from now on.
    fn lets_in(&mut self, id: &ChitchatId) -> bool {
        let members = &mut self.known.members;
        if members.contains_key(id) {
            return true;
        }
        let of_edges = || members.values().filter(|member| member.of_edge).count();
        let room = members.len() < MEMBERS_MAX && (!self.of_edge || of_edges() < OF_EDGES_MAX);
        let lets_in = room && is_an_id(id);
        if lets_in {
            members.insert(id.clone(), Member { of_edge: self.of_edge, admitted: Some(self.now) });
        }
        lets_in
    }

    /// Whether the message is an edge's, and the member one of whom edges have nothing to say.
    fn is_beyond_edges(&self, id: &ChitchatId) -> bool {
        self.of_edge && id.node_id.parse::<NodeId>().is_ok_and(|id| self.known.proved.contains(&id))
    }
}

fn is_an_id(id: &ChitchatId) -> bool {
    id.node_id.parse::<NodeId>().is_ok() && is_reachable(id.gossip_advertise_addr)
}

/// Whether a member would say so of itself.
fn is_of_a_member(delta: &Delta) -> bool {
    let mut names = HashSet::new();
    delta.floor == 0
        && delta.version.is_none()
        && delta.keys.iter().all(|key| {
            // One character each, so that there are few.
            matches!(key.key.as_bytes(), [b'a'..=b'z' | b'0'..=b'9'])
                && key.value.len() <= VALUE_LEN_MAX
                && key.version <= COUNT_MAX
                && key.status == Status::Set
                && names.insert(&key.key)
        })
}

#[cfg(test)]
mod tests;
