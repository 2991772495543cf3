//! Every node is replaced, one after another, while clients write.

use skep_kit::clients::oracle::verify;
use skep_kit::effort::{machine_shared, say};
use skep_kit::wait::PATIENCE;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const NODES: u8 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_outlives_all_its_first_nodes_without_a_failed_write() {
    let _machine = machine_shared();
    // Seeds reach over the whole of the replacement, as a DNS name would.
    let mut cluster = Cluster::new(u32::from(NODES), &[1, 2, 3, 4, 5, 6]);
    for node in 1..=NODES {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let targets = Targets::new(cluster.clients());
    let load = Load::start(&targets, LoadOptions::default());
    load.wait_acked(50, PATIENCE).await;

    for node in 1..=NODES {
        // Clients turn away first, as a balancer does when a node says that it drains.
        targets.remove(&cluster.node(node).http);
        cluster.node_mut(node).stop().await;
        load.wait_acked(50, PATIENCE).await;
        let new = node + NODES;
        cluster.start(new).wait_ready().await;
        targets.add(&cluster.node(new).http);
        load.wait_acked(50, PATIENCE).await;
    }
    let ledger = load.stop().await;
    let there = verify(&cluster.clients(), &ledger).await;
    say(&format!("measure: all nodes replaced: {there} messages, {} writes failed", ledger.failed.len()));
    ledger.expect_no_failure("writes while every node was replaced");
    cluster
        .wait_views("three voters, none of them of the first", PATIENCE, |view| {
            view.voters() == usize::from(NODES)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_folder_rejoins_under_a_new_id() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(NODES).await;
    let (digest, _) = cluster.node(1).http.put("kept by the others").await;
    let before = cluster.node(3).wait_status().await;
    cluster.node_mut(3).kill();
    std::fs::remove_dir_all(&cluster.node(3).settings.data).expect("the folder can be removed");
    cluster.start(3).wait_ready().await;
    let after = cluster.node(3).wait_status().await;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_ne!(after.node_id, before.node_id, "an empty folder must not keep the id");
    let answer = cluster.node(3).http.get(&format!("/messages/{digest}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
}
