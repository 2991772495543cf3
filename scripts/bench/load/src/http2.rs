//! HTTP/2 (RFC 9113) with the least work: one connection, one request at a time.
//!
//! As lean as the HTTP/1.1 beside it, so that neither system's figures carry a heavier client.
//! What the server sends beyond the answer (settings, pings, windows) is acknowledged, together
//! with the next request where one follows. An exchange is not cancel-safe: drop the connection.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::hpack;

/// Largest frame that goes out, and that may come: what holds where settings say nothing else.
const FRAME_BYTES_MAX: usize = 16_384;
/// Longest body of an answer.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
const FRAME_HEADER_BYTES: usize = 9;
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: u32 = i32::MAX as u32;
/// The server's window for the connection is filled up again after so many bytes.
const WINDOW_REFILL: u32 = 1 << 29;
/// Stream numbers end here; then a new connection is due.
const STREAM_MAX: u32 = i32::MAX as u32 - 2;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// A connection.
#[derive(Debug)]
pub struct Http2 {
    stream: TcpStream,
    authority: String,
    output: Vec<u8>,
    input: BytesMut,
    block: Vec<u8>,
    /// The number of the stream that is under way; 0 before the first.
    number: u32,
    /// What may still be sent, by the server's word.
    connection_window: i64,
    stream_window: i64,
    stream_window_first: i64,
    received: u32,
}

/// What a call came to so far.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    pub body: Vec<u8>,
    done: bool,
}

impl Http2 {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = Vec::new();
        // No room for a table of the server's fields, no push, and windows that never hold it up.
        for (setting, value) in [(1u16, 0u32), (2, 0), (4, WINDOW_MAX)] {
            settings.extend(setting.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        put_frame(SETTINGS, 0, 0, &settings, &mut output);
        let more = WINDOW_MAX - WINDOW_DEFAULT as u32;
        put_frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes(), &mut output);
        Ok(Self {
            stream,
            authority: address.to_string(),
            output,
            input: BytesMut::with_capacity(2 * FRAME_BYTES_MAX),
            block: Vec::new(),
            number: 0,
            connection_window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            stream_window_first: WINDOW_DEFAULT,
            received: 0,
        })
    }

    /// `POST path` with a gRPC message; the answer's status is not judged.
    pub async fn call(&mut self, path: &[u8], body: &[u8]) -> Result<Answer, Failure> {
        if self.number >= STREAM_MAX {
            return Err(Failure::Closed);
        }
        let is_first = self.number == 0;
        self.number = if is_first { 1 } else { self.number + 2 };
        self.stream_window = self.stream_window_first;
        self.block.clear();
        hpack::request(path, self.authority.as_bytes(), is_first, &mut self.block);
        put_frame(HEADERS, END_HEADERS, self.number, &self.block, &mut self.output);

        let mut answer = Answer::default();
        let mut left = body;
        while !left.is_empty() && !answer.done {
            let room = self.connection_window.min(self.stream_window).max(0) as usize;
            let (piece, rest) = left.split_at(left.len().min(room).min(FRAME_BYTES_MAX));
            if piece.is_empty() {
                self.receive(&mut answer).await?;
                continue;
            }
            self.connection_window -= piece.len() as i64;
            self.stream_window -= piece.len() as i64;
            let flags = if rest.is_empty() { END_STREAM } else { 0 };
            put_frame(DATA, flags, self.number, piece, &mut self.output);
            left = rest;
        }
        while !answer.done {
            self.receive(&mut answer).await?;
        }
        if !left.is_empty() {
            return Err(Failure::Protocol("an answer before all of the request was sent"));
        }
        Ok(answer)
    }

    /// Sends what is due, waits for bytes, and takes all whole frames out of them.
    async fn receive(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await.map_err(Failure::Io)?;
            self.output.clear();
        }
        self.input.reserve(FRAME_BYTES_MAX);
        if self.stream.read_buf(&mut self.input).await.map_err(Failure::Io)? == 0 {
            return Err(Failure::Closed);
        }
        while let Some(&[a, b, c, kind, flags, s, t, u, v]) = self.input.first_chunk::<FRAME_HEADER_BYTES>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(Failure::Protocol("a frame that is too long"));
            }
            if self.input.len() < FRAME_HEADER_BYTES + length {
                break;
            }
            self.input.advance(FRAME_HEADER_BYTES);
            let payload = self.input.split_to(length);
            let number = u32::from_be_bytes([s, t, u, v]) & WINDOW_MAX;
            self.take_frame(kind, flags, number, &payload, answer)?;
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        number: u32,
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        match kind {
            DATA | HEADERS | RST_STREAM if number != self.number => {
                return Err(Failure::Protocol("a frame of another stream"));
            }
            DATA => {
                self.received += payload.len() as u32;
                if self.received >= WINDOW_REFILL {
                    put_frame(WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes(), &mut self.output);
                    self.received = 0;
                }
                let piece = without_padding(flags, payload)?;
                if answer.body.len() + piece.len() > BODY_BYTES_MAX {
                    return Err(Failure::Protocol("an answer that is too long"));
                }
                answer.body.extend_from_slice(piece);
                answer.done |= flags & END_STREAM != 0;
            }
            HEADERS => {
                if flags & END_HEADERS == 0 {
                    return Err(Failure::Protocol("headers in several frames"));
                }
                let block = without_padding(flags, payload)?;
                let skipped = if flags & PRIORITY != 0 { 5 } else { 0 };
                let fields = block.get(skipped..).and_then(hpack::answer);
                let fields = fields.ok_or(Failure::Protocol("headers that make no sense"))?;
                answer.status = fields.status.or(answer.status);
                answer.grpc_status = fields.grpc_status.or(answer.grpc_status);
                answer.done |= flags & END_STREAM != 0;
            }
            RST_STREAM => return Err(Failure::Http2(error_code(payload, 0))),
            GOAWAY => return Err(Failure::Http2(error_code(payload, 4))),
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    match u16::from_be_bytes([setting[0], setting[1]]) {
                        1 if value < 4096 => {
                            return Err(Failure::Protocol("a header table that is too small"));
                        }
                        4 => {
                            self.stream_window += i64::from(value) - self.stream_window_first;
                            self.stream_window_first = i64::from(value);
                        }
                        _ => {}
                    }
                }
                put_frame(SETTINGS, ACK, 0, &[], &mut self.output);
            }
            PING if flags & ACK == 0 => put_frame(PING, ACK, 0, payload, &mut self.output),
            WINDOW_UPDATE => {
                let more = i64::from(error_code(payload, 0) & WINDOW_MAX);
                if number == 0 {
                    self.connection_window += more;
                } else if number == self.number {
                    self.stream_window += more;
                }
            }
            CONTINUATION => return Err(Failure::Protocol("headers in several frames")),
            _ => {}
        }
        Ok(())
    }
}

/// The 32 bits at that place: an error's code, or a window's increment.
fn error_code(payload: &[u8], at: usize) -> u32 {
    payload.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn without_padding(flags: u8, payload: &[u8]) -> Result<&[u8], Failure> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let content = payload.split_first().and_then(|(&padding, rest)| {
        let end = rest.len().checked_sub(usize::from(padding))?;
        rest.get(..end)
    });
    content.ok_or(Failure::Protocol("more padding than frame"))
}

fn put_frame(kind: u8, flags: u8, number: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(payload);
}
