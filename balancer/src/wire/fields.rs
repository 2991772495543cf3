//! Header fields: which are known, and which end at this hop.
//!
//! Pure. Lists are read by RFC 9110, 5.6.1; names compare without case.

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
