//! `health` against a served admin address, and what a client makes of those that are none.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::admin::tests::Served;

async fn said(admin: SocketAddr, of: HealthOf, json: bool) -> (String, Option<String>) {
    let mut out = Vec::new();
    let outcome = health(admin, of, json, &mut out).await;
    (String::from_utf8(out).unwrap(), outcome.err().map(|error| error.to_string()))
}

#[tokio::test]
async fn health_is_a_word_or_a_reason() {
    let served = Served::start().await;
    assert_eq!(said(served.address, HealthOf::Live, false).await, ("live\n".into(), None));
    assert_eq!(said(served.address, HealthOf::Ready, false).await, ("ready\n".into(), None));
    served.be_ready(Err("no \"backend\" is ready"));
    let (out, error) = said(served.address, HealthOf::Ready, false).await;
    assert_eq!((out.as_str(), error.as_deref()), ("", Some("not ready: no \"backend\" is ready")));
    let (out, error) = said(served.address, HealthOf::Ready, true).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json, json!({ "healthy": false, "reason": "no \"backend\" is ready" }));
    assert_eq!(exit("skep", error.map_or(Ok(()), |error| Err(VerbError::Refused(error)))), ExitCode::FAILURE);
}

#[tokio::test]
async fn where_nobody_is_the_error_says_where_it_was_looked_for() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_, error) = said(free, HealthOf::Live, false).await;
    let error = error.unwrap();
    assert!(error.starts_with("not live: ") && error.contains(&free.to_string()), "{error}");
    assert!(error.contains("SKEP_ADMIN"), "{error}");
}

/// Answers every connection with these bytes.
async fn answering(bytes: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn a_problem_is_its_detail_and_any_other_refusal_its_status() {
    let client = |admin| Client::new(admin, Duration::from_secs(3));
    let problem = answering("HTTP/1.1 503 x\r\ncontent-length: 16\r\n\r\n{\"detail\":\"why\"}").await;
    assert_eq!(client(problem).get("/").await.unwrap_err().to_string(), "why");
    let other = answering("HTTP/1.1 502 x\r\ncontent-length: 4\r\n\r\noops").await;
    assert_eq!(client(other).get("/").await.unwrap_err().to_string(), "status 502 Bad Gateway");
    let none = answering("SSH-2.0-x\r\n").await;
    assert!(client(none).probe("/").await.unwrap_err().to_string().contains("broke off"));
    let text = answering("HTTP/1.1 200 x\r\ncontent-length: 4\r\n\r\noops").await;
    assert!(client(text).get("/").await.unwrap_err().to_string().contains("broke off"));
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_does_not_end_is_waited_for_no_longer_than_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap(), Duration::from_millis(50));
    assert!(matches!(client.get("/").await, Err(ClientError::Timeout { .. })));
    let endless = answering("HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{").await;
    let outcome = Client::new(endless, Duration::from_millis(50)).get("/").await;
    // Its other end closes after what it has written.
    assert!(matches!(outcome, Err(ClientError::Timeout { .. } | ClientError::Broken { .. })));
}
