//! Answers' heads: what is accepted is read the same again once it is rewritten for the client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_balancer::wire::request_head::Method;
use skep_balancer::wire::response_head::{AnswerLength, ResponseHead, write_response};
use skep_balancer::wire::write::Framing;
use skep_fuzz::bounded::bounded;
use skep_fuzz::heads::beyond_limits;
use skep_fuzz::seeds;

fuzz_target!(init: seeds::write(seeds::response_heads), |bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let method = if choice % 2 == 0 { Method::Get } else { Method::Head };
    let mut head = ResponseHead::default();
    let read = bounded(bytes.len(), || head.parse(bytes, method));
    if read != Ok(true) {
        return;
    }
    assert!(head.len <= bytes.len());
    let framing = Framing {
        close: false,
        say_keep_alive: false,
        chunked: true,
        is_head: method == Method::Head,
        date: *b"Sun, 06 Nov 1994 08:49:37 GMT",
    };
    let mut out = Vec::new();
    write_response(&head, bytes, framing, &mut out);
    if beyond_limits(&out) {
        return;
    }
    let mut again = ResponseHead::default();
    assert_eq!(again.parse(&out, method), Ok(true), "what is sent to a client is well formed");
    assert_eq!(again.len, out.len());
    // What ends with its connection ends with a chunk from here on.
    let body = if head.body == AnswerLength::Close { AnswerLength::Chunked } else { head.body };
    assert_eq!((again.status, again.body), (head.status, body));
    assert!(again.has_date || head.status < 200);
    assert_eq!(again.upgrade.map(|it| it.of(&out)), head.upgrade.map(|it| it.of(bytes)));
});
