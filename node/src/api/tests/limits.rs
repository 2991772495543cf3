//! Bodies over the limit, whichever way they come.

use super::*;

const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large";

#[tokio::test]
async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_413() {
    let served = public().await;
    let body = vec![b'x'; MAX_BODY];
    assert_eq!(served.post_as("text/plain", &body).await.status, 201);
    let body = vec![b'x'; MAX_BODY + 1];
    for content_type in ["text/plain", "application/json"] {
        let answer = served.post_as(content_type, &body).await;
        answer.is_problem(ProblemKind::BodyTooLarge);
        assert!(answer.json()["detail"].as_str().unwrap().contains("1024"));
    }
}

#[tokio::test]
async fn a_streamed_body_over_the_limit_is_413_though_no_length_was_given() {
    let served = public().await;
    let mut request =
        b"POST /messages HTTP/1.1\r\nhost: skep\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            .to_vec();
    for _ in 0..100 {
        request.extend_from_slice(format!("400\r\n{}\r\n", "x".repeat(0x400)).as_bytes());
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = served.raw(&request).await;
    assert!(answer.starts_with(TOO_LARGE), "{answer}");
    assert!(served.fake.state.lock().unwrap().messages.is_empty());
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_too_much_is_refused_without_sending() {
    let served = public().await;
    let answer = served
        .raw(b"POST /messages HTTP/1.1\r\nhost: skep\r\nexpect: 100-continue\r\ncontent-length: 1025\r\n\r\n")
        .await;
    assert!(answer.starts_with(TOO_LARGE), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let served = public().await;
    let mut stream = served.connect().await;
    let head = b"POST /messages HTTP/1.1\r\nhost: skep\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    stream.write_all(head).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(b"foo").await.unwrap();
    assert!(read_until(&mut stream, FOO).await.starts_with("HTTP/1.1 201"));
}

#[tokio::test]
async fn a_client_that_asks_and_streams_too_much_is_413() {
    let served = public().await;
    let mut stream = served.connect().await;
    let head =
        b"POST /messages HTTP/1.1\r\nhost: skep\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    let body = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(0x401));
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "body-too-large").await.starts_with(TOO_LARGE));
}

#[tokio::test]
async fn a_connection_lives_on_after_a_body_that_was_too_large_and_read_to_its_end() {
    let served = public().await;
    let mut stream = served.connect().await;
    let head = b"POST /messages HTTP/1.1\r\nhost: skep\r\ncontent-length: 2000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    stream.write_all(&[b'x'; 2000]).await.unwrap();
    read_until(&mut stream, "body-too-large").await;
    stream.write_all(b"GET /read HTTP/1.1\r\nhost: skep\r\n\r\n").await.unwrap();
    read_until(&mut stream, "no-text").await;
}

#[tokio::test]
async fn a_body_that_ends_early_stores_nothing() {
    let served = public().await;
    let mut stream = served.connect().await;
    let head = b"POST /messages HTTP/1.1\r\nhost: skep\r\ncontent-length: 10\r\n\r\nfoo";
    stream.write_all(head).await.unwrap();
    stream.shutdown().await.unwrap();
    read_to_end(&mut stream).await;
    assert!(served.fake.state.lock().unwrap().messages.is_empty());
}

/// Heads that are refused before there is a request, and as what.
fn bad_heads() -> Vec<(Vec<u8>, ProblemKind)> {
    let large = format!("GET /read HTTP/1.1\r\nhost: skep\r\nx: {}\r\n\r\n", "x".repeat(300_000));
    let many = format!("GET /read HTTP/1.1\r\nhost: skep\r\n{}\r\n", "x: y\r\n".repeat(101));
    let long = format!("GET /{} HTTP/1.1\r\nhost: skep\r\n\r\n", "x".repeat(66_000));
    vec![
        (large.into(), ProblemKind::HeadTooLarge),
        (many.into(), ProblemKind::HeadTooLarge),
        (long.into(), ProblemKind::UriTooLong),
        (b"\x16\x03\x01 hello\r\n\r\n".to_vec(), ProblemKind::MalformedRequest),
        (b"GET /read HTTP/1.1\r\nbad field: x\r\n\r\n".to_vec(), ProblemKind::MalformedRequest),
        (b"GET /read HTTP/9.9\r\nhost: skep\r\n\r\n".to_vec(), ProblemKind::MalformedRequest),
    ]
}

/// Whether the text ends with a whole answer that is this problem, and the connection's last.
#[track_caller]
fn ends_with_problem(text: &str, kind: ProblemKind) {
    let answer = &text[text.rfind("HTTP/1.1 ").unwrap()..];
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", kind.status().as_u16())), "{head}");
    for field in [
        "connection: close",
        "content-type: application/problem+json",
        &format!("content-length: {}", body.len()),
        &format!("skep-served-by: {}", fake::NODE_ID),
    ] {
        assert!(head.contains(field), "{field} is not in {head}");
    }
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&document["type"], &document["title"]), (&kind.uri().into(), &kind.title().into()));
    assert_eq!(document["status"], kind.status().as_u16());
}

#[tokio::test]
async fn a_head_that_is_too_large_or_no_http_is_answered_with_a_problem() {
    let served = public().await;
    for (head, kind) in bad_heads() {
        ends_with_problem(&served.raw(&head).await, kind);
    }
}

#[tokio::test]
async fn a_bad_head_behind_good_requests_is_answered_with_a_problem_too() {
    let served = public().await;
    let good = b"GET /read HTTP/1.1\r\nhost: skep\r\n\r\n";
    for (head, kind) in bad_heads() {
        // At once, and after the answer to the first.
        let text = served.raw(&[good, good, &head[..]].concat()).await;
        assert_eq!(text.matches("no-text").count(), 2, "{text}");
        ends_with_problem(&text, kind);
        let mut stream = served.connect().await;
        stream.write_all(good).await.unwrap();
        read_until(&mut stream, "no-text").await;
        stream.write_all(&head).await.unwrap();
        ends_with_problem(&read_to_end(&mut stream).await, kind);
    }
}

#[tokio::test]
async fn a_stored_text_that_looks_like_a_refusal_is_served_as_it_is() {
    let served = public().await;
    let text = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let put = served.post_as("text/x-http", text).await;
    let path = format!("/messages/{}", put.json()["digest"].as_str().unwrap());
    assert_eq!(served.get_accepting(&path, "text/x-http").await.body, &text[..]);
}
