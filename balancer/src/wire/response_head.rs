//! A backend's answer's head: read as strictly as a request's, and rewritten for the client.
//!
//! A backend whose answer is ambiguous is answered for with 502: what one reader takes for the
//! next answer another takes for this one's body. Pure.

use std::sync::Arc;

use httparse::Status as Parsed;
use skep_gateway::fields::Edits;

use crate::wire::fields::{self, Field, Known, Span};
use crate::wire::request_head::{HEAD_BYTES_MAX, HEADERS_MAX, Method, Refusal, check_lines};
use crate::wire::write::{
    Framing, RateLimit, VIA_HTTP_1_0, VIA_HTTP_1_1, write_added, write_field, write_number,
};

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerLength {
    /// It has none, whatever its fields say: HEAD, 1xx, 204, 304.
    #[default]
    None,
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

/// An answer that cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the backend's answer: {0}")]
pub struct BadAnswer(pub &'static str);

/// An answer's head. Reused from one answer to the next.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    pub len: usize,
    pub status: u16,
    /// HTTP/1.0.
    pub old: bool,
    pub reason: Span,
    pub body: AnswerLength,
    /// What Content-Length says where there is no body, as in an answer to HEAD.
    pub told_length: Option<u64>,
    /// Whether the backend lets the connection go on after this answer.
    pub keep_alive: bool,
    /// `Skep-Unprocessed: 1`: certainly not executed.
    pub unprocessed: bool,
    pub has_date: bool,
    /// The protocol that this changes to (101), or that is required (426).
    pub upgrade: Option<Span>,
    /// End-to-end fields but for those of the framing.
    pub fields: Vec<Field>,
    /// What a route has added.
    edits: Option<Arc<Edits>>,
    /// What else is added.
    rate_limit: Option<Arc<RateLimit>>,
    /// A cookie of the balancer's own.
    cookie: Option<Arc<str>>,
    more: Vec<(&'static str, String)>,
}

impl ResponseHead {
    /// Reads a head from the start of `buf`; `Ok(false)` where it is not whole yet.
    pub fn parse(&mut self, buf: &[u8], request: Method) -> Result<bool, BadAnswer> {
        let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let len = match response.parse(window) {
            Ok(Parsed::Complete(len)) => len,
            Ok(Parsed::Partial) if buf.len() >= HEAD_BYTES_MAX => {
                return Err(BadAnswer("its head is too large"));
            }
            Ok(Parsed::Partial) => return Ok(false),
            Err(_) => return Err(BadAnswer("its head is malformed")),
        };
        let (Some(minor), Some(status)) = (response.version, response.code) else {
            return Err(BadAnswer("it has no status line"));
        };
        if !(100..1000).contains(&status) {
            return Err(BadAnswer("its status is none"));
        }
        self.reset();
        (self.len, self.status, self.old) = (len, status, minor == 0);
        let reason = response.reason.unwrap_or_default();
        let line_end = window.iter().position(|b| *b == b'\n').unwrap_or_default();
        if !window.starts_with(b"HTTP/1.") || line_end == 0 || window[line_end - 1] != b'\r' {
            return Err(BadAnswer("its status line is malformed"));
        }
        if !reason.is_empty() {
            self.reason = Span::within(buf, reason.as_bytes());
        }
        check_lines(buf, line_end + 1, len, response.headers).map_err(|refusal| match refusal {
            Refusal::BadRequest(reason) => BadAnswer(reason),
            _ => BadAnswer("its head is malformed"),
        })?;
        self.read_fields(buf, response.headers, request)?;
        Ok(true)
    }

    /// Whether its body is events without an end (`text/event-stream`).
    pub fn is_event_stream(&self, buf: &[u8]) -> bool {
        let is_type = |field: &&Field| field.name.of(buf).eq_ignore_ascii_case(b"content-type");
        let value = self.fields.iter().find(is_type).map_or(&[][..], |field| field.value.of(buf));
        let essence = value.split(|b| *b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    }

    /// Whether it changes to what was asked for, and to nothing else (RFC 9110, 7.8).
    pub fn changes_to(&self, buf: &[u8], asked: &[u8]) -> bool {
        let protocols = self.upgrade.map(|it| it.of(buf)).unwrap_or_default();
        fields::tokens(protocols).next().is_some()
            && fields::tokens(protocols).all(|protocol| fields::has_token(asked, protocol))
    }

    /// `Via`, with the version that it came by.
    pub fn via(&self) -> &'static str {
        if self.old { VIA_HTTP_1_0 } else { VIA_HTTP_1_1 }
    }

    /// Leaves out what it says of the request's execution.
    pub fn drop_unprocessed(&mut self, buf: &[u8]) {
        self.fields.retain(|field| fields::known(field.name.of(buf)) != Known::SkepUnprocessed);
    }

    /// Edits it, as a route says.
    pub fn edit(&mut self, buf: &[u8], edits: &Arc<Edits>) {
        self.fields.retain(|field| !edits.drops(field.name.of(buf)));
        self.edits = Some(edits.clone());
    }

    /// Says that, too.
    pub fn say_rate_limit(&mut self, it: &Arc<RateLimit>) {
        self.rate_limit = Some(it.clone());
    }

    /// Sets a cookie, unless the server sets one of that name. The answer is for one client from then on.
    pub fn set_cookie(&mut self, buf: &[u8], cookie: &Arc<str>) {
        let name = cookie.split_inclusive('=').next().unwrap_or_default().as_bytes();
        let sets = |it: &Field| {
            it.name.of(buf).eq_ignore_ascii_case(b"set-cookie") && it.value.of(buf).starts_with(name)
        };
        if !self.fields.iter().any(sets) {
            self.cookie = Some(cookie.clone());
        }
    }

    /// Says that, too, by a name in lower case.
    pub fn say(&mut self, name: &'static str, value: String) {
        self.more.push((name, value));
    }

    /// Leaves out fields of these names, of those that were read.
    pub fn drop_fields(&mut self, buf: &[u8], is_out: impl Fn(&[u8]) -> bool) {
        self.fields.retain(|it| !is_out(it.name.of(buf)));
    }

    /// Fields that are not in what was read.
    pub fn added(&self) -> impl Iterator<Item = (&str, &str)> {
        let edited = self.edits.iter().flat_map(|it| it.added());
        let edited = edited.map(|(name, value)| (name.as_str(), value.as_str()));
        let cookie = self.cookie.iter().flat_map(|it| [("set-cookie", &**it), ("cache-control", "private")]);
        let more = self.more.iter().map(|(name, value)| (*name, value.as_str()));
        edited.chain(self.rate_limit.iter().flat_map(|it| it.fields())).chain(cookie).chain(more)
    }

    fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    fn read_fields(
        &mut self,
        buf: &[u8],
        headers: &[httparse::Header<'_>],
        request: Method,
    ) -> Result<(), BadAnswer> {
        let mut length = None;
        let mut coded = false;
        let mut named = fields::ConnectionOptions::default();
        for header in headers {
            let (name, value) = (header.name.as_bytes(), header.value);
            let field = Field { name: Span::within(buf, name), value: Span::within(buf, value) };
            match fields::known(name) {
                Known::ContentLength if length.is_some() => return Err(BadAnswer("it has two lengths")),
                Known::ContentLength => match fields::number(value) {
                    Some(bytes) => length = Some(bytes),
                    None => return Err(BadAnswer("its Content-Length is malformed")),
                },
                Known::TransferEncoding if !coded && value.eq_ignore_ascii_case(b"chunked") => coded = true,
                Known::TransferEncoding => return Err(BadAnswer("its Transfer-Encoding is not chunked")),
                Known::Connection => {
                    named.read(value).map_err(|_| BadAnswer("its Connection is malformed"))?;
                }
                Known::Upgrade => self.upgrade = Some(field.value),
                Known::KeepAlive | Known::ProxyConnection | Known::Te => {}
                Known::SkepUnprocessed => {
                    self.unprocessed = value == b"1";
                    self.fields.push(field);
                }
                Known::Date => {
                    self.has_date = true;
                    self.fields.push(field);
                }
                _ => self.fields.push(field),
            }
        }
        if named.others {
            let lists = || headers.iter().filter(|h| fields::known(h.name.as_bytes()) == Known::Connection);
            self.fields.retain(|field| {
                !lists().any(|list| {
                    fields::has_token(list.value, field.name.of(buf))
                        && !fields::known(field.name.of(buf)).is_protected()
                })
            });
            self.has_date = self.fields.iter().any(|it| fields::known(it.name.of(buf)) == Known::Date);
        }
        if coded && (length.is_some() || self.old) {
            return Err(BadAnswer("its length is ambiguous"));
        }
        self.keep_alive = if self.old { named.keep_alive && !named.close } else { !named.close };
        let bodiless = request == Method::Head || matches!(self.status, 100..200 | 204 | 304);
        self.told_length = length;
        self.body = match (bodiless, coded, length) {
            (true, ..) => AnswerLength::None,
            (false, true, _) => AnswerLength::Chunked,
            (false, false, Some(bytes)) => AnswerLength::Length(bytes),
            (false, false, None) => AnswerLength::Close,
        };
        if self.body == AnswerLength::Close {
            self.keep_alive = false;
        }
        // RFC 9110, 7.8 and 15.5.22.
        self.upgrade = self.upgrade.filter(|_| self.status == 426 || (self.status == 101 && named.upgrade));
        if self.status == 101 && self.upgrade.is_none() {
            return Err(BadAnswer("it changes to no protocol"));
        }
        Ok(())
    }
}

/// Writes the head that an HTTP/1.x client gets.
pub fn write_response(head: &ResponseHead, buf: &[u8], framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(head.status.into(), out);
    out.push(b' ');
    out.extend_from_slice(head.reason.of(buf));
    out.extend_from_slice(b"\r\n");
    for field in &head.fields {
        write_field(buf, field, out);
    }
    for (name, value) in head.added() {
        write_added(name, value, out);
    }
    match (head.body, head.told_length) {
        // One that ended with its connection says its end now: else a cut would look like it.
        (AnswerLength::Chunked | AnswerLength::Close, _) if framing.chunked => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        (AnswerLength::Length(bytes), _) => write_length(bytes, out),
        // What a body would have been; 1xx and 204 never say so (RFC 9110, 8.6).
        (AnswerLength::None, Some(bytes)) if says_length(head.status, framing.is_head) => {
            write_length(bytes, out)
        }
        _ => {}
    }
    let is_interim = head.status < 200;
    framing.write_connection(head.upgrade.map(|it| it.of(buf)), is_interim, out);
    if !head.has_date && !is_interim {
        framing.write_date(out);
    }
    out.extend_from_slice(b"via: ");
    out.extend_from_slice(head.via().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

fn says_length(status: u16, is_head: bool) -> bool {
    status == 304 || (is_head && status >= 200 && status != 204)
}

fn write_length(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    write_number(bytes, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMING: Framing = Framing {
        close: false,
        say_keep_alive: false,
        chunked: true,
        is_head: false,
        date: *b"Sun, 06 Nov 1994 08:49:37 GMT",
    };

    fn passed_on(text: &str, request: Method, framing: Framing) -> String {
        let head = parse(text, request).unwrap().unwrap();
        let mut out = Vec::new();
        write_response(&head, text.as_bytes(), framing, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn parse(text: &str, request: Method) -> Result<Option<ResponseHead>, BadAnswer> {
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), request).map(|whole| whole.then_some(head))
    }

    #[test]
    fn the_length_of_an_answer_follows_its_request_and_status() {
        for (request, text, expected) in [
            (Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", AnswerLength::Length(5)),
            (Method::Head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", AnswerLength::None),
            (Method::Get, "HTTP/1.1 204 No Content\r\n\r\n", AnswerLength::None),
            (Method::Get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", AnswerLength::None),
            (Method::Get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", AnswerLength::Chunked),
            (Method::Get, "HTTP/1.1 200 OK\r\n\r\n", AnswerLength::Close),
            (Method::Get, "HTTP/1.1 103 Early Hints\r\n\r\n", AnswerLength::None),
            (Method::Get, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", AnswerLength::Length(0)),
        ] {
            assert_eq!(parse(text, request).unwrap().unwrap().body, expected, "{text}");
        }
    }

    #[test]
    fn an_ambiguous_answer_is_not_passed_on() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 099 Odd\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(parse(text, Method::Get).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_ends_at_this_hop_is_not_passed_on() {
        let text = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
                    Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n";
        assert!(!parse(text, Method::Get).unwrap().unwrap().keep_alive);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: x\r\ntransfer-encoding: chunked\r\n\
                        date: Sun, 06 Nov 1994 08:49:37 GMT\r\nvia: 1.1 skep\r\n\r\n";
        assert_eq!(passed_on(text, Method::Get, FRAMING), expected);
    }

    #[test]
    fn what_came_by_http10_is_said_to_and_its_end_is_made_visible() {
        let text = "HTTP/1.0 200 OK\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\r\n";
        let expected = "HTTP/1.1 200 OK\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\ntransfer-encoding: chunked\r\n\
                        via: 1.0 skep\r\n\r\n";
        assert_eq!(passed_on(text, Method::Get, FRAMING), expected);
    }

    #[test]
    fn what_is_required_is_said_with_the_refusal() {
        let text = "HTTP/1.1 426 Upgrade Required\r\nDate: x\r\nUpgrade: HTTP/3.0\r\nConnection: Upgrade\r\n\
                    Content-Length: 0\r\n\r\n";
        for (close, options) in [(false, "upgrade"), (true, "upgrade, close")] {
            let expected = format!(
                "HTTP/1.1 426 Upgrade Required\r\nDate: x\r\ncontent-length: 0\r\nconnection: {options}\r\n\
                 upgrade: HTTP/3.0\r\nvia: 1.1 skep\r\n\r\n"
            );
            assert_eq!(passed_on(text, Method::Get, Framing { close, ..FRAMING }), expected);
        }
        let not_required = text.replace("426 Upgrade Required", "200 OK");
        assert!(!passed_on(&not_required, Method::Get, FRAMING).contains("pgrade"));
    }

    #[test]
    fn a_protocol_is_changed_to_only_where_it_was_asked_for() {
        for (upgrade, asked, expected) in [
            ("websocket", &b"websocket"[..], true),
            ("WebSocket", b"foo, websocket", true),
            ("TLS/1.0, HTTP/1.1", b"HTTP/1.1, TLS/1.0", true),
            ("websocket, foo", b"websocket", false),
            ("h2c", b"websocket", false),
            ("websocket", b"", false),
            (",", b"websocket", false),
        ] {
            let text = format!("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: {upgrade}\r\n\r\n");
            let head = parse(&text, Method::Get).unwrap().unwrap();
            assert_eq!(head.changes_to(text.as_bytes(), asked), expected, "{upgrade}");
        }
    }

    #[test]
    fn an_answer_to_head_keeps_its_length_and_one_without_a_body_does_not() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(
            passed_on(text, Method::Head, Framing { close: true, is_head: true, ..FRAMING }),
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\
             date: Sun, 06 Nov 1994 08:49:37 GMT\r\nvia: 1.1 skep\r\n\r\n"
        );
    }
}
