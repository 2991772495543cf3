//! The level of formats that the members agree to: not before all have read it for a while, and then in
//! every checkpoint, across restarts, and for who joins.

use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::cluster::node::Node;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);
/// What nodes of this version agree to.
const NEWEST: u64 = 10;
/// Magic and format of a snapshot file.
const SNAPSHOT_MAGIC: &[u8] = b"SKEPSNP\n";

async fn level(node: &Node) -> Option<u64> {
    let metrics = node.admin.get("/metrics").await.ok()?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("skep_store_level "))?;
    line.trim().parse::<f64>().ok().map(|level| level as u64)
}

async fn snapshot_format(node: &Node) -> u32 {
    let snapshot = node.admin.get("/snapshot").await.expect("a snapshot").body;
    let format = snapshot.strip_prefix(SNAPSHOT_MAGIC).expect("a snapshot file");
    u32::from_le_bytes(format[..4].try_into().expect("a format"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_agree_to_newer_formats_once_all_have_read_them_for_a_while_and_keep_to_it() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.args = vec!["--level-after".into(), "300ms".into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let (digest, _) = cluster.node(1).http.put("kept in either format").await;
    for node in 1..=3 {
        let node = cluster.node(node);
        until("the members agree", PATIENCE, async || (level(node).await? == NEWEST).then_some(())).await;
        assert_eq!(snapshot_format(node).await, 3);
    }
    cluster.kill_all();
    for node in 1..=4 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=4 {
        let node = cluster.node(node);
        until("the level is kept", PATIENCE, async || (level(node).await? == NEWEST).then_some(())).await;
        let answer = node.http.get(&format!("/messages/{digest}")).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_then_checkpoints_are_such_as_the_version_before_reads() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(1).await;
    cluster.node(1).http.put("a message").await;
    assert_eq!((level(cluster.node(1)).await, snapshot_format(cluster.node(1)).await), (Some(2), 1));
}
