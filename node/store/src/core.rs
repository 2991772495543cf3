//! The state machine's state, shared by those that apply, read and checkpoint it.
//!
//! One at a time applies ([`Core::begin`], [`Core::look_for`], [`Core::apply`]). The lock is held for the
//! encoding of a run, and by nobody for a read or a write: what a run needs of the disk is looked for
//! before, and what it appends is written behind. Every step that a full disk can stop leaves things so that
//! it can be taken again.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use openraft::EntryPayload;
use skep_state::Kinds;
use skep_state::command::CommandOutcome;
use tokio::sync::watch;

use crate::applied::Applied;
use crate::checkpoint::{self, Checkpoint};
use crate::config::StoreConfig;
use crate::error::{Lack, StoreError};
use crate::files;
use crate::health::{HealthSender, StoreMetrics, Writer as Who};
use crate::manifest::SnapshotHeader;
use crate::room::{self, Watched};
use crate::segments::{
    self, Known, Sealed, SegmentFile, SegmentMeta, Segments, Wait, Wanted, WriteBehind, Writing,
};
use skep_raft::types::{Entry, LogId, StoredMembership};

/// Sealed segments whose index is being built at once; sealing waits for the oldest beyond that.
const INDEX_BUILDS_MAX: usize = 2;

pub(crate) struct CoreState {
    pub kinds: Kinds<Segments>,
    pub last_applied: Option<LogId>,
    pub membership: StoredMembership,
}

/// A consistent state and the files that hold it.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub generation: u64,
    pub header: Arc<SnapshotHeader>,
    pub files: Vec<Arc<SegmentFile>>,
}

pub(crate) struct Core {
    pub config: StoreConfig,
    pub health: Arc<HealthSender>,
    pub metrics: Arc<StoreMetrics>,
    state: Mutex<CoreState>,
    applied: watch::Sender<Applied>,
    /// The newest checkpoint.
    current: Mutex<Option<Captured>>,
    /// Held while a checkpoint is written or a snapshot installed, by a blocking thread.
    checkpointing: Mutex<()>,
    indexing: Mutex<Vec<JoinHandle<()>>>,
    pub write_behind: Arc<WriteBehind>,
    _writing: Writing,
    _room: Option<Watched>,
}

impl Core {
    pub(crate) fn messages_dir(config: &StoreConfig) -> PathBuf {
        config.dir.join("messages")
    }

    pub(crate) fn incoming_dir(&self) -> PathBuf {
        self.config.dir.join("incoming")
    }

    pub(crate) fn checkpoint_path(config: &StoreConfig) -> PathBuf {
        config.dir.join("checkpoint")
    }

