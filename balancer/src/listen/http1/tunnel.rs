//! After 101: bytes both ways, until both sides have ended or one fell silent for too long.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientStream, Connection};
use crate::core::buffer::Buffer;
use crate::core::routes::Via;
use crate::core::timer::Timer;
use crate::forward::upstream::Upstream;
use crate::listen::leave::Leave;

/// One direction.
#[derive(Debug, Default)]
struct Way {
    ended: bool,
    shut: bool,
    bytes: u64,
}

impl Way {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if !buffer.is_empty() {
                let n = ready!(Pin::new(&mut *writer).poll_write(cx, buffer.unread()))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                buffer.consume(n);
                self.bytes += n as u64;
            } else if self.ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                self.shut = true;
            } else {
                match buffer.poll_fill(reader, cx)? {
                    Poll::Ready(n) => self.ended = n == 0,
                    Poll::Pending => {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<S: ClientStream> Connection<S> {
    /// Carries bytes until the tunnel ends: how many went to the backend, and how many came back.
    pub(super) async fn tunnel(
        &mut self,
        timer: &Timer,
        mut upstream: Upstream,
        via: Option<&Via>,
    ) -> (u64, u64) {
        let (mut up, mut down) = (Way::default(), Way::default());
        let gateway = self.gateway.clone();
        let mut leave = Leave::new(timer, &gateway, upstream.backend.serial, via);
        poll_fn(|cx| {
            let before = up.bytes + down.bytes;
            let sent = up.poll(cx, &mut self.input, &mut self.stream, &mut upstream.stream);
            let received = down.poll(cx, &mut upstream.buffer, &mut upstream.stream, &mut self.stream);
            match (sent, received) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                _ => {}
            }
            if up.bytes + down.bytes != before {
                leave.moved();
            }
            leave.poll_over(cx)
        })
        .await;
        (up.bytes, down.bytes)
    }
}
