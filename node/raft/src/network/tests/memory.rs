//! A log and a state machine in memory: what the network carries, and no more.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use openraft::EntryPayload;
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::type_config::alias::SnapshotOf;
use skep_base::codec;
use skep_state::command::{CommandOutcome, Op, OpOutcome};

use crate::network::SnapshotSource;
use crate::peers::SnapshotChunks;
use crate::serve::SnapshotAssembler;
use crate::types::{Entry, LogId, StoredMembership, TypeConfig, Vote};
use crate::wire::SnapshotMeta;

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<LogInner>>);

#[derive(Default)]
struct LogInner {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + std::fmt::Debug + Send>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.0.lock().unwrap().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().unwrap().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.0.lock().unwrap();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.0.lock().unwrap().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        self.0.lock().unwrap().entries.extend(entries);
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.0.lock().unwrap().entries.split_off(&from);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = self.0.lock().unwrap();
        log.purged = Some(upto);
        log.entries = log.entries.split_off(&(upto.index + 1));
        Ok(())
    }
}

/// How much was written, and in which order.
#[derive(Clone, Default, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct State {
    pub texts: Vec<Bytes>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

#[derive(Clone, Default)]
pub struct Machine(pub Arc<Mutex<State>>);

#[derive(Debug)]
pub struct MemorySnapshot(Bytes);

impl SnapshotSource for MemorySnapshot {
    fn into_chunks(self) -> SnapshotChunks {
        let chunks: Vec<_> = self.0.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        futures_util::stream::iter(chunks).boxed()
    }
}

pub struct Collect;

impl SnapshotAssembler for Collect {
    type Snapshot = MemorySnapshot;

    fn assemble(&self, chunks: SnapshotChunks) -> BoxFuture<'static, io::Result<MemorySnapshot>> {
        let bytes = chunks.try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
        bytes.map_ok(|bytes| MemorySnapshot(bytes.into())).boxed()
    }
}

trait MapOk<T>: Sized + Future<Output = io::Result<T>> + Send + 'static {
    fn map_ok<U>(
        self,
        f: impl FnOnce(T) -> U + Send + 'static,
    ) -> impl Future<Output = io::Result<U>> + Send {
        self.map(|result| result.map(f))
    }
}
impl<T, F: Future<Output = io::Result<T>> + Send + 'static> MapOk<T> for F {}

impl Machine {
    fn snapshot(&self) -> io::Result<SnapshotOf<TypeConfig, MemorySnapshot>> {
        let state = self.0.lock().unwrap();
        let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone() };
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot: MemorySnapshot(codec::encode(&*state)?.into()) })
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = MemorySnapshot;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, MemorySnapshot>> {
        self.snapshot()
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = MemorySnapshot;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.0.lock().unwrap();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut outcome = CommandOutcome::default();
            {
                let mut state = self.0.lock().unwrap();
                state.applied = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Membership(membership) => {
                        state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    }
                    EntryPayload::Normal(command) => {
                        for op in command.ops.iter() {
                            let Op::WriteText { text, .. } = op else { continue };
                            state.texts.push(text.clone());
                            outcome.outcomes.push(OpOutcome::Text { version: state.texts.len() as u64 });
                        }
                    }
                }
            }
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: MemorySnapshot) -> io::Result<()> {
        let state: State = codec::decode(&snapshot.0)?;
        assert_eq!(state.applied, meta.last_log_id);
        *self.0.lock().unwrap() = state;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, MemorySnapshot>>> {
        self.snapshot().map(Some)
    }
}
