//! The leader dies under load.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::verify;
use skep_kit::effort::{count, expect_under, machine_alone, measured, say};
use skep_kit::wait::under_load_for;
use skep_kit::{Cluster, Ledger, Load, LoadOptions, Targets};

const MEDIAN_BAR: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_acknowledge_soon_after_the_leader_is_killed_and_waiting_requests_succeed() {
    let _machine = machine_alone();
    let mut cluster = Cluster::ready(3).await;
    let mut ledger = Ledger::default();
    let mut times = Vec::new();
    for _ in 0..count(3, 20) {
        let leader = cluster.leader().await;
        let survivors: Vec<_> = cluster
            .running()
            .into_iter()
            .filter(|node| *node != leader)
            .map(|node| cluster.node(node).http.clone())
            .collect();
        let targets = Targets::new(survivors.clone());
        let load = Load::start(&targets, LoadOptions::default());
        load.wait_acked(50, Duration::from_secs(10)).await;

        cluster.node_mut(leader).kill();
        let killed = Instant::now();
        let mut posts = JoinSet::new();
        for client in survivors {
            posts.spawn(async move {
                client.put(&unique_text(40)).await;
                killed.elapsed()
            });
        }
        let waited: Vec<Duration> = posts.join_all().await;
        times.extend(waited.iter().min());

        under_load_for(Duration::from_millis(500)).await;
        ledger.merge(load.stop().await);
        cluster.start(leader);
        cluster.wait_all_ready().await;
    }
    let what = "kill -9 of the leader until the next acknowledged write";
    let middle = measured(what, &times);
    say(&format!(
        "measure: writes in flight at survivors that failed: {} of {}",
        ledger.failed.len(),
        ledger.acked.len()
    ));
    verify(&cluster.clients(), &ledger).await;
    ledger.expect_all_created();
    ledger.expect_no_failure("writes at the survivors while the leader died");
    expect_under(what, middle, MEDIAN_BAR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_comes_back_without_harm() {
    let _machine = machine_alone();
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster
        .running()
        .into_iter()
        .filter(|node| *node != leader)
        .map(|node| cluster.node(node).http.clone())
        .collect();
    let load = Load::start(&Targets::new(others.clone()), LoadOptions::default());
    load.wait_acked(50, Duration::from_secs(10)).await;
    cluster.node(leader).pause();
    others[0].put("while the leader stands still").await;
    load.wait_acked(50, Duration::from_secs(10)).await;
    cluster.node(leader).resume();
    // The former leader must not acknowledge from its old term.
    cluster.node(leader).http.put("just after it woke").await;
    load.wait_acked(50, Duration::from_secs(10)).await;
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
}
