//! A node that hangs: its kernel goes on accepting, but nothing is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use skep_kit::clients::http::Client;
use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{count, expect_under, machine_alone, measured};
use skep_kit::wait::{under_load_for, until};

/// Clients that ask one request after another until they are told to stop: the slowest answer, and
/// what was no answer.
struct Askers {
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(Duration, Vec<String>)>>,
}

impl Askers {
    fn start(client: &Client, path: &str, count: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ask = |_| {
            let (client, path, over) =
                (client.with_timeout(Duration::from_secs(20)), path.to_owned(), over.clone());
            tokio::spawn(async move {
                let (mut slowest, mut wrong) = (Duration::ZERO, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    match client.get(&path).await {
                        Ok(answer) if answer.status == 200 => {}
                        other => wrong.push(format!("{other:?}")),
                    }
                    slowest = slowest.max(begun.elapsed());
                }
                (slowest, wrong)
            })
        };
        Self { tasks: (0..count).map(ask).collect(), over }
    }

    async fn stop(self) -> (Duration, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let (mut slowest, mut wrong) = (Duration::ZERO, Vec::new());
        for task in self.tasks {
            let (time, more) = task.await.expect("an asker does not panic");
            slowest = slowest.max(time);
            wrong.extend(more);
        }
        (slowest, wrong)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_left_out_and_its_requests_are_answered_by_another() {
    let _machine = machine_alone();
    let cluster = Cluster::ready(3).await;
    let (digest, _) = cluster.node(1).http.put("here").await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let leader = cluster.leader().await;
    let (mut out, mut waited) = (Vec::new(), Vec::new());
    for round in 0..count(1, 6) {
        // Followers and the leader in turn; from the second round on, whoever leads then.
        let leader = if round == 0 { leader } else { cluster.leader().await };
        let node = if round % 3 == 2 { leader } else { leader % 3 + 1 };
        let address = cluster.node(node).http.address;
        let askers = Askers::start(&balancer.client, &format!("/messages/{digest}"), 16);
        under_load_for(Duration::from_secs(1)).await;
        let paused = Instant::now();
        cluster.node(node).pause();
        until("the hung node is out of the choice", Duration::from_secs(10), async || {
            let backend = balancer.backend(address).await;
            backend.is_none_or(|it| it["serving"] == false).then_some(())
        })
        .await;
        out.push(paused.elapsed());
        let before = balancer.backend(address).await.map(|it| it["outstanding"].clone());
        until("nothing waits for the hung node", Duration::from_secs(5), async || {
            let backend = balancer.backend(address).await;
            backend.is_none_or(|it| it["outstanding"] == 0).then_some(())
        })
        .await;
        let (slowest, wrong) = askers.stop().await;
        waited.push(slowest);
        cluster.node(node).resume();
        assert!(wrong.is_empty(), "round {round}, node {node}, {before:?} outstanding: {wrong:?}");
        until("the node is back", Duration::from_secs(30), async || {
            let backend = balancer.backend(address).await;
            backend.is_some_and(|it| it["serving"] == true).then_some(())
        })
        .await;
    }
    measured("hung node until it is out of the choice", &out);
    measured("slowest answer while a node hung", &waited);
    let slowest = out.iter().max().expect("a round was run");
    expect_under("out of the choice", *slowest, Duration::from_secs(2));
}
