//! The live feed across the death of nodes.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use skep_kit::clients::feed::FeedReader;
use skep_kit::clients::oracle::verify;
use skep_kit::effort::{count, figure, machine_shared};
use skep_kit::wait::until;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const PATIENCE: Duration = Duration::from_secs(40);
/// Well below what the reader was not given.
const RESIDENT_GROWTH_MAX: u64 = 24 << 20;

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
async fn a_reader_of_a_follower_that_is_cut_off_is_let_go() {
    expect_let_go(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_leader_that_no_quorum_answers_is_let_go() {
    expect_let_go(true).await;
}

async fn expect_let_go(leads: bool) {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let read = if leads { leader } else { leader % 3 + 1 };
    let alone = FeedReader::start(vec![cluster.node(read).http.address], 0);
    cluster.node(leader).http.put("before").await;
    alone.wait_for(1, PATIENCE).await;
    for node in (1..=3).filter(|node| *node != read) {
        cluster.node_mut(node).kill();
    }
    // It says so with a heartbeat, once it knows that it is alone.
    until("it is let go", Duration::from_secs(40), async || {
        alone.goodbyes().iter().any(|why| why == "not-ready; resume with after=1").then_some(())
    })
    .await;
}

/// A reader that takes nothing costs no memory, and is let go; it goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_let_go_and_can_go_on_where_it_was() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(1).await;
    let node = cluster.node(1);
    // As many without a reader: what taking them in needs, the node has then.
    let messages = count(80u64, 400);
    let put = async |number: u64| node.http.put(&format!("{number} {}", "x".repeat(512 << 10))).await;
    for number in 1..=messages {
        put(number).await;
    }
    let url = format!("ws://{}/messages/live?after={messages}", node.http.address);
    let (mut socket, _) = connect_async(url).await.expect("the node takes readers");
    let readers = async |expected: &str| {
        let metrics = node.admin.get("/metrics").await.ok()?.text();
        metrics.lines().any(|line| line == format!("skep_http_live_readers {expected}")).then_some(())
    };
    until("the reader is there", PATIENCE, async || readers("1.0").await).await;
    let before = node.resident_bytes();
    // More than the sockets' buffers hold.
    for number in messages + 1..=2 * messages {
        put(number).await;
    }
    until("the reader is let go", PATIENCE, async || readers("0.0").await).await;
    let grown = node.resident_bytes().saturating_sub(before);
    let what = format!("memory for a reader that took none of {messages} messages of 512 KiB");
    figure(&what, format!("{} MiB more", grown >> 20));
    assert!(grown < RESIDENT_GROWTH_MAX, "{grown} bytes more");

    let mut last = messages;
    // A reset is an end as well: what came before it counts.
    while let Some(Ok(frame)) = socket.next().await {
        if let Message::Text(text) = frame {
            let message: Value = serde_json::from_str(&text).expect("frames are JSON");
            last += 1;
            assert_eq!(message["seq"], last);
        }
    }
    assert!(last < 2 * messages, "it had all {messages}: nothing was tested");
    let again = FeedReader::start(vec![node.http.address], last);
    again.wait_for(2 * messages, PATIENCE).await;
    again.expect_all_after(last);
}
