//! A new node is brought a large store while clients write.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::task::JoinSet;

use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::{list, verify};
use skep_kit::effort::{count, expect_under, long, machine_alone, measured, quantile, say};
use skep_kit::random::Random;
use skep_kit::wait::{under_load_for, until};
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const MESSAGE_BYTES: usize = 256 << 10;
const FILLERS: u64 = 4;

/// Puts `bytes` of messages that do not compress.
async fn fill(cluster: &Cluster, bytes: u64) {
    let messages = bytes / MESSAGE_BYTES as u64;
    let seed = Random::announced().number();
    let mut fillers = JoinSet::new();
    for filler in 0..FILLERS {
        let client = cluster.node(1).http.clone();
        let mut random = Random::with_seed(seed ^ (filler << 32));
        fillers.spawn(async move {
            for _ in 0..messages / FILLERS {
                let headers = [("content-type", "application/octet-stream")];
                let body = random.bytes(MESSAGE_BYTES).into();
                let answer = client.send(Method::POST, "/messages", &headers, body).await.expect("an answer");
                assert_eq!(answer.status, 201, "{answer:?}");
            }
        });
    }
    fillers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_a_large_store_under_load_and_is_promoted() {
    let _machine = machine_alone();
    let bytes: u64 = count(64 << 20, 1 << 30);
    let mut cluster = Cluster::ready(3).await;
    fill(&cluster, bytes).await;

    let load = Load::start(&Targets::new(cluster.clients()), LoadOptions::default());
    load.wait_acked(100, Duration::from_secs(10)).await;
    let quiet = Instant::now();
    under_load_for(count(Duration::from_secs(2), Duration::from_secs(20))).await;

    let joined = Instant::now();
    cluster.start(4);
    until("the new node is ready", count(Duration::from_secs(60), Duration::from_secs(300)), async || {
        cluster.node(4).is_ready().await.then_some(())
    })
    .await;
    let caught_up = Instant::now();
    measured(&format!("a new node caught up with {} MiB under load", bytes >> 20), &[caught_up - joined]);

    // An even number of nodes has an odd number of voters: the fifth lets the fourth be promoted.
    let patience = count(Duration::from_secs(60), Duration::from_secs(300));
    cluster.start(5);
    cluster.wait_views("all five are voters", patience, |view| view.voters() == 5).await;
    let ledger = load.stop().await;
    ledger.expect_no_failure("writes while nodes joined");

    let before = quantile(&ledger.latencies_between(quiet, joined), 0.99);
    let during = quantile(&ledger.latencies_between(joined, caught_up), 0.99);
    say(&format!(
        "measure: p99 of writes: {before:.1?} before a learner came, {during:.1?} while it caught up"
    ));
    check_store(&cluster, &ledger, bytes).await;
    if long() {
        expect_under("p99 of writes while a learner catches up", during, before * 2);
    }
}

async fn check_store(cluster: &Cluster, ledger: &skep_kit::Ledger, bytes: u64) {
    if !long() {
        verify(&cluster.clients(), ledger).await;
        return;
    }
    // A gigabyte in JSON from each of five nodes would take minutes: only the newest part is listed.
    let total = bytes / MESSAGE_BYTES as u64 + ledger.acked.len() as u64;
    for client in cluster.clients() {
        let after = total.saturating_sub(1000);
        let answer = client.get(&format!("/messages?after={after}&limit=1000")).await.expect("an answer");
        let json = answer.json();
        let last = json["messages"].as_array().and_then(|all| all.last()).and_then(|one| one["seq"].as_u64());
        assert_eq!(last, Some(total), "the last message at {}", client.address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_catches_up() {
    let _machine = machine_alone();
    let mut cluster = Cluster::ready(3).await;
    cluster.node(1).http.put("before").await;
    cluster.node_mut(3).kill();
    fill(&cluster, count(16 << 20, 256 << 20)).await;
    cluster.node(1).http.put(&unique_text(30)).await;
    cluster.start(3).wait_ready().await;
    let expected = list(&cluster.node(1).http).await;
    let got = list(&cluster.node(3).http).await;
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "node 3 lists otherwise");
}