    /// Opens the state of the last checkpoint.
    pub(crate) fn open(
        config: &StoreConfig,
        health: Arc<HealthSender>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Core, StoreError> {
        files::ensure_dir(&Core::messages_dir(config))?;
        let found = checkpoint::read(&Core::checkpoint_path(config))?;
        let known = found.is_some();
        let Checkpoint { generation, header } =
            found.unwrap_or_else(|| Checkpoint { generation: 0, header: SnapshotHeader::empty() });
        room::make_some(&config.dir);
        let (write_behind, writing) = WriteBehind::start(health.clone(), config.full_retry_interval)
            .map_err(StoreError::io("start the writer of", &Core::messages_dir(config)))?;
        let state = load(config, generation, &header, &write_behind)?;
        segments::remove_strangers(
            &Core::messages_dir(config),
            &state.kinds.messages.records().known_files(),
        )?;
        let current = known.then(|| capture(&state));
        let incoming = config.dir.join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(StoreError::io("empty", &incoming))?;
        }
        files::ensure_dir(&incoming)?;
        let applied = watch::Sender::new(applied_of(&state));
        let watched = config.watches_room.then(|| room::watch(&config.dir, health.clone(), metrics.clone()));
        let room = watched.transpose().map_err(StoreError::io("look at", &config.dir))?;
        Ok(Core {
            config: config.clone(),
            health,
            metrics,
            state: Mutex::new(state),
            applied,
            current: Mutex::new(current),
            checkpointing: Mutex::new(()),
            indexing: Mutex::new(Vec::new()),
            write_behind,
            _writing: writing,
            _room: room,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, CoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// Whether [`Core::begin`] has something to do before messages can be applied.
    pub(crate) fn wants_to_begin(&self) -> bool {
        !segments::has_spares() || self.lock().kinds.messages.records().next().is_some()
    }

    /// Sees to it that there is room in a segment. Fails, and can be called again, on a full disk. Blocks.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        segments::keep_spares(&self.config.dir)?;
        let next = self.lock().kinds.messages.records().next();
        let Some(next) = next else { return Ok(()) };
        // A sealed segment is read from its file alone.
        self.write_behind.drain()?;
        let next = next.make()?;
        let sealed = self.lock().kinds.messages.records_mut().go_on_in(next);
        if let Some(sealed) = sealed {
            self.index_later(sealed);
        }
        Ok(())
    }

    /// Looks in the sealed segments for what a run needs of them.
    pub(crate) fn look_for(&self, wanted: &Wanted, wait: Wait) -> Result<Known, StoreError> {
        if wanted.is_empty() {
            return Ok(Known::default());
        }
        let (sealed, floor) = {
            let state = self.lock();
            let messages = &state.kinds.messages;
            (messages.records().sealed(), messages.removed().floor())
        };
        Known::of(wanted, &sealed, floor, wait)
    }

    /// Applies a run of entries, of so many bytes: one outcome for each. What it appends can be read on return.
    pub(crate) fn apply<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        bytes: usize,
        known: Known,
    ) -> Result<Vec<CommandOutcome>, StoreError> {
        let mut ops = 0;
        let mut outcomes = Vec::new();
        let mut state = self.lock();
        state.kinds.messages.records_mut().begin_run(bytes, known);
        for entry in entries {
            outcomes.push(apply_entry(&mut state, entry)?);
            ops += outcomes.last().map_or(0, |outcome| outcome.outcomes.len());
        }
        state.kinds.messages.records_mut().publish();
        let applied = applied_of(&state);
        drop(state);
        self.metrics.ops_applied.fetch_add(ops as u64, Ordering::Relaxed);
        self.applied.send_replace(applied);
        Ok(outcomes)
    }

    fn index_later(&self, sealed: Arc<Sealed>) {
        let mut indexing = self.indexing.lock().unwrap_or_else(PoisonError::into_inner);
        indexing.retain(|thread| !thread.is_finished());
        if indexing.len() >= INDEX_BUILDS_MAX {
            drop(indexing.remove(0).join());
        }
        let health = self.health.clone();
        let work = move || match sealed.build_index() {
            Ok(()) => {}
            // The next sync of the folder would say nothing of this one.
            Err(error @ StoreError::Sync { .. }) => health.fail(&error.to_string()),
            // It stays in memory, and is built at the next start.
            Err(error) => tracing::warn!("no index for {}: {error}", sealed.path().display()),
        };
        match std::thread::Builder::new().name("skep-index".into()).spawn(work) {
            Ok(thread) => indexing.push(thread),
            Err(error) => tracing::warn!("no thread to build an index: {error}"),
        }
    }

    /// The state now, for a checkpoint.
    pub(crate) fn capture(&self) -> Captured {
        capture(&self.lock())
    }

    /// The newest checkpoint.
    pub(crate) fn current(&self) -> Option<Captured> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(&self, captured: Captured) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(captured);
    }

