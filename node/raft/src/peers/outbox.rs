//! What waits to be written on one connection, and the task that writes it.
//!
//! Two queues: urgent frames (votes, heartbeats, answers to appends, pings) pass before bulk, also
//! between two pieces of a long bulk frame. Frames that are queued together leave in one write.
//! The queues themselves have no bound: all that goes in is bounded before (calls by permits,
//! appends by their window, answers by the requests in hand), and [`Outbox::push`] closes the
//! connection where that does not hold.
//!
//! [`write_loop`] is not cancel-safe: a cut write leaves half a frame, so end the connection with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::counters::PeerCounters;
use super::framing::{HEADER_BYTES, PIECE_BYTES_MAX, put_piece};

/// Bytes gathered into one write.
const WRITE_BYTES_TARGET: usize = 128 * 1024;

/// Most bytes that wait on one connection; more means that a bound above failed.
const QUEUED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A peer that does not take one write's bytes in this time is dead.
const WRITE_STALL_MAX: Duration = Duration::from_secs(3);

/// One frame that waits.
#[derive(Debug)]
pub(super) struct Parcel {
    pub body: Vec<u8>,
    /// The number of the call that it asks. The writer says when it takes it, because up to then
    /// the call was certainly not sent, and it drops what nobody waits for any more.
    pub call: Option<u64>,
}

#[derive(Debug, Default)]
struct Queues {
    urgent: VecDeque<Parcel>,
    bulk: VecDeque<Parcel>,
    bytes: usize,
    closed: bool,
    /// Close as soon as all is written.
    finish: bool,
}

#[derive(Debug)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
    wake: Notify,
    counters: Arc<PeerCounters>,
}

/// Why the writer ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteEnd {
    #[error("closed")]
    Closed,
    #[error("the peer takes no bytes")]
    Stalled,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Outbox {
    pub fn new(counters: Arc<PeerCounters>) -> Self {
        Self { queues: Mutex::default(), wake: Notify::new(), counters }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        // A panic elsewhere leaves the queues whole: each change is one push or pop.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame. False where the connection is closed.
    pub fn push(&self, urgent: bool, parcel: Parcel) -> bool {
        {
            let mut queues = self.lock();
            if queues.closed || queues.finish {
                return false;
            }
            queues.bytes += parcel.body.len();
            self.counters.queued_bytes.add(parcel.body.len() as u64);
            if queues.bytes > QUEUED_BYTES_MAX {
                tracing::error!(bytes = queues.bytes, "the queue to a peer is beyond its bound");
                queues.closed = true;
            }
            // A long frame would hold up what is behind it in the urgent queue.
            match urgent && parcel.body.len() <= PIECE_BYTES_MAX {
                true => queues.urgent.push_back(parcel),
                false => queues.bulk.push_back(parcel),
            }
        }
        self.wake.notify_one();
        true
    }

    /// Nothing more is taken or written.
    pub fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        self.counters.queued_bytes.sub(queues.bytes as u64);
        queues.bytes = 0;
        queues.urgent.clear();
        queues.bulk.clear();
        drop(queues);
        self.wake.notify_one();
    }

    /// Nothing more is taken; the writer ends when all that waits is written.
    pub fn finish(&self) {
        self.lock().finish = true;
        self.wake.notify_one();
    }

    fn pop(&self, queues: &mut Queues, urgent: bool) -> Option<Parcel> {
        let parcel = if urgent { queues.urgent.pop_front() } else { queues.bulk.pop_front() }?;
        queues.bytes -= parcel.body.len();
        self.counters.queued_bytes.sub(parcel.body.len() as u64);
        Some(parcel)
    }

    /// Fills `out` with the next pieces. `half` is a bulk frame of which pieces are still to go.
    fn fill(&self, out: &mut Vec<u8>, half: &mut Option<(Vec<u8>, usize)>, taken: impl Fn(u64) -> bool) {
        let mut frames = 0;
        let mut queues = self.lock();
        while out.len() < WRITE_BYTES_TARGET && !queues.closed {
            if let Some(parcel) = self.pop(&mut queues, true) {
                if parcel.call.is_none_or(&taken) {
                    put_piece(&parcel.body, 0, out);
                    frames += 1;
                }
                continue;
            }
            let (body, from) = match half.take() {
                Some(half) => half,
                None => match self.pop(&mut queues, false) {
                    Some(parcel) if parcel.call.is_none_or(&taken) => (parcel.body, 0),
                    Some(_nobody_waits) => continue,
                    None => break,
                },
            };
            match put_piece(&body, from, out) {
                Some(next) => *half = Some((body, next)),
                None => frames += 1,
            }
        }
        drop(queues);
        self.counters.frames_out.add(frames);
        self.counters.bytes_out.add(out.len() as u64);
    }

    fn end(&self) -> Option<WriteEnd> {
        let queues = self.lock();
        let empty = queues.urgent.is_empty() && queues.bulk.is_empty();
        (queues.closed || (queues.finish && empty)).then_some(WriteEnd::Closed)
    }
}

