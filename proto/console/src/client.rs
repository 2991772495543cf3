//! A small HTTP/1.1 client for the admin address: one connection a request, bounded in time and
//! in bytes. Dropping a future closes its connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer that is read as a whole.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no connection to the admin address {admin}: {reason} (--admin or SKEP_ADMIN says where)")]
    Connect { admin: SocketAddr, reason: String },
    #[error("{admin} did not answer in {} seconds", .after.as_secs())]
    Timeout { admin: SocketAddr, after: Duration },
    #[error("the exchange with {admin} broke off: {reason}")]
    Broken { admin: SocketAddr, reason: String },
    /// The program's own words.
    #[error("{detail}")]
    Problem { status: StatusCode, detail: String },
}

/// Where to ask, and for how long to wait.
#[derive(Debug, Clone)]
pub struct Client {
    admin: SocketAddr,
    timeout: Duration,
    /// What an operator proves itself with; never shown.
    token: Option<HeaderValue>,
    /// What must hold of what is changed.
    condition: Option<(HeaderName, HeaderValue)>,
    /// How long an answer may be held back for what is wished.
    wait: Option<Duration>,
}

impl Client {
    pub fn new(admin: SocketAddr, timeout: Duration) -> Self {
        Self { admin, timeout, token: None, condition: None, wait: None }
    }

    /// With the operators' token, as [`to_send`](crate::token::to_send) has it.
    pub fn bearing(self, token: Option<HeaderValue>) -> Self {
        Self { token, ..self }
    }

    /// With what must hold of what is changed: `If-Match` or `If-None-Match`.
    pub fn only_if(self, condition: (HeaderName, HeaderValue)) -> Self {
        Self { condition: Some(condition), ..self }
    }

    /// Wishes that answers come once what they say has come about, or after so many seconds (RFC 7240).
    pub fn waiting(self, seconds: u64) -> Self {
        Self { wait: Some(Duration::from_secs(seconds)), ..self }
    }

    /// A JSON answer.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let answer = self.send(Method::GET, path, None, Full::new(Bytes::new())).await?;
        self.json(answer).await
    }

    /// Whether the answer is a success.
    pub async fn probe(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::GET, path, None, Full::new(Bytes::new())).await.map(drop)
    }

    /// Sends JSON; a JSON answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let body = Full::new(Bytes::from(body.to_string()));
        let answer = self.send(Method::POST, path, Some("application/json"), body).await?;
        self.json(answer).await
    }

    /// A successful answer's body, which is still to come; the time-out is for the head.
    pub async fn send<B>(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: B,
    ) -> Result<Incoming, ClientError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.exchange(method, path, content_type, body).await.map(Response::into_body)
    }

    /// A successful answer with its head.
    pub async fn exchange<B>(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: B,
    ) -> Result<Response<Incoming>, ClientError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let admin = self.admin;
        let connect = |reason: String| ClientError::Connect { admin, reason };
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(admin)).await;
        let stream = stream.map_err(|_| connect("it timed out".into()))?;
        let stream = stream.map_err(|error| connect(error.to_string()))?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, admin.to_string());
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some((name, value)) = &self.condition {
            request = request.header(name, value);
        }
        if let Some(wait) = self.wait {
            request = request.header("prefer", format!("wait={}", wait.as_secs()));
        }
        let request = request.body(body).map_err(|error| self.broken(&error))?;
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.broken(&error))?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(|error| self.broken(&error))
        };
        let answer = timeout(self.patience(), exchange).await.map_err(|_| self.late())??;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.read(answer.into_body()).await?;
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = document["detail"].as_str().map_or_else(|| format!("status {status}"), str::to_owned);
        Err(ClientError::Problem { status, detail })
    }

    /// The rest of an answer, as JSON.
    pub async fn json(&self, body: Incoming) -> Result<Value, ClientError> {
        let body = self.read(body).await?;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    /// The rest of an answer.
    pub async fn read(&self, mut body: Incoming) -> Result<Bytes, ClientError> {
        let reading = async {
            let mut bytes = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if bytes.len() > ANSWER_BYTES_MAX {
                    return Err(self.broken(&format!("more than {ANSWER_BYTES_MAX} bytes came")));
                }
            }
            Ok(bytes.freeze())
        };
        timeout(self.timeout, reading).await.map_err(|_| self.late())?
    }

    /// That the exchange came to no end.
    pub fn broken(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken { admin: self.admin, reason: reason.to_string() }
    }

    fn patience(&self) -> Duration {
        self.timeout + self.wait.unwrap_or_default()
    }

    fn late(&self) -> ClientError {
        ClientError::Timeout { admin: self.admin, after: self.patience() }
    }
}