    /// The log index of the newest checkpoint.
    pub(crate) fn checkpoint_index(&self) -> Option<u64> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref()?.header.last_log_id.map(|id| id.index)
    }

    /// Makes a captured state the checkpoint, durably, and answers the newest one: another, where
    /// a newer one or an installed snapshot came first. The log must be durable up to it. Blocks.
    pub(crate) fn write_checkpoint(&self, captured: Captured) -> Result<Captured, StoreError> {
        let started = Instant::now();
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        if let Some(newest) = &current
            && (newest.generation, newest.header.last_log_id)
                >= (captured.generation, captured.header.last_log_id)
        {
            return Ok(newest.clone());
        }
        let dir = Core::messages_dir(&self.config);
        self.write_behind.drain()?;
        let durable = current.as_ref().filter(|newest| newest.generation == captured.generation);
        for (segment, file) in captured.header.segments.iter().zip(&captured.files) {
            let synced = |newest: &Captured| newest.header.segments.contains(segment);
            if !durable.is_some_and(synced) {
                file.open()?.sync_data().map_err(StoreError::sync(file.path()))?;
            }
        }
        files::sync_dir(&dir)?;
        checkpoint::write(&Core::checkpoint_path(&self.config), captured.generation, &captured.header)?;
        self.set_current(captured.clone());
        let durable_upto = captured.header.last_seq();
        // Outside the lock: to close a file may wait for the disk.
        let old = self.lock().kinds.messages.records().old(durable_upto);
        old.iter().for_each(|segment| segment.let_go());
        self.remove_retired(&captured);
        self.metrics.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.metrics.checkpoint.observe(started.elapsed());
        Ok(captured)
    }

    /// Removes the files of segments that are gone and in the newest checkpoint no more.
    fn remove_retired(&self, newest: &Captured) {
        let dir = Core::messages_dir(&self.config);
        let path = |segment: &SegmentMeta| segments::segment_path(&dir, newest.generation, segment.first_seq);
        let kept = newest.header.segments.iter().map(path).collect();
        let retired = self.lock().kinds.messages.records_mut().take_retired(&kept);
        for segment in retired {
            let path = segment.path();
            let removed = segment.hold_for_readers().and_then(|()| {
                segments::files_of(path).iter().try_for_each(|file| segments::remove_if_there(file))
            });
            // A failure is made good at the next start.
            match removed {
                Ok(()) => tracing::debug!(file = %path.display(), "a dropped segment is off the disk"),
                Err(error) => tracing::warn!("a dropped segment stays on the disk: {error}"),
            }
        }
    }

    /// Replaces the whole state by a snapshot's. `place` puts the segments, durable and indexed,
    /// under the given generation's names; it may be called again after a failure. The checkpoint
    /// that is written then decides at once between old and new. Blocks.
    pub(crate) fn install(
        &self,
        header: &SnapshotHeader,
        place: impl FnOnce(&[PathBuf]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = Core::messages_dir(&self.config);
        let generation = self.lock().kinds.messages.records().generation + 1;
        let mut header = header.clone();
        header.segments.iter_mut().for_each(|segment| segment.sealed = true);
        let path = |segment: &SegmentMeta| segments::segment_path(&dir, generation, segment.first_seq);
        let paths: Vec<PathBuf> = header.segments.iter().map(path).collect();
        place(&paths)?;
        files::sync_dir(&dir)?;
        let loaded = load(&self.config, generation, &header, &self.write_behind)?;
        checkpoint::write(&Core::checkpoint_path(&self.config), generation, &header)?;
        let captured = capture(&loaded);
        let mut state = self.lock();
        let removals = state.kinds.messages.removals();
        let replaced = std::mem::replace(&mut *state, loaded);
        self.write_behind.forget();
        // To those who follow, any message may be gone now.
        state.kinds.messages.count_removals_from(removals + 1);
        let applied = applied_of(&state);
        drop(state);
        self.set_current(captured);
        self.applied.send_replace(applied);
        // What it replaced is garbage now; a failure to remove it is made good at the next start.
        let known = self.lock().kinds.messages.records().known_files();
        let removed = replaced
            .kinds
            .messages
            .records()
            .hold_for_readers()
            .and_then(|()| segments::remove_strangers(&dir, &known));
        if let Err(error) = removed {
            tracing::warn!("cannot remove the replaced messages: {error}");
        }
        Ok(())
    }

    /// Notes that the messages cannot be written for want of this, or can.
    pub(crate) fn set_lack(&self, lack: Option<Lack>) {
        self.health.set_lack(Who::Messages, lack);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let threads = self.indexing.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn load(
    config: &StoreConfig,
    generation: u64,
    header: &SnapshotHeader,
    write_behind: &Arc<WriteBehind>,
) -> Result<CoreState, StoreError> {
    let dir = Core::messages_dir(config);
    let limits = segments::Limits {
        segment_bytes_max: config.message_segment_bytes_max,
        held_max: config.message_segments_held_max,
    };
    let last_seq = header.kinds.messages.last_seq;
    let segments = Segments::open(dir, generation, &header.segments, last_seq, limits, write_behind.clone())?;
    Ok(CoreState {
        kinds: Kinds::open(header.kinds.clone(), segments)?,
        last_applied: header.last_log_id,
        membership: header.membership.clone(),
    })
}

fn capture(state: &CoreState) -> Captured {
    let records = state.kinds.messages.records();
    let (segments, files) = records.metas().into_iter().unzip();
    let header = SnapshotHeader {
        last_log_id: state.last_applied,
        membership: state.membership.clone(),
        segments,
        kinds: state.kinds.record(),
    };
    Captured { generation: records.generation, header: Arc::new(header), files }
}

fn applied_of(state: &CoreState) -> Applied {
    Applied {
        index: state.last_applied.map(|id| id.index),
        seq: state.kinds.messages.records().published_seq(),
        removals: state.kinds.messages.removals(),
        revisions: state.kinds.revisions(),
        latest: state.kinds.clock().latest(),
    }
}

fn apply_entry(state: &mut CoreState, entry: &Entry) -> Result<CommandOutcome, StoreError> {
    let outcome = match &entry.payload {
        EntryPayload::Blank => CommandOutcome::default(),
        EntryPayload::Membership(membership) => {
            state.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            CommandOutcome::default()
        }
        EntryPayload::Normal(command) => state.kinds.apply(entry.log_id.index, command)?,
    };
    state.last_applied = Some(entry.log_id);
    Ok(outcome)
}
