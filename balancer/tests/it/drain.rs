//! A balancer that ends: what is told to clients, what still comes in, what is let go.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::harness::*;
use skep_balancer::core::shared::Shared;
use skep_balancer::listen::cores::{Listening, Phase};
use skep_base::listen::bind;
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_vrrp::let_go;

#[test]
fn a_drain_ends_what_is_in_flight_says_close_and_then_is_over() {
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /slow") {
                gate.lock().unwrap().recv().unwrap();
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let (mut slow, mut idle) = (balancer.client(), balancer.client());
    idle.send(get("/"));
    idle.answer();
    slow.send(get("/slow"));
    wait("both are there", || backend.heads().len() >= 2);
    balancer.shared.draining.store(true, Ordering::Relaxed);
    balancer.phase.send_replace(Phase::Draining);
    // A connection that idles may still ask, once.
    idle.send(get("/-/ready"));
    let (head, _) = idle.answer();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("connection: close"), "{head}");
    go_on.send(()).unwrap();
    let (head, body) = slow.answer();
    assert!(head.contains("connection: close") && body == "ok", "{head}");
    assert_eq!(slow.rest(), "");
    drop((slow, idle));
    balancer.join();
}

#[test]
fn idle_connections_are_closed_when_their_grace_is_over() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let (mut fresh, mut used) = (balancer.client(), balancer.client());
    used.send(get("/"));
    used.answer();
    balancer.shared.draining.store(true, Ordering::Relaxed);
    balancer.shared.close_idle.store(true, Ordering::Relaxed);
    balancer.phase.send_replace(Phase::Draining);
    assert_eq!(used.rest(), "");
    assert_eq!(fresh.rest(), "");
    balancer.join();
}

#[test]
fn who_has_the_key_has_connections_let_go_and_later_ones_stay() {
    let backend = Scripted::plain("a");
    let balancer = Balancer::start(&[backend.address]);
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    balancer.shared.let_go.believe(Keys::of_edge(keys.clone().into()).unwrap());
    let mut kept = balancer.client();
    let mut idle = balancer.client();
    for client in [&mut kept, &mut idle] {
        client.send(get("/1"));
        assert!(!client.answer().0.contains("connection: close"));
    }
    let say = |word: &str| {
        let line = format!("connection: close\r\n{}: {word}", let_go::HEADER);
        balancer.ask(&format!("GET /-/ready HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n"))
    };
    assert!(say("1.00").contains("200 OK"), "the question is answered all the same");
    kept.send(get("/2"));
    assert!(!kept.answer().0.contains("connection: close"), "a stranger's word counts for nothing");
    assert!(say(&let_go::words(&keys)[0]).contains("200 OK"));
    // The core hears of it at its next tick.
    loop {
        kept.send(get("/3"));
        let (head, body) = kept.answer();
        assert_eq!(body, "a /3");
        if head.contains("connection: close") {
            break;
        }
    }
    assert_eq!(kept.rest() + &idle.rest(), "", "who asks nothing is let go after a while");
    let mut late = balancer.client();
    late.send(get("/4"));
    assert!(!late.answer().0.contains("connection: close"));
}

#[test]
fn a_socket_that_others_have_is_left_to_them_and_at_another_nobody_begins_any_more() {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let [(http, stays), (https, ends)] = [true, false].map(|stays| {
        let socket = bind(loopback).unwrap();
        (socket.try_clone().unwrap(), Listening { socket, stays })
    });
    let backend = Scripted::plain("b");
    let balancer = Balancer::at(stays, ends, &[backend.address], Shared::default());
    assert!(balancer.ask(&get_and_close("/")).starts_with("HTTP/1.1 200"));
    let (http_address, https_address) = (balancer.http, balancer.https);
    balancer.phase.send_replace(Phase::Draining);
    balancer.join();
    // It is as it was for who serves there next.
    let _client = TcpStream::connect_timeout(&http_address, Duration::from_secs(5)).unwrap();
    wait("it waits there", || http.accept().is_ok());
    let late = TcpStream::connect_timeout(&https_address, Duration::from_millis(100));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    drop(https);
}
