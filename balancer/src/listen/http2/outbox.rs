//! What a connection has been given to send and its socket has not taken: bounded for all of its streams
//! together.
//!
//! Each stream's window and buffer bound what it holds for itself; a client that opens its windows wide and
//! reads nothing would hold that for each. Beyond the bound no stream reads more from its backend.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that waits on one connection before its streams wait.
const WAITING_BYTES_MAX: usize = 512 * 1024;

/// What one connection has been given.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Bytes that were given, less those that were written, since all was. What is reset in between is
    /// counted until then.
    waiting: Cell<usize>,
    /// The socket takes no more for now.
    blocked: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Outbox {
    pub fn given(&self, bytes: usize) {
        self.waiting.set(self.waiting.get() + bytes);
    }

    /// Ready where more may be given.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.get() < WAITING_BYTES_MAX {
            return Poll::Ready(());
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn written(&self, bytes: usize) {
        let before = self.waiting.get();
        let after = before.saturating_sub(bytes);
        self.waiting.set(after);
        if before >= WAITING_BYTES_MAX && after < WAITING_BYTES_MAX {
            self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// To be called once the connection has written what it could: where its socket took it all, nothing waits
    /// but what windows hold back.
    pub fn settle(&self) {
        if !self.blocked.get() {
            self.written(self.waiting.get());
        }
    }
}

/// A connection that tells its outbox what it has written.
#[derive(Debug)]
pub struct Metered<S> {
    io: S,
    outbox: Rc<Outbox>,
}

impl<S> Metered<S> {
    pub fn new(io: S, outbox: Rc<Outbox>) -> Self {
        Self { io, outbox }
    }

    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.outbox.blocked.set(written.is_pending());
        if let Poll::Ready(Ok(n)) = written {
            self.outbox.written(n);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.outbox.blocked.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_more_than_is_taken_waits_until_it_is() {
        let outbox = Outbox::default();
        let cx = &mut Context::from_waker(Waker::noop());
        outbox.given(WAITING_BYTES_MAX - 1);
        assert!(outbox.poll_room(cx).is_ready());
        outbox.given(100);
        assert!(outbox.poll_room(cx).is_pending() && outbox.poll_room(cx).is_pending());
        assert_eq!(outbox.wakers.borrow().len(), 1, "however often it is asked");
        outbox.written(50);
        assert!(outbox.poll_room(cx).is_pending());
        outbox.written(50);
        assert!(outbox.wakers.borrow().is_empty() && outbox.poll_room(cx).is_ready());
        outbox.blocked.set(true);
        outbox.settle();
        assert!(outbox.waiting.get() > 0);
        outbox.blocked.set(false);
        outbox.settle();
        outbox.written(10);
        assert_eq!(outbox.waiting.get(), 0, "frames have more bytes than what they carry");
    }
}
