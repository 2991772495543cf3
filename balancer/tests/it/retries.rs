//! Which requests are sent again, to whom, and which never are.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::harness::*;
use skep_balancer::core::settings::Settings;
use skep_balancer::core::shared::Shared;
use skep_balancer::forward::retry::KEPT_BYTES_MAX;
use skep_balancer::pools::backends::{BackendSet, Known};
use skep_balancer::pools::failures::Way;
use skep_balancer::pools::probe::Health;
use skep_balancer::pools::{Pool, Pools};

/// A backend that reads a request (and `body` bytes of it) and hangs up.
fn resets(body: usize) -> Scripted {
    Scripted::start(move |served| {
        served.head();
        served.body(body);
        served.stream.shutdown(Shutdown::Both).unwrap();
    })
}

fn echo(length: usize) -> Scripted {
    Scripted::start(move |served| {
        while served.head().is_some() {
            let body = served.body(length);
            served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"));
        }
    })
}

fn post(target: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_backend_that_cannot_be_reached_costs_no_request() {
    let good = echo(5);
    let balancer = Balancer::start(&[Scripted::refused(), good.address]);
    for _ in 0..20 {
        let answer = balancer.ask(&post("/write", "", "hello"));
        assert!(answer.ends_with("hello"), "{answer}");
    }
}

#[test]
fn a_reset_before_any_answer_is_hidden_where_twice_is_as_good_as_once() {
    let (bad, good) = (resets(5), echo(5));
    let balancer = Balancer::start(&[]);
    for (request, retried) in [
        (post("/messages", "", "hello"), true),
        (post("/endpoint/", "", "hello"), true),
        (post("/write", "idempotency-key: k\r\n", "hello"), true),
        (post("/write", "", "hello"), false),
        (post("/messages/x", "", "hello"), false),
        (post("/x", "", "hello").replacen("POST", "PUT", 1), true),
    ] {
        // The leader is asked first: it is the one that fails.
        balancer.set(&[bad.address, good.address], Some(0));
        let answer = balancer.ask(&request);
        if retried {
            assert!(answer.ends_with("hello"), "{request}: {answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 502"), "{request}: {answer}");
            assert!(!answer.contains("skep-unprocessed"), "{answer}");
        }
    }
}

#[test]
fn an_answer_that_says_unprocessed_is_asked_for_elsewhere_whatever_the_request() {
    let busy = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(5);
            served
                .send("HTTP/1.1 503 Service Unavailable\r\nskep-unprocessed: 1\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = echo(5);
    let balancer = Balancer::start(&[]);
    let backends = balancer.set(&[busy.address, good.address], Some(0));
    let answer = balancer.ask(&post("/write", "", "hello"));
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(backends[0].share() < backends[1].share(), "to decline at once is no way to all traffic");
    assert_eq!(backends[0].stats.failures.load(Ordering::SeqCst), 0);
    balancer.set(&[busy.address], None);
    let answer = balancer.ask(&post("/write", "", "hello"));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("skep-unprocessed: 1"), "{answer}");
    assert_eq!(busy.heads().len(), 2, "with nobody else there, the answer is passed on");
}

