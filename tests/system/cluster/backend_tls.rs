//! Traffic between balancers and nodes over TLS with the cluster's keys.

use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::clients::feed::FeedReader;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);

async fn cluster(nodes: u8, http_tls: &str) -> Cluster {
    let seeds: Vec<u8> = if nodes == 1 { Vec::new() } else { (1..=nodes).collect() };
    let mut cluster = Cluster::new(u32::from(nodes), &seeds);
    cluster.args = vec!["--http-tls".into(), http_tls.into()];
    for node in 1..=nodes {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_the_live_feed_go_over_tls_and_plain_http_is_refused_in_words() {
    let _machine = machine_shared();
    let cluster = cluster(3, "only").await;
    let balancer = Balancer::start(&cluster, &["--backend-tls", "cluster"]).await;
    let reader = FeedReader::start(vec![balancer.http], 0);
    let mut last = 0;
    for number in 0..30 {
        let (digest, seq) = balancer.client.put(&format!("sealed {number}")).await;
        assert_eq!(balancer.client.get(&format!("/messages/{digest}")).await.expect("an answer").status, 200);
        last = seq;
    }
    let (_, large) = balancer.client.put(&"x".repeat(900 << 10)).await;
    reader.wait_for(last.max(large), PATIENCE).await;
    reader.expect_all_after(0);
    until("their checks go through", PATIENCE, async || {
        let all = balancer.backends().await;
        (!all.is_empty() && all.iter().all(|it| it["probe"] == "up")).then_some(())
    })
    .await;
    for backend in balancer.backends().await {
        assert_eq!(backend["failures"], 0, "{backend}");
    }
    let plain = cluster.node(1).http.get("/messages").await.expect("an answer");
    assert!(plain.status == 400 && plain.text().contains("--http-tls"), "{}", plain.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_both_serves_both_and_one_that_takes_no_tls_gets_no_request() {
    let _machine = machine_shared();
    let mut cluster = cluster(1, "also").await;
    cluster.node(1).http.put("in plain").await;
    let balancer = Balancer::start(&cluster, &["--backend-tls", "cluster"]).await;
    balancer.client.put("sealed").await;
    assert_eq!(cluster.node(1).http.get("/messages").await.expect("an answer").status, 200);

    // Its metrics begin anew with the process.
    let served = async |cluster: &Cluster| {
        let metrics = cluster.node(1).admin.get("/metrics").await.expect("metrics").text();
        metrics.lines().any(|line| line.starts_with("skep_http_requests_total") && line.contains("/messages"))
    };
    assert!(served(&cluster).await);

    cluster.node_mut(1).stop().await;
    cluster.node_mut(1).settings.args = ["--http-tls", "off"].map(Into::into).into();
    cluster.start(1).wait_ready().await;
    until("it is not trusted", PATIENCE, async || {
        let backend = balancer.backend(cluster.node(1).http.address).await?;
        (backend["probe"] == "untrusted").then_some(())
    })
    .await;
    assert_eq!(balancer.client.get("/messages").await.expect("an answer").status, 503);
    assert!(!served(&cluster).await, "nothing fell back to plain HTTP");
}
