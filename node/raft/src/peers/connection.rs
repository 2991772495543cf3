//! One connection to a peer, after its hello: the calls and streams of appends that this side has
//! open on it. The tasks that read and write it are in [`super::session`] and [`super::outbox`].
//!
//! A connection ends in one of two ways. It is *closed* when it fails: what was asked and not
//! answered then has an unknown outcome, unless its bytes never left the queue. It is *retired*
//! when another one takes its place: nothing new starts on it, each side says goodbye when its own
//! calls and streams are done, and then it is closed with nothing lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_base::id::{ClusterId, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counters::{Level, PeerCounters};
use super::outbox::{Outbox, Parcel};
mod appends;

pub(super) use self::appends::{APPEND_WINDOW_BYTES, APPEND_WINDOW_COUNT};
pub(crate) use self::appends::{OpenAppends, StreamEvent};

use super::{CallError, NotSent, Unanswered};
use crate::wire::{self, Frame, GroupId, Request, Response};

/// Most of this side's clients' requests that wait for answers on one connection.
pub const CALLS_MAX: usize = 1024;

/// Most bytes of them.
pub const CALL_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    pub peer: NodeId,
    /// Changes when the peer's process does.
    pub peer_session: u64,
    /// Whether this side dialed it.
    pub dialed: bool,
    pub outbox: Outbox,
    /// Cancelled when nothing can pass any more.
    pub closed: CancellationToken,
    /// Cancelled when nothing new may start.
    pub retired: CancellationToken,
    pub counters: Arc<PeerCounters>,
    /// When its hello was done.
    begun: Instant,
    peer_cluster: Mutex<Option<ClusterId>>,
    open: Mutex<Open>,
    numbers: AtomicU64,
    call_permits: Arc<Semaphore>,
    call_byte_permits: Arc<Semaphore>,
}

/// What this side has open.
#[derive(Debug, Default)]
struct Open {
    calls: HashMap<u64, Waiting>,
    streams: HashMap<u64, mpsc::UnboundedSender<StreamEvent>>,
    goodbye_sent: bool,
    goodbye_received: bool,
    /// Why it was closed.
    end: Option<String>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<Response, CallError>>,
    /// The writer took it: from here on nobody knows how far it came.
    taken: bool,
}

