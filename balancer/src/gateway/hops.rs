//! OPTIONS and TRACE whose `Max-Forwards` ends here: this is their final recipient (RFC 9110, 7.6.2).

use std::borrow::Cow;

use super::{Answer, Asked};
use crate::wire::request_head::Method;
use crate::wire::write::{write_field, write_line};

/// What the final recipient takes of the methods there are.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, PATCH";

pub(super) fn answer(asked: &Asked<'_>) -> Answer {
    let (field, body) = match asked.head.method {
        Method::Trace => (("content-type", "message/http"), reflection(asked).into()),
        _ => (("allow", METHODS), Cow::default()),
    };
    let field = Some((field.0, Cow::Borrowed(field.1)));
    Answer { field, body, ..Answer::text(200, "OK", "") }
}

/// What came, as far as it says which way it took. What may be a secret is left out, as it must be
/// (RFC 9110, 9.3.8): that is everything but for these.
fn reflection(asked: &Asked<'_>) -> Vec<u8> {
    let (head, buf) = (asked.head, asked.buf);
    let mut out = Vec::new();
    write_line(head, buf, &mut out);
    if let Some(host) = head.host {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(host.of(buf));
        out.extend_from_slice(b"\r\n");
    }
    let is_via = |name: &[u8]| name.eq_ignore_ascii_case(b"via");
    for field in head.fields.iter().filter(|it| is_via(it.name.of(buf))) {
        write_field(buf, field, &mut out);
    }
    out.extend_from_slice(b"max-forwards: 0\r\n\r\n");
    out
}
