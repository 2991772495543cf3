//! The corpus of requests that are refused, and of those that must not be.

mod refused;

use self::refused::{CHUNKS_REFUSED, REFUSED};
use crate::wire::body::Body;
use crate::wire::request_head::*;
use crate::wire::write::{Client, write_request};

fn parse(text: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    let mut head = RequestHead::default();
    head.parse(text).map(|whole| whole.then_some(head))
}

fn forwarded(text: &str, trusted: bool) -> String {
    let head = parse(text.as_bytes()).unwrap().unwrap();
    let client = Client { address: "192.0.2.1", node: "192.0.2.1", proto: "http", http2: false, trusted };
    let mut out = Vec::new();
    write_request(&head, text.as_bytes(), client, b"id", None, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn each_malformed_or_ambiguous_head_is_refused() {
    assert!(REFUSED.len() >= 60);
    for (text, status) in REFUSED {
        match parse(text.as_bytes()) {
            Err(refusal) => assert_eq!(refusal.status(), *status, "{text:?}: {refusal}"),
            Ok(head) => panic!("{text:?} was read as {head:?}"),
        }
    }
}

#[test]
fn a_refused_head_is_never_whole_before_it_is_refused() {
    for (text, _) in REFUSED {
        for end in 0..text.len() {
            let read = parse(&text.as_bytes()[..end]);
            assert!(!matches!(read, Ok(Some(_))), "{text:?} cut at {end} was read as {read:?}");
        }
    }
}

#[test]
fn each_malformed_chunk_is_refused() {
    for text in CHUNKS_REFUSED {
        let whole = Body::from(BodyLength::Chunked).take(text.as_bytes());
        assert!(whole.is_err(), "{text:?}: {whole:?}");
        let mut body = Body::from(BodyLength::Chunked);
        let each = text.bytes().find_map(|b| body.take(&[b]).err());
        assert!(each.is_some(), "{text:?}, byte by byte");
    }
    let long = format!("5;{}\r\n", "a".repeat(300));
    assert!(Body::from(BodyLength::Chunked).take(long.as_bytes()).is_err());
    let trailers = format!("0\r\n{}\r\n", "X: yyyyyyyyyyyy\r\n".repeat(1000));
    assert!(Body::from(BodyLength::Chunked).take(trailers.as_bytes()).is_err());
}

#[test]
fn heads_that_are_too_large_or_have_too_many_fields_are_refused() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(parse(long_target.as_bytes()).unwrap_err().status(), 414);
    let long_value = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(parse(long_value.as_bytes()).unwrap_err().status(), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
    assert_eq!(parse(many.as_bytes()).unwrap_err().status(), 431);
}

#[test]
fn ordinary_heads_are_read_and_what_is_cut_is_waited_for() {
    for (text, body, keep_alive) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", BodyLength::None, true),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BodyLength::None, true),
        ("GET / HTTP/1.0\r\n\r\n", BodyLength::None, false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", BodyLength::None, true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", BodyLength::None, false),
        ("GET /?q={\"a\":1|2}^ HTTP/1.1\r\nhost: [::1]:80\r\nx:\r\n\r\n", BodyLength::None, true),
        ("POST /a HTTP/1.1\r\nHost: a.b:80 \t\r\nContent-Length: 007\r\n\r\n", BodyLength::Length(7), true),
        ("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", BodyLength::Chunked, true),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", BodyLength::None, true),
        ("PROPFIND /x HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", BodyLength::None, true),
    ] {
        let head = parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}")).unwrap();
        assert_eq!((head.body, head.keep_alive, head.len), (body, keep_alive, text.len()), "{text:?}");
        for end in 0..text.len() {
            assert!(matches!(parse(&text.as_bytes()[..end]), Ok(None)), "{text:?} cut at {end}");
        }
    }
}

#[test]
fn an_absolute_target_becomes_origin_form() {
    for (line, expected) in [
        ("GET HTTP://A.b/x?y", "GET /x?y HTTP/1.1\r\nhost: A.b\r\n"),
        // The target wins (RFC 9112, 3.2.2).
        ("GET http://b.test:81/x", "GET /x HTTP/1.1\r\nhost: b.test:81\r\n"),
        ("GET http://a.b:80/x", "GET /x HTTP/1.1\r\nhost: a.b:80\r\n"),
        ("GET https://[::1]/", "GET / HTTP/1.1\r\nhost: [::1]\r\n"),
        ("GET http://a.b", "GET / HTTP/1.1\r\nhost: a.b\r\n"),
        ("GET http://a.b?x/y", "GET /?x/y HTTP/1.1\r\nhost: a.b\r\n"),
        // The server as a whole (RFC 9112, 3.2.4).
        ("OPTIONS http://a.b", "OPTIONS * HTTP/1.1\r\nhost: a.b\r\n"),
        ("OPTIONS http://a.b/", "OPTIONS / HTTP/1.1\r\nhost: a.b\r\n"),
        ("OPTIONS http://a.b?x", "OPTIONS /?x HTTP/1.1\r\nhost: a.b\r\n"),
    ] {
        let sent = forwarded(&format!("{line} HTTP/1.1\r\nHost: a.B\r\n\r\n"), false);
        assert!(sent.starts_with(expected), "{line}: {sent}");
    }
}

