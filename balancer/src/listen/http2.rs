//! HTTP/2 clients: the h2 crate speaks the protocol, [`forward`](crate::forward) does the rest.
//!
//! Tasks: one for a connection, which reads and writes its frames, and one for each stream. What
//! streams have ready is written together, after all of them were polled. Dropping a stream's task
//! resets its stream.

mod calm;
mod head;
mod inbox;
mod outbox;
mod request;
mod stream;
mod tunnel;

use std::cell::{Cell, RefCell};
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

use self::calm::Calm;
use self::inbox::{Inbox, WINDOW_BYTES_MIN};
use self::outbox::{Metered, Outbox};
use crate::core::account::{Charge, Use};
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
/// What a client may send on all streams before it waits, where it sends bodies that are long, as long as the
/// account has as much; and the part of it that is one stream's.
const WINDOWS_BYTES: [u32; 2] = [512 * 1024, 256 * 1024];
const STREAMS_PART: u32 = 4;
/// What waits to be sent on one stream.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How long a client may take to take that its connection ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// Streams that a client may reset before they are accepted; later ones are counted by `calm`.
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
        .initial_window_size(WINDOW_BYTES_MIN)
        .initial_connection_window_size(WINDOW_BYTES_MIN)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX))
        .enable_connect_protocol();
    let timer = worker.timers.timer();
    timer.arm(settings.head_timeout);
    let (outbox, inbox) = (Rc::new(Outbox::new(&worker.purse)), Rc::new(Inbox::default()));
    let io = Metered::new(Prefixed::new(io, first), outbox.clone());
    let Ok(Ok(mut connection)) = timer.limit(builder.handshake(io)).await else {
        return;
    };
    let mut watch = Watch {
        ping: connection.ping_pong(),
        pinged: false,
        ending: false,
        calmed: false,
        idle_timeout: settings.idle_timeout,
        goodbye_timeout: settings.head_timeout,
    };
    let streams = Rc::new(Streams::new(worker.timers.now()));
    let mut window = Charge::none(&worker.purse);
    let client = Rc::new(client);
    timer.arm(settings.idle_timeout);
    timer.tell_of_drain(true);
    let is_over = poll_fn(|cx| {
        while let Poll::Ready(fired) = timer.poll_fired(cx) {
            if watch.fired(fired, &timer, &streams, &worker, &mut connection, cx) {
                return Poll::Ready(false);
            }
        }
        if inbox.take_wanted() {
            widen(&mut connection, &mut window, &inbox);
        }
        loop {
            if streams.calm.borrow().is_over() && !watch.calmed {
                worker.stats.http2_calmed.add(1);
                watch.calm_down(&timer, &mut connection);
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    worker.stats.http2_requests.add(1);
                    let open = Open::begin(&streams, &worker);
                    let boxes = (inbox.clone(), outbox.clone());
                    let of = (worker.clone(), gateway.clone(), client.clone(), boxes);
                    let serve = stream::serve(of, request, respond);
                    tokio::task::spawn_local(async move {
                        let end = serve.await;
                        open.end(end);
                    });
                }
                Poll::Ready(_) => return Poll::Ready(true),
                Poll::Pending => {
                    outbox.settle();
                    return Poll::Pending;
                }
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

/// A client that sends long bodies may send more of them at once. It may for as long as it is there: what it was
/// told once cannot be taken back.
fn widen<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S, Bytes>,
    window: &mut Charge,
    inbox: &Inbox,
) {
    if window.bytes() > 0 {
        return;
    }
    let mut covers = |bytes: u32| window.cover((bytes - WINDOW_BYTES_MIN) as usize, Use::Window);
    if let Some(bytes) = WINDOWS_BYTES.into_iter().find(|bytes| covers(*bytes)) {
        connection.set_target_window_size(bytes);
        // One that has not acknowledged its first settings keeps to those.
        let _ = connection.set_initial_window_size((bytes / STREAMS_PART).max(WINDOW_BYTES_MIN));
        inbox.widened(bytes);
    }
}

/// The streams of a connection.
#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    /// When one came or went.
    since: Cell<Instant>,
    calm: RefCell<Calm>,
}

impl Streams {
    fn new(now: Instant) -> Self {
        Self { open: Cell::new(0), since: Cell::new(now), calm: RefCell::new(Calm::new(now)) }
    }
}

/// Counts a stream for as long as it is served.
struct Open(Rc<Streams>, Rc<Worker>);

impl Open {
    fn begin(streams: &Rc<Streams>, worker: &Rc<Worker>) -> Self {
        streams.open.set(streams.open.get() + 1);
        streams.since.set(worker.timers.now());
        Self(streams.clone(), worker.clone())
    }

    fn end(self, end: stream::End) {
        let mut calm = self.0.calm.borrow_mut();
        match end {
            stream::End::Served => calm.answered(),
            stream::End::Broken => {}
            stream::End::TakenBack => calm.taken_back(self.1.timers.now()),
        }
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
    /// With ENHANCE_YOUR_CALM: nothing is waited for but that it is sent.
    calmed: bool,
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
        if self.calmed {
            return true;
        }
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

    /// All streams end.
    fn calm_down<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        timer: &Timer,
        connection: &mut Connection<S, Bytes>,
    ) {
        (self.calmed, self.ending) = (true, true);
        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        timer.arm(self.goodbye_timeout);
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
