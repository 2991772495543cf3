//! `Idempotency-Key` across nodes, a leader's death and a snapshot.

use hyper::Method;

use skep_kit::clients::http::Answer;
use skep_kit::effort::machine_shared;
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