#[test]
fn what_strangers_say_as_a_proxy_would_is_not_passed_on_and_what_only_sounds_like_it_is() {
    let said = "X-Real-IP: 1\r\nX-Original-URL: /2\r\nx-forwarded-prefix: /3\r\nTrue-Client-IP: 4\r\n";
    let disguised = "X_Forwarded_For: 5\r\nx_real-ip: 6\r\nContent_Length: 7\r\nx_request_id: 8\r\n\
                     X_FORWARDED_SOMETHING_THAT_IS_VERY_LONG_INDEED: 9\r\n";
    let other = "my_key: a\r\nx-realm: b\r\nX-Original: c\r\n";
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{said}{disguised}{other}\r\n");
    let sent = forwarded(&text, false);
    assert!(sent.starts_with(&format!("GET / HTTP/1.1\r\nhost: a\r\n{other}via: ")), "{sent}");
    let sent = forwarded(&text, true);
    let begin = format!("GET / HTTP/1.1\r\nhost: a\r\n{other}{said}via: ");
    assert!(sent.starts_with(&begin), "a name in disguise is nobody's: {sent}");
}

#[test]
fn the_way_that_is_left_is_one_hop_shorter_where_it_is_counted() {
    for (line, value, sent) in [
        ("OPTIONS *", "7", "max-forwards: 6\r\n"),
        ("TRACE /", "0001", "max-forwards: 0\r\n"),
        ("GET /", "7", "Max-Forwards: 7\r\n"),
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
        assert!(forwarded(&text, false).contains(&format!("\r\n{sent}")), "{text}");
    }
}

#[test]
fn what_the_grammar_of_chunks_allows_is_read() {
    for text in [
        "5 ;a=b\r\nhello\r\n0\r\n\r\n",
        "5\t; a\r\nhello\r\n0;end\r\n\r\n",
        "5;a = \"b;\\\"\u{e9}\t\" ; c=d;e\r\nhello\r\n0\r\n\r\n",
        "005\r\nhello\r\n000\r\nX: y\r\nx-sum:\r\nDate: z\r\n\r\n",
    ] {
        let mut body = Body::from(BodyLength::Chunked);
        assert_eq!(body.take(text.as_bytes()), Ok(text.len()), "{text:?}");
        assert!(body.is_done());
    }
}

#[test]
fn what_ends_at_this_hop_is_dropped_and_what_is_said_of_the_client_is_replaced() {
    let text = "GET /x HTTP/1.1\r\nHost: a\r\nAccept: b\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\n\
                Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nVia: 1.0 other\r\nUpgrade: websocket\r\n\
                Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Request-Id: bad id\r\n\r\n";
    assert_eq!(
        forwarded(text, false),
        "GET /x HTTP/1.1\r\nhost: a\r\nAccept: b\r\nVia: 1.0 other\r\nvia: 1.1 skep\r\n\
         forwarded: for=192.0.2.1;proto=http;host=\"a\"\r\nx-forwarded-for: 192.0.2.1\r\n\
         x-forwarded-proto: http\r\nx-forwarded-host: a\r\nx-request-id: id\r\n\r\n"
    );
}

#[test]
fn a_trusted_proxy_is_believed() {
    let text = "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(
        forwarded(text, true),
        "GET /x HTTP/1.1\r\nhost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nvia: 1.1 skep\r\n\
         forwarded: for=192.0.2.1;proto=http;host=\"a\"\r\nx-forwarded-for: 192.0.2.1\r\n\
         x-forwarded-host: a\r\nx-request-id: id\r\n\r\n"
    );
}

#[test]
fn an_upgrade_passes_with_its_protocol_but_not_to_http2_or_with_a_body() {
    let upgrade = |more: &str| {
        let text = format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{more}\r\n");
        forwarded(&text, false)
    };
    assert!(upgrade("Upgrade: websocket\r\n").contains("connection: upgrade\r\nupgrade: websocket\r\n"));
    assert!(!upgrade("Upgrade: h2c\r\n").contains("pgrade"));
    assert!(!upgrade("Upgrade: websocket\r\nContent-Length: 4\r\n").contains("pgrade"));
}
