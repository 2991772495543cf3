//! What is written in place of what ended at this hop: a request's head for a backend, and what
//! heads are made of. Pure.

use crate::wire::fields::Field;
use crate::wire::request_head::{BodyLength, RequestHead};

/// The name that this proxy goes by in `Via`.
pub const VIA: &[u8] = b"1.1 skep";

/// What is said of the client to the backend.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The address as `X-Forwarded-For` writes it.
    pub address: &'a str,
    /// The same as `Forwarded` writes it: IPv6 quoted and in brackets.
    pub node: &'a str,
    /// `http` or `https`.
    pub proto: &'static str,
    /// Whether what it says of earlier hops is believed.
    pub trusted: bool,
}

/// The request line that the backend gets.
pub fn write_line(head: &RequestHead, buf: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(head.method_span.of(buf));
    out.push(b' ');
    out.extend_from_slice(head.target.of(buf));
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes the head that the backend gets, in origin-form and HTTP/1.1.
pub fn write_request(
    head: &RequestHead,
    buf: &[u8],
    client: Client<'_>,
    request_id: &[u8],
    out: &mut Vec<u8>,
) {
    write_line(head, buf, out);
    out.extend_from_slice(b"host: ");
    let host = head.host.map(|host| host.of(buf)).unwrap_or_default();
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    for field in &head.fields {
        write_field(buf, field, out);
    }
    match head.body {
        BodyLength::None => {}
        BodyLength::Length(bytes) => {
            out.extend_from_slice(b"content-length: ");
            write_number(bytes, out);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if head.expects_continue {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    if let Some(upgrade) = head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(upgrade.of(buf));
        out.extend_from_slice(b"\r\n");
    } else if head.te_trailers {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
    write_origin(head, buf, client, host, out);
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(request_id);
    out.extend_from_slice(b"\r\n\r\n");
}

/// `Via`, `Forwarded` (RFC 7239) and what came before it.
fn write_origin(head: &RequestHead, buf: &[u8], client: Client<'_>, host: &[u8], out: &mut Vec<u8>) {
    let (mut told_proto, mut told_host) = (false, false);
    if client.trusted {
        for field in &head.forwarded {
            let name = field.name.of(buf);
            told_proto |= name.eq_ignore_ascii_case(b"x-forwarded-proto");
            told_host |= name.eq_ignore_ascii_case(b"x-forwarded-host");
            write_field(buf, field, out);
        }
    }
    out.extend_from_slice(b"via: ");
    out.extend_from_slice(VIA);
    out.extend_from_slice(b"\r\nforwarded: for=");
    out.extend_from_slice(client.node.as_bytes());
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(client.proto.as_bytes());
    if !host.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\nx-forwarded-for: ");
    out.extend_from_slice(client.address.as_bytes());
    if !told_proto {
        out.extend_from_slice(b"\r\nx-forwarded-proto: ");
        out.extend_from_slice(client.proto.as_bytes());
    }
    if !told_host && !host.is_empty() {
        out.extend_from_slice(b"\r\nx-forwarded-host: ");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(b"\r\n");
}

pub fn write_field(buf: &[u8], field: &Field, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name.of(buf));
    out.extend_from_slice(b": ");
    out.extend_from_slice(field.value.of(buf));
    out.extend_from_slice(b"\r\n");
}

/// Decimal, without the machinery of `format!`.
pub fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
