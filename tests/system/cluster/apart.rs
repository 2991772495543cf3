//! Two clusters whose gossip meets stay two.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::clients::oracle::list;
use skep_kit::effort::machine_shared;
use skep_kit::wait::holds_for;

/// Nodes 1 to 3 are one cluster, 4 to 6 another; then one node of each is given the other's seeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_with_the_same_key_and_each_others_seeds_stay_apart() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.seeds = vec![4, 5, 6];
    for node in 4..=6 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let left = cluster.node(1).wait_status().await.cluster_id;
    let right = cluster.node(4).wait_status().await.cluster_id;
    assert!(left.is_some() && right.is_some() && left != right, "{left:?} {right:?}");
    cluster.node(1).http.put("left").await;
    cluster.node(4).http.put("right").await;

    for (node, stranger) in [(1, 4), (4, 1)] {
        cluster.node_mut(node).kill();
        let peer = cluster.subnet().peer(stranger);
        cluster.node_mut(node).settings.seeds.push(peer);
        cluster.start(node);
    }
    cluster.wait_all_ready().await;

    let http = |nodes: std::ops::RangeInclusive<u8>| -> BTreeSet<String> {
        nodes.map(|node| cluster.node(node).http_text()).collect()
    };
    let (left_nodes, right_nodes) = (http(1..=3), http(4..=6));
    holds_for("they stay apart", Duration::from_secs(4), async || {
        for (node, view) in cluster.views().await {
            let (id, strangers) = if node <= 3 { (&left, &right_nodes) } else { (&right, &left_nodes) };
            if view.cluster_id != *id {
                return Err(format!("node {node} is in {:?}, was in {id:?}", view.cluster_id));
            }
            let foreign = view.members.iter().find(|member| {
                let is_foreign = member.http.as_ref().is_some_and(|http| strangers.contains(http));
                is_foreign && member.raft.as_deref().is_some_and(|raft| raft != "none")
            });
            if let Some(member) = foreign {
                return Err(format!("node {node} has a stranger in its Raft: {member:?}"));
            }
            if view.voters() != 3 {
                return Err(format!("node {node} sees {} voters", view.voters()));
            }
        }
        Ok(())
    })
    .await;

    for node in 1..=6 {
        cluster.node(node).http.put(if node <= 3 { "left again" } else { "right again" }).await;
        let listed: Vec<_> =
            list(&cluster.node(node).http).await.into_iter().filter_map(|one| one.message).collect();
        let expected = if node <= 3 { ["left", "left again"] } else { ["right", "right again"] };
        assert_eq!(listed, expected, "node {node}");
    }
}

/// A joiner that sees two clusters must not end up in both, nor make a third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_that_sees_one_cluster_joins_that_one_alone() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    cluster.start(1);
    cluster.start(2);
    cluster.wait_all_ready().await;
    let first = cluster.node(1).wait_status().await.cluster_id;
    let second = cluster.node(2).wait_status().await.cluster_id;
    assert_ne!(first, second, "alone without seeds, each is its own cluster");
    cluster.seeds = vec![1];
    cluster.start(3).wait_ready().await;
    assert_eq!(cluster.node(3).wait_status().await.cluster_id, first);
    assert_eq!(cluster.node(2).wait_status().await.cluster_id, second);
}
