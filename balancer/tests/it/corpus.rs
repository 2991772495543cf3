//! The corpus, sent raw: each refused, the connection closed, and nothing of it at a backend.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::*;

// One list for the parsers' own tests and for these.
#[path = "../../src/wire/corpus/refused.rs"]
mod refused;

/// Requests with the parts that a head alone cannot show: bodies, and what hides behind them.
const SMUGGLING: &[&str] = &[
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 44\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\n\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "\0\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n",
];

/// Each with the status that it must be refused by.
fn corpus() -> Vec<(String, u16)> {
    let heads = refused::REFUSED.iter().map(|(text, status)| (text.to_string(), *status));
    let smuggling = SMUGGLING.iter().map(|text| (text.to_string(), 400));
    let chunked = |body: &&str| {
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), 400)
    };
    heads.chain(smuggling).chain(refused::CHUNKS_REFUSED.iter().map(chunked)).collect()
}

#[test]
fn what_is_malformed_is_refused_closed_and_reaches_no_backend() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    let corpus = corpus();
    assert!(corpus.len() >= 60);
    for (request, status) in corpus {
        let mut client = balancer.client();
        if request.as_bytes().starts_with(http2_preface()) {
            // No HTTP/1 at all: another protocol's own refusal, in its frames.
            client.send(&request);
            client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
            client.rest_or_reset();
            continue;
        }
        client.send(&request);
        client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
        let answers = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count();
        assert!(answer.contains("connection: close") && answers == 1, "{request:?}: {answer}");
    }
    assert_eq!(backend.heads(), [""; 0]);
    // And it goes on serving.
    assert!(balancer.ask(&get_and_close("/")).ends_with("b /"));
}

#[test]
fn where_a_read_ends_makes_no_difference_to_what_is_refused() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    for (request, status) in refused::REFUSED {
        if request.as_bytes().starts_with(http2_preface()) {
            continue;
        }
        let mut client = balancer.client();
        for byte in request.bytes() {
            // The refusal may be there before the last byte.
            if client.0.write_all(&[byte]).is_err() {
                break;
            }
        }
        let answer = client.rest_or_reset();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
    assert_eq!(backend.heads(), [""; 0]);
}

fn http2_preface() -> &'static [u8] {
    skep_balancer::listen::http2::PREFACE
}

#[test]
fn chunks_that_turn_out_malformed_after_the_head_was_sent_reach_no_answer_twice() {
    let backend = Scripted::start(|served| {
        served.head();
        let mut rest = Vec::new();
        let _ = served.stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("hidden"));
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut client = balancer.client();
    // More than is read before a backend is chosen.
    let chunk = format!("20000\r\n{}\r\n", "x".repeat(0x20000));
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
    wait("the backend has the head", || !backend.heads().is_empty());
    client.send("zz\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.rest().starts_with("HTTP/1.1 400"));
}

#[test]
fn a_client_that_leaves_in_the_middle_does_no_harm() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[backend.address]);
    for cut in ["G", "GET / HTTP/1.1\r\nHost", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"] {
        let mut client = balancer.client();
        client.0.write_all(cut.as_bytes()).unwrap();
        client.0.shutdown(Shutdown::Both).unwrap();
    }
    assert!(balancer.ask(&get_and_close("/")).ends_with("b /"));
    assert_eq!(backend.heads().len(), 1);
}
