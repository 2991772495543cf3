//! Nodes in one process: openraft with its log in memory and calls for a network; gossip is a
//! table that all see at once.

use std::collections::BTreeSet;
use std::sync::{Mutex, Weak};

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::type_config::alias::SnapshotOf;
use skep_base::id::{ClusterId, RequestId};
use skep_members::gossip::{NodeState, PeerRecord, Program};
use skep_state::command::{Command, Op};
use tokio::task::AbortHandle;

use super::*;
use crate::membership::leave::wait_until_free;
use crate::membership::plan::Membership;
use crate::membership::stops::{self, STOPS, Stops};
use crate::network::tests::memory::{Log, Machine};
use crate::types::Vote;
use crate::wire;

type Raft = openraft::Raft<TypeConfig, Machine>;
type Snapshot = <Machine as RaftStateMachine<TypeConfig>>::SnapshotData;

/// When a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// When a node that may not stop does so all the same.
pub const LEAVE: Duration = Duration::from_secs(20);

pub struct Nodes {
    table: Arc<Mutex<Table>>,
    settings: Settings,
}

#[derive(Default)]
struct Table {
    nodes: BTreeMap<NodeId, Node>,
    dead: BTreeMap<NodeId, NodeState>,
}

struct Node {
    raft: Raft,
    state: NodeState,
    view: watch::Sender<Arc<View>>,
    stops: Option<Stops>,
    reconciler: Option<AbortHandle>,
}

fn record(id: NodeId, state: NodeState) -> PeerRecord {
    PeerRecord {
        id,
        program: Program::Node,
        state,
        cluster: Some(ClusterId(7)),
        peer: ([127, 0, 0, 1], 7400).into(),
        http: None,
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, STOPS),
        expect: 1,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway: None,
        generation: 1,
    }
}

impl Table {
    fn publish(&self) {
        for (id, node) in &self.nodes {
            let others = self.nodes.iter().filter(|(other, _)| *other != id);
            node.view.send_replace(Arc::new(View {
                me: record(*id, node.state),
                live: others.map(|(id, node)| record(*id, node.state)).collect(),
                dead: self.dead.iter().map(|(id, state)| record(*id, *state)).collect(),
                settled_since: Instant::now(),
                trusted: true,
                proved: Default::default(),
            }));
        }
    }
}

impl Nodes {
    /// Starts nodes from 1 on as one cluster, with their reconcilers.
    pub async fn start(count: u64, voters_max: usize) -> Self {
        let nodes = Self::start_idle(count, voters_max).await;
        nodes.reconcile();
        nodes
    }

    pub async fn start_idle(count: u64, voters_max: usize) -> Self {
        let settings = Settings {
            voters_max,
            dead_grace: Duration::from_secs(1),
            promote_stable: Duration::from_millis(100),
            promote_stable_second: Duration::from_millis(300),
            ..Settings::default()
        };
        let nodes = Self { table: Arc::default(), settings };
        nodes.add(1..=count).await;
        nodes.raft(NodeId(1)).initialize((1..=count).collect::<BTreeSet<_>>()).await.unwrap();
        nodes.leader().await;
        nodes
    }

    pub fn reconcile(&self) {
        let mut table = self.table.lock().unwrap();
        for (id, node) in &mut table.nodes {
            let (id, raft, view, settings) =
                (*id, node.raft.clone(), node.view.subscribe(), self.settings.clone());
            if node.reconciler.is_some() {
                continue;
            }
            let (stops, questions) = stops::channel();
            node.stops = Some(stops);
            let task = tokio::spawn(async move {
                reconcile(id, &raft, view, settings, questions, Witness::default()).await
            });
            node.reconciler = Some(task.abort_handle());
        }
    }

    pub async fn join(&self, ids: impl IntoIterator<Item = u64>) {
        self.add(ids).await;
        self.reconcile();
    }

