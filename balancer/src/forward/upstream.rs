//! A connection to a backend: opened, written to, read from.
//!
//! Cancel-safe as a value: dropping it closes it, which is right whenever an exchange did not end
//! where it should.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::core::buffer::{Buffer, BufferPool};
use crate::forward::retry::Failure;
use crate::pools::backends::Backend;
use crate::pools::tls::{BackendTls, Stream, is_rejection};
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;

/// Unacknowledged bytes for this long mean that the backend's host is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a backend.
#[derive(Debug)]
pub struct Upstream {
    pub stream: Stream,
    pub backend: Arc<Backend>,
    pub buffer: Buffer,
    /// Of the answer that is being read.
    pub head: ResponseHead,
    pub idle_since: Instant,
    /// Something was read from it.
    heard: bool,
}

impl Upstream {
    /// With `tls`, once both sides know each other.
    pub async fn connect(
        backend: Arc<Backend>,
        tls: Option<&BackendTls>,
        buffers: &std::rc::Rc<BufferPool>,
    ) -> io::Result<Self> {
        let stream = connect(backend.address).await?;
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(tls) => Stream::Tls(Box::new(tls.connect(stream, backend.address).await?)),
        };
        let (buffer, head) = (buffers.buffer(), ResponseHead::default());
        Ok(Self { stream, backend, buffer, head, idle_since: Instant::now(), heard: false })
    }

    /// Whether an idle connection is still good: not closed, and nothing said out of turn. Costs no
    /// system call where the kernel has reported nothing.
    pub fn is_fresh(&self) -> bool {
        self.stream.is_quiet()
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, head: &[u8], body: &[u8]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if body.is_empty() {
            stream.poll_write(cx, head)
        } else if head.is_empty() {
            stream.poll_write(cx, body)
        } else {
            stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)])
        }
    }

    /// Reads the head of the next answer, at most `read_max` bytes at once; they stay in the buffer.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: Method,
        read_max: usize,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if !self.buffer.is_empty() {
                match self.head.parse(self.buffer.unread(), request) {
                    Ok(true) => return Poll::Ready(Ok(())),
                    Ok(false) => self.buffer.insist_on_room(),
                    Err(error) => {
                        tracing::warn!(backend = self.backend.name, "{error}");
                        return Poll::Ready(Err(Failure::BadAnswer));
                    }
                }
            }
            match ready!(self.buffer.poll_fill_some(&mut self.stream, cx, read_max)) {
                Err(error) if !self.heard && is_rejection(&error) => {
                    tracing::debug!(backend = self.backend.name, %error, "no TLS with it");
                    self.backend.stats.connect_failures.fetch_add(1, Relaxed);
                    return Poll::Ready(Err(Failure::Connect));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(Failure::Reset)),
                Ok(_) => self.heard = true,
            }
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(15)))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}
