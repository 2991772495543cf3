//! The log in memory: where each entry lies, the recent ones themselves, and the batch that waits
//! for the writer.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use skep_base::codec::{self, CodecError};
use skep_base::id::ClusterId;
use tokio::sync::oneshot;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::wal::Flushed;
use crate::wal::record::{self, HEAD_BYTES, HEADER_BYTES, Kind, StateRecord};
use skep_raft::types::{Entry, LogId, TypeConfig, Vote};

/// A segment that had to be made while the log waited for it is this large.
const HASTY_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// A seal's record and the end mark behind it.
const SEAL_BYTES: u64 = 2 * HEAD_BYTES as u64 + 16;
/// A batch buffer that has grown past this is given back to the allocator.
const BUFFER_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub log_id: LogId,
    pub segment: u32,
    /// Of the record's body, in its segment.
    pub offset: u32,
    pub len: u32,
    /// Bytes of all entries before it, ever.
    pub position: u64,
}

/// Who waits for a batch to be durable.
pub(crate) enum Waiter {
    Openraft(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<Result<(), io::Error>>),
}

impl Waiter {
    pub(crate) fn complete(self, result: Result<(), io::Error>) {
        match self {
            Waiter::Openraft(callback) => callback.io_completed(result),
            // A caller that went away needs no answer.
            Waiter::Caller(sender) => drop(sender.send(result)),
        }
    }
}

/// A batch's part that goes into one segment.
pub(crate) struct Chunk {
    pub segment: u64,
    pub salt: u64,
    /// The segment is new: the bytes begin with its header.
    pub create: Option<NewSegment>,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSegment {
    pub spare: bool,
    pub bytes: u64,
}

/// What the writer takes at once.
#[derive(Default)]
pub(crate) struct Batch {
    pub chunks: Vec<Chunk>,
    pub waiters: Vec<Waiter>,
    pub sync: bool,
    /// Once the batch is durable, segments below this one are no longer needed.
    pub retire_below: Option<u64>,
    pub bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.waiters.is_empty() && !self.sync
    }
}

/// A segment file that waits to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spare {
    Absent,
    Ready,
    /// A chunk that is not yet written will use it: nobody may make another in its place.
    Claimed,
}

/// Where the next record goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    pub segment: u64,
    pub salt: u64,
    pub offset: u64,
    /// The segment takes no record that would end beyond this, unless it is its first.
    pub capacity: u64,
}

/// The log in memory. Invariant: `cache` holds the last `cache.len()` entries of `slots`, and at
/// least all those that the writer has not yet written.
pub(crate) struct State {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    /// `committed` changed since it was last put into a batch.
    pub committed_dirty: bool,
    pub purged: Option<LogId>,
    pub slots: VecDeque<Slot>,
    pub cache: VecDeque<Entry>,
    pub cache_bytes: usize,
    /// Bytes of all entries ever appended.
    pub position: u64,
    pub tail: Tail,
    pub pending: Batch,
    pub buffer: Vec<u8>,
    pub files: BTreeMap<u64, Arc<File>>,
    /// Everything before this place is in its file.
    pub written: (u64, u64),
    pub spare: Spare,
    pub failed: Option<String>,
    pub stop: bool,
}

/// The length in a record's head.
fn body_len(record: &[u8]) -> u32 {
    u32::from_le_bytes([record[0], record[1], record[2], record[3]])
}

impl State {
    pub(crate) fn alive(&self) -> Result<(), io::Error> {
        match &self.failed {
            Some(reason) => Err(StoreError::Stopped(reason.clone()).into()),
            None => Ok(()),
        }
    }

    pub(crate) fn flushed(&mut self) -> Flushed {
        let (sender, receiver) = oneshot::channel();
        self.pending.waiters.push(Waiter::Caller(sender));
        self.pending.sync = true;
        Flushed(receiver)
    }

    /// The last entry's log id, or that of the last purged one where there is none.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    pub(crate) fn append_entry(&mut self, entry: Entry, config: &StoreConfig) -> Result<(), io::Error> {
        if let Some(last) = self.slots.back().map(|slot| slot.log_id.index)
            && entry.log_id.index != last + 1
        {
            let detail = format!("entry {} does not follow entry {last}", entry.log_id.index);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let (segment, offset, len) = self.push_with(config, |bytes| record::push_entry(bytes, &entry))?;
        let (Ok(segment), Ok(offset)) = (u32::try_from(segment), u32::try_from(offset)) else {
            return Err(io::Error::other("the log has used up its segment numbers"));
        };
        self.slots.push_back(Slot { log_id: entry.log_id, segment, offset, len, position: self.position });
        self.position += u64::from(len);
        self.cache.push_back(entry);
        self.cache_bytes += len as usize;
        self.pending.sync = true;
        Ok(())
    }

    /// Puts the committed log id into the pending batch, which is not synced for its sake.
    pub(crate) fn push_committed(&mut self, config: &StoreConfig) {
        self.committed_dirty = false;
        let committed = self.committed;
        // Before there is a segment there is nothing that could be committed.
        if self.tail.segment > 0 || self.has_work() {
            let pushed = self.push(Kind::Committed, config, |bytes| codec::encode_into(&committed, bytes));
            if let Err(error) = pushed {
                tracing::warn!("the committed log id is not saved: {error}");
            }
        }
    }

