//! HTTP/1.1 with the least work: one keep-alive connection, one request at a time, no pipelining.
//!
//! Only what a JSON API answers is read: a head and a body with `Content-Length`. Anything else is
//! a protocol error, not a guess. An exchange is not cancel-safe: drop the connection with it.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::Failure;

/// Longest head of an answer.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 64;
/// Longest body of an answer: a message of the largest size, escaped as JSON.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How much of an answer's body can be looked at, where nobody asks for more.
const BODY_BYTES_KEPT: usize = 256;

/// A connection.
#[derive(Debug)]
pub struct Http1 {
    stream: TcpStream,
    host: String,
    request: Vec<u8>,
    input: BytesMut,
    /// The beginning of the last answer's body.
    body: Vec<u8>,
    /// How much of it.
    kept: usize,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body_bytes: usize,
    /// The server closes the connection after this answer.
    pub last: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    head_bytes: usize,
    body_bytes: usize,
    last: bool,
}

impl Http1 {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: address.to_string(),
            request: Vec::with_capacity(1024),
            input: BytesMut::with_capacity(HEAD_BYTES_MAX),
            body: Vec::with_capacity(BODY_BYTES_KEPT),
            kept: BODY_BYTES_KEPT,
        })
    }

    /// With all of an answer's body to be looked at.
    pub fn keeping_bodies(self) -> Self {
        Self { kept: BODY_BYTES_MAX, ..self }
    }

    /// The beginning of the last answer's body: enough for what a put comes to.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &[&[u8]]) -> Result<Answer, Failure> {
        self.request.clear();
        self.start_line(b"GET ", path);
        self.request.extend_from_slice(b"accept: */*\r\n\r\n");
        self.exchange().await
    }

    /// `POST path` with a body.
    pub async fn post(&mut self, path: &[u8], content_type: &[u8], body: &[u8]) -> Result<Answer, Failure> {
        self.request.clear();
        self.start_line(b"POST ", &[path]);
        self.request.extend_from_slice(b"content-type: ");
        self.request.extend_from_slice(content_type);
        self.request.extend_from_slice(b"\r\ncontent-length: ");
        self.request.extend_from_slice(body.len().to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        self.request.extend_from_slice(body);
        self.exchange().await
    }

    fn start_line(&mut self, method: &[u8], path: &[&[u8]]) {
        self.request.extend_from_slice(method);
        for part in path {
            self.request.extend_from_slice(part);
        }
        self.request.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        self.request.extend_from_slice(self.host.as_bytes());
        self.request.extend_from_slice(b"\r\n");
    }

    async fn exchange(&mut self) -> Result<Answer, Failure> {
        self.stream.write_all(&self.request).await.map_err(Failure::Io)?;
        let head = loop {
            if self.stream.read_buf(&mut self.input).await.map_err(Failure::Io)? == 0 {
                return Err(Failure::Closed);
            }
            if let Some(head) = parse_head(&self.input)? {
                break head;
            }
        };
        let total = head.head_bytes + head.body_bytes;
        while self.input.len() < total {
            if self.stream.read_buf(&mut self.input).await.map_err(Failure::Io)? == 0 {
                return Err(Failure::Closed);
            }
        }
        if self.input.len() > total {
            return Err(Failure::Protocol("bytes after the answer"));
        }
        let kept = head.head_bytes + head.body_bytes.min(self.kept);
        self.body.clear();
        self.body.extend_from_slice(&self.input[head.head_bytes..kept]);
        self.input.advance(total);
        self.input.reserve(HEAD_BYTES_MAX);
        Ok(Answer { status: head.status, body_bytes: head.body_bytes, last: head.last })
    }
}

/// The head, where all of it is there.
fn parse_head(input: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(input) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() > HEAD_BYTES_MAX => {
            return Err(Failure::Protocol("a head that is too long"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::Protocol("a head that is not HTTP/1.1")),
    };
    let status = response.code.ok_or(Failure::Protocol("a status line that is none"))?;
    let mut body_bytes = if status == 204 || status == 304 { Some(0) } else { None };
    let mut last = false;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            body_bytes = length.filter(|&bytes| bytes <= BODY_BYTES_MAX);
        } else if header.name.eq_ignore_ascii_case("connection") {
            last |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let body_bytes = body_bytes.ok_or(Failure::Protocol("a body without a length, or one too long"))?;
    Ok(Some(Head { status, head_bytes, body_bytes, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_all_of_it_is_there() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\nConnection: Close\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse_head(&text[..end]).unwrap().is_none());
        }
        let head = parse_head(text).unwrap().unwrap();
        assert_eq!(head, Head { status: 201, head_bytes: text.len(), body_bytes: 7, last: true });
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "SMTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            assert!(parse_head(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse_head(&[b'a'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
