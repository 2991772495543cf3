//! The APIs through real sockets on loopback, over a fake in memory.

mod admin;
mod connections;
mod crawl;
mod gateway;
mod gateway_watch;
mod limits;
mod lists;
mod live;
mod lost;
mod page;
mod reads;
mod schedules;
mod tasks;
mod writes;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use skep_console::token::GatewayToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::*;
use crate::http::{
    Account, App, OperatorToken, Origins, ProblemKind, ServeLimits, Stage, WorkerToken, serve,
};
use crate::kinds::served::MessageApi;
use crate::telemetry::Metrics;

const MAX_BODY: usize = 1024;
const FOO: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
/// The operators' token.
const TOKEN: &str = "a-token-of-16-and-more";
const GATEWAY_TOKEN: &str = "a-token-for-the-gateway-alone";
const ABSENT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A served API, its fake node, and the way to stop it.
struct Served {
    address: SocketAddr,
    fake: Fake,
    metrics: Metrics,
    stage: watch::Sender<Stage>,
    done: JoinHandle<()>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn public() -> Served {
    public_with(ServeLimits::default()).await
}

async fn public_with(limits: ServeLimits) -> Served {
    serve_app(limits, |fake, metrics| public_app(fake, clients(), metrics)).await
}

fn clients() -> PublicLimits {
    PublicLimits {
        token: OperatorToken::new(Some(TOKEN)),
        workers: WorkerToken::default(),
        origins: Origins::default(),
        max_body_bytes: MAX_BODY,
        account: Account::new(64 << 20),
        live_readers_max: 100,
    }
}

async fn admin() -> Served {
    admin_of(Fake::default()).await
}

async fn admin_of(fake: Fake) -> Served {
    serve_fake(fake, ServeLimits::default(), |fake, metrics| {
        let operators = OperatorToken::new(Some(TOKEN));
        let gateway = GatewayToken::new(Some(GATEWAY_TOKEN));
        admin_app(fake, Tokens { operators, gateway }, metrics)
    })
    .await
}

async fn serve_app(limits: ServeLimits, app: impl FnOnce(Fake, &Metrics) -> App) -> Served {
    serve_fake(Fake::default(), limits, app).await
}

async fn serve_fake(fake: Fake, limits: ServeLimits, app: impl FnOnce(Fake, &Metrics) -> App) -> Served {
    let metrics = Metrics::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stage, stages) = watch::channel(Stage::Serving);
    let done = tokio::spawn(serve(listener, app(fake.clone(), &metrics), limits, stages));
    Served { address, fake, metrics, stage, done }
}

impl Served {
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], b"").await
    }

    async fn get_accepting(&self, path: &str, accept: &str) -> Answer {
        self.ask(Method::GET, path, &[("accept", accept)], b"").await
    }

    async fn post_json(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, &[("content-type", "application/json")], body.as_bytes()).await
    }

    async fn post_as(&self, content_type: &str, body: &[u8]) -> Answer {
        self.ask(Method::POST, "/messages", &[("content-type", content_type)], body).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends raw bytes, and answers all that comes until the connection closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the answer holds `text`.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut answer = String::new();
    while !answer.contains(text) {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "closed after {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    answer
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A problem document of this type, with its status and a detail.
    #[track_caller]
    fn is_problem(&self, kind: ProblemKind) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{:?}", self.body);
        let document = self.json();
        assert_eq!(document["type"], kind.uri(), "{document}");
        assert_eq!(document["title"], kind.title());
        assert_eq!(document["status"], self.status.as_u16());
        assert_eq!(self.status, kind.status());
        assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert_eq!(self.header("skep-served-by"), fake::NODE_ID);
    }
}
