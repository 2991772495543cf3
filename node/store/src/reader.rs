//! Reads of what has been applied, from any thread. They wait for no writer: what a read needs is taken
//! under a short lock, and read outside it. Those whose name ends in `_now` do not wait for the disk either;
//! the others may, and are made on a thread of [`Reader::elsewhere`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skep_state::clock::Stamp;
use skep_state::command::{ClaimKey, Op};
use skep_state::gateway::Revision;
use skep_state::kinds::gateway::Gateway;
use skep_state::kinds::purges::Purges;
use skep_state::kinds::schedules::Schedules;
use skep_state::kinds::shifts::Shifts;
use skep_state::kinds::tasks::Tasks;
use skep_state::kinds::text::Newest;
use skep_state::level::Level;
use skep_state::message::{Digest, StoredMessage};
use tokio::sync::watch;

use crate::applied::Applied;
use crate::core::{Core, CoreState};
use crate::error::StoreError;
use crate::log::LogStatsHandle;
use crate::points::Point;
use crate::pool::{self, Busy, Pool};
use crate::segments::{Excess, Lookup, Shown, Summary, Wait};
use crate::suspects::Suspected;

/// Messages that follow each other.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The last of them; none where they are all that there are.
    pub last: Option<u64>,
    /// What there is of each content type; none where they must be read.
    pub types: Option<Arc<Summary>>,
}

/// Sizes of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub messages: u64,
    /// Messages up to this `seq` are gone.
    pub floor: u64,
    /// Messages above it that were taken out one by one.
    pub removed_singly: u64,
    /// Idempotency keys that are remembered.
    pub claims: u64,
    /// What they take on disk.
    pub claim_bytes: u64,
    /// And in memory.
    pub claim_index_bytes: u64,
    /// Bytes of the files of tasks' payloads, results and errors; those of them that tasks need; and the files.
    pub payload_bytes: u64,
    pub payload_live_bytes: u64,
    pub payload_files: u64,
    /// Segments whose files go with the next checkpoint.
    pub retired_segments: u64,
    /// Bytes of the message segments.
    pub message_bytes: u64,
    pub message_segments: u64,
    pub log_entries: u64,
    /// Bytes of the log's entries.
    pub log_bytes: u64,
    /// The log index of the newest checkpoint.
    pub checkpoint_index: Option<u64>,
    /// Bytes of records that are not in their file yet.
    pub unwritten_bytes: u64,
    /// Reads that wait for a thread that may wait for the disk.
    pub reads_waiting: u64,
}

/// Reads messages and registers from any thread. Clones are handles of the same store.
#[derive(Clone)]
pub struct Reader {
    core: Arc<Core>,
    log: LogStatsHandle,
    pool: Arc<Pool>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reader").field(&self.core.config.dir).finish()
    }
}

