//! Reading messages outside the lock: by digest, and page by page.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use skep_state::clock::Stamp;
use skep_state::clock::mends::Mends;
use skep_state::kinds::messages::removed::Gaps;
use skep_state::message::{Digest, StoredMessage};

use crate::error::StoreError;
use crate::segments::Active;
use crate::segments::file::SegmentFile;
use crate::segments::read::{Wait, read_exact_at};
use crate::segments::record;
use crate::segments::segment::{Place, READ_BUFFER_BYTES, Sealed, checked, read_record};
use crate::segments::write_behind::{Run, WriteBehind};

/// What a reader needs for one read.
pub(crate) struct View {
    pub(super) sealed: Arc<Vec<Arc<Sealed>>>,
    pub(super) active: Option<ActiveView>,
    pub(super) shown: Shown,
}

/// Which messages are shown, and with which times.
#[derive(Default)]
pub(crate) struct Shown {
    pub gaps: Gaps,
    pub mends: Mends,
}

impl Shown {
    /// With the time that counts.
    fn at_its_time(&self, mut message: StoredMessage) -> StoredMessage {
        message.time_ms = self.mends.message_time(message.seq, Stamp(message.time_ms)).0;
        message
    }
}

/// What is known of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Here(StoredMessage),
    /// The message was there, and was taken out.
    Gone,
    Unknown,
}

pub(super) struct ActiveView {
    file: Arc<SegmentFile>,
    /// How much of it was in the file when the view was made,
    in_file: u64,
    /// and what of the rest is wanted.
    behind: Vec<Run>,
    /// The first message to read, if it is here.
    start: Option<u32>,
    /// One past the last byte of what is to be read.
    end: u64,
}

impl Active {
    /// A view from a message on, up to an offset.
    pub(super) fn view(
        &self,
        start: Option<u32>,
        end: impl FnOnce(u64) -> u64,
        write_behind: &WriteBehind,
    ) -> ActiveView {
        let start = start.and_then(|message| self.index.offset(message));
        let from = start.map_or(self.len, u64::from);
        let end = end(from);
        let (behind, in_file) = match start {
            Some(_) => write_behind.between(from, end, self.len),
            None => (Vec::new(), self.len),
        };
        ActiveView { file: self.file.clone(), in_file, behind, start, end }
    }
}

impl View {
    /// A view of sealed segments alone, of all that is in them.
    pub(crate) fn of(sealed: Vec<Sealed>) -> View {
        let sealed = Arc::new(sealed.into_iter().map(Arc::new).collect());
        View { sealed, active: None, shown: Shown::default() }
    }

    pub(crate) fn get(&self, digest: &Digest, wait: Wait) -> Result<Lookup, StoreError> {
        Ok(match self.find(digest, wait)? {
            Some(message) if self.shown.gaps.has(message.seq) => Lookup::Gone,
            Some(message) => Lookup::Here(self.shown.at_its_time(message)),
            None => Lookup::Unknown,
        })
    }

    /// The newest message of this digest, taken out or not.
    fn find(&self, digest: &Digest, wait: Wait) -> Result<Option<StoredMessage>, StoreError> {
        if let Some(active) = &self.active
            && let Some(offset) = active.start
        {
            let path = active.file.path();
            if let Some(run) = active.behind.first() {
                let bytes = run.bytes.slice((u64::from(offset) - run.offset) as usize..);
                let whole = record::record_bytes(&bytes).filter(|whole| *whole <= bytes.len());
                let whole = whole.ok_or_else(|| StoreError::Stopped("a record is cut off".into()))?;
                // A copy: a reader must not keep a whole run alive.
                let bytes = Bytes::copy_from_slice(&bytes[..whole]);
                return message(&bytes, path, u64::from(offset)).map(Some);
            }
            let bytes =
                read_record(&*active.file.open_for(wait)?, path, u64::from(offset), active.in_file, wait)?;
            return message(&bytes, path, u64::from(offset)).map(Some);
        }
        for segment in self.sealed.iter().rev() {
            if let Some(Place { offset, .. }) = segment.find(digest, wait)? {
                let path = segment.path();
                let bytes =
                    read_record(&*segment.file.open_for(wait)?, path, u64::from(offset), segment.len, wait)?;
                return message(&bytes, path, u64::from(offset)).map(Some);
            }
        }
        Ok(None)
    }

