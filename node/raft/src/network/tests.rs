//! Three Raft nodes in one process over real loopback TCP and TLS.

pub mod memory;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Raft};
use skep_base::id::{ClusterId, NodeId, RequestId};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_state::command::{Command, Op};
use tokio::sync::watch;

use self::memory::{Collect, Log, Machine};
use super::*;
use crate::peers::tests::world::{CLUSTER, KEY, listener, until};
use crate::peers::{Directory, PeersConfig};
use crate::resumption::{Resumption, State};
use crate::serve::{CallHandler, RaftHandler};
use crate::types::Metrics;
use crate::wire::{GROUP, Refusal};

const WAIT: Option<Duration> = Some(Duration::from_secs(20));

/// Where the nodes are, and which of them are cut off.
#[derive(Default)]
struct World {
    addresses: HashMap<NodeId, SocketAddr>,
    cut: BTreeSet<NodeId>,
}

struct View {
    me: NodeId,
    world: Arc<Mutex<World>>,
}

impl Directory for View {
    fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        let world = self.world.lock().unwrap();
        let cut = world.cut.contains(&id) || world.cut.contains(&self.me);
        world.addresses.get(&id).copied().filter(|_| !cut)
    }
}

struct NoCalls;

impl CallHandler for NoCalls {
    fn call(&self, _from: NodeId, _request: Request) -> BoxFuture<'static, Response> {
        async { Response::Refused(Refusal::NotSupported) }.boxed()
    }

    fn adopt(&self, _from: NodeId, _cluster: ClusterId) -> BoxFuture<'static, bool> {
        async { false }.boxed()
    }
}

async fn start_peers(id: u64, world: &Arc<Mutex<World>>) -> (Peers, watch::Sender<Option<ClusterId>>) {
    let listener = listener().await;
    world.lock().unwrap().addresses.insert(NodeId(id), listener.local_addr().unwrap());
    let cluster = watch::Sender::new(Some(CLUSTER));
    let peers = Peers::start(PeersConfig {
        local: NodeId(id),
        cluster: cluster.subscribe(),
        listener,
        keys: Keys::of_node(KeyRing::parse(KEY).unwrap().into()).unwrap(),
        directory: Arc::new(View { me: NodeId(id), world: world.clone() }),
    });
    (peers, cluster)
}

fn config() -> Arc<Config> {
    let config = Config {
        heartbeat_interval: 100,
        // A busy machine keeps all of them from going on for a second or two.
        election_timeout_min: 2_500,
        election_timeout_max: 4_000,
        enable_pre_vote: Some(true),
        max_in_snapshot_log_to_keep: 10,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        ..Config::default()
    };
    Arc::new(config.validate().unwrap())
}

struct Node {
    id: u64,
    peers: Peers,
    raft: Raft<TypeConfig, Machine>,
    machine: Machine,
    witness: Witness,
    resumption: Resumption,
    _cluster: watch::Sender<Option<ClusterId>>,
}

impl Node {
    async fn start(id: u64, world: &Arc<Mutex<World>>) -> Self {
        let (peers, cluster) = start_peers(id, world).await;
        let machine = Machine::default();
        let witness = Witness::default();
        let network = Network::new(peers.clone(), GROUP, witness.clone());
        let raft = Raft::new(id, config(), network, Log::default(), machine.clone()).await.unwrap();
        let (calls, resumption) = (Arc::new(NoCalls), Resumption::whole());
        peers.serve(Arc::new(RaftHandler {
            raft: raft.clone(),
            group: GROUP,
            snapshots: Collect,
            calls,
            resumption: resumption.clone(),
        }));
        Self { id, peers, raft, machine, witness, resumption, _cluster: cluster }
    }

    fn texts(&self) -> usize {
        self.machine.0.lock().unwrap().texts.len()
    }

    async fn write(&self, count: usize, bytes: usize) {
        for start in (0..count).step_by(500) {
            let writes = (start..count.min(start + 500)).map(|i| {
                let mut text = i.to_be_bytes().to_vec();
                text.resize(bytes.max(8), 0);
                let request = RequestId(i as u128);
                let op = Op::WriteText { request, text: Bytes::from(text), time_ms: 1 };
                self.raft.client_write(Command::new(vec![op]))
            });
            for written in join_all(writes).await {
                written.unwrap();
            }
        }
    }

    /// Waits until it has applied all that `leader` has.
    async fn catches_up(&self, leader: &Node) {
        let index = leader.raft.metrics().borrow_watched().last_log_index;
        self.raft.wait(WAIT).applied_index_at_least(index, "catching up").await.unwrap();
        assert_eq!(self.texts(), leader.texts());
    }
}

