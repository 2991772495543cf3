//! Reading again what was written long ago: a disk may lose bits, and of a record that nobody asks for it
//! shows only when it is the last copy.
//!
//! The log is read and checked whole at each start; here it is about the messages' segments and the claims' files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use skep_state::kinds::claims::records::ClaimRecords as _;

use crate::checkpoint;
use crate::claims;
use crate::config::StoreConfig;
use crate::core::Core;
use crate::error::StoreError;
use crate::manifest::FileKind;
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
        match check(&path, meta) {
            Ok(()) => {
                verified.segments += 1;
                verified.messages += meta.count;
                verified.bytes += meta.len;
            }
            Err(error) => verified.rotten.push(error),
        }
    }
    let first = checkpoint.header.kinds.claims.first;
    for meta in checkpoint.header.claim_files {
        let path = claims::file::path(&Core::claims_dir(&config), checkpoint.generation, meta.first_seq);
        match claims::file::check(&path, meta, first) {
            Ok(()) => {
                verified.claim_files += 1;
                verified.bytes += meta.len;
            }
            Err(error) => verified.rotten.push(error),
        }
    }
    Ok(verified)
}

fn check(path: &Path, meta: SegmentMeta) -> Result<(), StoreError> {
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
type Id = (FileKind, u64);

impl Scrub {
    pub fn new(reader: Reader) -> Self {
        Self { reader, last: None, found: BTreeSet::new(), known: BTreeSet::new() }
    }

    /// Reads the next file; what is wrong with it, where it was not known before. Blocks.
    pub fn step(&mut self) -> Option<StoreError> {
        let metrics = &self.reader.core().metrics;
        let Some((id, path, meta)) = self.after(self.last) else {
            // What is not there any more, or is well again, is known no more.
            self.known = std::mem::take(&mut self.found);
            metrics.segments_rotten.store(self.known.len() as u64, Ordering::Relaxed);
            self.last = None;
            return None;
        };
        let found = match id.0 {
            FileKind::Messages => check(&path, meta),
            FileKind::Claims => claims::file::check(&path, meta, self.first_claim()),
        };
        let is_rotten = match &found {
            Err(StoreError::Corrupt { .. }) => true,
            // Dropped meanwhile, or lost.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.after(self.last).is_some_and(|(_, there, _)| there == path)
            }
            Err(StoreError::Io { source, .. }) => source.raw_os_error() == Some(libc::EIO),
            _ => false,
        };
        self.last = Some(id);
        metrics.segments_checked.fetch_add(1, Ordering::Relaxed);
        if !is_rotten {
            return None;
        }
        self.found.insert(id);
        let is_news = self.known.insert(id);
        metrics.segments_rotten.store(self.known.len() as u64, Ordering::Relaxed);
        found.err().filter(|_| is_news)
    }

    /// Those before it are forgotten.
    fn first_claim(&self) -> u64 {
        self.reader.core().lock().kinds.claims.records().spans().numbers().start
    }

    /// The file that comes behind another.
    fn after(&self, last: Option<Id>) -> Option<(Id, PathBuf, SegmentMeta)> {
        let state = self.reader.core().lock();
        let claims = |number| {
            let (path, meta) = state.kinds.claims.records().closed_after(number)?;
            Some(((FileKind::Claims, meta.first_seq), path, meta))
        };
        let first_seq = match last {
            Some((FileKind::Claims, first)) => return claims(Some(first)),
            Some((FileKind::Messages, first_seq)) => first_seq,
            None => 0,
        };
        let segment = state.kinds.messages.records().sealed_after(first_seq);
        match segment {
            Some((segment, meta)) => {
                Some(((FileKind::Messages, meta.first_seq), segment.path().to_path_buf(), meta))
            }
            None => claims(None),
        }
    }
}
