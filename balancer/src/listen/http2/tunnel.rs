//! After an extended CONNECT was accepted: bytes both ways between a stream and the backend, until
//! both sides have ended or one fell silent for too long.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::AsyncWrite;

use super::outbox::Outbox;
use crate::forward::upstream::Upstream;
use crate::listen::leave::Leave;

/// The client's side.
pub struct Tunnel {
    pub recv: RecvStream,
    pub send: SendStream<Bytes>,
    pub outbox: Rc<Outbox>,
    /// Bytes from the client that the backend has not taken yet.
    pub rest: Bytes,
    pub recv_ended: bool,
    pub send_ended: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Tunnel {
    /// Carries bytes until the tunnel ends.
    pub(in crate::listen) async fn run(&mut self, mut leave: Leave<'_>, mut upstream: Upstream) {
        poll_fn(|cx| {
            let before = self.bytes_in + self.bytes_out;
            let up = self.poll_up(cx, &mut upstream);
            let down = self.poll_down(cx, &mut upstream);
            match (up, down) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                _ => {}
            }
            if self.bytes_in + self.bytes_out != before {
                leave.moved();
            }
            leave.poll_over(cx)
        })
        .await;
    }

    fn poll_up(&mut self, cx: &mut Context<'_>, upstream: &mut Upstream) -> Poll<io::Result<()>> {
        while !self.recv_ended {
            if !self.rest.is_empty() {
                let n = ready!(upstream.poll_write(cx, &self.rest, &[]))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.rest.advance(n);
                self.bytes_in += n as u64;
                // The client may send as much again once it is passed on.
                self.recv.flow_control().release_capacity(n).map_err(io::Error::other)?;
                continue;
            }
            match ready!(self.recv.poll_data(cx)) {
                Some(data) => self.rest = data.map_err(io::Error::other)?,
                None => {
                    ready!(Pin::new(&mut upstream.stream).poll_shutdown(cx))?;
                    self.recv_ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, upstream: &mut Upstream) -> Poll<io::Result<()>> {
        while !self.send_ended {
            if let Poll::Ready(reset) = self.send.poll_reset(cx) {
                return Poll::Ready(Err(io::Error::other(format!("{reset:?}"))));
            }
            if upstream.buffer.is_empty() && ready!(upstream.buffer.poll_fill(&mut upstream.stream, cx))? == 0
            {
                self.send.send_data(Bytes::new(), true).map_err(io::Error::other)?;
                self.send_ended = true;
                break;
            }
            self.send.reserve_capacity(upstream.buffer.len());
            while self.send.capacity() == 0 {
                match ready!(self.send.poll_capacity(cx)) {
                    Some(capacity) => capacity.map_err(io::Error::other)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                };
            }
            let n = self.send.capacity().min(upstream.buffer.len());
            let n = ready!(self.outbox.poll_give(cx, n));
            let data = Bytes::copy_from_slice(&upstream.buffer.unread()[..n]);
            self.send.send_data(data, false).map_err(io::Error::other)?;
            upstream.buffer.consume(n);
            self.bytes_out += n as u64;
        }
        Poll::Ready(Ok(()))
    }
}
