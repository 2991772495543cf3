//! What clients make a balancer hold: memory, by the kernel's account, and places at its backends. By uploads
//! that stop before their end, and by answers that nobody reads.

use std::future::poll_fn;
use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::harness::*;
use crate::http2_streams::request;
use crate::process::{Process, ask};
use skep_balancer::core::settings::Settings;

const RESIDENT_BYTES_MAX: u64 = 150_000_000;
const HONEST_MAX: Duration = Duration::from_secs(1);
const BODY_BYTES: usize = 1 << 20;
/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// An eighth of 512 MiB, as the stack has it.
const REQUEST_MEMORY: &str = "64MiB";

/// Reads whatever comes; answers `/long` with 200 kB and other GETs with two bytes.
fn backend() -> Scripted {
    Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /long") {
                served.send("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n");
                served.send(vec![b'x'; 200_000]);
            } else if head.starts_with("GET") {
                served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            } else {
                let mut piece = vec![0; 64 * 1024];
                while matches!(served.stream.read(&mut piece), Ok(n) if n > 0) {}
            }
        }
    })
}

fn see_what_is_held(balancer: &Process, what: &str) {
    // The slowest of a few: what comes from one core may wait for another.
    for _ in 0..8 {
        let asked = Instant::now();
        let answer = ask(balancer.http, "/honest");
        let took = asked.elapsed();
        assert!(answer.ends_with("ok"), "{what}: {answer}");
        assert!(took < HONEST_MAX, "{what}: an honest request took {took:?}");
    }
    let resident = balancer.resident_bytes();
    println!("measure: resident with {what}: {:.0} MB", resident as f64 / 1e6);
    assert!(resident < RESIDENT_BYTES_MAX, "{what}: {resident} bytes are resident");
}

#[test]
fn stalled_uploads_take_no_more_than_the_account() {
    const UPLOADS: usize = 200;
    let backend = backend();
    let balancer = Process::on_free_ports(backend.address, &["--request-memory", REQUEST_MEMORY]);
    let mut upload =
        format!("PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY_BYTES}\r\n\r\n").into_bytes();
    upload.resize(upload.len() + BODY_BYTES - 1, b'x');
    let held: Vec<Client> = (0..UPLOADS)
        .map(|_| {
            let mut client = Client::connect(balancer.http);
            client.send(&upload);
            client
        })
        .collect();
    see_what_is_held(&balancer, "200 stalled uploads");
    drop(held);
}

#[test]
fn silent_uploads_leave_places_at_the_backends() {
    let backend = backend();
    let settings = Settings { in_flight_max: 4, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let silent: Vec<Client> = (0..10)
        .map(|at| {
            let mut client = balancer.client();
            client.send(if at % 2 == 0 {
                "POST /messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel"
            } else {
                "POST /messages HTTP/1.1\r\nhost: a\r\ncontent-length: 20000\r\n\r\nhel"
            });
            client
        })
        .collect();
    // Those whose length is not known may have some of the places by now, but not all.
    pause(Duration::from_millis(500));
    let asked = Instant::now();
    let answer = balancer.ask(&get_and_close("/"));
    assert!(answer.ends_with("ok"), "{answer}");
    assert!(asked.elapsed() < HONEST_MAX, "{:?}", asked.elapsed());
    assert!(backend.heads().len() <= 3, "half of the places stay free: {:?}", backend.heads());
    drop(silent);
}

/// Opens streams, and for each sends `body` bytes of one more; keeps them open as long as what it gives is kept.
async fn streams(
    address: SocketAddr,
    window: Option<u32>,
    count: usize,
    path: &str,
    body: Option<usize>,
) -> Box<dyn std::any::Any> {
    let io = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    if let Some(window) = window {
        builder.initial_window_size(window);
    }
    let (mut sender, connection) = builder.handshake::<_, Bytes>(io).await.unwrap();
    tokio::spawn(connection);
    let mut held = Vec::new();
    for _ in 0..count {
        sender = sender.ready().await.unwrap();
        let mut asked = request(if body.is_some() { "PUT" } else { "GET" }, path);
        if let Some(body) = body {
            asked.headers_mut().insert("content-length", (body + 1).into());
        }
        let (answer, mut stream) = sender.send_request(asked, body.is_none()).unwrap();
        let mut left = body.unwrap_or(0);
        while left > 0 {
            stream.reserve_capacity(left);
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                panic!("a stream ended with {left} bytes to send")
            };
            let piece = room.min(left);
            stream.send_data(Bytes::from(vec![b'x'; piece]), false).unwrap();
            left -= piece;
        }
        if body.is_none() {
            // Its head comes whatever the window.
            held.push((stream, Some(answer.await.unwrap()), None));
        } else {
            held.push((stream, None, Some(answer)));
        }
    }
    Box::new((held, sender))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_uploads_over_http2_take_no_more_than_the_account() {
    let backend = backend();
    let balancer = Process::on_free_ports(backend.address, &["--request-memory", REQUEST_MEMORY]);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(streams(balancer.http, None, 100, "/x", Some(BODY_BYTES - 1)).await);
    }
    tokio::task::block_in_place(|| see_what_is_held(&balancer, "two HTTP/2 connections of 100 uploads"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_over_closed_windows_take_no_more_than_the_account() {
    let backend = backend();
    let balancer = Process::on_free_ports(backend.address, &["--request-memory", REQUEST_MEMORY]);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(streams(balancer.http, Some(0), 100, "/long", None).await);
    }
    tokio::task::block_in_place(|| {
        see_what_is_held(&balancer, "eight HTTP/2 connections of 100 with closed windows")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_a_client_with_wide_windows_does_not_read_take_no_more_than_the_account() {
    let backend = backend();
    let balancer = Process::on_free_ports(backend.address, &["--request-memory", REQUEST_MEMORY]);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(deaf(balancer.http, 100).await);
    }
    let begun = Instant::now();
    // A listener takes no more than so many connections at once: an honest one is not to wait behind them.
    while backend.heads().len() < 800 {
        assert!(begun.elapsed() < PATIENCE, "{} of 800 have reached the backend", backend.heads().len());
        tokio::task::yield_now().await;
    }
    tokio::task::block_in_place(|| see_what_is_held(&balancer, "eight HTTP/2 connections that do not read"));
}

/// Asks for long answers, opens all windows wide, and reads nothing at all.
async fn deaf(address: SocketAddr, count: u32) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;

    const WINDOW: u32 = 1 << 30;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut settings = vec![0, 4];
    settings.extend(WINDOW.to_be_bytes());
    said.extend(frame(4, 0, 0, &settings));
    said.extend(frame(8, 0, 0, &WINDOW.to_be_bytes()));
    for at in 0..count {
        // :method GET, :scheme http; :path and :authority as they are.
        let mut block = vec![0x82, 0x86, 0x04, 5];
        block.extend(b"/long");
        block.extend([0x01, 6]);
        block.extend(b"a.test");
        said.extend(frame(1, 5, 2 * at + 1, &block));
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(&said).await.unwrap();
    stream
}
