//! The rules by which a node gives its word and takes it back: pure changes of its [`Identity`].
//!
//! The driver applies each of them inside [`crate::formation::identity::DataFolder::change`], which makes it
//! exclusive and durable. No I/O, no clock. Why these rules: see [`super`].

use skep_base::id::{ClusterId, NodeId};

use super::{BootstrapAnswer, BootstrapAsk, MEMBERS_MAX, No, Proposal, Sight};
use crate::formation::identity::{Identity, PAST_PROMISES_MAX, Promise};

/// Fewest voters that are more than half.
pub fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// Answers what `from` asks. Changes the identity where the answer needs that.
pub fn answer(
    identity: &mut Identity,
    sight: &Sight,
    expect: u32,
    from: NodeId,
    ask: &BootstrapAsk,
) -> BootstrapAnswer {
    let (proposal, check) = match ask {
        BootstrapAsk::Check(proposal) => (proposal, true),
        BootstrapAsk::Promise(proposal) => (proposal, false),
        BootstrapAsk::Query { cluster } => return answer_query(identity, *cluster),
    };
    if let Some(cluster) = identity.cluster {
        return BootstrapAnswer::HasCluster(cluster);
    }
    let granted = if proposal.proposer != from || from == identity.node {
        Err(No::Malformed)
    } else if expect != proposal.expect {
        Err(No::Expects(expect))
    } else if check {
        // The wish for the smallest proposer is no matter of safety. It is dropped once
        // promises are given, or two proposers could each hold some for ever.
        unwished(identity, sight, proposal).and_then(|()| grant(&mut identity.clone(), sight, proposal))
    } else {
        grant(identity, sight, proposal)
    };
    match granted {
        Ok(()) => BootstrapAnswer::Yes,
        Err(reason) => BootstrapAnswer::No { reason, ballot: identity.ballot },
    }
}

/// Whether this node, which was the proposer of `cluster`, may still decide it, or has.
fn answer_query(identity: &Identity, cluster: ClusterId) -> BootstrapAnswer {
    let open =
        matches!(&identity.promise, Some(held) if held.cluster == cluster && held.proposer == identity.node);
    match identity.cluster {
        Some(own) => BootstrapAnswer::HasCluster(own),
        None if open => BootstrapAnswer::Yes,
        None => BootstrapAnswer::No { reason: No::Dropped, ballot: identity.ballot },
    }
}

fn unwished(identity: &Identity, sight: &Sight, proposal: &Proposal) -> Result<(), No> {
    if let Some(cluster) = sight.others.iter().find_map(|other| other.cluster) {
        return Err(No::SeesCluster(cluster));
    }
    let smaller = |id: &NodeId| *id < proposal.proposer;
    let pristine = sight.others.iter().filter(|other| other.pristine).map(|other| other.id);
    match pristine.chain([identity.node]).find(smaller) {
        Some(id) => Err(No::SeesSmaller(id)),
        None => Ok(()),
    }
}

/// Gives this node's word to a proposal, another's or its own.
pub fn grant(identity: &mut Identity, sight: &Sight, proposal: &Proposal) -> Result<(), No> {
    if !is_well_formed(proposal) || !proposal.members.contains(&identity.node) || identity.cluster.is_some() {
        return Err(No::Malformed);
    }
    let wanted = Promise {
        ballot: proposal.ballot,
        proposer: proposal.proposer,
        cluster: proposal.cluster,
        members: proposal.members.clone(),
    };
    if identity.promise.as_ref() == Some(&wanted) {
        return Ok(());
    }
    if proposal.ballot <= identity.ballot {
        return Err(No::BallotTooLow);
    }
    let mut past = identity.past.clone();
    if let Some(held) = &identity.promise {
        if held.proposer == proposal.proposer {
            // It proposes anew only after it dropped what it proposed before.
        } else if held.proposer == identity.node {
            // This node's own proposal, not decided: it may drop it. The smaller id wins.
            if identity.node < proposal.proposer {
                return Err(No::PromisedTo(identity.node));
            }
        } else if sight.shows(held.proposer) || !sight.trusted {
            return Err(No::PromisedTo(held.proposer));
        } else {
            past.push(held.clone());
        }
    }
    let blocking = past.iter().find(|past| !is_fenced(past, &proposal.members));
    let full = past.last().filter(|_| past.len() > PAST_PROMISES_MAX);
    if let Some(past) = blocking.or(full) {
        return Err(No::Fenced { proposer: past.proposer, cluster: past.cluster });
    }
    identity.past = past;
    identity.ballot = wanted.ballot;
    identity.promise = Some(wanted);
    Ok(())
}

/// Whether the cluster of `past` can get no quorum once all of `members` promise to another.
fn is_fenced(past: &Promise, members: &[NodeId]) -> bool {
    let rest = past.members.iter().filter(|id| !members.contains(id)).count();
    rest < majority(past.members.len())
}

fn is_well_formed(proposal: &Proposal) -> bool {
    let members = &proposal.members;
    members.first() == Some(&proposal.proposer)
        && members.is_sorted_by(|a, b| a < b)
        && members.len() <= MEMBERS_MAX
        && members.len() >= proposal.expect as usize
}

/// Makes the node's own proposal a cluster, after every member said yes. False where its own
/// word no longer holds.
pub fn decide(identity: &mut Identity, cluster: ClusterId) -> bool {
    if identity.cluster.is_some() {
        return false;
    }
    let own = identity.node;
    match identity.promise.take_if(|held| held.cluster == cluster && held.proposer == own) {
        Some(held) => {
            identity.planned = Some(held.members);
            identity.cluster = Some(cluster);
            identity.past.clear();
            true
        }
        None => false,
    }
}

/// Drops a word that will never be claimed: the node's own, not decided, or one whose proposer
/// said that it dropped it.
pub fn drop_promise(identity: &mut Identity, cluster: ClusterId) {
    if identity.cluster.is_none() {
        identity.promise.take_if(|held| held.cluster == cluster);
    }
}

/// Why a node does not take a cluster as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdopted {
    /// It belongs to another.
    HasCluster(ClusterId),
    /// It has not promised itself to this one, and has not seen it established.
    NotPromised,
}

/// Makes a cluster the node's own: one that it promised itself to, from whoever says so, or any
/// that it saw `established`.
pub fn adopt(identity: &mut Identity, cluster: ClusterId, established: bool) -> Result<(), NotAdopted> {
    if let Some(own) = identity.cluster {
        return if own == cluster { Ok(()) } else { Err(NotAdopted::HasCluster(own)) };
    }
    let own = identity.node;
    // Its own proposal is decided by itself or not at all.
    let promised =
        identity.promise.as_ref().is_some_and(|held| held.cluster == cluster && held.proposer != own);
    if !promised && !established {
        return Err(NotAdopted::NotPromised);
    }
    identity.cluster = Some(cluster);
    identity.promise = None;
    identity.past.clear();
    Ok(())
}

#[cfg(test)]
mod tests;
