//! Reading messages: representations, conditions, pages; and what is not there.

use skep_console::metrics::{Form, encode};

use super::*;

async fn with_messages() -> Served {
    let served = public().await;
    served.post_json("/messages", r#"{"message":"foo"}"#).await;
    served.post_as("text/html; charset=utf-8", b"<b>bar</b>").await;
    served.post_as("application/octet-stream", b"\x00\xff").await;
    served
}

fn path(served: &Served, index: usize) -> String {
    format!("/messages/{}", served.fake.state.lock().unwrap().messages[index].digest)
}

#[tokio::test]
async fn a_text_is_json_by_default_and_for_whoever_takes_anything() {
    let served = with_messages().await;
    let path = path(&served, 0);
    let mut answers = vec![served.get(&path).await];
    for accept in [
        "*/*",
        "application/json",
        "application/*",
        "application/json, text/plain, */*",
        "text/plain;q=0.5, application/json",
        "image/png",
        "nonsense",
    ] {
        answers.push(served.get_accepting(&path, accept).await);
    }
    for answer in answers {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, r#"{"message":"foo"}"#);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("etag"), format!("\"{FOO}-json\""));
        assert_eq!(answer.header("cache-control"), "public, max-age=3600, immutable");
        assert_eq!(answer.header("vary"), "accept");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn a_text_is_its_bytes_for_whoever_prefers_them() {
    let served = with_messages().await;
    for (index, content_type, body) in
        [(0, "text/plain; charset=utf-8", "foo"), (1, "text/html; charset=utf-8", "<b>bar</b>")]
    {
        let exact = content_type.split(';').next().unwrap();
        for accept in [
            exact,
            "text/*",
            "application/octet-stream",
            "application/json;q=0.5, text/*",
            "application/octet-stream, */*;q=0.1",
        ] {
            let answer = served.get_accepting(&path(&served, index), accept).await;
            assert_eq!(answer.body, body, "{accept}");
            assert_eq!(answer.header("content-type"), content_type);
            assert_eq!(answer.header("content-security-policy"), "sandbox");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
    }
}

#[tokio::test]
async fn what_is_no_text_is_always_its_bytes() {
    let served = with_messages().await;
    for accept in ["*/*", "application/json", "text/plain"] {
        let answer = served.get_accepting(&path(&served, 2), accept).await;
        assert_eq!(answer.body, b"\x00\xff"[..]);
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("content-security-policy"), "sandbox");
        assert_eq!(answer.header("vary"), "");
    }
}

#[tokio::test]
async fn a_text_type_over_bytes_that_are_no_utf_8_is_its_bytes() {
    let served = public().await;
    served.post_as("text/plain; charset=latin1", b"\xfc").await;
    let answer = served.get(&path(&served, 0)).await;
    assert_eq!(answer.body, b"\xfc"[..]);
    assert_eq!(answer.header("content-type"), "text/plain; charset=latin1");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let served = with_messages().await;
    for path in [path(&served, 0), "/messages".into()] {
        let get = served.get(&path).await;
        let head = served.ask(Method::HEAD, &path, &[], b"").await;
        assert_eq!(head.status, 200);
        assert!(head.body.is_empty());
        for name in ["etag", "content-type", "cache-control", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
        // A page is counted, not written: what it would be long is not known.
        let length = if path == "/messages" { "" } else { get.header("content-length") };
        assert_eq!(head.header("content-length"), length);
    }
    let absent = served.ask(Method::HEAD, &format!("/messages/{ABSENT}"), &[], b"").await;
    assert_eq!(absent.status, 404);
}

#[tokio::test]
async fn a_client_that_has_the_message_gets_304() {
    let served = with_messages().await;
    let path = format!("/messages/{FOO}");
    let etag = format!("\"{FOO}-json\"");
    for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
        let answer = served.ask(Method::GET, &path, &[("if-none-match", &tags)], b"").await;
        assert_eq!(answer.status, 304, "{tags}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("cache-control"), "public, max-age=3600, immutable");
    }
    let bytes = format!("\"{FOO}\"");
    for other in ["\"x\"", &bytes] {
        let answer = served.ask(Method::GET, &path, &[("if-none-match", other)], b"").await;
        assert_eq!(answer.status, 200, "{other} is no tag of the JSON form");
    }
    let as_bytes = [("if-none-match", bytes.as_str()), ("accept", "text/plain")];
    assert_eq!(served.ask(Method::GET, &path, &as_bytes, b"").await.status, 304);
    let refused = served.ask(Method::GET, &path, &[("if-match", "\"x\"")], b"").await;
    refused.is_problem(ProblemKind::PreconditionFailed);
    let absent = format!("/messages/{ABSENT}");
    let absent = served.ask(Method::GET, &absent, &[("if-none-match", "*")], b"").await;
    absent.is_problem(ProblemKind::MessageNotFound);
}

#[tokio::test]
async fn an_unknown_digest_is_404_and_what_is_no_digest_is_400() {
    let served = with_messages().await;
    served.get(&format!("/messages/{ABSENT}")).await.is_problem(ProblemKind::MessageNotFound);
    for digest in ["x", "2c26b46b", &FOO.to_uppercase(), &format!("{FOO}0"), "%ff%fe", &"g".repeat(64)] {
        served.get(&format!("/messages/{digest}")).await.is_problem(ProblemKind::InvalidDigest);
    }
}

#[tokio::test]
async fn a_page_shows_text_as_text_and_other_bytes_as_base64() {
    let served = with_messages().await;
    let answer = served.get("/messages").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("link"), "");
    let page = answer.json();
    assert_eq!(page["next"], Value::Null);
    assert_eq!(
        page["messages"][0],
        serde_json::json!({
            "seq": 1, "digest": FOO, "time": "1970-01-01T00:00:01.000Z",
            "content_type": "text/plain; charset=utf-8", "message": "foo",
        })
    );
    assert_eq!(page["messages"][1]["message"], "<b>bar</b>");
    assert_eq!(page["messages"][2]["message"], "AP8=");
    assert_eq!(page["messages"][2]["encoding"], "base64");
}

#[tokio::test]
async fn pages_follow_each_other_by_next() {
    let served = with_messages().await;
    let first = served.get("/messages?after=0&limit=2").await;
    assert_eq!(first.json()["next"], 2);
    assert_eq!(first.header("link"), "</messages?after=2&limit=2>; rel=\"next\"");
    let second = served.get("/messages?after=2&limit=2").await.json();
    assert_eq!(second["messages"].as_array().unwrap().len(), 1);
    assert_eq!((&second["messages"][0]["seq"], &second["next"]), (&3.into(), &Value::Null));
    let behind = served.get("/messages?after=99").await.json();
    assert_eq!(behind, serde_json::json!({ "messages": [], "next": null }));
}

#[tokio::test]
async fn ndjson_is_one_message_a_line() {
    let served = with_messages().await;
    let answer = served.get_accepting("/messages?limit=2", "application/x-ndjson").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("link"), "</messages?after=2&limit=2>; rel=\"next\"");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let seqs: Vec<Value> = text
        .split_terminator('\n')
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone())
        .collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn a_limit_of_zero_or_of_a_billion_is_refused_naming_the_bound() {
    let served = with_messages().await;
    for query in ["limit=0", "limit=1000000000", "limit=99999999999999999999", "limit=ten", "limit="] {
        let answer = served.get(&format!("/messages?{query}")).await;
        answer.is_problem(ProblemKind::InvalidQuery);
        assert!(answer.json()["detail"].as_str().unwrap().contains("1 to 1000"));
    }
    served.get("/messages?after=-1").await.is_problem(ProblemKind::InvalidQuery);
    assert_eq!(served.get("/messages?limit=1000").await.status, 200);
}

#[tokio::test]
async fn an_unknown_path_is_404() {
    let served = public().await;
    let long = format!("/{}", "x".repeat(5000));
    for path in ["/nothing", "/messages/", "/messages/a/b", "/metrics", "/snapshot", "/%ff", &long] {
        served.get(path).await.is_problem(ProblemKind::NotFound);
    }
}

#[tokio::test]
async fn an_unknown_method_is_405_with_those_that_are_allowed() {
    let served = public().await;
    let one = format!("/messages/{FOO}");
    for (method, path, allowed) in [
        (Method::DELETE, "/messages", "GET,HEAD,POST"),
        (Method::PUT, one.as_str(), "GET,HEAD"),
        (Method::POST, one.as_str(), "GET,HEAD"),
        (Method::GET, "/write", "POST"),
        (Method::POST, "/read", "GET,HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/messages", "GET,HEAD,POST"),
    ] {
        let answer = served.ask(method, path, &[], b"").await;
        answer.is_problem(ProblemKind::MethodNotAllowed);
        let mut allow: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow.join(","), allowed, "{path}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let served = with_messages().await;
    served.get(&path(&served, 0)).await;
    served.get("/nothing").await;
    served.ask(Method::from_bytes(b"BREW").unwrap(), "/read", &[], b"").await;
    let text = encode(served.metrics.registry(), Form::Plain).unwrap();
    for line in [
        r#"skep_http_requests_total{route="/messages",method="POST",code="201"} 3"#,
        r#"skep_http_requests_total{route="/messages/{digest}",method="GET",code="200"} 1"#,
        r#"skep_http_requests_total{route="other",method="GET",code="404"} 1"#,
        r#"skep_http_requests_total{route="/read",method="other",code="405"} 1"#,
        r#"skep_http_request_duration_seconds_count{route="/messages",method="POST"} 3"#,
        "skep_http_requests_in_flight 0",
        "skep_http_connections_max 8192",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn a_message_that_was_taken_out_is_gone_and_no_cache_keeps_that() {
    let served = with_messages().await;
    let path = path(&served, 0);
    let digest = served.fake.state.lock().unwrap().messages[0].digest;
    served.fake.state.lock().unwrap().gone.push(digest);
    let answer = served.get(&path).await;
    answer.is_problem(ProblemKind::MessageGone);
    assert_eq!(answer.header("cache-control"), "no-store");
}
