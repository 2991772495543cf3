//! The state machine's state, shared by those that apply, read and checkpoint it.
//!
//! One at a time applies ([`Core::begin`], [`Core::look_for`], [`Core::apply`]). The lock is held for the
//! encoding of a run, and by nobody for a read or a write: what a run needs of the disk is looked for
//! before, and what it appends is written behind. Every step that a full disk can stop leaves things so that
//! it can be taken again.

mod state;
mod waking;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use skep_state::command::CommandOutcome;
use tokio::sync::watch;

use crate::applied::Applied;
use crate::behind::Behind;
use crate::checkpoint::{self, Checkpoint};
use crate::config::StoreConfig;
use crate::error::{Lack, StoreError};
use crate::files;
use crate::health::{HealthSender, StoreMetrics, Writer as Who};
use crate::manifest::{FileKind, RecordKind, SnapshotHeader};
use crate::points::Points;
use crate::room::{self, Watched};
use crate::run::{Known, Touched, Wanted};
use crate::segments::{self, Lost, Sealed, SegmentMeta, Wait};
use crate::suspects::Suspects;
use skep_raft::types::Entry;
pub(crate) use state::{Captured, CoreState};
use state::{
    Published, apply_entry, capture, known_files, load, next_claims, paths, published_of, remove_replaced,
    remove_strangers, wants_payloads,
};
use waking::Waking;

/// Sealed segments whose index is being built at once; sealing waits for the oldest beyond that.
const INDEX_BUILDS_MAX: usize = 2;

pub(crate) struct Core {
    pub config: StoreConfig,
    pub health: Arc<HealthSender>,
    pub metrics: Arc<StoreMetrics>,
    state: Mutex<CoreState>,
    applied: watch::Sender<Applied>,
    /// Who waits for something of the gateway.
    pub(crate) waking: Waking,
    pub points: Points,
    /// The newest checkpoint.
    current: Mutex<Option<Captured>>,
    /// Held while a checkpoint is written or a snapshot installed, by a blocking thread.
    checkpointing: Mutex<()>,
    indexing: Mutex<Vec<JoinHandle<()>>>,
    pub behind: Behind,
    pub suspects: Suspects,
    _room: Option<Watched>,
}

impl Core {
    pub(crate) fn messages_dir(config: &StoreConfig) -> PathBuf {
        config.dir.join("messages")
    }

    pub(crate) fn claims_dir(config: &StoreConfig) -> PathBuf {
        config.dir.join("claims")
    }

