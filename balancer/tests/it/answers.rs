//! Answers on their way to a client: when they were made, which way they came, and where they end.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use socket2::SockRef;

use crate::harness::*;

/// A backend that answers each request with this and hangs up.
fn says(answer: &'static str) -> Scripted {
    Scripted::start(move |served| {
        served.head();
        served.send(answer);
        let _ = served.stream.shutdown(Shutdown::Write);
        served.head();
    })
}

fn count(answer: &str, name: &str) -> usize {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.lines().filter(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: "))).count()
}

#[test]
fn an_answer_has_one_date_and_says_which_way_it_came() {
    for (said, via) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "via: 1.1 skep"),
        (
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n",
            "via: 1.1 skep",
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "via: 1.0 skep"),
    ] {
        let backend = says(said);
        let answer = Balancer::start(&[backend.address]).ask(&get_and_close("/"));
        assert!(count(&answer, "date") == 1 && answer.contains(via), "{answer}");
        assert_eq!(answer.contains("1994"), said.contains("1994"), "{answer}");
    }
}

#[test]
fn what_the_balancer_says_itself_has_a_date_and_is_not_stored() {
    let balancer = Balancer::start(&[]);
    for request in [get_and_close("/"), get_and_close("/-/ready"), "GET / HTTP/9.9\r\n\r\n".into()] {
        let answer = balancer.ask(&request);
        assert_eq!(count(&answer, "date"), 1, "{answer}");
        assert!(answer.contains("\r\ncache-control: no-store\r\n"), "{answer}");
        assert!(answer.contains(" GMT\r\n"), "{answer}");
    }
}

#[test]
fn an_old_client_that_keeps_its_connection_is_told_so_with_a_problem_too() {
    let balancer = Balancer::start(&[]);
    let mut client = balancer.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("connection: keep-alive\r\n"), "{head}");
    }
}

#[test]
fn who_must_upgrade_is_told_to_what() {
    let backend = says(
        "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: HTTP/3.0\r\ncontent-length: 0\r\n\r\n",
    );
    let answer = Balancer::start(&[backend.address]).ask(&get_and_close("/"));
    assert!(answer.contains("connection: upgrade, close\r\nupgrade: HTTP/3.0\r\n"), "{answer}");
}

#[test]
fn a_protocol_is_changed_only_to_one_that_was_asked_for() {
    let backend = says(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nGET /hidden",
    );
    let balancer = Balancer::start(&[]);
    let asks = |protocol: &str| {
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade\r\nupgrade: {protocol}\r\n\r\n")
    };
    let old = asks("websocket").replace("HTTP/1.1", "HTTP/1.0");
    for request in [get_and_close("/"), asks("foo"), old] {
        balancer.set(&[backend.address], None);
        let answer = balancer.ask(&request);
        assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("hidden"), "{request}: {answer}");
    }
    balancer.set(&[backend.address], None);
    let mut client = balancer.client();
    client.send(asks("foo, WebSocket"));
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101"));
}

#[test]
fn an_answer_that_is_cut_does_not_look_whole() {
    let (cut, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        let Some(head) = served.head() else { return };
        let coding = if head.starts_with("GET /chunks") { "transfer-encoding: chunked\r\n" } else { "" };
        let body = if coding.is_empty() { "half of it" } else { "a\r\nhalf of it\r\n" };
        served.send(format!("HTTP/1.1 200 OK\r\n{coding}\r\n{body}"));
        gate.lock().unwrap().recv().unwrap();
        SockRef::from(&served.stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    for (target, version) in [("/close", "1.1"), ("/close", "1.0"), ("/chunks", "1.0")] {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/{version}\r\nhost: a\r\n\r\n"));
        let head = client.until("\r\n\r\n");
        client.until("half of it");
        cut.send(()).unwrap();
        let mut rest = Vec::new();
        let end = client.0.read_to_end(&mut rest);
        if version == "1.1" {
            assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{target}: the last chunk came");
        } else {
            let error = end.expect_err("it looks whole");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{target}");
        }
    }
}

#[test]
fn an_answer_that_the_process_leaves_behind_does_not_look_whole() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\n\r\nhalf of it");
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.until("half of it");
    drop(balancer);
    let error = client.0.read_to_end(&mut Vec::new()).expect_err("it looks whole");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_long_answer_without_a_length_passes_whole_in_chunks() {
    const LENGTH: usize = 3_000_000;
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.0 200 OK\r\n\r\n");
        let body: String = (0..LENGTH).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
        served.send(body);
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(get("/"));
    assert!(client.until("\r\n\r\n").contains("transfer-encoding: chunked"));
    let (mut read, mut at) = (0, 0);
    loop {
        let size = usize::from_str_radix(client.until("\r\n").trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        client.0.read_exact(&mut chunk).unwrap();
        assert!(chunk.ends_with(b"\r\n"));
        for b in &chunk[..size] {
            assert_eq!(*b, b'a' + (at % 23) as u8);
            at += 1;
        }
        read += size;
        if size == 0 {
            break;
        }
    }
    assert_eq!(read, LENGTH);
}
