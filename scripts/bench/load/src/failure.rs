//! Why a request failed, and what that is counted as.

use std::borrow::Cow;
use std::io;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Io(io::Error),
    #[error("the server closed the connection before it answered")]
    Closed,
    #[error("no answer in time")]
    Timeout,
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("gRPC status {0}")]
    Grpc(u16),
    #[error("the server ended the stream or the connection with HTTP/2 error {0}")]
    Http2(u32),
    #[error("the answer is not what it should be: {0}")]
    Protocol(&'static str),
    #[error("the answer is not the message that was put")]
    Wrong,
}

impl Failure {
    /// What it is counted as.
    pub fn kind(&self) -> Cow<'static, str> {
        match self {
            Failure::Connect(_) => "connect".into(),
            Failure::Io(_) => "io".into(),
            Failure::Closed => "closed".into(),
            Failure::Timeout => "timeout".into(),
            Failure::Status(status) => format!("status-{status}").into(),
            Failure::Grpc(status) => format!("grpc-{status}").into(),
            Failure::Http2(_) => "http2".into(),
            Failure::Protocol(_) => "protocol".into(),
            Failure::Wrong => "wrong-answer".into(),
        }
    }

    /// Whether the connection may be used again.
    pub fn keeps_connection(&self) -> bool {
        matches!(self, Failure::Status(_) | Failure::Grpc(_) | Failure::Wrong)
    }
}
