//! The log's one writing thread: it takes the pending batch, writes it, syncs it once, and tells
//! everyone who waits for it. What arrives meanwhile is the next batch: group commit.
//!
//! A full, over-quota or read-only disk is waited out with the batch in hand. Any other failed
//! write, and every failed sync, ends the log for good: after a failed fsync the kernel may have
//! dropped the pages, so a second one that succeeds would prove nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::StoreError;
use crate::error::lack;
use crate::health::Writer as Who;
use crate::room;
use crate::wal::record::{self, END, HEADER_BYTES};
use crate::wal::state::{Batch, Chunk, Spare};
use crate::wal::{Shared, segment};

/// A committed index that came after the last batch is written by itself after at most this.
const COMMITTED_DELAY_MAX: Duration = Duration::from_millis(200);

pub(crate) fn run(shared: &Arc<Shared>) {
    let mut writer = Writer { shared, file: None, synced: 0, dirty: false, preparing: None, prepared_for: 0 };
    while let Some(batch) = writer.next_batch() {
        if let Err(error) = writer.process(batch) {
            writer.fail(&error);
            break;
        }
        writer.prepare_spare();
    }
    if let Some(preparing) = writer.preparing.take() {
        // Its failure was logged by itself.
        drop(preparing.join());
    }
}

struct Writer<'a> {
    shared: &'a Arc<Shared>,
    file: Option<(u64, Arc<File>)>,
    /// How far the present segment is durable.
    synced: u64,
    /// The present segment has bytes that are not.
    dirty: bool,
    preparing: Option<JoinHandle<()>>,
    /// The segment during which the spare was last tried, so that a full disk is tried but once.
    prepared_for: u64,
}