impl Connection {
    pub fn new(
        peer: NodeId,
        peer_session: u64,
        dialed: bool,
        peer_cluster: Option<ClusterId>,
        counters: Arc<PeerCounters>,
    ) -> Self {
        Self {
            peer,
            peer_session,
            dialed,
            outbox: Outbox::new(counters.clone()),
            closed: CancellationToken::new(),
            retired: CancellationToken::new(),
            counters,
            begun: Instant::now(),
            peer_cluster: Mutex::new(peer_cluster),
            open: Mutex::default(),
            numbers: AtomicU64::new(1),
            call_permits: Arc::new(Semaphore::new(CALLS_MAX)),
            call_byte_permits: Arc::new(Semaphore::new(CALL_BYTES_MAX)),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // A panic elsewhere leaves the tables whole: each change is one insert or remove.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something new may start on it.
    pub fn is_usable(&self) -> bool {
        !self.closed.is_cancelled() && !self.retired.is_cancelled()
    }

    /// How long it has stood.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it has nothing of this side's open.
    pub fn is_idle(&self) -> bool {
        let open = self.open();
        open.calls.is_empty() && open.streams.is_empty()
    }

    /// The cluster that the peer says it belongs to.
    pub fn peer_cluster(&self) -> Option<ClusterId> {
        *self.peer_cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_peer_cluster(&self, cluster: ClusterId) {
        *self.peer_cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }

    /// Queues a frame that is no call. False where the connection is closed.
    pub fn send(&self, urgent: bool, frame: &Frame) -> bool {
        match wire::encode_frame(frame) {
            Ok(body) => self.outbox.push(urgent, Parcel { body, call: None }),
            Err(error) => {
                tracing::error!(peer = %self.peer, %error, "a frame cannot be encoded");
                self.close("a frame cannot be encoded");
                false
            }
        }
    }

    /// Ends it now. Who waits learns whether their request may have been sent.
    pub fn close(&self, reason: &str) {
        let (calls, streams) = {
            let mut open = self.open();
            if open.end.is_none() {
                open.end = Some(reason.to_owned());
            }
            (std::mem::take(&mut open.calls), std::mem::take(&mut open.streams))
        };
        self.closed.cancel();
        self.outbox.close();
        for (_, call) in calls {
            let error = match call.taken {
                true => CallError::Unknown(Unanswered::Lost(reason.to_owned())),
                false => CallError::NotSent(NotSent::Lost(reason.to_owned())),
            };
            let _ = call.answer.send(Err(error));
        }
        for (_, events) in streams {
            let _ = events.send(StreamEvent::Lost(format!("the connection was lost: {reason}")));
        }
    }

    /// Starts nothing new on it; it ends when both sides are done.
    pub fn retire(&self) {
        self.retired.cancel();
        self.say_goodbye_when_done();
    }

    /// The peer has nothing open and starts nothing new.
    pub fn goodbye_received(&self) {
        let sent = {
            let mut open = self.open();
            open.goodbye_received = true;
            open.goodbye_sent
        };
        match sent {
            true => self.outbox.finish(),
            false => self.retire(),
        }
    }

    fn say_goodbye_when_done(&self) {
        let received = {
            let mut open = self.open();
            let done = open.calls.is_empty() && open.streams.is_empty();
            if !self.retired.is_cancelled() || open.goodbye_sent || !done {
                return;
            }
            open.goodbye_sent = true;
            open.goodbye_received
        };
        // Behind all else of this side's: an end of a stream may still be in the queue.
        self.send(false, &Frame::Goodbye);
        if received {
            self.outbox.finish();
        }
    }

    /// The writer is about to send this call. False where nobody waits for it any more.
    pub fn take_call(&self, number: u64) -> bool {
        match self.open().calls.get_mut(&number) {
            Some(call) => {
                call.taken = true;
                true
            }
            None => false,
        }
    }

    /// The answer to a call came. One that nobody waits for is no error: its caller gave up.
    pub fn answer_call(&self, number: u64, response: Response) {
        let call = self.open().calls.remove(&number);
        if let Some(call) = call {
            let _ = call.answer.send(Ok(response));
            self.say_goodbye_when_done();
        }
    }

    /// Something came back on one of this side's streams.
    pub fn stream_event(&self, stream: u64, event: StreamEvent) {
        if let Some(events) = self.open().streams.get(&stream) {
            // Bounded: a peer answers each append once, and appends have a window.
            let _ = events.send(event);
        }
    }

    /// Waits for room for a request of `bytes`, and makes the call's entry. `None` where nothing
    /// new can start here: another connection must be asked for.
    pub async fn begin_call(
        self: &Arc<Self>,
        urgent: bool,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Option<OpenCall>, CallError> {
        let mut permits = None;
        if !urgent {
            let bytes = bytes.clamp(1, CALL_BYTES_MAX) as u32;
            let acquire = async {
                let call = self.call_permits.clone().acquire_owned().await.ok()?;
                let bytes = self.call_byte_permits.clone().acquire_many_owned(bytes).await.ok()?;
                Some((call, bytes))
            };
            permits = tokio::select! {
                permits = acquire => permits,
                () = self.retired.cancelled() => return Ok(None),
                () = self.closed.cancelled() => return Ok(None),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(CallError::NotSent(NotSent::Deadline));
                }
            };
        }
        let number = self.numbers.fetch_add(1, Relaxed);
        let (answer, answered) = oneshot::channel();
        let mut open = self.open();
        if open.end.is_some() || open.goodbye_sent {
            return Ok(None);
        }
        open.calls.insert(number, Waiting { answer, taken: false });
        drop(open);
        let level = Level::raise(&self.counters, |counters| &counters.calls_in_flight);
        Ok(Some(OpenCall { connection: self.clone(), number, answered, _permits: permits, _level: level }))
    }
}

/// A call that has its entry. Dropping it gives it up: if its bytes still wait, they never go.
#[derive(Debug)]
pub(super) struct OpenCall {
    connection: Arc<Connection>,
    number: u64,
    answered: oneshot::Receiver<Result<Response, CallError>>,
    _permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    _level: Level,
}

impl OpenCall {
    /// Sends the request and waits for its answer. Cancel-safe in that nothing leaks.
    pub async fn ask(
        mut self,
        group: GroupId,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let urgent = request.is_urgent();
        let frame = Frame::Request { id: self.number, group, timeout_ms, request };
        let body = wire::encode_frame(&frame)
            .map_err(|error| CallError::NotSent(NotSent::Encode(error.to_string())))?;
        drop(frame);
        // A closed outbox has failed the entry already: its reason comes out below.
        self.connection.outbox.push(urgent, Parcel { body, call: Some(self.number) });
        let response = match tokio::time::timeout_at(deadline, &mut self.answered).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_shut)) => return Err(CallError::Unknown(Unanswered::Lost("closed".into()))),
            Err(_elapsed) => {
                // Whether the writer took it is decided at the moment its entry goes.
                let entry = self.connection.open().calls.remove(&self.number);
                return Err(match entry {
                    Some(Waiting { taken: false, .. }) => CallError::NotSent(NotSent::Deadline),
                    _ => CallError::Unknown(Unanswered::Deadline),
                });
            }
        };
        match response {
            Response::Refused(refusal) => Err(CallError::Refused(refusal)),
            Response::Failed(error) => Err(CallError::Unknown(Unanswered::Failed(error))),
            response => Ok(response),
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.connection.open().calls.remove(&self.number);
        self.connection.say_goodbye_when_done();
    }
}
