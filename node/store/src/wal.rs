//! The write-ahead log: entries, vote and committed index, durable by group commit.
//!
//! Callers encode records into one pending batch under a short lock. One thread ([`writer`]) takes
//! the batch, writes it, syncs it once and reports to all who wait for it; what arrives meanwhile
//! is the next batch. Where each record will lie, and so when a segment is full, is decided when it
//! is encoded, which keeps the order of votes, entries, truncations and purges that of the calls.
//!
//! All methods but [`Wal::room`] are synchronous and never wait for the disk.

pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod state;
pub(crate) mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use skep_base::codec;
use skep_base::id::ClusterId;
use tokio::sync::{Notify, oneshot};

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::health::{HealthSender, StoreMetrics};
use crate::wal::record::Kind;
use skep_raft::types::{Entry, LogId, TypeConfig, Vote};
use state::Waiter;
pub(crate) use state::{Slot, State};

pub(crate) struct Shared {
    pub dir: PathBuf,
    pub config: StoreConfig,
    pub state: Mutex<State>,
    /// Told when there is work for the writer.
    pub work: Condvar,
    /// Told when the pending bytes have become fewer.
    pub room: Notify,
    pub stop: AtomicBool,
    pub health: Arc<HealthSender>,
    pub metrics: Arc<StoreMetrics>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open log. The last clone to go stops the writer and waits for it.
#[derive(Clone)]
pub(crate) struct Wal {
    shared: Arc<Shared>,
    _stopper: Arc<Stopper>,
}

struct Stopper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's writer panicked");
        }
    }
}

impl Wal {
    /// Opens the log in `dir` and starts its writer.
    pub(crate) fn open(
        config: &StoreConfig,
        health: Arc<HealthSender>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Wal, StoreError> {
        let dir = config.dir.join("log");
        crate::files::ensure_dir(&dir)?;
        segment::begin(&dir, ClusterId::random().0 as u64)?;
        let state = replay::replay(&dir, config)?;
        let shared = Arc::new(Shared {
            dir,
            config: config.clone(),
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Notify::new(),
            stop: AtomicBool::new(false),
            health,
            metrics,
        });
        let thread = std::thread::Builder::new()
            .name("skep-log".into())
            .spawn({
                let shared = shared.clone();
                move || writer::run(&shared)
            })
            .map_err(StoreError::io("start the writer of", &shared.dir))?;
        let stopper = Stopper { shared: shared.clone(), thread: Mutex::new(Some(thread)) };
        Ok(Wal { shared, _stopper: Arc::new(stopper) })
    }

    pub(crate) fn config(&self) -> &StoreConfig {
        &self.shared.config
    }

    /// A short look at the log.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.lock())
    }

    /// Waits until the pending batch is below its limit. Cancel-safe.
    pub(crate) async fn room(&self) -> Result<(), io::Error> {
        loop {
            let notified = self.shared.room.notified();
            {
                let state = self.shared.lock();
                state.alive()?;
                if state.pending.bytes < self.shared.config.log_pending_bytes_max {
                    return Ok(());
                }
            }
            notified.await;
        }
    }

    /// Appends entries: readable on return, durable when the callback is called.
    pub(crate) fn append(
        &self,
        entries: impl Iterator<Item = Entry>,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error> {
        self.change(|state, config| {
            for entry in entries {
                state.append_entry(entry, config)?;
            }
            state.evict(config);
            state.pending.waiters.push(Waiter::Openraft(callback));
            Ok(())
        })
    }

    /// Saves the vote; what comes back resolves when it is durable.
    pub(crate) fn save_vote(&self, vote: &Vote) -> Result<Flushed, io::Error> {
        self.change(|state, config| {
            state.push(Kind::Vote, config, |bytes| codec::encode_into(vote, bytes))?;
            state.vote = Some(*vote);
            Ok(state.flushed())
        })
    }

    /// Resolves when everything so far is durable.
    pub(crate) fn flush(&self) -> Result<Flushed, io::Error> {
        self.change(|state, _| Ok(state.flushed()))
    }

    /// Remembers the committed log id. It is written with a later batch, or soon, never by itself
    /// at once: losing it costs a replay nothing but waiting for the leader's word.
    pub(crate) fn save_committed(&self, committed: Option<LogId>) {
        let mut state = self.shared.lock();
        state.committed = committed;
        state.committed_dirty = true;
    }

    /// In memory: what is known to be committed is what the leader says from now on.
    pub(crate) fn forget_committed(&self) {
        self.shared.lock().committed = None;
    }

    /// Drops the entries after `last`.
    pub(crate) fn truncate_after(&self, last: Option<LogId>) -> Result<(), io::Error> {
        self.change(|state, config| {
            state.push(Kind::Truncate, config, |bytes| codec::encode_into(&last, bytes))?;
            state.pending.sync = true;
            state.drop_after(last);
            Ok(())
        })
    }

    /// Drops the entries up to `upto`; their segments go when that is durable.
    pub(crate) fn purge(&self, upto: LogId) -> Result<(), io::Error> {
        self.change(|state, config| {
            if state.purged.is_some_and(|purged| purged.index >= upto.index) {
                return Ok(());
            }
            state.push(Kind::Purge, config, |bytes| codec::encode_into(&upto, bytes))?;
            state.pending.sync = true;
            state.drop_upto(upto);
            let first_needed = state.slots.front().map_or(state.tail.segment, |slot| u64::from(slot.segment));
            state.pending.retire_below = Some(first_needed);
            Ok(())
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut State, &StoreConfig) -> Result<T, io::Error>,
    ) -> Result<T, io::Error> {
        let mut state = self.shared.lock();
        state.alive()?;
        let result = change(&mut state, &self.shared.config);
        self.shared.metrics.log_pending_bytes.store(state.pending.bytes as u64, Ordering::Relaxed);
        drop(state);
        self.shared.work.notify_one();
        result
    }
}

/// Resolves when what it was made for is durable.
pub(crate) struct Flushed(oneshot::Receiver<Result<(), io::Error>>);

impl Flushed {
    pub(crate) async fn wait(self) -> Result<(), io::Error> {
        self.0.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer has stopped")))
    }
}
