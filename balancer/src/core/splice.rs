//! Long bodies between plain sockets go by splice(2): their bytes never come into this process.
//!
//! A pipe stands between the sockets; each core keeps some. No tasks. A [`Splice`] that is dropped
//! with bytes in its pipe closes the pipe: its connections cannot go on either.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What is left of a body must be this long for two more system calls to be worth it.
pub const SPLICE_BYTES_MIN: u64 = 16 * 1024;
/// What a pipe holds, where the system allows as much.
const PIPE_BYTES: usize = 256 * 1024;
/// Most that one call moves: other connections of the core wait meanwhile.
const MOVE_BYTES_MAX: u64 = 256 * 1024;
/// Most unused pipes that a core keeps.
const FREE_MAX: usize = 64;

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A small one does as well, only slower: there is a limit for all pipes of a user.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Self { reader, writer })
    }
}

/// The unused pipes of a core.
#[derive(Debug, Default)]
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
}

impl Pipes {
    /// For the last `left` bytes of a body. `None` where there is no pipe to be had: the bytes go
    /// through a buffer then.
    pub fn splice(self: &Rc<Self>, left: u64) -> Option<Splice> {
        let free = self.free.borrow_mut().pop();
        let pipe = free.or_else(|| Pipe::open().ok())?;
        Some(Splice { pipes: self.clone(), pipe: Some(pipe), left, held: 0 })
    }
}

/// The end of a body on its way from one socket to another.
#[derive(Debug)]
pub struct Splice {
    pipes: Rc<Pipes>,
    /// Always there but while this is dropped.
    pipe: Option<Pipe>,
    /// Bytes that are not in the pipe yet.
    left: u64,
    /// Bytes in the pipe.
    held: usize,
}

impl Drop for Splice {
    fn drop(&mut self) {
        let mut free = self.pipes.free.borrow_mut();
        if self.held == 0 && free.len() < FREE_MAX {
            free.extend(self.pipe.take());
        }
    }
}

impl Splice {
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.held == 0
    }

    /// Whether it waits for the reader, not for the writer.
    pub fn holds_bytes(&self) -> bool {
        self.held > 0
    }

    /// Moves some bytes: how many arrived. An end before the last byte is an error.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(pipe) = &self.pipe else { return Poll::Ready(Ok(0)) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        while self.held == 0 && self.left > 0 {
            ready!(from.poll_read_ready(cx))?;
            let most = self.left.min(MOVE_BYTES_MAX) as usize;
            let fill = || Ok(splice(from, None, &pipe.writer, None, most, flags)?);
            match from.try_io(Interest::READABLE, fill) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => (self.held, self.left) = (n, self.left - n as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while self.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            let drain = || Ok(splice(&pipe.reader, None, to, None, self.held, flags)?);
            match to.try_io(Interest::WRITABLE, drain) {
                Ok(n) => {
                    self.held -= n;
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn all_bytes_arrive_and_not_one_of_what_follows() {
        const LENGTH: usize = 3_000_000;
        let ((mut source, from), (to, mut sink)) = (pair().await, pair().await);
        let body: Vec<u8> = (0..LENGTH).map(|i| i as u8).collect();
        let sent = body.clone();
        let sending = tokio::spawn(async move {
            source.write_all(&sent).await.unwrap();
            source.write_all(b"next").await.unwrap();
            source
        });
        let receiving = tokio::spawn(async move {
            let mut received = vec![0; LENGTH];
            sink.read_exact(&mut received).await.unwrap();
            (received, sink)
        });
        let pipes = Rc::new(Pipes::default());
        let mut splice = pipes.splice(LENGTH as u64).unwrap();
        let mut moved = 0;
        while !splice.is_done() {
            moved += poll_fn(|cx| splice.poll(cx, &from, &to)).await.unwrap();
        }
        drop(splice);
        assert_eq!((moved, pipes.free.borrow().len()), (LENGTH, 1));
        assert!(receiving.await.unwrap().0 == body);
        let mut rest = [0; 4];
        let mut from = from;
        from.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"next");
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn an_end_too_early_is_an_error_and_a_pipe_with_bytes_in_it_is_not_used_again() {
        let ((mut source, from), (to, _sink)) = (pair().await, pair().await);
        source.write_all(&[7; 100]).await.unwrap();
        drop(source);
        let pipes = Rc::new(Pipes::default());
        let mut splice = pipes.splice(SPLICE_BYTES_MIN).unwrap();
        assert_eq!(poll_fn(|cx| splice.poll(cx, &from, &to)).await.unwrap(), 100);
        let end = poll_fn(|cx| splice.poll(cx, &from, &to)).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        splice.held = 1;
        drop(splice);
        assert!(pipes.free.borrow().is_empty());
    }
}
