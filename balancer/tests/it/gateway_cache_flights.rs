//! Answers that are fetched for several: how often a service is asked, and who is freed.

use std::io::Read;
use std::sync::{Mutex, mpsc};

use crate::gateway_cache::{DOCUMENT, asking, body, status};
use crate::harness::*;

/// A service that says when it was asked, and answers when it is told to.
fn gated(answer: &'static str) -> (Balancer, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((asked, is_asked), (go, may)) = (mpsc::channel(), mpsc::channel());
    let (asked, may) = (Mutex::new(asked), Mutex::new(may));
    let app = Scripted::start(move |served| {
        while served.head().is_some() {
            let _ = asked.lock().unwrap().send(());
            let _ = may.lock().unwrap().recv();
            served.send(answer);
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    (balancer, is_asked, go)
}

const STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nbody";

#[test]
fn for_many_who_want_the_same_it_is_fetched_once_and_also_where_the_first_leaves() {
    let (balancer, asked, go) = gated(STORED);
    let mut first = balancer.client();
    first.send(get("/x"));
    asked.recv().unwrap();
    let mut clients: Vec<Client> = (0..100).map(|_| balancer.client()).collect();
    clients.iter_mut().for_each(|client| client.send(get("/x")));
    wait("all wait", || balancer.stats.cache_collapsed.get() == 100);
    drop(first);
    go.send(()).unwrap();
    for client in &mut clients {
        assert_eq!(client.answer().1, "body");
    }
    assert!(asked.try_recv().is_err(), "it was asked once");
}

#[test]
fn who_waits_is_freed_where_the_answer_is_of_the_first_alone() {
    let (balancer, asked, go) = gated(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nset-cookie: a=b\r\ncontent-length: 4\r\n\r\nbody",
    );
    let mut clients: Vec<Client> = (0..5).map(|_| balancer.client()).collect();
    clients[0].send(get("/x"));
    asked.recv().unwrap();
    clients[1..].iter_mut().for_each(|client| client.send(get("/x")));
    wait("all wait", || balancer.stats.cache_collapsed.get() == 4);
    (0..5).for_each(|_| go.send(()).unwrap());
    for client in &mut clients {
        assert!(client.answer().0.contains("set-cookie"));
    }
    assert_eq!(asked.try_iter().count(), 4, "each has its own");
}

#[test]
fn what_was_asked_before_it_was_changed_is_not_stored_after_that() {
    let ((asked, is_asked), (go, may)) = (mpsc::channel(), mpsc::channel::<()>());
    let (asked, may) = (Mutex::new(asked), Mutex::new(may));
    let app = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET") {
                let _ = asked.lock().unwrap().send(());
                let _ = may.lock().unwrap().recv();
            }
            served.send(STORED);
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let mut reader = balancer.client();
    reader.send(get("/x"));
    is_asked.recv().unwrap();
    assert_eq!(status(&balancer.ask(&asking("/x", "").replace("GET", "DELETE"))), "200");
    go.send(()).unwrap();
    assert_eq!(reader.answer().1, "body", "who asked has it");
    go.send(()).unwrap();
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body");
    is_asked.recv().unwrap();
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body");
    assert!(is_asked.try_recv().is_err(), "what was asked after it is stored");
}

#[test]
fn a_client_that_reads_nothing_keeps_nobody_waiting() {
    const BYTES: usize = 3 << 20;
    let app = Scripted::start(|served| {
        while served.head().is_some() {
            served.send(format!(
                "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: {BYTES}\r\n\r\n"
            ));
            served.send(vec![b'x'; BYTES]);
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let mut slow = balancer.client();
    slow.send(get("/x"));
    slow.until("\r\n\r\n");
    let mut quick = balancer.client();
    quick.send(asking("/x", ""));
    assert_eq!(body(&quick.rest()).len(), BYTES);
    assert_eq!(app.heads().len(), 1);
    let mut rest = vec![0; BYTES];
    slow.0.read_exact(&mut rest).unwrap();
}
