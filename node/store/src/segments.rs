//! A log of records: append-only segments, each with an index.
//!
//! [`Segments`] are changed by the state machine alone, which stages a run of records and then publishes
//! them; one thread writes them ([`WriteBehind`]). Readers take a [`View`] and read without any lock: what is
//! published never changes, and an open file outlives its removal. Which records are gone is not known
//! here, but for the floor below which nothing is needed.

mod file;
pub(crate) mod index;
mod known;
mod meta;
mod names;
mod read;
pub(crate) mod record;
pub(crate) mod segment;
mod summary;
mod view;
mod write_behind;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use skep_state::kind::Stopped;
use skep_state::message::{Digest, StoredMessage};
use skep_state::records::{NewRecord, Records};

use crate::error::StoreError;
pub(crate) use file::{SegmentFile, has_spares, keep_spares, open as open_file, open_with_header};
use index::MemoryIndex;
use known::find_sealed;
pub(crate) use known::{Known, Lost, Wanted};
pub use meta::SegmentMeta;
pub(crate) use names::{files_of, index_path, remove_if_there, remove_strangers, segment_path, summary_path};
pub(crate) use read::{Wait, read_exact_at};
use record::HEADER_BYTES;
pub(crate) use segment::{Sealed, open_checked, scan};
pub use summary::Summary;
pub use view::Lookup;
pub(crate) use view::{Shown, View};
pub(crate) use write_behind::{WriteBehind, Writing};

/// The segment that grows.
pub(crate) struct Active {
    pub file: Arc<SegmentFile>,
    pub first_seq: u64,
    /// Bytes of the header and of what was published, in the file or on their way.
    pub len: u64,
    pub index: MemoryIndex,
}

pub(crate) struct Segments {
    dir: PathBuf,
    pub generation: u64,
    limits: Limits,
    sealed: Arc<Vec<Arc<Sealed>>>,
    active: Option<Active>,
    write_behind: Arc<WriteBehind>,
    /// Staged records: they follow `active.len`.
    staged: Vec<u8>,
    /// What was looked for, for the run that is staged.
    known: Known,
    last_seq: u64,
    published_seq: u64,
    sealed_bytes: u64,
    /// Files of segments of which nothing is left. A crash goes back to the last checkpoint: they
    /// stay until there is one without them.
    retired: Vec<Arc<Sealed>>,
}

/// How large a segment gets, and of how many the files are held open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub segment_bytes_max: u64,
    pub held_max: usize,
}

/// Where the messages begin that are too many, by their bytes.
pub(crate) enum Excess {
    /// Those up to this one are.
    Upto(u64),
    /// These segments are left to look at, and so many bytes may stay of them.
    Sealed(Arc<Vec<Arc<Sealed>>>, u64),
}

impl Segments {
    /// Opens the segments of a checkpoint and cuts back what was written after it. `last_seq` counts
    /// where there is none.
    pub(crate) fn open(
        dir: PathBuf,
        generation: u64,
        segments: &[SegmentMeta],
        last_seq: u64,
        limits: Limits,
        write_behind: Arc<WriteBehind>,
    ) -> Result<Segments, StoreError> {
        let mut sealed = Vec::new();
        let mut active = None;
        let mut last_seq = last_seq;
        for (i, &meta) in segments.iter().enumerate() {
            let path = segment_path(&dir, generation, meta.first_seq);
            if meta.sealed || i + 1 < segments.len() {
                let segment = Sealed::open(path, meta)?;
                if i + limits.held_max < segments.len() {
                    segment.let_go();
                }
                sealed.push(Arc::new(segment));
            } else {
                // An index of what is cut off would be wrong for what grows in its place.
                remove_if_there(&index_path(&path))?;
                remove_if_there(&summary_path(&path))?;
                let file = open_checked(&path, meta)?;
                file.set_len(meta.len).map_err(StoreError::io("cut", &path))?;
                let index = scan(&file, &path, meta)?;
                let first_seq = meta.first_seq;
                let file = Arc::new(SegmentFile::held(path, file));
                active = Some(Active { file, first_seq, len: meta.len, index });
            }
            last_seq = meta.first_seq + meta.count - 1;
        }
        let sealed_bytes = sealed.iter().map(|segment| segment.len).sum();
        Ok(Segments {
            dir,
            generation,
            limits,
            sealed: Arc::new(sealed),
            active,
            write_behind,
            staged: Vec::new(),
            known: Known::default(),
            last_seq,
            published_seq: last_seq,
            sealed_bytes,
            retired: Vec::new(),
        })
    }

