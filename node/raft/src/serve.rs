//! What a node's consensus answers to its peers: votes, appends and snapshots go to openraft, all
//! else to the wiring's [`CallHandler`]. No tasks of its own.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use openraft::Raft;
use openraft::storage::RaftStateMachine;
use openraft::type_config::alias::SnapshotOf;
use skep_base::id::{ClusterId, NodeId};

use crate::peers::{PeerHandler, SnapshotChunks};
use crate::resumption::Resumption;
use crate::types::TypeConfig;
use crate::wire::{
    AppendRequest, AppendResult, GroupId, Refusal, Request, Response, SnapshotBegin, SnapshotResponse,
    short_text,
};

/// Answers what is not consensus: proposals, read indexes, bootstrap, operators' wishes.
pub trait CallHandler: Send + Sync + 'static {
    /// Answers a request. Dropped when its time is over. What it does not know, it answers with
    /// [`Refusal::NotSupported`].
    fn call(&self, from: NodeId, request: Request) -> BoxFuture<'static, Response>;

    /// See [`PeerHandler::adopt`].
    fn adopt(&self, from: NodeId, cluster: ClusterId) -> BoxFuture<'static, bool>;
}

/// Makes a snapshot of the chunks that arrive; it checks them: they are hostile.
pub trait SnapshotAssembler: Send + Sync + 'static {
    type Snapshot: Send + 'static;

    fn assemble(&self, chunks: SnapshotChunks) -> BoxFuture<'static, std::io::Result<Self::Snapshot>>;
}

/// One Raft group's side of the peers' network.
pub struct RaftHandler<SM: RaftStateMachine<TypeConfig>, A> {
    pub raft: Raft<TypeConfig, SM>,
    pub group: GroupId,
    pub snapshots: A,
    pub calls: Arc<dyn CallHandler>,
    /// What this node needs to give a vote, or to be made to ask for some.
    pub resumption: Resumption,
}

impl<SM, A> PeerHandler for RaftHandler<SM, A>
where
    SM: RaftStateMachine<TypeConfig>,
    A: SnapshotAssembler<Snapshot = SM::SnapshotData>,
{
    fn adopt(&self, from: NodeId, cluster: ClusterId) -> BoxFuture<'static, bool> {
        self.calls.adopt(from, cluster)
    }

    fn handle(&self, from: NodeId, group: GroupId, request: Request) -> BoxFuture<'static, Response> {
        if group != self.group {
            return async { Response::Refused(Refusal::NotSupported) }.boxed();
        }
        let raft = self.raft.clone();
        match request {
            Request::Vote(vote) | Request::PreVote(vote) if !self.resumption.may_grant(&vote) => not_ready(),
            Request::TransferLeader(_) if !self.resumption.may_stand() => not_ready(),
            Request::Append(append) if !self.resumption.may_follow(&append.vote) => not_ready(),
            Request::Append(append) => async move {
                match raft.append_entries(append).await {
                    Ok(answer) => Response::Append(answer),
                    Err(error) => failed(error),
                }
            }
            .boxed(),
            Request::Vote(vote) => async move {
                match raft.vote(vote).await {
                    Ok(answer) => Response::Vote(answer),
                    Err(error) => failed(error),
                }
            }
            .boxed(),
            Request::PreVote(vote) => async move {
                match raft.pre_vote(vote).await {
                    Ok(answer) => Response::Vote(answer),
                    Err(error) => failed(error),
                }
            }
            .boxed(),
            Request::TransferLeader(transfer) => async move {
                match raft.handle_transfer_leader(transfer).await {
                    Ok(answer) => Response::TransferLeader(answer),
                    Err(error) => failed(error),
                }
            }
            .boxed(),
            request => self.calls.call(from, request),
        }
    }

    fn append_stream(
        &self,
        _from: NodeId,
        group: GroupId,
        appends: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, String>> {
        if group != self.group {
            let refused = Err(Refusal::NotSupported.to_string());
            return futures_util::stream::iter([refused]).boxed();
        }
        let resumption = self.resumption.clone();
        let appends =
            appends.take_while(move |append| std::future::ready(resumption.may_follow(&append.vote)));
        let answers = self.raft.stream_append(appends.boxed());
        answers.map(|answer| answer.map_err(short_text)).boxed()
    }

    fn receive_snapshot(
        &self,
        from: NodeId,
        begin: SnapshotBegin,
        chunks: SnapshotChunks,
    ) -> BoxFuture<'static, Result<SnapshotResponse, String>> {
        if begin.group != self.group {
            return async { Err(Refusal::NotSupported.to_string()) }.boxed();
        }
        if !self.resumption.may_follow(&begin.vote) {
            return async { Err(Refusal::NotReady.to_string()) }.boxed();
        }
        let raft = self.raft.clone();
        let snapshot = self.snapshots.assemble(chunks);
        async move {
            tracing::info!(peer = %from, meta = %begin.meta, "a snapshot arrives");
            let snapshot = snapshot.await.map_err(short_text)?;
            let snapshot = SnapshotOf::<TypeConfig, SM::SnapshotData> { meta: begin.meta, snapshot };
            raft.install_full_snapshot(begin.vote, snapshot).await.map_err(short_text)
        }
        .boxed()
    }
}

fn not_ready() -> BoxFuture<'static, Response> {
    async { Response::Refused(Refusal::NotReady) }.boxed()
}

/// openraft has stopped, or its storage failed.
fn failed(error: impl ToString) -> Response {
    Response::Failed(short_text(error))
}
