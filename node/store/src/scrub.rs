//! Reading again what was written long ago: a disk may lose bits, and of a record that nobody asks for it
//! shows only when it is the last copy.
//!
//! The log is read and checked whole at each start; here it is about the messages' segments.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::checkpoint;
use crate::claims;
use crate::config::StoreConfig;
use crate::core::Core;
use crate::error::StoreError;
use crate::reader::Reader;
use crate::segments::{SegmentMeta, open_checked, scan, segment_path};

/// What a look at all segments of a folder came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// Those of the last checkpoint that are as they were written.
    pub segments: u64,
    pub messages: u64,
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
    for meta in checkpoint.header.claim_files {
        let path = claims::file::path(&Core::claims_dir(&config), checkpoint.generation, meta.first_seq);
        match claims::file::check(&path, meta) {
            Ok(()) => verified.bytes += meta.len,
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

/// Goes round the sealed segments of a running store, one at each step.
pub struct Scrub {
    reader: Reader,
    /// The last message of the segment that was read last.
    after: u64,
    /// The first messages of segments that are not as they were written: in this round, and in the one before.
    found: BTreeSet<u64>,
    known: BTreeSet<u64>,
}

impl Scrub {
    pub fn new(reader: Reader) -> Self {
        Self { reader, after: 0, found: BTreeSet::new(), known: BTreeSet::new() }
    }

    /// Reads the next segment; what is wrong with it, where it was not known before. Blocks.
    pub fn step(&mut self) -> Option<StoreError> {
        let metrics = &self.reader.core().metrics;
        let next = self.reader.core().lock().kinds.messages.records().sealed_after(self.after);
        let Some((segment, meta)) = next else {
            // What is not there any more, or is well again, is known no more.
            self.known = std::mem::take(&mut self.found);
            metrics.segments_rotten.store(self.known.len() as u64, Ordering::Relaxed);
            self.after = 0;
            return None;
        };
        self.after = meta.first_seq + meta.count - 1;
        let found = check(segment.path(), meta);
        let is_rotten = match &found {
            Err(StoreError::Corrupt { .. }) => true,
            // Dropped meanwhile, or lost.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let there =
                    self.reader.core().lock().kinds.messages.records().sealed_after(meta.first_seq - 1);
                there.is_some_and(|(_, there)| there == meta)
            }
            Err(StoreError::Io { source, .. }) => source.raw_os_error() == Some(libc::EIO),
            _ => false,
        };
        metrics.segments_checked.fetch_add(1, Ordering::Relaxed);
        if !is_rotten {
            return None;
        }
        self.found.insert(meta.first_seq);
        let is_news = self.known.insert(meta.first_seq);
        metrics.segments_rotten.store(self.known.len() as u64, Ordering::Relaxed);
        found.err().filter(|_| is_news)
    }
}
