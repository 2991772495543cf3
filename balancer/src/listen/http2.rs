//! HTTP/2 clients: the h2 crate speaks the protocol, [`forward`](crate::forward) does the rest.
//!
//! Tasks: one for a connection, which reads and writes its frames, and one for each stream. What
//! streams have ready is written together, after all of them were polled. Dropping a stream's task
//! resets its stream.

mod head;
mod request;
mod stream;
mod tunnel;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong, Reason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::buffer::Buffer;
use crate::core::timer::{Fired, Timer};
use crate::core::worker::Worker;
use crate::gateway::Gateway;
use crate::listen::client::ClientInfo;
use crate::wire::request_head::HEAD_BYTES_MAX;

/// What an HTTP/2 client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most streams at once on one connection.
const STREAMS_MAX: u32 = 256;
/// What a client may send on one stream, and on all, before it waits.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What waits to be sent on one stream.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How long a client may take to take that its connection ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// Streams that a client may reset before they were answered (CVE-2023-44487).
const RESETS_MAX: usize = 64;

/// Serves a connection until it ends. `first` holds what was read of it already.
pub async fn serve<S>(worker: Rc<Worker>, gateway: Rc<Gateway>, io: S, client: ClientInfo, first: Buffer)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let settings = worker.settings();
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX))
        .enable_connect_protocol();
    let timer = worker.timers.timer();
    timer.arm(settings.head_timeout);
    let Ok(Ok(mut connection)) = timer.limit(builder.handshake(Prefixed::new(io, first))).await else {
        return;
    };
    let mut watch = Watch {
        ping: connection.ping_pong(),
        pinged: false,
        ending: false,
        idle_timeout: settings.idle_timeout,
        goodbye_timeout: settings.head_timeout,
    };
    let streams = Rc::new(Streams { open: Cell::new(0), since: Cell::new(worker.timers.now()) });
    let client = Rc::new(client);
    timer.arm(settings.idle_timeout);
    timer.tell_of_drain(true);
    let is_over = poll_fn(|cx| {
        while let Poll::Ready(fired) = timer.poll_fired(cx) {
            if watch.fired(fired, &timer, &streams, &worker, &mut connection, cx) {
                return Poll::Ready(false);
            }
        }
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    worker.stats.http2_requests.add(1);
                    let open = Open::begin(&streams, &worker);
                    let serve =
                        stream::serve(worker.clone(), gateway.clone(), client.clone(), request, respond);
                    tokio::task::spawn_local(async move {
                        serve.await;
                        drop(open);
                    });
                }
                Poll::Ready(_) => return Poll::Ready(true),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    if !is_over {
        // A client that does not take part in a goodbye hears one: GOAWAY, and TLS's own.
        timer.tell_of_drain(false);
        timer.disarm();
        timer.arm(GOODBYE);
        connection.abrupt_shutdown(Reason::NO_ERROR);
        let _ = timer.limit(poll_fn(|cx| connection.poll_closed(cx))).await;
    }
}

/// The streams of a connection.
#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    /// When one came or went.
    since: Cell<Instant>,
}

/// Counts a stream for as long as it is served.
struct Open(Rc<Streams>, Rc<Worker>);

impl Open {
    fn begin(streams: &Rc<Streams>, worker: &Rc<Worker>) -> Self {
        streams.open.set(streams.open.get() + 1);
        streams.since.set(worker.timers.now());
        Self(streams.clone(), worker.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.since.set(self.1.timers.now());
    }
}

/// Sees to the end of a connection: one that idles, one whose client is gone, the process's drain.
struct Watch {
    ping: Option<PingPong>,
    /// A ping is out.
    pinged: bool,
    /// GOAWAY is said.
    ending: bool,
    idle_timeout: Duration,
    goodbye_timeout: Duration,
}

impl Watch {
    /// Does what is due. Says whether the connection is over.
    fn fired<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        fired: Fired,
        timer: &Timer,
        streams: &Streams,
        worker: &Worker,
        connection: &mut Connection<S, Bytes>,
        cx: &mut Context<'_>,
    ) -> bool {
        if fired == Fired::Drain {
            timer.tell_of_drain(false);
            self.say_goodbye(timer, connection);
            return false;
        }
        if streams.open.get() == 0 {
            let idle = worker.timers.now().saturating_duration_since(streams.since.get());
            if self.ending {
                return true;
            }
            match self.idle_timeout.checked_sub(idle) {
                Some(left) if !left.is_zero() => timer.arm(left),
                _ => self.say_goodbye(timer, connection),
            }
            return false;
        }
        // With streams open, the client must be there to read them.
        timer.arm(self.idle_timeout);
        let Some(ping) = &mut self.ping else { return false };
        if self.pinged && ping.poll_pong(cx).is_pending() {
            return true;
        }
        self.pinged = ping.send_ping(Ping::opaque()).is_ok();
        false
    }

    /// Streams that are open end in order; no more are taken.
    fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        timer: &Timer,
        connection: &mut Connection<S, Bytes>,
    ) {
        if !self.ending {
            self.ending = true;
            connection.graceful_shutdown();
        }
        timer.arm(self.goodbye_timeout);
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

    pub fn get_ref(&self) -> &S {
        &self.io
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
