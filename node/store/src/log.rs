//! The Raft log as openraft sees it: [`LogStore`] writes, [`LogReader`]s read.
//!
//! What is cached is served at once; older entries are read from their segments on a blocking
//! thread. Dropping any of these futures leaves the log as it was or as it would have been.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures_util::{Stream, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::error::StoreError;
use crate::wal::{Slot, State, Wal, record, segment};
use skep_raft::types::{Entry, LogId, TypeConfig, Vote};
use skep_raft::witness::Held;

/// The Raft log and vote on disk. Clones are handles of the same log.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
}

/// Reads the log; many may exist.
#[derive(Clone)]
pub struct LogReader {
    wal: Wal,
}

/// Sizes of the log, for compaction and metrics, from any thread.
#[derive(Clone)]
pub struct LogStatsHandle {
    wal: Wal,
}

/// The vote that this node holds, from any thread.
#[derive(Clone)]
pub struct HeldVote {
    wal: Wal,
}

/// Waits for the log to be on disk, from any thread.
#[derive(Clone)]
pub struct LogFlush {
    wal: Wal,
}

/// Sizes of the log at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    pub purged_index: Option<u64>,
    pub last_index: Option<u64>,
    pub entries: u64,
    /// Bytes of the entries that are not purged.
    pub entry_bytes: u64,
    pub cached_entries: u64,
    pub cached_bytes: u64,
    /// Bytes that wait for the disk.
    pub pending_bytes: u64,
    pub segments: u64,
}

impl LogStatsHandle {
    /// The sizes now.
    pub fn stats(&self) -> LogStats {
        self.wal.with(|state| LogStats {
            purged_index: state.purged.map(|id| id.index),
            last_index: state.last().map(|id| id.index),
            entries: state.slots.len() as u64,
            entry_bytes: state.slots.front().map_or(0, |first| state.position - first.position),
            cached_entries: state.cache.len() as u64,
            cached_bytes: state.cache_bytes as u64,
            pending_bytes: state.pending.bytes as u64,
            segments: state.files.len() as u64,
        })
    }

    /// Bytes of the entries after `index`; of all where it is `None`.
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        self.wal.with(|state| {
            let next = index.map_or(0, |index| index.saturating_add(1));
            let first = state.slots.partition_point(|slot| slot.log_id.index < next);
            state.slots.get(first).map_or(0, |slot| state.position - slot.position)
        })
    }

    /// The greatest index after which there are still at least `bytes` of entries: purging up to
    /// it keeps that much for followers that lag. `None` where the log has less than that.
    pub fn index_at_bytes_from_end(&self, bytes: u64) -> Option<u64> {
        self.wal.with(|state| {
            let kept = |slot: &Slot| state.position - slot.position - u64::from(slot.len);
            let count = state.slots.partition_point(|slot| kept(slot) >= bytes);
            state.slots.get(count.checked_sub(1)?).map(|slot| slot.log_id.index)
        })
    }
}

impl HeldVote {
    /// The vote now. A new one is here before anybody else can know of it: openraft saves it
    /// before it answers or sends what follows from it.
    pub fn get(&self) -> Option<Vote> {
        self.wal.with(|state| state.vote)
    }

    /// The vote now, and the log's last entry with it; none before the first vote.
    pub fn held(&self) -> Option<Held> {
        self.wal.with(|state| Some(Held { vote: state.vote?, last: state.last() }))
    }
}

impl LogFlush {
    /// Returns once all that was appended before the call is on disk.
    pub async fn flush(&self) -> Result<(), io::Error> {
        self.wal.flush()?.wait().await
    }
}

impl LogStore {
    pub(crate) fn new(wal: Wal) -> LogStore {
        LogStore { wal }
    }

    /// Sizes of the log, from any thread.
    pub fn stats_handle(&self) -> LogStatsHandle {
        LogStatsHandle { wal: self.wal.clone() }
    }

    /// What waits for the log to be on disk.
    pub fn flusher(&self) -> LogFlush {
        LogFlush { wal: self.wal.clone() }
    }

    pub(crate) fn forget_committed(&self) {
        self.wal.forget_committed();
    }

    /// The vote that this node holds, from any thread.
    pub fn held_vote(&self) -> HeldVote {
        HeldVote { wal: self.wal.clone() }
    }
}

impl std::fmt::Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogStore").field(&self.wal.config().dir).finish()
    }
}

