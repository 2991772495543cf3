//! Requests to the cluster: HTTP/1.1 over connections that are kept, each bounded in time and in bytes, at
//! whichever node answers.
//!
//! Each new connection goes to another address of its URL's name; where one URL fails, the next request goes
//! to the next. Nothing here repeats a request: who asks knows whether it may be.

mod connect;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use tokio::sync::watch;

use connect::Connector;
pub use connect::Trust;

/// How long a connection is kept that nothing goes over, and how many such there may be.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_MAX: usize = 16;
/// Largest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What of an answer is told.
const DETAIL_CHARS_MAX: usize = 500;

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
        let detail: Option<String> = detail.map(|it| it.chars().take(DETAIL_CHARS_MAX).collect());
        format!("{}: {}", self.status, detail.as_deref().unwrap_or("no reason is given"))
    }

    /// Seconds that are asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// The workers' token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(set)")
    }
}

/// Asks servers.
#[derive(Debug)]
pub struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    urls: Vec<Uri>,
    /// The one that is asked.
    at: AtomicUsize,
    /// How often none has answered.
    unanswered: watch::Sender<u64>,
    bearer: Mutex<Option<HeaderValue>>,
}

impl Client {
    /// `urls` is not empty, and none of them is relative.
    pub fn new(urls: Vec<Uri>, token: Option<&Token>, trust: Option<Trust>) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(Connector::new(trust));
        let bearer = Mutex::new(token.and_then(bearer));
        Self { pool, urls, at: AtomicUsize::new(0), unanswered: watch::Sender::new(0), bearer }
    }

    /// Says this with each request from now on.
    pub fn bear(&self, token: &Token) {
        *self.bearer.lock().unwrap_or_else(PoisonError::into_inner) = bearer(token);
    }

    fn bearer(&self) -> Option<HeaderValue> {
        self.bearer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes whenever a request was not answered: what waits at the same server may wait in vain.
    pub fn unanswered(&self) -> watch::Receiver<u64> {
        self.unanswered.subscribe()
    }

    /// Posts JSON to a path of the server that is asked now.
    pub async fn post(&self, path: &str, body: &impl Serialize, limit: Duration) -> Result<Answer, NoAnswer> {
        let (at, uri) = self.asked_now(path)?;
        let body = serde_json::to_vec(body)
            .map_err(|error| NoAnswer::Failed { uri: uri.clone(), reason: error.to_string() })?;
        let answered = self.send(uri, body.into(), HeaderMap::new(), limit).await;
        self.note(at, answered.as_ref().map(|answer| answer.status).ok());
        answered
    }

    /// Asks the server that is asked now for an answer without an end: its head is here in time. Whether it was
    /// had says nothing of where other requests go.
    pub async fn open(&self, path: &str, limit: Duration) -> Result<Response<Incoming>, NoAnswer> {
        let (_, uri) = self.asked_now(path)?;
        let failed = |reason: String| NoAnswer::Failed { uri: uri.clone(), reason };
        let mut request =
            Request::get(uri.clone()).body(Full::default()).map_err(|error| failed(error.to_string()))?;
        if let Some(bearer) = self.bearer() {
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        match tokio::time::timeout(limit, self.pool.request(request)).await {
            Ok(answered) => answered.map_err(|error| failed(causes(&error))),
            Err(_) => Err(NoAnswer::Timeout(uri.clone())),
        }
    }

    fn asked_now(&self, path: &str) -> Result<(usize, Uri), NoAnswer> {
        let at = self.at.load(Relaxed);
        let base = &self.urls[at % self.urls.len()];
        let text = format!("{}{path}", base.to_string().trim_end_matches('/'));
        let failed = |_| NoAnswer::Failed { uri: base.clone(), reason: format!("{path:?} is no path") };
        Ok((at, text.parse().map_err(failed)?))
    }

    /// What a server said: none is no answer.
    fn note(&self, at: usize, status: Option<StatusCode>) {
        if status.is_none_or(|status| status.is_server_error()) {
            // The next one is asked from now on, unless another request has found that already.
            let _ = self.at.compare_exchange(at, at.wrapping_add(1), Relaxed, Relaxed);
        }
        if status.is_none() {
            self.unanswered.send_modify(|count| *count += 1);
        }
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
        if let Some(bearer) = self.bearer() {
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        let exchange = async {
            let captured = capture_connection(&mut request);
            let answer = self.pool.request(request).await.map_err(|error| failed(causes(&error)))?;
            if answer.status().is_server_error()
                && let Some(connection) = captured.connection_metadata().as_ref()
            {
                // The next one is a new one, perhaps to another address of the name.
                connection.poison();
            }
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| failed(causes(error.as_ref())))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(NoAnswer::Timeout(uri.clone())),
        }
    }
}

fn bearer(token: &Token) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// An error with what caused it: the first says no more than that it failed.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}
