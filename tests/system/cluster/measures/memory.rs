//! What clients make a node hold: uploads that never end, pages, lists and feeds that nobody reads.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use skep_kit::Cluster;
use skep_kit::clients::load::unique_text;
use skep_kit::effort::{expect_under, figure, machine_alone, measured};
use skep_kit::programs::raise_file_limit;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const UPLOADS: usize = 300;
const READERS: usize = 120;
const BODY_BYTES: usize = 1 << 20;
const RESIDENT_BYTES_MAX: u64 = 350_000_000;
const HONEST_MAX: Duration = Duration::from_secs(3);
/// At the stack's limit of 1 GiB an eighth is for requests.
const REQUEST_MEMORY: &str = "128MiB";

/// Sends what it may, and holds the connection.
async fn held(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().ok()?;
    // Little of an answer is to lie in the kernel.
    socket.set_recv_buffer_size(4096).ok()?;
    let mut stream = timeout(Duration::from_secs(5), socket.connect(address)).await.ok()?.ok()?;
    // A node that refuses reads no further.
    let _ = timeout(Duration::from_secs(2), stream.write_all(bytes)).await;
    Some(stream)
}

async fn held_by_many(count: usize, address: SocketAddr, bytes: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in (0..count).step_by(20) {
        all.extend(join_all((0..20).map(|_| held(address, bytes))).await.into_iter().flatten());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hold_things_up_take_no_more_than_the_account() {
    let _machine = machine_alone();
    raise_file_limit();
    let mut cluster = Cluster::new(1, &[]);
    cluster.args = vec!["--request-memory".into(), REQUEST_MEMORY.into()];
    cluster.start(1).wait_ready().await;
    let node = cluster.node(1);
    let address = node.http.address;
    // Pages of their full size.
    for _ in 0..10 {
        node.http.put(&format!("{}{}", unique_text(20), "x".repeat(700_000))).await;
    }
    let begun = node.resident_bytes();
    let get = |path: &str, accept: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\n\r\n").into_bytes()
    };
    let websocket = format!(
        "GET /messages/live?after=0 HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    let mut upload = format!(
        "POST /messages HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    )
    .into_bytes();
    upload.resize(upload.len() + BODY_BYTES - 1, b'x');

    let mut all = Vec::new();
    all.push(held_by_many(UPLOADS, address, &upload).await);
    all.push(held_by_many(READERS, address, &get("/messages?limit=1000", "*/*")).await);
    all.push(held_by_many(READERS, address, &get("/endpoint/", "*/*")).await);
    all.push(held_by_many(READERS, address, &get("/messages/live?after=0", "text/event-stream")).await);
    all.push(held_by_many(READERS, address, &websocket).await);

    let mut honest = Vec::new();
    let mut most = 0;
    for _ in 0..20 {
        let asked = Instant::now();
        node.http.put(&unique_text(100)).await;
        honest.push(asked.elapsed());
        most = most.max(node.resident_bytes());
    }
    figure("resident before", format!("{:.0} MB", begun as f64 / 1e6));
    figure(
        "resident with stalled uploads, unread pages, lists and feeds",
        format!("{:.0} MB", most as f64 / 1e6),
    );
    measured("an honest write meanwhile", &honest);
    assert!(most < RESIDENT_BYTES_MAX, "{most} bytes are resident");
    expect_under("an honest write", *honest.iter().max().expect("some"), HONEST_MAX);
    let metrics = node.admin.get("/metrics").await.expect("an answer").text();
    assert!(metrics.contains("skep_http_request_memory_max_bytes 134217728"), "{metrics}");

    drop(all);
    // Whatever was held is given back.
    skep_kit::wait::until("a large upload is taken again", Duration::from_secs(60), async || {
        let answer = node.http.post_message(&format!("{}{}", unique_text(20), "x".repeat(700_000))).await;
        answer.is_ok_and(|answer| answer.status == 201).then_some(())
    })
    .await;
}
