//! Ten thousand idle keep-alive connections: what they hold, and what they cost others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use skep_kit::clients::tools::{Tool, wrk_p99, wrk_result};
use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{count, long, machine_alone, measured, median, say};
use skep_kit::programs::installed;

const RESIDENT_BYTES_MAX: u64 = 100_000_000;
/// Of the p99 without them.
const SLOWER_MAX: f64 = 1.2;
/// Below this two p99s differ by more than 20% by themselves.
const NOISE: Duration = Duration::from_millis(1);

/// A connection that asked once, and now idles.
async fn idler(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the balancer accepts");
    stream.write_all(b"GET /-/ready HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready\n") {
        assert!(stream.read_buf(&mut seen).await.expect("it answers") > 0, "{seen:?}");
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_hold_little_and_slow_nobody_down() {
    if !installed("idle connections", &["wrk"]) {
        return;
    }
    let _machine = machine_alone();
    let idlers = count(2_000, 10_000);
    skep_kit::programs::raise_file_limit();
    let cluster = Cluster::ready(3).await;
    let (digest, _) = cluster.node(1).http.put("here").await;
    let balancer = Balancer::start(&cluster, &["--idle-timeout", "300s"]).await;
    let script = cluster.folder().join("get.lua");
    std::fs::write(&script, "").expect("the script can be written");
    let url = format!("http://{}/messages/{digest}", balancer.http);
    let load = async || {
        let text = Tool::wrk(&url, 8, Duration::from_secs(count(1, 4)), &script).finish().await;
        let (requests, wrong) = wrk_result(&text);
        assert!(requests > 100 && wrong.is_empty(), "{text}");
        wrk_p99(&text)
    };
    load().await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let before = balancer.resident_bytes();
    let mut most = 0;
    for _ in 0..count(1, 7) {
        without.push(load().await);
        let mut held = Vec::with_capacity(idlers);
        while held.len() < idlers {
            let batch = (idlers - held.len()).min(100);
            let opened = (0..batch).map(|_| idler(balancer.http));
            held.extend(futures_util::future::join_all(opened).await);
        }
        with.push(load().await);
        most = most.max(balancer.resident_bytes());
        assert_eq!(held.len(), idlers);
    }
    say(&format!(
        "measure: resident memory with {idlers} idle connections: {:.1} MB, before {:.1} MB",
        most as f64 / 1e6,
        before as f64 / 1e6
    ));
    measured("p99 of others without idle connections", &without);
    measured("p99 of others with idle connections", &with);
    assert!(most < RESIDENT_BYTES_MAX, "{most} bytes are resident");
    let (without, with) = (median(&without), median(&with));
    if long() {
        let bar = without.mul_f64(SLOWER_MAX).max(NOISE);
        assert!(with <= bar, "p99 {with:?} with idle connections, {without:?} without");
    }
}
