//! The replicated store's storage: the Raft log, the messages and registers that it builds, and
//! their snapshots.
//!
//! The data folder:
//!
//! ```text
//! format                     what wrote the folder
//! log/NNNNNNNNNNNNNNNN.wal   the Raft log and vote: durable before anything is answered
//! messages/G-SSSS.seg, .idx  messages in the order of `seq`, and a derived index a sealed segment
//! claims/G-NNNN.clm          idempotency keys in the order in which they were claimed
//! payloads/G-NNNN.pay        payloads, results and errors of tasks, in the order in which they came or were moved
//! checkpoint                 a consistent state of the messages and registers, with its log id
//! incoming/                  snapshots being received; emptied at each start
//! reserve                    room that is given up when the disk is full
//! ```
//!
//! Applying a command appends to the messages without waiting for the disk. A checkpoint, which is
//! also openraft's snapshot, makes them durable; the log is purged only up to a checkpoint. A crash
//! therefore loses nothing: the next start cuts the messages back to the checkpoint, and Raft
//! replays the log after it.

mod applied;
mod behind;
mod checkpoint;
mod claims;
pub mod config;
mod core;
pub mod error;
mod files;
mod from_file;
pub mod health;
mod log;
mod machine;
mod manifest;
mod mend;
mod mover;
mod payloads;
mod points;
mod pool;
mod reader;
mod replay;
mod room;
mod run;
mod scrub;
mod segments;
mod snapshot;
mod suspects;
mod wal;
mod wire;

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::sync::watch;

pub use applied::Applied;
pub use config::{CLAIM_FILES_HELD_MIN, CLAIM_FILES_MAX, MESSAGE_SEGMENTS_HELD_MIN, StoreConfig, SyncData};
pub use error::{Lack, StoreError};
pub use health::{StoreHealth, StoreMetrics};
pub use log::{HeldVote, LogFlush, LogReader, LogStats, LogStatsHandle, LogStore};
pub use machine::{SnapshotBuilder, StateMachine};
pub use manifest::{SnapshotHeader, decode_header};
pub use mend::Mend;
pub use points::Point;
pub use pool::Busy;
pub use reader::{Block, Reader, StoreStats};
pub use scrub::{Rotten, Scrub, Verified, verify};
pub use segments::{Lookup, SegmentMeta, Summary};
pub use snapshot::{Received, ReceivedClaims, SnapshotData, SnapshotInfo, SnapshotSink, inspect};
pub use suspects::{Suspect, Suspected, SuspectedByReads};

/// A Raft over this store.
pub type Raft = skep_raft::Raft<StateMachine>;

/// What the `format` file holds.
const FORMAT: &str = "skep store 1\n";

/// An open store, taken apart: openraft gets the first two.
#[derive(Debug)]
pub struct Store {
    pub log: LogStore,
    pub state_machine: StateMachine,
    pub reader: Reader,
    pub health: watch::Receiver<StoreHealth>,
    pub metrics: Arc<StoreMetrics>,
}

/// Opens the store in its folder, creating it if need be. Blocks while it reads the log. The
/// caller sees to it that no other process has the folder open.
pub fn open(config: StoreConfig) -> Result<Store, StoreError> {
    files::ensure_dir(&config.dir)?;
    check_format(&config)?;
    let health = Arc::new(health::HealthSender::new());
    let metrics = Arc::new(StoreMetrics::default());
    let core = Arc::new(core::Core::open(&config, health.clone(), metrics.clone())?);
    let wal = wal::Wal::open(&config, health.clone(), metrics.clone())?;
    let log = LogStore::new(wal.clone());
    let reader = Reader::new(core.clone(), log.stats_handle());
    let moving = mover::Moving::start(&core, config.payload_move_interval)
        .map_err(StoreError::io("start the mover of", &config.dir))?;
    let state_machine = StateMachine::new(core, wal, moving);
    Ok(Store { log, state_machine, reader, health: health.subscribe(), metrics })
}

fn check_format(config: &StoreConfig) -> Result<(), StoreError> {
    let path = config.dir.join("format");
    let found = match fs::read(&path) {
        Ok(found) => String::from_utf8_lossy(&found).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return files::write_atomically(&path, |file| file.write_all(FORMAT.as_bytes()));
        }
        Err(error) => return Err(StoreError::io("read", &path)(error)),
    };
    if found == FORMAT {
        return Ok(());
    }
    let (found, expected) = (found.chars().take(64).collect(), FORMAT.into());
    Err(StoreError::Format { path, found, expected })
}

#[cfg(test)]
mod tests;
