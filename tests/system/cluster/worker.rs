//! `skep-worker` at a cluster: tasks are done by a program, whatever becomes of workers and nodes meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::cluster::worker::{Script, Worker};
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};

use crate::tasks::{LEASE, post, put, ready, task};

const PATIENCE: Duration = Duration::from_secs(60);

/// Puts that many, each with its number as payload; their ids.
pub async fn put_numbers(client: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for first in (0..count).step_by(500) {
        let tasks: Vec<Value> = (first..count.min(first + 500))
            .map(|number| json!({"queue": "q", "payload": number, "keep": "1h"}))
            .collect();
        let answer = post(client, "/tasks", tasks.into()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let given = answer.json()["ids"].as_array().expect("ids").clone();
        ids.extend(given.iter().map(|id| id.as_str().expect("an id").to_owned()));
    }
    ids
}

/// Waits until so many of queue `q` are done.
pub async fn wait_done(client: &Client, count: usize) {
    until("the tasks are done", PATIENCE, async || {
        let queues = client.get("/queues").await.ok().filter(|answer| answer.status == 200)?.json();
        let queue = queues["queues"].as_array()?.iter().find(|queue| queue["queue"] == "q")?.clone();
        (queue["done"] == count).then_some(())
    })
    .await;
}

pub fn everywhere(cluster: &Cluster) -> Vec<std::net::SocketAddr> {
    (1..=3).map(|node| cluster.node(node).http.address).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_done_by_workers_behind_the_balancer_each_once() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let script = Script::new(&cluster, "once", "read payload\nnote done\necho \"{\\\"n\\\":$payload}\"");
    let args = ["--exec", script.command(), "--slots", "4"];
    let mut workers = Vec::new();
    for index in 1..=2 {
        workers.push(Worker::start(&cluster, index, &[balancer.http], &args).await);
    }
    let ids = put_numbers(&balancer.client, 200).await;
    wait_done(&balancer.client, ids.len()).await;
    for (number, id) in ids.iter().enumerate() {
        let shown = task(&balancer.client, id).await;
        assert_eq!((&shown["state"], &shown["result"]["n"]), (&"done".into(), &number.into()), "{shown}");
    }
    let mut noted: Vec<String> = script.noted("done").into_iter().map(|(id, _)| id).collect();
    noted.sort_unstable();
    let mut expected = ids.clone();
    expected.sort_unstable();
    assert_eq!(noted, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_end_gives_back_what_it_has_and_no_try_is_counted() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let client = cluster.node(1).http.clone();
    // The first run of each does not end by itself.
    let text = "[ \"$(grep -c \"^$SKEP_TASK_ID .* begun\" \"$0.notes\")\" = 0 ] || { note again; exit 0; }\n\
                note begun\nexec sleep 600";
    let script = Script::new(&cluster, "long", text);
    let args = ["--exec", script.command(), "--slots", "3", "--drain", "500ms"];
    let mut first = Worker::start(&cluster, 1, &everywhere(&cluster), &args).await;
    let ids = put_numbers(&client, 5).await;
    script.wait_noted("begun", 3).await;
    first.terminate();
    let status = first.wait_exit(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
    for id in &ids {
        let shown = task(&client, id).await;
        assert_eq!(
            (&shown["state"], &shown["tries"], &shown["lost"]),
            (&"ready".into(), &0.into(), &0.into()),
            "{shown}"
        );
    }
    let given_back = script.noted("begun");
    let _second = Worker::start(&cluster, 2, &everywhere(&cluster), &args).await;
    script.wait_noted("again", 3).await;
    let again: BTreeSet<String> = script.noted("again").into_iter().map(|(id, _)| id).collect();
    assert!(given_back.iter().all(|(id, _)| again.contains(id)), "{given_back:?} {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_death_costs_no_task_and_runs_none_twice() {
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let script = Script::new(&cluster, "steady", "read payload\nnote done\nsleep 0.05\necho \"$payload\"");
    let args = ["--exec", script.command(), "--slots", "4"];
    let urls = everywhere(&cluster);
    let mut workers = Vec::new();
    for index in 1..=3 {
        workers.push(Worker::start(&cluster, index, &urls, &args).await);
    }
    let leader = cluster.leader().await;
    let other = if leader == 1 { 2 } else { 1 };
    let client = cluster.node(other).http.clone();
    let ids = put_numbers(&client, 600).await;
    script.wait_noted("done", 100).await;
    cluster.node_mut(leader).kill();
    wait_done(&client, ids.len()).await;
    for (number, id) in ids.iter().enumerate() {
        let shown = task(&client, id).await;
        assert_eq!(
            (&shown["state"], &shown["result"], &shown["lost"]),
            (&"done".into(), &number.into(), &0.into()),
            "{shown}"
        );
    }
    assert_eq!(script.noted("done").len(), ids.len(), "no lease was lost, so none ran twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_kills_its_workers_is_dead_after_three_and_its_neighbours_are_done() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let client = cluster.node(1).http.clone();
    let text = "read payload\nnote begun\n[ \"$payload\" = '\"poison\"' ] || { sleep 1; note done; exit 0; }\n\
                kill -9 $PPID";
    let script = Script::new(&cluster, "poison", text);
    let args = ["--exec", script.command(), "--slots", "4"];
    let poison = put(&client, json!({"queue": "q", "payload": "poison", "keep": "1h"})).await;
    let mut neighbours = Vec::new();
    for _ in 0..6 {
        neighbours.push(put(&client, json!({"queue": "q", "keep": "1h"})).await);
    }
    let mut killed = 0;
    let mut worker = Worker::begin(&cluster, 1, &everywhere(&cluster), &args);
    // Each loss is known once a lease is over.
    let patience = LEASE * 3 + PATIENCE;
    until("the task is dead", patience, async || {
        if worker.try_exit().is_some() {
            killed += 1;
            worker = Worker::begin(&cluster, 1, &everywhere(&cluster), &args);
        }
        (task(&client, &poison).await["state"] == "dead").then_some(())
    })
    .await;
    let shown = task(&client, &poison).await;
    assert_eq!((&shown["lost"], &shown["tries"]), (&3.into(), &0.into()), "{shown}");
    assert!(shown["error"].as_str().is_some_and(|error| error.contains("worker-lost")), "{shown}");
    assert_eq!(killed, 3);
    wait_done(&client, neighbours.len()).await;
}
