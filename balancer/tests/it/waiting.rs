//! Who is waited for, and what becomes of a request that waits too long for whom.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::harness::*;
use skep_balancer::core::settings::Settings;

const SHORT: Duration = Duration::from_millis(200);
/// Longer than a busy machine keeps anybody from going on.
const ENOUGH: Duration = Duration::from_secs(3);
/// No limit of a test comes near it.
const LONG: Duration = Duration::from_secs(15);

/// Ends the connection as a process that is killed with unread bytes does.
fn reset(client: Client) {
    socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A backend that says once each of its requests has ended without an answer.
fn waits_for_the_end() -> (Scripted, mpsc::Receiver<()>) {
    let (gone, ended) = mpsc::channel();
    let gone = Mutex::new(gone);
    let backend = Scripted::start(move |served| {
        served.head();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut served.stream, &mut rest);
        let _ = gone.lock().unwrap().send(());
    });
    (backend, ended)
}

#[test]
fn a_backend_that_does_not_read_is_the_one_that_failed() {
    const LENGTH: usize = 40_000_000;
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        let _ = gate.lock().unwrap().recv();
    });
    let settings = Settings { request_timeout: ENOUGH, body_timeout: LONG, ..Settings::default() };
    let balancer = Balancer::with(&[], settings);
    let backends = balancer.set(&[backend.address], None);
    let mut client = balancer.client();
    let writing = uploading(&client, LENGTH);
    let answer = client.until("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert_eq!(backends[0].stats.failures.load(Ordering::SeqCst), 1);
    drop(open);
    drop(client);
    let _ = writing.join();
}

#[test]
fn events_may_begin_long_after_their_head() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        served
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        let _ = gate.lock().unwrap().recv();
        served.send("9\r\ndata: 1\n\n\r\n0\r\n\r\n");
    });
    let settings = Settings { body_timeout: SHORT, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let mut client = balancer.client();
    client.send(get("/events"));
    client.until("\r\n\r\n");
    pause(5 * SHORT);
    open.send(()).unwrap();
    client.until("data: 1\n\n\r\n0\r\n\r\n");
}

#[test]
fn a_body_that_trickles_ends_with_its_time_and_one_that_moves_does_not() {
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(1000);
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let settings =
        |rate_min| Settings { request_timeout: ENOUGH, body_timeout: LONG, rate_min, ..Settings::default() };
    // A thousand bytes in about five seconds, a tenth of them in each of ten pieces.
    let send = |balancer: &Balancer| {
        let mut client = balancer.client();
        let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n";
        client.send(format!("{head}{}", "x".repeat(100)));
        for _ in 1..10 {
            pause(ENOUGH / 5);
            if std::io::Write::write_all(&mut client.0, &[b'x'; 100]).is_err() {
                break;
            }
        }
        client.rest_or_reset()
    };
    let slow = send(&Balancer::with(&[backend.address], settings(1_000_000)));
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert!(backend.heads().is_empty());
    let moves = send(&Balancer::with(&[backend.address], settings(10)));
    assert!(moves.starts_with("HTTP/1.1 200"), "{moves}");
}

#[test]
fn a_client_that_is_gone_before_its_answer_begins_is_noticed() {
    let (backend, ended) = waits_for_the_end();
    let balancer = Balancer::start(&[]);
    let backends = balancer.set(&[backend.address], None);
    let mut client = balancer.client();
    client.send(get("/slow"));
    wait("the backend has the request", || !backend.heads().is_empty());
    reset(client);
    ended.recv_timeout(Duration::from_secs(10)).expect("the backend is let go");
    wait("its place is free again", || backends[0].stats.outstanding.load(Ordering::SeqCst) == 0);
    assert_eq!(backends[0].stats.failures.load(Ordering::SeqCst), 0);
}

#[test]
fn a_client_that_is_gone_leaves_the_queue() {
    let (backend, _ended) = waits_for_the_end();
    let settings = Settings { in_flight_max: 1, queue_timeout: LONG, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let (mut first, mut second) = (balancer.client(), balancer.client());
    first.send(get("/slow"));
    wait("the backend has the request", || !backend.heads().is_empty());
    second.send(get("/waits"));
    wait("the second waits", || balancer.stats.waiting.get() > 0);
    reset(second);
    wait("it waits no more", || balancer.stats.waiting.get() == 0);
}

#[test]
fn a_client_that_has_closed_its_sending_side_gets_all_of_its_answer() {
    let backend = Scripted::start(|served| {
        served.head();
        pause(SHORT);
        served.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        pause(SHORT);
        served.send("6\r\n world\r\n0\r\n\r\n");
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(get("/"));
    client.0.shutdown(Shutdown::Write).unwrap();
    let answer = client.rest();
    assert!(answer.ends_with("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn what_comes_behind_a_request_that_waits_is_the_next_request() {
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            pause(SHORT);
            let target = head.split(' ').nth(1).unwrap().to_owned();
            served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len()));
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(get("/1"));
    // It comes while the answer is waited for, and is read then.
    pause(SHORT / 2);
    client.send(get_and_close("/2"));
    assert_eq!(client.answer().1, "/1");
    assert_eq!(client.answer().1, "/2");
}

#[test]
fn a_backend_that_does_not_ask_for_what_is_expected_is_the_one_that_failed() {
    let (backend, _ended) = waits_for_the_end();
    let settings = Settings { request_timeout: ENOUGH, body_timeout: LONG, ..Settings::default() };
    let balancer = Balancer::with(&[], settings);
    let backends = balancer.set(&[backend.address], None);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let answer = client.until("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert_eq!(backends[0].stats.failures.load(Ordering::SeqCst), 1);
}

#[test]
fn an_answer_goes_on_beside_a_body_that_is_open() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        let _ = gate.lock().unwrap().recv();
        served.send("6\r\n world\r\n0\r\n\r\n");
    });
    let settings = Settings { request_timeout: ENOUGH, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    client.until("hello\r\n");
    pause(2 * ENOUGH);
    open.send(()).unwrap();
    client.until("6\r\n world\r\n0\r\n\r\n");
}

#[test]
fn a_backend_that_takes_a_body_for_too_long_is_the_one_that_failed() {
    const LENGTH: usize = 40_000_000;
    let backend = Scripted::start(|served| {
        served.head();
        let mut piece = vec![0; 64 * 1024];
        while std::io::Read::read(&mut served.stream, &mut piece).is_ok_and(|n| n > 0) {
            pause(SHORT / 4);
        }
    });
    let settings = Settings { upload_timeout: ENOUGH, body_timeout: LONG, ..Settings::default() };
    let balancer = Balancer::with(&[], settings);
    let backends = balancer.set(&[backend.address], None);
    let mut client = balancer.client();
    let writing = uploading(&client, LENGTH);
    let answer = client.until("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert_eq!(backends[0].stats.failures.load(Ordering::SeqCst), 1);
    drop(client);
    let _ = writing.join();
}