impl Writer<'_> {
    fn next_batch(&mut self) -> Option<Batch> {
        let mut state = self.shared.lock();
        loop {
            let due = state.committed_dirty;
            if due && (state.stop || state.has_work()) {
                state.push_committed(&self.shared.config);
            }
            if let Some(batch) = state.take_batch() {
                self.shared.metrics.log_pending_bytes.store(0, Ordering::Relaxed);
                return Some(batch);
            }
            if state.stop {
                return None;
            }
            let (guard, timeout) = self
                .shared
                .work
                .wait_timeout(state, COMMITTED_DELAY_MAX)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() && due && state.committed_dirty {
                state.push_committed(&self.shared.config);
            }
        }
    }

    fn process(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let mut end = None;
        let mut bytes = 0;
        for chunk in &mut batch.chunks {
            end = Some((chunk.segment, chunk.offset + chunk.bytes.len() as u64));
            bytes += chunk.bytes.len();
            if let Err(error) = self.write_chunk(chunk) {
                self.complete(&mut batch, Err(&error));
                return Err(error);
            }
        }
        if batch.sync
            && let Err(error) = self.sync(end.map(|(_, offset)| offset))
        {
            self.complete(&mut batch, Err(&error));
            return Err(error);
        }
        self.complete(&mut batch, Ok(()));
        let metrics = &self.shared.metrics;
        metrics.log_batches.fetch_add(1, Ordering::Relaxed);
        metrics.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        {
            let mut state = self.shared.lock();
            if let Some(end) = end {
                state.written = end;
            }
            state.evict(&self.shared.config);
            if let Some(chunk) = batch.chunks.pop() {
                state.give_back(chunk.bytes);
            }
        }
        self.shared.room.notify_waiters();
        if let Some(number) = batch.retire_below {
            self.retire_below(number);
        }
        Ok(())
    }

    fn complete(&self, batch: &mut Batch, result: Result<(), &StoreError>) {
        for waiter in batch.waiters.drain(..) {
            waiter.complete(result.map_err(|error| {
                let kind = match error {
                    StoreError::Io { source, .. } | StoreError::Sync { source, .. } => source.kind(),
                    _ => io::ErrorKind::Other,
                };
                io::Error::new(kind, error.to_string())
            }));
        }
    }

    fn write_chunk(&mut self, chunk: &mut Chunk) -> Result<(), StoreError> {
        let skip = match chunk.create {
            Some(new) => {
                // The one before must be whole before its successor says that it is.
                self.sync(None)?;
                let dir = &self.shared.dir;
                let file = self
                    .while_full(|| segment::create(dir, chunk.segment, chunk.salt, new.bytes, new.spare))?;
                if new.spare {
                    self.shared.lock().spare = Spare::Absent;
                }
                self.use_file(chunk.segment, Arc::new(file));
                self.synced = HEADER_BYTES as u64;
                HEADER_BYTES
            }
            None => 0,
        };
        let file = self.file_of(chunk.segment)?;
        record::fill_heads(&mut chunk.bytes, skip, chunk.salt, chunk.offset, self.synced as u32);
        // The end mark goes with the batch and is no part of it: the next one overwrites it.
        let len = chunk.bytes.len();
        chunk.bytes.extend_from_slice(&END);
        let mut done = 0;
        let path = segment::path_of(&self.shared.dir, chunk.segment);
        self.while_full(|| {
            while done < chunk.bytes.len() {
                match file.write_at(&chunk.bytes[done..], chunk.offset + done as u64) {
                    Ok(0) => return Err(StoreError::io("write", &path)(io::ErrorKind::WriteZero.into())),
                    Ok(written) => done += written,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(StoreError::io("write", &path)(error)),
                }
            }
            Ok(())
        })?;
        chunk.bytes.truncate(len);
        self.dirty = true;
        Ok(())
    }

    fn use_file(&mut self, number: u64, file: Arc<File>) {
        self.shared.lock().files.insert(number, file.clone());
        self.file = Some((number, file));
    }

    fn file_of(&mut self, number: u64) -> Result<Arc<File>, StoreError> {
        if let Some((present, file)) = &self.file
            && *present == number
        {
            return Ok(file.clone());
        }
        let path = segment::path_of(&self.shared.dir, number);
        let file = self.shared.lock().files.get(&number).cloned();
        let file = file.ok_or_else(|| StoreError::io("find", &path)(io::ErrorKind::NotFound.into()))?;
        self.synced = file.metadata().map_err(StoreError::io("examine", &path))?.len();
        self.file = Some((number, file.clone()));
        Ok(file)
    }

    /// Makes the present segment durable; `end` is where its records end.
    fn sync(&mut self, end: Option<u64>) -> Result<(), StoreError> {
        let Some((number, file)) = &self.file else { return Ok(()) };
        if self.dirty {
            let started = Instant::now();
            let path = segment::path_of(&self.shared.dir, *number);
            (self.shared.config.sync_data.0)(file).map_err(StoreError::sync(&path))?;
            self.shared.metrics.log_sync.observe(started.elapsed());
            self.dirty = false;
        }
        if let Some(end) = end {
            self.synced = end;
        }
        Ok(())
    }

    /// Repeats what the disk has no room for until it has, or the store is closed.
    fn while_full<T>(&self, mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut full = false;
        loop {
            match attempt() {
                Err(StoreError::Io { action, path, source }) if lack(&source).is_some() => {
                    if !full {
                        tracing::warn!("cannot {action} {}: {source}; writes wait", path.display());
                        full = true;
                    }
                    self.shared.health.set_lack(Who::Log, lack(&source));
                    let state = self.shared.lock();
                    if state.stop {
                        return Err(StoreError::Io { action, path, source });
                    }
                    drop(self.shared.work.wait_timeout_while(
                        state,
                        self.shared.config.full_retry_interval,
                        |state| !state.stop,
                    ));
                }
                result => {
                    if full {
                        tracing::info!("the log can be written again");
                        self.shared.health.set_lack(Who::Log, None);
                    }
                    return result;
                }
            }
        }
    }

    /// Removes segments that are not needed, oldest first: what is left is always a tail of the log.
    fn retire_below(&mut self, number: u64) {
        let gone: Vec<u64> = self.shared.lock().files.range(..number).map(|(number, _)| *number).collect();
        let dir = &self.shared.dir;
        let bytes = self.shared.config.log_segment_bytes_max;
        for number in gone {
            let wanted = self.preparing.is_none() && self.shared.lock().spare == Spare::Absent;
            match segment::retire(dir, number, wanted, bytes) {
                Ok(spare) => {
                    let mut state = self.shared.lock();
                    let closed = state.files.remove(&number);
                    if spare {
                        state.spare = Spare::Ready;
                    }
                    drop(state);
                    // Its last close frees what the file had on the disk, which takes a while.
                    drop(closed);
                }
                Err(error) => {
                    // It takes room, and no more: the next purge tries again.
                    tracing::warn!("a purged log segment stays: {error}");
                    return;
                }
            }
        }
    }

    /// Sees to it that a spare is at hand before the present segment is full.
    fn prepare_spare(&mut self) {
        if self.preparing.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(preparing) = self.preparing.take()
        {
            drop(preparing.join());
        }
        let bytes = self.shared.config.log_segment_bytes_max;
        let segment = {
            let state = self.shared.lock();
            let near_full = state.tail.offset > state.tail.capacity / 4;
            if state.spare != Spare::Absent || state.stop || !near_full {
                return;
            }
            state.tail.segment
        };
        // On a disk that is nearly full a segment is made when it is needed, as large as what is written.
        if self.preparing.is_some()
            || self.prepared_for == segment
            || !room::is_ample(&self.shared.dir, bytes)
        {
            return;
        }
        self.prepared_for = segment;
        let shared = self.shared.clone();
        let work = move || match segment::make_spare(&shared.dir, bytes, &shared.stop) {
            Ok(true) => shared.lock().spare = Spare::Ready,
            Ok(false) => {}
            // The next sync of the folder would say nothing of this one.
            Err(error @ StoreError::Sync { .. }) => shared.health.fail(&error.to_string()),
            Err(error) => tracing::debug!("no spare log segment: {error}"),
        };
        self.preparing = std::thread::Builder::new().name("skep-log-spare".into()).spawn(work).ok();
    }

    fn fail(&self, error: &StoreError) {
        let reason = error.to_string();
        let mut batch = {
            let mut state = self.shared.lock();
            if state.stop && error.is_full() {
                tracing::warn!("closing with records unwritten: {reason}");
            } else {
                tracing::error!("the log has failed: {reason}");
                self.shared.health.fail(&reason);
            }
            state.failed = Some(reason);
            std::mem::take(&mut state.pending)
        };
        self.complete(&mut batch, Err(error));
        self.shared.room.notify_waiters();
    }
}
