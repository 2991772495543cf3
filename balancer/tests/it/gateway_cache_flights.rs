//! Answers that are fetched for several: how often a service is asked, and who is freed.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

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
fn what_took_longer_to_come_than_it_is_fresh_is_for_all_who_waited_and_for_nobody_after_them() {
    let (balancer, asked, go) =
        gated("HTTP/1.1 200 OK\r\ncache-control: max-age=1\r\ncontent-length: 4\r\n\r\nbody");
    for round in 1..3 {
        let begun = Instant::now();
        let mut clients: Vec<Client> = (0..10).map(|_| balancer.client()).collect();
        clients.iter_mut().for_each(|client| client.send(get("/x")));
        asked.recv().unwrap();
        wait("the others wait", || balancer.stats.cache_collapsed.get() == 9 * round);
        wait("it is too old", || begun.elapsed() > Duration::from_millis(1100));
        go.send(()).unwrap();
        for client in &mut clients {
            assert_eq!(client.answer().1, "body");
        }
        assert!(asked.try_recv().is_err(), "it was asked once");
    }
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

#[test]
fn what_is_validated_before_each_use_is_for_who_asked_first_alone() {
    for control in ["no-cache", "max-age=0, must-revalidate"] {
        let ((asked, is_asked), (go, may)) = (mpsc::channel(), mpsc::channel());
        let (asked, may) = (Mutex::new(asked), Mutex::new(may));
        let app = Scripted::start(move |served| {
            while let Some(head) = served.head() {
                let _ = asked.lock().unwrap().send(());
                let _ = may.lock().unwrap().recv();
                let who = head.split("x-who: ").nth(1).and_then(|it| it.lines().next()).unwrap_or_default();
                let fields = format!("cache-control: {control}\r\netag: \"{who}\"\r\ncontent-length: 4");
                served.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{who}!"));
            }
        });
        let balancer = Balancer::start(&[]);
        balancer.route(DOCUMENT, &[("app", &[app.address])]);
        // Where nothing is stored, and where it is.
        for round in 0..2 {
            let mut clients: Vec<Client> = (0..3).map(|_| balancer.client()).collect();
            for (at, client) in clients.iter_mut().enumerate() {
                client.send(format!("GET /x HTTP/1.1\r\nhost: a\r\nx-who: {round}-{at}\r\n\r\n"));
                if at == 0 {
                    is_asked.recv().unwrap();
                }
            }
            wait("all wait or ask", || {
                balancer.stats.cache_collapsed.get() + balancer.stats.cache_misses.get() >= 3 * (round + 1)
            });
            (0..3).for_each(|_| go.send(()).unwrap());
            for (at, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.answer().1, format!("{round}-{at}!"), "{control}");
            }
            is_asked.try_iter().for_each(drop);
        }
    }
}

#[test]
fn who_waits_for_an_end_that_does_not_come_asks_for_itself() {
    let ((asked, is_asked), count) = (mpsc::channel(), AtomicUsize::new(0));
    let asked = Mutex::new(asked);
    let app = Scripted::start(move |served| {
        while served.head().is_some() {
            if count.fetch_add(1, SeqCst) > 0 {
                served.send(STORED);
                continue;
            }
            let _ = asked.lock().unwrap().send(());
            served.send(
                "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nslow\r\n",
            );
        }
    });
    let balancer = Balancer::start(&[]);
    let document =
        DOCUMENT.replace("services.app.urls", "services.app.timeout = \"1s\"\n    services.app.urls");
    balancer.route(&document, &[("app", &[app.address])]);
    let mut first = balancer.client();
    first.send(get("/x"));
    is_asked.recv().unwrap();
    first.until("slow");
    let answer = balancer.ask(&asking("/x", ""));
    assert_eq!((status(&answer), body(&answer)), ("200", "body"));
}
