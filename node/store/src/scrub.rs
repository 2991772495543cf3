//! Reading again what was written long ago: a disk may lose bits, and of a record that nobody asks for it
//! shows only when it is the last copy.
//!
//! The log is read and checked whole at each start; here it is about the messages' segments and the claims' files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::checkpoint;
use crate::claims;
use crate::config::StoreConfig;
use crate::core::Core;
use crate::error::StoreError;
use crate::manifest::RecordKind;
use crate::payloads::file as payloads;
use crate::reader::Reader;
use crate::segments::{SegmentMeta, open_checked, scan, segment_path};

/// What a look at all segments of a folder came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// Those of the last checkpoint that are as they were written.
    pub segments: u64,
    pub messages: u64,
    /// Files of claims.
    pub claim_files: u64,
    pub bytes: u64,
    /// What is wrong with the others.
    pub rotten: Vec<StoreError>,
}

/// Reads every message of the last checkpoint in the folder of a stopped node; what came after it is in the log,
/// which is read at the next start. Changes nothing. Blocks.
pub fn verify(dir: &Path) -> Result<Verified, StoreError> {
    let config = StoreConfig::new(dir);
    let mut verified = Verified::default();
    let Some(checkpoint) = checkpoint::read(&Core::checkpoint_path(&config))? else { return Ok(verified) };
    for meta in checkpoint.header.segments {
        let path = segment_path(&Core::messages_dir(&config), checkpoint.generation, meta.first_seq);
        match check(RecordKind::Messages, &path, meta, 0) {
            Ok(()) => {
                verified.segments += 1;
                verified.messages += meta.count;
                verified.bytes += meta.len;
            }
            Err(error) => verified.rotten.push(error),
        }
    }
    for meta in &checkpoint.header.payload_files {
        let dir = Core::payloads_dir(&config);
        // A header that has another number is refused.
        let path = payloads::path(&dir, checkpoint.generation, meta.first_seq as u32);
        match payloads::check_places(&path, *meta, &checkpoint.header.kinds.tasks) {
            Ok(()) => verified.bytes += meta.len,
            Err(error) => verified.rotten.push(error),
        }
    }
    let first = checkpoint.header.kinds.claims.first;
    for meta in checkpoint.header.claim_files {
        let path = claims::file::path(&Core::claims_dir(&config), checkpoint.generation, meta.first_seq);
        match check(RecordKind::Claims, &path, meta, first) {
            Ok(()) => {
                verified.claim_files += 1;
                verified.bytes += meta.len;
            }
            Err(error) => verified.rotten.push(error),
        }
    }
    Ok(verified)
}

/// Reads and checks every record of a file; of claims, those that count: from a number on.
pub(crate) fn check(
    kind: RecordKind,
    path: &Path,
    meta: SegmentMeta,
    first_claim: u64,
) -> Result<(), StoreError> {
    if kind == RecordKind::Claims {
        return claims::file::check(path, meta, first_claim);
    }
    let file = open_checked(path, meta)?;
    // What the disk has is asked for, and not what the kernel remembers.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    scan(&file, path, meta).map(drop)
}

/// Goes round the files of a running store that do not grow any more, one at each step: the messages' segments, then
/// the claims' files.
pub struct Scrub {
    reader: Reader,
    /// The file that was read last.
    last: Option<Id>,
    /// Files that are not as they were written: in this round, and in the one before.
    found: BTreeSet<Id>,
    known: BTreeSet<Id>,
}

/// A file's kind and the number of its first record.
type Id = (RecordKind, u64);

/// A file that does not grow any more, and is not as it was written, or is suspected of that.
#[derive(Debug, Clone)]
pub struct Rotten {
    pub(crate) kind: RecordKind,
    pub(crate) path: PathBuf,
    pub(crate) meta: SegmentMeta,
}

impl Rotten {
    /// The file of this path; none where the store has no such file that does not grow.
    pub fn find(reader: &Reader, path: &Path) -> Option<Rotten> {
        let mut last = None;
        while let Some(file) = after(reader, last) {
            if file.path == path {
                return Some(file);
            }
            last = Some(file.id());
        }
        None
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn id(&self) -> Id {
        (self.kind, self.meta.first_seq)
    }
}

impl Scrub {
    pub fn new(reader: Reader) -> Self {
        Self { reader, last: None, found: BTreeSet::new(), known: BTreeSet::new() }
    }

    /// Reads the next file; what is wrong with it, where it was not known before. Blocks.
    pub fn step(&mut self) -> Option<StoreError> {
        let Some(next) = after(&self.reader, self.last) else {
            // What is not there any more, or is well again, is known no more.
            self.known = std::mem::take(&mut self.found);
            self.count_rotten();
            self.last = None;
            return None;
        };
        let found = check(next.kind, &next.path, next.meta, self.reader.core().first_claim_needed());
        let is_rotten = match &found {
            // Dropped meanwhile, or lost.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                after(&self.reader, self.last).is_some_and(|there| there.path == next.path)
            }
            Err(error) => error.rotten_path().is_some(),
            Ok(()) => false,
        };
        self.last = Some(next.id());
        self.reader.core().metrics.segments_checked.fetch_add(1, Ordering::Relaxed);
        if !is_rotten {
            return None;
        }
        let is_news = self.note(&next);
        found.err().filter(|_| is_news)
    }

    /// This file is not as it was written; whether that was not known before.
    pub fn note(&mut self, rotten: &Rotten) -> bool {
        self.found.insert(rotten.id());
        let is_news = self.known.insert(rotten.id());
        self.count_rotten();
        is_news
    }

    /// It is well again.
    pub fn forget(&mut self, rotten: &Rotten) {
        self.found.remove(&rotten.id());
        self.known.remove(&rotten.id());
        self.count_rotten();
    }

    /// The files that are known not to be as they were written, and are still there.
    pub fn rotten(&self) -> Vec<Rotten> {
        let mut rotten = Vec::new();
        let mut last = None;
        while !self.known.is_empty()
            && let Some(file) = after(&self.reader, last)
        {
            last = Some(file.id());
            if self.known.contains(&file.id()) {
                rotten.push(file);
            }
        }
        rotten
    }

    fn count_rotten(&self) {
        self.reader.core().metrics.segments_rotten.store(self.known.len() as u64, Ordering::Relaxed);
    }
}

/// The file that does not grow and comes behind another.
fn after(reader: &Reader, last: Option<Id>) -> Option<Rotten> {
    let state = reader.core().lock();
    let claims = |number| {
        let (path, meta) = state.kinds.claims.records().closed_after(number)?;
        Some(Rotten { kind: RecordKind::Claims, path, meta })
    };
    let first_seq = match last {
        Some((RecordKind::Claims, first)) => return claims(Some(first)),
        Some((RecordKind::Messages, first_seq)) => first_seq,
        None => 0,
    };
    match state.kinds.messages.records().sealed_after(first_seq) {
        Some((segment, meta)) => {
            Some(Rotten { kind: RecordKind::Messages, path: segment.path().to_path_buf(), meta })
        }
        None => claims(None),
    }
}
