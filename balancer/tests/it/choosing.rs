//! Who gets the next request: what is slow, and what fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::harness::*;
use skep_balancer::core::settings::Settings;
use skep_balancer::pools::backends::{Backend, Kind};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers at once, but for one answer that takes `first`, and counts.
fn equal(first: Duration) -> (Scripted, Arc<AtomicUsize>) {
    let (count, late) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(!first.is_zero()));
    let answered = count.clone();
    let backend = Scripted::start(move |served| {
        while served.head().is_some() {
            if late.swap(false, SeqCst) {
                pause(first);
            }
            answered.fetch_add(1, SeqCst);
            served.send(OK);
        }
    });
    (backend, count)
}

/// That many requests from eight clients at once.
fn load(balancer: &Balancer, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = balancer.client();
                for _ in 0..requests / 8 {
                    client.send(get("/"));
                    client.answer();
                }
            });
        }
    });
}

#[test]
fn one_slow_answer_is_forgiven_within_ten_seconds() {
    let (slow, count) = equal(Duration::from_millis(80));
    let [(second, _), (third, _)] = [equal(Duration::ZERO), equal(Duration::ZERO)];
    let balancer = Balancer::start(&[slow.address, second.address, third.address]);
    while count.load(SeqCst) == 0 {
        load(&balancer, 8);
    }
    let begun = Instant::now();
    loop {
        let before = count.load(SeqCst);
        load(&balancer, 400);
        if count.load(SeqCst) - before > 80 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it gets less than a fifth");
        pause(Duration::from_millis(200));
    }
}

#[test]
fn to_fail_at_once_is_no_way_to_all_traffic() {
    let failing = Scripted::start(|served| {
        while served.head().is_some() {
            served.send("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let slow = Scripted::start(|served| {
        while served.head().is_some() {
            pause(Duration::from_millis(20));
            served.send(OK);
        }
    });
    for (statuses, ejects) in [(vec![502, 503, 504], false), (vec![500], true)] {
        let settings = Settings { failure_statuses: statuses, ..Settings::default() };
        let balancer = Balancer::with(&[], settings);
        let backends = balancer.set(&[failing.address, slow.address], None);
        let mut client = balancer.client();
        let mut failed = 0;
        for _ in 0..200 {
            client.send(get("/"));
            failed += usize::from(client.answer().0.starts_with("HTTP/1.1 500"));
        }
        assert!(failed < 40, "{failed} of 200");
        assert_eq!(backends[0].is_ejected(), ejects);
        assert_eq!(backends[1].stats.failures.load(SeqCst), 0);
    }
}

fn latency(backend: &Backend) -> Duration {
    Duration::from_nanos(backend.latency_ns(Kind::Unsafe) as u64)
}

#[test]
fn how_long_a_client_sends_is_not_how_long_its_backend_takes() {
    const LENGTH: usize = 20_000;
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            served.body(if head.starts_with("POST /long") { LENGTH } else { 2 });
            served.send(OK);
        }
    });
    let balancer = Balancer::start(&[]);
    let backends = balancer.set(&[backend.address], None);
    let mut client = balancer.client();
    let small = "POST /short HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    client.send(small);
    client.answer();
    assert!(latency(&backends[0]) > Duration::ZERO, "a body that was here as a whole is a sample");

    let half = "x".repeat(LENGTH / 2);
    client.send(format!("POST /long HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n{half}"));
    pause(Duration::from_millis(1500));
    client.send(&half);
    client.answer();
    assert!(latency(&backends[0]) < Duration::from_millis(500), "{:?}", latency(&backends[0]));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(balancer.http).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let post = http::Request::post("http://a.test/long").header("content-length", LENGTH).body(());
        let mut sender = sender.ready().await.unwrap();
        let (answer, mut body) = sender.send_request(post.unwrap(), false).unwrap();
        body.send_data(Bytes::from(half.clone()), false).unwrap();
        tokio::task::spawn_blocking(|| pause(Duration::from_millis(1500))).await.unwrap();
        body.send_data(Bytes::from(half.clone()), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    });
    assert!(latency(&backends[0]) < Duration::from_millis(500), "{:?}", latency(&backends[0]));
    client.send(small);
    client.answer();
    assert!(latency(&backends[0]) > Duration::ZERO);
}