    pub(crate) fn payloads_dir(config: &StoreConfig) -> PathBuf {
        config.dir.join("payloads")
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
        // New to a folder of the version before, whose disk may be full.
        files::ensure_dir(&Core::claims_dir(config))?;
        files::ensure_dir(&Core::payloads_dir(config))?;
        let behind = Behind::start(&health, config.full_retry_interval)
            .map_err(StoreError::io("start the writers of", &config.dir))?;
        let state = load(config, generation, &header, &behind, &metrics)?;
        remove_strangers(config, &state)?;
        let current = known.then(|| capture(&state));
        let incoming = config.dir.join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(StoreError::io("empty", &incoming))?;
        }
        files::ensure_dir(&incoming)?;
        let Published { applied, gateway, purges } = published_of(&state);
        let waking = Waking::new(gateway, purges, applied.revisions.shifts);
        let points = Points::default();
        points.restart(state.point());
        let watched = config.watches_room.then(|| room::watch(&config.dir, health.clone(), metrics.clone()));
        let room = watched.transpose().map_err(StoreError::io("look at", &config.dir))?;
        Ok(Core {
            config: config.clone(),
            health,
            metrics,
            state: Mutex::new(state),
            applied: watch::Sender::new(applied),
            waking,
            points,
            current: Mutex::new(current),
            checkpointing: Mutex::new(()),
            indexing: Mutex::new(Vec::new()),
            behind,
            suspects: Suspects::default(),
            _room: room,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, CoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    fn publish(&self, Published { applied, gateway, purges }: Published) {
        self.waking.publish(gateway, purges, applied.revisions.shifts);
        self.applied.send_replace(applied);
    }

    /// Whether [`Core::begin`] has something to do before a run can be applied.
    pub(crate) fn wants_to_begin(&self, touched: Touched) -> bool {
        if !segments::has_spares() {
            return true;
        }
        let state = self.lock();
        next_claims(&state, touched).is_some()
            || wants_payloads(&state, touched)
            || (touched.messages && state.kinds.messages.records().next().is_some())
    }

    /// Sees to it that there is room in a segment, and in a file of claims. Fails, and can be called again, on
    /// a full disk. Blocks.
    pub(crate) fn begin(&self, touched: Touched) -> Result<(), StoreError> {
        segments::keep_spares(&self.config.dir)?;
        let next = next_claims(&self.lock(), touched);
        if let Some(next) = next {
            // Those of a file that does not grow are read from it alone.
            self.behind.claims.drain()?;
            let next = next.make()?;
            self.lock().kinds.claims.records_mut().go_on_in(next);
        }
        if wants_payloads(&self.lock(), touched) {
            // One that does not grow is read from its file alone.
            self.behind.payloads.drain()?;
            let next = {
                let CoreState { kinds, payloads, .. } = &mut *self.lock();
                payloads.next_file(kinds.tasks.heap_mut())
            };
            let made = next.make()?;
            let CoreState { kinds, payloads, .. } = &mut *self.lock();
            payloads.go_on_in(made, kinds.tasks.heap_mut());
        }
        if !touched.messages {
            return Ok(());
        }
        let next = self.lock().kinds.messages.records().next();
        let Some(next) = next else { return Ok(()) };
        // A sealed segment is read from its file alone.
        self.behind.messages.drain()?;
        let next = next.make()?;
        let sealed = self.lock().kinds.messages.records_mut().go_on_in(next);
        if let Some(sealed) = sealed {
            self.index_later(sealed);
        }
        Ok(())
    }

    /// Looks in the sealed segments, and among the claims, for what a run needs of them.
    pub(crate) fn look_for(&self, wanted: &Wanted, wait: Wait) -> Result<Known, StoreError> {
        self.look(wanted, wait, Lost::Wanted)
    }

    /// The same, where nobody gives what the disk has lost: of messages that are dropped nothing more is needed.
    pub(crate) fn look_past_what_is_dropped(&self, wanted: &Wanted) -> Result<Known, StoreError> {
        self.look(wanted, Wait::ForDisk, Lost::PassedOver)
    }

    fn look(&self, wanted: &Wanted, wait: Wait, lost: Lost) -> Result<Known, StoreError> {
        if wanted.is_empty() {
            return Ok(Known::default());
        }
        let (sealed, floor, places) = {
            let state = self.lock();
            let messages = &state.kinds.messages;
            let places = state.kinds.claims.records().places(&wanted.claims)?;
            (messages.records().sealed(), messages.removed().floor(), places)
        };
        let messages = segments::Known::of(&wanted.messages, &sealed, floor, wait, lost)?;
        Ok(Known { messages, claims: places.read(wait)? })
    }

    /// Applies a run of entries, of so many bytes: one outcome for each. What it appends can be read on return.
    pub(crate) fn apply<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        bytes: usize,
        known: Known,
    ) -> Result<Vec<CommandOutcome>, StoreError> {
        let mut ops = 0;
        let (mut outcomes, mut points) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        state.kinds.messages.records_mut().begin_run(bytes, known.messages);
        state.kinds.claims.records_mut().begin_run(known.claims);
        for entry in entries {
            outcomes.push(apply_entry(&mut state, entry)?);
            ops += outcomes.last().map_or(0, |outcome| outcome.outcomes.len());
            points.extend(state.point());
        }
        state.kinds.messages.records_mut().publish();
        state.kinds.claims.records_mut().publish();
        let CoreState { kinds, payloads, .. } = &mut *state;
        payloads.publish(kinds.tasks.heap_mut())?;
        let published = published_of(&state);
        drop(state);
        self.points.extend(points);
        self.metrics.ops_applied.fetch_add(ops as u64, Ordering::Relaxed);
        self.publish(published);
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
            && newest.age() >= captured.age()
        {
            return Ok(newest.clone());
        }
        self.behind.drain()?;
        let durable = current.as_ref().filter(|newest| newest.generation == captured.generation);
        let synced: HashSet<(FileKind, SegmentMeta)> =
            durable.iter().flat_map(|newest| newest.header.files()).collect();
        for (written, file) in captured.header.files().zip(&captured.files) {
            if !synced.contains(&written) {
                file.open()?.sync_data().map_err(StoreError::sync(file.path()))?;
            }
        }
        files::sync_dir(&Core::messages_dir(&self.config))?;
        files::sync_dir(&Core::claims_dir(&self.config))?;
        files::sync_dir(&Core::payloads_dir(&self.config))?;
        checkpoint::write(&Core::checkpoint_path(&self.config), captured.generation, &captured.header)?;
        self.set_current(captured.clone());
        let durable_upto = captured.header.last_seq();
        // Outside the lock: to close a file may wait for the disk.
        let (old, old_claims) = {
            let state = self.lock();
            let durable = captured.header.kinds.claims.next;
            (state.kinds.messages.records().old(durable_upto), state.kinds.claims.records().old(durable))
        };
        old.iter().for_each(|segment| segment.let_go());
        old_claims.iter().for_each(|file| file.let_go());
        captured.old_payloads().for_each(|file| file.let_go());
        self.remove_retired(&captured);
        self.metrics.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.metrics.checkpoint.observe(started.elapsed());
        Ok(captured)
    }

    /// Removes the files of segments that are gone and in the newest checkpoint no more.
    fn remove_retired(&self, newest: &Captured) {
        let kept = paths(&self.config, newest.generation, &newest.header).into_iter().collect();
        let (retired, claims, payloads) = {
            let mut state = self.lock();
            let retired = state.kinds.messages.records_mut().take_retired(&kept);
            let claims = state.kinds.claims.records_mut().take_retired(&kept);
            (retired, claims, state.payloads.take_retired(newest.payloads_retired))
        };
        for file in claims.into_iter().chain(payloads) {
            let removed = file.hold_for_readers().and_then(|()| segments::remove_if_there(file.path()));
            if let Err(error) = removed {
                tracing::warn!("a file that nobody needs stays on the disk: {error}");
            }
        }
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

    /// Replaces the whole state by a snapshot's. `place` puts the files, durable and indexed,
    /// under the given generation's names; it may be called again after a failure. The checkpoint
    /// that is written then decides at once between old and new. Blocks.
    pub(crate) fn install(
        &self,
        header: &SnapshotHeader,
        place: impl FnOnce(&[PathBuf]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.lock().kinds.messages.records().generation + 1;
        let mut header = header.clone();
        header.segments.iter_mut().chain(&mut header.payload_files).for_each(|file| file.sealed = true);
        place(&paths(&self.config, generation, &header))?;
        files::sync_dir(&Core::messages_dir(&self.config))?;
        files::sync_dir(&Core::claims_dir(&self.config))?;
        files::sync_dir(&Core::payloads_dir(&self.config))?;
        // Nothing is applied until it is done, or this node ends. Freed outside the lock.
        let given_up = self.lock().kinds.claims.records_mut().give_up_index();
        drop(given_up);
        let loaded = load(&self.config, generation, &header, &self.behind, &self.metrics)?;
        checkpoint::write(&Core::checkpoint_path(&self.config), generation, &header)?;
        let captured = capture(&loaded);
        let mut state = self.lock();
        let removals = state.kinds.messages.removals();
        let replaced = std::mem::replace(&mut *state, loaded);
        self.behind.forget();
        // To those who follow, any message may be gone now.
        state.kinds.messages.count_removals_from(removals + 1);
        let (published, point) = (published_of(&state), state.point());
        drop(state);
        self.points.restart(point);
        self.set_current(captured);
        self.publish(published);
        let (messages, claims) = known_files(&self.lock());
        // What it replaced is garbage now; a failure to remove it is made good at the next start.
        let removed = replaced
            .kinds
            .messages
            .records()
            .hold_for_readers()
            .and_then(|()| replaced.kinds.claims.records().hold_for_readers())
            .and_then(|()| replaced.payloads.hold_for_readers())
            .and_then(|()| remove_replaced(&self.config, &messages, &claims, generation));
        if let Err(error) = removed {
            tracing::warn!("cannot remove the replaced files: {error}");
        }
        Ok(())
    }

    /// Puts a copy, which is whole and durable, in the place of a file that does not grow; whether there still is
    /// such a file. Blocks.
    pub(crate) fn replace(&self, kind: RecordKind, path: &Path, copy: &Path) -> Result<bool, StoreError> {
        // Checkpoints and snapshots take files away: none may come back behind them.
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = {
            let state = self.lock();
            match kind {
                RecordKind::Messages => state.kinds.messages.records().sealed_file(path),
                RecordKind::Claims => state.kinds.claims.records().closed_file(path),
            }
        };
        let Some(file) = file else { return Ok(false) };
        fs::rename(copy, path).map_err(StoreError::io("rename", copy))?;
        let synced = files::sync_dir(path.parent().unwrap_or(Path::new(".")));
        if let Err(error @ StoreError::Sync { .. }) = &synced {
            self.health.fail(&error.to_string());
        }
        file.renew();
        synced.map(|()| true)
    }

    /// The claims before it are forgotten, also by what a crash goes back to.
    pub(crate) fn first_claim_needed(&self) -> u64 {
        let checkpoint = self.current().map_or(0, |last| last.header.kinds.claims.first);
        self.lock().kinds.claims.numbers().start.min(checkpoint)
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
