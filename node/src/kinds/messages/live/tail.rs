//! The newest messages, encoded once for all readers of the node, and each reader's position.
//!
//! One task follows what is applied, while there is any reader. It publishes at most as often as
//! its readers can be served: with a thousand of them, several messages go out in one write.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use skep_state::message::StoredMessage;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::{Farewell, STALL_MAX};
use crate::http::account::{Account, Charge};
use crate::kinds::messages::entry::{self, Form};
use crate::kinds::served::MessageApi;
use crate::service::ServiceError;

/// Encoded messages that are kept for readers that are nearly up to date.
const RING_ENTRIES_MAX: usize = 8192;
const RING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a reader is given at once.
const BATCH_ENTRIES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Readers that are behind read the store so many at a time: what each has read is not charged yet.
const READS_MAX: usize = 8;
/// What serving one reader costs, about; the tail publishes no faster than all can be served.
const PACE_PER_READER: Duration = Duration::from_micros(40);
const PACE_MAX: Duration = Duration::from_millis(40);

/// An encoded message. Clones share the text.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub seq: u64,
    pub json: Utf8Bytes,
}

pub(crate) struct Tail {
    shared: Arc<Shared>,
    /// Keeps the task going.
    published: watch::Receiver<u64>,
}

struct Shared {
    ring: Mutex<Ring>,
    reads: Arc<Semaphore>,
    readers: watch::Sender<usize>,
}

#[derive(Default)]
struct Ring {
    /// Every message after this one, up to `upto`, is here unless it was removed from the store.
    after: u64,
    upto: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ring {
    fn restart(&mut self, at: u64) {
        *self = Ring { after: at, upto: at, ..Ring::default() };
    }

    fn push(&mut self, entry: Entry) {
        self.upto = entry.seq;
        self.bytes += entry.json.len();
        self.entries.push_back(entry);
        while self.entries.len() > RING_ENTRIES_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.json.len();
            self.after = oldest.seq;
        }
    }

    /// What follows `after`, and how far that reaches; none where the ring begins later.
    fn batch(&self, after: u64) -> Option<(Vec<Entry>, u64)> {
        if after < self.after {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.seq <= after);
        let mut bytes = 0;
        let batch: Vec<Entry> = self
            .entries
            .range(first..)
            .take(BATCH_ENTRIES_MAX)
            .take_while(|entry| {
                let fits = bytes == 0 || bytes + entry.json.len() <= BATCH_BYTES_MAX;
                bytes += entry.json.len();
                fits
            })
            .cloned()
            .collect();
        let upto = batch.last().map_or(self.upto, |last| last.seq);
        Some((batch, upto))
    }
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    pub(crate) fn start<A: MessageApi>(api: Arc<A>) -> Self {
        let shared = Arc::new(Shared {
            ring: Mutex::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            readers: watch::Sender::new(0),
        });
        let now = api.applied().borrow().seq;
        // What is published is never beyond the ring: who waits for more finds it there, or behind it.
        shared.ring().restart(now);
        let (publish, published) = watch::channel(now);
        tokio::spawn(follow(api, shared.clone(), publish));
        Self { shared, published }
    }

    /// A reader of what comes after `after`, or of what comes from now on.
    pub(crate) fn reader<A: MessageApi>(&self, api: Arc<A>, after: Option<u64>) -> Reader<A> {
        self.shared.readers.send_modify(|readers| *readers += 1);
        let after = after.unwrap_or_else(|| api.applied().borrow().seq);
        Reader { after, api, shared: self.shared.clone(), published: self.published.clone() }
    }
}

/// Encodes what is applied, until nobody holds the tail.
async fn follow<A: MessageApi>(api: Arc<A>, shared: Arc<Shared>, publish: watch::Sender<u64>) {
    let mut applied = api.applied();
    let mut readers = shared.readers.subscribe();
    let mut removals = 0;
    loop {
        let some_reader = readers.wait_for(|readers| *readers > 0);
        tokio::select! {
            waited = some_reader => if waited.is_err() { return },
            () = publish.closed() => return,
        }
        // What came while nobody listened is in the store for whoever wants it.
        let start = *applied.borrow_and_update();
        removals = removals.max(start.removals);
        shared.ring().restart(start.seq);
        publish.send_replace(start.seq);
        while *readers.borrow_and_update() > 0 {
            let now = *applied.borrow_and_update();
            let mut upto = shared.ring().upto;
            // What was taken out of the store must not be told from here; and what comes in by
            // the thousand, as with a snapshot, is better read from there.
            if now.removals != removals || now.seq.saturating_sub(upto) > RING_ENTRIES_MAX as u64 {
                removals = now.removals;
                shared.ring().restart(now.seq);
                upto = now.seq;
            }
            while upto < now.seq {
                // Written a moment ago: it is in memory, but for where there is next to none.
                let found = match api.read_now(upto, BATCH_ENTRIES_MAX, BATCH_BYTES_MAX) {
                    Ok(Some(messages)) => encode(messages),
                    Ok(None) => api.read_here(upto, BATCH_ENTRIES_MAX, BATCH_BYTES_MAX, encode).await,
                    Err(error) => Err(error),
                };
                match found {
                    Ok(entries) => {
                        let mut ring = shared.ring();
                        entries.into_iter().for_each(|entry| ring.push(entry));
                        // The rest was removed meanwhile.
                        if ring.upto == upto {
                            ring.upto = now.seq;
                        }
                        upto = ring.upto;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the live feed cannot read the store");
                        shared.ring().restart(now.seq);
                        upto = now.seq;
                    }
                }
            }
            publish.send_if_modified(|published| std::mem::replace(published, upto) != upto);
            let count = u32::try_from(*readers.borrow()).unwrap_or(u32::MAX);
            let pace = PACE_PER_READER.saturating_mul(count).min(PACE_MAX);
            tokio::select! {
                () = publish.closed() => return,
                changed = async {
                    tokio::time::sleep(pace).await;
                    tokio::select! {
                        changed = applied.changed() => changed.is_ok(),
                        changed = readers.changed() => changed.is_ok(),
                    }
                } => if !changed { return },
            }
        }
        let upto = shared.ring().upto;
        shared.ring().restart(upto);
    }
}