    /// The files of the segments and their indexes.
    pub(crate) fn known_files(&self) -> HashSet<PathBuf> {
        let sealed = self.sealed.iter().map(|segment| segment.path());
        let active = self.active.iter().map(|active| active.file.path());
        sealed.chain(active).flat_map(files_of).collect()
    }

    /// The segment that comes next, where the present one has no room.
    pub(crate) fn next(&self) -> Option<Next> {
        let full = |active: &Active| active.len >= self.limits.segment_bytes_max && active.index.count() > 0;
        if self.active.as_ref().is_some_and(|active| !full(active)) {
            return None;
        }
        let first_seq = self.last_seq + 1;
        Some(Next { path: segment_path(&self.dir, self.generation, first_seq), first_seq })
    }

    /// Goes on in the next segment; answers the one that was sealed for it. All of that is in its file.
    pub(crate) fn go_on_in(&mut self, next: Active) -> Option<Arc<Sealed>> {
        self.active.replace(next).map(|full| {
            let sealed = Arc::new(Sealed::of(full));
            let mut all = Vec::clone(&self.sealed);
            all.push(sealed.clone());
            self.sealed = Arc::new(all);
            self.sealed_bytes += sealed.len;
            sealed
        })
    }

    pub(crate) fn sealed(&self) -> Arc<Vec<Arc<Sealed>>> {
        self.sealed.clone()
    }

    fn digest_of(&self, seq: u64) -> Result<Digest, StoreError> {
        if let Some(active) = &self.active
            && let Some(message) = seq.checked_sub(active.first_seq)
        {
            let digest = u32::try_from(message).ok().and_then(|message| active.index.digest(message));
            return digest.ok_or_else(|| StoreError::Stopped(format!("message {seq} is not indexed")));
        }
        if let Some(digest) = self.known.digest(seq) {
            return Ok(digest);
        }
        let at = self.sealed.partition_point(|segment| segment.first_seq + segment.count <= seq);
        match self.sealed.get(at).filter(|segment| segment.first_seq <= seq) {
            Some(segment) => segment.digest((seq - segment.first_seq) as u32, Wait::ForDisk),
            None => Err(StoreError::Stopped(format!("message {seq} is in no segment"))),
        }
    }

    fn retire_below(&mut self, floor: u64) {
        let gone = self.sealed.partition_point(|segment| segment.first_seq + segment.count - 1 <= floor);
        if gone > 0 {
            let mut left = Vec::clone(&self.sealed);
            for segment in left.drain(..gone) {
                self.sealed_bytes -= segment.len;
                self.retired.push(segment);
            }
            self.sealed = Arc::new(left);
        }
    }

    /// Hands over the segments that nothing needs any more, now that `kept` are in the last checkpoint.
    pub(crate) fn take_retired(&mut self, kept: &HashSet<PathBuf>) -> Vec<Arc<Sealed>> {
        self.retired.extract_if(.., |segment| !kept.contains(segment.path())).collect()
    }

    /// All but the newest segments, up to this message, which are on disk: their files need not be held.
    pub(crate) fn old(&self, durable_upto: u64) -> Vec<Arc<Sealed>> {
        let old = self.sealed.len().saturating_sub(self.limits.held_max);
        let is_durable = |segment: &&Arc<Sealed>| segment.first_seq + segment.count - 1 <= durable_upto;
        self.sealed.iter().take(old).filter(is_durable).cloned().collect()
    }

