//! The live feed across the death of nodes.

use std::time::Duration;

use crate::support::effort::{count, expect_under, machine_alone, machine_shared, measured};
use crate::support::feed::FeedReader;
use crate::support::oracle::verify;
use crate::support::{Cluster, Load, LoadOptions, Targets};

const PATIENCE: Duration = Duration::from_secs(20);
/// From the answer to who sent a message to its frame at a reader of any node.
const FRAME_BAR: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_have_every_message_once_and_in_order_while_nodes_are_killed_and_restarted() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let addresses: Vec<_> = cluster.clients().iter().map(|client| client.address).collect();
    let readers: Vec<_> = (0..30)
        .map(|reader| {
            let mut addresses = addresses.clone();
            addresses.rotate_left(reader % 3);
            FeedReader::start(addresses, 0)
        })
        .collect();
    let targets = Targets::new(cluster.clients());
    let load = Load::start(&targets, LoadOptions::default());
    for round in 0..count(3, 12) {
        load.wait_acked(100, PATIENCE).await;
        let victim = match round % 2 {
            0 => cluster.leader().await,
            _ => 1 + (round % 3) as u8,
        };
        targets.remove(&cluster.node(victim).http);
        match round % 3 {
            2 => cluster.node_mut(victim).stop().await,
            _ => cluster.node_mut(victim).kill(),
        }
        load.wait_acked(100, PATIENCE).await;
        cluster.start(victim).wait_ready().await;
        targets.add(&cluster.node(victim).http);
    }
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
    let last = ledger.acked.iter().map(|acked| acked.seq).max().expect("something was acknowledged");
    for reader in &readers {
        reader.wait_for(last, PATIENCE).await;
        reader.expect_all_after(0);
    }
    assert!(readers.iter().any(|reader| reader.losses() > 0), "nobody lost a connection: nothing was tested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_tells_its_readers_where_to_go_on() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let [leaving, staying] = [3, 1].map(|node| cluster.node(node).http.address);
    let reader = FeedReader::start(vec![leaving, staying], 0);
    for i in 0..10 {
        cluster.node(1).http.put(&format!("before {i}")).await;
    }
    reader.wait_for(10, PATIENCE).await;
    cluster.node_mut(3).stop().await;
    for i in 0..10 {
        cluster.node(1).http.put(&format!("after {i}")).await;
    }
    reader.wait_for(20, PATIENCE).await;
    reader.expect_all_after(0);
    assert_eq!(reader.goodbyes(), ["draining; resume with after=10"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_follows_the_answer_to_who_sent_the_message_at_once() {
    let _machine = machine_alone();
    let cluster = Cluster::ready(3).await;
    let readers: Vec<_> =
        cluster.clients().iter().map(|client| FeedReader::start(vec![client.address], 0)).collect();
    let mut answered = Vec::new();
    for i in 0..count(200, 2000u64) {
        cluster.node(1 + (i % 3) as u8).http.put(&format!("message {i}")).await;
        answered.push(std::time::Instant::now());
    }
    let mut later = Vec::new();
    for reader in &readers {
        reader.wait_for(answered.len() as u64, PATIENCE).await;
        for (heard, answered) in reader.messages().iter().zip(&answered) {
            later.push(heard.at.saturating_duration_since(*answered));
        }
    }
    let what = "from a POST's answer to its frame at a reader of any node";
    let middle = measured(what, &later);
    expect_under(what, middle, FRAME_BAR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_node_that_is_cut_off_is_let_go() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    let alone = FeedReader::start(vec![cluster.node(follower).http.address], 0);
    cluster.node(leader).http.put("before").await;
    alone.wait_for(1, PATIENCE).await;
    for node in (1..=3).filter(|node| *node != follower) {
        cluster.node_mut(node).kill();
    }
    // It says so with a heartbeat, once it knows that no leader is left.
    crate::support::wait::until("it is let go", Duration::from_secs(40), async || {
        alone.goodbyes().iter().any(|why| why == "not-ready; resume with after=1").then_some(())
    })
    .await;
}
