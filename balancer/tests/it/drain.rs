use std::sync::atomic::Ordering;
use std::sync::{Mutex, mpsc};

use crate::harness::*;
use skep_balancer::server::Phase;

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
    while backend.heads().len() < 2 {
        std::thread::yield_now();
    }
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
