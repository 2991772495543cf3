//! Writes on their way to the leader's log: gathered into commands, carried to whoever leads,
//! and carried again where that failed and the deadline allows.
//!
//! One task gathers; at most [`IN_FLIGHT_MAX`] commands are under way from a node, so that what
//! arrives meanwhile shares the next one (an own form of group commit: one log entry, one fsync
//! and one round for up to a thousand clients). Carrying an operation twice is harmless: a
//! message is named by its content, a text by its request id.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_base::id::{NodeId, RawNodeId};
use skep_state::command::{COMMAND_BYTES_TARGET, COMMAND_OPS_MAX, Command, Op, OpOutcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::room::Room;
use super::time::{CLOCKS, Time};
use super::{HandOver, ServiceError};
use skep_members::gossip::Gossip;
use skep_raft::deposed;
use skep_raft::peers::{CallError, Peers};
use skep_raft::wire::{ProposeError, Refusal, Request, Response};
use skep_store::Raft;
use skep_store::StoreHealth;

/// Commands under way from this node at a time.
pub const IN_FLIGHT_MAX: usize = 2;
/// Operations that may wait at a node; one more is refused as overload.
pub const QUEUED_OPS_MAX: usize = 16 * 1024;
/// Bytes of operations that may wait or be under way at a node.
pub const QUEUED_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Pause before a command is carried again where nothing better tells when to.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for news of a leader before the deadlines are looked at again.
const NO_LEADER_PAUSE: Duration = Duration::from_secs(1);
/// For how long leaders without room on their disks are asked again before clients are told: a
/// leader whose disk is full hands over to a voter that may have room, which takes a try or two
/// of its own and an election.
const FULL_GRACE: Duration = Duration::from_secs(3);

/// Hands operations to the task that carries them.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Pending>,
    bytes: Arc<Semaphore>,
}

struct Pending {
    ops: Vec<Op>,
    deadline: Instant,
    times: Times,
    /// Came from a peer that took this node for the leader: it is never carried further, so
    /// that no two nodes can wait for each other.
    forwarded: bool,
    answer: oneshot::Sender<Result<Vec<OpOutcome>, ProposeError>>,
    _bytes: OwnedSemaphorePermit,
}

impl Pending {
    fn takes_room(&self) -> bool {
        self.ops.iter().any(Op::takes_room)
    }
}

/// Whose word the times of operations are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The leader's, when it proposes them.
    Leader,
    /// What they had before: they are made anew of a snapshot.
    Kept,
}

/// What the task needs to carry a command.
#[derive(Clone)]
pub struct Carrier {
    pub node_id: NodeId,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
    pub time: Time,
    pub health: tokio::sync::watch::Receiver<StoreHealth>,
    pub room: Room,
    pub commit_latency: crate::telemetry::Latency,
    pub hand_over: HandOver,
}

impl Proposer {
    /// Starts the task.
    pub fn start(carrier: Carrier) -> Self {
        let (queue, pending) = mpsc::channel(QUEUED_OPS_MAX);
        tokio::spawn(gather(carrier, pending));
        Self { queue, bytes: Arc::new(Semaphore::new(QUEUED_BYTES_MAX)) }
    }

    /// Proposes one operation and waits until it is applied, or the deadline.
    pub async fn propose(&self, op: Op, deadline: Instant) -> Result<OpOutcome, ServiceError> {
        let outcomes = self.enqueue(vec![op], Times::Leader, deadline, false).await.map_err(service_error)?;
        outcomes
            .into_iter()
            .next()
            .ok_or_else(|| ServiceError::Fatal { detail: "the store answered nothing".into() })
    }

    /// Proposes operations together; their outcomes come in the same order.
    pub async fn propose_all(&self, ops: Vec<Op>, deadline: Instant) -> Result<Vec<OpOutcome>, ServiceError> {
        self.enqueue(ops, Times::Leader, deadline, false).await.map_err(service_error)
    }

    /// Proposes what a snapshot holds, with the times that it had.
    pub async fn restore(&self, ops: Vec<Op>, deadline: Instant) -> Result<Vec<OpOutcome>, ServiceError> {
        self.enqueue(ops, Times::Kept, deadline, false).await.map_err(service_error)
    }

    /// Proposes what a peer sent here; refused at once where this node does not lead.
    pub async fn propose_forwarded(
        &self,
        ops: Vec<Op>,
        times: Times,
        deadline: Instant,
    ) -> Result<Vec<OpOutcome>, ProposeError> {
        self.enqueue(ops, times, deadline, true).await
    }

    async fn enqueue(
        &self,
        ops: Vec<Op>,
        times: Times,
        deadline: Instant,
        forwarded: bool,
    ) -> Result<Vec<OpOutcome>, ProposeError> {
        let size = ops.iter().map(Op::size_estimate).sum::<usize>().min(QUEUED_BYTES_MAX);
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        let bytes =
            Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_| ProposeError::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Pending { ops, times, deadline, forwarded, answer, _bytes: bytes })
            .map_err(|_| ProposeError::Overloaded)?;
        // It may wait behind others that get no answer: its own deadline holds all the same.
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProposeError::Unknown("the node is stopping".into())),
            Err(_) => Err(ProposeError::Unknown("no quorum had it on disk within the deadline".into())),
        }
    }
}

