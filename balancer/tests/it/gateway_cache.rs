//! Answers that are stored: who gets them, who does not, and how often a service is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use http_body_util::BodyExt;

use crate::harness::*;
use crate::http2::{full, h2, request};

pub const DOCUMENT: &str = r#"
    services.app.urls = ["http://127.0.0.1:1"]
    consumers.ann.keys = ["0123456789abcdef"]
    routes.app = {service = "app", cache = true}
    routes.known = {match.path = "/known", service = "app", cache = true, auth.keys = true}
    routes.plain = {match.path = "/plain", service = "app"}
    [routes.small]
    match.path = "/small"
    service = "app"
    cache = {max_entry = "8B", grace = "60s"}
"#;

/// A service that answers each request by `answer`, of its head and its number; and a balancer that stores.
fn serving(answer: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> (Balancer, Scripted) {
    let count = AtomicUsize::new(0);
    let app = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            let length = head.to_ascii_lowercase();
            let length =
                length.split("content-length: ").nth(1).and_then(|it| it.lines().next()?.parse().ok());
            served.body(length.unwrap_or(0));
            served.send(answer(&head, count.fetch_add(1, SeqCst)));
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    (balancer, app)
}

/// An answer with these fields, each with its end, and its number for a body.
pub fn with(fields: &str, number: usize) -> String {
    let body = format!("body {number}");
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

pub fn asking(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n")
}

pub fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let is_it = |line: &&str| line.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
    head.lines().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
}

#[test]
fn what_is_fresh_is_answered_without_the_service() {
    let (balancer, app) = serving(|_, n| with("cache-control: max-age=60\r\nx-a: 1\r\n", n));
    let first = balancer.ask(&asking("/x?y", ""));
    assert_eq!((body(&first), field(&first, "age")), ("body 0", None));
    assert_eq!(field(&first, "cache-status"), Some("skep; fwd=miss; stored"));
    let mut client = balancer.client();
    for _ in 0..2 {
        client.send(get("/x?y"));
        let (head, text) = client.answer();
        assert_eq!((text.as_str(), field(&head, "x-a")), ("body 0", Some("1")));
        assert!(
            field(&head, "age").is_some() && field(&head, "cache-status").unwrap().contains("; hit"),
            "{head}"
        );
    }
    assert_eq!(app.heads().len(), 1);
    for other in ["/x", "/x?Y", "/x?y&", "/X?y", "/x?y=%00"] {
        assert_ne!(body(&balancer.ask(&asking(other, ""))), "body 0", "{other}");
    }
    let other = balancer.ask("GET /x?y HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n");
    let port = balancer.ask("GET /x?y HTTP/1.1\r\nhost: a:81\r\nconnection: close\r\n\r\n");
    assert!(body(&other) != "body 0" && body(&port) != "body 0", "a host is a part of what it is");
    let count = app.heads().len();
    (0..2).for_each(|_| drop(balancer.ask(&asking("/plain", ""))));
    assert_eq!(app.heads().len(), count + 2, "its route stores nothing");
}

#[test]
fn what_is_not_for_all_is_not_stored() {
    for fields in [
        "cache-control: no-store\r\n",
        "cache-control: private, max-age=60\r\n",
        "cache-control: max-age=60\r\nset-cookie: a=b\r\n",
        "cache-control: max-age=60\r\nvary: *\r\n",
        "cache-control: max-age=60, x=\"\r\n",
        "cache-control: max-age=0, max-age=60\r\n",
        "",
    ] {
        let (balancer, app) = serving(move |_, n| with(fields, n));
        for number in 0..3 {
            let answer = balancer.ask(&asking("/x", ""));
            assert_eq!(body(&answer), format!("body {number}"), "{fields}");
            assert_eq!(field(&answer, "set-cookie").is_some(), fields.contains("set-cookie"));
        }
        assert_eq!(app.heads().len(), 3);
    }
}

#[test]
fn who_proves_who_it_is_gets_and_leaves_only_what_is_for_all() {
    for (control, is_shared) in [("max-age=60", false), ("public, max-age=60", true), ("s-maxage=60", true)] {
        let (balancer, app) = serving(move |_, n| with(&format!("cache-control: {control}\r\n"), n));
        let proof = "authorization: Basic x\r\n";
        let asked = [asking("/x", ""), asking("/x", proof), asking("/y", proof), asking("/y", "")];
        asked.iter().for_each(|it| drop(balancer.ask(it)));
        assert_eq!(app.heads().len(), if is_shared { 2 } else { 4 }, "{control}");
        let key = "x-api-key: 0123456789abcdef\r\n";
        let count = app.heads().len();
        for _ in 0..2 {
            assert_eq!(status(&balancer.ask(&asking("/known", key))), "200");
        }
        assert_eq!(app.heads().len() - count, if is_shared { 1 } else { 2 }, "{control}");
        assert_eq!(status(&balancer.ask(&asking("/known", ""))), "401", "whatever is stored");
    }
}

#[test]
fn a_request_with_a_body_does_not_use_the_cache_and_leaves_the_connection_in_order() {
    let (balancer, app) = serving(|_, n| with("cache-control: max-age=60\r\n", n));
    balancer.ask(&asking("/x", ""));
    let mut client = balancer.client();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /");
    assert_eq!(client.answer().1, "body 1");
    client.send(get("/x"));
    assert_eq!((client.answer().1.as_str(), app.heads().len()), ("body 0", 2));
}

#[test]
fn an_answer_is_told_apart_by_what_it_varies_by() {
    let (balancer, app) = serving(|_, n| with("cache-control: max-age=60\r\nvary: x-lang\r\n", n));
    for (fields, expected) in [
        ("x-lang: de\r\n", "body 0"),
        ("x-lang: en\r\n", "body 1"),
        ("", "body 2"),
        ("x-lang: de\r\n", "body 0"),
        ("x-lang: en\r\nx-other: 1\r\n", "body 1"),
        ("", "body 2"),
    ] {
        assert_eq!(body(&balancer.ask(&asking("/x", fields))), expected, "{fields:?}");
    }
    assert_eq!(app.heads().len(), 3);
}

#[test]
fn who_did_not_ask_for_a_coding_gets_nothing_that_has_it() {
    let (balancer, app) = serving(|head, n| match head.contains("accept-encoding: gzip") {
        true => with("cache-control: max-age=60\r\ncontent-encoding: gzip\r\n", n),
        false => with("cache-control: max-age=60\r\n", n),
    });
    let gzip = "accept-encoding: gzip\r\n";
    assert_eq!(body(&balancer.ask(&asking("/x", gzip))), "body 0");
    let plain = balancer.ask(&asking("/x", ""));
    assert_eq!((body(&plain), field(&plain, "content-encoding")), ("body 1", None));
    assert_eq!(body(&balancer.ask(&asking("/x", "accept-encoding: br\r\n"))), "body 1", "all can read it");
    assert_eq!(app.heads().len(), 2);
}

#[test]
fn a_client_gets_what_it_has_not_yet() {
    const FIELDS: &str = "cache-control: max-age=60\r\netag: \"e\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-type: a/b\r\n";
    let (balancer, app) = serving(|_, n| with(FIELDS, n));
    balancer.ask(&asking("/x", ""));
    for condition in
        ["if-none-match: \"a\", W/\"e\"\r\n", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"]
    {
        let answer = balancer.ask(&asking("/x", condition));
        assert_eq!((status(&answer), body(&answer), field(&answer, "etag")), ("304", "", Some("\"e\"")));
        assert_eq!((field(&answer, "content-type"), field(&answer, "content-length")), (None, None));
    }
    assert_eq!(status(&balancer.ask(&asking("/x", "if-none-match: \"a\"\r\n"))), "200");
    let part = balancer.ask(&asking("/x", "range: bytes=2-3\r\n"));
    assert_eq!(
        (status(&part), body(&part), field(&part, "content-range")),
        ("206", "dy", Some("bytes 2-3/6"))
    );
    assert_eq!(field(&part, "content-length"), Some("2"));
    let none = balancer.ask(&asking("/x", "range: bytes=6-\r\n"));
    assert_eq!((status(&none), field(&none, "content-range")), ("416", Some("bytes */6")));
    let other = balancer.ask(&asking("/x", "range: bytes=2-3\r\nif-range: \"b\"\r\n"));
    assert_eq!((status(&other), body(&other)), ("200", "body 0"));
    let mut client = balancer.client();
    client.send("HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(field(&client.until("\r\n\r\n"), "content-length"), Some("6"));
    client.send(get("/x"));
    assert_eq!(
        (client.answer().1.as_str(), app.heads().len()),
        ("body 0", 1),
        "nothing but the first was asked for"
    );
}

#[test]
fn what_a_client_asks_of_the_service_goes_there_as_it_is() {
    let (balancer, app) = serving(|_, n| with("cache-control: max-age=60\r\n", n));
    for fields in [
        "range: bytes=0-1\r\n",
        "if-none-match: \"e\"\r\n",
        "if-match: \"e\"\r\n",
        "x-http-method-override: DELETE\r\n",
        "cache-control: no-store\r\n",
    ] {
        balancer.ask(&asking("/x", fields));
        assert!(app.heads().last().unwrap().contains(fields), "{fields}");
    }
    let count = app.heads().len();
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), format!("body {count}"), "none of them was stored");
    let answer = balancer.ask(&asking("/y", "cache-control: only-if-cached\r\n"));
    assert_eq!((status(&answer), app.heads().len()), ("504", count + 1));
}

#[test]
fn what_is_over_is_validated_by_its_own_and_a_304_changes_what_it_may() {
    let (balancer, app) = serving(|head, n| match head.contains("if-none-match: \"e\"") {
        false => with("cache-control: max-age=0\r\netag: \"e\"\r\nx-a: 1\r\ncontent-encoding: x\r\n", n),
        true => "HTTP/1.1 304 Not Modified\r\ncache-control: max-age=60\r\netag: \"e\"\r\nx-a: 2\r\n\
                 content-encoding: y\r\ncontent-length: 99\r\n\r\n"
            .to_owned(),
    });
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body 0");
    let own = balancer.ask(&asking("/x", "if-none-match: \"other\"\r\n"));
    assert_eq!((status(&own), body(&own), field(&own, "x-a")), ("200", "body 0", Some("2")));
    assert_eq!((field(&own, "content-encoding"), field(&own, "content-length")), (Some("x"), Some("6")));
    assert!(!app.heads()[1].contains("\"other\""), "{}", app.heads()[1]);
    assert_eq!(field(&own, "cache-status"), Some("skep; fwd=stale; fwd-status=304"));
    let hit = balancer.ask(&asking("/x", ""));
    assert_eq!((body(&hit), field(&hit, "x-a"), app.heads().len()), ("body 0", Some("2"), 2));
}

#[test]
fn a_304_that_is_of_one_client_is_stored_for_nobody() {
    let (balancer, app) = serving(|head, n| match head.contains("if-none-match") {
        false => with("cache-control: max-age=0\r\netag: \"e\"\r\n", n),
        true => {
            "HTTP/1.1 304 Not Modified\r\ncache-control: max-age=60\r\nset-cookie: a=b\r\n\r\n".to_owned()
        }
    });
    balancer.ask(&asking("/x", ""));
    let own = balancer.ask(&asking("/x", ""));
    assert_eq!((status(&own), body(&own), field(&own, "set-cookie")), ("200", "body 0", Some("a=b")));
    let next = balancer.ask(&asking("/x", ""));
    assert_eq!((body(&next), field(&next, "set-cookie")), ("body 2", None));
    assert_eq!(app.heads().len(), 3);
}

#[test]
fn where_the_service_fails_what_may_be_used_is_and_what_must_be_validated_is_not() {
    for (control, target, expected) in [
        ("max-age=0, stale-if-error=60", "/x", "200"),
        ("max-age=0", "/x", "500"),
        ("max-age=0, must-revalidate, stale-if-error=60", "/x", "500"),
        ("no-cache, stale-if-error=60", "/x", "500"),
        ("s-maxage=0, stale-if-error=60", "/x", "200"),
    ] {
        let (balancer, _app) = serving(move |_, n| match n {
            0 => with(&format!("cache-control: {control}\r\netag: \"e\"\r\n"), n),
            _ => "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned(),
        });
        balancer.ask(&asking(target, ""));
        let answer = balancer.ask(&asking(target, ""));
        assert_eq!(status(&answer), expected, "{control}");
        assert_eq!(body(&answer), if expected == "200" { "body 0" } else { "" });
    }
}

#[test]
fn a_service_that_ends_connections_is_one_that_fails() {
    let count = AtomicUsize::new(0);
    let app = Scripted::start(move |served| {
        if served.head().is_some() && count.fetch_add(1, SeqCst) == 0 {
            served.send(with("cache-control: max-age=0, stale-if-error=60\r\n", 0));
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    assert_eq!(status(&balancer.ask(&asking("/x", ""))), "200");
    let answer = balancer.ask(&asking("/x", ""));
    assert_eq!((status(&answer), body(&answer)), ("200", "body 0"));
    assert!(field(&answer, "cache-status").unwrap().ends_with("detail=error"), "{answer}");
    assert_eq!(status(&balancer.ask(&asking("/y", ""))), "502", "of which nothing is stored");
}

#[test]
fn what_says_nothing_of_it_is_stale_for_as_long_as_its_route_says() {
    let (balancer, app) =
        serving(|_, n| with(&format!("cache-control: max-age={}\r\netag: \"e\"\r\n", 60 * n), n));
    balancer.ask(&asking("/small", ""));
    assert_eq!(body(&balancer.ask(&asking("/small", ""))), "body 0");
    wait("it is stored", || body(&balancer.ask(&asking("/small", ""))) == "body 1");
    assert_eq!(app.heads().len(), 2);
}

#[test]
fn what_is_stale_is_used_while_it_is_asked_for_anew() {
    let (balancer, app) = serving(|_, n| {
        let age = if n == 0 { "max-age=0" } else { "max-age=60" };
        with(&format!("cache-control: {age}, stale-while-revalidate=60\r\n"), n)
    });
    balancer.ask(&asking("/x", ""));
    let stale = balancer.ask(&asking("/x", ""));
    assert_eq!(body(&stale), "body 0");
    wait("it is asked for anew", || app.heads().len() == 2);
    wait("it is stored", || body(&balancer.ask(&asking("/x", ""))) == "body 1");
    assert_eq!(app.heads().len(), 2);
}

#[test]
fn an_unsafe_request_that_works_invalidates_whatever_its_route_and_a_failed_one_does_not() {
    let (balancer, app) = serving(|head, n| match head.starts_with("GET") {
        true => with("cache-control: max-age=60\r\n", n),
        false if head.contains("x-fail") => "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
        false => "HTTP/1.1 204 No Content\r\nlocation: /y\r\n\r\n".to_owned(),
    });
    let ask = |target| body(&balancer.ask(&asking(target, ""))).to_owned();
    let (x, y) = (ask("/x"), ask("/y"));
    let unsafely = |method: &str, fields: &str| {
        balancer.ask(&asking("/x", fields).replace("GET", method));
    };
    unsafely("POST", "x-fail: 1\r\n");
    assert_eq!((ask("/x"), ask("/y")), (x.clone(), y.clone()));
    unsafely("OPTIONS", "");
    assert_eq!(ask("/x"), x);
    for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE"] {
        let before = (ask("/x"), ask("/y"));
        unsafely(method, "");
        let after = (ask("/x"), ask("/y"));
        assert!(before.0 != after.0 && before.1 != after.1, "{method}");
    }
    assert!(app.heads().len() > 10);
}

#[test]
fn what_was_cut_is_not_stored() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n\r\nuntil it is closed",
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let asked = count.clone();
        let app = Scripted::start(move |served| {
            if served.head().is_some() && asked.fetch_add(1, SeqCst) == 0 {
                served.send(cut);
            } else {
                served.send(with("cache-control: max-age=60\r\n", 1));
            }
        });
        let balancer = Balancer::start(&[]);
        balancer.route(DOCUMENT, &[("app", &[app.address])]);
        let mut client = balancer.client();
        client.send(asking("/x", ""));
        client.rest_or_reset();
        assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body 1", "{cut}");
        assert_eq!(count.load(SeqCst), 2);
    }
}

#[test]
fn what_is_longer_than_is_stored_goes_to_who_asked() {
    let (balancer, app) = serving(|head, n| match head.contains("/small/chunked") {
        false => with("cache-control: max-age=60\r\nx: 1\r\n", n + 1_000_000),
        true => "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n\
                 6\r\nabcdef\r\n6\r\nghijkl\r\n0\r\n\r\n"
            .to_owned(),
    });
    for number in 0..2 {
        assert_eq!(body(&balancer.ask(&asking("/small/known", ""))), format!("body {}", number + 1_000_000));
    }
    for _ in 0..2 {
        let answer = balancer.ask(&asking("/small/chunked", ""));
        assert!(
            answer.contains("abcdef") && answer.contains("ghijkl") && answer.ends_with("0\r\n\r\n"),
            "{answer}"
        );
    }
    assert_eq!(app.heads().len(), 4);
}

#[test]
fn hits_are_edited_as_the_route_says_today() {
    let (balancer, app) = serving(|_, n| with("cache-control: max-age=60\r\nx-inner: 1\r\n", n));
    let document = |edits: &str| {
        format!("{DOCUMENT}\n[routes.edited]\nmatch.path = \"/e\"\nservice = \"app\"\ncache = true\n{edits}")
    };
    let at = [app.address];
    balancer.route(&document("response_headers.set = {x-of = \"one\"}"), &[("app", &at)]);
    let first = balancer.ask(&asking("/e", ""));
    assert_eq!((field(&first, "x-of"), field(&first, "x-inner")), (Some("one"), Some("1")));
    balancer.route(
        &document("response_headers = {set = {x-of = \"two\"}, remove = [\"x-inner\"]}"),
        &[("app", &at)],
    );
    let hit = balancer.ask(&asking("/e", ""));
    assert_eq!((body(&hit), field(&hit, "x-of"), field(&hit, "x-inner")), ("body 0", Some("two"), None));
    balancer.route(&document("request_headers.set = {x-asked = \"1\"}"), &[("app", &at)]);
    assert_eq!(body(&balancer.ask(&asking("/e", ""))), "body 1", "the service is asked for something else");
}

#[tokio::test]
async fn http2_clients_get_what_is_stored() {
    let (balancer, app) = serving(|_, n| with("cache-control: max-age=60\r\n", n));
    let stream = tokio::net::TcpStream::connect(balancer.http).await.unwrap();
    let mut client = h2(stream).await;
    for (target, expected) in [("/x", "body 0"), ("/x", "body 0"), ("/y", "body 1"), ("/x", "body 0")] {
        let answer = client.send_request(request("GET", target, full(""))).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("cache-status")), (200, true));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
    }
    assert_eq!(app.heads().len(), 2);
}
