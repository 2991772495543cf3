//! How TLS ends: in order with a close_notify, and without one where something was cut (RFC 8446, 6.1).

use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skep_balancer::core::settings::Settings;
use skep_balancer::listen::http2::PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::*;
use crate::http2::tls;

/// Longer than a busy machine takes for a handshake and a request.
const IMPATIENCE: Duration = Duration::from_secs(2);
/// SETTINGS with nothing in it.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn impatient() -> Settings {
    Settings { head_timeout: IMPATIENCE, idle_timeout: IMPATIENCE, ..Settings::default() }
}

async fn answered(stream: &mut TlsStream<TcpStream>, target: &str) {
    stream.write_all(get(target).as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(target.as_bytes()) {
        seen.push(stream.read_u8().await.unwrap());
    }
}

/// What comes until the other side says that this is all; an error, where it does not say so.
async fn rest(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.map(|_| bytes)
}

#[tokio::test]
async fn a_connection_that_idles_ends_in_order() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::with(&[backend.address], impatient());
    let mut stream = tls(balancer.https, b"http/1.1").await;
    answered(&mut stream, "/x").await;
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    // One that says nothing at all, too, by either protocol.
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let mut stream = tls(balancer.https, alpn).await;
        assert_eq!(rest(&mut stream).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn a_connection_that_is_drained_ends_in_order() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let mut stream = tls(balancer.https, b"http/1.1").await;
    answered(&mut stream, "/x").await;
    balancer.shared.draining.store(true, Ordering::Relaxed);
    balancer.shared.close_idle.store(true, Ordering::Relaxed);
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
}

#[tokio::test]
async fn who_closes_is_answered_in_kind() {
    let balancer = Balancer::start(&[]);
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let mut stream = tls(balancer.https, alpn).await;
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn an_http2_client_that_hears_no_goodbye_gets_one_all_the_same() {
    let balancer = Balancer::with(&[], impatient());
    let mut stream = tls(balancer.https, b"h2").await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    // Nothing is acknowledged, no ping answered.
    let frames = rest(&mut stream).await.unwrap();
    assert!(frames.len() > SETTINGS.len());
}

#[tokio::test]
async fn an_answer_that_is_cut_ends_without_a_goodbye() {
    let (cut, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        gate.lock().unwrap().recv().unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut stream = tls(balancer.https, b"http/1.1").await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"half") {
        seen.push(stream.read_u8().await.unwrap());
    }
    cut.send(()).unwrap();
    let kind = rest(&mut stream).await.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{kind:?}");
}