    /// Holds open what somebody still reads: all of it is about to be removed.
    pub(crate) fn hold_for_readers(&self) -> Result<(), StoreError> {
        // Views share the list.
        let is_read = Arc::strong_count(&self.sealed) > 1;
        for segment in self.sealed.iter().chain(&self.retired) {
            let extra = is_read.then(|| segment.clone());
            segment.hold_for_readers()?;
            drop(extra);
        }
        Ok(())
    }

    /// Which messages are too many where records may have so many bytes.
    pub(crate) fn excess(&self, bytes_max: u64) -> Excess {
        let Some(active) = &self.active else { return Excess::Sealed(self.sealed.clone(), bytes_max) };
        match bytes_max.checked_sub(active.len) {
            Some(left) => Excess::Sealed(self.sealed.clone(), left),
            None => {
                let first_kept = active.index.first_from((active.len - bytes_max) as u32);
                Excess::Upto(active.first_seq + u64::from(first_kept) - 1)
            }
        }
    }

    pub(crate) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// Makes ready for a run of so many bytes, of which this is known.
    pub(crate) fn begin_run(&mut self, bytes: usize, known: Known) {
        self.staged.reserve(bytes);
        self.known = known;
    }

    /// Makes readable what was staged, and sends it on its way to the file.
    pub(crate) fn publish(&mut self) {
        self.known = Known::default();
        let mut staged = std::mem::take(&mut self.staged);
        if let Some(active) = &mut self.active
            && !staged.is_empty()
        {
            // What was staged may be far less than what was made ready for: repeats are not written.
            if staged.capacity() > 2 * staged.len() {
                staged.shrink_to_fit();
            }
            let (offset, bytes) = (active.len, Bytes::from(staged));
            active.len += bytes.len() as u64;
            self.write_behind.push(active.file.clone(), offset, bytes);
        }
        self.published_seq = self.last_seq;
    }

    pub(crate) fn published_seq(&self) -> u64 {
        self.published_seq
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.sealed_bytes + self.active.as_ref().map_or(0, |active| active.len)
    }

    pub(crate) fn segments(&self) -> u64 {
        self.sealed.len() as u64 + u64::from(self.active.is_some())
    }

    /// The segments as a checkpoint lists them, with their files.
    pub(crate) fn metas(&self) -> Vec<(SegmentMeta, Arc<SegmentFile>)> {
        let sealed = self.sealed.iter().map(|segment| {
            let Sealed { first_seq, count, len, .. } = **segment;
            (SegmentMeta { first_seq, count, len, sealed: true }, segment.file.clone())
        });
        // An empty segment is not worth its name in a checkpoint: it is made again.
        let active = self.active.iter().filter(|active| active.index.count() > 0).map(|active| {
            let (first_seq, len) = (active.first_seq, active.len);
            (SegmentMeta { first_seq, count: active.index.count(), len, sealed: false }, active.file.clone())
        });
        sealed.chain(active).collect()
    }

    /// The first sealed segment of messages after this one.
    pub(crate) fn sealed_after(&self, seq: u64) -> Option<(Arc<Sealed>, SegmentMeta)> {
        let at = self.sealed.partition_point(|segment| segment.first_seq <= seq);
        let segment = self.sealed.get(at)?.clone();
        let Sealed { first_seq, count, len, .. } = *segment;
        Some((segment, SegmentMeta { first_seq, count, len, sealed: true }))
    }

    /// The file of a sealed segment, by its path.
    pub(crate) fn sealed_file(&self, path: &Path) -> Option<Arc<SegmentFile>> {
        self.sealed.iter().find(|segment| segment.path() == path).map(|segment| segment.file.clone())
    }

