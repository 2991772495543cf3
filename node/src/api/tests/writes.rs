//! Storing messages and texts, and every body that is refused.

use super::*;
use crate::service::ServiceError;

#[tokio::test]
async fn a_message_in_json_is_stored_as_text_and_named_by_its_digest() {
    let served = public().await;
    let answer = served.post_json("/messages", r#"{"message":"foo","extra":[1]}"#).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body, format!(r#"{{"digest":"{FOO}","seq":1}}"#));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("location"), format!("/messages/{FOO}"));
    assert_eq!(answer.header("etag"), format!("\"{FOO}-json\""), "that of what its location gives");
    assert_eq!(answer.header("skep-served-by"), fake::NODE_ID);
    let again = served.post_json("/messages", r#"{"message":"foo"}"#).await;
    assert_eq!((again.status.as_u16(), again.json()["seq"].as_u64()), (200, Some(1)));
}

#[tokio::test]
async fn the_content_type_of_json_may_have_parameters_and_capitals() {
    let served = public().await;
    let answer = served.post_as("Application/JSON; charset=utf-8", br#"{"message":"foo"}"#).await;
    assert_eq!(answer.json()["digest"], FOO);
}

#[tokio::test]
async fn any_other_content_type_stores_the_bytes_as_they_are() {
    let served = public().await;
    let answer = served.post_as("image/png", b"foo").await;
    assert_eq!((answer.status.as_u16(), answer.json()["digest"].as_str()), (201, Some(FOO)));
    let raw = served.get(&format!("/messages/{FOO}")).await;
    assert_eq!((raw.header("content-type"), raw.body.as_ref()), ("image/png", &b"foo"[..]));
}

#[tokio::test]
async fn bytes_without_a_content_type_are_octets() {
    let served = public().await;
    served.ask(Method::POST, "/messages", &[], b"foo").await;
    let raw = served.get(&format!("/messages/{FOO}")).await;
    assert_eq!(raw.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn each_bad_json_body_is_refused_by_its_own_problem() {
    let served = public().await;
    for (body, kind) in [
        (&b""[..], ProblemKind::EmptyBody),
        (b"foo", ProblemKind::InvalidJson),
        (b"{\"message\":\"foo\"", ProblemKind::InvalidJson),
        (b"[\"foo\"]", ProblemKind::InvalidJson),
        (b"{}", ProblemKind::MessageMissing),
        (b"{\"text\":\"foo\"}", ProblemKind::MessageMissing),
        (b"{\"message\":7}", ProblemKind::MessageNotAString),
        (b"{\"message\":null}", ProblemKind::MessageNotAString),
        (b"{\"message\":\"\"}", ProblemKind::EmptyMessage),
        (b"{\"message\":\"\xff\xfe\"}", ProblemKind::InvalidUtf8),
    ] {
        served.post_as("application/json", body).await.is_problem(kind);
    }
    assert!(served.fake.state.lock().unwrap().messages.is_empty());
}

#[tokio::test]
async fn an_empty_raw_body_is_refused() {
    let served = public().await;
    served.post_as("text/plain", b"").await.is_problem(ProblemKind::EmptyBody);
}

#[tokio::test]
async fn a_content_type_that_cannot_be_stored_is_refused() {
    let served = public().await;
    let long = format!("text/plain; x={}", "x".repeat(255));
    for content_type in ["text", "/", "text/", "te xt/plain", "", long.as_str()] {
        served.post_as(content_type, b"foo").await.is_problem(ProblemKind::InvalidContentType);
    }
    let twice = [("content-type", "text/plain"), ("content-type", "text/html")];
    let answer = served.ask(Method::POST, "/messages", &twice, b"foo").await;
    answer.is_problem(ProblemKind::InvalidContentType);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let served = public().await;
    let headers = [("content-encoding", "gzip")];
    let answer = served.ask(Method::POST, "/messages", &headers, b"foo").await;
    answer.is_problem(ProblemKind::UnsupportedContentEncoding);
}

#[tokio::test]
async fn a_text_is_written_and_the_newest_is_read() {
    let served = public().await;
    served.get("/read").await.is_problem(ProblemKind::NoText);
    for (version, text) in ["first", "zweiter Text: ü"].into_iter().enumerate() {
        let answer = served.ask(Method::POST, "/write", &[], text.as_bytes()).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json()["version"], version as u64 + 1);
        let read = served.get("/read").await;
        assert_eq!(read.status, 200);
        assert_eq!(read.body, text);
        assert_eq!(read.header("content-type"), "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn no_text_and_a_text_that_is_not_utf_8_are_refused() {
    let served = public().await;
    served.ask(Method::POST, "/write", &[], b"").await.is_problem(ProblemKind::EmptyBody);
    served.ask(Method::POST, "/write", &[], b"\xff").await.is_problem(ProblemKind::InvalidUtf8);
    let large = vec![b'x'; MAX_BODY + 1];
    served.ask(Method::POST, "/write", &[], &large).await.is_problem(ProblemKind::BodyTooLarge);
}

#[tokio::test]
async fn what_the_service_cannot_do_is_told_with_what_to_do_about_it() {
    let served = public().await;
    let detail = || String::from("why");
    for (failure, kind, unprocessed) in [
        (ServiceError::Unavailable { detail: detail(), unprocessed: true }, ProblemKind::Unavailable, "1"),
        (ServiceError::Unavailable { detail: detail(), unprocessed: false }, ProblemKind::Unavailable, ""),
        (ServiceError::Overloaded { detail: detail() }, ProblemKind::Overloaded, "1"),
        (ServiceError::Full { detail: detail() }, ProblemKind::StorageFull, ""),
        (
            ServiceError::KeysFull { detail: detail(), retry_after_s: 77 },
            ProblemKind::IdempotencyKeysFull,
            "",
        ),
        (ServiceError::Fatal { detail: detail() }, ProblemKind::Internal, ""),
    ] {
        served.fake.fail(failure);
        for answer in [
            served.post_json("/messages", r#"{"message":"foo"}"#).await,
            served.get(&format!("/messages/{FOO}")).await,
            served.get("/messages").await,
            served.ask(Method::POST, "/write", &[], b"foo").await,
            served.get("/read").await,
        ] {
            answer.is_problem(kind);
            assert_eq!(answer.json()["detail"], "why");
            assert_eq!(answer.header("skep-unprocessed"), unprocessed);
            let retry_after = match (answer.status.as_u16(), kind) {
                (503, ProblemKind::IdempotencyKeysFull) => "77",
                (503, _) => "1",
                _ => "",
            };
            assert_eq!(answer.header("retry-after"), retry_after);
        }
    }
}

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

#[tokio::test]
async fn a_request_that_is_sent_again_under_its_key_takes_effect_once_and_is_answered_alike() {
    let served = public().await;
    for (path, body) in [("/write", &b"a text"[..]), ("/messages", b"a message"), ("/endpoint/", b"[1]")] {
        let headers = [("idempotency-key", &*format!("{KEY}{path}")), ("content-type", "text/plain")];
        let first = served.ask(Method::POST, path, &headers, body).await;
        let again = served.ask(Method::POST, path, &headers, body).await;
        assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (201, ""), "{path}");
        assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, "true"), "{path}");
        assert_eq!(first.body, again.body);
    }
    assert_eq!(served.fake.state.lock().unwrap().text.as_ref().unwrap().version, 1);
}

#[tokio::test]
async fn another_request_under_a_used_key_is_refused() {
    let served = public().await;
    let headers = [("idempotency-key", KEY)];
    served.ask(Method::POST, "/write", &headers, b"a").await;
    for (path, body) in [("/write", &b"b"[..]), ("/messages", b"a"), ("/endpoint/", b"1")] {
        let answer = served.ask(Method::POST, path, &headers, body).await;
        answer.is_problem(ProblemKind::IdempotencyKeyReused);
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let served = public().await;
    for key in ["", &"x".repeat(256), "ta\tb"] {
        let answer = served.ask(Method::POST, "/write", &[("idempotency-key", key)], b"a").await;
        answer.is_problem(ProblemKind::InvalidIdempotencyKey);
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = served.ask(Method::POST, "/write", &twice, b"a").await;
    answer.is_problem(ProblemKind::InvalidIdempotencyKey);
}
