//! What is put at any node is read at all, in one order.

use bytes::Bytes;
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::{list, verify};
use skep_kit::effort::machine_shared;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

const FOO_DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_put_at_any_node_is_at_once_read_at_all() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let mut expected_seq = 0;
    for writer in cluster.clients() {
        for _ in 0..5 {
            let text = unique_text(50);
            let (digest, seq) = writer.put(&text).await;
            expected_seq += 1;
            assert_eq!(seq, expected_seq, "put at {}", writer.address);
            for reader in cluster.clients() {
                let answer = reader.get(&format!("/messages/{digest}")).await.expect("an answer");
                assert_eq!(
                    answer.status,
                    200,
                    "{writer} -> {reader}",
                    writer = writer.address,
                    reader = reader.address
                );
                assert_eq!(answer.json()["message"], text);
                let listed = list(&reader).await;
                assert_eq!(listed.last().map(|entry| entry.seq), Some(seq), "the list at {}", reader.address);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_message_put_everywhere_is_stored_once() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let mut posts = tokio::task::JoinSet::new();
    for client in cluster.clients().into_iter().cycle().take(12) {
        posts.spawn(async move { client.post_message("foo").await.expect("an answer") });
    }
    let answers = posts.join_all().await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(created, 1, "{answers:?}");
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        assert_eq!(answer.json(), serde_json::json!({ "digest": FOO_DIGEST, "seq": 1 }));
    }
    for client in cluster.clients() {
        assert_eq!(list(&client).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_at_all_nodes_make_one_list_without_gaps() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let options = LoadOptions { writers: 24, pace: None, most: Some(3000), ..LoadOptions::default() };
    let ledger = Load::start(&Targets::new(cluster.clients()), options).finish().await;
    ledger.expect_no_failure("a quiet cluster");
    assert_eq!(verify(&cluster.clients(), &ledger).await, 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_written_at_any_node_is_read_at_all() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    for client in cluster.clients() {
        let answer = client.get("/read").await.expect("an answer");
        assert_eq!(answer.status, 404, "nothing was written: {answer:?}");
    }
    for (turn, writer) in cluster.clients().iter().cycle().take(9).enumerate() {
        let text = format!("text {turn}");
        let body = Bytes::from(text.clone());
        let answer = writer
            .send(Method::POST, "/write", &[("content-type", "text/plain")], body)
            .await
            .expect("an answer");
        assert!((200..300).contains(&answer.status), "{answer:?}");
        for reader in cluster.clients() {
            let answer = reader.get("/read").await.expect("an answer");
            assert_eq!((answer.status, answer.text()), (200, text.clone()), "at {}", reader.address);
        }
    }
}

/// The read is in the sleeper's socket before it wakes, beside what it slept through: it answers
/// with what it has unless it asks how far the log is first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_begins_after_a_write_sees_it_at_a_node_that_slept_through_the_write() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let (writer, sleeper) = (&cluster.node(leader).http, cluster.node(leader % 3 + 1));
    let write = async |text: &str| {
        let body = Bytes::from(text.to_owned());
        let answer = writer.send(Method::POST, "/write", &[("content-type", "text/plain")], body).await;
        assert!(matches!(&answer, Ok(answer) if answer.status < 300), "{answer:?}");
    };
    write("turn 0 over").await;
    let mut stream = TcpStream::connect(sleeper.http.address).await.expect("the node listens");
    for turn in 0..10 {
        let expected = format!("turn {turn} over");
        if turn > 0 {
            sleeper.pause();
            write(&expected).await;
        }
        stream.write_all(b"GET /read HTTP/1.1\r\nhost: skep\r\n\r\n").await.expect("the request is sent");
        if turn > 0 {
            sleeper.resume();
        }
        let mut answer = String::new();
        while !answer.contains(" over") {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).await.expect("the node answers");
            assert!(count > 0, "closed after {answer:?}");
            answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        assert!(answer.ends_with(&expected), "turn {turn}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_message_is_absent_at_all_nodes() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    for client in cluster.clients() {
        let answer = client.get(&format!("/messages/{FOO_DIGEST}")).await.expect("an answer");
        assert_eq!(answer.status, 404, "{answer:?}");
        assert!(answer.header("content-type").starts_with("application/problem+json"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bytes_keep_their_content_type_and_the_list_is_paged() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let raw = Bytes::from_static(&[0, 159, 146, 150, 255]);
    let headers = [("content-type", "image/x-test")];
    let answer =
        cluster.node(1).http.send(Method::POST, "/messages", &headers, raw.clone()).await.expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
    let location = answer.header("location").to_owned();
    assert!(location.starts_with("/messages/"), "{answer:?}");
    for client in cluster.clients() {
        let answer = client
            .send(Method::GET, &location, &[("accept", "image/x-test")], Bytes::new())
            .await
            .expect("an answer");
        assert_eq!((answer.status, &answer.body), (200, &raw), "{answer:?}");
        assert_eq!(answer.header("content-type"), "image/x-test");
        assert!(!answer.header("etag").is_empty(), "{answer:?}");
        assert!(!answer.header("skep-served-by").is_empty(), "{answer:?}");
        let head = client.send(Method::HEAD, &location, &[], Bytes::new()).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
    }

    for number in 0..9 {
        cluster.node(2).http.put(&format!("page {number}")).await;
    }
    let client = &cluster.node(3).http;
    let first = client.get("/messages?after=0&limit=4").await.expect("an answer").json();
    assert_eq!(first["messages"].as_array().map(Vec::len), Some(4), "{first}");
    assert_eq!(first["next"], 4, "{first}");
    let last = client.get("/messages?after=8&limit=4").await.expect("an answer").json();
    assert_eq!(last["messages"].as_array().map(Vec::len), Some(2), "{last}");
    assert!(last["next"].is_null(), "{last}");

    let accept = [("accept", "application/x-ndjson")];
    let lines = client
        .send(Method::GET, "/messages?after=1&limit=4", &accept, Bytes::new())
        .await
        .expect("an answer");
    let seqs: Vec<u64> = lines
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON"))
        .filter_map(|json| json["seq"].as_u64())
        .collect();
    assert_eq!(seqs, [2, 3, 4, 5], "{}", lines.text());
}
