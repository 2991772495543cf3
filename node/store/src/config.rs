//! Where the store lives and how much of anything it may hold.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_state::level::Limits;

/// Fewest segments that are held open: more than one checkpoint makes durable.
pub const MESSAGE_SEGMENTS_HELD_MIN: usize = 16;

/// Fewest files of claims that are held open, and the most that there are: as many claims as can be, and one file that
/// they begin in the middle of, and one that grows.
pub const CLAIM_FILES_HELD_MIN: usize = 4;
pub const CLAIM_FILES_MAX: usize = Limits::WIDEST.claims_max / CLAIM_FILE_CLAIMS_MAX as usize + 2;
/// Claims in one file: 16 MiB.
const CLAIM_FILE_CLAIMS_MAX: u64 = 256 * 1024;

/// The store's place and its limits; the defaults are what production runs.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data folder. The store owns `log/`, `messages/`, `claims/`, `payloads/`, `incoming/`, `checkpoint`, `format`
    /// and `reserve` in it and touches nothing else.
    pub dir: PathBuf,
    /// A log segment that reaches this many bytes is closed and the next one begun.
    pub log_segment_bytes_max: u64,
    /// Bytes of recent log entries kept in memory, so that followers and the state machine are
    /// served without reading the disk.
    pub log_cache_bytes_max: usize,
    /// Bytes of appended records that may wait for the disk; beyond it, appending waits.
    pub log_pending_bytes_max: usize,
    /// Bytes of entries that one replication request or one stretch of replay may carry.
    pub log_read_bytes_max: usize,
    /// A message segment that reaches this many bytes is sealed and the next one begun.
    pub message_segment_bytes_max: u64,
    /// Of so many sealed segments, the newest, the files are held open: two each. Others are opened for each
    /// look.
    pub message_segments_held_max: usize,
    /// A file of claims that has this many is closed and the next one begun.
    pub claim_file_claims_max: u64,
    /// The newest so many files of claims are held open. Others are opened for each look.
    pub claim_files_held_max: usize,
    /// A file of tasks' bytes that has this many is closed and the next one begun.
    pub payload_file_bytes_max: u64,
    /// How often files of tasks' bytes are looked at for what is to be moved.
    pub payload_move_interval: Duration,
    /// Applies with more bytes of bodies than this leave the runtime's thread.
    pub apply_inline_bytes_max: usize,
    /// How often a write is tried again while the disk is full or read-only.
    pub full_retry_interval: Duration,
    /// Whether the disk's room is looked at, and a reserve kept on it.
    pub watches_room: bool,
    pub sync_data: SyncData,
}

/// How the log's bytes are made durable: `fdatasync`. Tests hold it up, or fail it.
#[derive(Clone)]
pub struct SyncData(pub Arc<SyncFile>);

type SyncFile = dyn Fn(&File) -> io::Result<()> + Send + Sync;

impl Default for SyncData {
    fn default() -> Self {
        Self(Arc::new(File::sync_data))
    }
}

impl fmt::Debug for SyncData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncData")
    }
}

impl StoreConfig {
    /// The defaults, in this data folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            log_segment_bytes_max: 64 * 1024 * 1024,
            log_cache_bytes_max: 8 * 1024 * 1024,
            log_pending_bytes_max: 64 * 1024 * 1024,
            log_read_bytes_max: 4 * 1024 * 1024,
            message_segment_bytes_max: 64 * 1024 * 1024,
            message_segments_held_max: MESSAGE_SEGMENTS_HELD_MIN,
            claim_file_claims_max: CLAIM_FILE_CLAIMS_MAX,
            claim_files_held_max: CLAIM_FILES_MAX,
            payload_file_bytes_max: 64 * 1024 * 1024,
            payload_move_interval: Duration::from_secs(1),
            apply_inline_bytes_max: 256 * 1024,
            full_retry_interval: Duration::from_millis(200),
            watches_room: true,
            sync_data: SyncData::default(),
        }
    }
}
