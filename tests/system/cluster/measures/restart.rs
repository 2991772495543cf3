//! A node with many messages starts again.

use std::time::{Duration, Instant};

use skep_kit::clients::oracle::list;
use skep_kit::effort::{count, expect_under, long, machine_alone, measured, say};
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const READY_BAR: Duration = Duration::from_secs(3);
const RESIDENT_BAR_BYTES: u64 = 250 * 1000 * 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_many_messages_is_soon_ready_and_small() {
    let _machine = machine_alone();
    let messages = count(20_000, 1_000_000);
    let mut cluster = Cluster::ready(1).await;
    let options = LoadOptions { writers: 64, pace: None, most: Some(messages), ..LoadOptions::default() };
    let begun = Instant::now();
    let ledger = Load::start(&Targets::new(cluster.clients()), options).finish().await;
    ledger.expect_no_failure("filling one node");
    say(&format!("measure: {messages} messages put at one node in {:.1?}", begun.elapsed()));

    cluster.node_mut(1).stop().await;
    let in_order = restart(&mut cluster, "restart after SIGTERM").await;
    cluster.node_mut(1).kill();
    let after_kill = restart(&mut cluster, "restart after kill -9").await;

    let listed = list(&cluster.node(1).http).await;
    assert_eq!(listed.len() as u64, messages);
    expect_under("restart after SIGTERM", in_order, READY_BAR);
    expect_under("restart after kill -9", after_kill, READY_BAR);
}

async fn restart(cluster: &mut Cluster, what: &str) -> Duration {
    let node = cluster.start(1);
    node.wait_ready().await;
    let taken = node.started.elapsed();
    measured(what, &[taken]);
    let resident = node.resident_bytes();
    say(&format!("measure: {what}: resident {} MB", resident / 1_000_000));
    assert!(resident < RESIDENT_BAR_BYTES, "{what}: {resident} bytes resident");
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_stopped_in_order_comes_back_with_everything() {
    let _machine = machine_alone();
    let mut cluster = Cluster::ready(3).await;
    let id = cluster.node(1).wait_status().await.cluster_id;
    let load = Load::start(
        &Targets::new(cluster.clients()),
        LoadOptions { most: Some(if long() { 5000 } else { 500 }), ..LoadOptions::default() },
    );
    let ledger = load.finish().await;
    ledger.expect_no_failure("a quiet cluster");
    for node in 1..=3 {
        cluster.node(node).terminate();
    }
    for node in 1..=3 {
        let status = cluster.node_mut(node).wait_exit(Duration::from_secs(10)).await;
        assert!(status.success(), "node {node} ended with {status}");
    }
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    assert_eq!(cluster.node(2).wait_status().await.cluster_id, id);
    skep_kit::clients::oracle::verify(&cluster.clients(), &ledger).await;
}
