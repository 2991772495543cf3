//! Whatever the order of starts and the seeds given, exactly one cluster forms.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::list;
use skep_kit::cluster::node::READY_DEADLINE;
use skep_kit::effort::{count, machine_shared, measured};
use skep_kit::random::Random;
use skep_kit::wait::{holds_for, until};

const START_DELAY_MAX: Duration = Duration::from_secs(3);

/// For each of nodes 1..=n some of the others, so that the whole is connected.
fn partial_seeds(random: &mut Random, nodes: u8) -> Vec<Vec<u8>> {
    loop {
        let lists: Vec<Vec<u8>> = (1..=nodes)
            .map(|node| {
                let mut others: Vec<u8> = (1..=nodes).filter(|other| *other != node).collect();
                let wanted = 1 + random.below(u64::from(nodes) - 2) as usize;
                while others.len() > wanted {
                    others.remove(random.below(others.len() as u64) as usize);
                }
                others
            })
            .collect();
        if is_connected(&lists) {
            return lists;
        }
    }
}

fn is_connected(lists: &[Vec<u8>]) -> bool {
    let mut reached = BTreeSet::from([1u8]);
    loop {
        let before = reached.len();
        for (position, seeds) in lists.iter().enumerate() {
            let node = position as u8 + 1;
            if reached.contains(&node) || seeds.iter().any(|seed| reached.contains(seed)) {
                reached.insert(node);
                reached.extend(seeds);
            }
        }
        if reached.len() == before {
            return reached.len() == lists.len();
        }
    }
}

/// One trial; the time from the last start until all are ready.
async fn trial(random: &mut Random, nodes: u8) -> Duration {
    let lists = partial_seeds(random, nodes);
    let mut starts: Vec<(Duration, u8)> =
        (1..=nodes).map(|node| (random.duration_up_to(START_DELAY_MAX), node)).collect();
    starts.sort_unstable();
    println!("starts {starts:?} seeds {lists:?}");

    let mut cluster = Cluster::new(u32::from(nodes), &[]);
    // The delays are what a trial is about: each node has its instant.
    let begun = tokio::time::Instant::now();
    for (delay, node) in starts {
        tokio::time::sleep_until(begun + delay).await;
        let mut settings = cluster.settings(node);
        settings.seeds =
            lists[usize::from(node) - 1].iter().map(|seed| cluster.subnet().peer(*seed)).collect();
        cluster.add(node, settings).start();
    }
    let last = Instant::now();

    let mut ids = BTreeSet::new();
    until("all nodes are ready", READY_DEADLINE, async || {
        for (_, view) in cluster.views().await {
            ids.extend(view.cluster_id);
        }
        for node in 1..=nodes {
            if !cluster.node(node).is_ready().await {
                return None;
            }
        }
        Some(())
    })
    .await;
    let taken = last.elapsed();
    for node in 1..=nodes {
        ids.extend(cluster.node(node).wait_status().await.cluster_id);
    }
    assert_eq!(ids.len(), 1, "{nodes} nodes formed {ids:?}");

    // One cluster also means one log: what each was given, all list.
    for client in cluster.clients() {
        client.put(&unique_text(20)).await;
    }
    for client in cluster.clients() {
        assert_eq!(list(&client).await.len(), usize::from(nodes), "the list at {}", client.address);
    }
    taken
}

async fn trials(nodes: u8, rounds: usize) {
    let mut random = Random::announced();
    let mut times = Vec::new();
    for _ in 0..rounds {
        times.push(trial(&mut random, nodes).await);
    }
    measured(&format!("{nodes} nodes with partial seeds: ready after the last start"), &times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_partial_seeds_form_exactly_one_cluster() {
    let _machine = machine_shared();
    trials(3, count(3, 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_with_partial_seeds_form_exactly_one_cluster() {
    let _machine = machine_shared();
    trials(5, count(2, 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_nodes_than_expected_form_no_cluster() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.start(1);
    cluster.start(2);
    cluster.node(1).wait_status().await;
    cluster.node(2).wait_status().await;
    holds_for("two of three wait", Duration::from_secs(2), async || {
        for (node, view) in cluster.views().await {
            if let Some(id) = view.cluster_id {
                return Err(format!("node {node} is in cluster {id}"));
            }
        }
        if cluster.node(1).is_ready().await { Err("node 1 is ready".to_owned()) } else { Ok(()) }
    })
    .await;
    cluster.start(3);
    cluster.wait_all_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_with_seeds_that_do_not_answer_waits() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[2]);
    cluster.start(1);
    cluster.node(1).wait_status().await;
    holds_for("it starts no cluster", Duration::from_secs(2), async || {
        match cluster.node(1).wait_status().await.cluster_id {
            Some(id) => Err(format!("it is in cluster {id}")),
            None => Ok(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_joiners_join_the_cluster_that_is_there() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let id = cluster.node(1).wait_status().await.cluster_id;
    let (digest, _) = cluster.node(1).http.put("before they came").await;
    for node in 4..=6 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 4..=6 {
        assert_eq!(cluster.node(node).wait_status().await.cluster_id, id);
        let answer = cluster.node(node).http.get(&format!("/messages/{digest}")).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
