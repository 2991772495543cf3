//! Messages that are dropped by age and by bytes, and removed by operators, on every node alike.

use std::time::Duration;

use hyper::Method;

use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::list;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_kit::{Client, Cluster, Load, LoadOptions, Targets};

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "an-operators-token-for-tests";

/// Three nodes with further flags.
async fn cluster(args: &[&str]) -> Cluster {
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    cluster
}

async fn first_seq(client: &Client) -> Option<u64> {
    list(client).await.first().map(|message| message.seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_older_than_wanted_are_dropped_on_every_node_and_stay_so_after_restarts() {
    let _machine = machine_shared();
    let mut cluster = cluster(&["--retain-age", "1500ms"]).await;
    let (old, _) = cluster.node(1).http.put("an old one").await;
    until("it is gone everywhere", PATIENCE, async || {
        for client in cluster.clients() {
            let answer = client.get(&format!("/messages/{old}")).await.ok()?;
            if answer.status != 410 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let (_, seq) = cluster.node(2).http.put("a new one").await;
    assert_eq!(seq, 2);
    // The same message again is a new one.
    assert_eq!(cluster.node(3).http.put("an old one").await.1, 3);
    cluster.kill_all();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    until("all are gone", PATIENCE, async || first_seq(&cluster.node(1).http).await.is_none().then_some(()))
        .await;
    assert_eq!(cluster.node(1).http.put("the next").await.1, 4);
    cluster.start(4).wait_ready().await;
    until("a new node knows what is gone", PATIENCE, async || {
        let answer = cluster.node(4).http.get(&format!("/messages/{old}")).await.ok()?;
        (answer.status == 410).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_messages_go_while_there_are_too_many_bytes_and_all_nodes_agree() {
    let _machine = machine_shared();
    let cluster = cluster(&["--retain-bytes", "256KiB"]).await;
    let options = LoadOptions { most: Some(2000), bytes: 1000, pace: None, ..LoadOptions::default() };
    let ledger = Load::start(&Targets::new(cluster.clients()), options).finish().await;
    ledger.expect_no_failure("a quiet cluster");
    until("about 256 KiB are left", PATIENCE, async || {
        let left = list(&cluster.node(1).http).await.len();
        (150..300).contains(&left).then_some(())
    })
    .await;
    // What is left may shrink once more between two looks.
    until("all nodes have the same", PATIENCE, async || {
        let mut lists = Vec::new();
        for client in cluster.clients() {
            lists.push(list(&client).await);
        }
        lists.iter().all(|other| *other == lists[0]).then_some(())
    })
    .await;
    let last = ledger.acked.iter().map(|acked| acked.seq).max();
    assert_eq!(list(&cluster.node(2).http).await.last().map(|message| message.seq), last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_removes_a_message_for_good_and_from_a_restored_snapshot() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let file = cluster.folder().join("token");
    std::fs::write(&file, TOKEN).expect("the token can be written");
    cluster.args = vec!["--operator-token-file".into(), file.to_str().expect("a plain path").into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let secret = unique_text(40);
    cluster.node(1).http.put("before").await;
    let (digest, seq) = cluster.node(1).http.put(&secret).await;
    cluster.node(1).http.put("after").await;
    let path = format!("/messages/{digest}");
    let remove = async |token: &str| {
        let headers = [("authorization", token)];
        let admin = &cluster.node(2).admin;
        admin.send(Method::DELETE, &path, &headers, Default::default()).await.expect("an answer")
    };
    assert_eq!(remove("Bearer x").await.status, 401);
    let removed = remove(&format!("Bearer {TOKEN}")).await;
    assert_eq!((removed.status, removed.json()["removed"].as_u64()), (200, Some(seq)));
    assert_eq!(remove(&format!("Bearer {TOKEN}")).await.status, 410);
    for client in cluster.clients() {
        // A node that has not heard of it yet may still give the message.
        until("it is gone", PATIENCE, async || (client.get(&path).await.ok()?.status == 410).then_some(()))
            .await;
        let seqs: Vec<u64> = list(&client).await.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, [1, 3]);
        let all = client.get("/endpoint/").await.expect("an answer").text();
        assert!(!all.contains(&secret) && all.contains("before") && all.contains("after"), "{all}");
    }
    let snapshot = cluster.folder().join("store.snapshot");
    let snapshot = snapshot.to_str().expect("a plain path");
    let leader = cluster.leader().await;
    let verb = |cluster: &Cluster, node: u8, args: &[&str]| {
        let ended = skep_kit::programs::verb(cluster.node(node).admin.address, args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    verb(&cluster, leader, &["snapshot", "save", snapshot]);
    let other = Cluster::ready(1).await;
    verb(&other, 1, &["snapshot", "restore", snapshot]);
    let restored: Vec<_> = list(&other.node(1).http).await.into_iter().filter_map(|m| m.message).collect();
    assert_eq!(restored, ["before", "after"]);
}
