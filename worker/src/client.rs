//! Requests to the cluster: HTTP/1.1 over connections that are kept, each bounded in time and in bytes, at
//! whichever node answers.
//!
//! Names are looked up by `skep_members::seeds`, and each new connection goes to another of their
//! addresses; where one URL fails, the next request goes to the next. Nothing here repeats a request:
//! who asks knows whether it may be.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use skep_base::random::Random;
use skep_members::seeds::{Seed, resolve_now};

use crate::config::Token;

/// Time to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection is kept that nothing goes over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("{0}: no answer in time")]
    Timeout(Uri),
    #[error("{uri}: {reason}")]
    Failed { uri: Uri, reason: String },
}

/// An answer as a whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The problem's own words, where it is one.
    pub fn detail(&self) -> String {
        let problem: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let detail = problem.as_ref().and_then(|it| it.get("detail")?.as_str());
        format!("{}: {}", self.status, detail.unwrap_or("no reason is given"))
    }

    /// Seconds that are asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// Asks servers. Cheap to share.
#[derive(Debug)]
pub struct Client {
    pool: Pool<HttpConnector<Resolver>, Full<Bytes>>,
    urls: Vec<Uri>,
    /// The one that is asked.
    at: AtomicUsize,
    bearer: Option<HeaderValue>,
}

impl Client {
    /// `urls` is not empty, and none of them is relative.
    pub fn new(urls: Vec<Uri>, token: Option<&Token>) -> Self {
        let mut connector = HttpConnector::new_with_resolver(Resolver);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        let bearer = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.0)).ok());
        let bearer = bearer.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self { pool, urls, at: AtomicUsize::new(0), bearer }
    }

    /// Posts JSON to a path of the server that is asked now.
    pub async fn post(&self, path: &str, body: &impl Serialize, limit: Duration) -> Result<Answer, NoAnswer> {
        let at = self.at.load(Relaxed);
        let base = &self.urls[at % self.urls.len()];
        let text = format!("{}{path}", base.to_string().trim_end_matches('/'));
        let failed = |uri: &Uri, reason: String| NoAnswer::Failed { uri: uri.clone(), reason };
        let uri: Uri = text.parse().map_err(|_| failed(base, format!("{path:?} is no path")))?;
        let body = serde_json::to_vec(body).map_err(|error| failed(&uri, error.to_string()))?;
        let answered = self.send(uri, body.into(), HeaderMap::new(), limit).await;
        let is_well = answered.as_ref().is_ok_and(|it| !it.status.is_server_error());
        if !is_well {
            // The next one is asked from now on, unless another request has found that already.
            let _ = self.at.compare_exchange(at, at.wrapping_add(1), Relaxed, Relaxed);
        }
        answered
    }

    /// Posts JSON to a server, with fields beside those that each request has.
    pub async fn send(
        &self,
        uri: Uri,
        body: Bytes,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<Answer, NoAnswer> {
        let failed = |reason: String| NoAnswer::Failed { uri: uri.clone(), reason };
        let mut request =
            Request::post(uri.clone()).body(Full::new(body)).map_err(|it| failed(it.to_string()))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        let exchange = async {
            let answer = self.pool.request(request).await.map_err(|error| failed(causes(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(NoAnswer::Timeout(uri.clone())),
        }
    }
}

/// An error with what caused it: the first says no more than that it failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// Looks names up without libc, and gives their addresses in another order each time.
#[derive(Debug, Clone)]
struct Resolver;

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            // The port is the connector's to set.
            let seed = Seed::parse(&format!("{}:1", name.as_str())).map_err(std::io::Error::other)?;
            let mut addresses = resolve_now(&[seed]).await;
            if addresses.is_empty() {
                return Err(std::io::Error::other(format!("{} has no address", name.as_str())));
            }
            shuffle(&mut addresses);
            Ok(addresses.into_iter())
        })
    }
}

fn shuffle(addresses: &mut [SocketAddr]) {
    static RANDOM: Mutex<Option<Random>> = Mutex::new(None);
    let mut random = RANDOM.lock().unwrap_or_else(PoisonError::into_inner);
    let random = random.get_or_insert_with(|| {
        let mut seed = [0; 8];
        // A weak seed makes the order predictable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        Random::new(u64::from_le_bytes(seed))
    });
    for at in (1..addresses.len()).rev() {
        addresses.swap(at, random.below(at + 1));
    }
}
