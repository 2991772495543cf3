//! What a connection has been given to send and its socket has not taken: bounded for all of its streams
//! together.
//!
//! Each stream's window and buffer bound what it holds for itself; a client that opens its windows wide and
//! reads nothing would hold that for each. Beyond the bound no stream reads more from its backend. What is more
//! than a little is charged to the account: there may be many connections.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::account::{Charge, Purse, Use};
use crate::core::worker::{ANSWER_PIECE_BYTES, ANSWER_PIECE_BYTES_MIN};

/// Most that waits on one connection before its streams wait.
const WAITING_BYTES_MAX: usize = 512 * 1024;
/// So much may wait in any case; the rest is charged.
const FREE_BYTES: usize = 32 * 1024;
/// Most that is read on of who is still sending at the end.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// Turns are shorter than this once half of what may wait does.
const TURN_BYTES: usize = 16 * 1024;

/// What one connection has been given.
#[derive(Debug)]
pub struct Outbox {
    /// Bytes that were given, less those that were written, since all was. What is reset in between is
    /// counted until then.
    waiting: Cell<usize>,
    /// For what is beyond [`FREE_BYTES`] of them.
    charge: RefCell<Charge>,
    /// All that was ever written.
    moved: Cell<u64>,
    /// The socket takes no more for now.
    blocked: Cell<bool>,
    /// At its end the connection is read on.
    lingers: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Outbox {
    pub fn new(purse: &Rc<Purse>) -> Self {
        Self {
            waiting: Cell::default(),
            charge: RefCell::new(Charge::none(purse)),
            moved: Cell::default(),
            blocked: Cell::default(),
            lingers: Cell::default(),
            wakers: RefCell::default(),
        }
    }

    /// The client is still sending, and is to hear why that ends: what is closed with bytes that were not read ends
    /// by a reset, which overtakes what was said (RFC 9112, 9.6).
    pub fn linger(&self) {
        self.lingers.set(true);
    }

    pub fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// Bytes are given that nobody waits with: few with each answer.
    pub fn given(&self, bytes: usize) {
        self.covers(bytes);
        self.waiting.set(self.waiting.get() + bytes);
    }

    /// How many may be given; ready where it is any.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let room = self.room(ANSWER_PIECE_BYTES);
        self.uncover();
        self.or_wait(room, cx)
    }

    /// Gives as many of so many bytes as there is room for: how many.
    pub fn poll_give(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<usize> {
        let given = self.room(bytes);
        self.waiting.set(self.waiting.get() + given);
        self.or_wait(given, cx)
    }

    fn or_wait(&self, room: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if room > 0 {
            return Poll::Ready(room);
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn room(&self, most: usize) -> usize {
        let waiting = self.waiting.get();
        if waiting >= WAITING_BYTES_MAX {
            return 0;
        }
        let most = if waiting >= WAITING_BYTES_MAX / 2 { most.min(TURN_BYTES) } else { most };
        if self.covers(most) {
            most
        } else if waiting <= FREE_BYTES - ANSWER_PIECE_BYTES_MIN {
            most.min(FREE_BYTES - waiting)
        } else {
            0
        }
    }

    /// Whether the account covers so many bytes more.
    fn covers(&self, bytes: usize) -> bool {
        let beyond = (self.waiting.get() + bytes).saturating_sub(FREE_BYTES);
        self.charge.borrow_mut().cover(beyond, Use::Answer)
    }

    fn uncover(&self) {
        self.charge.borrow_mut().shrink(self.waiting.get().saturating_sub(FREE_BYTES));
    }

    fn written(&self, bytes: usize) {
        let before = self.waiting.get();
        let after = before.saturating_sub(bytes);
        self.waiting.set(after);
        self.uncover();
        let has_room = after <= FREE_BYTES - ANSWER_PIECE_BYTES_MIN
            || (before >= WAITING_BYTES_MAX && after < WAITING_BYTES_MAX);
        if has_room {
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
    /// Nothing more is sent.
    shut: bool,
    /// What was read since then.
    discarded: usize,
}

impl<S> Metered<S> {
    pub fn new(io: S, outbox: Rc<Outbox>) -> Self {
        Self { io, outbox, shut: false, discarded: 0 }
    }

    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.outbox.blocked.set(written.is_pending());
        if let Poll::Ready(Ok(n)) = written {
            self.outbox.moved.set(self.outbox.moved.get() + n as u64);
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
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
        let this = &mut *self;
        if !this.shut {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.shut = true;
        }
        let mut scratch = [0; 4096];
        while this.outbox.lingers.get() && this.discarded < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => this.discarded += buf.filled().len(),
                // The client has closed, or reset.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::core::account::Account;

    fn outbox(account: u64) -> (Arc<Account>, Outbox) {
        let account = Arc::new(Account::new(account));
        let outbox = Outbox::new(&Purse::new(account.clone()));
        (account, outbox)
    }

    #[test]
    fn who_gives_more_than_is_taken_waits_until_it_is() {
        let (_, outbox) = outbox(16 << 20);
        let cx = &mut Context::from_waker(Waker::noop());
        outbox.given(WAITING_BYTES_MAX - 1);
        assert_eq!(outbox.poll_room(cx), Poll::Ready(TURN_BYTES));
        outbox.given(100);
        assert!(outbox.poll_room(cx).is_pending() && outbox.poll_give(cx, 1).is_pending());
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

    #[test]
    fn what_waits_is_charged_and_little_waits_where_the_account_is_spent() {
        const GIVEN: usize = 4 * ANSWER_PIECE_BYTES;
        let cx = &mut Context::from_waker(Waker::noop());
        let (account, first) = outbox(300 * 1024);
        for _ in 0..4 {
            assert_eq!(first.poll_give(cx, ANSWER_PIECE_BYTES), Poll::Ready(ANSWER_PIECE_BYTES));
            assert_eq!(first.poll_room(cx).is_ready(), first.waiting.get() < GIVEN);
        }
        assert_eq!(first.charge.borrow().bytes(), GIVEN - FREE_BYTES, "and not what was only asked about");
        assert!(account.drawn() >= (GIVEN - FREE_BYTES) as u64);
        let second = Outbox::new(&Purse::new(account.clone()));
        assert_eq!(second.poll_give(cx, ANSWER_PIECE_BYTES), Poll::Ready(FREE_BYTES));
        assert!(second.poll_give(cx, ANSWER_PIECE_BYTES_MIN).is_pending());
        second.written(FREE_BYTES);
        assert!(second.wakers.borrow().is_empty() && second.poll_room(cx).is_ready());
        first.settle();
        assert_eq!(first.charge.borrow().bytes(), 0);
        drop((first, second));
        assert_eq!(account.drawn(), 0);
    }

    #[tokio::test]
    async fn who_is_still_sending_at_the_end_is_read_on_until_it_ends() {
        for lingers in [false, true] {
            let (near, mut far) = tokio::io::duplex(64);
            let outbox = Rc::new(outbox(16 << 20).1);
            if lingers {
                outbox.linger();
            }
            let mut metered = Metered::new(near, outbox);
            far.write_all(&[0; 64]).await.unwrap();
            let mut end = std::pin::pin!(metered.shutdown());
            let ended = std::future::poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx).is_ready())).await;
            assert_eq!(ended, !lingers);
            if lingers {
                far.write_all(&[0; 64]).await.unwrap();
                drop(far);
                end.await.unwrap();
            }
        }
    }
}
