//! TLS on the HTTP port, where it is asked for: who connects proves by the cluster's keys that it belongs here, as
//! a balancer does, and so does this node.
//!
//! One port for both: a connection that begins as TLS does is TLS, and any other is plain HTTP, which is served
//! or refused in words. No tasks; cancel-safe: an opening that is dropped closes its connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use skep_console::server::Door;
use skep_console::{Problem, ProblemKind};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Time for a handshake, once it has begun.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a TLS connection begins with: a record of a handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What the HTTP port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpTls {
    /// Plain HTTP alone.
    Off,
    /// Both.
    Also,
    /// TLS alone.
    Only,
}

impl HttpTls {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "also" => Ok(Self::Also),
            "only" => Ok(Self::Only),
            _ => Err(format!("{text:?} is none of off, also, only")),
        }
    }
}

/// Lets in who shows a certificate of the cluster's, and who speaks plain HTTP where that is taken.
#[derive(Clone)]
pub struct TlsDoor {
    acceptor: TlsAcceptor,
    takes_plain: bool,
}

impl TlsDoor {
    pub fn new(config: Arc<rustls::ServerConfig>, takes_plain: bool) -> Self {
        Self { acceptor: config.into(), takes_plain }
    }
}

impl Door for TlsDoor {
    type Stream = Opened;

    async fn open(&self, mut stream: TcpStream) -> Option<Opened> {
        let mut first = [0];
        if !matches!(stream.peek(&mut first).await, Ok(1)) {
            return None;
        }
        if first[0] != TLS_HANDSHAKE {
            if self.takes_plain {
                return Some(Opened::Plain(stream));
            }
            refuse(&mut stream).await;
            return None;
        }
        let from = stream.peer_addr();
        match timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(Opened::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(?from, %error, "no TLS on the HTTP port");
                None
            }
            Err(_) => None,
        }
    }
}

/// Says what is spoken here to who asked in plain HTTP.
async fn refuse(stream: &mut TcpStream) {
    let detail = "this port speaks TLS with the cluster's keys alone (--http-tls): ask a balancer";
    let body = Problem::new(ProblemKind::MalformedRequest, detail).document();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), &body].concat();
    // It is closed all the same.
    let _ = timeout(HANDSHAKE_TIMEOUT, stream.write_all(&answer)).await;
    let _ = stream.shutdown().await;
}

/// A connection that was let in.
#[derive(Debug)]
pub enum Opened {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Opened {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Opened {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
