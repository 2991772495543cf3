//! What a node refuses, and that it says why.

use std::net::TcpListener;
use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::cluster::node::Node;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{Ended, logfile, run_to_end, write_key};
use skep_kit::wait::{holds_for, until};

const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Runs a node that is expected to end by itself.
fn refused(node: &Node) -> Ended {
    run_to_end(&mut node.command(), "", ENDS_WITHIN)
}

/// Adds a node that is not started by the harness.
fn described(cluster: &mut Cluster, index: u8) -> &mut Node {
    let settings = cluster.settings(index);
    cluster.add(index, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_wrong_key_is_kept_out_and_says_why() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let (right, wrong) = (cluster.folder().join("right.key"), cluster.folder().join("wrong.key"));
    write_key(&right);
    write_key(&wrong);
    cluster.key_file = Some(right);
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    cluster.key_file = Some(wrong);
    cluster.start(4);
    let node = cluster.node_mut(4);
    until("it says that the key is wrong", ENDS_WITHIN, async || {
        let ended = node.try_exit().is_some();
        let said = logfile::line_with(&node.log_text(), &["sealed with a key", "cluster key"]).is_some();
        assert!(!ended || said, "it ended without a word about the key");
        said.then_some(())
    })
    .await;
    let http = cluster.node(4).http_text();
    holds_for("it is kept out", Duration::from_secs(2), async || {
        for (node, view) in cluster.views().await {
            if node != 4 && view.member_at(&http).is_some() {
                return Err(format!("node {node} lists it"));
            }
        }
        if cluster.node(4).is_ready().await { Err("it is ready".to_owned()) } else { Ok(()) }
    })
    .await;
    cluster.node(1).http.put("the others go on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_without_a_pause() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let folder = cluster.folder().to_owned();
    let (old, new) = (folder.join("old.key"), folder.join("new.key"));
    write_key(&old);
    write_key(&new);
    let text = |path| std::fs::read_to_string(path).expect("a key file can be read");
    let ring = folder.join("cluster.key");
    std::fs::copy(&old, &ring).expect("a key file can be copied");
    cluster.key_file = Some(ring.clone());
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    // First all can open the new key, then all seal with it, then the old one goes.
    for keys in [format!("{}{}", text(&old), text(&new)), format!("{}{}", text(&new), text(&old)), text(&new)]
    {
        std::fs::write(&ring, keys).expect("a key file can be written");
        for node in 1..=3 {
            cluster.node_mut(node).stop().await;
            let other = node % 3 + 1;
            cluster.node(other).http.put(&skep_kit::clients::load::unique_text(30)).await;
            cluster.start(node).wait_ready().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_of_another_cluster_is_refused_and_says_why() {
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
    let own = cluster.node(6).wait_status().await.cluster_id.expect("a ready node has a cluster");
    let other = cluster.node(1).wait_status().await.cluster_id.expect("a ready node has a cluster");
    for node in 4..=6 {
        cluster.node_mut(node).kill();
    }
    // The folder of one cluster with the seeds of another, as after a mix-up of volumes.
    let seeds = cluster.node(1).settings.seeds.clone();
    cluster.node_mut(6).settings.seeds = seeds;
    cluster.start(6);
    let node = cluster.node_mut(6);
    until("it names both clusters", ENDS_WITHIN, async || {
        node.try_exit();
        logfile::line_with(&node.log_text(), &[&own, &other]).map(|_| ())
    })
    .await;
    let answer = cluster.node(6).admin.get("/readyz").await.expect("the admin address answers");
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(detail.contains(&own) && detail.contains(&other) && detail.contains("seeds"), "{detail}");
    let http = cluster.node(6).http_text();
    holds_for("it is kept out", Duration::from_secs(2), async || {
        for (node, view) in cluster.views().await.into_iter().filter(|(node, _)| *node <= 3) {
            let raft = view.member_at(&http).and_then(|member| member.raft.clone());
            if raft.as_deref().is_some_and(|raft| raft != "none") || view.voters() != 3 {
                return Err(format!("node {node} took it in: {view:?}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_ends_the_start_and_is_named() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let node = described(&mut cluster, 1);
    for address in [node.http.address, node.peer_address(), node.admin.address] {
        let _taken = TcpListener::bind(address).expect("the test's own address is free");
        let ended = refused(node);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let line = logfile::line_with(&ended.text(), &[&address.to_string(), "in use"]);
        assert!(line.is_some(), "{address} is not named: {ended:?}");
    }
    let _taken = std::net::UdpSocket::bind(node.peer_address()).expect("the test's own address is free");
    let ended = refused(node);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        logfile::line_with(&ended.text(), &[&node.peer_address().to_string(), "in use"]).is_some(),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_folder_is_refused() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(1).await;
    let folder = cluster.node(1).settings.data.clone();
    let second = described(&mut cluster, 2);
    second.settings.data = folder.clone();
    let ended = refused(second);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let folder = folder.to_str().expect("a plain path").to_owned();
    assert!(logfile::line_with(&ended.text(), &[&folder]).is_some(), "the folder is not named: {ended:?}");
    assert!(
        ["locked", "in use", "another process"].iter().any(|word| ended.text().contains(word)),
        "the reason is not named: {ended:?}"
    );
    cluster.node(1).http.put("the first goes on").await;
}
