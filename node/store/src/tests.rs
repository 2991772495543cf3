//! The store as a whole, in folders of its own.

mod claims;
mod crash;
mod descriptors;
mod durability;
mod full;
mod gateway;
mod hashes;
mod log;
mod measures;
mod mend;
mod mends;
mod messages;
mod model;
mod payloads;
mod removal;
mod snapshot;
mod suite;
mod tasks;
mod types;

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use openraft::storage::{
    RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::{EntryPayload, Membership};
use skep_base::id::RequestId;
use skep_state::command::{ClaimKey, Command, Op};
use skep_state::message::{Digest, StoredMessage};

use crate::snapshot::Snapshot;
use crate::{Store, StoreConfig, StoreError, open};
use skep_raft::types::{Entry, LogId};

/// Limits so small that everything has many parts.
fn small(dir: &Path) -> StoreConfig {
    StoreConfig {
        log_segment_bytes_max: 4096,
        log_cache_bytes_max: 2048,
        message_segment_bytes_max: 2048,
        message_segments_held_max: 2,
        claim_file_claims_max: 16,
        payload_file_bytes_max: 2048,
        payload_move_interval: std::time::Duration::from_secs(3600),
        watches_room: false,
        full_retry_interval: std::time::Duration::from_millis(5),
        ..StoreConfig::new(dir)
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
}

fn put(body: impl Into<Bytes>) -> Op {
    put_by(1, body)
}

fn put_by(nonce: u64, body: impl Into<Bytes>) -> Op {
    let body = body.into();
    Op::PutMessage {
        digest: Digest::of(&body),
        content_type: "text/plain".into(),
        body,
        time_ms: 1000,
        nonce,
    }
}

fn text(request: u128, text: &'static str) -> Op {
    Op::WriteText { request: RequestId(request), text: text.into(), time_ms: 2000 }
}

fn normal(term: u64, index: u64, ops: Vec<Op>) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Command::new(ops)) }
}

fn membership(term: u64, index: u64, voters: &[u64]) -> Entry {
    let voters = voters.iter().copied().collect();
    let membership = Membership::new_with_defaults(vec![voters], []);
    Entry { log_id: log_id(term, index), payload: EntryPayload::Membership(membership) }
}

/// Entries of one message each, from an index on.
fn puts(term: u64, indexes: impl Iterator<Item = u64>) -> Vec<Entry> {
    indexes.map(|index| normal(term, index, vec![put(format!("message {index} of term {term}"))])).collect()
}

impl Store {
    async fn append(&mut self, entries: Vec<Entry>) {
        self.log.blocking_append(entries).await.unwrap();
    }

    async fn apply(&mut self, entries: Vec<Entry>) {
        let entries = stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
        self.state_machine.apply(entries).await.unwrap();
    }

    async fn entries(&mut self) -> Vec<Entry> {
        self.log.get_log_reader().await.try_get_log_entries(..).await.unwrap()
    }

    async fn checkpoint(&mut self) -> Snapshot {
        self.state_machine.try_create_snapshot_builder(true).await.unwrap().build_snapshot().await.unwrap()
    }

    fn messages(&self) -> Vec<StoredMessage> {
        self.reader.page(0, usize::MAX, usize::MAX).unwrap()
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            // The store's own threads may take a purged or half-made file away meanwhile.
            match std::fs::copy(entry.path(), to) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

fn files_in(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_folder_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(small(dir.path())).unwrap());
    std::fs::write(dir.path().join("format"), "skep store 99\n").unwrap();
    let error = open(small(dir.path())).unwrap_err();
    assert!(matches!(&error, StoreError::Format { .. }), "{error}");
    assert!(error.to_string().contains("skep store 99"), "{error}");
}
