//! Nodes started at once: how soon the cluster acknowledges its first write.

use std::time::{Duration, Instant};

use futures_util::future::select_all;

use skep_kit::effort::{count, expect_under, machine_alone, measured};
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};

const FIRST_WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// Posts at every node until one acknowledges; when that was.
async fn first_acknowledgement(clients: Vec<Client>) -> Instant {
    let post = async |client: Client| {
        // Not listening yet, or no cluster yet: both end by asking again.
        until("a first write", FIRST_WRITE_DEADLINE, async || {
            let answer = client.post_message("first").await.ok()?;
            (answer.status < 300).then(Instant::now)
        })
        .await
    };
    select_all(clients.into_iter().map(|client| Box::pin(post(client)))).await.0
}

async fn trial(nodes: u8, rounds: usize, bar: Duration) {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut cluster = Cluster::start_all(nodes);
        let first = first_acknowledgement(cluster.clients()).await;
        times.push(first - begun);
        cluster.wait_all_ready().await;
        let id = cluster.node(1).wait_status().await.cluster_id.expect("a ready node has a cluster");
        cluster
            .wait_views("all are in one cluster", Duration::from_secs(5), |view| {
                view.cluster_id.as_ref() == Some(&id)
            })
            .await;
    }
    let what = format!("first write of {nodes} nodes started at once");
    let middle = measured(&what, &times);
    expect_under(&what, middle, bar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_started_at_once_soon_acknowledge_a_write() {
    let _machine = machine_alone();
    trial(3, count(2, 10), Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_nodes_started_at_once_soon_acknowledge_a_write() {
    let _machine = machine_alone();
    trial(9, count(1, 10), Duration::from_secs(5)).await;
}
