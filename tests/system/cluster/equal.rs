//! A node whose state is not that of the others, though every checksum in its folder is right.

use std::path::Path;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use skep_kit::Cluster;
use skep_kit::cluster::node::Node;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_state::command::{Command, Op};
use skep_store::StoreConfig;

const PATIENCE: Duration = Duration::from_secs(30);
const LEVEL: f64 = 6.0;

async fn figure(node: &Node, name: &str) -> Option<f64> {
    let text = node.admin.get("/metrics").await.ok()?.text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Writes the last message into the stopped node's log anew, with another time: as if the node had been told so.
async fn alter(data: &Path) {
    let mut store = skep_store::open(StoreConfig::new(data)).expect("a stopped node's store opens");
    let entries =
        store.log.get_log_reader().await.try_get_log_entries(..).await.expect("the log can be read");
    let is_put = |command: &Command| matches!(command.ops.first(), Some(Op::PutMessage { .. }));
    let at = entries
        .iter()
        .rposition(|entry| matches!(&entry.payload, EntryPayload::Normal(command) if is_put(command)))
        .expect("there is a message");
    let before = entries[..at].last().expect("there is something before it").log_id;
    let mut rest = entries[at..].to_vec();
    if let EntryPayload::Normal(command) = &mut rest[0].payload {
        let mut ops = command.ops.to_vec();
        if let Op::PutMessage { time_ms, .. } = &mut ops[0] {
            *time_ms += 1;
        }
        *command = Command::new(ops);
    }
    store.log.truncate_after(Some(before)).await.expect("the log can be cut");
    store.log.blocking_append(rest).await.expect("the log can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_applied_something_else_is_found_and_gets_no_traffic_until_it_began_anew() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.args = vec!["--level-after".into(), "300ms".into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=3 {
        let node = cluster.node(node);
        until("the members agree", PATIENCE, async || {
            (figure(node, "skep_store_level").await? >= LEVEL).then_some(())
        })
        .await;
    }
    let leader = cluster.leader().await;
    for number in 0..20 {
        cluster.node(leader).http.put(&format!("message {number}")).await;
    }
    let applied = cluster.node(leader).wait_status().await.applied;
    cluster.wait_views("all have applied all", PATIENCE, |view| view.applied >= applied).await;
    for node in 1..=3 {
        let node = cluster.node(node);
        until("it is compared, and equal", PATIENCE, async || {
            (figure(node, "skep_state_compared_index").await? >= applied? as f64).then_some(())
        })
        .await;
        assert_eq!(figure(node, "skep_state_differs").await, Some(0.0));
    }

    let wrong = leader % 3 + 1;
    let data = cluster.node(wrong).settings.data.clone();
    cluster.node_mut(wrong).kill();
    alter(&data).await;
    cluster.start(wrong);
    let node = cluster.node(wrong);
    let told = until("it is not ready, and says why", PATIENCE, async || {
        let answer = node.admin.get("/readyz").await.ok()?;
        let text = answer.text();
        (answer.status == 503 && text.contains("not that of most voters")).then_some(text)
    })
    .await;
    assert!(told.contains("take its folder away"), "{told}");
    assert_eq!(node.admin.get("/startedz").await.expect("an answer").status, 200, "its log is needed");
    assert_eq!(figure(node, "skep_state_differs").await, Some(1.0));
    let status = node.admin.get("/cluster").await.expect("an answer").json();
    assert!(status["differs"].as_str().is_some_and(|text| text.contains("most voters")), "{status}");
    assert!(node.log_text().contains("the state of this node is not that of most voters"));
    for right in (1..=3).filter(|node| *node != wrong) {
        let node = cluster.node(right);
        assert_eq!(figure(node, "skep_state_differs").await, Some(0.0), "node {right}");
        until("one that is right is ready", PATIENCE, async || node.is_ready().await.then_some(())).await;
    }

    cluster.node_mut(wrong).kill();
    std::fs::remove_dir_all(&data).expect("a folder can be taken away");
    cluster.start(wrong).wait_ready().await;
    let node = cluster.node(wrong);
    until("it is compared, and equal", PATIENCE, async || {
        (figure(node, "skep_state_compared_index").await? > 0.0).then_some(())
    })
    .await;
    assert_eq!(figure(node, "skep_state_differs").await, Some(0.0));
}
