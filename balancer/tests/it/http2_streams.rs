//! What only HTTP/2 has: streams that are reset, interim answers in frames, WebSockets on a stream,
//! and connections that say goodbye.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use skep_balancer::core::settings::Settings;
use skep_balancer::listen::cores::Phase;
use tokio::net::TcpStream;

use crate::harness::*;

pub async fn connect(address: SocketAddr) -> (SendRequest<Bytes>, Connection<TcpStream, Bytes>) {
    let stream = TcpStream::connect(address).await.unwrap();
    h2::client::handshake(stream).await.unwrap()
}

pub fn request(method: &str, path: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri(format!("http://a.test{path}")).body(()).unwrap()
}

async fn body(mut stream: h2::RecvStream) -> String {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn interim_answers_pass_and_an_expectation_is_met() {
    let backend = Scripted::start(|served| {
        let head = served.head().unwrap();
        assert!(head.contains("expect: 100-continue"), "{head}");
        served.send("HTTP/1.1 100 Continue\r\n\r\n");
        served.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        let body = served.body(5);
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}"));
    });
    let balancer = Balancer::start(&[backend.address]);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut post = request("POST", "/");
    post.headers_mut().insert("expect", "100-continue".parse().unwrap());
    post.headers_mut().insert("content-length", "5".parse().unwrap());
    let mut sender = sender.ready().await.unwrap();
    let (mut answer, mut stream) = sender.send_request(post, false).unwrap();
    let first = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!(first.status(), 100);
    let second = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!((second.status().as_u16(), &second.headers()["link"]), (103, &"</a>".parse().unwrap()));
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(body(answer.into_body()).await, "hello");
}

#[tokio::test]
async fn an_extended_connect_carries_a_websocket() {
    let backend = Scripted::start(|served| {
        let head = served.head().unwrap();
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: ") && head.contains("sec-websocket-version: 13"), "{head}");
        served.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: x\r\nsec-websocket-protocol: chat\r\n\r\nfirst",
        );
        assert_eq!(served.body(4), "ping");
        served.send("pong");
        // Its end passes, too.
        let mut rest = Vec::new();
        served.stream.read_to_end(&mut rest).unwrap();
        served.stream.write_all(&rest).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut connect = request("CONNECT", "/chat");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    connect.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    let (answer, mut stream) = sender.send_request(connect, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["sec-websocket-protocol"]),
        (200, &"chat".parse().unwrap())
    );
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    let mut incoming = answer.into_body();
    assert_eq!(incoming.data().await.unwrap().unwrap(), "first");
    stream.send_data(Bytes::from_static(b"ping"), false).unwrap();
    assert_eq!(incoming.data().await.unwrap().unwrap(), "pong");
    stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
    assert_eq!(body(incoming).await, "bye");
}

#[tokio::test]
async fn an_extended_connect_that_is_answered_as_a_plain_get_has_not_worked_and_is_no_fault_of_the_backend() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[]);
    let backends = balancer.set(&[backend.address], None);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    // The client chose where to ask: it is not to have anybody ejected by that.
    for _ in 0..10 {
        let mut connect = request("CONNECT", "/chat");
        connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, _stream) = sender.send_request(connect, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 502);
        sender = sender.ready().await.unwrap();
    }
    assert_eq!(backends[0].stats.failures.load(SeqCst), 0);
    assert!(!backends[0].is_ejected());
    let mut connect = request("CONNECT", "/chat");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    connect.headers_mut().insert("content-length", "5".parse().unwrap());
    let (answer, _stream) = sender.send_request(connect, false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_plain_connect_is_refused() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let connect = http::Request::builder().method("CONNECT").uri("a.test:443").body(()).unwrap();
    let (answer, _stream) = sender.send_request(connect, false).unwrap();
    assert!(matches!(answer.await.map(|answer| answer.status().as_u16()), Ok(400 | 501)));
    assert!(backend.heads().is_empty());
}

#[tokio::test]
async fn a_stream_that_its_client_resets_ends_at_the_backend() {
    let (gone, ended) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let backend = Scripted::start(move |served| {
        served.head();
        let mut rest = Vec::new();
        let _ = served.stream.read_to_end(&mut rest);
        gone.lock().unwrap().send(()).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut stream) = sender.send_request(request("GET", "/slow"), true).unwrap();
    wait_async("the backend has the request", || !backend.heads().is_empty()).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(answer);
    let ended = tokio::task::spawn_blocking(move || ended.recv_timeout(Duration::from_secs(10)));
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_says_goaway_and_open_streams_end_in_order() {
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        gate.lock().unwrap().recv().unwrap();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let balancer = Balancer::start(&[backend.address]);
    let (sender, connection) = connect(balancer.http).await;
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request("GET", "/slow"), true).unwrap();
    wait_async("the backend has the request", || !backend.heads().is_empty()).await;
    balancer.shared.draining.store(true, Ordering::Relaxed);
    balancer.phase.send_replace(Phase::Draining);
    go_on.send(()).unwrap();
    assert_eq!(body(answer.await.unwrap().into_body()).await, "ok");
    // The balancer closes; a client that was told so sees no error.
    connection.await.unwrap().unwrap();
    tokio::task::spawn_blocking(|| balancer.join()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_idles_too_long_is_told_goodbye() {
    let backend = Scripted::plain("b");
    // Longer than a busy machine keeps a client from its request.
    let settings = Settings { idle_timeout: Duration::from_secs(2), ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let (sender, connection) = connect(balancer.http).await;
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request("GET", "/x"), true).unwrap();
    assert_eq!(body(answer.await.unwrap().into_body()).await, "b /x");
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_open_its_window_holds_the_backend_back() {
    const LENGTH: usize = 50_000_000;
    let (report, sent) = mpsc::channel();
    let report = std::sync::Mutex::new(report);
    let backend = Scripted::start(move |served| {
        served.head();
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"));
        served.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (piece, mut sent) = ([b'x'; 65536], 0);
        while let Ok(n) = served.stream.write(&piece) {
            sent += n;
        }
        report.lock().unwrap().send(sent).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request("GET", "/x"), true).unwrap();
    let answer = answer.await.unwrap();
    let sent = tokio::task::spawn_blocking(move || sent.recv().unwrap()).await.unwrap();
    assert!(sent < 20_000_000, "{sent} bytes were taken from the backend");
    drop(answer);
}
