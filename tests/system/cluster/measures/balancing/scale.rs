//! How soon a node that is ready gets traffic, and how soon one that drains gets none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::interval;

use skep_kit::clients::tools::{Tool, wrk_result};
use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{count, expect_under, machine_alone, measured};
use skep_kit::programs::installed;
use skep_kit::wait::{under_load_for, until};

/// Answers that the balancer had from a backend.
async fn answers(balancer: &Balancer, address: SocketAddr) -> u64 {
    let backend = balancer.backend(address).await;
    backend.and_then(|it| it["responses"].as_u64()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_traffic_soon_after_it_is_ready_and_none_soon_after_it_drains() {
    if !installed("a node that comes and goes", &["wrk"]) {
        return;
    }
    let _machine = machine_alone();
    let rounds = count(1, 8);
    let mut cluster = Cluster::ready(3).await;
    let (digest, _) = cluster.node(1).http.put("here").await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let script = cluster.folder().join("get.lua");
    std::fs::write(&script, "").expect("the script can be written");
    let url = format!("http://{}/messages/{digest}", balancer.http);
    let (mut joins, mut drains) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let load = Tool::wrk(&url, 16, Duration::from_secs(12), &script);
        under_load_for(Duration::from_secs(1)).await;
        // The same flags, but new data: another node.
        let data = cluster.folder().join(format!("data-4-{}", joins.len()));
        if cluster.running().contains(&4) {
            unreachable!("node 4 has left");
        }
        let mut settings = cluster.settings(4);
        settings.data = data;
        let mut joining = skep_kit::cluster::node::Node::new(settings, cluster.folder().join("node-4.log"));
        let address = joining.http.address;
        joining.start();
        joining.wait_ready().await;
        let ready = Instant::now();
        until("the new node gets traffic", Duration::from_secs(10), async || {
            (answers(&balancer, address).await > 0).then_some(())
        })
        .await;
        joins.push(ready.elapsed());
        under_load_for(Duration::from_secs(1)).await;
        joining.terminate();
        let draining = Instant::now();
        // The last time at which it had answered more than before.
        let (mut last, mut seen) = (Duration::ZERO, answers(&balancer, address).await);
        let mut looks = interval(Duration::from_millis(5));
        while draining.elapsed() < Duration::from_millis(1500) {
            looks.tick().await;
            let now = answers(&balancer, address).await;
            if now > seen {
                (last, seen) = (draining.elapsed(), now);
            }
        }
        drains.push(last);
        let status = joining.wait_exit(Duration::from_secs(10)).await;
        assert!(status.success(), "{status}");
        let (requests, wrong) = wrk_result(&load.finish().await);
        assert!(requests > 1000 && wrong.is_empty(), "{requests} requests, {wrong:?}");
    }
    let join = measured("new node ready until it gets traffic", &joins);
    let drain = measured("node draining until it gets none", &drains);
    expect_under("ready until traffic", join, Duration::from_millis(600));
    expect_under("draining until none", drain, Duration::from_millis(300));
    cluster.kill_all();
}
