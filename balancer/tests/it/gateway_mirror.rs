//! Copies of a route's requests for a second service.

use std::sync::atomic::{AtomicUsize, Ordering};

use skep_balancer::core::mirrors::IN_FLIGHT_MAX;

use crate::harness::*;

fn start(mirror: &str, copies: &Scripted) -> (Balancer, Scripted) {
    let web = Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.contains("content-length: 5") {
                served.body(5);
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nweb");
        }
    });
    let balancer = Balancer::start(&[]);
    let document = format!(
        "services.web.urls = [\"http://{}\"]\nservices.copies = {{urls = [\"http://{}\"], host = \"upstream\"}}\n\
         [routes.web]\nmatch.path = \"/\"\nservice = \"web\"\nmirror = {mirror}\n",
        web.address, copies.address
    );
    balancer.route(&document, &[("web", &[web.address]), ("copies", &[copies.address])]);
    (balancer, web)
}

fn ask(balancer: &Balancer, method: &str, body: &str) {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let fields = format!("host: a\r\ncookie: c=1\r\nconnection: close\r\n{length}");
    let answer = balancer.ask(&format!("{method} /x?q=1 HTTP/1.1\r\n{fields}\r\n{body}"));
    assert!(answer.ends_with("\r\n\r\nweb"), "{answer}");
}

#[test]
fn who_asks_has_the_answer_of_the_service_whatever_becomes_of_the_copy() {
    let asked = AtomicUsize::new(0);
    let copies = Scripted::start(move |served| {
        while served.head().is_some() {
            // One is refused, one is answered what is no HTTP, one not at all.
            match asked.fetch_add(1, Ordering::SeqCst) % 3 {
                0 => served.send("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"),
                1 => served.send("no\r\n\r\n"),
                _ => return,
            }
        }
    });
    let (balancer, web) = start("{service = \"copies\"}", &copies);
    (0..10).for_each(|_| ask(&balancer, "GET", ""));
    wait("the copies come", || copies.heads().len() == 10);
    let (copy, own) = (copies.heads().remove(0), web.heads().remove(0));
    assert!(copy.starts_with("GET /x?q=1 HTTP/1.1\r\n") && copy.contains("cookie: c=1"), "{copy}");
    assert!(copy.contains(&format!("\r\nhost: {}\r\n", copies.address)), "{copy}");
    assert!(own.contains("\r\nhost: a\r\n"), "{own}");
    let mirrors = &balancer.shared.mirrors;
    wait("none is on its way", || mirrors.in_flight() == 0);
    let count = mirrors.answered.load(Ordering::SeqCst) + mirrors.failed.load(Ordering::SeqCst);
    assert_eq!((count, web.heads().len()), (10, 10));
}

#[test]
fn what_changes_something_is_copied_where_that_is_said_and_its_body_with_it() {
    for (said, copied) in [("", 1), (", unsafe = true", 3)] {
        let (seen, bodies) = std::sync::mpsc::channel();
        let copies = Scripted::start(move |served| {
            while let Some(head) = served.head() {
                let body = if head.contains("content-length: 5") { served.body(5) } else { String::new() };
                let _ = seen.send((head.split(' ').next().unwrap().to_owned(), body));
                served.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let (balancer, _web) = start(&format!("{{service = \"copies\"{said}}}"), &copies);
        for (method, body) in [("POST", "hello"), ("DELETE", ""), ("GET", "")] {
            ask(&balancer, method, body);
        }
        let mut seen: Vec<_> = (0..copied).map(|_| bodies.recv_timeout(PATIENCE).unwrap()).collect();
        seen.sort();
        let own = |(method, body): (&str, &str)| (method.to_owned(), body.to_owned());
        let all = [("DELETE", ""), ("GET", ""), ("POST", "hello")].map(own);
        let expected: Vec<(String, String)> = if copied == 3 { all.to_vec() } else { vec![all[1].clone()] };
        assert_eq!(seen, expected);
        assert!(bodies.try_recv().is_err());
    }
}

#[test]
fn a_service_that_answers_no_copy_holds_up_nobody_and_gets_no_more_than_so_many() {
    let copies = Scripted::start(|served| while served.head().is_some() {});
    let (balancer, _web) = start("{service = \"copies\", percent = 100}", &copies);
    (0..IN_FLIGHT_MAX + 40).for_each(|_| ask(&balancer, "GET", ""));
    let mirrors = &balancer.shared.mirrors;
    assert!(mirrors.in_flight() <= IN_FLIGHT_MAX);
    assert!(mirrors.full.load(Ordering::SeqCst) >= 1, "the rest is left out");
}

#[test]
fn some_of_all_are_copied() {
    let copies = Scripted::plain("copies");
    let (balancer, _web) = start("{service = \"copies\", percent = 30}", &copies);
    (0..200).for_each(|_| ask(&balancer, "GET", ""));
    let mirrors = &balancer.shared.mirrors;
    wait("none is on its way", || mirrors.in_flight() == 0);
    let copied = copies.heads().len();
    assert!((30..95).contains(&copied), "{copied} of 200 are about thirty in a hundred");
}
