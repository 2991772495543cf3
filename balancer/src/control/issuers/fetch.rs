//! One question for an issuer's keys: within a time, of a bounded answer, of a server that proves who it is.
//!
//! Nothing leads elsewhere: what is no 200 with a whole body is a failure. Cancel-safe: there is nothing but the answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use skep_gateway::document::{Jwks, SET_BYTES_MAX, TargetHost};
use skep_members::seeds::{Seed, resolve_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pools::tls::{BackendTls, Stream};
use crate::wire::chunked::{Decoder, Stretch};
use crate::wire::request_head::Method;
use crate::wire::response_head::{AnswerLength, ResponseHead};

/// Time for all of it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a connection and its TLS: another address may do better.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 3;
/// What is read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Most bytes that come on the wire for a body: pieces of one byte each have six around them.
const WIRE_BYTES_MAX: usize = 8 * SET_BYTES_MAX;

/// Why there is no set. No text of the other side is in it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("its server's name has no address")]
    Name,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its server did not answer in time")]
    Late,
    #[error("its server answers {0}, and nothing but 200 is taken")]
    Status(u16),
    #[error("its server answers what is none: {0}")]
    Answer(&'static str),
    #[error("what its server answers has more than {SET_BYTES_MAX} bytes")]
    Large,
    #[error("what its server answers is not whole")]
    Cut,
    #[error("what its server answers is not taken: {0}")]
    Set(String),
}

/// The body of what is there.
pub async fn fetch(jwks: &Jwks, tls: Option<&BackendTls>) -> Result<Vec<u8>, Failure> {
    let asking = async {
        let mut stream = connect(jwks, tls).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\naccept: application/jwk-set+json, application/json\r\n\
             user-agent: skep-balancer/{}\r\nconnection: close\r\n\r\n",
            jwks.path,
            jwks.server.authority(),
            env!("CARGO_PKG_VERSION")
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        body(stream).await
    };
    timeout(FETCH_TIMEOUT, asking).await.map_err(|_| Failure::Late)?
}

async fn connect(jwks: &Jwks, tls: Option<&BackendTls>) -> Result<Stream, Failure> {
    let port = jwks.server.port;
    let addresses = match &jwks.server.host {
        TargetHost::Address(ip) => vec![SocketAddr::new(*ip, port)],
        TargetHost::Name(host) => resolve_now(&[Seed::Name { host: host.clone(), port }]).await,
    };
    let mut failure = Failure::Name;
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            Ok(match tls {
                Some(tls) => Stream::Tls(Box::new(tls.connect(stream, address).await?)),
                None => Stream::Plain(stream),
            })
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = Failure::Io(error),
            Err(_) => failure = Failure::Late,
        }
    }
    Err(failure)
}

async fn body(mut stream: Stream) -> Result<Vec<u8>, Failure> {
    let (mut head, mut raw) = (ResponseHead::default(), Vec::new());
    while !head.parse(&raw, Method::Get).map_err(|error| Failure::Answer(error.0))? {
        if !more(&mut stream, &mut raw).await? {
            return Err(Failure::Cut);
        }
    }
    if head.status != 200 {
        return Err(Failure::Status(head.status));
    }
    raw.drain(..head.len);
    match head.body {
        AnswerLength::None => Ok(Vec::new()),
        AnswerLength::Length(length) => {
            let length =
                usize::try_from(length).ok().filter(|it| *it <= SET_BYTES_MAX).ok_or(Failure::Large)?;
            while raw.len() < length {
                if !more(&mut stream, &mut raw).await? {
                    return Err(Failure::Cut);
                }
            }
            raw.truncate(length);
            Ok(raw)
        }
        AnswerLength::Close => {
            while raw.len() <= SET_BYTES_MAX {
                if !more(&mut stream, &mut raw).await? {
                    return Ok(raw);
                }
            }
            Err(Failure::Large)
        }
        AnswerLength::Chunked => chunks(stream, raw).await,
    }
}

async fn chunks(mut stream: Stream, mut raw: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let (mut decoder, mut content, mut came) = (Decoder::of_answer(), Vec::new(), raw.len());
    loop {
        let mut at = 0;
        while at < raw.len() {
            match decoder.next(&raw[at..]).map_err(|_| Failure::Answer("its pieces are malformed"))? {
                Stretch::Data(n) => {
                    content.extend_from_slice(&raw[at..at + n]);
                    at += n;
                }
                Stretch::Framing(n) | Stretch::Trailer(n) => at += n,
                Stretch::End(_) => {
                    return if content.len() > SET_BYTES_MAX { Err(Failure::Large) } else { Ok(content) };
                }
            }
        }
        raw.clear();
        if content.len() > SET_BYTES_MAX || came > WIRE_BYTES_MAX {
            return Err(Failure::Large);
        }
        if !more(&mut stream, &mut raw).await? {
            return Err(Failure::Cut);
        }
        came += raw.len();
    }
}

/// Whether more came.
async fn more(stream: &mut Stream, raw: &mut Vec<u8>) -> io::Result<bool> {
    raw.reserve(PIECE_BYTES);
    Ok(stream.read_buf(raw).await? > 0)
}
