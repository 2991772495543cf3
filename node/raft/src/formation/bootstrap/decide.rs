//! What a node does next towards a cluster: a pure function of what it sees and who it is.

use std::fmt;

use skep_base::id::{ClusterId, NodeId};

use super::{MEMBERS_MAX, SETTLE, Sight};
use crate::formation::identity::Identity;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Belongs to a cluster: nothing.
    Member(ClusterId),
    /// Take the cluster that is seen as one's own.
    Adopt {
        cluster: ClusterId,
        established: bool,
    },
    /// Start a cluster of one.
    Alone,
    /// Propose a cluster of these, sorted; the node itself is the first.
    Propose(Vec<NodeId>),
    /// Go on with the node's own proposal.
    Continue,
    /// Drop the node's own proposal: a member of it is gone.
    Drop(ClusterId),
    Wait(Wait),
}

/// Why a node waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// It has been stalled, and what it sees may be old.
    Stalled,
    /// Two clusters are seen: seeds of two clusters, or a volume of an older one.
    TwoClusters(ClusterId, ClusterId),
    /// A cluster is seen that shows no leader.
    NoLeader(ClusterId),
    /// None of the nodes of a cluster that is seen says over a connection that it belongs to it.
    Unconfirmed(ClusterId),
    /// The same for long: this node can be seen, and reaches nobody.
    Unreached(ClusterId),
    /// There are seeds, and nobody to join; `--expect 1` with seeds never starts a cluster.
    NobodyToJoin,
    Missing {
        seen: usize,
        expect: u32,
    },
    ExpectDiffers {
        node: NodeId,
        theirs: u32,
        own: u32,
    },
    TooMany(usize),
    Settling,
    /// The smallest id proposes, and that is another.
    Proposer(NodeId),
    /// It has promised itself.
    Promised {
        proposer: NodeId,
        cluster: ClusterId,
    },
    /// Not all said yes to its own proposal.
    Refused {
        by: NodeId,
        reason: String,
    },
    /// It cannot write its identity.
    Disk(String),
    /// Raft could not be initialised.
    Raft(String),
}

/// Decides.
///
/// `seeds_given` is whether the node was given any seeds.
pub fn decide(sight: &Sight, identity: &Identity, expect: u32, seeds_given: bool) -> Decision {
    if let Some(cluster) = identity.cluster {
        return Decision::Member(cluster);
    }
    if let Some(decision) = join(sight, identity) {
        return decision;
    }
    if expect <= 1 {
        return if seeds_given { Decision::Wait(Wait::NobodyToJoin) } else { Decision::Alone };
    }
    if !sight.trusted {
        return Decision::Wait(Wait::Stalled);
    }
    let pristine = || sight.others.iter().filter(|other| other.pristine);
    if let Some(held) = &identity.promise {
        if held.proposer == identity.node {
            let whole = held.members.iter().all(|id| *id == identity.node || pristine().any(|o| o.id == *id));
            return if whole { Decision::Continue } else { Decision::Drop(held.cluster) };
        }
        if sight.shows(held.proposer) {
            return Decision::Wait(Wait::Promised { proposer: held.proposer, cluster: held.cluster });
        }
    }
    if let Some(other) = pristine().find(|other| other.expect != expect) {
        return Decision::Wait(Wait::ExpectDiffers { node: other.id, theirs: other.expect, own: expect });
    }
    let mut members: Vec<NodeId> = pristine().map(|other| other.id).chain([identity.node]).collect();
    members.sort_unstable();
    if members.len() < expect as usize {
        return Decision::Wait(Wait::Missing { seen: members.len(), expect });
    }
    if members.len() > MEMBERS_MAX {
        return Decision::Wait(Wait::TooMany(members.len()));
    }
    if sight.settled_for < SETTLE {
        return Decision::Wait(Wait::Settling);
    }
    match members[0] {
        smallest if smallest == identity.node => Decision::Propose(members),
        smallest => Decision::Wait(Wait::Proposer(smallest)),
    }
}

/// What to do about the clusters that are seen, if any.
fn join(sight: &Sight, identity: &Identity) -> Option<Decision> {
    let clusters = || sight.others.iter().filter_map(|other| other.cluster);
    if let Some(held) = &identity.promise
        && held.proposer != identity.node
        && clusters().any(|cluster| cluster == held.cluster)
    {
        return Some(Decision::Adopt { cluster: held.cluster, established: false });
    }
    let established = || clusters().filter(|cluster| sight.shows_established(*cluster));
    if let Some(cluster) = established().next() {
        return Some(match established().find(|other| *other != cluster) {
            None => Decision::Adopt { cluster, established: true },
            Some(other) => Decision::Wait(Wait::TwoClusters(cluster.min(other), cluster.max(other))),
        });
    }
    clusters().next().map(|cluster| Decision::Wait(Wait::NoLeader(cluster)))
}

impl Wait {
    /// Whether waiting alone is not likely to help.
    pub fn is_trouble(&self) -> bool {
        matches!(
            self,
            Wait::TwoClusters(..)
                | Wait::Unreached(_)
                | Wait::NobodyToJoin
                | Wait::ExpectDiffers { .. }
                | Wait::TooMany(_)
                | Wait::Disk(_)
                | Wait::Raft(_)
        )
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Stalled => write!(f, "this process was stalled; looking again who is there"),
            Wait::TwoClusters(one, other) => {
                write!(f, "two clusters are seen, {one} and {other}: name the seeds of one of them")
            }
            Wait::NoLeader(cluster) => write!(f, "cluster {cluster} is seen, but it shows no leader to join"),
            Wait::Unconfirmed(cluster) => write!(
                f,
                "cluster {cluster} is seen in gossip, but none of its nodes confirms over a connection that it \
                 belongs to it"
            ),
            Wait::Unreached(cluster) => write!(
                f,
                "cluster {cluster} is seen in gossip, but none of its nodes can be reached at its peer address by \
                 TCP, or none belongs to it: a node joins once it has asked one"
            ),
            Wait::NobodyToJoin => write!(
                f,
                "no cluster to join is seen; with --expect 1 and seeds a node never starts one: \
                 give the number of first nodes as --expect, or no seeds to start alone"
            ),
            Wait::Missing { seen, expect } => write!(f, "{seen} of {expect} expected nodes are there"),
            Wait::ExpectDiffers { node, theirs, own } => {
                write!(f, "node {node} has --expect {theirs}, this one {own}: they must be the same")
            }
            Wait::TooMany(seen) => write!(f, "{seen} new nodes at once are more than {MEMBERS_MAX}"),
            Wait::Settling => write!(f, "the expected nodes are there; waiting for the view to settle"),
            Wait::Proposer(node) => write!(f, "the expected nodes are there; node {node} starts the cluster"),
            Wait::Promised { proposer, cluster } => {
                write!(f, "promised to join cluster {cluster}, which node {proposer} starts")
            }
            Wait::Refused { by, reason } => write!(f, "node {by} does not agree yet: {reason}"),
            Wait::Disk(error) => write!(f, "the identity cannot be written: {error}"),
            Wait::Raft(error) => write!(f, "Raft cannot be initialised: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
