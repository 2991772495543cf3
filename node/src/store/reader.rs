//! Reads of what has been applied, from any thread. They may touch the disk, but wait for no
//! writer: what a read needs is taken under a short lock, and read outside it.

use std::sync::Arc;

use bytes::Bytes;
use skep_proto::message::{Digest, StoredMessage};
use tokio::sync::watch;

use crate::store::core::Core;
use crate::store::error::StoreError;
use crate::store::log::LogStatsHandle;

/// The newest text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// From 1; each write adds one.
    pub version: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    pub text: Bytes,
}

/// How far the state machine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied log index.
    pub index: Option<u64>,
    /// The last message's `seq`, 0 where there is none.
    pub seq: u64,
    /// Times that messages were taken out; only ever grows while the process runs.
    pub removals: u64,
}

/// Sizes of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub messages: u64,
    /// Bytes of the message segments.
    pub message_bytes: u64,
    pub message_segments: u64,
    pub log_entries: u64,
    /// Bytes of the log's entries.
    pub log_bytes: u64,
    /// The log index of the newest checkpoint.
    pub checkpoint_index: Option<u64>,
}

/// Reads messages and registers from any thread. Clones are handles of the same store.
#[derive(Clone)]
pub struct Reader {
    core: Arc<Core>,
    log: LogStatsHandle,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reader").field(&self.core.config.dir).finish()
    }
}

impl Reader {
    pub(crate) fn new(core: Arc<Core>, log: LogStatsHandle) -> Reader {
        Reader { core, log }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The message of this digest.
    pub fn get(&self, digest: &Digest) -> Result<Option<StoredMessage>, StoreError> {
        let view = self.core.lock().messages.view_for(digest);
        view.get(digest)
    }

    /// Messages after `after_seq` in order: at most `count_max`, and no more once their records
    /// reach `bytes_max` (but at least one, if there is one and `count_max` is not 0).
    pub fn page(
        &self,
        after_seq: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let from = after_seq.saturating_add(1);
        let (view, count) = {
            let state = self.core.lock();
            let there = (state.messages.published_seq() + 1).saturating_sub(from);
            let count = there.min(count_max as u64);
            if count == 0 {
                return Ok(Vec::new());
            }
            (state.messages.view_from(from, count), count)
        };
        view.page(from, count, bytes_max)
    }

    /// How many messages there are after one `seq`, up to another.
    pub fn count(&self, after: u64, upto: u64) -> u64 {
        upto.min(self.last_seq()).saturating_sub(after)
    }

    /// The newest text.
    pub fn newest_text(&self) -> Option<Text> {
        let (version, time_ms, text) = self.core.lock().registers.newest()?;
        Some(Text { version, time_ms, text })
    }

    /// The last message's `seq`, 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.core.lock().messages.published_seq()
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
            messages: state.messages.published_seq(),
            message_bytes: state.messages.bytes(),
            message_segments: state.messages.segments(),
            log_entries: log.entries,
            log_bytes: log.entry_bytes,
            checkpoint_index: checkpoint,
        }
    }
}
