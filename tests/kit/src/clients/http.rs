//! A small HTTP/1.1 client: keep-alive, a time-out for each request, and errors that say whether the
//! request may have been executed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::wait::{PATIENCE, tick};

/// Longer than the server's own deadline (10 s), so that it is the server who gives up first.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

type Sender = SendRequest<Full<Bytes>>;

/// An address and the idle connections to it. Clones share them.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    timeout: Duration,
    idle: Arc<Mutex<Vec<Sender>>>,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// No complete answer came.
#[derive(Debug)]
pub enum Failure {
    /// The request never left this process.
    NotSent(String),
    /// It was sent, in part or whole; it may have been executed.
    Unknown(String),
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the answer if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}) in {} {:?}", self.status, self.text()))
    }

    /// A header's value, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, timeout: REQUEST_TIMEOUT, idle: Arc::default() }
    }

    /// The same address with another time-out and connections of its own.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { address: self.address, timeout, idle: Arc::default() }
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Posts a message in the JSON form.
    pub async fn post_message(&self, message: &str) -> Result<Answer, Failure> {
        let body = serde_json::json!({ "message": message }).to_string();
        self.send(Method::POST, "/messages", &[("content-type", "application/json")], body.into()).await
    }

    /// Posts a message that must be acknowledged; its digest and sequence number. It is named by its content, and so is
    /// sent again where no quorum had it in time: on a busy machine a leader may change at any moment.
    pub async fn put(&self, message: &str) -> (String, u64) {
        let end = Instant::now() + PATIENCE;
        let answer = loop {
            match self.post_message(message).await {
                Ok(answer) if answer.status == 503 && Instant::now() < end => tick().await,
                Ok(answer) => break answer,
                Err(failure) => panic!("POST {message:?} at {}: {failure:?}", self.address),
            }
        };
        assert!(matches!(answer.status, 200 | 201), "POST {message:?} at {}: {answer:?}", self.address);
        let json = answer.json();
        let digest = json["digest"].as_str().expect("an acknowledgement has a digest").to_owned();
        (digest, json["seq"].as_u64().expect("an acknowledgement has a seq"))
    }

    /// One request, on an idle connection where there is one.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body)).expect("the test's request is well formed");

        // A connection that the server closed meanwhile gives the request back.
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match self.exchange(sender, request).await {
                Err((_, Some(unsent))) => request = unsent,
                Err((failure, None)) => return Err(failure),
                Ok(answer) => return Ok(answer),
            }
        }
        let sender = match tokio::time::timeout(self.timeout, self.connect()).await {
            Ok(Ok(sender)) => sender,
            Ok(Err(error)) => return Err(Failure::NotSent(error.to_string())),
            Err(_) => return Err(Failure::NotSent(format!("no connection within {:?}", self.timeout))),
        };
        self.exchange(sender, request).await.map_err(|(failure, _)| failure)
    }

    fn take_idle(&self) -> Option<Sender> {
        self.idle.lock().expect("no holder panics").pop()
    }

    async fn connect(&self) -> std::io::Result<Sender> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        // It ends with the connection; what went wrong shows at the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn exchange(
        &self,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, (Failure, Option<Request<Full<Bytes>>>)> {
        let unknown = |text: String| (Failure::Unknown(text), None);
        let work = async {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => {
                    let unsent = error.take_message();
                    let text = error.into_error().to_string();
                    return Err(match unsent {
                        Some(request) => (Failure::NotSent(text), Some(request)),
                        None => unknown(text),
                    });
                }
            };
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| unknown(error.to_string()))?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let answer = match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result?,
            Err(_) => return Err(unknown(format!("no answer within {:?}", self.timeout))),
        };
        if !sender.is_closed() {
            self.idle.lock().expect("no holder panics").push(sender);
        }
        Ok(answer)
    }
}
