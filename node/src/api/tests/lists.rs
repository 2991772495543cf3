//! Filters and counts of `/messages`, and the pipeline's `/endpoint/`.

use super::*;

/// Seqs 1 to 4 at 1 to 4 seconds after the epoch.
async fn with_four() -> Served {
    let served = public().await;
    served.post_json("/messages", r#"{"message":"one"}"#).await;
    served.post_as("image/png", b"\xff").await;
    served.ask(Method::POST, "/endpoint/", &[], b"{\"a\":\n [1, null]}").await;
    served.post_as("text/html; charset=utf-8", b"<b>four</b>").await;
    served
}

fn seqs(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_page_holds_what_its_times_and_its_type_admit() {
    let served = with_four().await;
    for (query, expected) in [
        ("since=1970-01-01T00:00:02Z", &[2, 3, 4][..]),
        ("until=1970-01-01T00:00:03Z", &[1, 2]),
        ("since=1970-01-01T00:00:02%2B00:00&until=1970-01-01T00:00:04Z", &[2, 3]),
        ("content_type=text/*", &[1, 4]),
        ("content_type=TEXT/HTML", &[4]),
        ("content_type=application/json&after=3", &[]),
        ("since=1970-01-01T00:00:05Z", &[]),
        ("until=1969-12-31T00:00:00Z", &[]),
        ("after=2&content_type=text/*", &[4]),
    ] {
        let page = served.get(&format!("/messages?{query}")).await.json();
        assert_eq!(seqs(&page["messages"]), expected, "{query}");
        assert_eq!(page["next"], Value::Null);
        let counted = served.ask(Method::HEAD, &format!("/messages?{query}"), &[], b"").await;
        if !query.contains("after") {
            assert_eq!(counted.header("skep-count"), expected.len().to_string(), "{query}");
        }
        assert_eq!((counted.header("skep-last-seq"), counted.body.len()), ("4", 0));
    }
}

#[tokio::test]
async fn the_next_page_keeps_the_filter() {
    let served = with_four().await;
    let answer = served.get("/messages?limit=1&content_type=text/*").await;
    assert_eq!((seqs(&answer.json()["messages"]), answer.json()["next"].as_u64()), (vec![1], Some(1)));
    let next = answer.header("link").split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned();
    let answer = served.get(&next).await;
    assert_eq!((seqs(&answer.json()["messages"]), answer.json()["next"].as_u64()), (vec![4], None));
}

#[tokio::test]
async fn a_bad_filter_is_refused() {
    let served = public().await;
    for query in [
        "since=x",
        "since=2000",
        "until=",
        "until=2026-13-01T00:00:00Z",
        "content_type=text",
        "content_type=",
    ] {
        served.get(&format!("/messages?{query}")).await.is_problem(ProblemKind::InvalidQuery);
        let counted = served.ask(Method::HEAD, &format!("/messages?{query}"), &[], b"").await;
        assert_eq!(counted.status, 400);
    }
}

#[tokio::test]
async fn the_endpoint_takes_any_json_value_and_lists_all_that_is_stored() {
    let served = with_four().await;
    for path in ["/endpoint/", "/endpoint"] {
        let answer = served.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
        let list = answer.json();
        assert_eq!(seqs(&list), [1, 2, 3, 4]);
        assert_eq!(list[0]["message"], "one");
        assert_eq!((&list[1]["message"], &list[1]["encoding"]), (&"/w==".into(), &"base64".into()));
        assert_eq!(list[2]["message"], serde_json::json!({"a": [1, null]}));
        assert_eq!(list[2]["content_type"], "application/json");
    }
    let lines = served.get_accepting("/endpoint/", "application/x-ndjson").await;
    let lines: Vec<Value> = lines
        .body
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    assert_eq!(seqs(&lines.into()), [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let served = public().await;
    assert_eq!(served.get("/endpoint/").await.json(), serde_json::json!([]));
    assert_eq!(served.get_accepting("/endpoint/", "application/x-ndjson").await.body, "");
}

#[tokio::test]
async fn every_kind_of_json_value_is_taken_and_what_is_none_is_refused() {
    let served = public().await;
    for value in ["{}", "[]", "\"text\"", "1", "-0.5e3", "true", "null", " [1]\n"] {
        let answer = served.ask(Method::POST, "/endpoint/", &[], value.as_bytes()).await;
        assert_eq!(answer.status, 201, "{value}");
        assert_eq!(answer.json()["digest"], skep_state::message::Digest::of(value.as_bytes()).to_string());
        assert!(answer.header("location").starts_with("/messages/"));
    }
    let again = served.ask(Method::POST, "/endpoint/", &[], b"{}").await;
    assert_eq!((again.status.as_u16(), again.json()["seq"].as_u64()), (200, Some(1)));
    for (body, kind) in [
        (&b""[..], ProblemKind::EmptyBody),
        (b"{", ProblemKind::InvalidJson),
        (b"1 2", ProblemKind::InvalidJson),
        (b"'a'", ProblemKind::InvalidJson),
        (b"\"\\ud800\"", ProblemKind::InvalidJson),
        (b"\"\xff\"", ProblemKind::InvalidUtf8),
        (&b"[".repeat(1000), ProblemKind::InvalidJson),
    ] {
        served.ask(Method::POST, "/endpoint/", &[], body).await.is_problem(kind);
    }
}

#[tokio::test]
async fn a_long_list_comes_whole_and_in_order() {
    let served = public().await;
    let fake = served.fake.clone();
    for i in 0..10_000u32 {
        let body = Bytes::from(format!("message {i}"));
        MessageApi::put_message(&fake, "text/plain".into(), body, None).await.unwrap();
    }
    let list = served.get("/endpoint/").await.json();
    assert_eq!(seqs(&list), (1..=10_000).collect::<Vec<_>>());
}
