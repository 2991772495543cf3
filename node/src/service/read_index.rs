//! Linearizable reads by read index (Ongaro's dissertation, section 6.4): before it answers, a
//! node learns how far the log was committed when the read arrived, and waits until it has
//! applied that much.
//!
//! One task runs one round at a time; all reads that arrive during a round share the next one.
//! A follower asks the leader and shows its vote with the question; the leader asks as many
//! voters as it needs for a quorum: see [`skep_raft::leadership`]. No leases: a lease is
//! forgotten by a restart, a round with a quorum never lies.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use skep_base::id::{NodeId, RawNodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::pulse::Pulse;
use super::{HandOver, ServiceError};
use skep_raft::leadership::{self, Leading, Standing};
use skep_raft::peers::{CallError, Peers};
use skep_raft::resumption::Resumption;
use skep_raft::types::Vote;
use skep_raft::wait_until;
use skep_raft::wire::{ReadIndexError, Request, Response};
use skep_store::Raft;
use skep_store::{Applied, HeldVote};

/// Reads that may wait at a node; one more is refused as overload.
pub const WAITING_READS_MAX: usize = 64 * 1024;
/// Pause before a round is tried again where no news of a leader comes.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A voter that answers later than this does not count in the round.
const VOTER_TIMEOUT: Duration = Duration::from_millis(500);
/// When the fewest voters that can make a quorum have not answered by then, the others are asked.
const ASK_OTHERS_AFTER: Duration = Duration::from_millis(2);

/// The vote by which this node makes others sure that they lead.
#[derive(Clone)]
pub struct Vouching {
    pub held_vote: HeldVote,
    pub resumption: Resumption,
}

impl Vouching {
    /// None while it may have held a later one.
    fn vote(&self) -> Option<Vote> {
        self.held_vote.get().filter(|vote| self.resumption.may_vouch(vote))
    }
}

/// Hands reads to the task that confirms them.
#[derive(Clone)]
pub struct ReadIndexer {
    node_id: NodeId,
    raft: Raft,
    vouching: Vouching,
    queue: mpsc::Sender<Waiting>,
    applied: watch::Receiver<Applied>,
    pulse: Pulse,
}

struct Waiting {
    deadline: Instant,
    answer: oneshot::Sender<Result<u64, ReadIndexError>>,
    /// A peer's, whose request waits on this runtime.
    of_peer: bool,
}

impl ReadIndexer {
    /// Starts the task.
    pub fn start(
        node_id: NodeId,
        raft: Raft,
        peers: Peers,
        vouching: Vouching,
        applied: watch::Receiver<Applied>,
        hand_over: HandOver,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_READS_MAX);
        let pulse = Pulse::begin(Instant::now());
        let rounds = Rounds {
            node_id,
            raft: raft.clone(),
            peers,
            vouching: vouching.clone(),
            answered_last: Vec::new(),
        };
        tokio::spawn(run(rounds, waiting, pulse.clone(), hand_over));
        Self { node_id, raft, vouching, queue, applied, pulse }
    }

    /// Beats with each round that ends well.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Returns once everything acknowledged before the call is applied here.
    pub async fn confirm(&self, deadline: Instant) -> Result<(), ServiceError> {
        let index = self.round(deadline).await?;
        self.applied(index, deadline).await
    }

    /// The read index of a round that begins after the call; shared with all reads that wait for one.
    pub async fn round(&self, deadline: Instant) -> Result<u64, ServiceError> {
        let unavailable = |detail: String| ServiceError::Unavailable { detail, unprocessed: true };
        let answered = self
            .enqueue(deadline, false)
            .ok_or_else(|| ServiceError::Overloaded { detail: "too many reads wait at this node".into() })?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(Ok(index))) => Ok(index),
            Ok(Ok(Err(error))) => Err(unavailable(format!("reading needs the leader: {error}"))),
            Ok(Err(_)) => Err(unavailable("the node is stopping".into())),
            Err(_) => Err(unavailable("no leader confirmed the read within its deadline".into())),
        }
    }

    /// The leader's part: the read index for a member that showed its vote when it asked.
    pub async fn index_for(
        &self,
        asker: NodeId,
        vote: Option<Vote>,
        deadline: Instant,
    ) -> Result<u64, ReadIndexError> {
        match leadership::standing(&self.raft, self.node_id).await {
            None => return Err(ReadIndexError::Unavailable("the node is stopping".into())),
            Some(Standing::NotLeading { leader }) => return Err(ReadIndexError::NotLeader { leader }),
            Some(Standing::Leading(leading)) => {
                let asker_is_ours = vote.is_some_and(|vote| leading.is_supported_by(&vote));
                if asker_is_ours && leading.is_quorum(&[self.node_id.0, asker.0]) {
                    return Ok(leading.read_index);
                }
            }
        }
        // More voters are needed: together with all others that wait for them.
        let answered = self
            .enqueue(deadline, true)
            .ok_or_else(|| ReadIndexError::Unavailable("too many reads wait at the leader".into()))?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ReadIndexError::Unavailable("the node is stopping".into())),
            Err(_) => Err(ReadIndexError::Unavailable("no quorum answered in time".into())),
        }
    }

    /// A voter's part: whether it still holds this vote.
    pub fn holds(&self, vote: &Vote) -> bool {
        self.vouching.vote().is_some_and(|held| leadership::same_leader(&held, vote))
    }

    fn enqueue(
        &self,
        deadline: Instant,
        of_peer: bool,
    ) -> Option<oneshot::Receiver<Result<u64, ReadIndexError>>> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { deadline, answer, of_peer }).ok().map(|()| answered)
    }

    async fn applied(&self, index: u64, deadline: Instant) -> Result<(), ServiceError> {
        if self.applied.borrow().index >= Some(index) {
            return Ok(());
        }
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
    vouching: Vouching,
    /// The voters that made the last quorum: they are asked first.
    answered_last: Vec<RawNodeId>,
}

