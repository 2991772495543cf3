//! This side's streams of appends on a connection. Each has a window: no more is sent than the
//! peer has room to keep while it waits for its disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;

use super::super::outbox::Parcel;
use super::Connection;
use crate::wire::{self, AppendRequest, AppendResult, Frame, GroupId};

/// Where this many bytes of a stream's appends have no answer, no further one is sent.
pub const APPEND_WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// Where this many of a stream's appends have no answer, no further one is sent.
pub const APPEND_WINDOW_COUNT: usize = 256;

/// What comes back on a stream of appends.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    Appended(AppendResult),
    /// The peer has no more answers; an error says why, where that is not the regular end.
    End(Option<String>),
    /// The connection was lost.
    Lost(String),
}

impl Connection {
    /// Opens a stream of appends. `None` where nothing new can start here.
    pub fn open_appends(self: &Arc<Self>, group: GroupId) -> Option<OpenAppends> {
        let stream = self.numbers.fetch_add(1, Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        {
            let mut open = self.open();
            if open.end.is_some() || open.goodbye_sent {
                return None;
            }
            open.streams.insert(stream, sender);
        }
        self.send(false, &Frame::StreamOpen { stream, group });
        Some(OpenAppends {
            connection: self.clone(),
            stream,
            events,
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            finished: false,
        })
    }
}

/// This side's end of a stream of appends. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct OpenAppends {
    connection: Arc<Connection>,
    stream: u64,
    events: mpsc::UnboundedReceiver<StreamEvent>,
    unanswered: VecDeque<usize>,
    unanswered_bytes: usize,
    finished: bool,
}

impl OpenAppends {
    /// The process at the other end.
    pub fn peer_session(&self) -> u64 {
        self.connection.peer_session
    }

    /// Whether the window has room for one more append.
    pub fn has_room(&self) -> bool {
        self.unanswered_bytes < APPEND_WINDOW_BYTES && self.unanswered.len() < APPEND_WINDOW_COUNT
    }

    /// Whether all that was sent is answered.
    pub fn is_answered(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Queues an append. False where the connection is closed: the end then comes as an event.
    pub fn send(&mut self, request: AppendRequest) -> bool {
        let frame = Frame::Append { stream: self.stream, request };
        let body = match wire::encode_frame(&frame) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(peer = %self.connection.peer, %error, "an append cannot be encoded");
                self.connection.close("an append cannot be encoded");
                return false;
            }
        };
        self.unanswered.push_back(body.len());
        self.unanswered_bytes += body.len();
        self.connection.counters.append_bytes_in_flight.add(body.len() as u64);
        self.connection.outbox.push(false, Parcel { body, call: None })
    }

    /// Says that no more appends come; answers still do.
    pub fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.connection.send(false, &Frame::StreamEnd { stream: self.stream });
        }
    }

    /// Resolves when the connection is to be left for another one.
    pub fn retired(&self) -> tokio_util::sync::WaitForCancellationFutureOwned {
        self.connection.retired.clone().cancelled_owned()
    }

    /// What comes back next. Cancel-safe.
    pub async fn event(&mut self) -> StreamEvent {
        let event = self.events.recv().await;
        if let Some(StreamEvent::Appended(_)) = event
            && let Some(bytes) = self.unanswered.pop_front()
        {
            self.unanswered_bytes -= bytes;
            self.connection.counters.append_bytes_in_flight.sub(bytes as u64);
        }
        event.unwrap_or_else(|| StreamEvent::Lost("the connection was lost".into()))
    }
}

impl Drop for OpenAppends {
    fn drop(&mut self) {
        self.finish();
        self.connection.counters.append_bytes_in_flight.sub(self.unanswered_bytes as u64);
        self.connection.open().streams.remove(&self.stream);
        self.connection.say_goodbye_when_done();
    }
}
