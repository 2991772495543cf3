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
