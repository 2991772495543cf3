//! Header fields: which are known, and which end at this hop.
//!
//! Pure. Lists are read by RFC 9110, 5.6.1; names compare without case.

use skep_gateway::fields::is_of_consumers;

/// Longest request id that a client may choose, in bytes.
const REQUEST_ID_LEN_MAX: usize = 128;

/// A part of the buffer that a head was read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The span of `part`, which lies in `whole`.
    pub fn within(whole: &[u8], part: &[u8]) -> Self {
        // Both are bounded by the longest head that is read.
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize) as u32;
        Self { start, end: start + part.len() as u32 }
    }

    pub fn of<'a>(&self, whole: &'a [u8]) -> &'a [u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A header field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: Span,
    pub value: Span,
}

/// Header fields that decide something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Te,
    Host,
    Date,
    Expect,
    Upgrade,
    Forwarded,
    Connection,
    KeepAlive,
    XRequestId,
    MaxForwards,
    ContentLength,
    IdempotencyKey,
    ProxyConnection,
    TransferEncoding,
    /// What proxies say of who asked and for what: believed of trusted ones alone.
    XForwarded,
    SkepUnprocessed,
    Other,
}

/// Names beside `X-Forwarded-…` under which backends believe what a proxy says of who asked and for what.
const SAID_BY_PROXIES: [&[u8]; 22] = [
    b"x-real-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-remote-ip",
    b"x-remote-addr",
    b"x-remote-user",
    b"x-forwarded",
    b"x-rewrite-url",
    b"x-original-url",
    b"x-original-uri",
    b"x-original-host",
    b"x-original-method",
    b"x-original-proto",
    b"x-original-for",
    b"x-original-forwarded-for",
    b"x-host",
    b"x-http-host-override",
    b"x-scheme",
    b"x-url-scheme",
    b"x-proxyuser-ip",
    b"x-envoy-external-address",
    b"x-envoy-original-path",
];

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
        4 if is(b"date") => Known::Date,
        // HTTP_PROXY, once it is a variable of CGI's.
        5 if is(b"proxy") => Known::XForwarded,
        6 if is(b"expect") => Known::Expect,
        7 if is(b"upgrade") => Known::Upgrade,
        9 if is(b"forwarded") => Known::Forwarded,
        9 if is(b"client-ip") => Known::XForwarded,
        10 if is(b"connection") => Known::Connection,
        10 if is(b"keep-alive") => Known::KeepAlive,
        11 if is(b"remote-user") => Known::XForwarded,
        12 if is(b"x-request-id") => Known::XRequestId,
        12 if is(b"max-forwards") => Known::MaxForwards,
        14 if is(b"content-length") => Known::ContentLength,
        14 if is(b"true-client-ip") => Known::XForwarded,
        15 if is(b"proxy-client-ip") || is(b"front-end-https") => Known::XForwarded,
        15 if is(b"idempotency-key") => Known::IdempotencyKey,
        16 if is(b"proxy-connection") => Known::ProxyConnection,
        16 if is(b"skep-unprocessed") => Known::SkepUnprocessed,
        16 if is(b"cf-connecting-ip") => Known::XForwarded,
        16 if is(b"fastly-client-ip") => Known::XForwarded,
        18 if is(b"wl-proxy-client-ip") || is(b"cf-connecting-ipv6") => Known::XForwarded,
        17 if is(b"transfer-encoding") => Known::TransferEncoding,
        9.. if is_said_by_proxies(name) => Known::XForwarded,
        _ => Known::Other,
    }
}

fn is_said_by_proxies(name: &[u8]) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    matches!(name, [b'x' | b'X', b'-', ..])
        && (name.get(..FORWARDED.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED))
            || SAID_BY_PROXIES.iter().any(|it| name.eq_ignore_ascii_case(it)))
}

/// Whether a name decides something once `_` is read as `-`, as CGI and what came of it do (RFC 3875, 4.1.18):
/// it would reach a backend as what it only looks like.
pub fn is_disguised(name: &[u8]) -> bool {
    /// Longer than each that is known; of longer ones, the beginning says whether they are.
    const NAME_BYTES_MAX: usize = 32;
    if !name.contains(&b'_') {
        return false;
    }
    let mut plain = [0; NAME_BYTES_MAX];
    let read = name.iter().map(|b| if *b == b'_' { b'-' } else { *b });
    plain.iter_mut().zip(read).for_each(|(to, b)| *to = b);
    known(&plain[..name.len().min(NAME_BYTES_MAX)]) != Known::Other
}

/// Whether a field may come behind a request's body. Not what says how a message is read, where it goes, who sends it
/// or which way it came: who reads it there reads it too late, and who merges it into the head is misled
/// (RFC 9110, 6.5.1).
pub fn may_trail_a_request(name: &[u8]) -> bool {
    const BEFORE_THE_BODY: [&[u8]; 14] = [
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"via",
        b"trailer",
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-location",
        b"content-range",
        b"cache-control",
        b"pragma",
        b"range",
        b"http2-settings",
    ];
    let is = |it: &&[u8]| {
        let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
        name.len() == it.len() && name.iter().zip(*it).all(same)
    };
    let is_condition = name.get(..3).is_some_and(|it| it.eq_ignore_ascii_case(b"if-"));
    matches!(known(name), Known::Other | Known::Date)
        && !is_disguised(name)
        && !is_condition
        && !is_of_consumers(name)
        && !BEFORE_THE_BODY.iter().any(is)
}

/// Whether a field may come behind an answer's body at all: not what says where that ends, what is about the
/// connection, or whether the request was executed.
pub fn may_trail_an_answer(name: &[u8]) -> bool {
    !is_of_connection(name) && !matches!(known(name), Known::ContentLength | Known::SkepUnprocessed)
}

/// Whether a field is about this connection alone: it has no place in HTTP/2 (RFC 9113, 8.2.2).
pub fn is_of_connection(name: &[u8]) -> bool {
    use Known::*;
    matches!(known(name), Connection | KeepAlive | ProxyConnection | TransferEncoding | Upgrade | Te)
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

/// Digits alone: no sign, no list, no space (RFC 9110, 7.6.2 and 8.6).
pub fn number(value: &[u8]) -> Option<u64> {
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
