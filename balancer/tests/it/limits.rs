//! What one client may take: connections, requests, time.

use std::time::{Duration, Instant};

use crate::harness::*;
use skep_balancer::core::settings::{Network, Settings};

const SHORT: Duration = Duration::from_millis(100);
/// Longer than a busy machine keeps a client from its next word.
const PATIENT: Duration = Duration::from_secs(2);

#[test]
fn a_slow_head_is_answered_with_408_and_an_idle_connection_closed_without_a_word() {
    let settings = Settings { head_timeout: PATIENT, idle_timeout: PATIENT, ..Settings::default() };
    let balancer = Balancer::with(&[], settings);
    let mut client = balancer.client();
    client.send("GET / HTTP/1.1\r\nhost:");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    assert_eq!(balancer.client().rest(), "");
    let mut client = balancer.client();
    client.send(get("/"));
    client.answer();
    assert_eq!(client.rest(), "");
}

#[test]
fn a_slow_body_is_answered_with_408_and_reaches_no_backend() {
    let backend = Scripted::plain("b");
    let balancer =
        Balancer::with(&[backend.address], Settings { body_timeout: SHORT, ..Settings::default() });
    let answer = balancer.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(backend.heads().is_empty());
}

#[test]
fn a_body_that_is_too_large_is_refused_by_its_length_or_as_it_comes() {
    let backend = Scripted::start(|served| {
        served.head();
        served.head();
    });
    let balancer = Balancer::with(&[backend.address], Settings { body_bytes_max: 10, ..Settings::default() });
    let by_length = balancer.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n");
    assert!(by_length.starts_with("HTTP/1.1 413"), "{by_length}");
    let as_it_comes = balancer
        .ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n");
    assert!(as_it_comes.starts_with("HTTP/1.1 413"), "{as_it_comes}");
}

#[test]
fn a_backend_that_takes_too_long_is_answered_for_with_504() {
    let backend = Scripted::start(|served| {
        served.head();
        served.head();
    });
    let balancer =
        Balancer::with(&[backend.address], Settings { request_timeout: SHORT, ..Settings::default() });
    let answer = balancer.ask(&get_and_close("/"));
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
}

#[test]
fn a_full_backend_is_waited_for_and_a_full_queue_is_not() {
    let settings = Settings {
        in_flight_max: 1,
        queue_max: 1,
        queue_timeout: Duration::from_secs(10),
        ..Settings::default()
    };
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /slow") {
                let _ = gate.lock().unwrap().recv();
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let balancer = Balancer::with(&[backend.address], settings);
    let mut first = balancer.client();
    first.send(get("/slow"));
    wait("the backend has the request", || !backend.heads().is_empty());
    let mut second = balancer.client();
    second.send(get("/"));
    wait("the second waits", || balancer.stats.waiting.get() > 0);
    let begun = Instant::now();
    let third = balancer.ask(&get_and_close("/"));
    assert!(third.starts_with("HTTP/1.1 503") && third.contains("retry-after"), "{third}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    open.send(()).unwrap();
    assert_eq!(first.answer().1, "ok");
    assert_eq!(second.answer().1, "ok");
}

#[test]
fn a_connection_too_many_is_told_so() {
    let backend = Scripted::plain("b");
    let settings = Settings { connections_per_client_max: 1, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let mut first = balancer.client();
    first.send(get("/1"));
    first.answer();
    assert!(balancer.client().until("\r\n\r\n").starts_with("HTTP/1.1 503"));
    first.send(get("/2"));
    assert_eq!(first.answer().1, "b /2");
}

#[test]
fn a_balancer_that_is_full_says_that_it_is_ready_and_takes_no_other_request() {
    let backend = Scripted::plain("b");
    for settings in [
        Settings { connections_max: 1, ..Settings::default() },
        Settings { connections_per_client_max: 1, ..Settings::default() },
    ] {
        let balancer = Balancer::with(&[backend.address], settings);
        let mut only = balancer.client();
        only.send(get("/1"));
        only.answer();
        for _ in 0..40 {
            let answer = balancer.ask(&get("/-/ready"));
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ready\n"), "{answer}");
        }
        let refused = balancer.ask(&get("/2"));
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too many"), "{refused}");
        assert_eq!(balancer.stats.rejected.get(), 1);
        only.send(get("/3"));
        assert_eq!(only.answer().1, "b /3");
    }
}

#[test]
fn the_clients_of_a_trusted_proxy_have_their_limits_and_not_the_proxy() {
    let backend = Scripted::plain("b");
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    let settings =
        Settings { trusted, proxy_protocol: true, connections_per_client_max: 1, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let of = |client: &str| {
        let mut connection = balancer.client();
        connection.send(format!("PROXY TCP4 {client} 192.0.2.200 5 80\r\n{}", get("/")));
        let head = connection.until("\r\n\r\n");
        (head.starts_with("HTTP/1.1 200"), connection)
    };
    let (first, second) = (of("192.0.2.1"), of("192.0.2.2"));
    assert!(first.0 && second.0);
    assert!(!of("192.0.2.2").0, "it has one already");
    drop(second);
    wait("its place is given back", || of("192.0.2.2").0);
}

#[test]
fn a_trusted_proxy_says_whom_it_speaks_for() {
    let backend = Scripted::plain("b");
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    let settings = Settings { trusted, proxy_protocol: true, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    balancer.ask(&format!("PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n{}", get_and_close("/")));
    assert!(backend.heads()[0].contains("x-forwarded-for: 192.0.2.1\r\n"));
    assert_eq!(balancer.ask(&get_and_close("/")), "", "without the header it is nobody");
}
