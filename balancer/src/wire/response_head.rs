//! A backend's answer's head: read as strictly as a request's, and rewritten for the client.
//!
//! A backend whose answer is ambiguous is answered for with 502: what one reader takes for the
//! next answer another takes for this one's body. Pure.

use httparse::Status as Parsed;

use crate::wire::fields::{self, Field, Known, Span};
use crate::wire::request_head::{HEAD_BYTES_MAX, HEADERS_MAX, Method, Refusal, check_lines};
use crate::wire::write::{VIA, write_field, write_number};

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
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub len: usize,
    pub status: u16,
    pub reason: Span,
    pub body: AnswerLength,
    /// What Content-Length says where there is no body, as in an answer to HEAD.
    pub told_length: Option<u64>,
    /// Whether the backend lets the connection go on after this answer.
    pub keep_alive: bool,
    /// `Skep-Unprocessed: 1`: certainly not executed.
    pub unprocessed: bool,
    pub upgrade: Option<Span>,
    /// End-to-end fields but for those of the framing.
    pub fields: Vec<Field>,
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
        (self.len, self.status) = (len, status);
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
        self.read_fields(buf, response.headers, minor, request)?;
        Ok(true)
    }

    /// Whether its body is events without an end (`text/event-stream`).
    pub fn is_event_stream(&self, buf: &[u8]) -> bool {
        let is_type = |field: &&Field| field.name.of(buf).eq_ignore_ascii_case(b"content-type");
        let value = self.fields.iter().find(is_type).map_or(&[][..], |field| field.value.of(buf));
        let essence = value.split(|b| *b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    }

    /// Leaves out what it says of the request's execution.
    pub fn drop_unprocessed(&mut self, buf: &[u8]) {
        self.fields.retain(|field| fields::known(field.name.of(buf)) != Known::SkepUnprocessed);
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
        minor: u8,
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
                Known::ContentLength => match fields::content_length(value) {
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
        }
        if coded && (length.is_some() || minor == 0) {
            return Err(BadAnswer("its length is ambiguous"));
        }
        self.keep_alive = if minor == 0 { named.keep_alive && !named.close } else { !named.close };
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
        self.upgrade = self.upgrade.filter(|_| self.status == 101 && named.upgrade);
        if self.status == 101 && self.upgrade.is_none() {
            return Err(BadAnswer("it changes to no protocol"));
        }
        Ok(())
    }
}

/// How the head for an HTTP/1.1 client ends.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    pub close: bool,
    /// To an HTTP/1.0 client that asked for it, keeping alive is said.
    pub say_keep_alive: bool,
    /// Whether the body goes on chunked; else a chunked body ends with the connection.
    pub chunked: bool,
    /// Fields that an answer may only have where its request was HEAD.
    pub is_head: bool,
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
    match (head.body, head.told_length) {
        (AnswerLength::Chunked, _) if framing.chunked => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        (AnswerLength::Length(bytes), _) => write_length(bytes, out),
        (AnswerLength::None, Some(bytes)) if framing.is_head || head.status == 304 => {
            write_length(bytes, out)
        }
        _ => {}
    }
    if head.status < 200 {
        if let Some(upgrade) = head.upgrade {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
            out.extend_from_slice(upgrade.of(buf));
            out.extend_from_slice(b"\r\n");
        }
    } else if framing.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if framing.say_keep_alive {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"via: ");
    out.extend_from_slice(VIA);
    out.extend_from_slice(b"\r\n\r\n");
}

fn write_length(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    write_number(bytes, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let head = parse(text, Method::Get).unwrap().unwrap();
        assert!(!head.keep_alive);
        let framing = Framing { close: false, say_keep_alive: false, chunked: true, is_head: false };
        let mut out = Vec::new();
        write_response(&head, text.as_bytes(), framing, &mut out);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: x\r\ntransfer-encoding: chunked\r\n\
                        via: 1.1 skep\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_answer_to_head_keeps_its_length_and_one_without_a_body_does_not() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let head = parse(text, Method::Head).unwrap().unwrap();
        let mut out = Vec::new();
        let framing = Framing { close: true, say_keep_alive: false, chunked: true, is_head: true };
        write_response(&head, text.as_bytes(), framing, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\nvia: 1.1 skep\r\n\r\n"
        );
    }
}