/// Writes what is queued until the outbox closes or the peer fails. `taken` is told of each call
/// before its bytes go, and answers whether anybody still waits for it.
pub(super) async fn write_loop(
    outbox: &Outbox,
    mut io: impl AsyncWrite + Unpin,
    taken: impl Fn(u64) -> bool,
) -> WriteEnd {
    let mut out = Vec::with_capacity(WRITE_BYTES_TARGET + PIECE_BYTES_MAX + HEADER_BYTES);
    let mut half = None;
    loop {
        out.clear();
        outbox.fill(&mut out, &mut half, &taken);
        if out.is_empty() {
            if let Some(end) = outbox.end() {
                let _ = tokio::time::timeout(WRITE_STALL_MAX, io.shutdown()).await;
                return end;
            }
            outbox.wake.notified().await;
            continue;
        }
        let write = async {
            io.write_all(&out).await?;
            io.flush().await
        };
        match tokio::time::timeout(WRITE_STALL_MAX, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return WriteEnd::Io(error),
            Err(_elapsed) => return WriteEnd::Stalled,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::framing::Assembler;
    use super::*;

    fn parcel(body: Vec<u8>) -> Parcel {
        Parcel { body, call: None }
    }

    fn bodies(bytes: &[u8], assembler: &mut Assembler) -> Vec<Vec<u8>> {
        let mut bytes = BytesMut::from(bytes);
        let mut out = Vec::new();
        while let Some(body) = assembler.next(&mut bytes).unwrap() {
            out.push(body.to_vec());
        }
        out
    }

    #[test]
    fn urgent_frames_pass_between_the_pieces_of_a_long_one() {
        let outbox = Outbox::new(Arc::default());
        let (mut half, mut assembler) = (None, Assembler::default());
        outbox.push(false, parcel(vec![1; 10 * PIECE_BYTES_MAX]));
        let mut out = Vec::new();
        outbox.fill(&mut out, &mut half, |_| true);
        assert!(bodies(&out, &mut assembler).is_empty());
        assert!(half.is_some());
        outbox.push(true, parcel(vec![2]));
        out.clear();
        outbox.fill(&mut out, &mut half, |_| true);
        assert_eq!(bodies(&out, &mut assembler), [vec![2]]);
        assert_eq!(outbox.counters.queued_bytes.get(), 0);
    }

    #[test]
    fn frames_queued_together_leave_in_one_write() {
        let outbox = Outbox::new(Arc::default());
        for i in 0..100 {
            outbox.push(i % 2 == 0, parcel(vec![i]));
        }
        let mut out = Vec::new();
        outbox.fill(&mut out, &mut None, |_| true);
        assert_eq!(bodies(&out, &mut Assembler::default()).len(), 100);
    }

    #[test]
    fn a_call_that_nobody_waits_for_is_not_written() {
        let outbox = Outbox::new(Arc::default());
        for call in 0..4 {
            outbox.push(call % 2 == 0, Parcel { body: vec![call as u8], call: Some(call) });
        }
        let mut out = Vec::new();
        outbox.fill(&mut out, &mut None, |call| call >= 2);
        assert_eq!(bodies(&out, &mut Assembler::default()), [vec![2], vec![3]]);
    }

    #[test]
    fn a_closed_outbox_takes_nothing() {
        let outbox = Outbox::new(Arc::default());
        outbox.push(false, parcel(vec![1; 100]));
        outbox.close();
        assert!(!outbox.push(true, parcel(vec![1])));
        assert_eq!(outbox.counters.queued_bytes.get(), 0);
    }

    #[tokio::test]
    async fn a_finished_outbox_writes_what_it_has_and_ends() {
        let outbox = Outbox::new(Arc::default());
        outbox.push(false, parcel(vec![9; 3 * PIECE_BYTES_MAX]));
        outbox.finish();
        assert!(!outbox.push(false, parcel(vec![1])));
        let mut written = Vec::new();
        let end = write_loop(&outbox, &mut written, |_| true).await;
        assert!(matches!(end, WriteEnd::Closed));
        assert_eq!(bodies(&written, &mut Assembler::default()), [vec![9; 3 * PIECE_BYTES_MAX]]);
    }
}
