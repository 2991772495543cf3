//! SIGTERM, once and twice.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use skep_kit::clients::oracle::verify;
use skep_kit::cluster::status::{Member, status};
use skep_kit::effort::{machine_shared, measured};
use skep_kit::wait::{PATIENCE, holds_for, until};
use skep_kit::{Cluster, Load, LoadOptions, Targets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_stops_a_node_at_once() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    // Without a quorum it cannot leave in order, and would try for as long as it may.
    cluster.node_mut(2).kill();
    cluster.node_mut(3).kill();
    let node = cluster.node(1);
    node.terminate();
    until("it drains", Duration::from_secs(5), async || {
        let answer = node.admin.get("/readyz").await.ok()?;
        answer.text().contains("draining").then_some(())
    })
    .await;
    node.terminate();
    let second = Instant::now();
    // Sooner than it would give up by itself.
    cluster.node_mut(1).wait_exit(Duration::from_secs(5)).await;
    measured("second SIGTERM until the process is gone", &[second.elapsed()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_leave_in_order_still_ends_in_time() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let (digest, _) = cluster.node(1).http.put("kept").await;
    cluster.node_mut(2).kill();
    cluster.node_mut(3).kill();
    cluster.node(1).terminate();
    cluster.node_mut(1).wait_exit(Duration::from_secs(20)).await;
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let answer = cluster.node(1).http.get(&format!("/messages/{digest}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_gets_sigterm_hands_over_without_a_failed_write() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let http = cluster.node(leader).http_text();
    let targets = Targets::new(cluster.clients());
    targets.remove(&cluster.node(leader).http);
    let load = Load::start(&targets, LoadOptions::default());
    load.wait_acked(50, PATIENCE).await;
    let watched = cluster.node(leader % 3 + 1).admin.clone();
    let stopped = AtomicBool::new(false);
    let watch = async {
        // No vote is given up on the way, not for a moment.
        while !stopped.load(Relaxed) {
            if let Some(view) = status(&watched).await {
                assert_eq!(view.voters(), 3, "{view:?}");
            }
        }
    };
    let stop = async {
        cluster.node_mut(leader).stop().await;
        load.wait_acked(50, PATIENCE).await;
        stopped.store(true, Relaxed);
    };
    tokio::join!(watch, stop);
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
    ledger.expect_no_failure("writes at those who stay");
    cluster
        .wait_views("it is away, and another leads", PATIENCE, |view| {
            let leads = |member: &Member| member.raft.as_deref() == Some("leader");
            view.members.iter().any(leads)
                && !view.member_at(&http).is_some_and(|member| leads(member) || member.is_live())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_left_comes_back_with_its_data_under_the_same_id() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let before = cluster.node(2).wait_status().await;
    cluster.node_mut(2).stop().await;
    let (digest, _) = cluster.node(1).http.put("while it was away").await;
    cluster.start(2).wait_ready().await;
    let after = cluster.node(2).wait_status().await;
    assert_eq!((after.node_id, after.cluster_id), (before.node_id, before.cluster_id));
    let answer = cluster.node(2).http.get(&format!("/messages/{digest}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_views("all three vote again", PATIENCE, |view| view.voters() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_at_a_node_that_leaves_is_answered_before_it_is_said_to_have_left() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let (leaving, stays) = (cluster.leader().await % 3 + 1, cluster.leader().await);
    let http = cluster.node(leaving).http_text();
    let mut upload = TcpStream::connect(&http).await.expect("the node listens");
    let (begun, rest) = ("{\"message\": ", "\"begun in time\"}");
    let head = "POST /messages HTTP/1.1\r\nhost: skep\r\ncontent-type: application/json\r\ncontent-length";
    let head = format!("{head}: {}\r\n\r\n{begun}", begun.len() + rest.len());
    upload.write_all(head.as_bytes()).await.expect("the node reads");
    cluster.node(leaving).terminate();
    until("it takes nobody any more", PATIENCE, async || {
        TcpStream::connect(&http).await.is_err().then_some(())
    })
    .await;
    let watched = cluster.node(stays).admin.clone();
    holds_for("it has not left", Duration::from_secs(1), async || {
        let Some(view) = status(&watched).await else { return Ok(()) };
        let is_live = view.member_at(&http).is_some_and(Member::is_live);
        if is_live { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    upload.write_all(rest.as_bytes()).await.expect("the node reads on");
    let mut answer = Vec::new();
    upload.read_to_end(&mut answer).await.expect("an answer, and an end");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    cluster.node_mut(leaving).wait_exit(PATIENCE).await;
}
