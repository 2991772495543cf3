//! Requests and answers as they pass by: what is added, kept, and passed on as it comes.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

use crate::harness::*;
use crate::process::Process;

#[test]
fn requests_on_one_connection_are_answered_in_order_over_one_backend_connection() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    for i in 0..3 {
        client.send(get(&format!("/{i}")));
        assert_eq!(client.answer().1, format!("b /{i}"));
    }
    client.send(format!("{}{}{}", get("/x"), get("/y"), get_and_close("/z")));
    let answers: Vec<String> = (0..3).map(|_| client.answer().1).collect();
    assert_eq!(answers, ["b /x", "b /y", "b /z"]);
    assert_eq!(client.rest(), "");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_served() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    for byte in get_and_close("/slow").bytes() {
        client.send([byte]);
    }
    assert!(client.rest().ends_with("b /slow"));
}

#[test]
fn an_answer_to_head_has_no_body_and_the_connection_goes_on() {
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            let body = if head.starts_with("HEAD") { "" } else { "hello" };
            served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}"));
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.until("\r\n\r\n").contains("content-length: 5"));
    client.send(get("/"));
    assert_eq!(client.answer().1, "hello");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn interim_answers_pass_and_the_final_one_follows() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        served.send("HTTP/1.1 204 No Content\r\n\r\n");
    });
    let balancer = Balancer::start(&[backend.address]);
    let answer = balancer.ask(&get_and_close("/"));
    let (interim, last) = answer.split_once("\r\n\r\n").unwrap();
    assert!(interim.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>"), "{answer}");
    assert!(last.starts_with("HTTP/1.1 204 No Content\r\n"), "{answer}");
}

#[test]
fn an_expectation_reaches_the_backend_before_the_body_is_sent() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = served.body(5);
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}"));
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 100 Continue"));
    client.send("hello");
    assert_eq!(client.answer().1, "hello");
}

#[test]
fn an_expectation_that_is_refused_ends_the_connection_after_the_answer() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
}

#[test]
fn chunks_and_trailers_pass_both_ways_as_they_are() {
    const CHUNKS: &str = "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 1\r\n\r\n";
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            assert!(head.contains("transfer-encoding: chunked"));
            let body = served.until("x-sum: 1\r\n\r\n");
            served.send(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{body}"
            ));
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    for _ in 0..2 {
        client.send(format!("POST /e HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{CHUNKS}"));
        assert!(client.until("\r\n\r\n").contains("trailer: x-sum"));
        assert_eq!(client.until("x-sum: 1\r\n\r\n"), CHUNKS);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_http10_client_gets_a_chunked_answer_as_data_and_a_close() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nx: y\r\n\r\n",
        );
    });
    let balancer = Balancer::start(&[backend.address]);
    let answer = balancer.ask("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\nhello!"), "{answer}");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_chunked_and_ends_an_http10_clients_connection() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    for _ in 0..2 {
        client.send(get("/"));
        let head = client.until("\r\n\r\n");
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("close"), "{head}");
        assert_eq!(client.until("0\r\n\r\n"), "9\r\nall of it\r\n0\r\n\r\n");
    }
    let answer = balancer.ask("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    assert!(answer.contains("connection: close") && answer.ends_with("\r\n\r\nall of it"), "{answer}");
}

#[test]
fn an_answer_that_is_cut_is_cut_for_the_client() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    });
    let balancer = Balancer::start(&[backend.address]);
    assert!(balancer.ask(&get("/")).ends_with("half"));
}

