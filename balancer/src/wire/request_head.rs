//! A request's head as HTTP/1.1 carries it: read strictly, or refused.
//!
//! Two parsers that read one head differently are how requests are smuggled, so whatever RFC 9112
//! leaves to a recipient's leniency is refused here. The head is read by spans into the buffer
//! that it came in; nothing is copied. Pure.

mod refusal;

use std::borrow::Cow;

use httparse::Status as Parsed;

pub use self::refusal::Refusal;
use self::refusal::{partial, refusal, unknown_coding};

use crate::wire::fields::{self, Field, Known, Span};

/// Longest head that is read, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields in a head.
pub const HEADERS_MAX: usize = 100;

/// The methods that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Connect,
    Other,
}

impl Method {
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Of those that are known.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Connect => "CONNECT",
            Self::Other => return None,
        })
    }

    /// Whether doing it twice is the same as doing it once (RFC 9110, 9.2.2).
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }

    /// Whether it asks for nothing to change (RFC 9110, 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether `Max-Forwards` says how far it may go (RFC 9110, 7.6.2).
    fn counts_hops(self) -> bool {
        matches!(self, Self::Options | Self::Trace)
    }
}

/// How a request's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyLength {
    #[default]
    None,
    /// Bytes.
    Length(u64),
    Chunked,
}

/// A request's head. Reused from one request to the next.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// Bytes that the head takes in the buffer, its blank line included.
    pub len: usize,
    pub method: Method,
    pub method_span: Span,
    /// In origin-form or `*`, but for what is implied.
    target: Span,
    /// What an absolute target with no path of its own means: `/`, or `*`.
    implied: &'static [u8],
    pub host: Option<Span>,
    /// HTTP/1.0.
    pub old: bool,
    pub body: BodyLength,
    /// Whether the client lets the connection go on after this request.
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// The protocol that the client asks to change to.
    pub upgrade: Option<Span>,
    /// Whether the client takes trailers.
    pub te_trailers: bool,
    /// How many hops more an OPTIONS or a TRACE may take.
    pub max_forwards: Option<u64>,
    pub has_idempotency_key: bool,
    pub request_id: Option<Span>,
    /// End-to-end fields, in order; those above that the forwarder writes itself are not among them.
    pub fields: Vec<Field>,
    /// What earlier proxies said of the client: passed on from trusted ones alone.
    pub forwarded: Vec<Field>,
}

/// A target in origin-form, or `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `/` or `*` where that is all that is meant by what was sent; else nothing.
    pub implied: &'static [u8],
    pub sent: &'a [u8],
}

impl<'a> Target<'a> {
    pub fn len(self) -> usize {
        self.implied.len() + self.sent.len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.implied);
        out.extend_from_slice(self.sent);
    }

    /// Both in one, to be looked at.
    pub fn whole(self) -> Cow<'a, [u8]> {
        if self.implied.is_empty() { self.sent.into() } else { [self.implied, self.sent].concat().into() }
    }
}

const LENGTHS: Refusal = Refusal::BadRequest("more than one body length");

impl RequestHead {
    /// Reads a head from the start of `buf`; `Ok(false)` where it is not whole yet.
    pub fn parse(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        // One empty line before a request is an old client's (RFC 9112, 2.2).
        let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
        let head = &buf[skipped..];
        if head.is_empty() || (head == b"\r" && skipped == 0) {
            return Ok(false);
        }
        let window = &head[..head.len().min(HEAD_BYTES_MAX)];
        if matches!(window[0], b'\r' | b'\n') {
            return Err(Refusal::BadRequest("an empty line for a request line"));
        }
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let len = match request.parse(window) {
            Ok(Parsed::Complete(len)) => len,
            Ok(Parsed::Partial) if head.len() >= HEAD_BYTES_MAX => {
                let long = request.version.is_none();
                return Err(if long { Refusal::TargetTooLong } else { Refusal::HeadTooLarge });
            }
            Ok(Parsed::Partial) => return partial(window).map(|()| false),
            Err(error) => return Err(refusal(error, window)),
        };
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
        else {
            return Err(Refusal::BadRequest("no request line"));
        };
        self.reset();
        self.len = skipped + len;
        self.old = minor == 0;
        self.method = Method::of(method.as_bytes());
        self.method_span = Span::within(buf, method.as_bytes());
        self.target = Span::within(buf, target.as_bytes());
        let line_end = self.target.end as usize + " HTTP/1.1".len();
        if self.method_span.start as usize != skipped
            || self.target.start != self.method_span.end + 1
            || buf.get(self.target.end as usize) != Some(&b' ')
            || buf.get(line_end..line_end + 2) != Some(b"\r\n")
        {
            return Err(Refusal::BadRequest("a malformed request line"));
        }
        check_lines(buf, line_end + 2, skipped + len, request.headers)?;
        self.read_fields(buf, request.headers)?;
        self.check_target(buf)?;
        Ok(true)
    }