    /// Looks at messages from `from` on: at `count` at most, and at none once `bytes_max` of records
    /// are reached, but at one at least. Answers those that were not taken out, and the last that
    /// was looked at, 0 where there was none.
    pub(crate) fn page(
        &self,
        from: u64,
        count: u64,
        bytes_max: usize,
        wait: Wait,
    ) -> Result<(Vec<StoredMessage>, u64), StoreError> {
        let mut page = Page {
            wait,
            shown: &self.shown,
            messages: Vec::new(),
            looked_at: 0,
            last: 0,
            count,
            bytes_left: bytes_max as u64,
        };
        let first = self.sealed.partition_point(|segment| segment.first_seq + segment.count <= from);
        for segment in &self.sealed[first..] {
            if page.is_full() {
                return Ok((page.messages, page.last));
            }
            let start = (from.max(segment.first_seq) - segment.first_seq) as u32;
            let wanted = u64::from(start) + count - page.looked_at;
            let begin = segment.offset(start, wait)?;
            let end = match u32::try_from(wanted) {
                Ok(end) => segment.offset(end, wait)?,
                Err(_) => None,
            };
            if let Some(begin) = begin {
                let end = end.map_or(segment.len, u64::from);
                page.read(&*segment.file.open_for(wait)?, segment.path(), u64::from(begin), end)?;
            }
        }
        if let Some(active) = &self.active
            && let Some(start) = active.start
            && !page.is_full()
        {
            let (path, start) = (active.file.path(), u64::from(start));
            let in_file = active.end.min(active.in_file);
            if start < in_file {
                page.read(&*active.file.open_for(wait)?, path, start, in_file)?;
            }
            for run in &active.behind {
                let from = start.max(run.offset);
                let bytes = run
                    .bytes
                    .slice((from - run.offset) as usize..(run.end().min(active.end) - run.offset) as usize);
                page.take(&bytes, path, from)?;
            }
        }
        Ok((page.messages, page.last))
    }
}

struct Page<'a> {
    wait: Wait,
    shown: &'a Shown,
    messages: Vec<StoredMessage>,
    /// Messages that were looked at, taken out or not.
    looked_at: u64,
    /// The last of them.
    last: u64,
    count: u64,
    bytes_left: u64,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.looked_at >= self.count || (self.bytes_left == 0 && self.looked_at > 0)
    }

    /// Reads the records between two offsets.
    fn read(&mut self, file: &File, path: &Path, mut begin: u64, end: u64) -> Result<(), StoreError> {
        while begin < end && !self.is_full() {
            let step = (end - begin).min(self.bytes_left).min(READ_BUFFER_BYTES as u64);
            let mut bytes = vec![0; step as usize];
            read_exact_at(file, path, &mut bytes, begin, self.wait)?;
            let mut bytes = Bytes::from(bytes);
            if record::record_bytes(&bytes).is_none_or(|whole| whole > bytes.len()) {
                if self.looked_at > 0 && self.bytes_left <= step {
                    // The next message does not fit into what is left.
                    self.bytes_left = 0;
                    return Ok(());
                }
                bytes = read_record(file, path, begin, end, self.wait)?;
            }
            begin += self.take(&bytes, path, begin)? as u64;
        }
        Ok(())
    }

    /// Takes the whole records at the beginning of bytes that are at an offset; answers how many bytes they have.
    fn take(&mut self, bytes: &Bytes, path: &Path, offset: u64) -> Result<usize, StoreError> {
        let mut at = 0;
        while let Some(whole) = record::record_bytes(&bytes[at..]).filter(|whole| at + whole <= bytes.len()) {
            if self.is_full() {
                break;
            }
            if self.looked_at > 0 && whole as u64 > self.bytes_left {
                // It does not fit into what is left.
                self.bytes_left = 0;
                break;
            }
            let message = message(&bytes.slice(at..at + whole), path, offset + at as u64)?;
            self.last = message.seq;
            self.looked_at += 1;
            if !self.shown.gaps.has(message.seq) {
                self.messages.push(self.shown.at_its_time(message));
            }
            self.bytes_left = self.bytes_left.saturating_sub(whole as u64);
            at += whole;
        }
        Ok(at)
    }
}

fn message(bytes: &Bytes, path: &Path, offset: u64) -> Result<StoredMessage, StoreError> {
    checked(bytes, path, offset)?.message(bytes).map_err(|detail| StoreError::corrupt(path, offset, detail))
}
