//! How soon readers of the feed are told.

use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::clients::feed::FeedReader;
use skep_kit::effort::{count, expect_under, machine_alone, measured};

const PATIENCE: Duration = Duration::from_secs(20);
/// From the answer to who sent a message to its frame at a reader of any node.
const FRAME_BAR: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_follows_the_answer_to_who_sent_the_message_at_once() {
    let _machine = machine_alone();
    let cluster = Cluster::ready(3).await;
    let readers: Vec<_> =
        cluster.clients().iter().map(|client| FeedReader::start(vec![client.address], 0)).collect();
    let mut answered = Vec::new();
    for i in 0..count(200, 2000u64) {
        cluster.node(1 + (i % 3) as u8).http.put(&format!("message {i}")).await;
        answered.push(Instant::now());
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