#[test]
fn a_large_body_passes_both_ways() {
    const LENGTH: usize = 5_000_000;
    let backend = Scripted::start(|served| {
        served.head();
        let body = served.body(LENGTH);
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{body}"));
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let body: String = (0..LENGTH).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    let mut client = balancer.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"));
    client.send(&body);
    assert!(client.answer().1 == body, "the body changed on its way");
}

#[test]
fn an_event_passes_while_the_stream_is_open() {
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        served.head();
        served
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        served.send("9\r\ndata: 1\n\n\r\n");
        gate.lock().unwrap().recv().unwrap();
        served.send("9\r\ndata: 2\n\n\r\n");
        gate.lock().unwrap().recv().unwrap();
        served.send("0\r\n\r\n");
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(get("/messages/live"));
    client.until("\r\n\r\n");
    client.until("data: 1\n\n\r\n");
    go_on.send(()).unwrap();
    client.until("data: 2\n\n\r\n");
    go_on.send(()).unwrap();
    client.until("0\r\n\r\n");
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_back() {
    let sent = Arc::new(Mutex::new(0usize));
    let counter = sent.clone();
    let (done, finished) = mpsc::channel();
    let done = Mutex::new(done);
    let backend = Scripted::start(move |served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 400000000\r\n\r\n");
        let timeout = std::time::Duration::from_millis(500);
        served.stream.set_write_timeout(Some(timeout)).unwrap();
        let piece = [b'x'; 65536];
        while let Ok(n) = served.stream.write(&piece) {
            *counter.lock().unwrap() += n;
        }
        done.lock().unwrap().send(()).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(get("/"));
    client.until("\r\n\r\n");
    finished.recv().unwrap();
    let sent = *sent.lock().unwrap();
    // The kernel may give each of the two connections some 36 MB at its two ends.
    assert!(sent < 100_000_000, "{sent} bytes were taken from the backend");
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_and_its_end() {
    let backend = Scripted::start(|served| {
        let head = served.head().unwrap();
        assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: k"), "{head}");
        served.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nfirst",
        );
        assert_eq!(served.body(4), "ping");
        served.send("pong");
        served.stream.shutdown(Shutdown::Write).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(
        "GET /messages/live HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: k\r\n\r\n",
    );
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"), "{head}");
    client.until("first");
    client.send("ping");
    client.until("pong");
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "");
}

#[test]
fn the_backend_learns_who_asked_and_how() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    balancer.ask("GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\nx-forwarded-for: 9.9.9.9\r\n\r\n");
    let head = backend.heads().remove(0);
    assert!(head.starts_with("GET /x HTTP/1.1\r\nhost: a.test\r\nvia: 1.1 skep\r\n"), "{head}");
    assert!(
        head.contains(
            "forwarded: for=127.0.0.1;proto=http;host=\"a.test\"\r\nx-forwarded-for: 127.0.0.1\r\n"
        )
    );
    assert!(head.contains("x-forwarded-proto: http\r\nx-forwarded-host: a.test\r\nx-request-id: "), "{head}");
    assert!(!head.contains("9.9.9.9"));
}

#[test]
fn writes_go_to_the_leader_and_reads_to_all() {
    let (leader, follower) = (Scripted::plain("leader"), Scripted::plain("follower"));
    let balancer = Balancer::start(&[]);
    balancer.set(&[follower.address, leader.address], Some(1));
    let mut client = balancer.client();
    for _ in 0..20 {
        client.send("POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.answer().1, "leader /write");
    }
    let mut followers = 0;
    for _ in 0..50 {
        client.send(get("/read"));
        followers += usize::from(client.answer().1 == "follower /read");
    }
    assert!(followers > 0);
}

#[test]
fn the_balancer_answers_for_its_own_readiness() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send(get("/-/ready"));
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200") && body == "ready\n", "{head}");
    balancer.set(&[], None);
    client.send(get("/-/ready"));
    assert!(client.answer().0.starts_with("HTTP/1.1 503"));
    assert!(backend.heads().is_empty());
}

#[test]
fn reads_of_a_message_stay_with_one_backend_where_that_is_asked_for() {
    let backends = [Scripted::plain("a"), Scripted::plain("b"), Scripted::plain("c")];
    let settings = skep_balancer::core::settings::Settings { by_digest: true, ..Default::default() };
    let balancer = Balancer::with(&backends.each_ref().map(|backend| backend.address), settings);
    let mut used = std::collections::HashSet::new();
    for first in 0..16 {
        let target = format!("/messages/{first:x}{}", "0".repeat(63));
        let answers: std::collections::HashSet<String> = (0..5)
            .map(|_| balancer.ask(&get_and_close(&target)).split("\r\n\r\n").nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        used.extend(answers.iter().map(|answer| answer[..1].to_owned()));
    }
    assert!(used.len() > 1, "all digests went to {used:?}");
}

#[test]
fn the_access_log_names_the_client_of_a_trusted_proxy_and_believes_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Scripted::plain("b");
    for (trusted, expected) in [("127.0.0.0/8", "\"203.0.113.7\""), ("192.0.2.1", "\"127.0.0.1\"")] {
        let log = dir.path().join(trusted.replace('/', "-"));
        let more = ["--trusted-proxies", trusted, "--access-log", log.to_str().unwrap()];
        let process = Process::on_free_ports(backend.address, &more);
        let mut client = Client::connect(process.http);
        for (target, hops) in [("/named", "198.51.100.1, 203.0.113.7, 127.0.0.9"), ("/alone", "")] {
            let field = if hops.is_empty() { String::new() } else { format!("x-forwarded-for: {hops}\r\n") };
            client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n{field}\r\n"));
            assert!(client.answer().0.starts_with("HTTP/1.1 200"));
        }
        let line = |target: &str| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().find(|line| line.contains(&format!("\"{target}\""))).map(str::to_owned)
        };
        wait("both are logged", || line("/named").is_some() && line("/alone").is_some());
        assert!(line("/named").unwrap().contains(expected), "{:?}", line("/named"));
        assert!(line("/alone").unwrap().contains("\"127.0.0.1\""), "{:?}", line("/alone"));
    }
}