impl Reader {
    pub(crate) fn new(core: Arc<Core>, log: LogStatsHandle) -> Reader {
        Reader { core, log, pool: Arc::new(Pool::new(pool::THREADS_MAX, pool::WAITING_MAX)) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Reads on a thread that may wait for the disk. Where this is dropped before its turn, nothing is read.
    ///
    /// # Errors
    /// Where too many wait already.
    pub async fn elsewhere<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        self.core.metrics.reads_elsewhere.fetch_add(1, Ordering::Relaxed);
        let reader = self.clone();
        self.pool.run(move || read(&reader)).await
    }

    /// What is known of this digest.
    pub fn look_up(&self, digest: &Digest) -> Result<Lookup, StoreError> {
        self.look_up_within(digest, Wait::ForDisk)
    }

    /// The same, of what is in memory; none where that does not say.
    pub fn look_up_now(&self, digest: &Digest) -> Result<Option<Lookup>, StoreError> {
        at_once(self.look_up_within(digest, Wait::Never))
    }

    fn look_up_within(&self, digest: &Digest, wait: Wait) -> Result<Lookup, StoreError> {
        let (view, is_remembered) = {
            let state = self.core.lock();
            let messages = &state.kinds.messages;
            let view = messages.records().view_for(digest, shown(&state));
            (view, messages.removed().remembers(digest))
        };
        Ok(match view.get(digest, wait)? {
            Lookup::Unknown if is_remembered => Lookup::Gone,
            found => found,
        })
    }

    /// The message of this digest.
    pub fn get(&self, digest: &Digest) -> Result<Option<StoredMessage>, StoreError> {
        Ok(match self.look_up(digest)? {
            Lookup::Here(message) => Some(message),
            Lookup::Gone | Lookup::Unknown => None,
        })
    }

    /// Messages after `after_seq` in order: at most `count_max`, and no more once their records
    /// reach `bytes_max` (but at least one, if there is one and `count_max` is not 0).
    pub fn page(
        &self,
        after_seq: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.page_within(after_seq, count_max, bytes_max, Wait::ForDisk)
    }

    /// The same, of what is in memory; none where it is not all there.
    pub fn page_now(
        &self,
        after_seq: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<StoredMessage>>, StoreError> {
        at_once(self.page_within(after_seq, count_max, bytes_max, Wait::Never))
    }

    fn page_within(
        &self,
        after_seq: u64,
        count_max: usize,
        bytes_max: usize,
        wait: Wait,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let mut after = after_seq;
        loop {
            let (view, from, count) = {
                let state = self.core.lock();
                let from = after.max(state.kinds.messages.removed().floor()).saturating_add(1);
                let there = (state.kinds.messages.records().published_seq() + 1).saturating_sub(from);
                let count = there.min(count_max as u64);
                if count == 0 {
                    return Ok(Vec::new());
                }
                (state.kinds.messages.records().view_from(from, count, shown(&state)), from, count)
            };
            let (messages, last) = view.page(from, count, bytes_max, wait)?;
            if !messages.is_empty() || last < from {
                return Ok(messages);
            }
            // All of them were taken out: what follows them is meant.
            after = last;
        }
    }

    /// The last message of those that are too many where records may have so many bytes; 0 where
    /// none is.
    pub fn excess(&self, bytes_max: u64) -> Result<u64, StoreError> {
        let excess = self.core.lock().kinds.messages.records().excess(bytes_max);
        let (sealed, mut left) = match excess {
            Excess::Upto(upto) => return Ok(upto),
            Excess::Sealed(sealed, left) => (sealed, left),
        };
        for segment in sealed.iter().rev() {
            match left.checked_sub(segment.len) {
                Some(rest) => left = rest,
                None => return Ok(segment.first_seq + segment.first_from(segment.len - left)? - 1),
            }
        }
        Ok(0)
    }

    /// How many messages there are after one `seq`, up to another.
    pub fn count(&self, after: u64, upto: u64) -> u64 {
        let state = self.core.lock();
        state
            .kinds
            .messages
            .removed()
            .gaps()
            .count_between(after, upto.min(state.kinds.messages.records().published_seq()))
    }

    /// The messages after `after` that are looked at as one: those of a sealed segment that begins there, or what
    /// comes before the next one. `read`: where the types take reading the segment, too. Blocks.
    pub fn block_after(&self, after: u64, read: bool) -> Result<Block, StoreError> {
        let (segment, is_whole) = {
            let state = self.core.lock();
            let messages = &state.kinds.messages;
            let Some((segment, _)) = messages.records().sealed_after(after) else {
                return Ok(Block::default());
            };
            if segment.first_seq > after + 1 {
                return Ok(Block { last: Some(segment.first_seq - 1), types: None });
            }
            let last = segment.first_seq + segment.count - 1;
            let is_whole = messages.removed().gaps().count_between(after, last) == segment.count;
            (segment, is_whole)
        };
        let last = Some(segment.first_seq + segment.count - 1);
        let types = match (is_whole, read) {
            (false, _) => None,
            (true, true) => Some(segment.read_types()?),
            (true, false) => segment.types(),
        };
        Ok(Block { last, types })
    }

    /// For how long there will be no room for this idempotency key, were it to be remembered at this time: none
    /// where there is room, or where it may be one that is remembered. Of what is in memory.
    pub fn no_room_for(&self, key: ClaimKey, told: Stamp) -> Option<Duration> {
        // Each keyed request asks: mostly without the lock, which who applies holds for a whole run.
        if !self.core.applied().borrow().keys_are_full {
            return None;
        }
        let state = self.core.lock();
        let (kinds, level) = (&state.kinds, state.kinds.level());
        let now = kinds.clock().time(told);
        let left = kinds.claims.full_for_ms(told, now, kinds.limits())?;
        let is_new = level >= Level::CLAIM_RECORDS && !kinds.claims.records().may_have(key);
        is_new.then(|| Duration::from_millis(left))
    }

    /// The newest text.
    pub fn newest_text(&self) -> Option<Newest> {
        self.core.lock().kinds.text.newest()
    }

    /// Looks at the tasks. Whoever looks holds up what is applied.
    pub fn tasks<T>(&self, look: impl FnOnce(&Tasks) -> T) -> T {
        look(&self.core.lock().kinds.tasks)
    }

    /// Looks at the schedules. Whoever looks holds up what is applied.
    pub fn schedules<T>(&self, look: impl FnOnce(&Schedules) -> T) -> T {
        look(&self.core.lock().kinds.schedules)
    }

    /// Looks at the gateway's documents. Whoever looks holds up what is applied.
    pub fn gateway<T>(&self, look: impl FnOnce(&Gateway) -> T) -> T {
        look(&self.core.lock().kinds.gateway)
    }

    /// Changes whenever another document of the gateway is the newest.
    pub fn newest_gateway(&self) -> watch::Receiver<Option<Revision>> {
        self.core.waking.gateway()
    }

    /// Looks at the shifts of routes. Whoever looks holds up what is applied.
    pub fn shifts<T>(&self, look: impl FnOnce(&Shifts) -> T) -> T {
        look(&self.core.lock().kinds.shifts)
    }

    /// Changes whenever one of them does: how far they are.
    pub fn newest_shifts(&self) -> watch::Receiver<u64> {
        self.core.waking.shifts()
    }

    /// Looks at the purges. Whoever looks holds up what is applied.
    pub fn purges<T>(&self, look: impl FnOnce(&Purges) -> T) -> T {
        look(&self.core.lock().kinds.purges)
    }

    /// The number of the last purge; changes with each.
    pub fn last_purge(&self) -> watch::Receiver<u64> {
        self.core.waking.purges()
    }

    /// The last message's `seq`, 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.core.lock().kinds.messages.records().published_seq()
    }

    /// How often the clock was set back, as far as it still says something.
    pub fn time_mends(&self) -> usize {
        self.core.lock().kinds.mends().len()
    }

    /// The level that the cluster has agreed to.
    pub fn level(&self) -> Level {
        self.core.lock().kinds.level()
    }

    /// Hashes of the state here, each after a log entry; none before the cluster has agreed to have them. Waits
    /// for nobody that applies.
    pub fn points(&self) -> Vec<Point> {
        self.core.points.all()
    }

    /// Has a file looked at of which a read found that it is not as it was written; whether it was mended. As long as
    /// that takes; may be dropped at any await.
    pub async fn mended(&self, path: &Path) -> bool {
        self.core.suspects.mended(path).await
    }

    /// Files that are suspected, for the one that mends them: nobody else gets them.
    pub fn take_suspected(&self) -> Option<Suspected> {
        self.core.suspects.take()
    }

    /// What a leader is to propose now that it is so late.
    pub fn due(&self, now: Stamp) -> Vec<Op> {
        self.core.lock().kinds.due(now)
    }

    /// The last applied log index.
    pub fn applied_index(&self) -> Option<u64> {
        self.core.applied().borrow().index
    }

    /// Changes whenever entries have been applied or a snapshot installed.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.core.applied()
    }

