//! Requests' heads: what is accepted is read the same again once it is rewritten for a backend.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_balancer::wire::request_head::RequestHead;
use skep_balancer::wire::write::{Client, write_request};
use skep_fuzz::bounded::bounded;
use skep_fuzz::heads::beyond_limits;
use skep_fuzz::seeds;

const CLIENT: Client<'_> =
    Client { address: "192.0.2.1", node: "192.0.2.1", proto: "http", http2: false, trusted: false };

fuzz_target!(init: seeds::write(seeds::request_heads), |bytes: &[u8]| {
    let mut head = RequestHead::default();
    let read = bounded(bytes.len(), || head.parse(bytes));
    // A head that was accepted, or refused for good, stays so with whatever follows it.
    let more = [bytes, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
    let mut again = RequestHead::default();
    match &read {
        // Why it is refused may be seen elsewhere first.
        Err(_) => assert!(again.parse(&more).is_err()),
        Ok(true) => assert_eq!(again.parse(&more), Ok(true)),
        Ok(false) => {}
    }
    if read != Ok(true) {
        return;
    }
    assert!(head.len <= bytes.len());
    for end in 0..head.len {
        assert_ne!(RequestHead::default().parse(&bytes[..end]), Ok(true), "whole before its end");
    }
    let mut out = Vec::new();
    write_request(&head, bytes, CLIENT, b"id", None, &mut out);
    if beyond_limits(&out) {
        return;
    }
    if head.host.is_none() {
        // An old client's request has an empty Host from here on (RFC 9110, 7.2): more than this
        // reader takes from a client.
        let line = out.windows(8).position(|it| it == b"host: \r\n").expect("there is a Host") + 6;
        out.insert(line, b'a');
    }
    let read = again.parse(&out).expect("what is sent to a backend is well formed");
    assert!(read && again.len == out.len(), "what is sent ends where it should");
    assert_eq!((again.method, again.body), (head.method, head.body));
    assert_eq!(again.target(&out).whole(), head.target(bytes).whole());
    let hops = head.max_forwards.map(|hops| hops.saturating_sub(1));
    assert_eq!(again.max_forwards, hops);
    assert_eq!(again.expects_continue, head.expects_continue);
    assert_eq!(again.upgrade.map(|it| it.of(&out)), head.upgrade.map(|it| it.of(bytes)));
});
