//! Header fields: which are known, which end at this hop, and what is written in their place.
//!
//! Pure. Lists are read by RFC 9110, 5.6.1; names compare without case.

use crate::wire::request_head::{Field, RequestHead};

/// Longest request id that a client may choose, in bytes.
const REQUEST_ID_LEN_MAX: usize = 128;

/// The name that this proxy goes by in `Via`.
pub const VIA: &[u8] = b"1.1 skep";

/// Header fields that decide something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Te,
    Host,
    Expect,
    Upgrade,
    Forwarded,
    Connection,
    KeepAlive,
    XRequestId,
    ContentLength,
    IdempotencyKey,
    ProxyConnection,
    TransferEncoding,
    XForwarded,
    SkepUnprocessed,
    Other,
}

impl Known {
    /// Whether naming it in Connection would change what the request is.
    pub fn is_protected(self) -> bool {
        use Known::*;
        matches!(
            self,
            Host | ContentLength
                | TransferEncoding
                | Expect
                | Forwarded
                | XForwarded
                | XRequestId
                | IdempotencyKey
                | Connection
        )
    }
}

pub fn known(name: &[u8]) -> Known {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is(b"te") => Known::Te,
        4 if is(b"host") => Known::Host,
        6 if is(b"expect") => Known::Expect,
        7 if is(b"upgrade") => Known::Upgrade,
        9 if is(b"forwarded") => Known::Forwarded,
        10 if is(b"connection") => Known::Connection,
        10 if is(b"keep-alive") => Known::KeepAlive,
        12 if is(b"x-request-id") => Known::XRequestId,
        14 if is(b"content-length") => Known::ContentLength,
        15 if is(b"x-forwarded-for") => Known::XForwarded,
        15 if is(b"idempotency-key") => Known::IdempotencyKey,
        16 if is(b"x-forwarded-host") => Known::XForwarded,
        16 if is(b"x-forwarded-port") => Known::XForwarded,
        16 if is(b"proxy-connection") => Known::ProxyConnection,
        16 if is(b"skep-unprocessed") => Known::SkepUnprocessed,
        17 if is(b"transfer-encoding") => Known::TransferEncoding,
        17 if is(b"x-forwarded-proto") => Known::XForwarded,
        _ => Known::Other,
    }
}

/// What Connection says, over all its lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// It names fields beside these.
    pub others: bool,
}

/// A Connection that is no list of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTokens;

impl ConnectionOptions {
    pub fn read(&mut self, value: &[u8]) -> Result<(), NotTokens> {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if token.iter().all(|b| is_token_byte(*b)) {
                self.others = true;
            } else {
                return Err(NotTokens);
            }
        }
        Ok(())
    }
}

/// The items of a comma-separated list, without the empty ones.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

pub fn has_token(value: &[u8], wanted: &[u8]) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// RFC 9110, 5.6.2.
pub fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Digits alone: no sign, no list, no space (RFC 9110, 8.6).
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |sum, b| sum.checked_mul(10)?.checked_add(u64::from(b - b'0')))
}

/// `uri-host [ ":" port ]`: no user, no path, no list.
pub fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|b| *b == b']') else { return false };
            let inner = &rest[..end];
            let valid =
                !inner.is_empty() && inner.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
            if !valid {
                return false;
            }
            (&value[..end + 2], &rest[end + 1..])
        }
        _ => {
            let end = value.iter().position(|b| *b == b':').unwrap_or(value.len());
            value.split_at(end)
        }
    };
    let is_host_byte = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%[]:".contains(b);
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    // An empty Host is legal (RFC 9112, 3.2) but names nothing that is served here.
    !host.is_empty() && host.len() <= 255 && host.iter().all(is_host_byte) && port_ok
}

pub fn is_request_id(value: &[u8]) -> bool {
    (1..=REQUEST_ID_LEN_MAX).contains(&value.len())
        && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(b))
}

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

/// Writes the head that the backend gets, in origin-form and HTTP/1.1.
pub fn write_request(
    head: &RequestHead,
    buf: &[u8],
    client: Client<'_>,
    request_id: &[u8],
    out: &mut Vec<u8>,
) {
    use crate::wire::request_head::BodyLength;
    out.extend_from_slice(head.method_span.of(buf));
    out.push(b' ');
    out.extend_from_slice(head.target.of(buf));
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
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
