//! HTTP/2 from clients, over TLS and without: requests, limits, what is refused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::*;

/// Takes any certificate: what is tested is not whose it is.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client that believes everybody, and remembers sessions.
pub fn client(alpn: &[u8]) -> Arc<rustls::ClientConfig> {
    client_of(alpn, rustls::DEFAULT_VERSIONS)
}

/// The same of some versions of TLS.
pub fn client_of(
    alpn: &[u8],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

pub async fn tls(address: SocketAddr, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(client(alpn)).connect(name, stream).await.unwrap()
}

/// The certificate that a server shows.
pub fn certificate(address: SocketAddr) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tls(address, b"h2").await;
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    })
}

pub type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

pub async fn h2(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<Body> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn full(body: &'static str) -> Body {
    Full::new(Bytes::from_static(body.as_bytes())).boxed()
}

pub fn request(method: &str, path: &str, body: Body) -> http::Request<Body> {
    http::Request::builder().method(method).uri(format!("http://a.test{path}")).body(body).unwrap()
}

fn echo() -> Scripted {
    Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.contains("transfer-encoding: chunked") {
                let body = served.until("0\r\n\r\n");
                served.send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
                continue;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body = served.body(length.map_or(0, |text| text.parse().unwrap()));
            served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_plain_port() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    let mut sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    for _ in 0..3 {
        let answer = sender.send_request(request("POST", "/messages?x", full("hello"))).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["via"], "1.1 skep");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
    let head = backend.heads().remove(0);
    assert!(head.starts_with("POST /messages?x HTTP/1.1\r\nhost: a.test\r\n"), "{head}");
    assert!(head.contains("content-length: 5\r\n"), "{head}");
    assert_eq!(balancer.stats.http2_requests.get(), 3);
}

#[tokio::test]
async fn a_body_of_unknown_length_and_its_answer_pass_as_they_come() {
    let backend = Scripted::start(|served| {
        served.head();
        served.until("hello\r\n");
        served.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
        served.until("world\r\n0\r\n\r\n");
        served.send("3\r\ntwo\r\n0\r\nx-sum: 7\r\n\r\n");
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    let (frames, incoming) = tokio::sync::mpsc::channel::<Frame<Bytes>>(4);
    let stream = futures_util::stream::unfold(incoming, |mut incoming| async move {
        incoming.recv().await.map(|frame| (Ok::<_, Infallible>(frame), incoming))
    });
    frames.send(Frame::data(Bytes::from_static(b"hello"))).await.unwrap();
    let sent = sender.send_request(request(
        "POST",
        "/",
        BodyExt::boxed(StreamBody::new(Box::pin(stream).into_sync())),
    ));
    let mut answer = sent.await.unwrap();
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "one");
    frames.send(Frame::data(Bytes::from_static(b"world"))).await.unwrap();
    drop(frames);
    let rest = answer.into_body().collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["x-sum"], "7");
    assert_eq!(rest.to_bytes(), "two");
}

/// A stream that only one task ever polls is as good as shared.
trait IntoSync: Sized {
    fn into_sync(self) -> SyncStream<Self>;
}

impl<S> IntoSync for S {
    fn into_sync(self) -> SyncStream<S> {
        SyncStream(std::sync::Mutex::new(self))
    }
}

struct SyncStream<S>(std::sync::Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        std::pin::Pin::new(&mut *self.0.lock().unwrap()).poll_next(cx)
    }
}

#[tokio::test]
async fn a_large_answer_passes_whole_and_many_streams_share_a_connection() {
    const LENGTH: usize = 3_000_000;
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            let body = "x".repeat(LENGTH);
            served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{body}"));
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    let asks = (0..8).map(|i| {
        let mut sender = sender.clone();
        async move {
            let answer = sender.send_request(request("GET", &format!("/{i}"), full(""))).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes().len()
        }
    });
    assert_eq!(futures_util::future::join_all(asks).await, [LENGTH; 8]);
}

#[tokio::test]
async fn an_ambiguous_request_is_refused_and_the_balancers_own_path_answered() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    let mut sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    let mut odd = request("GET", "/", full(""));
    odd.headers_mut().insert("host", "b.test".parse().unwrap());
    assert_eq!(sender.send_request(odd).await.unwrap().status(), 400);
    let ready = sender.send_request(request("GET", "/-/ready", full(""))).await.unwrap();
    assert_eq!(ready.into_body().collect().await.unwrap().to_bytes(), "ready\n");
    balancer.set(&[], None);
    let none = sender.send_request(request("GET", "/", full(""))).await.unwrap();
    assert_eq!((none.status().as_u16(), &none.headers()["skep-unprocessed"]), (503, &"1".parse().unwrap()));
    assert_eq!(none.headers()["cache-control"], "no-store");
    assert!(none.headers().contains_key("date"));
    assert!(backend.heads().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_cut_resets_the_stream() {
    let (cut, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        gate.lock().unwrap().recv().unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    // A client may see a reset before it looks at the head: the head is waited for.
    let answer = sender.send_request(request("GET", "/", full(""))).await.unwrap();
    cut.send(()).unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn https_speaks_what_alpn_chose() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    let mut sender = h2(tls(balancer.https, b"h2").await).await;
    let answer = sender.send_request(request("POST", "/", full("over h2"))).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "over h2");

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tls(balancer.https, b"http/1.1").await;
    let post = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    stream.write_all(post).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    assert!(backend.heads()[1].contains("proto=https"));
    assert_eq!(balancer.stats.tls_handshakes.get(), 2);
}

#[tokio::test]
async fn an_answer_that_changes_the_protocol_unasked_is_a_502_and_others_say_when_and_how_they_came() {
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /changes") {
                served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
            } else {
                served.send("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    let changes = sender.send_request(request("GET", "/changes", full(""))).await.unwrap();
    assert_eq!(changes.status(), 502);
    let plain = sender.send_request(request("GET", "/", full(""))).await.unwrap();
    assert_eq!((plain.status().as_u16(), plain.headers()["via"].as_bytes()), (200, &b"1.0 skep"[..]));
    assert!(plain.headers().contains_key("date"));
}
