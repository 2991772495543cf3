//! A snapshot's way from one node to another, on a connection of its own: it never holds up a
//! heartbeat. It is work in the background: [`Pace`] leaves the machine and the disks to clients.
//!
//! The receiver reports each second that it lives; so a disk that needs its time, also after the
//! last byte, is no stall, and a dead peer is one soon. Neither function is cancel-safe: dropping
//! one ends the transfer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use skep_base::id::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::counters::Level;
use super::framing::{Assembler, HEADER_BYTES, PIECE_BYTES_MAX, put_piece};
use super::hello::{self, DialError, Io};
use super::{Inner, SnapshotChunks};
use crate::wire::{self, ConnectionKind, Frame, Hello, Refusal, SnapshotBegin, SnapshotResponse};

/// How often the receiver says that it lives.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A sender that sends nothing for so long is gone.
const SENDER_STALL_MAX: Duration = Duration::from_secs(30);

/// After a failed write, how long to wait for the receiver's reason.
const REASON_WAIT: Duration = Duration::from_secs(1);

/// Chunks between the connection and the disk.
const CHUNKS_QUEUED_MAX: usize = 4;

/// Most bytes of one chunk.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of snapshots that a node sends to one peer in a second: a gigabyte takes 32 s.
const BYTES_PER_SECOND_MAX: u64 = 32 * 1024 * 1024;

/// After each piece the sender rests this many times as long as the piece took, so that a machine
/// that is busy, a slow network and a slow disk at the other end are left to clients.
const REST_FACTOR: u32 = 2;

/// Longest rest: the receiver must not take the sender for dead.
const REST_MAX: Duration = Duration::from_secs(2);

/// For so long after a snapshot has arrived, the log that follows it is kept for its receiver.
const KEPT_AFTER: Duration = Duration::from_secs(30);

/// Why a transfer ends whose other end is believed no more.
const KEY_GONE: &str = "the key of the other end is taken away";

/// When the next piece may be sent.
struct Pace {
    next: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// A piece of that many bytes was sent between the two moments.
    fn sent(&mut self, began: Instant, ended: Instant, bytes: usize) {
        let share = Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_SECOND_MAX);
        let rest = ended + ((ended - began) * REST_FACTOR).min(REST_MAX);
        // What was lost by a slow piece is not made up for by a burst.
        self.next = rest.max(self.next.max(began) + share);
    }
}

/// Snapshots on their way, and those that arrived a moment ago.
#[derive(Default)]
pub(super) struct Outgoing(Mutex<Vec<Sent>>);

struct Sent {
    to: NodeId,
    /// The last entry that the snapshot holds.
    index: u64,
    ended: Option<Instant>,
}

impl Outgoing {
    fn begin(&self, to: NodeId, index: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|sent| sent.to != to);
        all.push(Sent { to, index, ended: None });
    }

    fn end(&self, to: NodeId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sent in all.iter_mut().filter(|sent| sent.to == to) {
            sent.ended = Some(Instant::now());
        }
    }

    /// The index after which the receivers need the log.
    pub(super) fn log_needed_after(&self) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|sent| sent.ended.is_none_or(|ended| ended.elapsed() < KEPT_AFTER));
        all.iter().map(|sent| sent.index).min()
    }
}

/// Marks a snapshot's end, however its transfer ends.
struct EndOf<'a>(&'a Outgoing, NodeId);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendSnapshotError {
    #[error(transparent)]
    Unreachable(#[from] DialError),
    /// This node cannot read its own snapshot.
    #[error("the snapshot cannot be read: {0}")]
    Source(std::io::Error),
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("nothing moved for too long")]
    Stalled,
    #[error("the peer did not take it: {0}")]
    Failed(String),
    #[error("this node is stopping")]
    Stopping,
}

/// Reads and writes frames one after another.
struct Frames<T> {
    io: T,
    bytes: BytesMut,
    assembler: Assembler,
}

impl<T> Frames<T> {
    fn new(io: T) -> Self {
        Self { io, bytes: BytesMut::new(), assembler: Assembler::default() }
    }
}

