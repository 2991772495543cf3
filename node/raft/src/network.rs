//! openraft's network over [`Peers`].
//!
//! Replication is a pipelined stream of appends for each follower, on the one connection to it;
//! heartbeats are urgent calls that pass before it; a snapshot has a connection of its own. No
//! tasks: a stream is driven by whoever polls its answers.

use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use openraft::errors::{
    ErrorSource, NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::impls::EmptyNode;
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::StreamAppendError;
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, StorageError};
use skep_base::id::{NodeId, RawNodeId};
use tokio::time::Instant;

use crate::peers::{
    CallError, NotSent, OpenAppends, Patience, Peers, SendSnapshotError, SnapshotChunks, StreamEvent,
    Unanswered,
};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::wire::{
    AppendRequest, AppendResponse, AppendResult, GroupId, Request, Response, SnapshotBegin, SnapshotResponse,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use crate::witness::{Held, Witness};

/// Where an append reaches this many bytes of entries, the rest goes into a further one.
pub const APPEND_BYTES_TARGET: usize = 4 * 1024 * 1024;

/// About how many bytes an entry takes beside its command.
const ENTRY_BYTES: usize = 64;

/// A follower that answers no append for so long gets a new stream. Generous: that the peer lives
/// is the connection's business, and a full disk may keep a follower waiting; asking it again
/// would only add to what it has to do.
const APPEND_STALL_MAX: Duration = Duration::from_secs(30);

/// A snapshot's receiver says each second that it lives.
const SNAPSHOT_STALL_MIN: Duration = Duration::from_secs(10);

/// Waits between attempts at a peer that cannot be reached: the first and the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

type RpcError = RPCError<TypeConfig>;

/// What openraft calls a snapshot, as the wire needs it.
pub trait SnapshotSource: Send + 'static {
    /// The snapshot in its file format.
    fn into_chunks(self) -> SnapshotChunks;
}

/// Makes openraft's clients. `D` is the state machine's snapshot.
pub struct Network<D> {
    peers: Peers,
    group: GroupId,
    witness: Witness,
    snapshot: PhantomData<fn(D)>,
}

impl<D> Network<D> {
    /// `witness` is told what the peers answer to have.
    pub fn new(peers: Peers, group: GroupId, witness: Witness) -> Self {
        Self { peers, group, witness, snapshot: PhantomData }
    }

    fn client(&self, target: RawNodeId, heartbeat: bool) -> PeerClient<D> {
        PeerClient {
            peers: self.peers.clone(),
            group: self.group,
            target: NodeId(target),
            heartbeat,
            acknowledged: None,
            witness: self.witness.clone(),
            snapshot: PhantomData,
        }
    }
}

impl<D: SnapshotSource> RaftNetworkFactory<TypeConfig> for Network<D> {
    type Network = PeerClient<D>;

    async fn new_client(&mut self, target: RawNodeId, _node: &EmptyNode) -> PeerClient<D> {
        self.client(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: RawNodeId, _node: &EmptyNode) -> PeerClient<D> {
        self.client(target, true)
    }
}

/// openraft's way to one peer.
pub struct PeerClient<D> {
    peers: Peers,
    group: GroupId,
    target: NodeId,
    heartbeat: bool,
    /// The last of the leader's log that the peer said to have on disk, and under which vote.
    acknowledged: Option<(Vote, LogId)>,
    witness: Witness,
    snapshot: PhantomData<fn(D)>,
}

impl<D: SnapshotSource> PeerClient<D> {
    async fn ask(
        &self,
        action: RPCTypes,
        request: Request,
        patience: Patience,
        option: &RPCOption,
    ) -> Result<Response, RpcError> {
        let deadline = Instant::now() + option.soft_ttl();
        let response = self.peers.call_with(self.target, self.group, request, deadline, patience).await;
        response.map_err(|error| self.rpc_error(action, option, error))
    }