    async fn add(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let config = openraft::Config {
                heartbeat_interval: 50,
                election_timeout_min: 250,
                election_timeout_max: 500,
                enable_pre_vote: Some(true),
                snapshot_policy: openraft::SnapshotPolicy::Never,
                ..openraft::Config::default()
            };
            let router = Router(Arc::downgrade(&self.table));
            let config = Arc::new(config.validate().unwrap());
            let raft = Raft::new(id, config, router, Log::default(), Machine::default()).await.unwrap();
            let view = View {
                me: record(NodeId(id), NodeState::Ready),
                live: vec![],
                dead: vec![],
                settled_since: Instant::now(),
                trusted: true,
                proved: Default::default(),
            };
            let view = watch::Sender::new(Arc::new(view));
            let node = Node { raft, state: NodeState::Ready, view, stops: None, reconciler: None };
            let mut table = self.table.lock().unwrap();
            table.nodes.insert(NodeId(id), node);
            table.publish();
        }
    }

    pub fn raft(&self, id: NodeId) -> Raft {
        self.table.lock().unwrap().nodes[&id].raft.clone()
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.table.lock().unwrap().nodes.keys().copied().collect()
    }

    pub fn membership(&self, id: NodeId) -> Membership {
        let raft = self.raft(id);
        let metrics = raft.metrics().borrow_watched().clone();
        membership_of(&metrics.membership_config, &metrics.committed_membership_config)
    }

    /// The node that leads, and knows it.
    pub async fn leader(&self) -> NodeId {
        self.find("a leader", |_| true).await.0
    }

    /// Waits until the leader's committed membership is so.
    pub async fn until(&self, what: &str, reached: impl Fn(&Membership) -> bool) -> Membership {
        self.find(what, |membership| membership.committed && reached(membership)).await.1
    }

    pub async fn until_voters(&self, reached: impl Fn(&BTreeSet<NodeId>) -> bool) {
        self.until("voters", |m| m.configs.len() == 1 && reached(&m.configs[0])).await;
    }

    async fn find(&self, what: &str, fits: impl Fn(&Membership) -> bool) -> (NodeId, Membership) {
        let found = timeout(PATIENCE, async {
            loop {
                for id in self.ids() {
                    let leads = self.raft(id).metrics().borrow_watched().current_leader == Some(id.0);
                    let membership = self.membership(id);
                    if leads && fits(&membership) {
                        return (id, membership);
                    }
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        let all = || self.ids().into_iter().map(|id| (id, self.membership(id))).collect::<Vec<_>>();
        found.await.unwrap_or_else(|_| panic!("not reached: {what}: {:#?}", all()))
    }

    /// Writes through whoever leads.
    pub async fn write(&self) {
        let written = timeout(PATIENCE, async {
            loop {
                let leader = self.raft(self.leader().await);
                let op = Op::WriteText { request: RequestId::random(), text: "text".into(), time_ms: 1 };
                if leader.client_write(Command::new(vec![op])).await.is_ok() {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        written.await.expect("a write in time");
    }

    pub fn kill(&self, id: NodeId) {
        self.end(id, NodeState::Ready);
    }

    fn end(&self, id: NodeId, last: NodeState) {
        let mut table = self.table.lock().unwrap();
        let Some(node) = table.nodes.remove(&id) else { return };
        node.reconciler.inspect(AbortHandle::abort);
        tokio::spawn(async move { node.raft.shutdown().await });
        table.dead.insert(id, last);
        table.publish();
    }

    /// SIGTERM to these at the same moment; each stops when it may.
    pub async fn leave(&self, ids: &[NodeId]) -> Vec<LeaveOutcome> {
        {
            let mut table = self.table.lock().unwrap();
            for id in ids {
                table.nodes.get_mut(id).unwrap().state = NodeState::Draining;
            }
            table.publish();
        }
        let deadline = Instant::now() + LEAVE;
        join_all(ids.iter().map(|id| async move {
            let raft = self.raft(*id);
            let view = self.table.lock().unwrap().nodes[id].view.subscribe();
            let ask = async |leader| {
                let stops = self.table.lock().unwrap().nodes.get(&leader).and_then(|node| node.stops.clone());
                match stops {
                    Some(stops) => stops.may_stop(*id).await,
                    None => false,
                }
            };
            let outcome = wait_until_free(view, &raft, deadline, ask).await;
            self.end(*id, NodeState::Left);
            outcome
        }))
        .await
    }

    pub async fn leave_all(&self) -> Vec<LeaveOutcome> {
        self.leave(&self.ids()).await
    }
}

/// Calls the others' Raft.
#[derive(Clone)]
struct Router(Weak<Mutex<Table>>);

struct Client {
    router: Router,
    target: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Router {
    type Network = Client;

    async fn new_client(&mut self, target: RawNodeId, _node: &EmptyNode) -> Client {
        Client { router: self.clone(), target: NodeId(target) }
    }
}

fn unreachable(error: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(error.to_string())
}

impl Client {
    fn raft(&self) -> Result<Raft, Unreachable<TypeConfig>> {
        let table = self.router.0.upgrade().ok_or_else(|| unreachable("the end"))?;
        let table = table.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.nodes.get(&self.target).map(|node| node.raft.clone()).ok_or_else(|| unreachable("gone"))
    }
}

type RpcError = RPCError<TypeConfig>;

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        rpc: wire::AppendRequest,
        _option: RPCOption,
    ) -> Result<wire::AppendResponse, RpcError> {
        Ok(self.raft()?.append_entries(rpc).await.map_err(unreachable)?)
    }

    async fn vote(
        &mut self,
        rpc: wire::VoteRequest,
        _option: RPCOption,
    ) -> Result<wire::VoteResponse, RpcError> {
        Ok(self.raft()?.vote(rpc).await.map_err(unreachable)?)
    }

    async fn pre_vote(
        &mut self,
        rpc: wire::VoteRequest,
        _option: RPCOption,
    ) -> Result<wire::VoteResponse, RpcError> {
        Ok(self.raft()?.pre_vote(rpc).await.map_err(unreachable)?)
    }

    async fn transfer_leader(
        &mut self,
        rpc: wire::TransferLeaderRequest,
        _option: RPCOption,
    ) -> Result<wire::TransferLeaderResponse, RpcError> {
        Ok(self.raft()?.handle_transfer_leader(rpc).await.map_err(unreachable)?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Snapshot>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<wire::SnapshotResponse, StreamingError<TypeConfig>> {
        Ok(self.raft()?.install_full_snapshot(vote, snapshot).await.map_err(unreachable)?)
    }
}
