//! Requests' heads on their way to a backend: where they go, which way they came, and what strangers may say.

use std::time::Duration;

use crate::harness::*;
use skep_balancer::core::settings::{Network, Settings};

/// The head that a backend gets of a request.
fn arrives(settings: Settings, request: &str) -> String {
    let backend = Scripted::plain("b");
    let balancer = Balancer::with(&[backend.address], settings);
    let answer = balancer.ask(request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{request}: {answer}");
    backend.heads().remove(0)
}

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let named = |line: &&'a str| {
        line.split_once(": ").filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    head.lines().filter_map(|line| named(&line)).collect()
}

fn with(line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{more}\r\n")
}

fn trusting() -> Settings {
    Settings { trusted: vec![Network::parse("127.0.0.0/8").unwrap()], ..Settings::default() }
}

#[test]
fn an_absolute_target_says_which_host_and_a_path_that_it_lacks_is_the_root() {
    for (line, first, host) in [
        ("GET http://a.test:80/x", "GET /x HTTP/1.1", "a.test:80"),
        ("GET http://b.test/x", "GET /x HTTP/1.1", "b.test"),
        ("GET http://a.test", "GET / HTTP/1.1", "a.test"),
        ("GET http://a.test?x", "GET /?x HTTP/1.1", "a.test"),
        ("OPTIONS http://a.test", "OPTIONS * HTTP/1.1", "a.test"),
    ] {
        let head = arrives(Settings::default(), &with(line, ""));
        assert_eq!((head.lines().next().unwrap(), values(&head, "host")), (first, vec![host]), "{line}");
        assert_eq!(values(&head, "x-forwarded-host"), [host], "{line}");
    }
    // The balancer's own paths are its own in this form, too.
    let balancer = Balancer::start(&[]);
    assert!(balancer.ask(&with("GET http://a.test/-/ready", "")).ends_with("no backend is ready\n"));
}

#[test]
fn via_says_the_version_that_a_request_came_by() {
    let head = arrives(Settings::default(), "GET / HTTP/1.0\r\nvia: 1.1 before\r\n\r\n");
    assert_eq!(values(&head, "via"), ["1.1 before", "1.0 skep"]);
    let head = arrives(Settings::default(), &with("GET /", ""));
    assert_eq!(values(&head, "via"), ["1.1 skep"]);
}

#[test]
fn what_only_proxies_say_is_taken_from_trusted_ones_alone() {
    let said = "x-real-ip: 9.9.9.9\r\nx-original-url: /admin\r\nx-forwarded-prefix: /p\r\n";
    let head = arrives(Settings::default(), &with("GET /", said));
    for name in ["x-real-ip", "x-original-url", "x-forwarded-prefix"] {
        assert_eq!(values(&head, name), [""; 0], "{head}");
    }
    let head = arrives(trusting(), &with("GET /", said));
    assert_eq!(
        (values(&head, "x-real-ip"), values(&head, "x-original-url")),
        (vec!["9.9.9.9"], vec!["/admin"])
    );
}

#[test]
fn a_name_that_is_known_but_for_its_underscores_reaches_no_backend() {
    let disguised = "x_forwarded_for: 9.9.9.9\r\nX_Real_IP: 9.9.9.9\r\ncontent_length: 9\r\nmy_key: mine\r\n";
    for settings in [Settings::default(), trusting()] {
        let head = arrives(settings, &with("GET /", disguised));
        assert!(!head.contains("9.9.9.9") && !head.contains("content_length"), "{head}");
        assert_eq!(values(&head, "my_key"), ["mine"]);
    }
}

#[test]
fn a_strangers_request_id_is_not_taken_and_a_trusted_proxys_is() {
    let given = "x-request-id: given-1\r\n";
    let head = arrives(Settings::default(), &with("GET /", given));
    let id = values(&head, "x-request-id");
    assert!(id.len() == 1 && id[0].len() == 32 && !head.contains("given-1"), "{head}");
    let head = arrives(trusting(), &with("GET /", given));
    assert_eq!(values(&head, "x-request-id"), ["given-1"]);
}

#[test]
fn who_may_go_no_further_is_answered_here() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let options = balancer.ask(&with("OPTIONS /x", "max-forwards: 0\r\n"));
    assert!(options.starts_with("HTTP/1.1 200") && options.contains("\r\nallow: GET, HEAD"), "{options}");
    let trace =
        balancer.ask(&with("TRACE /x", "max-forwards: 0\r\nauthorization: secret\r\nvia: 1.1 before\r\n"));
    let (head, body) = trace.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: message/http"), "{trace}");
    assert_eq!(body, "TRACE /x HTTP/1.1\r\nhost: a.test\r\nvia: 1.1 before\r\nmax-forwards: 0\r\n\r\n");
    assert_eq!(backend.heads(), [""; 0]);
    for (line, left, sent) in [("OPTIONS *", "3", "2"), ("TRACE /", "1", "0"), ("GET /", "0", "0")] {
        let head = arrives(Settings::default(), &with(line, &format!("max-forwards: {left}\r\n")));
        assert_eq!(values(&head, "max-forwards"), [sent], "{line}");
    }
}

#[test]
fn a_chunks_extension_may_stand_apart_and_a_trailer_that_a_head_alone_may_have_is_refused() {
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            served.until("0\r\n\r\n");
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let balancer = Balancer::start(&[backend.address]);
    let post = |chunks: &str| {
        let mut client = balancer.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
        client.answer()
    };
    assert_eq!(post("5 ;a=b\r\nhello\r\n0\r\n\r\n").1, "ok");
    for trailer in ["host: b", "x-real-ip: 9.9.9.9", "content-length: 3", "authorization: x"] {
        let (head, body) = post(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
        assert!(
            head.starts_with("HTTP/1.1 400") && body.contains("before the body"),
            "{trailer}: {head}{body}"
        );
    }
    assert_eq!(backend.heads().len(), 1);
}

#[test]
fn a_trailer_that_is_refused_late_reaches_no_backend() {
    let (rest, seen) = std::sync::mpsc::channel();
    let rest = std::sync::Mutex::new(rest);
    let backend = Scripted::start(move |served| {
        served.head();
        served.until("hello\r\n");
        let mut all = Vec::new();
        let _ = std::io::Read::read_to_end(&mut served.stream, &mut all);
        rest.lock().unwrap().send(String::from_utf8(all).unwrap()).unwrap();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    wait("the backend has the head", || !backend.heads().is_empty());
    for part in ["0\r\nx-for", "warded-", "for: 9.9.9.9\r\n\r\n"] {
        client.send(part);
    }
    assert!(client.rest_or_reset().starts_with("HTTP/1.1 400"));
    let rest = seen.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(!rest.contains("9.9.9.9"), "{rest}");
}
