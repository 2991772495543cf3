//! Out to nine nodes and back to one.

use std::time::{Duration, Instant};

use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::verify;
use skep_kit::effort::{machine_alone, measured};
use skep_kit::wait::until;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const LEAVE_BAR: Duration = Duration::from_secs(10);

/// Three nodes become nine, eight get SIGTERM at once, `last` stays.
async fn three_to_nine_to_one(last_is_leader: bool) {
    let mut cluster = Cluster::ready(3).await;
    let targets = Targets::new(cluster.clients());
    let load = Load::start(&targets, LoadOptions::default());
    load.wait_acked(20, Duration::from_secs(10)).await;
    for node in 4..=9 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    cluster.wait_views("five of nine are voters", Duration::from_secs(30), |view| view.voters() == 5).await;

    let leader = cluster.leader().await;
    let last = if last_is_leader { leader } else { (1..=9).rev().find(|node| *node != leader).unwrap_or(9) };
    let leaving: Vec<u8> = (1..=9).filter(|node| *node != last).collect();
    targets.add(&cluster.node(last).http);
    for node in &leaving {
        targets.remove(&cluster.node(*node).http);
    }
    // The writers' last requests to those who leave are answered while those still run.
    load.wait_acked(20, Duration::from_secs(10)).await;
    for node in &leaving {
        cluster.node(*node).terminate();
    }
    let signalled = Instant::now();
    let mut left = Vec::new();
    for node in &leaving {
        let status = cluster.node_mut(*node).wait_exit(LEAVE_BAR.saturating_sub(signalled.elapsed())).await;
        assert!(status.success(), "node {node} ended with {status}");
        left.push(signalled.elapsed());
    }
    measured("SIGTERM to eight of nine until each is gone", &left);

    cluster.node(last).http.put(&unique_text(30)).await;
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
    ledger.expect_no_failure("writes while nine became one");
    assert!(cluster.node(last).is_ready().await, "the last node is ready");
    until("the last one is the only voter", Duration::from_secs(5), async || {
        (cluster.node(last).wait_status().await.voters() == 1).then_some(())
    })
    .await;

    // It stands on its own feet: a restart needs none of those who left.
    cluster.node_mut(last).kill();
    cluster.start(last).wait_ready().await;
    verify(&cluster.clients(), &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_become_nine_and_then_the_one_that_led() {
    let _machine = machine_alone();
    three_to_nine_to_one(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_become_nine_and_then_one_that_did_not_lead() {
    let _machine = machine_alone();
    three_to_nine_to_one(false).await;
}
