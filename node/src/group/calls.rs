//! What peers ask of a group beside consensus: proposals, read indexes, bootstrap, operations.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use skep_base::id::{ClusterId, NodeId};
use skep_members::gossip::Gossip;
use tokio::time::Instant;

use crate::service::operator::Operator;
use crate::service::proposer::{Proposer, Times};
use crate::service::read_index::ReadIndexer;
use crate::service::tasks::Said;
use crate::service::tasks::dispatcher::{Held as HeldLeases, led_term};
use crate::service::time::own_clock_ms;
use skep_raft::formation::bootstrap::driver::Bootstrap;
use skep_raft::membership::stops::Stops;
use skep_raft::peers::Peers;
use skep_raft::serve::CallHandler;
use skep_raft::wire::{ProposeError, Refusal, Request, Response};
use skep_raft::witness::{self, Held, Witness};
use skep_state::command::Op;
use skep_store::{HeldVote, Raft, StoreHealth};
use tokio::sync::watch;

/// How long a forwarded proposal may take here; its sender's own deadline is shorter or equal.
const FORWARDED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read index may take here.
const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to see whether a peer is reached; the peer waits longer.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// The node's answers.
pub struct Calls {
    pub node_id: NodeId,
    pub raft: Raft,
    pub proposer: Proposer,
    pub read_indexer: ReadIndexer,
    pub gossip: Gossip,
    pub peers: Peers,
    pub bootstrap: Bootstrap,
    pub operator: Operator,
    pub stops: Stops,
    pub witness: Witness,
    pub held_vote: HeldVote,
    pub health: watch::Receiver<StoreHealth>,
    pub held_leases: HeldLeases,
}

impl CallHandler for Calls {
    fn call(&self, from: NodeId, request: Request) -> BoxFuture<'static, Response> {
        let now = Instant::now();
        match request {
            Request::Propose { ops } => self.propose(ops, Times::Leader, now + FORWARDED_TIMEOUT),
            Request::Restore { ops } => self.propose(ops, Times::Kept, now + FORWARDED_TIMEOUT),
            Request::Reach { address } => {
                let told = self.gossip.view().borrow().live(from).map(|record| record.peer);
                if told != Some(address) {
                    // Where gossip would have it later; nobody is dialed at another's word.
                    return answer(Response::Reached(Err(format!("{address}: gossip does not show it yet"))));
                }
                let peers = self.peers.clone();
                async move {
                    let reached =
                        tokio::time::timeout_at(now + REACH_TIMEOUT, peers.reach(from, address)).await;
                    Response::Reached(match reached {
                        Ok(reached) => reached.map_err(|error| error.to_string()),
                        Err(_) => Err(format!("{address}: no answer in time")),
                    })
                }
                .boxed()
            }
            Request::Beat { worker, stream, fences, slots, version, quiet } => {
                let led = led_term(self.node_id, &self.raft);
                let said = Said { worker: &worker, stream, fences: &fences, slots, version: &version, quiet };
                answer(match self.held_leases.extend(said, led) {
                    Some(Some(quiet)) => Response::Told { quiet },
                    heard => Response::Beat(heard.is_some()),
                })
            }
            Request::Workers { after, limit } => {
                let led = led_term(self.node_id, &self.raft);
                answer(Response::Workers(self.held_leases.heard(&after, limit, led)))
            }
            Request::Gone { worker, stream, ago_ms, fences } => {
                let led = led_term(self.node_id, &self.raft);
                let ago = Duration::from_millis(ago_ms);
                answer(Response::Beat(self.held_leases.end(&worker, stream, ago, &fences, led)))
            }
            Request::Quiet { worker, quiet } => {
                let led = led_term(self.node_id, &self.raft);
                answer(Response::Quieted(self.held_leases.ask_quiet(&worker, quiet, led)))
            }
            Request::HasRoom => answer(Response::HasRoom(self.health.borrow().full.is_none())),
            Request::Resumes { session, held, went_back } => {
                // Whoever stood for this node's vote had it on its own disk first.
                let own = self.held_vote.get().filter(|vote| vote.leader_id.voted_for == from.0);
                let stood = own.map(|vote| Held { vote, last: None });
                let seen = witness::most(self.witness.before(from, session), stood);
                if went_back || !witness::covers(held.as_ref(), seen.as_ref()) {
                    self.witness.went_back(from);
                }
                answer(Response::Seen(seen))
            }
            Request::Hashes => {
                let points = self.operator.reader.points();
                answer(Response::Hashes(points.iter().map(|point| (point.index, point.hash.0)).collect()))
            }
            Request::Records(names) => {
                let reader = self.operator.reader.clone();
                async move {
                    match reader.elsewhere(move |reader| reader.records(&names)).await {
                        Ok(records) => Response::Records(records),
                        Err(_) => Response::Refused(Refusal::Overloaded),
                    }
                }
                .boxed()
            }
            Request::MayStop => {
                let stops = self.stops.clone();
                async move { Response::MayStop(stops.may_stop(from).await) }.boxed()
            }
            Request::Clock => answer(Response::Clock { unix_ms: own_clock_ms() }),
            Request::ReadIndex { vote } => {
                let indexer = self.read_indexer.clone();
                let deadline = now + READ_INDEX_TIMEOUT;
                async move { Response::ReadIndex(indexer.index_for(from, vote, deadline).await) }.boxed()
            }
            Request::HoldsVote(vote) => answer(Response::HoldsVote(self.read_indexer.holds(&vote))),
            Request::Bootstrap(ask) => {
                let bootstrap = self.bootstrap.clone();
                async move { Response::Bootstrap(bootstrap.answer(from, ask).await) }.boxed()
            }
            Request::Operate(operation) => {
                let operator = self.operator.clone();
                async move { Response::Operated(operator.operate_here(operation).await) }.boxed()
            }
            Request::Append(_) | Request::Vote(_) | Request::PreVote(_) | Request::TransferLeader(_) => {
                answer(Response::Refused(Refusal::NotSupported))
            }
        }
    }

    fn adopt(&self, from: NodeId, cluster: ClusterId) -> BoxFuture<'static, bool> {
        let bootstrap = self.bootstrap.clone();
        async move {
            match bootstrap.offer(cluster).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(peer = %from, %cluster, %error, "a peer's cluster is not joined");
                    false
                }
            }
        }
        .boxed()
    }
}

impl Calls {
    fn propose(&self, ops: Vec<Op>, times: Times, deadline: Instant) -> BoxFuture<'static, Response> {
        let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId);
        if leader != Some(self.node_id) {
            return answer(Response::Proposed(Err(ProposeError::NotLeader { leader })));
        }
        let proposer = self.proposer.clone();
        async move { Response::Proposed(proposer.propose_forwarded(ops, times, deadline).await) }.boxed()
    }
}

fn answer(response: Response) -> BoxFuture<'static, Response> {
    async { response }.boxed()
}
