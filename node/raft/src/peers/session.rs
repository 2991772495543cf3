//! The life of a connection for calls, after its hello: one task reads, one writes, and each
//! request and each stream of appends of the peer has one.
//!
//! The reader never waits for what it hands on, or heartbeats would wait behind appends: requests
//! beyond their bound are refused, and appends beyond their window are a breach that ends the
//! connection. Where the key that the peer proved itself with is taken away, this node starts nothing new on the
//! connection, and what is open on it, of the peer too, has a moment to end. The tasks end with the connection, except requests in the handler's hands: these
//! run to their end, inside their time. All end when the network has stopped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use skep_base::id::ClusterId;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::connection::{
    APPEND_WINDOW_BYTES, APPEND_WINDOW_COUNT, CALL_BYTES_MAX, CALLS_MAX, Connection, StreamEvent,
};
use super::counters::Level;
use super::framing::{Assembler, HEADER_BYTES, PIECE_BYTES_MAX};
use super::hello::{self, Io};
use super::outbox::write_loop;
use super::{Inner, REQUEST_TIME_MAX};
use crate::wire::{self, AppendRequest, Frame, GroupId, Refusal, Request, Response};

/// Room made in the read buffer: a whole piece at least.
const READ_BYTES: usize = PIECE_BYTES_MAX + HEADER_BYTES;

/// Most requests of a peer's clients in hand on one connection: a little more than it sends.
const SERVED_MAX: usize = CALLS_MAX + CALLS_MAX / 4;

/// Most bytes of them.
const SERVED_BYTES_MAX: usize = 2 * CALL_BYTES_MAX;

/// Most requests of consensus in hand on one connection.
const SERVED_CONSENSUS_MAX: usize = 256;

/// Most streams of appends that a peer has open on one connection.
const STREAMS_MAX: usize = 64;

/// The window of a peer's stream: wider than what it keeps to, so that no honest one breaches it.
const WINDOW_BYTES_MAX: usize = 4 * APPEND_WINDOW_BYTES;
const WINDOW_COUNT_MAX: usize = 4 * APPEND_WINDOW_COUNT;

/// How often the reader looks whether the peer lives.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// After so long a silence a peer that owes an answer is pinged; and one that owes none.
const SILENCE_MAX: Duration = Duration::from_millis(500);
const SILENCE_IDLE_MAX: Duration = Duration::from_secs(5);

/// A peer that sends nothing for so long after a ping is dead.
const PONG_MAX: Duration = Duration::from_secs(3);

/// So long what is open on a connection may take to end once the peer's key is taken away.
pub(super) const KEY_GONE_DRAIN: Duration = Duration::from_secs(3);

/// Runs a connection to its end. `clusters` has been read for the hello: a change after that is
/// told to the peer.
pub(super) async fn run(
    inner: Arc<Inner>,
    connection: Arc<Connection>,
    io: Io,
    clusters: watch::Receiver<Option<ClusterId>>,
) {
    let level = Level::raise(&inner.counters, |counters| &counters.connections_open);
    let shown = hello::shown(&io);
    let (reader, writer) = tokio::io::split(io);
    let writing = {
        let (connection, inner) = (connection.clone(), inner.clone());
        async move {
            let taken = |call| connection.take_call(call);
            let end = tokio::select! {
                end = write_loop(&connection.outbox, writer, taken) => end,
                () = connection.closed.cancelled() => return,
            };
            if matches!(end, super::outbox::WriteEnd::Stalled) {
                inner.counters.stalls.add(1);
            }
            connection.close(&end.to_string());
        }
    };
    inner.spawn(writing);
    let mut session = Session::new(inner.clone(), connection.clone());
    let reason = tokio::select! {
        reason = session.read_loop(reader, clusters) => reason,
        () = key_gone(&inner, &connection, &shown) => "its key was taken away".into(),
    };
    connection.close(&reason);
    inner.table.forget(&connection);
    // Nobody may listen; who listens and lags hears of later ones.
    let _ = inner.ended.send(connection.peer);
    let peer = connection.peer;
    if inner.keys.now().peers.believes(&shown) {
        tracing::debug!(%peer, reason, "a connection to a peer ended");
    } else {
        tracing::info!(%peer, reason, "a connection ended whose key is taken away");
    }
    drop(level);
}

