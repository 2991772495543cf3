//! One connection to a node that tells of the gateway: opened within a time, read line by line, each bounded.
//!
//! Cancel-safe: what has come of a line stays, and so do the times at which it is late.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use skep_gateway::told::{CONTENT_TYPE, LINE_MAX, SILENCE_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::pools::tls::{BackendTls, Stream, distrust};
use crate::wire::chunked::{Decoder, Stretch};
use crate::wire::request_head::Method;
use crate::wire::response_head::{AnswerLength, ResponseHead};

/// Time for a connection and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for the answer's head: longer than a node asks its leader before it says that none confirms it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a line from its first byte, however it trickles.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);
/// What stays allocated behind a long line.
const KEPT_BYTES: usize = 256 * 1024;
/// What is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Why a node is not listened to, or no more.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It is of a version that tells nothing.
    #[error("it is of a version without a gateway")]
    TooOld,
    #[error("it speaks no TLS at its HTTP port, where alone it would tell: it may have --http-tls off")]
    Plain,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it did not answer in time")]
    Late,
    #[error("it answers {0}")]
    Status(u16),
    #[error("it answers what is none: {0}")]
    Answer(String),
    #[error("it was silent for {} seconds", SILENCE_MAX.as_secs())]
    Silent,
    #[error("a line took longer than {} seconds", LINE_TIMEOUT.as_secs())]
    Slow,
    #[error("a line has more than {LINE_MAX} bytes")]
    Long,
    #[error("what it tells is older than what is known")]
    Behind,
    #[error("it ended")]
    Over,
}

/// The lines that a node says.
pub struct Lines {
    stream: Stream,
    /// None: the body ends with the connection.
    chunks: Option<Decoder>,
    /// What came behind the head, or with other bytes, and was not taken apart yet.
    raw: Vec<u8>,
    /// Content: lines.
    content: Vec<u8>,
    /// Bytes of it in which there is no line's end.
    looked: usize,
    /// Of the line that was given last.
    given: usize,
    over: bool,
    heard: Instant,
    /// When the first byte of what is in `content` came.
    begun: Option<Instant>,
}

/// Asks a node. Where it speaks no TLS, and nodes are spoken to without it, it may say in plain text that it is
/// too old to be asked.
pub async fn open(
    address: SocketAddr,
    target: &str,
    tls: &BackendTls,
    takes_plain: bool,
) -> Result<Lines, End> {
    let connecting = async { tls.connect(TcpStream::connect(address).await?, address).await };
    let error = match timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| End::Late)? {
        Ok(stream) => {
            let asking = ask(Stream::Tls(Box::new(stream)), address, target);
            return timeout(HEAD_TIMEOUT, asking).await.map_err(|_| End::Late)?;
        }
        Err(error) => error,
    };
    let end = if is_plain(&error) { End::Plain } else { End::Io(error) };
    if !takes_plain {
        return Err(end);
    }
    let asking = async { ask(Stream::Plain(TcpStream::connect(address).await?), address, target).await };
    match timeout(HEAD_TIMEOUT, asking).await {
        Ok(Err(End::TooOld)) => Err(End::TooOld),
        // Nothing else is believed that comes so.
        _ => Err(end),
    }
}

/// Whether the other side answered a handshake with something else.
fn is_plain(error: &io::Error) -> bool {
    matches!(distrust(error), Some(rustls::Error::InvalidMessage(_)))
}

async fn ask(mut stream: Stream, address: SocketAddr, target: &str) -> Result<Lines, End> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\naccept: {CONTENT_TYPE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let (mut head, mut raw) = (ResponseHead::default(), Vec::new());
    loop {
        if stream.read_buf(&mut raw).await? == 0 {
            return Err(End::Over);
        }
        let bad = |error: crate::wire::response_head::BadAnswer| End::Answer(error.to_string());
        if head.parse(&raw, Method::Get).map_err(bad)? {
            break;
        }
    }
    let chunks = match (head.status, head.body) {
        (200, AnswerLength::Chunked) => Some(Decoder::of_answer()),
        (200, AnswerLength::Close) => None,
        (200, _) => return Err(End::Answer("its body has an end".into())),
        (404, _) => return Err(End::TooOld),
        (status, _) => return Err(End::Status(status)),
    };
    raw.drain(..head.len);
    Ok(Lines {
        stream,
        chunks,
        raw,
        content: Vec::new(),
        looked: 0,
        given: 0,
        over: false,
        heard: Instant::now(),
        begun: None,
    })
}

impl Lines {
    /// The next line, without its end.
    pub async fn next(&mut self) -> Result<&[u8], End> {
        let given = std::mem::take(&mut self.given);
        self.content.drain(..given);
        if given > 0 {
            self.content.shrink_to(KEPT_BYTES);
            self.begun = (!self.content.is_empty()).then(Instant::now);
        }
        loop {
            self.take_apart()?;
            if let Some(at) = self.content[self.looked..].iter().position(|b| *b == b'\n') {
                let end = std::mem::take(&mut self.looked) + at;
                if end > LINE_MAX {
                    return Err(End::Long);
                }
                self.given = end + 1;
                return Ok(&self.content[..end]);
            }
            self.looked = self.content.len();
            if self.looked > LINE_MAX {
                return Err(End::Long);
            }
            if self.over {
                return Err(End::Over);
            }
            let silent = self.heard + SILENCE_MAX;
            let slow = self.begun.map(|it| it + LINE_TIMEOUT);
            let until = slow.map_or(silent, |slow| slow.min(silent));
            self.raw.reserve(PIECE_BYTES);
            match timeout_at(until, self.stream.read_buf(&mut self.raw)).await {
                Ok(read) => self.over = read? == 0,
                Err(_) if slow == Some(until) => return Err(End::Slow),
                Err(_) => return Err(End::Silent),
            }
            self.heard = Instant::now();
            if !self.raw.is_empty() {
                self.begun.get_or_insert(self.heard);
            }
        }
    }

    /// Moves the content out of what came.
    fn take_apart(&mut self) -> Result<(), End> {
        let Some(chunks) = &mut self.chunks else {
            self.content.append(&mut self.raw);
            return Ok(());
        };
        let mut at = 0;
        while at < self.raw.len() {
            let stretch = chunks.next(&self.raw[at..]).map_err(|error| End::Answer(error.to_string()))?;
            match stretch {
                Stretch::Data(n) => {
                    self.content.extend_from_slice(&self.raw[at..at + n]);
                    at += n;
                }
                Stretch::Framing(n) | Stretch::Trailer(n) => at += n,
                Stretch::End(_) => {
                    self.over = true;
                    at = self.raw.len();
                }
            }
        }
        self.raw.clear();
        Ok(())
    }
}
