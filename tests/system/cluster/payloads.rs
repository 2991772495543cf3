//! Payloads, results and errors of tasks are in files: they outlive all nodes, and come to one that joins. What one node's
//! disk has lost is had of the others.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skep_kit::clients::load::unique_text;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};

use super::tasks::{post, ready, task};

const PATIENCE: Duration = Duration::from_secs(30);
const TASKS: usize = 120;
/// A MB each: together more than of a log is kept behind a checkpoint.
const LARGE_MESSAGES: usize = 275;

fn payload(number: usize) -> String {
    format!("{number}:{}", "p".repeat(20_000 + number))
}

async fn gauge(cluster: &Cluster, node: u8, name: &str) -> Option<f64> {
    let metrics = cluster.node(node).admin.get("/metrics").await.ok()?.text();
    metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} "))?.trim().parse().ok())
}

/// So many tasks by one claim: their ids, fences and payloads.
async fn claim(client: &Client, worker: &str, number: u64) -> Vec<(String, u64, Value)> {
    let asked = json!({"worker": worker, "number": number, "queues": ["q"], "max": 20, "wait": "0s"});
    let answer = post(client, "/claim", asked).await;
    if answer.status == 204 {
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let tasks = answer.json()["tasks"].as_array().expect("tasks").clone();
    let one = |task: &Value| {
        let id = task["id"].as_str().expect("an id").to_owned();
        (id, task["fence"].as_u64().expect("one"), task["payload"].clone())
    };
    tasks.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_and_results_outlive_all_nodes_and_come_to_one_that_joins() {
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let one = cluster.node(1).http.clone();
    let put = |number| json!({"queue": "q", "payload": payload(number), "keep": "1h", "timeout": "1h"});
    let all: Vec<Value> = (0..TASKS).map(put).collect();
    let mut ids = Vec::<Value>::new();
    // A body is of a MiB at most.
    for some in all.chunks(40) {
        let answer = post(&one, "/tasks", some.to_vec().into()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        ids.extend_from_slice(answer.json()["ids"].as_array().expect("ids"));
    }
    let number_of = |id: &str| ids.iter().position(|known| known == id).expect("one of them");
    // Some are done, one is dead, and the rest waits.
    let mut done = Vec::new();
    for (id, fence, found) in claim(&one, "w", 1).await {
        let number = number_of(&id);
        assert_eq!(found, payload(number).as_str());
        let (end, said) = match number {
            3 => ("fail", json!({"fence": fence, "error": "e".repeat(3_000), "final": true})),
            _ => ("complete", json!({"fence": fence, "result": "r".repeat(9_000 + number)})),
        };
        assert_eq!(post(&one, &format!("/tasks/{id}/{end}"), said).await.status, 200);
        done.push((id, number));
    }
    assert!(gauge(&cluster, 1, "skep_store_payload_live_bytes").await.expect("it says") > 2e6);
    for node in 1..=3 {
        // A checkpoint of what is there.
        assert_eq!(cluster.node(node).admin.get("/snapshot").await.expect("a snapshot").status, 200);
    }
    // So much that the tasks are in no log any more: who comes has them from a snapshot alone.
    for _ in 0..LARGE_MESSAGES {
        one.put(&format!("{}{}", unique_text(20), "x".repeat(1_000_000))).await;
    }
    for node in 1..=3 {
        until("the log begins later", PATIENCE, async || {
            (gauge(&cluster, node, "skep_raft_purged_index").await? > 0.0).then_some(())
        })
        .await;
    }
    cluster.kill_all();
    for node in 1..=4 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=4 {
        let client = cluster.node(node).http.clone();
        for (id, number) in &done {
            let shown = until("the node knows the task", PATIENCE, async || {
                let answer = client.get(&format!("/tasks/{id}")).await.ok()?;
                (answer.status == 200).then(|| answer.json())
            })
            .await;
            match number {
                3 => assert_eq!(shown["error"], "e".repeat(3_000).as_str(), "at {node}"),
                number => assert_eq!(shown["result"], "r".repeat(9_000 + number).as_str(), "at {node}"),
            }
        }
    }
    // The node that came has the payloads as well: files that came with a snapshot are not of the first generation.
    let entries = std::fs::read_dir(cluster.node(4).settings.data.join("payloads")).expect("there are some");
    let names =
        entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("a name"));
    let firsts: Vec<String> = names.filter(|name| name.starts_with("00000000-")).collect();
    assert!(firsts.is_empty(), "{firsts:?} came from the log");
    let four = cluster.node(4).http.clone();
    let mut rest = 0;
    for number in 1.. {
        let given = claim(&four, &format!("late-{number}"), 1).await;
        if given.is_empty() {
            break;
        }
        for (id, fence, found) in given {
            assert_eq!(found, payload(number_of(&id)).as_str());
            let said = json!({"fence": fence, "result": 1});
            assert_eq!(post(&four, &format!("/tasks/{id}/complete"), said).await.status, 200);
            rest += 1;
        }
    }
    assert_eq!(rest + done.len(), TASKS);
    assert_eq!(task(&four, &done[0].0).await["state"], "done");
    assert_eq!(gauge(&cluster, 4, "skep_store_payloads_lost_total").await, Some(0.0));
}

/// Before the bytes of a file of payloads.
const HEADER_BYTES: usize = 32;

/// Has a disk lose all bytes of tasks; none of the files.
fn lose_payloads(data: &Path) {
    let entries = std::fs::read_dir(data.join("payloads")).expect("the folder has payloads");
    let mut count = 0;
    for path in entries.map(|entry| entry.expect("a folder can be read").path()) {
        let mut bytes = std::fs::read(&path).expect("it can be read");
        bytes.iter_mut().skip(HEADER_BYTES).for_each(|byte| *byte ^= 1);
        count += bytes.len().saturating_sub(HEADER_BYTES);
        std::fs::write(&path, bytes).expect("it can be written");
    }
    assert!(count > 0, "there are no payloads in {}", data.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_disk_has_lost_is_served_by_the_others_and_no_try_is_counted_for_it() {
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let one = cluster.node(1).http.clone();
    let put = |number| json!({"queue": "q", "payload": payload(number), "keep": "1h", "retries": 0});
    let answer = post(&one, "/tasks", (0..3).map(put).collect::<Vec<Value>>().into()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let ids = answer.json()["ids"].as_array().expect("ids").clone();
    let done = {
        let asked = json!({"worker": "w", "number": 1, "queues": ["q"], "max": 1, "wait": "0s"});
        let task = post(&one, "/claim", asked).await.json()["tasks"][0].clone();
        let path = format!("/tasks/{}", task["id"].as_str().expect("an id"));
        let said = json!({"fence": task["fence"], "result": "r".repeat(5_000)});
        assert_eq!(post(&one, &format!("{path}/complete"), said).await.status, 200);
        path
    };
    // What a stopped node's folder has is what its last checkpoint says; a snapshot makes one.
    until("node 2 has a checkpoint of it", PATIENCE, async || {
        let shown = cluster.node(2).http.get(&done).await.ok()?;
        let saved = cluster.node(2).admin.get("/snapshot").await.ok()?;
        (shown.status == 200 && saved.status == 200).then_some(())
    })
    .await;
    cluster.node_mut(2).stop().await;
    lose_payloads(&cluster.node(2).settings.data.clone());
    cluster.start(2);
    cluster.wait_all_ready().await;

    let two = cluster.node(2).http.clone();
    let lost = two.get(&done).await.expect("an answer");
    assert_eq!((lost.status, lost.header("skep-unprocessed")), (503, "1"), "{lost:?}");
    let balancer = Balancer::start(&cluster, &[]).await;
    for _ in 0..9 {
        let shown = balancer.client.get(&done).await.expect("an answer");
        assert_eq!(shown.status, 200, "{shown:?}");
        assert_eq!(shown.json()["result"], "r".repeat(5_000).as_str());
    }
    let counted = gauge(&cluster, 2, "skep_store_payloads_lost_total").await;
    assert!(counted.is_some_and(|count| count > 0.0), "{counted:?}");

    // A claim there gives nothing, and takes nothing from anybody.
    assert_eq!(claim(&two, "at-two", 1).await, []);
    for id in &ids[1..] {
        let shown = task(&one, id.as_str().expect("an id")).await;
        assert_eq!((&shown["state"], &shown["tries"], &shown["lost"]), (&"due".into(), &0.into(), &0.into()));
    }
    let mut number = 0;
    let given = until("they can be claimed where they are", PATIENCE, async || {
        number += 1;
        let given = claim(&one, "at-one", number).await;
        (!given.is_empty()).then_some(given)
    })
    .await;
    assert_eq!(given.len(), 2);
    for (id, _, found) in given {
        let at = ids.iter().position(|known| *known == *id).expect("one of them");
        assert_eq!(found, payload(at).as_str());
    }
}
