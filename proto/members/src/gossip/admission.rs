//! What of a message reaches the gossip library: what a member would have sent, and of it what its sender
//! may say.
//!
//! - A member's part in a message is left out where it is none that a member of any version sends: of an
//!   id that is no node's, at an address that nobody has, with numbers that no process counts to, with
//!   keys that are not of one character, with a key that was deleted (none ever is). The library would
//!   fail on some of it, and pass on the rest.
//! - What is told of this process itself is left out: it knows best, and numbers its words from what it
//!   holds to be its own.
//! - **An edge speaks for itself alone**: of what it seals a member takes what it says of who is at the
//!   address that it came from, and only where nothing has shown that to be a node. Nodes tell each other the
//!   rest. An edge could number a node's words and signs of life so high that the node's own would be taken for
//!   old, and what one node took the others would have from that node, sealed as a member's.
//! - Nodes are those of the cluster that this process was in when it started, those that have proved
//!   themselves, and who says so of itself as a member, from its own address.
//! - There is room for [`MEMBERS_MAX`] members: for [`STRANGERS_MAX`] who are no nodes, as far as is known, and
//!   for the nodes always.
//!
//! A part that is left out does no harm: gossip sends it again and again. No tasks.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
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

/// Most of them of whom it is not known that they have the cluster key: whom one node took from edges, the
/// others hear of from that node.
pub const STRANGERS_MAX: usize = 384;

/// Most of them who said it of themselves as edges, and at one host.
pub const EDGES_MAX: usize = 128;
pub const EDGES_PER_HOST_MAX: usize = 32;

/// Most runs of one node: a minute of one that starts again and again, twice over.
pub const RUNS_MAX: usize = 128;

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
    /// Of whom this process knew before that they are nodes.
    given: HashSet<NodeId>,
    proved: HashSet<NodeId>,
    /// Where those are that have proved themselves and are there.
    places: HashSet<SocketAddr>,
}

impl Known {
    fn is_node(&self, node: NodeId) -> bool {
        self.given.contains(&node) || self.proved.contains(&node)
    }
}

#[derive(Debug)]
struct Member {
    node: NodeId,
    /// It said so itself, as an edge.
    of_edge: bool,
    /// It said so itself, as a member.
    spoke: bool,
    /// None once the library knows it.
    admitted: Option<Instant>,
}

/// Who has proved itself, and where of these is somebody.
#[derive(Debug, Default)]
pub struct Proved {
    pub nodes: HashSet<NodeId>,
    pub places: HashSet<SocketAddr>,
}

impl Admission {
    /// `nodes`: those that are known to be nodes before they have proved it.
    pub fn new(
        me: ChitchatId,
        gossip: &'static str,
        judges: bool,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let given = nodes.into_iter().chain(me.node_id.parse()).collect();
        Self { me, gossip, judges, known: Mutex::new(Known { given, ..Known::default() }) }
    }

    /// What is left of a message that came from there and was sealed so, and how many parts were left out.
    pub fn admit(
        &self,
        from: SocketAddr,
        form: Form,
        message: Message,
        now: Instant,
    ) -> Result<(Message, usize), Malformed> {
        let mut judge = Judge {
            me: &self.me,
            from,
            judges: self.judges,
            of_edge: self.judges && form == Form::Edge,
            known: self.known(),
            counts: None,
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
    pub fn tell<'a>(&self, members: impl Iterator<Item = &'a ChitchatId>, proved: Proved, now: Instant) {
        let mut known = self.known();
        (known.proved, known.places) = (proved.nodes, proved.places);
        let mut stay = HashMap::new();
        for id in members.filter(|id| **id != self.me) {
            let Some(node) = node_of(id) else { continue };
            let (of_edge, spoke) =
                known.members.remove(id).map_or((false, false), |member| (member.of_edge, member.spoke));
            stay.insert(id.clone(), Member { node, of_edge, spoke, admitted: None });
        }
        // Who was let in just now may not have reached the library.
        let waiting = known.members.drain().filter(|(_, member)| {
            member.admitted.is_some_and(|at| now.saturating_duration_since(at) < ADMITTED_FOR)
        });
        stay.extend(waiting);
        known.members = stay;
    }

    /// Whether a member said something itself, as only who has the cluster key can.
    pub fn spoke(&self, id: &ChitchatId) -> bool {
        self.known().members.get(id).is_some_and(|member| member.spoke)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes through one message.
struct Judge<'a> {
    me: &'a ChitchatId,
    from: SocketAddr,
    judges: bool,
    of_edge: bool,
    known: MutexGuard<'a, Known>,
    /// Counted when it is first asked for.
    counts: Option<Counts>,
    now: Instant,
    left_out: usize,
}

/// How many of those who take room that is short.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    strangers: usize,
    edges: usize,
    edges_here: usize,
}

impl Judge<'_> {
    fn digest(&mut self, digest: Vec<Digest>) -> Vec<Digest> {
        let listed = digest.len();
        let admitted: Vec<_> = digest
            .into_iter()
            .filter_map(|mut digest| {
                let counts = digest.heartbeat.max(digest.version) <= COUNT_MAX;
                if !counts || digest.floor != 0 {
                    return None;
                }
                // How much its peer knows, of this process as of others, is for the peer to say.
                if digest.id == *self.me {
                    return Some(digest);
                }
                if self.of_edge && !self.is_of_itself(&digest.id) {
                    digest.heartbeat = 0;
                    return self.known.members.contains_key(&digest.id).then_some(digest);
                }
                self.lets_in(&digest.id).then_some(digest)
            })
            .collect();
        self.left_out += listed - admitted.len();
        admitted
    }

