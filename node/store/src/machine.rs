//! The state machine as openraft sees it.
//!
//! Small runs of entries are applied on the runtime's thread, which is that of consensus: they cost less than
//! handing them to another, and wait for no disk. Large ones, and whatever has to come from the disk, go to
//! blocking threads, as do checkpoints and snapshots. A full disk is waited out without holding any thread. Only openraft's state machine task calls [`StateMachine`], one call
//! at a time and each to its end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use crate::core::{Captured, Core};
use crate::error::StoreError;
use crate::mover::Moving;
use crate::run::{Known, Touched, Wanted};
use crate::segments::Wait;
use crate::snapshot::{Snapshot, SnapshotData};
use crate::wal::Wal;
use skep_raft::types::{Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// A run of entries that is applied at once takes no further one when it has this many bytes.
const RUN_BYTES_MAX: usize = 1024 * 1024;
/// Or this many entries.
const RUN_ENTRIES_MAX: usize = 1024;

/// For how long what a run needs of the disk, and cannot be read, may be mended; then the node stops.
const MEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const MEND_INTERVAL: Duration = Duration::from_millis(500);

/// Applies committed entries to the messages and registers.
pub struct StateMachine {
    core: Arc<Core>,
    wal: Wal,
    _moving: Moving,
}

impl std::fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StateMachine").field(&self.core.config.dir).finish()
    }
}

/// Turns the state of the moment when it was made into a checkpoint.
pub struct SnapshotBuilder {
    core: Arc<Core>,
    wal: Wal,
    captured: Captured,
}

#[derive(Default)]
struct Run {
    entries: Vec<Entry>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
    touched: Touched,
    wanted: Wanted,
}

impl Run {
    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        if let EntryPayload::Normal(command) = &entry.payload {
            self.bytes += command.size_estimate();
            for op in &*command.ops {
                self.touched.note(op);
                self.wanted.note(op);
            }
        }
        self.entries.push(entry);
        self.responders.push(responder);
    }

    fn is_full(&self) -> bool {
        self.bytes >= RUN_BYTES_MAX || self.entries.len() >= RUN_ENTRIES_MAX
    }
}

impl StateMachine {
    pub(crate) fn new(core: Arc<Core>, wal: Wal, moving: Moving) -> StateMachine {
        StateMachine { core, wal, _moving: moving }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    async fn apply_run(&self, run: Run) -> Result<(), StoreError> {
        if run.entries.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let touched = run.touched;
        if touched != Touched::default() {
            let Touched { messages, claims, tasks, level } = touched;
            self.core.behind.room(messages, claims || level, tasks || level).await?;
            if self.core.wants_to_begin(touched) {
                self.while_full(move |core| core.begin(touched)).await?;
            }
        }
        let Run { entries, responders, bytes, wanted, .. } = run;
        let known = self.look_for(wanted).await?;
        let apply = move |core: &Core| core.apply(entries.iter(), bytes, known);
        // By the level, many claims may become records.
        let is_small = bytes <= self.core.config.apply_inline_bytes_max && !touched.level;
        let outcomes = if is_small { apply(&self.core)? } else { self.on_thread(apply).await? };
        for (responder, outcome) in responders.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        self.core.metrics.apply.observe(started.elapsed());
        Ok(())
    }

    /// What a run needs of the disk: at once where it is in memory, else by a thread that may wait.
    async fn look_for(&self, wanted: Wanted) -> Result<Known, StoreError> {
        if !wanted.is_long() {
            match self.core.look_for(&wanted, Wait::Never) {
                Err(StoreError::WouldWait) => {}
                // It is tried again below.
                Err(error) if error.rotten_path().is_some() => {}
                known => return known,
            }
        }
        self.core.metrics.reads_elsewhere.fetch_add(1, Ordering::Relaxed);
        let wanted = Arc::new(wanted);
        // One for all that the run needs.
        let mut deadline = None;
        let mut last = None;
        loop {
            let again = wanted.clone();
            let found = self.while_full(move |core| core.look_for(&again, Wait::ForDisk)).await;
            // What a disk has lost, another node may have.
            let rotten = found.as_ref().err().and_then(StoreError::rotten_path).map(Path::to_path_buf);
            let Some(path) = rotten.filter(|_| !self.core.suspects.is_mended_by_nobody()) else {
                return found;
            };
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + MEND_TIMEOUT);
            let is_mended = self.core.suspects.mended_until(&path, deadline).await;
            // Where it is sound and cannot be read all the same, nothing is won by asking at once.
            if !is_mended || last.replace(path.clone()).is_some_and(|last| last == path) {
                if tokio::time::Instant::now() + MEND_INTERVAL >= deadline {
                    // Others may have dropped it by now, and then nobody gives it any more.
                    tracing::error!(file = %path.display(), "nobody gives what the disk has lost of it");
                    return self.while_full(move |core| core.look_past_what_is_dropped(&wanted)).await;
                }
                tokio::time::sleep(MEND_INTERVAL).await;
            }
        }
    }

