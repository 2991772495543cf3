//! The task queue of a cluster: tasks outlive the leader, the workers and all nodes, and each ends once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::clients::http::Answer;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a worker is believed to have its tasks after it was last heard of.
pub const LEASE: Duration = Duration::from_secs(15);

/// Three nodes that have agreed to have tasks.
pub(crate) async fn ready() -> Cluster {
    agreed(3, &[]).await
}

/// The same, of so many and with more to be told to each.
pub(crate) async fn agreed(nodes: u8, args: &[&str]) -> Cluster {
    let seeds: Vec<u8> = if nodes == 1 { Vec::new() } else { (1..=nodes).collect() };
    let mut cluster = Cluster::new(u32::from(nodes), &seeds);
    let args = args.iter().copied();
    cluster.args = ["--level-after", "200ms"].into_iter().chain(args).map(Into::into).collect();
    for node in 1..=nodes {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=nodes {
        until("the members agree to tasks", PATIENCE, async || {
            let metrics = cluster.node(node).admin.get("/metrics").await.ok()?.text();
            has_tasks(&metrics).then_some(())
        })
        .await;
    }
    cluster
}

/// Whether the members of a node with these metrics have agreed to tasks, and to have their bytes in files.
pub(crate) fn has_tasks(metrics: &str) -> bool {
    let level = metrics.lines().find_map(|line| line.strip_prefix("skep_store_level "));
    level.and_then(|level| level.parse::<f64>().ok()).is_some_and(|level| level >= 8.0)
}

pub(crate) async fn try_post(client: &Client, path: &str, body: &Value) -> Option<Answer> {
    let headers = [("content-type", "application/json")];
    client.send(Method::POST, path, &headers, body.to_string().into()).await.ok()
}

pub async fn post(client: &Client, path: &str, body: Value) -> Answer {
    try_post(client, path, &body).await.expect("an answer")
}

pub async fn put(client: &Client, body: Value) -> String {
    let answer = post(client, "/tasks", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

async fn put_many(client: &Client, count: usize) -> Vec<String> {
    let tasks: Vec<Value> = (0..count).map(|number| json!({"queue": "q", "payload": number})).collect();
    let answer = post(client, "/tasks", tasks.into()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let ids = answer.json()["ids"].as_array().expect("ids").clone();
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

fn claim(worker: &str, number: u64, max: u64, wait: &str) -> Value {
    json!({"worker": worker, "number": number, "queues": ["q"], "max": max, "wait": wait})
}

/// What a claim comes to, asked until a leader answers: of the same number it is the same.
async fn claimed(client: &Client, body: Value) -> Answer {
    until("the claim is answered", PATIENCE, async || {
        try_post(client, "/claim", &body).await.filter(|answer| answer.status != 503)
    })
    .await
}

/// The ids and fences of what a claim gave.
fn given(answer: &Answer) -> Vec<(String, u64)> {
    if answer.status == 204 {
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let tasks = answer.json()["tasks"].as_array().expect("tasks").clone();
    let lease =
        |task: &Value| (task["id"].as_str().expect("an id").to_owned(), task["fence"].as_u64().expect("one"));
    tasks.iter().map(lease).collect()
}

async fn complete(client: &Client, (id, fence): &(String, u64), by: &str) -> Option<Answer> {
    try_post(client, &format!("/tasks/{id}/complete"), &json!({"fence": fence, "result": by})).await
}

pub async fn task(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/tasks/{id}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_put_at_one_node_claimed_at_another_and_ended_at_the_third() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let [one, two, three] = [1, 2, 3].map(|node| cluster.node(node).http.clone());
    // A claim that waits gets what comes, at whichever node.
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { post(&two, "/claim", claim("w", 1, 1, "10s")).await }
    });
    let id = put(&one, json!({"queue": "q", "payload": {"a": [1, null]}})).await;
    let answer = waiting.await.expect("no panic");
    assert_eq!(answer.json()["tasks"][0]["payload"], json!({"a": [1, null]}));
    let lease = given(&answer).remove(0);
    assert_eq!(lease.0, id);
    assert_eq!(task(&three, &id).await["state"], "active");
    let reader = tokio::spawn({
        let (one, path) = (one.clone(), format!("/tasks/{id}?wait=10s"));
        async move { one.get(&path).await.expect("an answer").json() }
    });
    assert_eq!(complete(&three, &lease, "three").await.expect("an answer").status, 200);
    let shown = reader.await.expect("no panic");
    assert_eq!((&shown["state"], &shown["result"]), (&"done".into(), &"three".into()), "{shown}");
    assert_eq!(complete(&two, &lease, "two").await.expect("an answer").status, 200, "the same again");
    assert_eq!(task(&two, &id).await["result"], "three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_death_costs_no_task_and_no_lease_and_none_ends_twice() {
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let leader = cluster.leader().await;
    let all = put_many(&cluster.node(leader).http, 90).await;
    let mut held = Vec::new();
    for (worker, node) in [("a", 1), ("b", 2), ("c", 3)] {
        held.extend(given(&claimed(&cluster.node(node).http, claim(worker, 1, 20, "0s")).await));
    }
    assert_eq!(held.len(), 60);
    cluster.node_mut(leader).kill();
    let clients = cluster.clients();
    // Two workers may have one task by now, by a repeated claim: one end counts.
    let mut ended = BTreeMap::<String, u64>::new();
    let mut beaten = Instant::now();
    for (at, lease) in held.iter().enumerate() {
        // As workers do whose tasks take their time.
        if beaten.elapsed() > Duration::from_secs(4) {
            for (worker, its) in ["a", "b", "c"].iter().zip(held.chunks(20)) {
                let holds: Vec<u64> = its.iter().map(|lease| lease.1).collect();
                let path = format!("/workers/{worker}/beat");
                try_post(&clients[at % 2], &path, &json!({ "holds": holds })).await;
            }
            beaten = Instant::now();
        }
        let answer = until("a node ends the task", PATIENCE, async || {
            let answer = complete(&clients[at % 2], lease, "first").await?;
            (answer.status != 503).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, 200, "no lease is lost: {answer:?}");
        *ended.entry(lease.0.clone()).or_default() += 1;
        let other = (lease.0.clone(), lease.1 + 1_000);
        let answer = until("a node refuses another end", PATIENCE, async || {
            let answer = complete(&clients[(at + 1) % 2], &other, "second").await?;
            (answer.status != 503).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, 409, "of a fence that nobody has: {answer:?}");
    }
    let mut number = 1;
    while ended.len() < all.len() {
        number += 1;
        let answer = until("a node gives tasks", PATIENCE, async || {
            let answer =
                try_post(&clients[number as usize % 2], "/claim", &claim("a", number, 7, "1s")).await?;
            (answer.status != 503).then_some(answer)
        })
        .await;
        for lease in given(&answer) {
            assert_eq!(complete(&clients[0], &lease, "first").await.expect("an answer").status, 200);
            *ended.entry(lease.0).or_default() += 1;
        }
    }
    assert!(ended.values().all(|count| *count == 1), "each was given once");
    for id in &all {
        let shown = task(&clients[1], id).await;
        assert_eq!(
            (&shown["state"], &shown["result"], &shown["lost"]),
            (&"done".into(), &"first".into(), &0.into())
        );
    }
    // A fence of before counts nothing once the task was claimed again.
    let id = put_many(&clients[0], 1).await.remove(0);
    let old = given(&claimed(&clients[0], claim("d", 1, 1, "5s")).await).remove(0);
    let newer = given(&claimed(&clients[1], claim("d", 2, 1, "5s")).await).remove(0);
    assert!(newer.0 == id && newer.1 > old.1, "{old:?}, {newer:?}");
    let refused = complete(&clients[0], &old, "old").await.expect("an answer");
    assert_eq!((refused.status, &refused.json()["type"]), (409, &"urn:skep:problem:lease-lost".into()));
    assert_eq!(complete(&clients[1], &newer, "newer").await.expect("an answer").status, 200);
    assert_eq!(task(&clients[0], &id).await["result"], "newer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tasks_of_a_worker_that_is_not_heard_of_run_again_and_those_of_one_that_is_do_not() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    let client = cluster.node(follower).http.with_timeout(Duration::from_secs(60));
    let [kept, lost] = [put_many(&client, 1).await.remove(0), put_many(&client, 1).await.remove(0)];
    let of_kept = given(&claimed(&client, claim("alive", 1, 1, "0s")).await).remove(0);
    let began = Instant::now();
    let of_lost = given(&claimed(&client, claim("gone", 1, 1, "0s")).await).remove(0);
    assert_eq!((&of_kept.0, &of_lost.0), (&kept, &lost));
    let beats = tokio::spawn({
        let (clients, fence) = (cluster.clients(), of_kept.1);
        async move {
            let mut second = tokio::time::interval(Duration::from_secs(2));
            for client in clients.iter().cycle() {
                second.tick().await;
                // One that is not heard is followed by the next.
                let beat = try_post(client, "/workers/alive/beat", &json!({"holds": [fence]})).await;
                if let Some(heard) = beat.filter(|answer| answer.status != 503) {
                    assert_eq!(heard.json(), json!({"lost": []}));
                }
            }
        }
    });
    let again = given(&claimed(&client, claim("other", 1, 2, "40s")).await);
    let after = began.elapsed();
    assert_eq!(again.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&lost]);
    // Another leader, where a busy machine has one elected, gives all a lease anew.
    assert!((LEASE - Duration::from_secs(1)..LEASE + Duration::from_secs(20)).contains(&after), "{after:?}");
    println!("measure: a lost worker's task was claimed again after {after:?}");
    let late = complete(&client, &of_lost, "late").await.expect("an answer");
    assert_eq!((late.status, &late.json()["type"]), (409, &"urn:skep:problem:lease-lost".into()));
    assert_eq!(complete(&client, &again[0], "other").await.expect("an answer").status, 200);
    assert_eq!(complete(&client, &of_kept, "alive").await.expect("an answer").status, 200);
    beats.abort();
    let shown = [task(&client, &kept).await, task(&client, &lost).await];
    assert_eq!([&shown[0]["lost"], &shown[1]["lost"]], [&Value::from(0), &1.into()]);
    assert_eq!(shown[1]["result"], "other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_outlive_all_nodes_and_reach_one_that_joins() {
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let client = cluster.node(1).http.clone();
    let done = put(&client, json!({"queue": "q", "keep": "1h"})).await;
    let of_done = given(&claimed(&client, claim("w", 1, 1, "0s")).await).remove(0);
    complete(&client, &of_done, "kept").await.expect("an answer");
    let active = put(&client, json!({"queue": "q"})).await;
    let of_active = given(&claimed(&client, claim("w", 2, 1, "0s")).await).remove(0);
    let due = put(&client, json!({"queue": "q", "delay": "1h"})).await;
    // One part is in a checkpoint, the other in the log alone.
    for node in 1..=3 {
        let snapshot = cluster.node(node).admin.get("/snapshot").await.expect("a snapshot");
        assert_eq!(snapshot.status, 200);
    }
    let dead = put(&client, json!({"queue": "r", "retries": 0})).await;
    let asked = json!({"worker": "w", "number": 3, "queues": ["r"], "wait": 0, "holds": [of_active.1]});
    let of_dead = given(&claimed(&client, asked).await).remove(0);
    post(&client, &format!("/tasks/{dead}/fail"), json!({"fence": of_dead.1, "error": "no"})).await;
    let ready = put(&client, json!({"queue": "q", "payload": "still here"})).await;
    cluster.kill_all();
    for node in 1..=4 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in [2, 4] {
        let client = cluster.node(node).http.clone();
        for (id, state) in
            [(&done, "done"), (&active, "active"), (&due, "due"), (&dead, "dead"), (&ready, "ready")]
        {
            assert_eq!(task(&client, id).await["state"], state, "at node {node}");
        }
        assert_eq!(task(&client, &done).await["result"], "kept");
        assert_eq!(task(&client, &dead).await["error"], "no");
    }
    let client = cluster.node(4).http.clone();
    assert_eq!(
        complete(&client, &of_active, "late").await.expect("an answer").status,
        200,
        "its lease began anew"
    );
    let answer = claimed(&client, claim("v", 1, 9, "0s")).await;
    assert_eq!(answer.json()["tasks"][0]["payload"], "still here");
    let queues = client.get("/queues").await.expect("an answer").json();
    let counts = &queues["queues"][0];
    assert_eq!((&counts["queue"], &counts["put"], &counts["done"]), (&"q".into(), &4.into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_task_is_taken_before_the_members_have_agreed_to_tasks() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(1).await;
    let client = cluster.node(1).http.clone();
    for (path, body) in [("/tasks", json!({"queue": "q"})), ("/claim", claim("w", 1, 1, "0s"))] {
        let answer = post(&client, path, body).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.text().contains("--level-after"), "{answer:?}");
    }
    let metrics = cluster.node(1).admin.get("/metrics").await.expect("an answer").text();
    assert!(metrics.lines().any(|line| line.starts_with("skep_store_level 2")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_becomes_ready_in_time_and_a_try_that_takes_too_long_is_over() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let client = cluster.node(2).http.clone();
    let began = Instant::now();
    let late = put(&client, json!({"queue": "q", "delay": "2s", "timeout": "4s", "backoff": 0})).await;
    let first = given(&claimed(&client, claim("w", 1, 1, "10s")).await).remove(0);
    let after = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(9)).contains(&after), "due 2 s later: {after:?}");
    let second = given(&claimed(&client, claim("v", 1, 1, "10s")).await).remove(0);
    assert_eq!((&first.0, &second.0), (&late, &late));
    let over = complete(&client, &first, "late").await.expect("an answer");
    assert_eq!((over.status, &over.json()["type"]), (409, &"urn:skep:problem:lease-lost".into()));
    assert_eq!(task(&client, &late).await["tries"], 1);
}

/// A worker's stream of a number, as its process has it: who drops it dies.
async fn stream(cluster: &Cluster, node: u8, worker: &str, number: u64) -> tokio::net::TcpStream {
    let address = cluster.node(node).http.address;
    let path = format!("/workers/{worker}/stream?number={number}");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(7).any(|part| part == b": alive") {
        let count = stream.read(&mut piece).await.expect("an answer");
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&piece[..count]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

async fn beat(client: &Client, worker: &str, number: u64, fence: u64) {
    let (path, body) = (format!("/workers/{worker}/beat"), json!({"holds": [fence], "stream": number}));
    let answer = until("the beat is heard", PATIENCE, async || {
        try_post(client, &path, &body).await.filter(|answer| answer.status != 503)
    })
    .await;
    assert_eq!((answer.status, answer.json()), (200, json!({"lost": []})), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_had_whose_stream_ends_goes_to_another_at_once_and_who_beats_keeps_it() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|node| *node != leader).expect("another one");
    let [at_leader, at_follower] = [leader, follower].map(|node| cluster.node(node).http.clone());
    put_many(&at_leader, 2).await;
    let mut held = Vec::new();
    let mut streams = Vec::new();
    for (worker, client, node) in [("dies", &at_follower, follower), ("stays", &at_follower, follower)] {
        held.push(given(&claimed(client, claim(worker, 1, 1, "0s")).await).remove(0));
        streams.push(stream(&cluster, node, worker, 1).await);
        beat(client, worker, 1, held[held.len() - 1].1).await;
    }
    let began = Instant::now();
    drop(streams);
    // The connection of this one alone broke: it says so once, and is heard of no more until its next beat.
    beat(&at_leader, "stays", 1, held[1].1).await;
    let _again = stream(&cluster, leader, "stays", 2).await;
    beat(&at_leader, "stays", 2, held[1].1).await;
    let taken = given(&claimed(&at_leader, claim("other", 1, 2, "14s")).await);
    let after = began.elapsed();
    assert_eq!(taken.iter().map(|lease| &lease.0).collect::<Vec<_>>(), [&held[0].0]);
    assert!(after < LEASE - Duration::from_secs(3), "{after:?}: no lease was waited for");
    let lost = task(&at_leader, &held[0].0).await;
    assert_eq!((&lost["lost"], &lost["state"]), (&1.into(), &"active".into()), "{lost}");
    // Where that took so long, its next beat was due.
    if began.elapsed() > Duration::from_secs(5) {
        beat(&at_leader, "stays", 2, held[1].1).await;
    }
    let none = given(&claimed(&at_leader, claim("another", 1, 2, "4s")).await);
    assert_eq!(none, [], "what is kept is given to nobody");
    assert_eq!(complete(&at_leader, &held[1], "stays").await.expect("an answer").status, 200);
}

/// Claims that wait at any node.
async fn claims_waiting(cluster: &Cluster) -> Option<u64> {
    let mut all = 0;
    for node in cluster.running() {
        let metrics = cluster.node(node).admin.get("/metrics").await.ok()?.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("skep_tasks_claims_waiting "))?;
        all += line.parse::<f64>().ok()? as u64;
    }
    Some(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_worker_is_gone_is_let_go_by_the_balancer_and_takes_no_task() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let body = claim("gone", 1, 1, "60s").to_string();
    let head = format!("POST /claim HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut process = tokio::net::TcpStream::connect(balancer.http).await.expect("a connection");
    process.write_all((head + &body).as_bytes()).await.expect("sent");
    until("the claim waits", PATIENCE, async || (claims_waiting(&cluster).await? == 1).then_some(())).await;
    // What a kernel does for a process that was killed.
    drop(process);
    let limit = Duration::from_secs(10);
    until("it waits no more", limit, async || (claims_waiting(&cluster).await? == 0).then_some(())).await;
    let id = put(&balancer.client, json!({"queue": "q"})).await;
    let taken = given(&claimed(&balancer.client, claim("other", 1, 1, "10s")).await);
    assert_eq!((&taken[0].0, &task(&balancer.client, &id).await["lost"]), (&id, &0.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_tasks_back_and_no_fence_that_was_given_counts_or_is_given_again() {
    let _machine = machine_shared();
    let former = agreed(1, &[]).await;
    let client = former.node(1).http.clone();
    let held = put(&client, json!({"queue": "q", "payload": "again"})).await;
    let old = given(&claimed(&client, claim("former", 1, 1, "0s")).await).remove(0);
    let due = put(&client, json!({"queue": "q", "delay": "1h"})).await;
    let snapshot = former.node(1).admin.get("/snapshot").await.expect("a snapshot");
    assert_eq!(snapshot.status, 200);
    drop(former);

    let cluster = agreed(1, &[]).await;
    let (client, admin) = (&cluster.node(1).http, &cluster.node(1).admin);
    let headers = [("content-type", "application/octet-stream")];
    let patient = admin.with_timeout(PATIENCE);
    let restored = patient.send(Method::POST, "/snapshot", &headers, snapshot.body).await.expect("an answer");
    assert_eq!(restored.status, 200, "{restored:?}");
    assert_eq!(task(client, &held).await["state"], "ready");
    assert_eq!(task(client, &due).await["state"], "due");
    let new = given(&claimed(client, claim("other", 1, 1, "0s")).await).remove(0);
    assert_eq!(new.0, held);
    assert!(new.1 > old.1 + (1 << 32), "{} after {}", new.1, old.1);
    assert_eq!(complete(client, &old, "former").await.expect("an answer").status, 409);
    assert_eq!(complete(client, &new, "other").await.expect("an answer").status, 200);
    assert_eq!(task(client, &held).await["result"], "other");
    assert_ne!(put(client, json!({"queue": "q"})).await, held);
}
