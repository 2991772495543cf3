//! Buffers that bytes pass through, lent by a pool per core while there is something in them.
//!
//! An idle connection holds none: ten thousand of them must not cost their buffers.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Most unused buffers that a pool keeps.
const FREE_MAX: usize = 256;

/// Lends buffers of one size.
#[derive(Debug)]
pub struct BufferPool {
    size: usize,
    free: RefCell<Vec<Box<[u8]>>>,
}

impl BufferPool {
    pub fn new(size: usize) -> Rc<Self> {
        Rc::new(Self { size, free: RefCell::default() })
    }

    pub fn buffer(self: &Rc<Self>) -> Buffer {
        Buffer { pool: self.clone(), data: Box::default(), start: 0, end: 0 }
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

    /// How much it can hold in all.
    pub fn capacity(&self) -> usize {
        self.pool.size
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
            let mut free = self.pool.free.borrow_mut();
            let data = std::mem::take(&mut self.data);
            if free.len() < FREE_MAX {
                free.push(data);
            }
            (self.start, self.end) = (0, 0);
        }
    }

    fn make_room(&mut self) {
        if self.data.is_empty() {
            let lent = self.pool.free.borrow_mut().pop();
            self.data = lent.unwrap_or_else(|| vec![0; self.pool.size].into_boxed_slice());
        }
        if self.end == self.data.len() && self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Reads once; 0 is the end of the stream. A full buffer is an error: the caller uses bytes up
    /// first. Where nothing came and nothing is held, the memory goes back at once.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_some(stream, cx, usize::MAX)
    }

    /// As [`Self::poll_fill`], of at most `max` bytes.
    pub fn poll_fill_some<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
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

    use super::*;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_the_memory_goes_back() {
        let pool = BufferPool::new(8);
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
        assert_eq!(pool.free.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_full_buffer_reads_no_more() {
        let pool = BufferPool::new(4);
        let mut buffer = pool.buffer();
        let mut stream = &b"01234"[..];
        assert_eq!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.unwrap(), 4);
        assert!(poll_fn(|cx| buffer.poll_fill(&mut stream, cx)).await.is_err());
    }
}
