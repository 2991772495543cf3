//! A node that stops in order while it has a long request.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than a balancer reads before it chooses a node.
const AT_ONCE_BYTES: usize = 80_000;
/// A client's pace: this much in each of so many pieces, longer than it takes until the node is found to
/// take no new connections, shorter than it waits for what it has.
const PIECES: usize = 32;
const PIECE_BYTES: usize = 1000;
const PACE: Duration = Duration::from_millis(100);
/// Pieces that are sent before the node is told to stop.
const BEFORE: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_at_a_node_that_gets_sigterm_is_answered() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let mut client = TcpStream::connect(balancer.http).await.expect("the balancer accepts");
    let length = AT_ONCE_BYTES + PIECES * PIECE_BYTES;
    let head =
        format!("POST /write HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("the head is taken");
    client.write_all(&[b'x'; AT_ONCE_BYTES]).await.expect("the body's begin is taken");
    let mut pace = interval(PACE);
    let mut stopped = None;
    for piece in 0..PIECES {
        pace.tick().await;
        client.write_all(&[b'x'; PIECE_BYTES]).await.expect("a piece is taken");
        if piece == BEFORE {
            let busy = until("a node has the request", PATIENCE, async || {
                let backends = balancer.backends().await;
                let busy = backends.iter().find(|it| it["outstanding"].as_u64() > Some(0))?;
                busy["address"].as_str().map(str::to_owned)
            })
            .await;
            let node =
                (1..=3).find(|node| cluster.node(*node).http_text() == busy).expect("it is one of ours");
            cluster.node(node).terminate();
            stopped = Some(node);
        }
    }
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    let node = stopped.expect("one was told to stop");
    cluster.node_mut(node).wait_exit(PATIENCE).await;
}