    fn rpc_error(&self, action: RPCTypes, option: &RPCOption, error: CallError) -> RpcError {
        match &error {
            CallError::NotSent(NotSent::Deadline) | CallError::Unknown(Unanswered::Deadline) => {
                self.timeout(action, option.soft_ttl())
            }
            CallError::NotSent(NotSent::Lost(_)) | CallError::Unknown(Unanswered::Lost(_)) => {
                NetworkError::new(&error).into()
            }
            _ => Unreachable::new(&error).into(),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        Timeout { action, id: self.peers.local().0, target: self.target.0, timeout }.into()
    }

    fn unexpected(&self) -> RpcError {
        Unreachable::from_string("the peer answered something else").into()
    }

    /// Follows what the peer says to have on disk, and notices where it has lost some of that.
    fn judge(&mut self, vote: Vote, session: u64, result: &AppendResult) {
        let known = self.acknowledged.filter(|(under, _)| *under == vote).map(|(_, known)| known);
        match result {
            Ok(Some(log_id)) => {
                self.acknowledged = Some((vote, known.map_or(*log_id, |it| it.max(*log_id))));
                self.witness.saw(self.target, Some(session), Held { vote, last: Some(*log_id) });
            }
            Err(StreamAppendError::Conflict(at)) if known.is_some_and(|known| at.index <= known.index) => {
                self.acknowledged = None;
                self.name_loss(at);
            }
            _ => {}
        }
    }

    /// openraft sends the peer again what it lacks (`allow_log_reversion`); that its disk lies is
    /// for an operator to know.
    fn name_loss(&self, lacking: &LogId) {
        self.witness.went_back(self.target);
        tracing::error!(
            peer = %self.target, lacking = lacking.index,
            "the peer's log has lost entries that it had acknowledged as on its disk; it is sent them again, \
             but its disk cannot be trusted: replace it, and give the node an empty data folder"
        );
    }

    async fn vote_with(&self, request: Request, option: &RPCOption) -> Result<VoteResponse, RpcError> {
        match self.ask(RPCTypes::Vote, request, Patience::Deadline, option).await? {
            Response::Vote(vote) => Ok(vote),
            _ => Err(self.unexpected()),
        }
    }
}

impl<D: SnapshotSource> RaftNetworkV2<TypeConfig> for PeerClient<D> {
    type SnapshotData = D;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        // A heartbeat's is the last that the leader knows the peer to have on disk.
        let matching = rpc.prev_log_id.filter(|_| self.heartbeat);
        match self.ask(RPCTypes::AppendEntries, Request::Append(rpc), Patience::None, &option).await? {
            Response::Append(append) => {
                if let (AppendResponse::Conflict, Some(matching)) = (&append, matching) {
                    self.name_loss(&matching);
                }
                Ok(append)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeat {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft waits out its backoff in here: to connect before would be to try again at once.
            let mut input = input;
            let Some(first) = input.next().await else { return Ok(futures_util::stream::empty().boxed()) };
            let input = futures_util::stream::iter([first]).chain(input);
            let deadline = Instant::now() + option.soft_ttl();
            let stream = self
                .peers
                .open_appends(self.target, self.group, deadline)
                .await
                .map_err(|error| self.rpc_error(RPCTypes::AppendEntries, &option, error.into()))?;
            let pipeline = Pipeline { client: self, input: Some(input), stream, vote: None };
            let answers =
                futures_util::stream::unfold(
                    Some(pipeline),
                    |pipeline| async move { pipeline?.next().await },
                );
            Ok(answers.boxed())
        })
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        let vote = rpc.vote;
        let answer = self.vote_with(Request::Vote(rpc), &option).await?;
        if answer.vote_granted {
            self.witness.saw(self.target, None, Held { vote, last: None });
        }
        Ok(answer)
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        self.vote_with(Request::PreVote(rpc), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, D>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<TypeConfig>> {
        let begin = SnapshotBegin { group: self.group, vote, meta: snapshot.meta };
        let stall_max = option.soft_ttl().max(SNAPSHOT_STALL_MIN);
        let chunks = snapshot.snapshot.into_chunks();
        let sent = tokio::select! {
            sent = self.peers.send_snapshot(self.target, begin, chunks, stall_max) => sent,
            closed = cancel => return Err(closed.into()),
        };
        sent.map_err(|error| match error {
            SendSnapshotError::Source(error) => {
                StorageError::read_snapshot(None, ErrorSource::from_error(&error)).into()
            }
            SendSnapshotError::Stalled => self.timeout(RPCTypes::InstallSnapshot, stall_max).into(),
            SendSnapshotError::Lost(_) => NetworkError::new(&error).into(),
            _ => Unreachable::new(&error).into(),
        })
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RpcError> {
        let request = Request::TransferLeader(req);
        match self.ask(RPCTypes::TransferLeader, request, Patience::None, &option).await? {
            Response::TransferLeader(transfer) => Ok(transfer),
            _ => Err(self.unexpected()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let waits = std::iter::successors(Some(BACKOFF_MIN), |wait| Some((*wait * 2).min(BACKOFF_MAX)));
        Some(Backoff::new(waits))
    }
}

/// A stream of appends on its way: what openraft gives goes out as far as the window has room,
/// while answers come back.
struct Pipeline<'s, D, S> {
    client: &'s mut PeerClient<D>,
    /// `None` once it has ended, or nothing more is to be sent.
    input: Option<S>,
    stream: OpenAppends,
    /// That of the leader; a stream has one.
    vote: Option<Vote>,
}

/// An answer and what goes on after it.
type Step<'s, D, S> = (Result<AppendResult, RpcError>, Option<Pipeline<'s, D, S>>);

impl<'s, D, S> Pipeline<'s, D, S>
where
    D: SnapshotSource,
    S: Stream<Item = AppendRequest> + Unpin,
{
    /// The next answer. `None` is the regular end: an error there would make openraft start over
    /// with a probe.
    async fn next(mut self) -> Option<Step<'s, D, S>> {
        enum Turn {
            Came(StreamEvent),
            Send(Option<AppendRequest>),
            Leave,
            Stalled,
        }
        let mut stalled = std::pin::pin!(tokio::time::sleep(APPEND_STALL_MAX));
        loop {
            let (waiting, sending) = (!self.stream.is_answered(), self.input.is_some());
            if !waiting && !sending {
                return None;
            }
            let has_room = self.stream.has_room();
            let retired = self.stream.retired();
            let turn = tokio::select! {
                biased;
                event = self.stream.event() => Turn::Came(event),
                () = retired, if sending => Turn::Leave,
                append = next_of(&mut self.input), if sending && has_room => Turn::Send(append),
                () = &mut stalled, if waiting => Turn::Stalled,
            };
            match turn {
                Turn::Send(Some(append)) => {
                    self.vote = Some(append.vote);
                    if !waiting {
                        stalled.as_mut().reset(Instant::now() + APPEND_STALL_MAX);
                    }
                    for append in split(append) {
                        self.stream.send(append);
                    }
                }
                Turn::Send(None) | Turn::Leave => {
                    self.input = None;
                    self.stream.finish();
                }
                Turn::Came(StreamEvent::Appended(result)) => {
                    if let Some(vote) = self.vote {
                        self.client.judge(vote, self.stream.peer_session(), &result);
                    }
                    let more = result.is_ok().then_some(self);
                    return Some((Ok(result), more));
                }
                Turn::Came(StreamEvent::End(None)) if !waiting => return None,
                Turn::Came(StreamEvent::End(error)) => {
                    let error = error.unwrap_or_else(|| "the peer ended the stream".into());
                    return Some((Err(Unreachable::from_string(error).into()), None));
                }
                Turn::Came(StreamEvent::Lost(error)) => {
                    return Some((Err(NetworkError::from_string(error).into()), None));
                }
                Turn::Stalled => {
                    let error = self.client.timeout(RPCTypes::AppendEntries, APPEND_STALL_MAX);
                    return Some((Err(error), None));
                }
            }
        }
    }
}

async fn next_of<S: Stream<Item = AppendRequest> + Unpin>(input: &mut Option<S>) -> Option<AppendRequest> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

fn size_estimate(entry: &Entry) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => ENTRY_BYTES + command.size_estimate(),
        _ => ENTRY_BYTES,
    }
}

/// Cuts an append into several of about [`APPEND_BYTES_TARGET`] at most. Each is answered by
/// itself; openraft takes an answer for a part of what it gave.
fn split(mut append: AppendRequest) -> Vec<AppendRequest> {
    let mut parts = Vec::with_capacity(1);
    loop {
        let mut bytes = 0;
        let fits = append.entries.iter().take_while(|entry| {
            let first = bytes == 0;
            bytes += size_estimate(entry);
            first || bytes <= APPEND_BYTES_TARGET
        });
        let count = fits.count();
        if count >= append.entries.len() {
            parts.push(append);
            return parts;
        }
        let rest = append.entries.split_off(count);
        let last = append.entries.last().map(|entry| entry.log_id);
        let next = AppendRequest { prev_log_id: last, entries: rest, ..append };
        parts.push(std::mem::replace(&mut append, next));
    }
}

#[cfg(test)]
pub(super) mod tests;