struct Cluster {
    nodes: Vec<Node>,
    world: Arc<Mutex<World>>,
}

impl Cluster {
    async fn of_three() -> Self {
        let world = Arc::default();
        let mut nodes = Vec::new();
        for id in 1..=3 {
            nodes.push(Node::start(id, &world).await);
        }
        nodes[0].raft.initialize(BTreeSet::from([1, 2, 3])).await.unwrap();
        Self { nodes, world }
    }

    /// The leader and the two others.
    async fn roles(&self) -> (&Node, [&Node; 2]) {
        let up = self.nodes.iter().find(|node| !self.world.lock().unwrap().cut.contains(&NodeId(node.id)));
        let metrics = up.unwrap().raft.wait(WAIT).metrics(|m| m.current_leader.is_some(), "a leader").await;
        let leader = metrics.unwrap().current_leader.unwrap();
        let (leaders, others): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|node| node.id == leader);
        leaders[0].raft.wait(WAIT).state(openraft::ServerState::Leader, "knows it").await.unwrap();
        // Before a quorum has heard of it, a leader takes no writes.
        let acknowledged = |m: &Metrics| m.last_quorum_acked.is_some();
        leaders[0].raft.wait(WAIT).metrics(acknowledged, "a quorum's word").await.unwrap();
        (leaders[0], [others[0], others[1]])
    }

    fn cut(&self, node: &Node) {
        self.world.lock().unwrap().cut.insert(NodeId(node.id));
        for other in &self.nodes {
            for (a, b) in [(node, other), (other, node)] {
                a.peers.lose_connection(NodeId(b.id));
            }
        }
    }

    fn mend(&self) {
        self.world.lock().unwrap().cut.clear();
    }

    async fn stop(self) {
        for node in &self.nodes {
            node.raft.shutdown().await.unwrap();
            node.peers.stop().await;
        }
    }
}

#[tokio::test]
async fn three_nodes_elect_a_leader_and_replicate_ten_thousand_entries() {
    let cluster = Cluster::of_three().await;
    let (leader, others) = cluster.roles().await;
    leader.write(10_000, 100).await;
    for other in others {
        other.catches_up(leader).await;
        assert_eq!(*other.machine.0.lock().unwrap(), *leader.machine.0.lock().unwrap());
    }
    for node in &cluster.nodes {
        let counters = node.peers.counters();
        let open = counters.connections_open.get();
        assert!(open <= 2 && (open == 2 || node.id != leader.id), "one for each pair: {open}");
        assert_eq!(counters.decode_errors.get(), 0);
    }
    let term = leader.raft.metrics().borrow_watched().current_term;
    assert_eq!(term, 1, "no election was needed but the first");
    cluster.stop().await;
}