    pub fn target<'a>(&self, buf: &'a [u8]) -> Target<'a> {
        Target { implied: self.implied, sent: self.target.of(buf) }
    }

    fn reset(&mut self) {
        let (mut fields, mut forwarded) =
            (std::mem::take(&mut self.fields), std::mem::take(&mut self.forwarded));
        fields.clear();
        forwarded.clear();
        *self = Self { fields, forwarded, ..Self::default() };
    }

    fn read_fields(&mut self, buf: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
        let mut length: Option<u64> = None;
        let mut coded = false;
        let mut named = fields::ConnectionOptions::default();
        let mut upgrade = None;
        let mut te_trailers = false;
        for header in headers {
            let (name, value) = (header.name.as_bytes(), header.value);
            let field = Field { name: Span::within(buf, name), value: Span::within(buf, value) };
            match fields::known(name) {
                Known::Host if self.host.is_some() => {
                    return Err(Refusal::BadRequest("more than one Host"));
                }
                Known::Host => {
                    if !fields::is_authority(value) {
                        return Err(Refusal::BadRequest("a malformed Host"));
                    }
                    self.host = Some(field.value);
                }
                Known::ContentLength if length.is_some() => return Err(LENGTHS),
                Known::ContentLength => match fields::number(value) {
                    Some(bytes) => length = Some(bytes),
                    None => return Err(Refusal::BadRequest("a malformed Content-Length")),
                },
                Known::TransferEncoding if coded => {
                    return Err(Refusal::BadRequest("more than one Transfer-Encoding"));
                }
                Known::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => coded = true,
                Known::TransferEncoding => return Err(unknown_coding(value)),
                Known::Connection => {
                    named.read(value).map_err(|_| Refusal::BadRequest("a malformed Connection"))?;
                }
                Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => self.expects_continue = true,
                Known::Expect => return Err(Refusal::Expectation),
                Known::Upgrade => upgrade = Some(field.value),
                Known::Te => te_trailers |= fields::has_token(value, b"trailers"),
                Known::KeepAlive | Known::ProxyConnection => {}
                Known::XRequestId => {
                    let usable = fields::is_request_id(value) && self.request_id.is_none();
                    self.request_id = if usable { Some(field.value) } else { self.request_id };
                }
                Known::Forwarded | Known::XForwarded => self.forwarded.push(field),
                Known::MaxForwards if self.method.counts_hops() => {
                    match fields::number(value).filter(|_| self.max_forwards.is_none()) {
                        Some(hops) => self.max_forwards = Some(hops),
                        None => return Err(Refusal::BadRequest("a malformed Max-Forwards")),
                    }
                }
                Known::Other if fields::is_disguised(name) => {}
                Known::IdempotencyKey => {
                    self.has_idempotency_key = true;
                    self.fields.push(field);
                }
                _ => self.fields.push(field),
            }
        }
        if named.others {
            self.drop_named(buf, headers)?;
        }
        self.keep_alive = if self.old { named.keep_alive && !named.close } else { !named.close };
        self.body = match (coded, length) {
            (true, Some(_)) => return Err(Refusal::BadRequest("both Content-Length and Transfer-Encoding")),
            (true, None) if self.old => {
                return Err(Refusal::BadRequest("Transfer-Encoding in HTTP/1.0"));
            }
            (true, None) => BodyLength::Chunked,
            (false, Some(bytes)) => BodyLength::Length(bytes),
            (false, None) => BodyLength::None,
        };
        let bodiless = matches!(self.body, BodyLength::None | BodyLength::Length(0));
        self.expects_continue &= !self.old && !bodiless;
        self.te_trailers = te_trailers && !self.old;
        // An upgrade with a body or from HTTP/1.0 may be ignored (RFC 9110, 7.8), and so is one to
        // HTTP/2: a client that wants it uses prior knowledge or ALPN.
        self.upgrade = upgrade.filter(|span| {
            named.upgrade && !self.old && bodiless && !fields::has_token(span.of(buf), b"h2c")
        });
        Ok(())
    }

    /// Drops the fields that Connection names. Naming one that decides where the request goes or
    /// ends would have it forwarded without that: refused.
    fn drop_named(&mut self, buf: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
        let lists = || headers.iter().filter(|h| fields::known(h.name.as_bytes()) == Known::Connection);
        for header in lists() {
            for token in fields::tokens(header.value) {
                if fields::known(token).is_protected() {
                    return Err(Refusal::BadRequest("Connection names a field that is not hop-by-hop"));
                }
            }
        }
        let is_named =
            |field: &Field| lists().any(|header| fields::has_token(header.value, field.name.of(buf)));
        self.fields.retain(|field| !is_named(field));
        Ok(())
    }

    fn check_target(&mut self, buf: &[u8]) -> Result<(), Refusal> {
        let target = self.target.of(buf);
        if self.host.is_none() && !self.old {
            return Err(Refusal::BadRequest("no Host"));
        }
        if target.iter().any(|b| !b.is_ascii_graphic() || *b == b'#') {
            return Err(Refusal::BadRequest("a malformed target"));
        }
        match (self.method, target) {
            (Method::Connect, _) => Err(Refusal::NotImplemented("CONNECT is not served")),
            (_, [b'/', ..]) => Ok(()),
            (Method::Options, b"*") => Ok(()),
            _ => self.absolute_target(buf),
        }
    }

    /// Absolute-form: its authority is the host, whatever Host says (RFC 9112, 3.2.2). Where it has no
    /// path, `/` is meant, or the server as a whole (3.2.4).
    fn absolute_target(&mut self, buf: &[u8]) -> Result<(), Refusal> {
        let target = self.target.of(buf);
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| target.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme)));
        let Some(scheme) = scheme else { return Err(Refusal::BadRequest("a malformed target")) };
        let rest = &target[scheme.len()..];
        let authority = &rest[..rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len())];
        let start = self.target.start + (scheme.len() + authority.len()) as u32;
        if authority.is_empty() || !fields::is_authority(authority) {
            return Err(Refusal::BadRequest("a malformed target"));
        }
        self.host = Some(Span::within(buf, authority));
        self.target = Span { start, end: self.target.end };
        self.implied = match (self.target.of(buf).first(), self.method) {
            (Some(b'/'), _) => b"",
            (None, Method::Options) => b"*",
            _ => b"/",
        };
        Ok(())
    }
}

/// httparse takes a bare LF for a line's end; between a value and the next name, only optional
/// whitespace and CRLF may stand.
pub(super) fn check_lines(
    buf: &[u8],
    first: usize,
    end: usize,
    headers: &[httparse::Header<'_>],
) -> Result<(), Refusal> {
    const ENDS: Refusal = Refusal::BadRequest("a line that does not end with CRLF");
    let mut line = first;
    for header in headers {
        let name = Span::within(buf, header.name.as_bytes());
        let value = Span::within(buf, header.value);
        if name.start as usize != line || buf.get(name.end as usize) != Some(&b':') {
            return Err(Refusal::BadRequest("a malformed header field"));
        }
        let mut at = value.end as usize;
        while matches!(buf.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        if buf.get(at..at + 2) != Some(b"\r\n") {
            return Err(ENDS);
        }
        line = at + 2;
    }
    if line + 2 != end || buf.get(line..end) != Some(b"\r\n") {
        return Err(ENDS);
    }
    Ok(())
}
