//! A new cluster out of one folder, where a quorum is lost for good.
//!
//! Raft's rules have no way on without a quorum, so this steps outside them, on an operator's
//! word, on a stopped node: everything in the folder's log is kept, as if it had been committed
//! (what a quorum had is in at least one survivor's log: the operator picks the one that is
//! furthest), and a membership with this node alone is put behind it, in a higher term. The new
//! cluster has a new id: nodes of the lost one that come back are strangers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::entry::RaftEntry as _;
use openraft::impls::EmptyNode;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _, RaftStateMachine as _};
use openraft::type_config::TypeConfigExt as _;
use skep_base::id::{ClusterId, NodeId};

use skep_raft::formation::identity::{DataFolder, IdentityError};
use skep_raft::types::{Entry, LogId, TypeConfig, Vote};
use skep_store::{self, StoreConfig, StoreError};

/// The new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// The highest log index that was kept.
    pub log_index: u64,
    /// Messages in the last checkpoint; those after it are in the log, and come back at the start.
    pub messages: u64,
}

/// What a folder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub node: NodeId,
    pub cluster: Option<ClusterId>,
    /// The last entry of the log. What a quorum acknowledged is in the folder whose last entry has the
    /// highest term, and in it the highest index (Raft's own rule for votes, 5.4.1): how much a node had
    /// applied, or knew to be committed, says less.
    pub last: Option<LogId>,
    /// Up to which entry the last checkpoint goes.
    pub checkpoint: Option<LogId>,
}

/// Looks at the folder, as a start of the node would. It must belong to no running node.
pub async fn inspect(data: &Path) -> Result<Found, RecoverError> {
    let folder = DataFolder::open(data)?;
    let identity = folder.identity();
    let mut store = skep_store::open(StoreConfig::new(data))?;
    let last = store.log.get_log_state().await?.last_log_id;
    let (checkpoint, _) = store.state_machine.applied_state().await?;
    Ok(Found { node: identity.node, cluster: identity.cluster, last: last.max(checkpoint), checkpoint })
}

/// Why there is no new cluster.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the log: {0}")]
    Log(#[from] std::io::Error),
    #[error("{0} has never been part of a cluster: there is nothing to recover")]
    Pristine(String),
    #[error("{0} joined a cluster, and has nothing of it: take another folder")]
    Empty(String),
    #[error("the log's writer has stopped")]
    Stopped,
}

/// Makes the new cluster. The folder must belong to no running node.
pub async fn recover(data: &Path) -> Result<Recovered, RecoverError> {
    let folder = DataFolder::open(data)?;
    let identity = folder.identity();
    if identity.cluster.is_none() {
        return Err(RecoverError::Pristine(data.display().to_string()));
    }
    let mut store = skep_store::open(StoreConfig::new(data))?;
    let last = store.log.get_log_state().await?.last_log_id;
    let (applied, _) = store.state_machine.applied_state().await?;
    let last = last.max(applied);
    if last.is_none() {
        return Err(RecoverError::Empty(data.display().to_string()));
    }
    let vote = store.log.get_log_reader().await.read_vote().await?;
    let seen = last.as_ref().map_or(0, |log_id| log_id.committed_leader_id().term);
    let term = vote.map_or(0, |vote| vote.leader_id.term).max(seen) + 1;
    let node = identity.node;
    let log_index = last.map_or(0, |log_id| log_id.index + 1);

    // The vote first: a log entry of a term that was never voted for must not be found.
    store.log.save_vote(&Vote::new_committed(term, node.0)).await?;
    let alone = BTreeMap::from([(node.0, EmptyNode::default())]);
    let membership =
        openraft::Membership::new(vec![BTreeSet::from([node.0])], alone).map_err(std::io::Error::other)?;
    let entry = Entry::new_membership(LogId::new_term_index(term, log_index), membership);
    let (flushed, on_disk) = TypeConfig::oneshot();
    store.log.append([entry], IOFlushed::signal(flushed)).await?;
    on_disk.await.map_err(|_| RecoverError::Stopped)??;

    let cluster = ClusterId::random();
    let messages = store.reader.stats().messages;
    folder.change(|identity| {
        identity.cluster = Some(cluster);
        identity.planned = None;
        identity.promise = None;
        identity.past.clear();
    })?;
    Ok(Recovered { node, cluster, log_index, messages })
}