/// One entry's place on disk, with the file held open: a purge does not take it away.
struct Place {
    slot: Slot,
    file: Arc<File>,
}

/// A run of entries, partly in memory.
struct Run {
    on_disk: Vec<Place>,
    cached: Vec<Entry>,
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// The entries of `start..end` that the log has, at most `bytes_max` of them but at least one.
fn collect(state: &State, start: u64, end: u64, bytes_max: usize) -> Result<Run, StoreError> {
    let mut run = Run { on_disk: Vec::new(), cached: Vec::new() };
    let Some(first) = state.slots.front().map(|slot| slot.log_id.index) else { return Ok(run) };
    let from = (start.max(first) - first) as usize;
    let to = (end.saturating_sub(first)).min(state.slots.len() as u64) as usize;
    let uncached = state.slots.len() - state.cache.len();
    let mut bytes = 0;
    for i in from..to {
        let slot = state.slots[i];
        bytes += slot.len as usize;
        if i > from && bytes > bytes_max {
            break;
        }
        if i >= uncached {
            run.cached.push(state.cache[i - uncached].clone());
        } else {
            let number = u64::from(slot.segment);
            let file = state.files.get(&number).cloned().ok_or_else(|| {
                StoreError::Stopped(format!("log segment {number} is not open, but has entries"))
            })?;
            run.on_disk.push(Place { slot, file });
        }
    }
    Ok(run)
}

fn read_place(place: &Place, dir: &std::path::Path) -> Result<Entry, StoreError> {
    let Slot { log_id, segment: number, offset, len, .. } = place.slot;
    let path = || segment::path_of(dir, u64::from(number));
    let mut bytes = vec![0; record::HEAD_BYTES + len as usize];
    let at = u64::from(offset) - record::HEAD_BYTES as u64;
    place.file.read_exact_at(&mut bytes, at).map_err(|e| StoreError::io("read", &path())(e))?;
    let (head, body) = bytes.split_at(record::HEAD_BYTES);
    // The head proved itself when the log was opened or written; the body's bytes may rot.
    let stored_crc = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if stored_crc != crc32fast::hash(body) {
        return Err(StoreError::corrupt(&path(), at, "an entry's checksum does not match"));
    }
    let entry = record::parse_entry(body).map_err(|e| StoreError::corrupt(&path(), at, e.to_string()))?;
    if entry.log_id != log_id {
        return Err(StoreError::corrupt(&path(), at, format!("it holds entry {}", entry.log_id)));
    }
    Ok(entry)
}

impl LogReader {
    /// The entries of `start..end` that the log has, bounded by bytes; at least one if any.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let run = self.wal.with(|state| collect(state, start, end, bytes_max))?;
        if run.on_disk.is_empty() {
            return Ok(run.cached);
        }
        let dir = self.wal.config().dir.join("log");
        let read = tokio::task::spawn_blocking(move || {
            run.on_disk.iter().map(|place| read_place(place, &dir)).collect::<Result<Vec<_>, _>>()
        });
        let mut entries = read.await.map_err(io::Error::other)??;
        entries.extend(run.cached);
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        // In stretches: a long replay must not have all its entries in memory at once.
        let steps = stream::unfold((self.clone(), start, false), move |(reader, start, done)| async move {
            if done || start >= end {
                return None;
            }
            let bytes_max = reader.wal.config().log_read_bytes_max;
            let entries = reader.read(start, end, bytes_max).await;
            let (items, next, done) = match entries {
                Ok(entries) => {
                    let next = entries.last().map(|entry| entry.log_id.index + 1);
                    let items = entries.into_iter().map(Ok).collect::<Vec<_>>();
                    (items, next.unwrap_or(end), next.is_none())
                }
                Err(error) => (vec![Err(error)], end, true),
            };
            Some((stream::iter(items), (reader, next, done)))
        });
        Box::pin(futures_util::StreamExt::flatten(steps))
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.wal.with(|state| state.vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, self.wal.config().log_read_bytes_max).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(self.wal.with(|state| LogState { last_purged_log_id: state.purged, last_log_id: state.last() }))
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { wal: self.wal.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.wal.save_vote(vote)?.wait().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.wal.save_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        // What is committed may be ahead of what a crash has left of the log.
        Ok(self.wal.with(|state| state.committed.min(state.last())))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.wal.room().await?;
        self.wal.append(entries.into_iter(), callback)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.wal.truncate_after(last_log_id)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.wal.purge(log_id)
    }
}