fn encode(messages: Vec<StoredMessage>) -> Result<Vec<Entry>, ServiceError> {
    messages.iter().map(encode_one).collect()
}

fn encode_one(message: &StoredMessage) -> Result<Entry, ServiceError> {
    let fatal = |error: &dyn std::fmt::Display| ServiceError::Fatal { detail: error.to_string() };
    let mut json = Vec::new();
    entry::push(message, Form::Text, &mut json).map_err(|error| fatal(&error))?;
    let json = Utf8Bytes::try_from(bytes::Bytes::from(json)).map_err(|error| fatal(&error))?;
    Ok(Entry { seq: message.seq, json })
}

/// What comes next, and the charge for it until the client has taken it.
pub(crate) type Batch = (Vec<Entry>, Charge);

/// A position in the log of messages.
pub(crate) struct Reader<A: MessageApi> {
    after: u64,
    api: Arc<A>,
    shared: Arc<Shared>,
    published: watch::Receiver<u64>,
}

impl<A: MessageApi> Reader<A> {
    /// The last message that was given out.
    pub(crate) fn position(&self) -> u64 {
        self.after
    }

    /// Waits for what comes after the position, charges it, and moves on. Dropped before it returns, or where
    /// it fails, it has not moved.
    pub(crate) async fn next(&mut self, account: &Account) -> Result<Batch, Farewell> {
        loop {
            let ring = self.shared.ring().batch(self.after);
            let (batch, upto) = match ring {
                Some(found) => found,
                None => self.read_store().await.map_err(|_| Farewell::Failed)?,
            };
            if !batch.is_empty() {
                let bytes = batch.iter().map(|entry| entry.json.len()).sum();
                let charged = timeout(STALL_MAX, account.charge_feed(bytes)).await;
                let charge = charged.ok().flatten().ok_or(Farewell::Overloaded)?;
                self.after = self.after.max(upto);
                return Ok((batch, charge));
            }
            let after = self.after.max(upto);
            self.after = after;
            if self.published.wait_for(|published| *published > after).await.is_err() {
                return Err(Farewell::Failed);
            }
        }
    }

    async fn read_store(&self) -> Result<(Vec<Entry>, u64), ServiceError> {
        let after = self.after;
        let upto = self.shared.ring().after;
        let stopping = |_| ServiceError::Fatal { detail: "the node is stopping".into() };
        let turn = self.shared.reads.clone().acquire_owned().await.map_err(stopping)?;
        let read = move |messages| {
            // Once begun it goes on, also where nobody waits for it any more, and keeps its turn.
            let _turn = turn;
            encode(messages)
        };
        let batch = self.api.read_here(after, BATCH_ENTRIES_MAX, BATCH_BYTES_MAX, read).await?;
        let upto = batch.last().map_or(upto, |last| last.seq);
        Ok((batch, upto))
    }
}

impl<A: MessageApi> Drop for Reader<A> {
    fn drop(&mut self) {
        self.shared.readers.send_modify(|readers| *readers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, bytes: usize) -> Entry {
        Entry { seq, json: "x".repeat(bytes).into() }
    }

    fn seqs(found: Option<(Vec<Entry>, u64)>) -> Option<(Vec<u64>, u64)> {
        found.map(|(entries, upto)| (entries.iter().map(|entry| entry.seq).collect(), upto))
    }

    #[test]
    fn the_ring_gives_what_follows_a_position_and_knows_where_it_begins() {
        let mut ring = Ring::default();
        ring.restart(10);
        assert_eq!(seqs(ring.batch(10)), Some((vec![], 10)));
        for seq in [11, 12, 14] {
            ring.push(entry(seq, 1));
        }
        assert_eq!(seqs(ring.batch(9)), None);
        assert_eq!(seqs(ring.batch(10)), Some((vec![11, 12, 14], 14)));
        assert_eq!(seqs(ring.batch(12)), Some((vec![14], 14)));
        assert_eq!(seqs(ring.batch(13)), Some((vec![14], 14)));
        assert_eq!(seqs(ring.batch(99)), Some((vec![], 14)));
    }

    #[test]
    fn the_ring_and_a_batch_are_bounded_in_entries_and_in_bytes() {
        let mut ring = Ring::default();
        (1..=2 * RING_ENTRIES_MAX as u64).for_each(|seq| ring.push(entry(seq, 1)));
        assert_eq!((ring.entries.len(), ring.after), (RING_ENTRIES_MAX, RING_ENTRIES_MAX as u64));
        assert_eq!(ring.batch(ring.after).unwrap().0.len(), BATCH_ENTRIES_MAX);
        ring.restart(0);
        (1..=20).for_each(|seq| ring.push(entry(seq, 1024 * 1024)));
        assert_eq!((ring.entries.len(), ring.after), (8, 12));
        // One that is larger than a batch goes by itself.
        assert_eq!(seqs(ring.batch(12)), Some((vec![13], 13)));
    }
}
