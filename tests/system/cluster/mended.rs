//! What a disk has lost, and the other nodes have.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::clients::feed::FeedReader;
use skep_kit::clients::load::unique_text;
use skep_kit::cluster::node::Node;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;

const PATIENCE: Duration = Duration::from_secs(60);
/// More than a segment.
const MESSAGES: u64 = 75;

async fn figure(node: &Node, name: &str) -> Option<f64> {
    let text = node.admin.get("/metrics").await.ok()?.text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The oldest segment of messages.
fn oldest_segment(data: &Path) -> PathBuf {
    let entries = std::fs::read_dir(data.join("messages")).expect("the folder has messages");
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().expect("there is a segment")
}

fn flip_a_bit(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("it can be written");
}

/// Three nodes with more than a segment of messages each: their digests and texts.
async fn filled(scrub_interval: &str) -> (Cluster, Vec<(String, String)>) {
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.args = vec!["--scrub-interval".into(), scrub_interval.into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let leader = cluster.leader().await;
    let mut messages = Vec::new();
    for _ in 0..MESSAGES {
        let text = format!("{}{}", unique_text(20), "x".repeat(1_000_000));
        messages.push((cluster.node(leader).http.put(&text).await.0, text));
    }
    let applied = cluster.node(leader).wait_status().await.applied;
    cluster.wait_views("all have applied all", PATIENCE, |view| view.applied >= applied).await;
    (cluster, messages)
}

/// Each message as this node itself gives it.
async fn gives_all(node: &Node, messages: &[(String, String)]) {
    for (digest, text) in messages {
        let answer = node.http.get(&format!("/messages/{digest}")).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json()["message"] == text.as_str(), "{digest} is another message");
    }
}

/// So many records and segments were mended by now, and none is rotten.
async fn is_mended(node: &Node, records: f64, segments: f64) {
    until("what was lost comes back", PATIENCE, async || {
        let is_well = figure(node, "skep_store_rotten_segments").await? == 0.0
            && figure(node, "skep_store_records_mended_total").await? == records
            && figure(node, "skep_store_segments_mended_total").await? == segments;
        is_well.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_disk_has_lost_is_found_in_the_background_and_put_back_from_other_nodes() {
    let _machine = machine_shared();
    let (mut cluster, messages) = filled("100ms").await;
    let number = cluster.leader().await % 3 + 1;
    let node = cluster.node(number);
    until("a segment is read again, and well", PATIENCE, async || {
        (figure(node, "skep_store_segments_checked_total").await? >= 1.0).then_some(())
    })
    .await;
    let path = oldest_segment(&node.settings.data);
    let good = std::fs::read(&path).expect("the segment can be read");
    flip_a_bit(&path, good.len() as u64 / 2);
    is_mended(node, 1.0, 1.0).await;
    assert!(std::fs::read(&path).expect("the segment can be read") == good, "it is as it was");
    assert!(node.log_text().contains("what the disk had lost is there again"));
    gives_all(node, &messages).await;

    // While it does not run. What its folder has then is what its last checkpoint says; a snapshot makes one.
    let saved = node.admin.with_timeout(PATIENCE).get("/snapshot").await;
    assert!(saved.is_ok_and(|answer| answer.status == 200));
    cluster.node_mut(number).stop().await;
    for at in [good.len() / 5, good.len() / 4, good.len() / 2] {
        flip_a_bit(&path, at as u64);
    }
    cluster.start(number).wait_ready().await;
    let node = cluster.node(number);
    is_mended(node, 3.0, 1.0).await;
    assert!(std::fs::read(&path).expect("the segment can be read") == good, "it is as it was");
    gives_all(node, &messages).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_meets_what_a_disk_has_lost_is_answered_once_it_is_mended_and_else_says_what_is_lost() {
    let _machine = machine_shared();
    let (mut cluster, messages) = filled("1h").await;
    let number = cluster.leader().await % 3 + 1;
    let path = oldest_segment(&cluster.node(number).settings.data);
    let len = std::fs::metadata(&path).expect("there is a segment").len();
    for at in [len / 4, len / 2] {
        flip_a_bit(&path, at);
    }
    gives_all(cluster.node(number), &messages).await;
    is_mended(cluster.node(number), 2.0, 1.0).await;
    // Who follows, too.
    flip_a_bit(&path, len / 3);
    let reader = FeedReader::start(vec![cluster.node(number).http.address], 0);
    reader.wait_for(MESSAGES, PATIENCE).await;
    is_mended(cluster.node(number), 3.0, 2.0).await;

    // Where nobody else is there to give it, it is a problem that says so, and no message.
    flip_a_bit(&path, len / 4);
    for other in (1..=3).filter(|other| *other != number) {
        cluster.node_mut(other).kill();
    }
    let mut refused = 0;
    for (digest, text) in &messages {
        let answer = cluster.node(number).http.get(&format!("/messages/{digest}")).await.expect("an answer");
        if answer.status == 200 {
            assert!(answer.json()["message"] == text.as_str(), "{digest} is another message");
            continue;
        }
        assert_eq!((answer.status, answer.header("skep-unprocessed")), (503, "1"), "{}", answer.text());
        assert!(answer.text().contains("not as it was written"), "{}", answer.text());
        refused += 1;
    }
    assert_eq!(refused, 1);
    assert_eq!(figure(cluster.node(number), "skep_store_rotten_segments").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_log_needs_what_its_disk_has_lost_starts_and_is_given_it() {
    let _machine = machine_shared();
    let (mut cluster, mut messages) = filled("1h").await;
    let number = cluster.leader().await % 3 + 1;
    let node = cluster.node(number);
    // What comes behind the checkpoint is applied again at the next start.
    let saved = node.admin.with_timeout(PATIENCE).get("/snapshot").await;
    assert!(saved.is_ok_and(|answer| answer.status == 200));
    let path = oldest_segment(&node.settings.data);
    let (digest, text) = messages[0].clone();
    assert_eq!(node.http.put(&text).await.0, digest, "the same message again");
    // That it is committed is written with what comes behind it.
    for _ in 0..3 {
        let text = unique_text(20);
        messages.push((node.http.put(&text).await.0, text));
        let applied = node.wait_status().await.applied;
        cluster.wait_views("all have applied it", PATIENCE, |view| view.applied >= applied).await;
    }
    cluster.node_mut(number).kill();
    flip_a_bit(&path, 1000);
    cluster.start(number).wait_ready().await;
    let node = cluster.node(number);
    assert!(
        node.log_text().contains("not applied again before other nodes can be asked"),
        "{}",
        node.log_text()
    );
    is_mended(node, 1.0, 1.0).await;
    gives_all(node, &messages).await;
}