    /// Takes a step, which may wait for the disk, until the disk has room for it.
    async fn while_full<T: Send + 'static>(
        &self,
        step: impl Fn(&Core) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let step = Arc::new(step);
        let mut full = false;
        loop {
            let step = step.clone();
            match self.on_thread(move |core| step(core)).await {
                Err(error) if error.is_full() => {
                    if !full {
                        tracing::warn!("{error}; applying waits");
                        full = true;
                    }
                    self.core.set_lack(error.lack());
                    tokio::time::sleep(self.core.config.full_retry_interval).await;
                }
                result => {
                    if full {
                        tracing::info!("the messages can be written again");
                        self.core.set_lack(None);
                    }
                    return result;
                }
            }
        }
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        on_thread(&self.core, work).await
    }

    fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder { core: self.core.clone(), wal: self.wal.clone(), captured: self.core.capture() }
    }
}

pub(crate) async fn on_thread<T: Send + 'static>(
    core: &Arc<Core>,
    work: impl FnOnce(&Core) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let core = core.clone();
    let done = tokio::task::spawn_blocking(move || work(&core)).await;
    done.unwrap_or_else(|error| Err(StoreError::Stopped(error.to_string())))
}

fn snapshot_of(captured: Captured) -> Snapshot {
    Snapshot { meta: captured.header.meta(), snapshot: SnapshotData::of(captured) }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // An entry may be applied before its own log has it on disk. A checkpoint that is ahead of
        // the log after a crash would meet another entry in the log at its own index.
        self.wal.flush()?.wait().await?;
        loop {
            let captured = self.captured.clone();
            match on_thread(&self.core, |core| core.write_checkpoint(captured)).await {
                Ok(written) => return Ok(snapshot_of(written)),
                Err(error) if error.is_full() => {
                    tracing::warn!("{error}; the checkpoint waits");
                    tokio::time::sleep(self.core.config.full_retry_interval).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.core.lock();
        Ok((state.last_applied, state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut run = Run::default();
        while let Some(entry) = entries.next().await {
            run.push(entry?);
            if run.is_full() {
                self.apply_run(std::mem::take(&mut run)).await.map_err(|error| self.failed(error))?;
                // A long catch-up must let others run on the same thread.
                tokio::task::yield_now().await;
            }
        }
        self.apply_run(run).await.map_err(|error| self.failed(error))
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        if *meta != snapshot.header().meta() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the snapshot is of {}, not of {meta}", snapshot.header().meta()),
            ));
        }
        let snapshot = Arc::new(snapshot);
        self.while_full(move |core| core.install(snapshot.header(), |paths| snapshot.place(paths)))
            .await
            .map_err(|error| self.failed(error))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.core.current().map(snapshot_of))
    }
}

impl StateMachine {
    fn failed(&self, error: StoreError) -> io::Error {
        tracing::error!("the state machine has failed: {error}");
        self.core.health.fail(&error.to_string());
        error.into()
    }
}