impl<T: AsyncRead + Unpin> Frames<T> {
    /// Cancel-safe.
    async fn read(&mut self) -> std::io::Result<Frame> {
        loop {
            if let Some(body) = self.assembler.next(&mut self.bytes).map_err(std::io::Error::other)? {
                return Ok(wire::decode_frame(&body)?);
            }
            self.bytes.reserve(PIECE_BYTES_MAX + HEADER_BYTES);
            if self.io.read_buf(&mut self.bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

async fn write(io: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> std::io::Result<()> {
    let body = wire::encode_frame(frame)?;
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut at = Some(0);
    while let Some(from) = at {
        at = put_piece(&body, from, &mut out);
    }
    io.write_all(&out).await?;
    io.flush().await
}

/// Sends a snapshot and waits until it is installed.
pub(super) async fn send(
    inner: &Arc<Inner>,
    to: NodeId,
    begin: SnapshotBegin,
    chunks: SnapshotChunks,
    stall_max: Duration,
) -> Result<SnapshotResponse, SendSnapshotError> {
    inner.outgoing.begin(to, begin.meta.last_log_id.map_or(0, |id| id.index));
    let _end = EndOf(&inner.outgoing, to);
    let (io, _accepted, _clusters) = tokio::select! {
        dialed = inner.dial(to, ConnectionKind::Snapshot) => dialed?,
        () = inner.stopping.cancelled() => return Err(SendSnapshotError::Stopping),
    };
    let _open = Level::raise(&inner.counters, |counters| &counters.connections_open);
    let shown = hello::shown(&io);
    let mut key_gone = std::pin::pin!(inner.keys.no_more(&shown));
    let (reader, mut writer) = tokio::io::split(io);
    let mut reader = Frames::new(reader);
    let answer = async {
        loop {
            match tokio::time::timeout(stall_max, reader.read()).await {
                Err(_elapsed) => return Err(SendSnapshotError::Stalled),
                Ok(Err(error)) => return Err(SendSnapshotError::Lost(error.to_string())),
                Ok(Ok(Frame::SnapshotProgress { .. })) => {}
                Ok(Ok(Frame::SnapshotDone(done))) => return done.map_err(SendSnapshotError::Failed),
                Ok(Ok(_)) => return Err(SendSnapshotError::Lost("a breach of the protocol".into())),
            }
        }
    };
    let sending = send_chunks(inner, &mut writer, begin, chunks);
    tokio::pin!(answer, sending);
    let mut all_sent = false;
    loop {
        tokio::select! {
            answer = &mut answer => {
                if answer.is_ok() {
                    inner.counters.snapshots_sent.add(1);
                }
                return answer;
            }
            sent = &mut sending, if !all_sent => match sent {
                Ok(()) => all_sent = true,
                Err(error @ SendSnapshotError::Source(_)) => return Err(error),
                // Who closes on us mostly says why.
                Err(error) => {
                    return tokio::time::timeout(REASON_WAIT, answer).await.unwrap_or(Err(error));
                }
            },
            () = &mut key_gone => return Err(SendSnapshotError::Lost(KEY_GONE.into())),
            () = inner.stopping.cancelled() => return Err(SendSnapshotError::Stopping),
        }
    }
}

async fn send_chunks(
    inner: &Inner,
    writer: &mut (impl AsyncWrite + Unpin),
    begin: SnapshotBegin,
    mut chunks: SnapshotChunks,
) -> Result<(), SendSnapshotError> {
    let lost = |error: std::io::Error| SendSnapshotError::Lost(error.to_string());
    write(writer, &Frame::SnapshotBegin(begin)).await.map_err(lost)?;
    let mut bytes = 0;
    let mut pace = Pace::new(Instant::now());
    while let Some(chunk) = chunks.next().await {
        let mut chunk = chunk.map_err(SendSnapshotError::Source)?;
        while !chunk.is_empty() {
            let part = chunk.split_to(chunk.len().min(CHUNK_BYTES_MAX));
            bytes += part.len() as u64;
            inner.counters.snapshot_bytes_sent.add(part.len() as u64);
            let part_bytes = part.len();
            tokio::time::sleep_until(pace.next).await;
            let began = Instant::now();
            write(writer, &Frame::SnapshotChunk(part)).await.map_err(lost)?;
            pace.sent(began, Instant::now(), part_bytes);
        }
    }
    write(writer, &Frame::SnapshotEnd { bytes }).await.map_err(lost)
}

/// Takes a snapshot that a peer sends, and answers it.
pub(super) async fn receive(inner: &Arc<Inner>, hello: Hello, io: Io) {
    let _open = Level::raise(&inner.counters, |counters| &counters.connections_open);
    let shown = hello::shown(&io);
    let (reader, mut writer) = tokio::io::split(io);
    let mut reader = Frames::new(reader);
    let received = tokio::select! {
        received = take(inner, &hello, &mut reader, &mut writer) => received,
        () = inner.stopping.cancelled() => Err("the node is stopping".into()),
        () = inner.keys.no_more(&shown) => Err(KEY_GONE.into()),
    };
    match &received {
        Ok(_) => inner.counters.snapshots_received.add(1),
        Err(error) => tracing::warn!(peer = %hello.node, error, "a snapshot was not taken"),
    }
    let done = Frame::SnapshotDone(received.map_err(wire::short_text));
    let last_words = async {
        write(&mut writer, &done).await?;
        writer.shutdown().await?;
        // Until the sender has read it: unread bytes of its would reset the connection.
        while reader.read().await.is_ok() {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(REASON_WAIT, last_words).await;
}

async fn take(
    inner: &Arc<Inner>,
    hello: &Hello,
    reader: &mut Frames<impl AsyncRead + Unpin>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<SnapshotResponse, String> {
    let local = *inner.cluster.borrow();
    if local.is_none() || local != hello.cluster {
        return Err(Refusal::NotInCluster.to_string());
    }
    let handler = inner.handler().ok_or_else(|| Refusal::NotReady.to_string())?;
    let _permit = inner.snapshots_in.try_acquire().map_err(|_| Refusal::Overloaded.to_string())?;
    let begin = match tokio::time::timeout(SENDER_STALL_MAX, reader.read()).await {
        Ok(Ok(Frame::SnapshotBegin(begin))) => begin,
        Ok(Ok(_)) => return Err("a breach of the protocol".into()),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_elapsed) => return Err("the sender is silent".into()),
    };
    let (chunks, queue) = mpsc::channel::<std::io::Result<Bytes>>(CHUNKS_QUEUED_MAX);
    let queue = futures_util::stream::unfold(queue, |mut queue| async move {
        queue.recv().await.map(|chunk| (chunk, queue))
    });
    let installing = handler.receive_snapshot(hello.node, begin, queue.boxed());
    let taken = AtomicU64::new(0);
    let taking = take_chunks(inner, reader, chunks, &taken);
    tokio::pin!(installing, taking);
    let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
    let mut all_taken = false;
    loop {
        tokio::select! {
            biased;
            installed = &mut installing => return installed,
            end = &mut taking, if !all_taken => match end {
                Ok(()) => all_taken = true,
                Err(error) => return Err(error),
            },
            _ = progress.tick() => {
                let report = Frame::SnapshotProgress { bytes: taken.load(Relaxed) };
                match tokio::time::timeout(SENDER_STALL_MAX, write(writer, &report)).await {
                    Ok(written) => written.map_err(|error| error.to_string())?,
                    Err(_elapsed) => return Err("the sender takes no bytes".into()),
                }
            }
        }
    }
}

/// Reads chunks until the end that the sender announced, and hands them on.
async fn take_chunks(
    inner: &Inner,
    reader: &mut Frames<impl AsyncRead + Unpin>,
    chunks: mpsc::Sender<std::io::Result<Bytes>>,
    taken: &AtomicU64,
) -> Result<(), String> {
    let lost = |error: String| {
        // Without this the chunks would seem to have come to their end.
        let _ = chunks.try_send(Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, error.clone())));
        Err(error)
    };
    loop {
        match tokio::time::timeout(SENDER_STALL_MAX, reader.read()).await {
            Ok(Ok(Frame::SnapshotChunk(chunk))) => {
                taken.fetch_add(chunk.len() as u64, Relaxed);
                inner.counters.snapshot_bytes_received.add(chunk.len() as u64);
                // Where nobody takes it any more, the handler's answer says why.
                let _ = chunks.send(Ok(chunk)).await;
            }
            Ok(Ok(Frame::SnapshotEnd { bytes })) if bytes == taken.load(Relaxed) => return Ok(()),
            Ok(Ok(_)) => return lost("a breach of the protocol".into()),
            Ok(Err(error)) => return lost(error.to_string()),
            Err(_elapsed) => return lost("the sender is silent".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 256 * 1024;

    #[test]
    fn pieces_that_cost_nothing_are_sent_at_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let pieces = BYTES_PER_SECOND_MAX as usize / PIECE;
        for _ in 0..pieces {
            let now = pace.next;
            pace.sent(now, now, PIECE);
        }
        let took = pace.next - start;
        assert!(took.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1), "{took:?}");
    }

    #[test]
    fn a_slow_piece_is_followed_by_a_rest_and_by_no_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let slow = start + Duration::from_millis(500);
        pace.sent(start, slow, PIECE);
        let rested = slow + Duration::from_millis(1000);
        assert_eq!(pace.next, rested);
        pace.sent(rested, rested, PIECE);
        assert!(pace.next > rested, "the time that was lost is lost");
    }

    #[test]
    fn the_log_behind_a_snapshot_is_needed_until_its_receiver_had_time_to_follow() {
        let outgoing = Outgoing::default();
        assert_eq!(outgoing.log_needed_after(), None);
        outgoing.begin(NodeId(1), 900);
        outgoing.begin(NodeId(2), 500);
        assert_eq!(outgoing.log_needed_after(), Some(500));
        outgoing.end(NodeId(2));
        assert_eq!(outgoing.log_needed_after(), Some(500), "it has the snapshot, but not yet the log");
        outgoing.begin(NodeId(2), 1000);
        assert_eq!(outgoing.log_needed_after(), Some(900), "a newer snapshot takes the older one's place");
    }
}
