//! `Idempotency-Key` across nodes, a leader's death and a snapshot.

use std::time::Duration;

use hyper::Method;

use skep_kit::clients::http::Answer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};

async fn write(client: &Client, key: &str, text: &str) -> Answer {
    let headers = [("idempotency-key", key)];
    client.send(Method::POST, "/write", &headers, text.to_owned().into()).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_written_again_under_its_key_is_written_once_at_whichever_node_and_after_a_failover() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let first = write(&cluster.node(1).http, "key-1", "one").await;
    assert_eq!((first.status, first.json()["version"].as_u64()), (201, Some(1)));
    write(&cluster.node(2).http, "key-2", "two").await;
    for client in cluster.clients() {
        let again = write(&client, "key-1", "one").await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
        assert_eq!(again.body, first.body);
        assert_eq!(write(&client, "key-1", "another").await.status, 422);
    }
    let leader = cluster.leader().await;
    cluster.node_mut(leader).kill();
    for client in cluster.clients() {
        let again = write(&client, "key-1", "one").await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
    }
    cluster.start(leader).wait_ready().await;
    let read = cluster.node(leader).http.get("/read").await.expect("an answer");
    assert_eq!(read.text(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_of_one_key_at_once_take_effect_once() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    for round in 0..20 {
        let mut posts = tokio::task::JoinSet::new();
        for client in cluster.clients().into_iter().cycle().take(12) {
            posts.spawn(async move { write(&client, &format!("key {round}"), "text").await });
        }
        let answers = posts.join_all().await;
        assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{answers:?}");
        assert_eq!(
            answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty()).count(),
            1
        );
        assert_eq!(answers[0].json()["version"].as_u64(), Some(round + 1));
    }
}

/// A gauge of a node.
async fn gauge(cluster: &Cluster, node: u8, name: &str) -> Option<f64> {
    let metrics = cluster.node(node).admin.get("/metrics").await.ok()?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_from_before_and_after_the_members_agree_to_keep_many_are_remembered_after_all_were_killed() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.args = vec!["--level-after".into(), "2s".into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let before = write(&cluster.node(1).http, "before", "one").await;
    for node in 1..=3 {
        until("the members agree", Duration::from_secs(30), async || {
            (gauge(&cluster, node, "skep_store_claims_max").await? > 10_000_000.0).then_some(())
        })
        .await;
    }
    let after = write(&cluster.node(2).http, "after", "two").await;
    for is_started_anew in [false, true] {
        if is_started_anew {
            // A checkpoint, and claims behind it.
            assert_eq!(cluster.node(1).admin.get("/snapshot").await.expect("a snapshot").status, 200);
            write(&cluster.node(1).http, "behind", "three").await;
            cluster.kill_all();
            for node in 1..=3 {
                cluster.start(node);
            }
            cluster.wait_all_ready().await;
        }
        for client in cluster.clients() {
            for (key, text, first) in [("before", "one", &before), ("after", "two", &after)] {
                let again = write(&client, key, text).await;
                assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"), "{key}");
                assert_eq!(again.body, first.body, "{key}");
                assert_eq!(write(&client, key, "another").await.status, 422, "{key}");
            }
        }
    }
    let again = write(&cluster.node(3).http, "behind", "three").await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
    assert_eq!(gauge(&cluster, 1, "skep_store_claims").await, Some(3.0));
}
