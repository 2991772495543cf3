//! When to take a checkpoint, and how much of the log to keep behind it.
//!
//! Bounded in bytes and in entries, because an entry may be a hundred bytes or megabytes. The
//! log that is kept lets a follower that was away for a while catch up without a snapshot; and
//! what follows a snapshot that is on its way is kept, or its receiver would need another.
//! One task; it may be dropped at any await.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use openraft::storage::RaftStateMachine;

use crate::Raft;
use crate::peers::Peers;
use crate::types::{LogId, TypeConfig};

/// A checkpoint is taken once the log has grown by this many bytes since the last.
pub const CHECKPOINT_BYTES: u64 = 256 * 1024 * 1024;
/// A checkpoint is taken once the log has grown by this many entries since the last.
pub const CHECKPOINT_ENTRIES: u64 = 100_000;
/// Bytes of log kept behind the last checkpoint.
pub const KEEP_BYTES: u64 = 256 * 1024 * 1024;
/// Entries of log kept behind the last checkpoint.
pub const KEEP_ENTRIES: u64 = 200_000;
/// No snapshot on its way keeps more log than this.
pub const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How often the log's size is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How large the log on disk is.
pub trait LogSize: Send + Sync + 'static {
    /// Bytes of its entries.
    fn bytes(&self) -> u64;
    /// Bytes of the entries after an index.
    fn bytes_after(&self, index: u64) -> u64;
    /// The index from which on the entries have at most so many bytes; none where all of them have.
    fn index_at_bytes_from_end(&self, bytes: u64) -> Option<u64>;
}

/// Runs until Raft stops.
pub async fn run<SM: RaftStateMachine<TypeConfig>>(raft: Raft<SM>, log: impl LogSize, peers: Peers) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked_at = None;
    loop {
        look.tick().await;
        let (applied, snapshot, purged) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            if metrics.running_state.is_err() {
                return;
            }
            let index = |log_id: &Option<LogId>| log_id.as_ref().map_or(0, |id| id.index);
            (index(&metrics.last_applied), index(&metrics.snapshot), index(&metrics.purged))
        };
        let grown = applied.saturating_sub(snapshot);
        let due = grown >= CHECKPOINT_ENTRIES || log.bytes_after(snapshot) >= CHECKPOINT_BYTES;
        // Asked once for each state: a checkpoint under way is not asked for again.
        if due && grown > 0 && asked_at != Some(snapshot) {
            asked_at = Some(snapshot);
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let by_bytes = log.index_at_bytes_from_end(KEEP_BYTES).unwrap_or(0);
        let keep_from = by_bytes.max(snapshot.saturating_sub(KEEP_ENTRIES));
        let mut upto = keep_from.min(snapshot);
        if log.bytes() < LOG_BYTES_MAX {
            upto = upto.min(peers.log_needed_after().unwrap_or(u64::MAX));
        }
        if upto > purged && raft.trigger().purge_log(upto).await.is_err() {
            return;
        }
    }
}
