//! A snapshot's way from one node to another, on a connection of its own: it never holds up a
//! heartbeat, and TCP's own backpressure bounds it.
//!
//! The receiver reports each second that it lives; so a disk that needs its time, also after the
//! last byte, is no stall, and a dead peer is one soon. Neither function is cancel-safe: dropping
//! one ends the transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use skep_proto::id::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::counters::Level;
use super::framing::{Assembler, HEADER_BYTES, PIECE_BYTES_MAX, put_piece};
use super::hello::{DialError, Io};
use super::{Inner, SnapshotChunks};
use crate::raft::wire::{self, ConnectionKind, Frame, Hello, Refusal, SnapshotBegin, SnapshotResponse};

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
    let (io, _accepted, _clusters) = tokio::select! {
        dialed = inner.dial(to, ConnectionKind::Snapshot) => dialed?,
        () = inner.stopping.cancelled() => return Err(SendSnapshotError::Stopping),
    };
    let _open = Level::raise(&inner.counters, |counters| &counters.connections_open);
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
    while let Some(chunk) = chunks.next().await {
        let mut chunk = chunk.map_err(SendSnapshotError::Source)?;
        while !chunk.is_empty() {
            let part = chunk.split_to(chunk.len().min(CHUNK_BYTES_MAX));
            bytes += part.len() as u64;
            inner.counters.snapshot_bytes_sent.add(part.len() as u64);
            write(writer, &Frame::SnapshotChunk(part)).await.map_err(lost)?;
        }
    }
    write(writer, &Frame::SnapshotEnd { bytes }).await.map_err(lost)
}

/// Takes a snapshot that a peer sends, and answers it.
pub(super) async fn receive(inner: &Arc<Inner>, hello: Hello, io: Io) {
    let _open = Level::raise(&inner.counters, |counters| &counters.connections_open);
    let (reader, mut writer) = tokio::io::split(io);
    let mut reader = Frames::new(reader);
    let received = tokio::select! {
        received = take(inner, &hello, &mut reader, &mut writer) => received,
        () = inner.stopping.cancelled() => Err("the node is stopping".into()),
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
