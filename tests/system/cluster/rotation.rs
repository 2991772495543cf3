//! The cluster key is changed by SIGHUP alone, while clients write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_kit::clients::oracle::verify;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{machine_shared, say};
use skep_kit::programs::{logfile, write_edge_key, write_key};
use skep_kit::wait::until;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const NODES: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(20);
/// What the log says each time.
const READ_AGAIN: &str = "the cluster keys read again";
const LEFT: &str = "the cluster keys are left as they were";

/// A key, where nobody reads it but the test.
fn key_in(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    write_key(&path);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// The files of a cluster's programs.
struct Files {
    nodes: PathBuf,
    edges: PathBuf,
}

impl Files {
    fn new(folder: &Path, key: &str) -> Self {
        let files = Self { nodes: folder.join("cluster.key"), edges: folder.join("edge.key") };
        files.write(&[key]);
        files
    }

    fn write(&self, keys: &[&str]) {
        std::fs::write(&self.nodes, keys.join("\n")).unwrap();
        write_edge_key(&self.nodes, &self.edges);
    }
}

/// SIGHUP to one program after another; each has taken it before the next is told.
async fn tell_all(cluster: &Cluster, balancer: &Balancer, words: &str) {
    for node in 1..=NODES {
        let node = cluster.node(node);
        let count = || node.log_text().matches(words).count();
        let before = count();
        node.hang_up();
        until("the node has read its keys", PATIENCE, async || (count() > before).then_some(())).await;
    }
    let count = || balancer.log_text().matches(words).count();
    let before = count();
    balancer.hang_up();
    until("the balancer has read its keys", PATIENCE, async || (count() > before).then_some(())).await;
}

async fn unknown(node: &skep_kit::cluster::node::Node) -> f64 {
    let name = "skep_gossip_datagrams_dropped_total{reason=\"unknown_key\"} ";
    let metrics = node.admin.get("/metrics").await.map(|answer| answer.text()).unwrap_or_default();
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

async fn started() -> (Cluster, Balancer, Files, String) {
    let mut cluster = Cluster::new(u32::from(NODES), &[1, 2, 3]);
    let old = key_in(cluster.folder(), "old.key");
    let files = Files::new(cluster.folder(), &old);
    cluster.key_file = Some(files.nodes.clone());
    cluster.args = vec!["--http-tls".into(), "only".into()];
    for node in 1..=NODES {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let edges = files.edges.to_str().unwrap();
    let flags = ["--backend-tls", "cluster", "--cluster-key-file", edges];
    let balancer = Balancer::start(&cluster, &flags).await;
    (cluster, balancer, files, old)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_by_sighup_alone_fails_no_write_and_shuts_out_who_has_the_old_key() {
    let _machine = machine_shared();
    let (mut cluster, balancer, files, old) = started().await;
    let new = key_in(cluster.folder(), "new.key");
    let processes = |cluster: &Cluster| [1, 2, 3].map(|node| cluster.node(node).process_id());
    let before = processes(&cluster);
    let load = Load::start(&Targets::new(vec![balancer.client.clone()]), LoadOptions::default());
    load.wait_acked(50, PATIENCE).await;
    let (first, second) = (old.as_str(), new.as_str());
    for (keys, added, removed, another_seals) in
        [(vec![first, second], 1, 0, false), (vec![second, first], 0, 0, true), (vec![second], 0, 1, false)]
    {
        files.write(&keys);
        tell_all(&cluster, &balancer, READ_AGAIN).await;
        let logs = (1..=NODES).map(|node| cluster.node(node).log_text());
        for log in logs.chain([balancer.log_text()]) {
            let last = log.lines().rfind(|line| line.contains(READ_AGAIN)).unwrap();
            let said = format!("\"added\":{added},\"removed\":{removed},\"another_seals\":{another_seals}");
            assert!(last.contains(&said), "{said} is not in {last}");
        }
        load.wait_acked(100, PATIENCE).await;
    }
    // Who took the key away first had connections that the old one made. They are over, and writes go on.
    until("connections of the old key have ended", PATIENCE, async || {
        let ended = "a connection ended whose key is taken away";
        cluster.node(1).log_text().contains(ended).then_some(())
    })
    .await;
    load.wait_acked(100, PATIENCE).await;

    // Who comes now: one with the old key, then one with the new one.
    let late = cluster.folder().join("late.key");
    std::fs::write(&late, &old).unwrap();
    let settings = cluster.settings(4);
    cluster.add(4, skep_kit::cluster::node::Settings { key_file: Some(late), ..settings }).start();
    cluster.start(5).wait_ready().await;
    let shut_out = cluster.node(4);
    until("the one is told that its key is another", PATIENCE, async || {
        (unknown(shut_out).await > 0.0).then_some(())
    })
    .await;
    assert!(!shut_out.is_ready().await);
    let address = shut_out.http_text();
    let view = cluster.node(1).wait_status().await;
    assert!(view.member_at(&address).is_none(), "{view:?}");
    assert_eq!(processes(&cluster), before, "a process was started anew");

    let ledger = load.stop().await;
    let there = verify(std::slice::from_ref(&balancer.client), &ledger).await;
    say(&format!("measure: the key rotated: {there} messages, {} writes failed", ledger.failed.len()));
    ledger.expect_no_failure("writes while the key was rotated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_of_keys_leaves_those_that_are_in_force() {
    let _machine = machine_shared();
    let (cluster, balancer, files, old) = started().await;
    let other = key_in(cluster.folder(), "other.key");
    let edge = std::fs::read_to_string(&files.edges).unwrap();
    write_edge_key(&cluster.folder().join("other.key"), &files.edges);
    let other_edge = std::fs::read_to_string(&files.edges).unwrap();
    let broken = |key: &str| format!("{}\n{}", key.trim(), &other[..40]);
    for (text, of_edges, fault) in [
        (String::new(), String::new(), "there is no cluster key"),
        (broken(&old), broken(&edge), "line 2"),
        (other.clone(), other_edge.clone(), "is not among the keys in force"),
        (format!("{other}\n{old}"), format!("{other_edge}\n{edge}"), "its first key, which would seal"),
    ] {
        std::fs::write(&files.nodes, text).unwrap();
        std::fs::write(&files.edges, of_edges).unwrap();
        tell_all(&cluster, &balancer, LEFT).await;
        let logs = (1..=NODES).map(|node| (cluster.node(node).log_text(), &files.nodes));
        for (log, file) in logs.chain([(balancer.log_text(), &files.edges)]) {
            let words = [LEFT, fault, file.to_str().unwrap()];
            assert!(logfile::line_with(&log, &words).is_some(), "{words:?} are not in\n{log}");
        }
        balancer.client.put(&format!("with the keys before, beside {fault}")).await;
    }
    // Of the other form.
    write_edge_key(&cluster.folder().join("old.key"), &files.nodes);
    std::fs::write(&files.edges, &old).unwrap();
    tell_all(&cluster, &balancer, LEFT).await;
    assert!(cluster.node(1).log_text().contains("an edge key is among the keys"));
    assert!(balancer.log_text().contains("there are cluster keys alone in it"));
    balancer.client.put("with the keys before, beside the other form").await;
    for log in [cluster.node(1).log_text(), balancer.log_text()] {
        for key in [&old, &other, &edge, &other_edge] {
            let (_, digits) = key.split_once(':').unwrap();
            assert!(!log.contains(&digits[..24]), "a key is in the log");
        }
    }
}
