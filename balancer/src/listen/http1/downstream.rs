//! An HTTP/1.x client as the exchange sees it: a body that comes, an answer that goes.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::{ClientStream, Coding, Connection};
use crate::core::buffer::Buffer;
use crate::core::worker::AHEAD_BYTES_MAX;
use crate::forward::downstream::{Downstream, Gone};
use crate::wire::response_head::{AnswerLength, ResponseHead, write_response};

/// A head and small pieces behind it wait for what follows, as long as that is at hand and all of
/// them are no more than this.
const QUEUED_BYTES_MAX: usize = 4 * 1024;

impl<S: ClientStream> Downstream for Connection<S> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.body_ready > 0 || self.body.is_done() {
            return Poll::Ready(Ok(()));
        }
        self.poll_more_body(cx)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Gone>> {
        // A small buffer first: what comes may be no more than a byte.
        let most = if self.input.is_empty() { self.input.capacity() } else { AHEAD_BYTES_MAX };
        match ready!(self.input.poll_fill_some(&mut self.stream, cx, most)) {
            Ok(0) => Poll::Ready(Err(Gone::Lost)),
            Ok(_) => Poll::Ready(self.take_body().map(|()| true)),
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Poll::Ready(Ok(false)),
            Err(_) => Poll::Ready(Err(Gone::Lost)),
        }
    }

    fn body(&self) -> &[u8] {
        &self.input.unread()[..self.body_ready]
    }

    fn consume_body(&mut self, n: usize) {
        self.input.consume(n);
        self.body_ready -= n;
        if self.body.is_done() {
            self.input.release();
        }
    }

    fn body_complete(&self) -> bool {
        self.body.is_done()
    }

    fn takes_chunks(&self) -> bool {
        !self.request.old
    }

    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) -> bool {
        if !self.request.old {
            write_response(head, buf, self.framing(), &mut self.queued);
        }
        !self.request.old
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], whole: bool) {
        let is_unbounded = matches!(head.body, AnswerLength::Close | AnswerLength::Chunked);
        self.coding = Coding {
            chunks: head.body == AnswerLength::Close && !self.request.old,
            chunk_left: 0,
            ends_by_close: is_unbounded && self.request.old,
        };
        if self.coding.ends_by_close {
            self.stream.end_by_reset(true);
        }
        self.close |= self.coding.ends_by_close || !whole || self.worker.is_ending(self.generation);
        write_response(head, buf, self.framing(), &mut self.queued);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        if !self.coding.chunks || piece.is_empty() {
            return self.poll_write(cx, piece);
        }
        if self.coding.chunk_left == 0 {
            self.coding.chunk_left = piece.len();
            write!(self.queued, "{:x}\r\n", piece.len())?;
        }
        let piece = &piece[..piece.len().min(self.coding.chunk_left)];
        let n = ready!(self.poll_write(cx, piece))?;
        self.coding.chunk_left -= n;
        if self.coding.chunk_left == 0 {
            self.queued.extend_from_slice(b"\r\n");
        }
        Poll::Ready(Ok(n))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.coding.chunks) {
            for part in [b"0\r\n", trailers, b"\r\n"] {
                self.queued.extend_from_slice(part);
            }
        }
        ready!(self.poll_send(cx, &[]))?;
        if std::mem::take(&mut self.coding.ends_by_close) {
            self.stream.end_by_reset(false);
        }
        Poll::Ready(Ok(()))
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.stream.socket()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What a client sends ahead is kept, as far as there is room. One that says no more still listens: only
        // a reset is an end of both ways.
        let has_room = |input: &Buffer, body: usize| input.len() < input.capacity() || input.len() == body;
        while self.body.is_done() && !self.input_ended && has_room(&self.input, self.body_ready) {
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(0) => self.input_ended = true,
                Ok(_) => {}
                // TLS without its close_notify.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.input_ended = true,
                // Its body leaves no room to look behind it.
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => break,
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn says_no_more(&self) -> bool {
        self.input_ended
    }
}

impl<S: ClientStream> Connection<S> {
    /// Writes what is queued and then some of `piece`, as they are.
    fn poll_write(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        let queued = self.queued.len();
        if queued > 0 && !piece.is_empty() && queued + piece.len() <= QUEUED_BYTES_MAX {
            // Copied behind its head, it costs less than a vectored write.
            self.queued.extend_from_slice(piece);
            return Poll::Ready(Ok(piece.len()));
        }
        loop {
            let queued = &self.queued[self.queued_sent..];
            let stream = Pin::new(&mut self.stream);
            let n = match (queued.is_empty(), piece.is_empty()) {
                (true, true) => {
                    ready!(stream.poll_flush(cx))?;
                    return Poll::Ready(Ok(0));
                }
                (true, false) => return stream.poll_write(cx, piece),
                (false, true) => ready!(stream.poll_write(cx, queued))?,
                (false, false) => {
                    let slices = [IoSlice::new(queued), IoSlice::new(piece)];
                    ready!(stream.poll_write_vectored(cx, &slices))?
                }
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_queued = n.min(queued.len());
            self.queued_sent += of_queued;
            if self.queued_sent == self.queued.len() {
                self.queued.clear();
                self.queued_sent = 0;
            }
            if n > of_queued {
                return Poll::Ready(Ok(n - of_queued));
            }
        }
    }
}
