//! Connections that are kept to a node that leaves.

use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::effort::{figure, machine_alone};
use skep_kit::wait::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval_at};

/// From one connection's request to the next one's.
const STEP: Duration = Duration::from_millis(100);
/// Who hears of a leaving node no later is answered.
const LATE_MAX: Duration = Duration::from_millis(1_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hears_late_that_a_node_leaves_is_answered_on_connections_that_were_kept() {
    let _machine = machine_alone();
    let mut cluster = Cluster::ready(3).await;
    let leaving = cluster.leader().await % 3 + 1;
    let http = cluster.node(leaving).http_text();
    let mut kept = Vec::new();
    for _ in 0..LATE_MAX.as_millis() / STEP.as_millis() {
        let mut connection = TcpStream::connect(&http).await.expect("the node listens");
        ask(&mut connection).await.expect("an answer");
        kept.push(connection);
    }
    cluster.node(leaving).terminate();
    let told = Instant::now();
    let mut steps = interval_at((told + STEP).into(), STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut latest = Duration::ZERO;
    for connection in &mut kept {
        steps.tick().await;
        // A test that was held up says nothing of who is in time.
        if told.elapsed() <= LATE_MAX + STEP {
            latest = told.elapsed();
            let answer =
                ask(connection).await.unwrap_or_else(|error| panic!("{latest:?} after SIGTERM: {error}"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
        }
    }
    figure("a node that leaves: kept connections asked up to", format!("{latest:.1?} after SIGTERM"));
    assert!(latest >= LATE_MAX / 2, "this machine stood still");
    cluster.node_mut(leaving).wait_exit(PATIENCE).await;
}

/// One request, and the head of its answer.
async fn ask(connection: &mut TcpStream) -> std::io::Result<String> {
    connection.write_all(b"GET /messages?limit=1 HTTP/1.1\r\nhost: skep\r\n\r\n").await?;
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).await?;
    if read == 0 {
        return Err(std::io::Error::other("closed without an answer"));
    }
    Ok(String::from_utf8_lossy(&answer[..read]).to_ascii_lowercase().replace("http/1.1", "HTTP/1.1"))
}
