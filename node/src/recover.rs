//! A new cluster out of one folder, where a quorum is lost for good.
//!
//! Raft's rules have no way on without a quorum, so this steps outside them, on an operator's
//! word, on a stopped node: everything in the folder's log is kept, as if it had been committed
//! (what a quorum had is in at least one survivor's log: the operator picks the one that is
//! furthest), and a membership with this node alone is put behind it, in a higher term; and, where
//! there may be tasks, a step of their fences, and where there may be a gateway's document, another lineage of it. The new cluster has a new id: nodes of the lost one
//! that come back are strangers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use openraft::impls::EmptyNode;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _, RaftStateMachine as _};
use openraft::type_config::TypeConfigExt as _;
use skep_base::id::{ClusterId, NodeId};

use crate::service::gateway::new_lineage;
use skep_raft::formation::identity::{DataFolder, IdentityError};
use skep_raft::types::{Entry, LogId, TypeConfig, Vote};
use skep_state::command::{Command, Op};
use skep_state::gateway::GatewayOp;
use skep_state::level::Level;
use skep_state::task::TaskOp;
use skep_store::{self, LogStore, Reader, StoreConfig, StoreError};

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
    let behind = applied.as_ref().map_or(0, |log_id| log_id.index + 1);
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
    let mut entries = vec![Entry::new_membership(LogId::new_term_index(term, log_index), membership)];
    let level = level(&store.reader, &mut store.log, behind..log_index).await?;
    let mut ops = Vec::new();
    if level >= Level::TASKS {
        // What is lost may have given fences to workers that are still at work: none of them is given again.
        ops.push(Op::Tasks { time_ms: 0, op: TaskOp::RaiseFence });
    }
    if level >= Level::GATEWAY {
        // And balancers may have been told of a document that is lost, whose number is given again.
        ops.push(Op::Gateway { time_ms: 0, op: GatewayOp::Renew { lineage: new_lineage() } });
    }
    if !ops.is_empty() {
        let log_id = LogId::new_term_index(term, log_index + 1);
        entries.push(Entry { log_id, payload: EntryPayload::Normal(Command::new(ops)) });
    }
    append(&mut store.log, entries).await?;

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

/// Appends to the log, and waits until it is on the disk.
async fn append(log: &mut LogStore, entries: Vec<Entry>) -> Result<(), RecoverError> {
    let (flushed, on_disk) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(flushed)).await?;
    Ok(on_disk.await.map_err(|_| RecoverError::Stopped)??)
}

/// What the members had agreed to: by the checkpoint, and by the entries behind it.
async fn level(reader: &Reader, log: &mut LogStore, behind: Range<u64>) -> Result<Level, RecoverError> {
    let mut highest = reader.level();
    let mut log = log.get_log_reader().await;
    let mut next = behind.start;
    while next < behind.end {
        let entries = log.limited_get_log_entries(next, behind.end).await?;
        let Some(last) = entries.last() else { break };
        next = last.log_id.index + 1;
        let agreed = |op: &Op| match op {
            Op::Level { level } => Some(*level),
            _ => None,
        };
        let commands = entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Normal(command) => Some(command),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        });
        highest =
            commands.flat_map(|command| command.ops.iter()).filter_map(agreed).fold(highest, Level::max);
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use skep_state::task::{NewTask, Policy, TaskClaim, When};

    use super::*;

    fn normal(index: u64, op: Op) -> Entry {
        let payload = EntryPayload::Normal(Command::new(vec![op]));
        Entry { log_id: LogId::new_term_index(1, index), payload }
    }

    fn task() -> TaskOp {
        let task = NewTask {
            queue: "q".into(),
            kind: "k".into(),
            payload: "1".into(),
            priority: 5,
            when: When::After { delay_ms: 0 },
            policy: Policy::default(),
            unique: None,
            key: None,
        };
        TaskOp::Put { nonce: 1, tasks: vec![task] }
    }

    fn claim() -> TaskOp {
        TaskOp::Claim(TaskClaim {
            queues: vec!["q".into()],
            worker: "w".into(),
            number: 1,
            max: 1,
            holds: Vec::new(),
            closes: true,
        })
    }

    /// What a folder with such a log comes to once it is recovered.
    async fn recovered(ops: Vec<Op>) -> (Vec<Entry>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let identity = DataFolder::open(folder.path()).unwrap();
        identity.change(|identity| identity.cluster = Some(ClusterId::random())).unwrap();
        drop(identity);
        let mut store = skep_store::open(StoreConfig::new(folder.path())).unwrap();
        let kept: Vec<Entry> = (0..).zip(ops).map(|(index, op)| normal(index, op)).collect();
        append(&mut store.log, kept.clone()).await.unwrap();
        drop(store);

        let recovered = recover(folder.path()).await.unwrap();
        assert_eq!(recovered.log_index, kept.len() as u64);
        let mut store = skep_store::open(StoreConfig::new(folder.path())).unwrap();
        let entries = store.log.get_log_reader().await.try_get_log_entries(..).await.unwrap();
        assert_eq!(entries[..kept.len()], kept);
        let applied = entries.clone().into_iter().map(|entry| Ok((entry, None)));
        store.state_machine.apply(stream::iter(applied)).await.unwrap();
        (entries, store.reader.tasks(|tasks| tasks.last_fence()))
    }

    #[tokio::test]
    async fn no_fence_that_the_lost_may_have_given_is_given_again() {
        let tasks = |op| Op::Tasks { time_ms: 1, op };
        let (entries, fence) =
            recovered(vec![Op::Level { level: Level::TASKS }, tasks(task()), tasks(claim())]).await;
        assert_eq!((entries.len(), fence), (5, 1 + (1 << 32)));
    }

    #[tokio::test]
    async fn a_folder_that_knows_of_no_tasks_is_left_to_the_version_before() {
        let (entries, fence) = recovered(vec![Op::Level { level: Level(4) }]).await;
        assert_eq!((entries.len(), fence), (2, 0));
    }
}
