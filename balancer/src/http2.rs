//! HTTP/2 clients: hyper speaks the protocol, [`forward`] does the rest.
//!
//! A connection is one task; hyper polls a future for each stream in it. An exchange's future is
//! polled by the answer's body once the head is out, so a stream costs no task, back pressure is
//! that of the body, and a reset stream drops all that belongs to it.

mod stream;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::forward::buffer::Buffer;
use crate::forward::request_head::HEAD_BYTES_MAX;
use crate::http1::ClientInfo;
use crate::worker::Worker;

/// What an HTTP/2 client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most streams at once on one connection.
const STREAMS_MAX: u32 = 256;
/// What a client may send on one stream, and on all, before it waits.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What waits to be sent on one stream.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Streams that a client may reset before they were answered (CVE-2023-44487).
const RESETS_MAX: usize = 64;

/// Serves a connection until it ends. `first` holds what was read of it already.
pub async fn serve<S>(worker: Rc<Worker>, io: S, client: ClientInfo, first: Buffer)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let settings = worker.settings();
    let mut builder = Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(settings.idle_timeout)
        .keep_alive_timeout(settings.head_timeout);
    let client = Rc::new(client);
    let service = {
        let worker = worker.clone();
        service_fn(move |request: hyper::Request<Incoming>| {
            stream::answer(worker.clone(), client.clone(), request)
        })
    };
    let connection = builder.serve_connection(TokioIo::new(Prefixed::new(io, first)), service);
    let mut connection = pin!(connection);
    // The table of timers wakes this task each time it is due, for the drain's sake.
    let timer = worker.timers.timer();
    let mut told = false;
    timer.arm(crate::forward::timer::TICK);
    poll_fn(|cx| {
        while timer.poll_fired(cx).is_ready() {
            timer.arm(DRAIN_LOOK);
            if worker.is_draining() && !told {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// How often a connection looks whether the process drains.
const DRAIN_LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs hyper's futures on the core that they belong to.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// A stream of which some bytes were read already.
#[derive(Debug)]
pub struct Prefixed<S> {
    io: S,
    first: Buffer,
}

impl<S> Prefixed<S> {
    pub fn new(io: S, first: Buffer) -> Self {
        Self { io, first }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.unread()[..n]);
        self.first.consume(n);
        self.first.release();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