    pub(crate) fn push(
        &mut self,
        kind: Kind,
        config: &StoreConfig,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<(), io::Error> {
        self.push_with(config, |bytes| record::push(bytes, kind, encode)).map(|_| ())
    }

    /// Encodes a record into the pending batch, in a new segment where the present one is full.
    /// Answers the segment, the body's offset and its length.
    fn push_with(
        &mut self,
        config: &StoreConfig,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<(u64, u64, u32), io::Error> {
        let first_in_segment = self.tail.segment > 0 && self.tail.offset <= self.first_record_end();
        if self.pending.chunks.is_empty() {
            let bytes = std::mem::take(&mut self.buffer);
            let Tail { segment, salt, offset, .. } = self.tail;
            self.pending.chunks.push(Chunk { segment, salt, create: None, offset, bytes });
        }
        let Some(chunk) = self.pending.chunks.last_mut() else {
            return Err(io::Error::other("a batch without a chunk"));
        };
        let start = chunk.bytes.len();
        encode(&mut chunk.bytes)?;
        let size = chunk.bytes.len() - start;
        let len = body_len(&chunk.bytes[start..]);
        let end = self.tail.offset + size as u64 + SEAL_BYTES;
        if end > self.tail.capacity && !first_in_segment {
            let record = chunk.bytes.split_off(start);
            self.begin_segment(config)?;
            let Some(chunk) = self.pending.chunks.last_mut() else {
                return Err(io::Error::other("a batch without a chunk"));
            };
            chunk.bytes.extend_from_slice(&record);
        }
        let place = self.tail.offset + HEAD_BYTES as u64;
        self.tail.offset += size as u64;
        self.pending.bytes += size;
        Ok((self.tail.segment, place, len))
    }

    /// Only an empty segment may take a record that is larger than the segment should be.
    fn first_record_end(&self) -> u64 {
        match self.pending.chunks.last() {
            // The header and the state record, which a new segment always has.
            Some(Chunk { create: Some(_), bytes, .. }) => {
                HEADER_BYTES as u64 + record::record_bytes(body_len(&bytes[HEADER_BYTES..]))
            }
            _ => 0,
        }
    }

    /// Seals the present segment and begins the next.
    fn begin_segment(&mut self, config: &StoreConfig) -> Result<(), io::Error> {
        let number = self.tail.segment + 1;
        if let Some(chunk) = self.pending.chunks.last_mut()
            && self.tail.segment > 0
        {
            record::push(&mut chunk.bytes, Kind::Seal, |bytes| codec::encode_into(&number, bytes))?;
        }
        // Segment 0 is the place of a log that has no segment yet.
        self.pending.chunks.retain(|chunk| chunk.segment > 0);
        let full = config.log_segment_bytes_max;
        let spare = self.spare == Spare::Ready;
        if spare {
            self.spare = Spare::Claimed;
        }
        let bytes = if spare { full } else { full.min(HASTY_SEGMENT_BYTES) };
        let salt = ClusterId::random().0 as u64;
        let mut head = Vec::from(record::header(number, salt));
        let state = StateRecord {
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
            last: self.last(),
        };
        record::push(&mut head, Kind::State, |bytes| codec::encode_into(&state, bytes))?;
        self.tail = Tail { segment: number, salt, offset: head.len() as u64, capacity: bytes };
        let create = Some(NewSegment { spare, bytes });
        self.pending.bytes += head.len();
        self.pending.sync = true;
        self.pending.chunks.push(Chunk { segment: number, salt, create, offset: 0, bytes: head });
        Ok(())
    }

    pub(crate) fn drop_after(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |last| last.index + 1);
        let kept = self.slots.partition_point(|slot| slot.log_id.index < keep);
        let dropped = self.slots.len() - kept;
        for _ in 0..dropped.min(self.cache.len()) {
            self.cache.pop_back();
        }
        for slot in self.slots.drain(kept..) {
            self.position -= u64::from(slot.len);
        }
        self.recount_cache();
    }

    pub(crate) fn drop_upto(&mut self, upto: LogId) {
        let gone = self.slots.partition_point(|slot| slot.log_id.index <= upto.index);
        let uncached = self.slots.len() - self.cache.len();
        self.slots.drain(..gone);
        self.cache.drain(..gone.saturating_sub(uncached));
        self.recount_cache();
        self.purged = Some(upto);
    }

    fn recount_cache(&mut self) {
        let uncached = self.slots.len() - self.cache.len();
        self.cache_bytes = match self.slots.get(uncached) {
            Some(first) => (self.position - first.position) as usize,
            None => 0,
        };
    }

    /// Lets go of the oldest cached entries beyond the limit, but of none that is not yet written.
    pub(crate) fn evict(&mut self, config: &StoreConfig) {
        while self.cache_bytes > config.log_cache_bytes_max {
            let Some(slot) = self.slots.get(self.slots.len() - self.cache.len()) else { break };
            if (u64::from(slot.segment), u64::from(slot.offset)) >= self.written {
                break;
            }
            self.cache_bytes -= slot.len as usize;
            self.cache.pop_front();
        }
    }

    /// True where a batch is waiting.
    pub(crate) fn has_work(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        self.has_work().then(|| std::mem::take(&mut self.pending))
    }

    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.buffer.capacity() == 0 && buffer.capacity() <= BUFFER_KEPT_BYTES {
            buffer.clear();
            self.buffer = buffer;
        }
    }
}
