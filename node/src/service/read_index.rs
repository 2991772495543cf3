//! Linearizable reads by read index (Ongaro's dissertation, section 6.4): before it answers, a
//! node learns how far the log was committed when the read arrived, and waits until it has
//! applied that much.
//!
//! One task runs one round at a time; all reads that arrive during a round share the next one.
//! No leases: a lease is forgotten by a restart, a round with a quorum never lies.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use openraft::ReadPolicy;
use skep_proto::id::{NodeId, RawNodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::ServiceError;
use crate::raft::peers::{CallError, Peers};
use crate::raft::wire::{ReadIndexError, Request, Response};
use crate::raft::{Raft, deposed};
use crate::store::Applied;

/// Reads that may wait at a node; one more is refused as overload.
pub const WAITING_READS_MAX: usize = 64 * 1024;
/// Pause before a round is tried again where no news of a leader comes.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Hands reads to the task that confirms them.
#[derive(Clone)]
pub struct ReadIndexer {
    queue: mpsc::Sender<Waiting>,
    applied: watch::Receiver<Applied>,
}

struct Waiting {
    deadline: Instant,
    answer: oneshot::Sender<Result<u64, ReadIndexError>>,
}

impl ReadIndexer {
    /// Starts the task.
    pub fn start(node_id: NodeId, raft: Raft, peers: Peers, applied: watch::Receiver<Applied>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_READS_MAX);
        tokio::spawn(run(Rounds { node_id, raft, peers }, waiting));
        Self { queue, applied }
    }

    /// Returns once everything acknowledged before the call is applied here.
    pub async fn confirm(&self, deadline: Instant) -> Result<(), ServiceError> {
        let unavailable = |detail: String| ServiceError::Unavailable { detail, unprocessed: true };
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Waiting { deadline, answer })
            .map_err(|_| ServiceError::Overloaded { detail: "too many reads wait at this node".into() })?;
        let index = match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(Ok(index))) => index,
            Ok(Ok(Err(error))) => return Err(unavailable(format!("reading needs the leader: {error}"))),
            Ok(Err(_)) => return Err(unavailable("the node is stopping".into())),
            Err(_) => return Err(unavailable("no leader confirmed the read within its deadline".into())),
        };
        self.applied(index, deadline).await
    }

    async fn applied(&self, index: u64, deadline: Instant) -> Result<(), ServiceError> {
        let mut applied = self.applied.clone();
        let caught_up = applied.wait_for(|applied| applied.index >= Some(index));
        match tokio::time::timeout_at(deadline, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ServiceError::Fatal { detail: "the store has stopped".into() }),
            Err(_) => Err(ServiceError::Unavailable {
                detail: "this node lags behind the leader by more than the request's deadline".into(),
                unprocessed: true,
            }),
        }
    }
}

struct Rounds {
    node_id: NodeId,
    raft: Raft,
    peers: Peers,
}

async fn run(rounds: Rounds, mut queue: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() && queue.recv_many(&mut waiting, WAITING_READS_MAX).await == 0 {
            return;
        }
        while let Ok(more) = queue.try_recv() {
            waiting.push(more);
        }
        let deadline = waiting.iter().map(|read| read.deadline).max().unwrap_or_else(Instant::now);
        match rounds.round(deadline).await {
            Ok(index) => {
                for read in waiting.drain(..) {
                    let _ = read.answer.send(Ok(index));
                }
            }
            Err(error) => {
                let now = Instant::now();
                waiting.retain(|read| !read.answer.is_closed() && read.deadline > now);
                if !waiting.is_empty() {
                    tracing::debug!(%error, reads = waiting.len(), "a read index round failed; trying again");
                    rounds.wait_for_change(RETRY_PAUSE).await;
                }
            }
        }
    }
}

impl Rounds {
    async fn round(&self, deadline: Instant) -> Result<u64, ReadIndexError> {
        let leader = self.raft.metrics().borrow_watched().current_leader;
        match leader {
            None => Err(ReadIndexError::NotLeader { leader: None }),
            Some(id) if id == self.node_id.0 => read_index_here(&self.raft, deadline).await,
            Some(id) => match self.ask(id, deadline).await {
                Ok(Response::ReadIndex(result)) => result,
                Ok(other) => Err(ReadIndexError::Unavailable(format!("the leader answered {other:?}"))),
                Err(error) => Err(ReadIndexError::Unavailable(error.to_string())),
            },
        }
    }

    async fn ask(&self, leader: RawNodeId, deadline: Instant) -> Result<Response, CallError> {
        tokio::select! {
            answer = self.peers.call(NodeId(leader), Request::ReadIndex, deadline) => answer,
            () = deposed(&self.raft, leader) => Ok(Response::ReadIndex(Err(ReadIndexError::NotLeader { leader: None }))),
        }
    }

    async fn wait_for_change(&self, at_most: Duration) {
        let mut metrics = self.raft.metrics();
        metrics.borrow_and_update();
        let _ = tokio::time::timeout(at_most, metrics.changed()).await;
    }
}

/// The leader's part: how far the log is committed, confirmed by a quorum.
pub async fn read_index_here(raft: &Raft, deadline: Instant) -> Result<u64, ReadIndexError> {
    use openraft::errors::{LinearizableReadError, RaftError};
    match tokio::time::timeout_at(deadline, raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
        Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
            Err(ReadIndexError::NotLeader { leader: forward.leader_id.map(NodeId) })
        }
        Ok(Err(error)) => Err(ReadIndexError::Unavailable(error.to_string())),
        Err(_) => Err(ReadIndexError::Unavailable("no quorum answered in time".into())),
    }
}