/// Ends once the peer's key was taken away, and what was open has had its time. Another connection takes this one's
/// place meanwhile, where the peer has another key. This node makes it at once: the peer, which cannot see that
/// this node uses the old one no more, begins nothing on it from then on.
async fn key_gone(inner: &Arc<Inner>, connection: &Connection, shown: &[CertificateDer<'_>]) {
    inner.keys.no_more(shown).await;
    connection.retire();
    inner.dial_ahead(connection.peer);
    tokio::time::sleep(inner.key_gone_drain).await;
}

struct Session {
    inner: Arc<Inner>,
    connection: Arc<Connection>,
    streams: HashMap<u64, ServedStream>,
    served: Arc<Semaphore>,
    served_bytes: Arc<Semaphore>,
    served_consensus: Arc<Semaphore>,
}

/// A peer's stream of appends.
struct ServedStream {
    feed: mpsc::UnboundedSender<AppendRequest>,
    window: Arc<Mutex<Window>>,
}

/// The appends of a stream that have no answer yet.
#[derive(Default)]
struct Window {
    sizes: VecDeque<usize>,
    bytes: usize,
    ended: bool,
}

impl Session {
    fn new(inner: Arc<Inner>, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            connection,
            streams: HashMap::new(),
            served: Arc::new(Semaphore::new(SERVED_MAX)),
            served_bytes: Arc::new(Semaphore::new(SERVED_BYTES_MAX)),
            served_consensus: Arc::new(Semaphore::new(SERVED_CONSENSUS_MAX)),
        }
    }

    /// Reads until the connection ends; answers why.
    async fn read_loop(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
        mut clusters: watch::Receiver<Option<ClusterId>>,
    ) -> String {
        let counters = self.inner.counters.clone();
        let closed = self.connection.closed.clone();
        let mut bytes = BytesMut::with_capacity(2 * READ_BYTES);
        let mut assembler = Assembler::default();
        let mut heard = Instant::now();
        let mut pinged: Option<Instant> = None;
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watching = true;
        loop {
            loop {
                let body = match assembler.next(&mut bytes) {
                    Ok(Some(body)) => body,
                    Ok(None) => break,
                    Err(error) => return self.breach(&error.to_string()),
                };
                counters.frames_in.add(1);
                let frame = match wire::decode_frame(&body) {
                    Ok(frame) => frame,
                    Err(error) => return self.breach(&error.to_string()),
                };
                if let Err(breach) = self.dispatch(frame, body.len()).await {
                    return self.breach(breach);
                }
            }
            bytes.reserve(READ_BYTES);
            tokio::select! {
                // Reading before checking: after a stall of this process, what the peer said
                // meanwhile counts.
                biased;
                () = closed.cancelled() => return "closed".into(),
                read = reader.read_buf(&mut bytes) => match read {
                    Ok(0) => return "the peer closed it".into(),
                    Ok(count) => {
                        counters.bytes_in.add(count as u64);
                        heard = Instant::now();
                        pinged = None;
                    }
                    Err(error) => return error.to_string(),
                },
                changed = clusters.changed(), if watching => {
                    watching = changed.is_ok();
                    let cluster = *clusters.borrow_and_update();
                    if let Some(cluster) = cluster {
                        self.connection.send(true, &Frame::Cluster(cluster));
                        if self.connection.peer_cluster().is_some_and(|theirs| theirs != cluster) {
                            return "the peer belongs to another cluster".into();
                        }
                    }
                }
                _ = check.tick() => {
                    let now = Instant::now();
                    let silence_max = match self.connection.is_idle() {
                        true => SILENCE_IDLE_MAX,
                        false => SILENCE_MAX,
                    };
                    match pinged {
                        Some(at) if now - at > PONG_MAX => {
                            counters.stalls.add(1);
                            return "the peer is silent".into();
                        }
                        None if now - heard > silence_max => {
                            pinged = Some(now);
                            self.connection.send(true, &Frame::Ping);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn breach(&self, what: &str) -> String {
        self.inner.counters.decode_errors.add(1);
        tracing::warn!(peer = %self.connection.peer, what, "a peer sent what no peer sends");
        format!("a breach of the protocol: {what}")
    }

    /// Whether both ends belong to the same cluster.
    fn is_member(&self) -> bool {
        let local = *self.inner.cluster.borrow();
        local.is_some() && local == self.connection.peer_cluster()
    }

    async fn dispatch(&mut self, frame: Frame, bytes: usize) -> Result<(), &'static str> {
        match frame {
            Frame::Ping => {
                self.connection.send(true, &Frame::Pong);
            }
            Frame::Pong => {}
            Frame::Cluster(cluster) => {
                self.connection.set_peer_cluster(cluster);
                // In order with what follows: the first vote of a new cluster comes right behind.
                self.inner.adopt(self.connection.peer, cluster).await;
                if self.inner.cluster.borrow().is_some_and(|local| local != cluster) {
                    self.connection.close("the peer belongs to another cluster");
                }
            }
            Frame::Goodbye => self.connection.goodbye_received(),
            Frame::Request { id, group, timeout_ms, request } => {
                self.serve(id, group, timeout_ms, request, bytes);
            }
            Frame::Response { id, response } => self.connection.answer_call(id, response),
            Frame::StreamOpen { stream, group } => self.serve_stream(stream, group)?,
            Frame::Append { stream, request } => self.feed(stream, request, bytes)?,
            Frame::Appended { stream, result } => {
                self.connection.stream_event(stream, StreamEvent::Appended(result));
            }
            Frame::StreamEnd { stream } => {
                self.streams.remove(&stream);
            }
            Frame::StreamClosed { stream, error } => {
                self.connection.stream_event(stream, StreamEvent::End(error));
            }
            Frame::SnapshotBegin(_)
            | Frame::SnapshotChunk(_)
            | Frame::SnapshotEnd { .. }
            | Frame::SnapshotProgress { .. }
            | Frame::SnapshotDone(_) => return Err("a snapshot on a connection for calls"),
        }
        Ok(())
    }

    /// Hands a request to the handler, or says at once why not.
    fn serve(&self, id: u64, group: GroupId, timeout_ms: u32, request: Request, bytes: usize) {
        let urgent = request.is_urgent();
        let refuse = |refusal| {
            self.connection.send(urgent, &Frame::Response { id, response: Response::Refused(refusal) });
        };
        if !request.is_for_strangers() && !self.is_member() {
            return refuse(Refusal::NotInCluster);
        }
        let Some(handler) = self.inner.handler() else {
            return refuse(Refusal::NotReady);
        };
        let permits = match request.is_consensus() {
            true => self.served_consensus.clone().try_acquire_owned().map(|permit| (permit, None)),
            false => self.served.clone().try_acquire_owned().and_then(|permit| {
                let bytes = bytes.clamp(1, SERVED_BYTES_MAX) as u32;
                Ok((permit, Some(self.served_bytes.clone().try_acquire_many_owned(bytes)?)))
            }),
        };
        let Ok(permits) = permits else {
            self.inner.counters.overloaded.add(1);
            return refuse(Refusal::Overloaded);
        };
        let level = Level::raise(&self.inner.counters, |counters| &counters.serving);
        let connection = self.connection.clone();
        let answer = handler.handle(connection.peer, group, request);
        let time_max = Duration::from_millis(timeout_ms.into()).min(REQUEST_TIME_MAX);
        self.inner.spawn(async move {
            // Nobody waits for an answer that comes later.
            if let Ok(response) = tokio::time::timeout(time_max, answer).await {
                connection.send(urgent, &Frame::Response { id, response });
            }
            drop((permits, level));
        });
    }

    /// Begins to serve a stream of appends.
    fn serve_stream(&mut self, stream: u64, group: GroupId) -> Result<(), &'static str> {
        let refuse = |reason: Refusal| {
            let error = Some(reason.to_string());
            self.connection.send(true, &Frame::StreamClosed { stream, error });
            Ok(())
        };
        if !self.is_member() {
            return refuse(Refusal::NotInCluster);
        }
        let Some(handler) = self.inner.handler() else {
            return refuse(Refusal::NotReady);
        };
        if self.streams.len() >= STREAMS_MAX {
            return Err("too many streams");
        }
        let (feed, appends) = mpsc::unbounded_channel();
        let window = Arc::new(Mutex::new(Window::default()));
        if self.streams.insert(stream, ServedStream { feed, window: window.clone() }).is_some() {
            return Err("a stream was opened twice");
        }
        let appends = futures_util::stream::unfold(appends, |mut appends| async move {
            appends.recv().await.map(|append| (append, appends))
        });
        let mut results = handler.append_stream(self.connection.peer, group, appends.boxed());
        let connection = self.connection.clone();
        self.inner.spawn(async move {
            let error = loop {
                let result = tokio::select! {
                    result = results.next() => result,
                    () = connection.closed.cancelled() => return,
                };
                match result {
                    Some(Ok(result)) => {
                        lock(&window).pop();
                        connection.send(true, &Frame::Appended { stream, result });
                    }
                    Some(Err(error)) => break Some(wire::short_text(error)),
                    None => break None,
                }
            };
            lock(&window).ended = true;
            connection.send(true, &Frame::StreamClosed { stream, error });
        });
        Ok(())
    }

    /// Hands an append on to its stream.
    fn feed(&mut self, stream: u64, request: AppendRequest, bytes: usize) -> Result<(), &'static str> {
        // One that was refused, or that ended with a conflict while this was on its way.
        let Some(served) = self.streams.get(&stream) else {
            return Ok(());
        };
        {
            let mut window = lock(&served.window);
            if window.ended {
                return Ok(());
            }
            window.sizes.push_back(bytes);
            window.bytes += bytes;
            if window.bytes > WINDOW_BYTES_MAX || window.sizes.len() > WINDOW_COUNT_MAX {
                return Err("more appends than the window has room for");
            }
        }
        let _ = served.feed.send(request);
        Ok(())
    }
}

impl Window {
    fn pop(&mut self) {
        if let Some(bytes) = self.sizes.pop_front() {
            self.bytes -= bytes;
        }
    }
}

fn lock(window: &Mutex<Window>) -> std::sync::MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}
