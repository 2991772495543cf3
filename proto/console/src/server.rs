//! Listeners and connections: HTTP/1.1 with keep-alive, bounded in number, in bytes and in time, with an
//! orderly end.
//!
//! [`serve`] runs until it is told to stop and its connections have ended; it spawns a task for
//! each connection. Dropping its future leaves the connections running: tell it to stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::refusal::{AnswerBody, Exchange, Exchanges, HEAD_BYTES_MAX, HEADERS_MAX, Worded};

/// What a listener serves. Cheap to clone.
pub trait Answers: Clone + Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// `began` is when the request's head was there.
    fn respond(
        &self,
        request: Request<Incoming>,
        began: Instant,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The field that every answer has: those that are given before a request can be read need it as well.
    fn mark(&self) -> Option<(HeaderName, HeaderValue)> {
        None
    }

    /// The same for a connection that came in by a door at which it proved itself.
    fn proved(self) -> Self {
        self
    }

    /// From now on every answer is to be the last on its connection.
    fn close_connections(&self) {}

    /// Returns once nothing goes on any more on connections that answers took over.
    fn upgraded_end(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Where the listener counts.
    fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// What stands between a connection and the bytes of HTTP.
pub trait Door: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the first byte, where the door has to have one; false where none comes any more. Until then nobody
    /// is here who a stop would wait for.
    fn is_spoken_to(&self, stream: &TcpStream) -> impl Future<Output = bool> + Send {
        let _ = stream;
        async { true }
    }

    /// The stream inside; none where who came is not let in. Dropped where that takes as long as a connection may
    /// idle.
    fn open(&self, stream: TcpStream) -> impl Future<Output = Option<Self::Stream>> + Send;

    /// Whether who came in proved itself.
    fn is_proved(stream: &Self::Stream) -> bool {
        let _ = stream;
        false
    }
}

/// An extension of requests: their connection's other end has proved itself at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved;

/// No door: HTTP as it comes.
#[derive(Debug, Clone, Copy)]
struct NoDoor;

impl Door for NoDoor {
    type Stream = TcpStream;

    async fn open(&self, stream: TcpStream) -> Option<TcpStream> {
        Some(stream)
    }
}

/// What a listener counts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub connections: Gauge,
    pub connections_max: Gauge,
    /// Connections that were open when a stop's time was up.
    pub cut_off: Counter,
    /// Failures to accept a connection, as when descriptors run out.
    pub accept_failures: Counter,
}

/// Largest head of a request, in bytes; hyper answers 431 to a larger one (up to twice as much
/// After a failed accept (no descriptors left, mostly) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client that acknowledges nothing, or has room for nothing, for this long is cut off.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How long a stopping listener still takes, and answers, what was on its way to it.
const STOP_LINGER: Duration = Duration::from_millis(50);

/// How far a listener is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    /// Serves as before, and asks clients with each answer to connect anew, elsewhere.
    Draining,
    /// Accepts nothing, finishes what is in flight.
    Stopping,
}

/// What a listener's clients may take.
#[derive(Debug, Clone)]
pub struct ServeLimits {
    /// Open connections; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// A connection with no request under way for this long is closed. It bounds the time for a
    /// request's head also.
    pub idle_timeout: Duration,
    /// After [`Stage::Stopping`], what is still in flight after this long is cut off.
    pub stop_timeout: Duration,
}

impl ServeLimits {
    /// Those of an admin address: few clients, which come again as often as a scrape does.
    pub fn admin() -> Self {
        Self { connections_max: 256, idle_timeout: Duration::from_secs(20), ..Self::default() }
    }
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            idle_timeout: Duration::from_secs(75),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// What connections are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    GoOn,
    Finish,
    CutOff,
}

/// Serves `app` on `listener` until `stage` says stop; returns when the last connection ended.
///
/// A dropped sender of `stage` counts as [`Stage::Stopping`].
pub async fn serve<A: Answers>(
    listener: TcpListener,
    app: A,
    limits: ServeLimits,
    stage: watch::Receiver<Stage>,
) {
    serve_behind(NoDoor, listener, app, limits, stage).await;
}

