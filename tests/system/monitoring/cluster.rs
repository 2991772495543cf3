//! A real Prometheus before a real cluster and its balancer: every query of the dashboard has an
//! answer, and the alerts say what was done to the cluster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::clients::http::Client;
use skep_kit::clients::load::{Load, LoadOptions, Targets};
use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::cluster::subnet::ADMIN_PORT;
use skep_kit::effort::machine_shared;
use skep_kit::monitoring::prometheus::{DEADLINE, Prometheus, dashboard, lint};
use skep_kit::monitoring::shipped;
use skep_kit::programs::installed;
use skep_kit::wait::{TICK, holds_for, until};

/// Prometheus's address in the subnet; nodes count from 1.
const HOST: u8 = 210;
/// What the disk of the machine that runs the tests is told of; that is no fault of the cluster.
const OF_THE_DISK: [&str; 3] = ["SkepDiskNearlyFull", "SkepDiskFillsUp", "SkepSlowDisk"];

struct Watched {
    prometheus: Prometheus,
    balancer: Balancer,
    cluster: Cluster,
}

/// A cluster with a balancer, all of it scraped.
async fn watched(nodes: u8) -> Watched {
    let seeds: Vec<u8> = if nodes == 1 { Vec::new() } else { (1..=nodes).collect() };
    let mut cluster = Cluster::new(u32::from(nodes), &seeds);
    // So that it has tasks.
    cluster.args = vec!["--level-after".into(), "200ms".into()];
    for node in 1..=nodes {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let admins: Vec<String> =
        (1..=nodes).map(|node| format!("{}:{ADMIN_PORT}", cluster.subnet().host(node))).collect();
    let folder = cluster.folder().join("prometheus");
    let config = shipped::lay_out(&folder, &admins, &[balancer.admin.address.to_string()], &[]);
    let prometheus = Prometheus::start(None, &cluster.subnet().host(HOST).to_string(), &config);
    let targets = usize::from(nodes) + 1;
    until("all is scraped", DEADLINE, async || prometheus.scrapes(targets).then_some(())).await;
    Watched { prometheus, balancer, cluster }
}

async fn fires(prometheus: &Prometheus, alert: &str) {
    let end = Instant::now() + DEADLINE;
    until(alert, DEADLINE + TICK, async || {
        let firing = prometheus.firing();
        let fires = firing.iter().any(|name| name == alert);
        assert!(fires || Instant::now() < end, "{alert} did not fire within {DEADLINE:?}: {firing:?} do");
        fires.then_some(())
    })
    .await;
}

/// These alerts, but for those of the machine's disk.
fn of_the_cluster(mut alerts: Vec<String>) -> Vec<String> {
    alerts.retain(|name| !OF_THE_DISK.contains(&name.as_str()));
    alerts
}

/// Waits until no alert fires or is about to, and sees that none does; names those that do.
///
/// About to: what the last scrape before a recovery saw may fire after it, for a moment.
async fn none_fires(when: &str, prometheus: &Prometheus) {
    let end = Instant::now() + DEADLINE;
    until("no alert fires", DEADLINE + TICK, async || {
        let active = of_the_cluster(prometheus.active());
        assert!(Instant::now() < end || active.is_empty(), "{when}, for {DEADLINE:?}: {active:?} are active");
        active.is_empty().then_some(())
    })
    .await;
    holds_for(when, Duration::from_secs(3), async || {
        let firing = of_the_cluster(prometheus.firing());
        if firing.is_empty() { Ok(()) } else { Err(format!("{firing:?} fire")) }
    })
    .await;
}

async fn ask(client: &Client, path: &str, body: Value) -> Option<Value> {
    let headers = [("content-type", "application/json")];
    let answer = client.send(Method::POST, path, &headers, body.to_string().into()).await.ok()?;
    (answer.status < 300).then(|| answer.json())
}

/// Has a queue worked at: one of its tasks is in a worker's hands, and one waits. Ends them by `end_tasks`.
async fn begin_tasks(client: &Client) -> Vec<Value> {
    until("the members agree to tasks", DEADLINE, async || {
        ask(client, "/tasks", json!([{ "queue": "q" }, { "queue": "q" }])).await
    })
    .await;
    let claim = json!({ "worker": "w", "number": 1, "queues": ["q"] });
    let claimed = until("a task", DEADLINE, async || ask(client, "/claim", claim.clone()).await).await;
    claimed["tasks"].as_array().expect("tasks").clone()
}

/// Keeps what was given in its worker's hands.
async fn beat(client: &Client, given: &[Value]) {
    let holds: Vec<&Value> = given.iter().map(|task| &task["fence"]).collect();
    let holds = json!({ "holds": holds });
    until("it is heard", DEADLINE, async || ask(client, "/workers/w/beat", holds.clone()).await).await;
}

async fn end_tasks(client: &Client, given: Vec<Value>) {
    let holds: Vec<Value> = given.iter().map(|task| task["fence"].clone()).collect();
    let claim =
        json!({ "worker": "w", "number": 2, "queues": ["q"], "max": 2, "holds": holds, "wait": "1s" });
    let claimed = ask(client, "/claim", claim).await.expect("the rest");
    for task in given.iter().chain(claimed["tasks"].as_array().expect("tasks")) {
        let path = format!("/tasks/{}/complete", task["id"].as_str().expect("an id"));
        let fence = json!({ "fence": task["fence"] });
        until("it ends", DEADLINE, async || ask(client, &path, fence.clone()).await).await;
    }
}

async fn scrape(admin: &Client) -> BTreeSet<String> {
    let answer = admin.get("/metrics").await.expect("an answer");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    lint(&text);
    shipped::samples_of(&text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_and_every_rule_has_data_of_a_running_cluster() {
    if !installed("the dashboard before a cluster", &["prometheus"]) {
        return;
    }
    let _machine = machine_shared();
    let watched = watched(3).await;
    let prometheus = &watched.prometheus;
    let client = &watched.cluster.node(1).http;
    let given = begin_tasks(client).await;
    let load = Load::start(&Targets::new(vec![watched.balancer.client.clone()]), LoadOptions::default());
    let queries = dashboard(false);
    let mut left_before = usize::MAX;
    until("each query has an answer", DEADLINE, async || {
        let left = prometheus.unanswered(&queries);
        if left.len() < left_before {
            left_before = left.len();
            eprintln!("no answer yet: {left:?}");
        }
        beat(client, &given).await;
        left.is_empty().then_some(())
    })
    .await;
    load.stop().await.expect_no_failure("a watched cluster");

    let mut there = scrape(&watched.balancer.admin).await;
    for node in 1..=3 {
        there.extend(scrape(&watched.cluster.node(node).admin).await);
    }
    let rules = prometheus.rules();
    assert!(!rules.is_empty());
    let is_told = |query: &str| !shipped::is_of_addresses(query) && !shipped::is_of_issuers(query);
    for (name, query) in rules.iter().chain(&queries).filter(|(_, query)| is_told(query)) {
        let missing: Vec<_> = shipped::metrics_of(query).difference(&there).cloned().collect();
        assert!(missing.is_empty(), "{name} asks for {missing:?}, which no program has");
    }
    end_tasks(client, given).await;
    none_fires("a cluster under a load", prometheus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_voter_puts_the_quorum_at_risk_and_a_lost_quorum_fires_until_it_is_back() {
    if !installed("alerts of a lost quorum", &["prometheus"]) {
        return;
    }
    let _machine = machine_shared();
    let mut watched = watched(3).await;
    none_fires("a cluster that is well", &watched.prometheus).await;
    let leader = watched.cluster.leader().await;
    let (first, second) = (leader % 3 + 1, (leader + 1) % 3 + 1);

    watched.cluster.node_mut(first).kill();
    fires(&watched.prometheus, "SkepQuorumAtRisk").await;
    fires(&watched.prometheus, "SkepDown").await;
    let firing = watched.prometheus.firing();
    assert!(!firing.iter().any(|name| name == "SkepNoLeader"), "two of three are a quorum: {firing:?} fire");

    // The leader lives on, and can acknowledge nothing.
    watched.cluster.node_mut(second).kill();
    fires(&watched.prometheus, "SkepNoLeader").await;
    fires(&watched.prometheus, "SkepNoBackend").await;
    fires(&watched.prometheus, "SkepNotReady").await;

    for node in [first, second] {
        watched.cluster.start(node);
    }
    watched.cluster.wait_all_ready().await;
    none_fires("the quorum is back", &watched.prometheus).await;

    // Nobody is left to say so.
    watched.cluster.kill_all();
    fires(&watched.prometheus, "SkepNoLeader").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_gives_no_alert() {
    if !installed("alerts of a cluster of one", &["prometheus"]) {
        return;
    }
    let _machine = machine_shared();
    let watched = watched(1).await;
    none_fires("a cluster of one", &watched.prometheus).await;
    let spare = watched.prometheus.query("skep_raft_voters_to_spare");
    assert_eq!(spare, [0.0]);
}
