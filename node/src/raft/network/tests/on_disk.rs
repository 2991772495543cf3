//! The same network under the store that production runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::{ChangeMembers, Raft};
use skep_state::command::{Command, Op};
use skep_state::message::Digest;
use tempfile::TempDir;

use super::*;
use crate::store::{Reader, StateMachine, StoreConfig, open};

struct Node {
    peers: Peers,
    raft: Raft<TypeConfig, StateMachine>,
    reader: Reader,
    _cluster: watch::Sender<Option<ClusterId>>,
    _dir: TempDir,
}

async fn start(id: u64, world: &Arc<Mutex<World>>) -> Node {
    let dir = TempDir::new().unwrap();
    let (peers, cluster) = start_peers(id, world).await;
    let store = open(StoreConfig::new(dir.path())).unwrap();
    let network = Network::new(peers.clone(), GROUP);
    let raft = Raft::new(id, config(), network, store.log, store.state_machine).await.unwrap();
    let (snapshots, calls) = (store.reader.clone(), Arc::new(NoCalls));
    peers.serve(Arc::new(RaftHandler { raft: raft.clone(), group: GROUP, snapshots, calls }));
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
    until("the snapshot's count", || received.snapshots_received.get() == 1).await;

    leader.raft.change_membership(BTreeSet::from([1, 2]), false).await.unwrap();
    leader.raft.client_write(Command::new(vec![message(5_000)])).await.unwrap();
    for node in [&leader, &learner] {
        node.raft.shutdown().await.unwrap();
        node.peers.stop().await;
    }
}
