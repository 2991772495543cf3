//! hyper's own answers, with a body.
//!
//! A head that hyper cannot read never reaches a handler: hyper answers 400, 414 or 431 itself,
//! with nothing in it, and has no hook for more. [`Worded`] stands between hyper and the socket,
//! and knows of each exchange whether it is under way. What hyper writes while none is can be
//! such an answer alone; it gets a problem document and the field that every answer here has before it
//! goes out.
//!
//! Where a client pipelines a bad head behind a good one and does not read the good one's answer,
//! the two are one write, and the bad head's answer stays as hyper made it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::problem::{PROBLEM_JSON, Problem, ProblemKind};

/// may pass, where it arrives in one piece).
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request.
pub(crate) const HEADERS_MAX: usize = 100;

/// After such an answer, what the client is still sending is read for so long, and so much of it:
/// closing at once would reset the connection, and the answer might never be read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection's exchanges: those that began, and those whose answer hyper has taken whole.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Exchanges {
    /// The number of those that have ended, if none is under way.
    fn all_ended(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::Acquire);
        (self.begun.load(Ordering::Acquire) == ended).then_some(ended)
    }
}

/// Tells when an exchange ends: on drop.
pub(crate) struct Exchange<F: FnOnce()> {
    exchanges: Arc<Exchanges>,
    at_end: Option<F>,
}

impl<F: FnOnce()> Exchange<F> {
    pub fn begin(exchanges: &Arc<Exchanges>, at_end: F) -> Self {
        exchanges.begun.fetch_add(1, Ordering::Release);
        Self { exchanges: exchanges.clone(), at_end: Some(at_end) }
    }
}

impl<F: FnOnce()> Drop for Exchange<F> {
    fn drop(&mut self) {
        self.exchanges.ended.fetch_add(1, Ordering::Release);
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

/// An answer's body, which hyper drops when it has taken all of it.
pub(super) struct AnswerBody<B, F: FnOnce()> {
    body: B,
    _exchange: Exchange<F>,
}

impl<B, F: FnOnce()> AnswerBody<B, F> {
    pub fn new(body: B, exchange: Exchange<F>) -> Self {
        Self { body, _exchange: exchange }
    }
}

impl<B: Body<Data = Bytes> + Unpin, F: FnOnce() + Unpin> Body for AnswerBody<B, F> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that gives hyper's own answers their words.
pub(crate) struct Worded<S> {
    stream: S,
    exchanges: Arc<Exchanges>,
    /// What every answer here has.
    mark: Option<(HeaderName, HeaderValue)>,
    /// How many exchanges had ended when all that was written had gone out.
    flushed: u64,
    /// An answer in place of hyper's that is still to be written.
    answer: Bytes,
    refused: Option<Refused>,
}

/// What is left to do after a refusal.
#[derive(Default)]
struct Refused {
    shut: bool,
    linger: Option<Pin<Box<Sleep>>>,
    read_bytes: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Worded<S> {
    pub fn new(stream: S, exchanges: Arc<Exchanges>, mark: Option<(HeaderName, HeaderValue)>) -> Self {
        Self { stream, exchanges, mark, flushed: 0, answer: Bytes::new(), refused: None }
    }

    /// The answer to send in place of these bytes, if they are hyper's own.
    fn in_place_of(&self, bytes: &[IoSlice<'_>]) -> Option<Bytes> {
        if self.exchanges.all_ended() != Some(self.flushed) {
            return None;
        }
        let words = bytes.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
        with_problem(&words, self.mark.as_ref())
    }

    fn refuse(&mut self, answer: Bytes) {
        self.answer = answer;
        self.refused = Some(Refused::default());
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.answer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.answer.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// hyper's answer with a problem in place of its empty body. `None` where it is no such answer.
fn with_problem(words: &[u8], mark: Option<&(HeaderName, HeaderValue)>) -> Option<Bytes> {
    const EMPTY: &str = "content-length: 0\r\n";
    let words = std::str::from_utf8(words).ok()?;
    let head = words.strip_suffix("\r\n\r\n").filter(|head| !head.contains("\r\n\r\n"))?;
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?.get(..3)?;
    let problem = match status {
        "400" => Problem::new(
            ProblemKind::MalformedRequest,
            "the request's first line or one of its header fields is not as RFC 9112 has it",
        ),
        "414" => Problem::new(ProblemKind::UriTooLong, "the request's target is longer than 65534 bytes"),
        "431" => Problem::new(
            ProblemKind::HeadTooLarge,
            format!(
                "a request's head may have at most {} bytes and {} header fields",
                HEAD_BYTES_MAX, HEADERS_MAX
            ),
        ),
        _ => return None,
    };
    let document = problem.document();
    let mut fields = format!(
        "content-length: {}\r\ncontent-type: {PROBLEM_JSON}\r\ncache-control: no-store\r\n",
        document.len()
    );
    if let Some((name, value)) = mark {
        fields += &format!("{name}: {}\r\n", value.to_str().ok()?);
    }
    if !words.contains(EMPTY) {
        return None;
    }
    Some(Bytes::from([words.replacen(EMPTY, &fields, 1).as_bytes(), &document].concat()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(answer) = self.in_place_of(&[IoSlice::new(bytes)]) {
            self.refuse(answer);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(answer) = self.in_place_of(parts) {
            self.refuse(answer);
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this once its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if let Some(ended) = self.exchanges.all_ended() {
            self.flushed = ended;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        let Worded { stream, refused, .. } = &mut *self;
        let Some(refused) = refused else { return Pin::new(stream).poll_shutdown(cx) };
        if !refused.shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            refused.shut = true;
        }
        let linger = refused.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut scratch = [0; 8192];
        while refused.read_bytes < LINGER_BYTES_MAX && linger.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => refused.read_bytes += buf.filled().len(),
                // The client has closed, or reset.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<String> {
        let mark = (HeaderName::from_static("skep-served-by"), HeaderValue::from_static("0123"));
        let answer = with_problem(text.as_bytes(), Some(&mark))?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    #[test]
    fn only_an_empty_answer_of_those_statuses_is_given_words() {
        let own = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let answer = words(own).unwrap();
        assert!(answer.contains("skep-served-by: 0123") && answer.contains("malformed-request"), "{answer}");
        for text in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nfoo",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n",
            "HTTP/1.1 40",
        ] {
            assert_eq!(words(text), None, "{text}");
        }
    }
}
