//! The live feed through the balancer, as curl follows it over TLS.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{machine_alone, say};
use skep_kit::programs::installed;

const PATIENCE: Duration = Duration::from_secs(20);

/// The next message of a feed of server-sent events.
async fn next_message(lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) -> Value {
    let read = async {
        while let Some(line) = lines.next_line().await.expect("curl's output can be read") {
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("the data of an event is JSON");
            }
        }
        panic!("the feed ended");
    };
    timeout(PATIENCE, read).await.expect("a message comes in time")
}

async fn follow_over_tls(version: &str, expected_version: &str) {
    let cluster = Cluster::ready(3).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    cluster.node(1).http.put("before").await;
    let head = cluster.folder().join("head");
    let mut curl = tokio::process::Command::new("curl")
        .args(["-sSkN", version, "-D"])
        .arg(&head)
        .args(["-H", "accept: text/event-stream"])
        .arg(format!("https://{}/messages/live?after=0", balancer.https))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("curl starts");
    let mut lines = BufReader::new(curl.stdout.take().expect("its output is a pipe")).lines();
    assert_eq!(next_message(&mut lines).await["message"], "before");
    for seq in 2..=50 {
        let message = format!("message {seq}");
        cluster.node(1 + (seq % 3) as u8).http.put(&message).await;
        // Each comes by itself, not when a buffer is full or the next one pushes it.
        let heard = next_message(&mut lines).await;
        assert_eq!((heard["seq"].as_u64(), &heard["message"]), (Some(seq), &Value::from(message)));
    }
    let head = std::fs::read_to_string(head).expect("curl wrote the head");
    assert!(head.starts_with(expected_version), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_feed_comes_message_by_message_over_http_1_and_2_with_tls() {
    if !installed("the feed over TLS", &["curl"]) {
        return;
    }
    let _machine = machine_alone();
    follow_over_tls("--http1.1", "HTTP/1.1 200").await;
    let versions = Command::new("curl").arg("-V").output().expect("curl runs");
    if !String::from_utf8_lossy(&versions.stdout).contains("HTTP2") {
        say("left out: this curl speaks no HTTP/2");
        return;
    }
    follow_over_tls("--http2", "HTTP/2 200").await;
}