#[tokio::test]
async fn who_does_not_know_whether_its_log_went_back_gives_no_vote_and_asks_for_none() {
    let cluster = Cluster::of_three().await;
    let (leader, [asked, _]) = cluster.roles().await;
    let ask = async || {
        let vote = VoteRequest::new(Vote::new(9, leader.id), None);
        let transfer = TransferLeaderRequest::new(Vote::new(9, leader.id), asked.id, None);
        let mut answers = Vec::new();
        for request in
            [Request::Vote(vote.clone()), Request::PreVote(vote), Request::TransferLeader(transfer)]
        {
            let deadline = Instant::now() + Duration::from_secs(5);
            answers.push(leader.peers.call(NodeId(asked.id), request, deadline).await);
        }
        answers
    };
    let seen = Held { vote: Vote::new(9, leader.id), last: None };
    for doubt in [State::Asking, State::WentBack { witness: NodeId(leader.id), seen }] {
        asked.resumption.set(doubt);
        for answer in ask().await {
            assert!(matches!(answer, Err(CallError::Refused(Refusal::NotReady))), "{answer:?}");
        }
    }
    asked.resumption.set(State::Whole);
    for answer in ask().await {
        assert!(answer.is_ok(), "{answer:?}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_peers_acknowledge_and_vote_for_is_witnessed() {
    let cluster = Cluster::of_three().await;
    let (leader, others) = cluster.roles().await;
    leader.write(100, 100).await;
    for other in others {
        other.catches_up(leader).await;
        let last = leader.raft.metrics().borrow_watched().last_log_index;
        let seen = || leader.witness.before(NodeId(other.id), 0).and_then(|held| held.last);
        until("what it acknowledged", || seen().map(|last| last.index) == last).await;
        assert!(leader.witness.gone_back(|_| true, std::time::Instant::now()).is_empty());
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_peer_that_was_cut_off_catches_up() {
    let cluster = Cluster::of_three().await;
    let (leader, [away, _]) = cluster.roles().await;
    leader.write(100, 100).await;
    cluster.cut(away);
    leader.write(3_000, 1_000).await;
    assert!(away.texts() <= 100);
    cluster.mend();
    away.catches_up(leader).await;
    assert_eq!(away.peers.counters().snapshots_received.get(), 0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_was_cut_off_is_replaced_and_follows() {
    let cluster = Cluster::of_three().await;
    let (old, _) = cluster.roles().await;
    old.write(100, 100).await;
    cluster.cut(old);
    let new = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
    let elected = |m: &Metrics| m.current_leader.is_some_and(|leader| leader != old.id);
    new.raft.wait(WAIT).metrics(elected, "a new leader").await.unwrap();
    let (leader, _) = cluster.roles().await;
    assert_ne!(leader.id, old.id);
    leader.write(100, 100).await;
    cluster.mend();
    old.catches_up(leader).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_peer_that_lags_behind_the_log_gets_a_snapshot() {
    let cluster = Cluster::of_three().await;
    let (leader, [away, _]) = cluster.roles().await;
    cluster.cut(away);
    leader.write(2_000, 5_000).await;
    leader.raft.trigger().snapshot().await.unwrap();
    let built = |m: &Metrics| m.snapshot.is_some();
    let metrics = leader.raft.wait(WAIT).metrics(built, "a snapshot").await.unwrap();
    leader.raft.trigger().purge_log(metrics.snapshot.unwrap().index).await.unwrap();
    let purged = |m: &Metrics| m.purged.is_some();
    leader.raft.wait(WAIT).metrics(purged, "a purge").await.unwrap();
    cluster.mend();
    away.catches_up(leader).await;
    let (sent, received) = (leader.peers.counters(), away.peers.counters());
    until("one snapshot", || (sent.snapshots_sent.get(), received.snapshots_received.get()) == (1, 1)).await;
    assert!(away.peers.counters().snapshot_bytes_received.get() > 10_000_000);
    leader.write(10, 10).await;
    away.catches_up(leader).await;
    cluster.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_over_on_request() {
    let cluster = Cluster::of_three().await;
    let (leader, [heir, _]) = cluster.roles().await;
    leader.write(10, 10).await;
    heir.catches_up(leader).await;
    leader.raft.trigger().transfer_leader(heir.id).await.unwrap();
    let handed = |m: &Metrics| m.current_leader == Some(heir.id);
    heir.raft.wait(WAIT).metrics(handed, "the handover").await.unwrap();
    cluster.stop().await;
}

#[test]
fn an_append_is_cut_at_its_size_and_loses_nothing() {
    use openraft::entry::RaftEntry;
    use openraft::vote::RaftLeaderId;
    let vote = Vote::new_committed(1, 1);
    let log_id = |index| crate::types::LogId::new(vote.leader_id().to_committed(), index);
    let entry = |index: u64, bytes: usize| {
        let text = Bytes::from(vec![0; bytes]);
        let command = Command::new(vec![Op::WriteText { request: RequestId(1), text, time_ms: 1 }]);
        Entry::new(log_id(index), openraft::EntryPayload::Normal(command))
    };
    for sizes in [vec![], vec![1], vec![5 << 20], vec![5 << 20, 1, 5 << 20], vec![1 << 20; 21]] {
        let entries: Vec<_> = sizes.iter().zip(11..).map(|(bytes, index)| entry(index, *bytes)).collect();
        let whole = AppendRequest {
            vote,
            prev_log_id: Some(log_id(10)),
            entries: entries.clone(),
            leader_commit: None,
        };
        let parts = split(whole);
        let mut last = log_id(10);
        let mut again = Vec::new();
        for part in &parts {
            assert_eq!(part.prev_log_id, Some(last));
            let bytes: usize = part.entries.iter().map(size_estimate).sum();
            assert!(part.entries.len() <= 1 || bytes <= APPEND_BYTES_TARGET);
            assert!(!part.entries.is_empty() || sizes.is_empty());
            again.extend(part.entries.clone());
            last = part.entries.last().map_or(last, |entry| entry.log_id);
        }
        assert_eq!(again, entries);
    }
}