/// The same of those whom a door lets in.
pub async fn serve_behind<A: Answers>(
    door: impl Door,
    listener: TcpListener,
    app: A,
    limits: ServeLimits,
    mut stage: watch::Receiver<Stage>,
) {
    let connections_max = limits.connections_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let slots = Arc::new(Semaphore::new(connections_max));
    let (order, orders) = watch::channel(Order::GoOn);
    let counts = app.counts();
    counts.connections_max.set(connections_max as i64);
    let start = |(stream, slot): (TcpStream, OwnedSemaphorePermit)| {
        let (app, mut orders, connections) = (app.clone(), orders.clone(), counts.connections.clone());
        let door = door.clone();
        tokio::spawn(async move {
            connections.inc();
            if let Some(stream) = opened(&door, stream, &mut orders, limits.idle_timeout).await {
                let app = if is_proved(&door, &stream) { app.proved() } else { app };
                connection(stream, &app, orders, limits.idle_timeout).await;
            }
            connections.dec();
            drop(slot);
        });
    };
    loop {
        let now = *stage.borrow_and_update();
        if now >= Stage::Draining {
            app.close_connections();
        }
        if now == Stage::Stopping {
            break;
        }
        tokio::select! {
            biased;
            changed = stage.changed() => if changed.is_err() { break },
            accepted = accept(&listener, &slots, &counts) => {
                accepted.map(start);
            }
        }
    }
    app.close_connections();
    // Clients that connected in the same moment are in the backlog: closing it would reset them.
    let lingering = async {
        loop {
            accept(&listener, &slots, &counts).await.map(start);
        }
    };
    let _: Result<(), _> = tokio::time::timeout(STOP_LINGER, lingering).await;
    drop(listener);
    order.send_replace(Order::Finish);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    let ended = async {
        let _all = slots.acquire_many(all).await;
        app.upgraded_end().await;
    };
    if tokio::time::timeout(limits.stop_timeout, ended).await.is_err() {
        let open = connections_max.saturating_sub(slots.available_permits());
        tracing::warn!(connections = open, "cutting off connections that did not finish in time");
        counts.cut_off.inc_by(open as u64);
        order.send_replace(Order::CutOff);
        // Each returns at its next poll.
        let _ = slots.acquire_many(all).await;
    }
}

fn is_proved<D: Door>(_: &D, stream: &D::Stream) -> bool {
    D::is_proved(stream)
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    counts: &Counts,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it an answer may wait for the client's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            // A client that takes no byte of its answer would hold the connection for ever.
            let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_MAX));
            Some((stream, slot))
        }
        Err(error) => {
            tracing::warn!(%error, "accepting a connection failed");
            counts.accept_failures.inc();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn opened<D: Door>(
    door: &D,
    stream: TcpStream,
    orders: &mut watch::Receiver<Order>,
    idle_timeout: Duration,
) -> Option<D::Stream> {
    let stopped = async {
        let _ = orders.wait_for(|order| *order >= Order::Finish).await;
        // What it says may be on its way.
        tokio::time::sleep(STOP_LINGER).await;
    };
    let is_spoken_to = tokio::select! {
        biased;
        spoken = tokio::time::timeout(idle_timeout, door.is_spoken_to(&stream)) => spoken.unwrap_or(false),
        () = stopped => false,
    };
    if !is_spoken_to {
        return None;
    }
    tokio::select! {
        biased;
        opened = tokio::time::timeout(idle_timeout, door.open(stream)) => opened.ok().flatten(),
        _ = orders.wait_for(|order| *order >= Order::CutOff) => None,
    }
}

async fn connection<A: Answers>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: &A,
    mut orders: watch::Receiver<Order>,
    idle_timeout: Duration,
) {
    let activity = Arc::new(Activity::new());
    let exchanges = Arc::new(Exchanges::default());
    let service = service_fn(|request| {
        let began = activity.begin();
        let ended = activity.clone();
        let exchange = Exchange::begin(&exchanges, move || ended.end());
        async move {
            let response = app.respond(request, began).await;
            Ok::<_, Infallible>(response.map(|body| AnswerBody::new(body, exchange)))
        }
    });
    let stream = Worded::new(stream, exchanges.clone(), app.mark());
    let mut builder = http1::Builder::new();
    // hyper's own timer for heads costs an allocation and a timer a request; the idle check
    // below bounds the same time with one timer a connection.
    builder.header_read_timeout(None).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).writev(false);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut idle_check = std::pin::pin!(tokio::time::sleep(idle_timeout));
    let mut shutdown = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let (mut finishing, mut shut_down) = (false, false);
    loop {
        let least = if finishing { Order::CutOff } else { Order::Finish };
        tokio::select! {
            biased;
            // Its errors are the client's doing: a reset, a head that is no HTTP.
            _ = connection.as_mut() => return,
            () = idle_check.as_mut() => {
                let idle = activity.idle_for();
                if idle >= idle_timeout {
                    return;
                }
                idle_check.as_mut().reset(tokio::time::Instant::now() + (idle_timeout - idle));
            }
            order = orders.wait_for(|order| *order >= least) => {
                match order.map(|order| *order) {
                    Ok(Order::Finish) => finishing = true,
                    _ => return,
                }
                // A request may be on its way: hyper closes a connection that is idle at once.
                shutdown.as_mut().reset(tokio::time::Instant::now() + STOP_LINGER);
            }
            () = shutdown.as_mut(), if finishing && !shut_down => {
                shut_down = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// When a connection was last busy.
struct Activity {
    start: Instant,
    busy: AtomicBool,
    /// Milliseconds after `start` at which the last request ended.
    ended_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), busy: AtomicBool::new(false), ended_ms: AtomicU64::new(0) }
    }

    fn begin(&self) -> Instant {
        self.busy.store(true, Ordering::Relaxed);
        Instant::now()
    }

    fn end(&self) {
        self.ended_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        self.busy.store(false, Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn idle_for(&self) -> Duration {
        if self.busy.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.elapsed_ms().saturating_sub(self.ended_ms.load(Ordering::Relaxed)))
    }
}
