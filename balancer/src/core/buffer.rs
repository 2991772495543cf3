//! Buffers that bytes pass through, lent by a pool per core while there is something in them.
//!
//! An idle connection holds none: ten thousand of them must not cost their buffers. A buffer is small or
//! large. The small one is always to be had; the large one is charged to the [account](super::account), and
//! where that is spent, bytes pass in smaller pieces.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::account::{Purse, Use};

/// Most unused buffers of each size that a pool keeps.
const SMALL_FREE_MAX: usize = 256;
const LARGE_FREE_MAX: usize = 64;

/// Lends buffers of two sizes.
#[derive(Debug)]
pub struct BufferPool {
    small: usize,
    large: usize,
    /// What [`Buffer::poll_fill`] reads at most at once.
    usual: usize,
    of: Use,
    purse: Rc<Purse>,
    free_small: RefCell<Vec<Box<[u8]>>>,
    free_large: RefCell<Vec<Box<[u8]>>>,
}

impl BufferPool {
    pub fn new(small: usize, large: usize, usual: usize, of: Use, purse: &Rc<Purse>) -> Rc<Self> {
        let purse = purse.clone();
        let (free_small, free_large) = (RefCell::default(), RefCell::default());
        Rc::new(Self { small, large, usual, of, purse, free_small, free_large })
    }

    pub fn buffer(self: &Rc<Self>) -> Buffer {
        Buffer { pool: self.clone(), data: Box::default(), start: 0, end: 0 }
    }

    fn lend(&self, large: bool) -> Box<[u8]> {
        let (free, size) =
            if large { (&self.free_large, self.large) } else { (&self.free_small, self.small) };
        let lent = free.borrow_mut().pop();
        lent.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn take_back(&self, data: Box<[u8]>) {
        let large = data.len() == self.large;
        if large {
            self.purse.give(self.large);
        }
        let (free, most) =
            if large { (&self.free_large, LARGE_FREE_MAX) } else { (&self.free_small, SMALL_FREE_MAX) };
        let mut free = free.borrow_mut();
        if free.len() < most {
            free.push(data);
        }
    }
}

/// Bytes that were read and not used up yet.
#[derive(Debug)]
pub struct Buffer {
    pool: Rc<BufferPool>,
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.start = self.end;
        self.release();
    }
}

impl Buffer {
    pub fn unread(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much it can hold in any case.
    pub fn capacity(&self) -> usize {
        self.pool.small
    }

    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the memory back to the pool where nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.data.is_empty() {
            self.pool.take_back(std::mem::take(&mut self.data));
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for `most` bytes in all, or for as many as there is memory for.
    fn make_room(&mut self, most: usize) {
        let large = most > self.pool.small;
        if self.is_empty() {
            let fits = !self.data.is_empty() && (self.data.len() == self.pool.large) == large;
            if !fits {
                self.release();
                let large = large && self.pool.purse.take(self.pool.large, self.pool.of);
                self.data = self.pool.lend(large);
            }
            return;
        }
        if self.end == self.data.len() && self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if large
            && self.end == self.data.len()
            && self.data.len() < self.pool.large
            && self.pool.purse.take(self.pool.large, self.pool.of)
        {
            self.grow();
        }
    }

    /// What is in it moves into a large one, which is charged already.
    fn grow(&mut self) {
        let mut data = self.pool.lend(true);
        data[..self.len()].copy_from_slice(self.unread());
        (self.start, self.end) = (0, self.len());
        let small = std::mem::replace(&mut self.data, data);
        self.pool.take_back(small);
    }

    /// Where it is full, it gets large whatever the account says: what is in it cannot be used in parts.
    pub fn insist_on_room(&mut self) {
        if self.len() == self.data.len() && self.data.len() < self.pool.large && !self.is_empty() {
            self.pool.purse.overdraw(self.pool.large);
            self.grow();
        }
    }

    /// Reads once; 0 is the end of the stream. A full buffer is an error: the caller uses bytes up
    /// first. Where nothing came and nothing is held, the memory goes back at once.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_some(stream, cx, self.pool.usual)
    }

    /// As [`Self::poll_fill`], of at most `max` bytes.
    pub fn poll_fill_some<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        self.make_room(max);
        if self.end == self.data.len() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let upto = self.end.saturating_add(max).min(self.data.len());
        let mut read = ReadBuf::new(&mut self.data[self.end..upto]);
        let result = Pin::new(stream).poll_read(cx, &mut read);
        let n = read.filled().len();
        if result.is_pending() {
            self.release();
        }
        ready!(result)?;
        self.end += n;
        Poll::Ready(Ok(n))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;
    use crate::core::account::Account;

    fn pool(account: u64, usual: usize) -> (Arc<Account>, Rc<BufferPool>) {
        let account = Arc::new(Account::new(account));
        let pool = BufferPool::new(8, 16, usual, Use::Body, &Purse::new(account.clone()));
        (account, pool)
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_the_memory_goes_back() {
        let (_, pool) = pool(1000, 8);
        let mut buffer = pool.buffer();
        let mut stream = &b"0123456789abcdef"[..];
        let mut seen: Vec<u8> = Vec::new();
        loop {
            let n = poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap();
            if n == 0 {
                break;
            }
            while buffer.len() > 3 {
                seen.extend(&buffer.unread()[..3]);
                buffer.consume(3);
            }
        }
        seen.extend(buffer.unread());
        assert_eq!(seen, b"0123456789abcdef");
        drop(buffer);
        assert_eq!(pool.free_small.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_full_buffer_reads_no_more() {
        let (_, pool) = pool(1000, 8);
        let mut buffer = pool.buffer();
        let mut stream = &b"0123456789"[..];
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap(), 8);
        assert!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.is_err());
    }

    #[tokio::test]
    async fn a_large_one_is_charged_while_it_is_lent_and_small_again_where_little_is_wanted() {
        let (account, pool) = pool(1000, 16);
        let mut buffer = pool.buffer();
        let mut stream = &b"0123456789abcdef0123"[..];
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap(), 16);
        assert_eq!(account.drawn(), 16);
        buffer.consume(16);
        assert_eq!(poll_fn(|cx| buffer.poll_fill_some(&mut stream, cx, 8)).await.unwrap(), 4);
        assert_eq!((buffer.data.len(), pool.free_large.borrow().len()), (8, 1));
        drop(buffer);
        drop(pool);
        assert_eq!(account.drawn(), 0);
    }

    #[tokio::test]
    async fn where_the_account_is_spent_pieces_are_small_and_a_head_still_has_room() {
        let (account, pool) = pool(0, 16);
        let mut buffer = pool.buffer();
        let mut stream = &b"0123456789abcdef"[..];
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap(), 8);
        assert!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.is_err());
        buffer.insist_on_room();
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap(), 8);
        assert_eq!((buffer.unread(), account.drawn()), (&b"0123456789abcdef"[..], 16));
    }

    #[tokio::test]
    async fn what_is_in_a_small_one_moves_into_a_large_one() {
        let (account, pool) = pool(1000, 8);
        let mut buffer = pool.buffer();
        let mut stream = &b"0123456789abcdef"[..];
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap(), 8);
        assert_eq!(poll_fn(|cx| buffer.poll_fill_some(&mut stream, cx, 16)).await.unwrap(), 8);
        assert_eq!((buffer.unread(), account.drawn()), (&b"0123456789abcdef"[..], 16));
    }
}
