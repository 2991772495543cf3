//! A WebSocket client with the least work: it reads a server's text frames, answers its pings, and
//! sends nothing else. `next` may be dropped at any await, but for the answer to a ping.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::Failure;

/// Longest head of an answer, and longest frame.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Any 16 bytes in base64: the servers measured here are no proxies to be protected from.
const KEY: &str = "c2tlcC1sb2FkLTAwMDAwMA==";

/// A connection that was upgraded.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    input: BytesMut,
}

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Text(Bytes),
    Ping(Bytes),
    Close,
    Other,
}

impl WebSocket {
    /// Connects, and asks for `path`.
    pub async fn open(address: SocketAddr, path: &str) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(address).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(Failure::Io)?;
        let mut input = BytesMut::with_capacity(HEAD_BYTES_MAX);
        loop {
            if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = input.split_to(end + 4);
                let status =
                    head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                return match status.ok_or(Failure::Protocol("a status line that is none"))? {
                    101 => Ok(Self { stream, input }),
                    status => Err(Failure::Status(status)),
                };
            }
            if input.len() > HEAD_BYTES_MAX {
                return Err(Failure::Protocol("a head that is too long"));
            }
            read_more(&mut stream, &mut input).await?;
        }
    }

    /// The next text.
    pub async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            match take_frame(&mut self.input)? {
                Some(Frame::Text(text)) => return Ok(text),
                Some(Frame::Ping(payload)) => {
                    // A mask of zeros leaves the payload as it is.
                    let mut pong = vec![0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0];
                    pong.extend_from_slice(&payload);
                    self.stream.write_all(&pong).await.map_err(Failure::Io)?;
                }
                Some(Frame::Close) => return Err(Failure::Closed),
                Some(Frame::Other) => {}
                None => read_more(&mut self.stream, &mut self.input).await?,
            }
        }
    }
}

async fn read_more(stream: &mut TcpStream, input: &mut BytesMut) -> Result<(), Failure> {
    input.reserve(HEAD_BYTES_MAX);
    match stream.read_buf(input).await.map_err(Failure::Io)? {
        0 => Err(Failure::Closed),
        _ => Ok(()),
    }
}

fn take_frame(input: &mut BytesMut) -> Result<Option<Frame>, Failure> {
    let (Some(first), Some(second)) = (input.first().copied(), input.get(1).copied()) else {
        return Ok(None);
    };
    if second & 0x80 != 0 {
        return Err(Failure::Protocol("a masked frame of a server"));
    }
    if first & 0xf0 != 0x80 {
        return Err(Failure::Protocol("a frame in parts, or with extensions"));
    }
    let (head, len) = match second {
        127 => (10, input.get(2..10).map(|b| b.iter().fold(0u64, |len, byte| len << 8 | u64::from(*byte)))),
        126 => (4, input.get(2..4).map(|b| u64::from(b[0]) << 8 | u64::from(b[1]))),
        len => (2, Some(u64::from(len))),
    };
    let Some(len) = len else { return Ok(None) };
    let len = usize::try_from(len).ok().filter(|len| *len <= FRAME_BYTES_MAX);
    let len = len.ok_or(Failure::Protocol("a frame that is too long"))?;
    if input.len() < head + len {
        return Ok(None);
    }
    input.advance(head);
    let payload = input.split_to(len).freeze();
    Ok(Some(match first & 0x0f {
        1 => Frame::Text(payload),
        8 => Frame::Close,
        9 if len < 126 => Frame::Ping(payload),
        9 => return Err(Failure::Protocol("a ping that is too long")),
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_read_once_they_are_there() {
        for len in [0usize, 125, 126, 65_535, 65_536, 70_000] {
            let mut bytes = vec![0x81];
            match len {
                0..126 => bytes.push(len as u8),
                126..65_536 => {
                    bytes.push(126);
                    bytes.extend_from_slice(&(len as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend_from_slice(&(len as u64).to_be_bytes());
                }
            }
            bytes.resize(bytes.len() + len, b'x');
            for end in [0, 1, 2, 3, 4, 9, 10, bytes.len() - 1] {
                let mut part = BytesMut::from(&bytes[..end.min(bytes.len() - 1)]);
                assert_eq!(take_frame(&mut part).unwrap(), None);
            }
            bytes.extend_from_slice(&[0x89, 1, b'p', 0x88, 0]);
            let mut input = BytesMut::from(&bytes[..]);
            assert_eq!(take_frame(&mut input).unwrap(), Some(Frame::Text(vec![b'x'; len].into())));
            assert_eq!(take_frame(&mut input).unwrap(), Some(Frame::Ping("p".into())));
            assert_eq!(take_frame(&mut input).unwrap(), Some(Frame::Close));
        }
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        for bytes in
            [&[0x81, 0x80][..], &[0x01, 0], &[0xc1, 0], &[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]]
        {
            assert!(take_frame(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