fn service_error(error: ProposeError) -> ServiceError {
    match error {
        ProposeError::NotLeader { .. } => ServiceError::Unavailable {
            detail: "no leader within the request's deadline; nothing was written".into(),
            unprocessed: true,
        },
        ProposeError::Overloaded => ServiceError::Overloaded {
            detail: "too many writes wait at this node; nothing was written".into(),
        },
        ProposeError::Full => ServiceError::Full {
            detail: "the disk of the cluster's leader is full; nothing was written".into(),
        },
        ProposeError::Unknown(detail) => ServiceError::Unavailable {
            detail: format!("whether it was written is not known: {detail}"),
            unprocessed: false,
        },
    }
}

/// Since when every leader that was asked had a full disk: once that has lasted, a write is
/// refused at once, and does not wait for its own turn to find out.
#[derive(Default)]
struct Fullness {
    since: Mutex<Option<Instant>>,
}

impl Fullness {
    fn lasts(&self) -> Duration {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now).elapsed()
    }

    fn end(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Takes what waits, as much as fits one command, whenever a command may start.
async fn gather(carrier: Carrier, mut pending: mpsc::Receiver<Pending>) {
    // What takes no room waits for nothing that does, nor holds it up.
    let (in_flight, of_no_room) =
        (Arc::new(Semaphore::new(IN_FLIGHT_MAX)), Arc::new(Semaphore::new(IN_FLIGHT_MAX)));
    let fullness = Arc::new(Fullness::default());
    let mut held_over: Option<Pending> = None;
    loop {
        let first = match held_over.take() {
            Some(first) => first,
            None => match pending.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let permits = if first.takes_room() { &in_flight } else { &of_no_room };
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return };
        let mut count = first.ops.len();
        let mut bytes = first.ops.iter().map(Op::size_estimate).sum::<usize>();
        let mut batch = vec![first];
        while count < COMMAND_OPS_MAX && bytes < COMMAND_BYTES_TARGET {
            let Ok(next) = pending.try_recv() else { break };
            let next_bytes = next.ops.iter().map(Op::size_estimate).sum::<usize>();
            let fits = count + next.ops.len() <= COMMAND_OPS_MAX
                && bytes + next_bytes <= 2 * COMMAND_BYTES_TARGET
                && next.times == batch[0].times
                // What is done also on a full disk must not wait with what is not.
                && next.takes_room() == batch[0].takes_room();
            if !fits {
                held_over = Some(next);
                break;
            }
            count += next.ops.len();
            bytes += next_bytes;
            batch.push(next);
        }
        let carrier = carrier.clone();
        let fullness = fullness.clone();
        tokio::spawn(async move {
            carry(carrier, &fullness, batch).await;
            drop(permit);
        });
    }
}

/// Carries a batch until it is answered or all its deadlines have passed.
async fn carry(carrier: Carrier, fullness: &Fullness, mut batch: Vec<Pending>) {
    // Once a try may have reached a log, "certainly not executed" can no longer be said.
    let mut maybe_executed = false;
    let started = Instant::now();
    loop {
        let leader = carrier.raft.metrics().borrow_watched().current_leader;
        if leader != Some(carrier.node_id.0) {
            let elsewhere = match maybe_executed {
                true => ProposeError::Unknown("this node leads no more".into()),
                false => ProposeError::NotLeader { leader: leader.map(NodeId) },
            };
            answer_where(&mut batch, |pending| pending.forwarded, &elsewhere);
        }
        // Clients that gave up take no part in further tries.
        batch.retain(|pending| !pending.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        let ops = batch.iter().flat_map(|pending| pending.ops.iter().cloned()).collect();
        let times = batch[0].times;
        let deadline = batch.iter().map(|pending| pending.deadline).max().unwrap_or(started);
        let error = match attempt(&carrier, leader, ops, times, deadline).await {
            Ok(outcomes) => {
                fullness.end();
                carrier.commit_latency.observe(started.elapsed());
                answer_all(batch, outcomes, &carrier.hand_over);
                return;
            }
            Err(error) => error,
        };
        if matches!(error, ProposeError::Full) && !maybe_executed {
            // The peer that sent it asks again, and whom to ask is its choice.
            let patient = fullness.lasts() < FULL_GRACE;
            answer_where(&mut batch, |pending| pending.forwarded || !patient, &error);
        }
        maybe_executed |= matches!(error, ProposeError::Unknown(_));
        let final_error = match error {
            ProposeError::Unknown(_) => error,
            error if maybe_executed => {
                ProposeError::Unknown(format!("a first try may have been written; then: {error}"))
            }
            error => error,
        };
        let pause = if leader.is_none() { NO_LEADER_PAUSE } else { RETRY_PAUSE };
        let soonest = batch.iter().map(|pending| pending.deadline).min().unwrap_or(started);
        carrier.wait_for_change(leader, pause.min(soonest.saturating_duration_since(Instant::now()))).await;
        let now = Instant::now();
        answer_where(&mut batch, |pending| pending.deadline <= now, &final_error);
    }
}

/// One try: here, if this node leads, else at the leader.
async fn attempt(
    carrier: &Carrier,
    leader: Option<RawNodeId>,
    mut ops: Vec<Op>,
    times: Times,
    deadline: Instant,
) -> Result<Vec<OpOutcome>, ProposeError> {
    match leader {
        None => Err(ProposeError::NotLeader { leader: None }),
        Some(id) if id == carrier.node_id.0 => {
            let now_ms = carrier.time.stamp_ms().await;
            ops.iter_mut().for_each(|op| op.stamp(now_ms, times == Times::Kept));
            propose_here(carrier, Command::new(ops), deadline).await
        }
        Some(id) => {
            // A leader of the version before keeps the times of whatever it is sent.
            let request = match (times, carrier.reads_clocks(NodeId(id))) {
                (Times::Leader, _) | (Times::Kept, Some(false)) => Request::Propose { ops },
                (Times::Kept, Some(true)) => Request::Restore { ops },
                // Its version is not known at the moment.
                (Times::Kept, None) => return Err(ProposeError::NotLeader { leader: None }),
            };
            let answer = tokio::select! {
                answer = carrier.peers.call(NodeId(id), request, deadline) => answer,
                () = deposed(&carrier.raft, id) => {
                    return Err(ProposeError::Unknown("another node leads by now".into()));
                }
            };
            match answer {
                Ok(Response::Proposed(result)) => result,
                Ok(Response::Refused(Refusal::Overloaded)) => Err(ProposeError::Overloaded),
                Ok(Response::Refused(_)) => Err(ProposeError::NotLeader { leader: None }),
                Ok(other) => Err(ProposeError::Unknown(format!("unexpected answer: {other:?}"))),
                Err(CallError::Unknown(detail)) => Err(ProposeError::Unknown(detail.to_string())),
                Err(_) => Err(ProposeError::NotLeader { leader: None }),
            }
        }
    }
}

/// Appends a command to this node's own log as leader, and waits until it is applied.
async fn propose_here(
    carrier: &Carrier,
    command: Command,
    deadline: Instant,
) -> Result<Vec<OpOutcome>, ProposeError> {
    use openraft::errors::{ClientWriteError, RaftError};
    let takes_room = command.ops.iter().any(Op::takes_room);
    if takes_room && (carrier.health.borrow().full.is_some() || carrier.room.is_short().await) {
        return Err(ProposeError::Full);
    }
    let written = tokio::select! {
        written = carrier.raft.client_write(command) => written,
        () = deposed(&carrier.raft, carrier.node_id.0) => return Err(ProposeError::Unknown("another node leads by now".into())),
        () = tokio::time::sleep_until(deadline) => {
            return Err(ProposeError::Unknown("no quorum had it on disk within the deadline".into()));
        }
    };
    match written {
        Ok(written) => Ok(written.data.outcomes),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            Err(ProposeError::NotLeader { leader: forward.leader_id.map(NodeId) })
        }
        Err(error) => Err(ProposeError::Unknown(error.to_string())),
    }
}

fn answer_all(batch: Vec<Pending>, outcomes: Vec<OpOutcome>, hand_over: &HandOver) {
    let mut outcomes = outcomes.into_iter();
    let answer = move |pending: Pending| {
        let own: Vec<_> = outcomes.by_ref().take(pending.ops.len()).collect();
        let answer = if own.len() == pending.ops.len() {
            Ok(own)
        } else {
            Err(ProposeError::Unknown("the leader answered fewer operations than were sent".into()))
        };
        let _ = pending.answer.send(answer);
    };
    // Peers' requests wait on this runtime, and come a batch each.
    match batch.iter().all(|pending| pending.forwarded) {
        true => batch.into_iter().for_each(answer),
        false => hand_over.give(move || batch.into_iter().for_each(answer)),
    }
}

/// Answers those of a batch that `which` names, and takes them out of it.
fn answer_where(batch: &mut Vec<Pending>, which: impl Fn(&Pending) -> bool, error: &ProposeError) {
    for pending in batch.extract_if(.., |pending| which(pending)) {
        let _ = pending.answer.send(Err(error.clone()));
    }
}

impl Carrier {
    fn reads_clocks(&self, id: NodeId) -> Option<bool> {
        let view = self.gossip.view().borrow().clone();
        view.live(id).map(|record| record.protocol.1 >= CLOCKS.0)
    }

    /// Waits for another leader than `before`, or `at_most`.
    async fn wait_for_change(&self, before: Option<RawNodeId>, at_most: Duration) {
        let mut metrics = self.raft.metrics();
        let changed = async {
            while metrics.borrow_and_update().current_leader == before {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(at_most, changed).await;
    }
}
