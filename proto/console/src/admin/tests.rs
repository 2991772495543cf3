//! The admin address through real sockets, and the limits of its listener.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::server::{ServeLimits, Stage, serve};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: u32,
}

const TOKEN: &str = "a-token-of-operators";
const BEARING: &str = "host: localhost\r\nauthorization: Bearer a-token-of-operators\r\n";

fn operators(token: Option<&str>, is_local: bool) -> Operators {
    Operators { token: OperatorToken::new(token), is_local, own_names: Arc::new(["host-1".to_owned()]) }
}

pub struct Served {
    pub address: SocketAddr,
    ready: Arc<Mutex<Result<(), &'static str>>>,
    stage: watch::Sender<Stage>,
    done: JoinHandle<()>,
}

impl Served {
    pub async fn start() -> Self {
        Self::with(ServeLimits::admin()).await
    }

    async fn with(limits: ServeLimits) -> Self {
        Self::operated(limits, Operators::default()).await
    }

    async fn operated(limits: ServeLimits, operators: Operators) -> Self {
        let mut registry = Registry::with_prefix("p");
        registry.register("open", "Open", Gauge::<i64>::default());
        let ready = Arc::new(Mutex::new(Ok(())));
        let is = ready.clone();
        let admin = Admin::builder(registry, move || is.lock().unwrap().map_err(Reason::from))
            .route("/list", || answer::json(&["a\"b"]))
            .route("/level", || answer::json(&1))
            .change("/level", |asked: Level| Ok(answer::json(&asked.level)))
            .operators(operators)
            .build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stage, stages) = watch::channel(Stage::Serving);
        let done = tokio::spawn(serve(listener, admin, limits, stages));
        Self { address, ready, stage, done }
    }

    pub fn be_ready(&self, ready: Result<(), &'static str>) {
        *self.ready.lock().unwrap() = ready;
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that comes after these bytes until the connection closes.
    async fn raw(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    /// Asks for a change, with these fields beside.
    async fn change(&self, fields: &str, body: &str) -> (String, String) {
        let length = body.len();
        let head = "POST /level HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json\r\n";
        let answer = self.raw(&format!("{head}content-length: {length}\r\n{fields}\r\n{body}")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn ask(&self, method: &str, path: &str, fields: &str) -> (String, String) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
        let answer = self.raw(&head).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn is_problem(head: &str, body: &str, kind: ProblemKind) {
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", kind.status().as_u16())), "{head}");
    assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&document["type"], &document["title"]), (&kind.uri().into(), &kind.title().into()));
    assert!(!document["detail"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_program_is_live_and_ready_or_says_why_not() {
    let served = Served::start().await;
    assert_eq!(served.ask("GET", "/livez", "").await.1, "live\n");
    assert_eq!(served.ask("GET", "/readyz", "").await.1, "ready\n");
    served.be_ready(Err("a \"fault\""));
    assert_eq!(served.ask("GET", "/livez", "").await.1, "live\n");
    let (head, body) = served.ask("GET", "/readyz", "").await;
    is_problem(&head, &body, ProblemKind::NotReady);
    assert!(head.contains("retry-after: 1\r\n") && body.contains(r#"a \"fault\""#), "{head}\n{body}");
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let served = Served::start().await;
    let (head, body) = served.ask("GET", "/metrics", "").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert_eq!(body, "# HELP p_open Open.\n# TYPE p_open gauge\np_open 0\n");
    let (head, body) = served.ask("GET", "/metrics", "accept: application/openmetrics-text;q=0.5\r\n").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0;"), "{head}");
    assert!(head.contains("vary: accept") && body.ends_with("# EOF\n"), "{head}\n{body}");
}

#[tokio::test]
async fn a_route_of_the_programs_own_is_shown_and_of_others_it_is_said_that_they_are_none() {
    let served = Served::start().await;
    assert_eq!(served.ask("GET", "/list", "").await.1, r#"["a\"b"]"#);
    let (head, body) = served.ask("HEAD", "/list", "").await;
    assert!(head.contains("content-length: 8") && body.is_empty(), "{head}\n{body}");
    // A client's request that a balancer passed on is not an operator's; whether a program is well anybody may ask.
    let (head, body) = served.ask("GET", "/list", "via: 1.1 skep\r\n").await;
    is_problem(&head, &body, ProblemKind::ForeignHost);
    assert!(served.ask("GET", "/livez", "via: 1.1 skep\r\n").await.0.starts_with("HTTP/1.1 200 "));
    let (head, body) = served.ask("GET", "/lis", "").await;
    is_problem(&head, &body, ProblemKind::NotFound);
    let (head, body) = served.ask("DELETE", "/list", "").await;
    is_problem(&head, &body, ProblemKind::MethodNotAllowed);
    assert!(head.contains("allow: GET, HEAD\r\n"), "{head}");
}

#[tokio::test]
async fn an_operator_changes_something_and_is_told_what_is_wrong_with_it() {
    let served = Served::operated(ServeLimits::admin(), operators(Some(TOKEN), false)).await;
    assert_eq!(served.change(BEARING, r#"{"level":3}"#).await.1, "3");
    let of_origin = format!("{BEARING}origin: http://localhost\r\nsec-fetch-site: same-origin\r\n");
    assert_eq!(served.change(&of_origin, r#"{"level":3}"#).await.1, "3");
    for body in ["", "{}", "{", r#"{"level":-1}"#, r#"{"level":3,"more":1}"#, "\u{0}"] {
        let (head, answer) = served.change(BEARING, body).await;
        is_problem(&head, &answer, ProblemKind::InvalidRequest);
    }
    let (head, body) = served.change(BEARING, &format!(r#"{{"level":3{}}}"#, " ".repeat(5000))).await;
    is_problem(&head, &body, ProblemKind::BodyTooLarge);
    let form =
        "POST /level HTTP/1.1\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n";
    let form = served.raw(&format!("{form}{BEARING}\r\n{{}}")).await;
    let (head, body) = form.split_once("\r\n\r\n").unwrap();
    is_problem(head, body, ProblemKind::UnsupportedContentType);
    let (head, _) = served.ask("DELETE", "/level", "").await;
    assert!(head.contains("allow: GET, HEAD, POST\r\n"), "{head}");
    let (head, body) = served.ask("POST", "/list", "content-length: 0\r\n").await;
    is_problem(&head, &body, ProblemKind::MethodNotAllowed);
    assert!(head.contains("allow: GET, HEAD\r\n"), "{head}");
}

#[tokio::test]
async fn nobody_changes_anything_without_the_token_nor_from_a_foreign_page_nor_by_a_foreign_name() {
    let level = r#"{"level":3}"#;
    let served = Served::operated(ServeLimits::admin(), operators(Some(TOKEN), true)).await;
    for (fields, kind) in [
        ("host: localhost\r\n".to_owned(), ProblemKind::NoOperator),
        ("host: localhost\r\nauthorization: Bearer a-token-of-operator\r\n".into(), ProblemKind::NoOperator),
        (format!("{BEARING}sec-fetch-site: cross-site\r\n"), ProblemKind::ForeignOrigin),
        (format!("{BEARING}origin: http://evil.example\r\n"), ProblemKind::ForeignOrigin),
        (BEARING.replace("localhost", "evil.example"), ProblemKind::ForeignHost),
        ("".into(), ProblemKind::ForeignHost),
    ] {
        let (head, body) = served.change(&fields, level).await;
        is_problem(&head, &body, kind);
    }
    for own in ["host-1:9401", "127.0.0.1:9401", "[::1]"] {
        assert_eq!(served.change(&BEARING.replace("localhost", own), level).await.1, "3", "{own}");
    }
}

#[tokio::test]
async fn without_a_token_whoever_is_on_the_machine_is_an_operator_and_nobody_else_is() {
    let (local, level) = ("host: localhost\r\n", r#"{"level":3}"#);
    let served = Served::operated(ServeLimits::admin(), operators(None, true)).await;
    assert_eq!(served.change(local, level).await.1, "3");
    let (head, body) = served.change(&format!("{local}sec-fetch-site: cross-site\r\n"), level).await;
    is_problem(&head, &body, ProblemKind::ForeignOrigin);
    for served in
        [Served::operated(ServeLimits::admin(), operators(None, false)).await, Served::start().await]
    {
        let (head, body) = served.change(BEARING, level).await;
        is_problem(&head, &body, ProblemKind::NoOperators);
        let (head, body) = served.change(local, level).await;
        is_problem(&head, &body, ProblemKind::NoOperator);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_not_waited_for() {
    let served = Served::start().await;
    let answer =
        served.raw("GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\nand no more").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    is_problem(head, body, ProblemKind::BodyTooLarge);
    assert!(head.contains("connection: close"), "{head}");
}

#[tokio::test]
async fn a_head_that_is_none_or_too_large_is_answered_with_a_problem() {
    let served = Served::start().await;
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(256 * 1024));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (bytes, kind) in [
        ("no HTTP at all\r\n\r\n", ProblemKind::MalformedRequest),
        (&large, ProblemKind::HeadTooLarge),
        (&many, ProblemKind::HeadTooLarge),
    ] {
        let answer = served.raw(bytes).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        is_problem(head, body, kind);
    }
}

#[tokio::test]
async fn a_head_that_comes_slowly_is_not_waited_for() {
    let limits = ServeLimits { idle_timeout: Duration::from_millis(100), ..ServeLimits::admin() };
    let served = Served::with(limits).await;
    let mut slow = served.connect().await;
    for byte in b"GET /livez HTTP/1.1\r\nx: " {
        if slow.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Closed, or reset because of what it still sent.
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn one_connection_more_than_may_be_waits_for_another_to_end() {
    let served = Served::with(ServeLimits { connections_max: 2, ..ServeLimits::admin() }).await;
    let first = served.connect().await;
    let _second = served.connect().await;
    let third = served.ask("GET", "/livez", "");
    tokio::pin!(third);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut third).await.is_err());
    drop(first);
    assert_eq!(third.await.1, "live\n");
}

#[tokio::test]
async fn the_end_closes_idle_connections_and_waits_for_nobody_who_asks_nothing() {
    let served = Served::start().await;
    let mut idle = served.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    served.stage.send_replace(Stage::Stopping);
    rest(&mut idle).await;
    served.done.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
