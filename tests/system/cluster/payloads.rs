//! Payloads, results and errors of tasks are in files: they outlive all nodes, and come to one that joins.

use std::time::Duration;

use serde_json::{Value, json};
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};

use super::tasks::{post, ready, task};

const PATIENCE: Duration = Duration::from_secs(30);
const TASKS: usize = 120;

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
    let answer = post(&one, "/tasks", all.into()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let ids: Vec<Value> = answer.json()["ids"].as_array().expect("ids").clone();
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
    // The node that came has the payloads as well.
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
    assert_eq!(gauge(&cluster, 4, "skep_store_payloads_lost").await, Some(0.0));
}
