//! TLS on the HTTP port, where it is asked for: who connects proves by the cluster's keys that it belongs here, as
//! a balancer does, and so does this node.
//!
//! One port for both: a connection that begins as TLS does is TLS, and any other is plain HTTP, which is served
//! or refused in words. No tasks; cancel-safe: an opening that is dropped closes its connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use skep_console::server::Door;
use skep_console::{Problem, ProblemKind};
use skep_members::in_force::Keys;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Time for a handshake, once it has begun.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long, and for how much, who is refused is read on.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
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
    keys: Keys,
    takes_plain: bool,
}

impl TlsDoor {
    /// By the keys that are in force as somebody comes.
    pub fn new(keys: Keys, takes_plain: bool) -> Self {
        Self { keys, takes_plain }
    }
}

impl Door for TlsDoor {
    type Stream = Opened;

    fn is_proved(stream: &Opened) -> bool {
        matches!(stream, Opened::Tls(_))
    }

    async fn is_spoken_to(&self, stream: &TcpStream) -> bool {
        matches!(stream.peek(&mut [0]).await, Ok(1))
    }

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
        let acceptor = TlsAcceptor::from(self.keys.now().http.server.clone());
        match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
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
    // It is closed all the same. What was not read would make that a reset, which overtakes the answer.
    let _ = timeout(LINGER, async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let (mut scratch, mut read) = ([0; 4096], 0);
        while read < LINGER_BYTES_MAX {
            match stream.read(&mut scratch).await? {
                0 => break,
                n => read += n,
            }
        }
        io::Result::Ok(())
    })
    .await;
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use skep_console::{Answers, ServeLimits, Stage, serve_behind};
    use skep_members::key::KeyRing;
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio_rustls::TlsConnector;

    use super::*;

    fn keys(line: &str) -> Keys {
        Keys::of_node(KeyRing::parse(line).unwrap().into()).unwrap()
    }

    /// What becomes of one connection, and the client's end of it.
    async fn opening(door: &TlsDoor) -> (tokio::task::JoinHandle<Option<Opened>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let door = door.clone();
        (tokio::spawn(async move { door.open(stream).await }), client)
    }

    #[tokio::test]
    async fn who_has_a_key_is_let_in_and_who_has_another_is_not() {
        let (ours, theirs) = (KeyRing::generate_line(), KeyRing::generate_line());
        let door = TlsDoor::new(keys(&ours), false);
        for (line, is_let_in) in [(&ours, true), (&theirs, false)] {
            let (opened, client) = opening(&door).await;
            let tls = keys(line).now().http.clone();
            let connected = TlsConnector::from(tls.client).connect(tls.server_name, client).await;
            let opened = opened.await.unwrap();
            assert_eq!((connected.is_ok(), matches!(opened, Some(Opened::Tls(_)))), (is_let_in, is_let_in));
        }
    }

    #[tokio::test]
    async fn plain_http_is_served_or_refused_in_words() {
        let line = KeyRing::generate_line();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let (opened, mut client) = opening(&TlsDoor::new(keys(&line), true)).await;
        client.write_all(request).await.unwrap();
        assert!(matches!(opened.await.unwrap(), Some(Opened::Plain(_))));
        let (opened, mut client) = opening(&TlsDoor::new(keys(&line), false)).await;
        client.write_all(request).await.unwrap();
        assert!(opened.await.unwrap().is_none());
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("--http-tls"), "{answer}");
    }

    #[tokio::test]
    async fn who_says_nothing_is_waited_for_and_who_leaves_is_not() {
        let (opened, client) = opening(&TlsDoor::new(keys(&KeyRing::generate_line()), true)).await;
        let mut opened = opened;
        assert!(timeout(Duration::from_millis(100), &mut opened).await.is_err(), "it waits");
        drop(client);
        assert!(opened.await.unwrap().is_none());
    }

    #[derive(Clone)]
    struct Hello;

    impl Answers for Hello {
        type Body = Full<Bytes>;

        async fn respond(&self, _: Request<Incoming>, _: Instant) -> Response<Self::Body> {
            Response::new(Full::new("hello".into()))
        }
    }

    #[tokio::test]
    async fn who_has_said_nothing_holds_no_stop_and_who_has_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = TlsDoor::new(keys(&KeyRing::generate_line()), true);
        let (stop, stages) = watch::channel(Stage::Serving);
        let limits = ServeLimits { stop_timeout: Duration::from_secs(60), ..ServeLimits::default() };
        let serving = tokio::spawn(serve_behind(door, listener, Hello, limits, stages));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        stop.send_replace(Stage::Stopping);
        // Sooner than its time to stop is over.
        timeout(Duration::from_secs(20), serving).await.expect("a silent connection holds it").unwrap();
        assert_eq!(silent.read(&mut answer).await.unwrap(), 0);
    }
}