    /// Sizes of the store.
    pub fn stats(&self) -> StoreStats {
        let log = self.log.stats();
        let checkpoint = self.core.checkpoint_index();
        let state = self.core.lock();
        StoreStats {
            messages: state
                .kinds
                .messages
                .removed()
                .gaps()
                .count_between(0, state.kinds.messages.records().published_seq()),
            floor: state.kinds.messages.removed().floor(),
            removed_singly: state.kinds.messages.removed().singly() as u64,
            claims: state.kinds.claims.len(),
            claim_bytes: state.kinds.claims.records().bytes(),
            claim_index_bytes: state.kinds.claims.records().index_bytes(),
            payload_bytes: state.kinds.tasks.heap().bytes(),
            payload_live_bytes: state.kinds.tasks.heap().live(),
            payload_files: state.kinds.tasks.heap().files().count() as u64,
            retired_segments: (state.kinds.messages.records().retired() + state.payloads.retired()) as u64,
            message_bytes: state.kinds.messages.records().bytes(),
            message_segments: state.kinds.messages.records().segments(),
            log_entries: log.entries,
            log_bytes: log.entry_bytes,
            checkpoint_index: checkpoint,
            unwritten_bytes: self.core.behind.bytes() as u64,
            reads_waiting: self.pool.waiting() as u64,
        }
    }
}

/// Which messages are shown, and with which times.
fn shown(state: &CoreState) -> Shown {
    Shown { gaps: state.kinds.messages.gaps(), mends: state.kinds.mends().clone() }
}

/// What came of a read that may not wait.
fn at_once<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::WouldWait) => Ok(None),
        read => read.map(Some),
    }
}