    /// What it takes to look for a message outside the lock.
    pub(crate) fn view_for(&self, digest: &Digest, shown: Shown) -> View {
        let active = self.active.as_ref().map(|active| {
            let start = active.index.find(digest).filter(|m| self.is_published(active, *m));
            active.view(start, |offset| offset + 1, &self.write_behind)
        });
        View { sealed: self.sealed.clone(), active, shown }
    }

    /// What it takes to read `count` messages from `from` on outside the lock.
    pub(crate) fn view_from(&self, from: u64, count: u64, shown: Shown) -> View {
        let active = self.active.as_ref().map(|active| {
            let end = from.saturating_add(count);
            let at = |seq: u64| {
                let message = u32::try_from(seq.checked_sub(active.first_seq)?).ok()?;
                (seq <= self.published_seq).then_some(message)
            };
            let start = at(from.max(active.first_seq)).filter(|_| end > active.first_seq);
            let end = at(end).and_then(|message| active.index.offset(message));
            let end = end.map_or(active.len, u64::from);
            active.view(start, |_| end, &self.write_behind)
        });
        View { sealed: self.sealed.clone(), active, shown }
    }

    fn push_record(&mut self, record: &NewRecord<'_>) -> Result<(), StoreError> {
        let Some(active) = &mut self.active else {
            return Err(StoreError::Stopped("a message was staged before there was a segment".into()));
        };
        let Ok(offset) = u32::try_from(active.len + self.staged.len() as u64) else {
            return Err(StoreError::Stopped("a message segment has grown out of range".into()));
        };
        self.last_seq = record.seq;
        record::push(&mut self.staged, record);
        active.index.push(*record.digest, offset, record.content_type);
        Ok(())
    }

    fn is_published(&self, active: &Active, message: u32) -> bool {
        active.first_seq + u64::from(message) <= self.published_seq
    }
}

impl Records for Segments {
    fn last_seq(&self) -> u64 {
        self.last_seq
    }

    fn find(&self, digest: &Digest) -> Result<Option<u64>, Stopped> {
        // The newest first: where a message was taken out and came again, it alone counts.
        let in_active = self.active.as_ref().and_then(|active| {
            active.index.find(digest).map(|message| active.first_seq + u64::from(message))
        });
        match in_active {
            Some(seq) => Ok(Some(seq)),
            None => match self.known.place(digest) {
                Some(place) => Ok(place),
                None => Ok(find_sealed(&self.sealed, digest, Wait::ForDisk)?.map(|place| place.seq)),
            },
        }
    }

    fn digest_at(&self, seq: u64) -> Result<Digest, Stopped> {
        Ok(self.digest_of(seq)?)
    }

    fn page(&self, after: u64, count_max: usize, bytes_max: usize) -> Result<Vec<StoredMessage>, Stopped> {
        let (from, count) = (after + 1, self.published_seq.saturating_sub(after).min(count_max as u64));
        Ok(self.view_from(from, count, Shown::default()).page(from, count, bytes_max, Wait::ForDisk)?.0)
    }

    fn push(&mut self, record: NewRecord<'_>) -> Result<(), Stopped> {
        Ok(self.push_record(&record)?)
    }

    fn let_go(&mut self, floor: u64) {
        self.retire_below(floor);
    }
}

/// A segment that is to be made.
pub(crate) struct Next {
    path: PathBuf,
    first_seq: u64,
}

impl Next {
    /// Makes its file. Fails, and can be called again, on a full disk. Blocks.
    pub(crate) fn make(self) -> Result<Active, StoreError> {
        let Next { path, first_seq } = self;
        // After a crash, one of that name may be left from before the checkpoint was cut back to.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = file::open(&mut options, &path).map_err(StoreError::io("create", &path))?;
        file.write_all_at(&record::header(first_seq), 0).map_err(StoreError::io("write", &path))?;
        let (file, len) = (Arc::new(SegmentFile::held(path, file)), HEADER_BYTES as u64);
        Ok(Active { file, first_seq, len, index: MemoryIndex::default() })
    }
}