#[test]
fn a_refusal_is_passed_on_whatever_it_says_of_itself() {
    let refuses = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(5);
            served.send("HTTP/1.1 403 Forbidden\r\nskep-unprocessed: 1\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = echo(5);
    let balancer = Balancer::start(&[]);
    balancer.set(&[refuses.address, good.address], Some(0));
    let answer = balancer.ask(&post("/write", "", "hello"));
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[test]
fn what_only_a_node_promises_is_not_believed_of_other_backends() {
    let says_unprocessed = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(5);
            served
                .send("HTTP/1.1 503 Service Unavailable\r\nskep-unprocessed: 1\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (bad, good) = (resets(5), echo(5));
    let others = Pools::new(Pool::new("skep", false, None));
    let balancer = Balancer::of(&[], Shared { pools: others, ..Shared::default() });
    balancer.set(&[says_unprocessed.address, good.address], Some(0));
    let answer = balancer.ask(&post("/messages", "", "hello"));
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    for more in ["", "idempotency-key: k\r\n"] {
        balancer.set(&[bad.address, good.address], Some(0));
        let answer = balancer.ask(&post("/messages", more, "hello"));
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}

#[test]
fn a_body_of_a_megabyte_is_kept_for_another_attempt_and_a_larger_one_is_not() {
    for (length, kept) in [(KEPT_BYTES_MAX, true), (KEPT_BYTES_MAX + 1, false)] {
        let (bad, good) = (resets(length), echo(length));
        let balancer = Balancer::start(&[]);
        balancer.set(&[bad.address, good.address], Some(0));
        let body = "x".repeat(length);
        let answer = balancer.ask(&post("/messages", "", &body));
        if kept {
            assert!(answer.ends_with(&body), "{}", &answer[..200.min(answer.len())]);
        } else {
            assert!(answer.starts_with("HTTP/1.1 502"), "{}", &answer[..200.min(answer.len())]);
        }
    }
}

#[test]
fn a_chunked_body_is_sent_again_from_its_beginning() {
    let bad = Scripted::start(|served| {
        served.head();
        served.until("hello\r\n");
        served.stream.shutdown(Shutdown::Both).unwrap();
    });
    let good = Scripted::start(|served| {
        served.head();
        let body = served.until("0\r\n\r\n");
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    });
    let balancer = Balancer::start(&[]);
    balancer.set(&[bad.address, good.address], Some(0));
    let mut client = balancer.client();
    client.send("POST /messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send("1\r\n!\r\n0\r\n\r\n");
    assert_eq!(client.answer().1, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n");
}

#[test]
fn a_connection_that_the_backend_closed_while_it_idled_costs_no_request() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        served.stream.shutdown(Shutdown::Both).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    for _ in 0..10 {
        client.send("POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        let (head, body) = client.answer();
        // The close may be seen only as the next request is sent: then nobody knows what came of it.
        assert!(body == "ok" || head.starts_with("HTTP/1.1 502"), "{head}");
        client.send(get("/"));
        assert_eq!(client.answer().1, "ok");
    }
    assert!(backend.connections.load(Ordering::SeqCst) > 10);
}

#[test]
fn with_no_backend_the_answer_is_503_at_once_and_says_that_nothing_was_done() {
    let balancer = Balancer::start(&[]);
    let mut client = balancer.client();
    client.send(post("/write", "", "hello").replace("connection: close\r\n", ""));
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1\r\n"), "{head}");
    assert!(head.contains("skep-unprocessed: 1\r\n"), "{head}");
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["type"], "urn:skep:problem:no-backend");
    // The connection goes on.
    client.send(get("/"));
    assert!(client.answer().0.starts_with("HTTP/1.1 503"));
}

#[test]
fn what_waits_for_a_backend_that_is_found_hung_is_answered_by_another() {
    let hung = Scripted::start(|served| {
        served.head();
        served.head();
    });
    let good = Scripted::plain("good");
    let balancer = Balancer::start(&[]);
    let backends = balancer.set(&[hung.address, good.address], Some(0));
    let mut client = balancer.client();
    client.send("PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    wait("the one that hangs has the request", || !hung.heads().is_empty());
    let known = |at: usize, health| Known { health, ..Known::well(backends[at].clone()) };
    let set = BackendSet::of(vec![known(0, Health::Silent), known(1, Health::Up)], []);
    balancer.shared.pools.skep().store(set);
    assert_eq!(client.answer().1, "good /x");
}

#[test]
fn what_is_sent_again_waits_for_room_at_another_whatever_becomes_of_the_first() {
    let hung = Scripted::start(|served| {
        served.head();
        served.head();
    });
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let busy = Scripted::start(move |served| {
        while served.head().is_some() {
            let _ = gate.lock().unwrap().recv();
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let settings =
        Settings { in_flight_max: 1, queue_timeout: Duration::from_secs(15), ..Settings::default() };
    let balancer = Balancer::with(&[], settings);
    let backends = balancer.set(&[hung.address, busy.address], Some(0));
    let put = "PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let (mut first, mut second) = (balancer.client(), balancer.client());
    first.send(put);
    wait("the one that hangs has the request", || !hung.heads().is_empty());
    second.send(put);
    wait("the busy one has the request", || !busy.heads().is_empty());
    let known = |at: usize, health| Known { health, ..Known::well(backends[at].clone()) };
    let set = BackendSet::of(vec![known(0, Health::Silent), known(1, Health::Up)], []);
    balancer.shared.pools.skep().store(set);
    wait("the first waits for another", || balancer.stats.waiting.get() > 0);
    // Longer than a few looks at who is gone.
    pause(Duration::from_millis(300));
    assert_eq!(balancer.stats.waiting.get(), 1, "it still waits");
    drop(open);
    assert_eq!((second.answer().1, first.answer().1), ("ok".into(), "ok".into()));
}

#[test]
fn an_ambiguous_answer_is_a_502() {
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello");
    });
    let balancer = Balancer::start(&[backend.address]);
    assert!(balancer.ask(&get_and_close("/")).starts_with("HTTP/1.1 502"));
}

/// Says "not now", and that it did nothing.
fn declines(body: usize) -> Scripted {
    Scripted::start(move |served| {
        while served.head().is_some() {
            served.body(body);
            served
                .send("HTTP/1.1 503 Service Unavailable\r\nskep-unprocessed: 1\r\ncontent-length: 0\r\n\r\n");
        }
    })
}

#[test]
fn who_says_unprocessed_does_not_say_it_for_who_had_the_request_before() {
    let (bad, busy) = (resets(0), declines(0));
    let balancer = Balancer::start(&[]);
    balancer.set(&[bad.address, busy.address], Some(0));
    let delete = "DELETE /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = balancer.ask(delete);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(!answer.to_lowercase().contains("skep-unprocessed"), "{answer}");
    assert_eq!((bad.heads().len(), busy.heads().len()), (1, 1));
}

#[test]
fn what_was_sent_nowhere_is_said_to_be_unprocessed_and_what_may_have_been_executed_is_not() {
    let balancer = Balancer::start(&[Scripted::refused(), Scripted::refused()]);
    let answer = balancer.ask(&post("/write", "", "hello"));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("skep-unprocessed: 1\r\n"), "{answer}");
    let bad = resets(0);
    balancer.set(&[bad.address, Scripted::refused()], Some(0));
    let answer = balancer.ask("PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("skep-unprocessed"), "{answer}");
}

#[test]
fn what_brings_down_whoever_gets_it_is_sent_to_one_other_alone() {
    let backends: Vec<Scripted> = (0..5).map(|_| resets(0)).collect();
    let addresses: Vec<_> = backends.iter().map(|it| it.address).collect();
    let balancer = Balancer::start(&addresses);
    let answer = balancer.ask(&get_and_close("/"));
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(backends.iter().map(|it| it.heads().len()).sum::<usize>(), 2);
}

#[test]
fn a_body_of_any_length_goes_elsewhere_where_nothing_of_it_was_sent() {
    let length = KEPT_BYTES_MAX + 100_000;
    let good = echo(length);
    let balancer = Balancer::start(&[]);
    balancer.set(&[Scripted::refused(), good.address], Some(0));
    let body = "x".repeat(length);
    let answer = balancer.ask(&post("/write", "", &body));
    assert!(answer.ends_with(&body), "{}", &answer[..200.min(answer.len())]);
}

#[test]
fn nothing_is_sent_again_once_an_interim_answer_was_passed_on() {
    let bad = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        served.stream.shutdown(Shutdown::Both).unwrap();
    });
    let good = Scripted::plain("good");
    let balancer = Balancer::start(&[]);
    balancer.set(&[bad.address, good.address], Some(0));
    let put = "PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let answer = balancer.ask(put);
    let (interim, last) = answer.split_once("\r\n\r\n").unwrap();
    assert!(interim.starts_with("HTTP/1.1 103") && last.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(good.heads(), [""; 0]);
    // Who speaks HTTP/1.0 was told nothing.
    balancer.set(&[bad.address, good.address], Some(0));
    let answer = balancer.ask("PUT /x HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("good /x"), "{answer}");
}

#[test]
fn each_failure_is_counted_by_the_way_it_was_one() {
    let (bad, busy) = (resets(0), declines(0));
    let balancer = Balancer::start(&[]);
    let backends = balancer.set(&[bad.address, busy.address], Some(0));
    balancer.ask("DELETE /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let failed = |at: usize| Way::ALL.map(|way| backends[at].stats.failed.count(way));
    assert_eq!(failed(0), [0, 1, 0, 0, 0, 0, 0, 0], "a reset");
    assert_eq!(failed(1), [0, 0, 0, 0, 0, 0, 0, 1], "declined");
    assert!(backends[1].failing() > 0.0);
}