    fn delta(&mut self, mut delta: Vec<Delta>) -> Vec<Delta> {
        let listed = delta.len();
        delta.retain(|delta| {
            self.known.members.contains_key(&delta.id)
                && (!self.of_edge || self.is_of_itself(&delta.id))
                && is_of_a_member(delta)
        });
        self.left_out += listed - delta.len();
        delta
    }

    /// Whether a member is known, or is from now on.
    fn lets_in(&mut self, id: &ChitchatId) -> bool {
        let spoke = self.judges && !self.of_edge && self.is_here(id);
        if let Some(member) = self.known.members.get_mut(id) {
            member.spoke |= spoke;
            return true;
        }
        let Some(node) = node_of(id).filter(|_| is_reachable(id.gossip_advertise_addr)) else { return false };
        if self.known.members.len() >= MEMBERS_MAX || self.judges && !spoke && !self.has_room(node) {
            return false;
        }
        let (of_edge, admitted) = (self.of_edge, Some(self.now));
        self.known.members.insert(id.clone(), Member { node, of_edge, spoke, admitted });
        if let Some(counts) = self.counts.as_mut().filter(|_| !spoke) {
            counts.strangers += 1;
            counts.edges += usize::from(of_edge);
            counts.edges_here += usize::from(of_edge);
        }
        true
    }

    /// Whether there is room for a member that did not say so itself, or is an edge.
    fn has_room(&mut self, node: NodeId) -> bool {
        let known = &self.known;
        if known.is_node(node) {
            return known.members.values().filter(|member| member.node == node).count() < RUNS_MAX;
        }
        let here = self.from.ip();
        let counts = self.counts.get_or_insert_with(|| {
            let mut counts = Counts::default();
            for (id, member) in &known.members {
                let edge_here = member.of_edge && id.gossip_advertise_addr.ip() == here;
                counts.strangers += usize::from(!member.spoke && !known.is_node(member.node));
                counts.edges += usize::from(member.of_edge);
                counts.edges_here += usize::from(edge_here);
            }
            counts
        });
        let edges = counts.edges < EDGES_MAX && counts.edges_here < EDGES_PER_HOST_MAX;
        counts.strangers < STRANGERS_MAX && (edges || !self.of_edge)
    }

    /// Whether a member is where the message came from.
    fn is_here(&self, id: &ChitchatId) -> bool {
        let address = id.gossip_advertise_addr;
        (address.ip(), address.port()) == (self.from.ip(), self.from.port())
    }

    /// Whether an edge that sent the message speaks of itself. Not where a node is, or who is known to have
    /// the cluster key: somebody else sends in its name.
    fn is_of_itself(&self, id: &ChitchatId) -> bool {
        self.is_here(id)
            && !self.known.places.contains(&id.gossip_advertise_addr)
            && !self.known.members.get(id).is_some_and(|member| member.spoke)
            && !node_of(id).is_some_and(|node| self.known.is_node(node))
    }
}

fn node_of(id: &ChitchatId) -> Option<NodeId> {
    id.node_id.parse().ok()
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
