//! Snapshots that an operator saves and restores, and a cluster made anew from one folder.

use std::time::Duration;

use skep_kit::clients::oracle::{list, verify};
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, Ended, run_to_end, verb};
use skep_kit::wait::PATIENCE;
use skep_kit::{Cluster, Ledger, Load, LoadOptions, Targets};

async fn filled(cluster: &Cluster, messages: u64) -> Ledger {
    let options = LoadOptions { most: Some(messages), pace: None, ..LoadOptions::default() };
    let ledger = Load::start(&Targets::new(cluster.clients()), options).finish().await;
    ledger.expect_no_failure("a quiet cluster");
    ledger
}

fn snapshot(cluster: &Cluster, node: u8, args: &[&str]) -> Ended {
    let args: Vec<&str> = ["snapshot"].iter().chain(args).copied().collect();
    verb(cluster.node(node).admin.address, &args)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_snapshot_is_restored_into_an_empty_cluster_and_into_no_other() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let ledger = filled(&cluster, 300).await;
    let path = cluster.folder().join("store.snapshot");
    let file = path.to_str().expect("a plain path");
    let leader = cluster.leader().await;
    let saved = snapshot(&cluster, leader, &["save", file]);
    assert_eq!(saved.code, Some(0), "{saved:?}");
    let again = snapshot(&cluster, leader, &["save", file]);
    assert_eq!(again.code, Some(1), "a file that is there is not overwritten: {again:?}");

    let inspected = snapshot(&cluster, leader, &["inspect", file, "--json"]);
    assert_eq!(inspected.code, Some(0), "{inspected:?}");
    let json: serde_json::Value = serde_json::from_str(&inspected.stdout).expect("inspect prints JSON");
    assert_eq!(json["messages"].as_u64(), Some(300), "{json}");

    let refused = snapshot(&cluster, leader, &["restore", file]);
    assert_eq!(refused.code, Some(1), "restore goes into an empty cluster alone: {refused:?}");

    let other = Cluster::ready(3).await;
    let leader = other.leader().await;
    let restored = snapshot(&other, leader, &["restore", file]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    verify(&other.clients(), &ledger).await;
    other.node(1).http.put("and it goes on").await;
    assert_eq!(list(&other.node(2).http).await.len(), 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_refused() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(1).await;
    filled(&cluster, 100).await;
    let path = cluster.folder().join("store.snapshot");
    let file = path.to_str().expect("a plain path");
    assert_eq!(snapshot(&cluster, 1, &["save", file]).code, Some(0));
    let good = std::fs::read(&path).expect("the snapshot can be read");
    let empty = Cluster::ready(1).await;
    for (what, bytes) in [
        ("cut short", good[..good.len() - 1].to_vec()),
        ("cut in half", good[..good.len() / 2].to_vec()),
        ("a byte flipped in the middle", flipped(&good, good.len() / 2)),
        ("a byte flipped at the start", flipped(&good, 0)),
        ("a byte too many", [&good[..], b"x"].concat()),
        ("nothing", Vec::new()),
    ] {
        std::fs::write(&path, bytes).expect("the snapshot can be written");
        let inspected = snapshot(&empty, 1, &["inspect", file]);
        assert_eq!(inspected.code, Some(1), "inspect, {what}: {inspected:?}");
        let restored = snapshot(&empty, 1, &["restore", file]);
        assert_eq!(restored.code, Some(1), "restore, {what}: {restored:?}");
        assert_eq!(list(&empty.node(1).http).await.len(), 0, "{what}");
    }
    std::fs::write(&path, good).expect("the snapshot can be written");
    let restored = snapshot(&empty, 1, &["restore", file]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(list(&empty.node(1).http).await.len(), 100);
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_of_a_lost_quorum_becomes_a_new_cluster_once_confirmed() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let ledger = filled(&cluster, 200).await;
    let before = cluster.node(1).wait_status().await.cluster_id;
    // What only the dead had is lost: so all have it first.
    let applied = cluster.node(cluster.leader().await).wait_status().await.applied;
    cluster.wait_views("all have applied all", PATIENCE, |view| view.applied >= applied).await;
    cluster.kill_all();
    let data = cluster.node(1).settings.data.clone();
    let recover = |args: &[&str]| {
        let mut command = programs::node();
        command.arg("recover").arg("--data").arg(&data).args(args);
        run_to_end(&mut command, "", PATIENCE)
    };

    let unconfirmed = recover(&[]);
    assert_ne!(unconfirmed.code, Some(0), "without a yes nothing happens: {unconfirmed:?}");
    assert!(unconfirmed.text().contains("--yes"), "it says how to confirm: {unconfirmed:?}");
    cluster.start(1);
    cluster.node(1).wait_status().await;
    let running = recover(&["--yes"]);
    assert_eq!(running.code, Some(1), "a folder in use is left alone: {running:?}");
    cluster.node_mut(1).kill();

    let recovered = recover(&["--yes"]);
    assert_eq!(recovered.code, Some(0), "{recovered:?}");
    cluster.start(1).wait_ready().await;
    verify(&cluster.clients(), &ledger).await;
    let view = cluster.node(1).wait_status().await;
    assert_eq!(view.voters(), 1, "{view:?}");
    assert_ne!(view.cluster_id, before, "the others must not be able to come back into it");
    cluster.node(1).http.put("after the loss").await;

    // A new node joins; an old one, whose folder is of the lost cluster, does not.
    cluster.start(4).wait_ready().await;
    cluster.start(2);
    cluster.node(2).wait_status().await;
    let old = cluster.node(2).http_text();
    skep_kit::wait::holds_for("the old one stays out", Duration::from_secs(2), async || {
        let view = cluster.node(1).wait_status().await;
        match view.member_at(&old).and_then(|member| member.raft.clone()) {
            Some(raft) if raft != "none" => Err(format!("it is a {raft}")),
            _ => Ok(()),
        }
    })
    .await;
}

/// Of two folders that are left, the one whose log goes further has what was acknowledged, whatever its node
/// had applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspecting_folders_names_the_one_that_has_what_was_acknowledged() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let behind = leader % 3 + 1;
    cluster.node_mut(behind).kill();
    let (digest, _) = cluster.node(leader).http.put("only two have it").await;
    cluster.kill_all();
    let last = |node: u8| {
        let mut command = programs::node();
        command.args(["recover", "--inspect", "--json", "--data"]).arg(&cluster.node(node).settings.data);
        let ended = run_to_end(&mut command, "", PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let found: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        (
            found["last_log_term"].as_u64().expect("a term"),
            found["last_log_index"].as_u64().expect("an index"),
        )
    };
    let ahead = (1..=3).find(|node| *node != leader && *node != behind).expect("a third");
    assert!(last(ahead) > last(behind), "{:?} {:?}", last(ahead), last(behind));
    assert_eq!(last(ahead), last(ahead), "looking changes nothing");

    let mut command = programs::node();
    command.args(["recover", "--yes", "--data"]).arg(&cluster.node(ahead).settings.data);
    assert_eq!(run_to_end(&mut command, "", PATIENCE).code, Some(0));
    cluster.start(ahead).wait_ready().await;
    let there = cluster.node(ahead).http.get(&format!("/messages/{digest}")).await.expect("an answer");
    assert_eq!(there.status, 200, "what two of three had acknowledged");
}
