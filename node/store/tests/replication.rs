//! The peers' network under the store that production runs: two Raft nodes in one process.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::EmptyNode;
use skep_base::id::{ClusterId, NodeId};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_raft::Raft;
use skep_raft::network::Network;
use skep_raft::peers::{Directory, Peers, PeersConfig};
use skep_raft::resumption::Resumption;
use skep_raft::serve::{CallHandler, RaftHandler};
use skep_raft::types::Metrics;
use skep_raft::wire::{GROUP, Refusal, Request, Response};
use skep_raft::witness::Witness;
use skep_state::command::{Command, Op};
use skep_state::message::Digest;
use skep_store::{Reader, StateMachine, StoreConfig, open};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

const CLUSTER: ClusterId = ClusterId(0xc1);
const WAIT: Option<Duration> = Some(Duration::from_secs(20));

/// Where the nodes are.
#[derive(Default)]
struct World(Mutex<HashMap<NodeId, SocketAddr>>);

impl Directory for World {
    fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        self.0.lock().unwrap().get(&id).copied()
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

struct Node {
    peers: Peers,
    raft: Raft<StateMachine>,
    reader: Reader,
    _cluster: watch::Sender<Option<ClusterId>>,
    _dir: TempDir,
}

async fn start(id: u64, world: &Arc<World>) -> Node {
    let dir = TempDir::new().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    world.0.lock().unwrap().insert(NodeId(id), listener.local_addr().unwrap());
    let cluster = watch::Sender::new(Some(CLUSTER));
    let keys = Keys::of_node(KeyRing::insecure_loopback().into()).unwrap();
    let peers = Peers::start(PeersConfig {
        local: NodeId(id),
        cluster: cluster.subscribe(),
        listener,
        keys,
        directory: world.clone(),
    });
    let store = open(StoreConfig::new(dir.path())).unwrap();
    let network = Network::new(peers.clone(), GROUP, Witness::default());
    let config = Arc::new(skep_raft::config().unwrap());
    let raft = Raft::new(id, config, network, store.log, store.state_machine).await.unwrap();
    let (snapshots, calls) = (store.reader.clone(), Arc::new(NoCalls));
    peers.serve(Arc::new(RaftHandler {
        raft: raft.clone(),
        group: GROUP,
        snapshots,
        calls,
        resumption: Resumption::whole(),
    }));
    Node { peers, raft, reader: store.reader, _cluster: cluster, _dir: dir }
}

fn message(i: u32) -> Op {
    let body = Bytes::from(i.to_be_bytes().repeat(500));
    Op::PutMessage {
        digest: Digest::of(&body),
        content_type: "text/plain".into(),
        body,
        time_ms: 1,
        nonce: i.into(),
    }
}

#[tokio::test]
async fn a_new_learner_is_brought_the_whole_store_by_a_snapshot() {
    let world = Arc::default();
    let leader = start(1, &world).await;
    leader.raft.initialize(BTreeSet::from([1])).await.unwrap();
    let acknowledged = |m: &Metrics| m.last_quorum_acked.is_some();
    leader.raft.wait(WAIT).metrics(acknowledged, "leadership").await.unwrap();
    let writes = (0..2_000).map(|i| leader.raft.client_write(Command::new(vec![message(i)])));
    for written in join_all(writes).await {
        written.unwrap();
    }
    leader.raft.trigger().snapshot().await.unwrap();
    let built = |m: &Metrics| m.snapshot.is_some();
    let metrics = leader.raft.wait(WAIT).metrics(built, "a snapshot").await.unwrap();
    leader.raft.trigger().purge_log(metrics.snapshot.unwrap().index).await.unwrap();
    leader.raft.wait(WAIT).metrics(|m| m.purged.is_some(), "a purge").await.unwrap();

    let learner = start(2, &world).await;
    let add = ChangeMembers::AddNodes([(2, EmptyNode::default())].into());
    leader.raft.change_membership(add, true).await.unwrap();
    let index = leader.raft.metrics().borrow_watched().last_log_index;
    learner.raft.wait(WAIT).applied_index_at_least(index, "catching up").await.unwrap();
    assert_eq!(learner.reader.last_seq(), 2_000);
    for i in [0, 999, 1_999] {
        let Op::PutMessage { digest, body, .. } = message(i) else { unreachable!() };
        assert_eq!(learner.reader.get(&digest).unwrap().unwrap().body, body);
    }
    let received = learner.peers.counters();
    let counted = async {
        while received.snapshots_received.get() != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("the snapshot's count");

    leader.raft.change_membership(BTreeSet::from([1, 2]), false).await.unwrap();
    leader.raft.client_write(Command::new(vec![message(5_000)])).await.unwrap();
    for node in [&leader, &learner] {
        node.raft.shutdown().await.unwrap();
        node.peers.stop().await;
    }
}