async fn run(mut rounds: Rounds, mut queue: mpsc::Receiver<Waiting>, pulse: Pulse, hand_over: HandOver) {
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
                pulse.beat(Instant::now());
                let answer = move |read: Waiting| drop(read.answer.send(Ok(index)));
                waiting.extract_if(.., |read| read.of_peer).for_each(answer);
                if !waiting.is_empty() {
                    let clients = std::mem::take(&mut waiting);
                    hand_over.give(move || clients.into_iter().for_each(answer));
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
    async fn round(&mut self, deadline: Instant) -> Result<u64, ReadIndexError> {
        let leader = self.raft.metrics().borrow_watched().current_leader;
        match leader {
            None => Err(ReadIndexError::NotLeader { leader: None }),
            Some(id) if id == self.node_id.0 => match leadership::standing(&self.raft, self.node_id).await {
                None => Err(ReadIndexError::Unavailable("the node is stopping".into())),
                Some(Standing::NotLeading { leader }) => Err(ReadIndexError::NotLeader { leader }),
                Some(Standing::Leading(leading)) => self.prove(leading, deadline).await,
            },
            Some(id) => match self.ask(id, deadline).await {
                Ok(Response::ReadIndex(result)) => result,
                Ok(other) => Err(ReadIndexError::Unavailable(format!("the leader answered {other:?}"))),
                Err(error) => Err(ReadIndexError::Unavailable(error.to_string())),
            },
        }
    }

    async fn ask(&self, leader: RawNodeId, deadline: Instant) -> Result<Response, CallError> {
        let request = Request::ReadIndex { vote: self.vouching.vote() };
        tokio::select! {
            answer = self.peers.call(NodeId(leader), request, deadline) => answer,
            // A deposed leader's answer is of no use.
            _ = wait_until(&self.raft, |metrics| metrics.current_leader.is_some_and(|now| now != leader)) => Ok(Response::ReadIndex(Err(ReadIndexError::NotLeader { leader: None }))),
        }
    }

    /// Sees a quorum with this leader's vote: the fewest voters that make one, those first that
    /// answered last time, and the others where these are slow.
    async fn prove(&mut self, leading: Leading, deadline: Instant) -> Result<u64, ReadIndexError> {
        let mut seen = vec![self.node_id.0];
        let mut others: Vec<_> = leading.others(self.node_id.0).into_iter().collect();
        others.sort_by_key(|voter| !self.answered_last.contains(voter));
        let mut others = others.into_iter();
        let deadline = deadline.min(Instant::now() + VOTER_TIMEOUT);
        let ask = |voter: RawNodeId| {
            let (peers, vote) = (&self.peers, leading.vote);
            async move {
                let answer = peers.call(NodeId(voter), Request::HoldsVote(vote), deadline).await;
                matches!(answer, Ok(Response::HoldsVote(true))).then_some(voter)
            }
        };
        let mut asked = vec![self.node_id.0];
        let mut answers = FuturesUnordered::new();
        while !leading.is_quorum(&asked) {
            let Some(voter) = others.next() else { break };
            asked.push(voter);
            answers.push(ask(voter));
        }
        let mut slow = std::pin::pin!(tokio::time::sleep(ASK_OTHERS_AFTER));
        while !leading.is_quorum(&seen) {
            let refused = tokio::select! {
                answer = answers.next(), if !answers.is_empty() => match answer {
                    Some(Some(voter)) => {
                        seen.push(voter);
                        false
                    }
                    _ => true,
                },
                () = slow.as_mut(), if others.len() > 0 => true,
                else => return Err(ReadIndexError::Unavailable("too few voters answered".into())),
            };
            if refused {
                answers.extend(others.by_ref().map(ask));
            }
        }
        drop(answers);
        self.answered_last = seen;
        Ok(leading.read_index)
    }

    async fn wait_for_change(&self, at_most: Duration) {
        let mut metrics = self.raft.metrics();
        metrics.borrow_and_update();
        let _ = tokio::time::timeout(at_most, metrics.changed()).await;
    }
}
