//! Opening the log: every record of every segment is read and checked.
//!
//! A damaged spot is a write that a crash tore, and is cut off, only where it lies in the last
//! segment and no later record shows that it had been durable. Anything else is corruption, and
//! the log is not opened.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use skep_base::codec;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::wal::record::{self, ALIGN, END, HEAD_BYTES, HEADER_BYTES, Kind, StateRecord};
use crate::wal::segment;
use crate::wal::state::{Batch, Slot, Spare, State, Tail};
use skep_raft::types::{LogId, Vote};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Reads the log in `dir` into memory (places of entries, not the entries).
pub(crate) fn replay(dir: &Path, config: &StoreConfig) -> Result<State, StoreError> {
    let mut state = State {
        vote: None,
        committed: None,
        committed_dirty: false,
        purged: None,
        slots: VecDeque::new(),
        cache: VecDeque::new(),
        cache_bytes: 0,
        position: 0,
        tail: Tail { segment: 0, salt: 0, offset: 0, capacity: 0 },
        pending: Batch::default(),
        buffer: Vec::new(),
        files: BTreeMap::new(),
        written: (0, 0),
        spare: match segment::has_spare(dir, config.log_segment_bytes_max) {
            true => Spare::Ready,
            false => Spare::Absent,
        },
        failed: None,
        stop: false,
    };
    let numbers = tail_of(dir, segment::list(dir)?)?;
    let mut base = Base::default();
    for (i, &number) in numbers.iter().enumerate() {
        let last = i + 1 == numbers.len();
        Replay::open(dir, number, last)?.run(&mut state, &mut base)?;
    }
    check_first(dir, &numbers, &state, &base)?;
    state.written = (state.tail.segment, state.tail.offset);
    Ok(state)
}

/// What the segments that are gone came to.
#[derive(Default)]
struct Base {
    /// A state record has been read.
    known: bool,
    /// Entries up to this index were in the segments that are gone.
    absent_upto: Option<u64>,
}

/// The segments after the last gap: segments are removed from the oldest on, but a crash may bring
/// some of the removed ones back. Whether more than that is missing, [`check_first`] finds out.
fn tail_of(dir: &Path, numbers: Vec<u64>) -> Result<Vec<u64>, StoreError> {
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    let first = gap.map_or(0, |gap| gap + 1);
    if let Some(number) = numbers.get(first).filter(|_| first > 0) {
        let path = segment::path_of(dir, *number);
        tracing::warn!(file = %path.display(), "the log has a gap before this segment and begins with it");
    }
    Ok(numbers[first..].to_vec())
}

/// The first entry must follow what was purged: else a segment before it was lost.
fn check_first(dir: &Path, numbers: &[u64], state: &State, base: &Base) -> Result<(), StoreError> {
    let Some(&number) = numbers.first() else { return Ok(()) };
    let purged = state.purged.map(|purged| purged.index);
    let first = state.slots.front().map(|slot| slot.log_id.index);
    let follows = match (first, purged) {
        (None, _) => true,
        (Some(first), Some(purged)) => first == purged + 1,
        // Nothing was ever purged, so the first segment ever must be there.
        (Some(_), None) => number == segment::FIRST,
    };
    if follows && base.absent_upto <= purged {
        return Ok(());
    }
    let detail = format!(
        "a segment before it is missing: the log begins at entry {first:?}, entries up to {:?} were in \
         earlier segments, and only those up to {purged:?} are purged",
        base.absent_upto
    );
    Err(StoreError::corrupt(&segment::path_of(dir, number), 0, detail))
}

struct Replay {
    path: PathBuf,
    number: u64,
    /// The newest segment: the only one whose end a crash may have torn.
    last: bool,
    reader: BufReader<File>,
    file: Arc<File>,
    len: u64,
    salt: u64,
    offset: u64,
    sealed: bool,
    records: u64,
}

impl Replay {
    fn open(dir: &Path, number: u64, last: bool) -> Result<Replay, StoreError> {
        let path = segment::path_of(dir, number);
        let (file, len, salt) = segment::open(dir, number)?;
        let mut copy = file.try_clone().map_err(StoreError::io("open", &path))?;
        copy.seek(SeekFrom::Start(HEADER_BYTES as u64)).map_err(StoreError::io("read", &path))?;
        Ok(Replay {
            path,
            number,
            last,
            reader: BufReader::with_capacity(READ_BUFFER_BYTES, copy),
            file: Arc::new(file),
            len,
            salt,
            offset: HEADER_BYTES as u64,
            sealed: false,
            records: 0,
        })
    }

    fn run(mut self, state: &mut State, base: &mut Base) -> Result<(), StoreError> {
        let mut body = Vec::new();
        let torn = loop {
            match self.next(&mut body)? {
                Next::Record => self.take(&body, state, base)?,
                Next::End => break false,
                Next::Damaged => break true,
            }
            self.offset += record::record_bytes(body.len() as u32);
            self.records += 1;
        };
        if torn || (!self.last && !self.sealed && self.offset < self.len) {
            if !self.last {
                return Err(self.corrupt("a record is damaged"));
            }
            self.refuse_corruption()?;
            tracing::warn!(
                file = %self.path.display(),
                offset = self.offset,
                bytes = self.len - self.offset,
                "the log's tail was torn by a crash and is cut off"
            );
        }
        if self.last {
            if self.len != self.offset {
                // Records of a torn batch may lie beyond the end; nothing may ever meet them there.
                self.file.set_len(self.offset).map_err(StoreError::io("cut", &self.path))?;
            }
            // After a kill, what was read may be in the kernel's memory alone. From here on Raft
            // relies on it.
            self.file.sync_all().map_err(StoreError::sync(&self.path))?;
        }
        state.tail =
            Tail { segment: self.number, salt: self.salt, offset: self.offset, capacity: self.offset };
        state.files.insert(self.number, self.file);
        Ok(())
    }

    fn next(&mut self, body: &mut Vec<u8>) -> Result<Next, StoreError> {
        body.clear();
        if self.sealed || self.offset == self.len {
            return Ok(Next::End);
        }
        let left = self.len - self.offset;
        if left < HEAD_BYTES as u64 {
            return Ok(Next::Damaged);
        }
        let mut head = [0; HEAD_BYTES];
        self.reader.read_exact(&mut head).map_err(StoreError::io("read", &self.path))?;
        if head == END {
            // In the middle of the log, zeros are a hole; at its end they are what they seem,
            // unless a later record says that something stood here.
            if self.last {
                self.refuse_corruption()?;
                return Ok(Next::End);
            }
            return Ok(Next::Damaged);
        }
        let Some(head) = record::parse_head(&head, self.salt, self.offset) else {
            return Ok(Next::Damaged);
        };
        let padded = record::record_bytes(head.len);
        if padded > left {
            return Ok(Next::Damaged);
        }
        body.resize((padded as usize) - HEAD_BYTES, 0);
        self.reader.read_exact(body).map_err(StoreError::io("read", &self.path))?;
        body.truncate(head.len as usize);
        Ok(if crc32fast::hash(body) == head.body_crc { Next::Record } else { Next::Damaged })
    }

    /// Fails where a record beyond the present offset proves that it was durable once.
    fn refuse_corruption(&self) -> Result<(), StoreError> {
        const STEP: u64 = READ_BUFFER_BYTES as u64;
        let mut window = vec![0; READ_BUFFER_BYTES + HEAD_BYTES];
        let mut at = self.offset + ALIGN as u64;
        while at + HEAD_BYTES as u64 <= self.len {
            // Windows overlap by a head, so that none is missed between two.
            let len = (self.len - at).min(window.len() as u64) as usize;
            self.file.read_exact_at(&mut window[..len], at).map_err(StoreError::io("read", &self.path))?;
            for start in (0..len - HEAD_BYTES + 1).step_by(ALIGN) {
                // Most of what is searched is zeros: no length, no head.
                if window[start..start + 4] != [0; 4]
                    && self.proves_corruption(&window[start..], at + start as u64)?
                {
                    return Err(self.corrupt("a record is damaged that later ones show to have been whole"));
                }
            }
            at += STEP;
        }
        Ok(())
    }

    fn proves_corruption(&self, bytes: &[u8], offset: u64) -> Result<bool, StoreError> {
        let Some(head) = record::parse_head(bytes, self.salt, offset) else { return Ok(false) };
        let whole = offset + record::record_bytes(head.len) <= self.len;
        if u64::from(head.synced) <= self.offset || !whole {
            return Ok(false);
        }
        let mut body = vec![0; head.len as usize];
        let at = offset + HEAD_BYTES as u64;
        self.file.read_exact_at(&mut body, at).map_err(StoreError::io("read", &self.path))?;
        Ok(crc32fast::hash(&body) == head.body_crc)
    }

    fn take(&mut self, body: &[u8], state: &mut State, base: &mut Base) -> Result<(), StoreError> {
        let payload = &body[1..];
        let kind = Kind::of(body[0]);
        // A segment that a crash left empty has but its seal.
        if !base.known && !matches!(kind, Some(Kind::State | Kind::Seal)) {
            return Err(self.corrupt("its state record is missing"));
        }
        match kind {
            Some(Kind::State) => {
                let record: StateRecord = self.decode(payload)?;
                if !base.known {
                    base.known = true;
                    base.absent_upto = record.last.map(|last| last.index);
                    state.vote = record.vote;
                    state.committed = record.committed;
                    state.purged = record.purged;
                } else if !state.slots.is_empty() && record.last != state.last() {
                    return Err(self.corrupt("it does not begin where the segment before it ends"));
                }
            }
            Some(Kind::Entry) => self.take_entry(body, state)?,
            Some(Kind::Vote) => state.vote = Some(self.decode::<Vote>(payload)?),
            Some(Kind::Committed) => state.committed = self.decode(payload)?,
            Some(Kind::Truncate) => {
                let last: Option<LogId> = self.decode(payload)?;
                base.absent_upto = base.absent_upto.min(last.map(|last| last.index));
                state.drop_after(last);
            }
            Some(Kind::Purge) => state.drop_upto(self.decode(payload)?),
            Some(Kind::Seal) => self.sealed = true,
            None => return Err(self.corrupt(format!("record kind {} is unknown", body[0]))),
        }
        Ok(())
    }

    fn take_entry(&self, body: &[u8], state: &mut State) -> Result<(), StoreError> {
        let log_id = record::entry_log_id(body).ok_or_else(|| self.corrupt("an entry is cut short"))?;
        if let Some(last) = state.slots.back()
            && log_id.index != last.log_id.index + 1
        {
            let detail = format!("entry {} does not follow entry {}", log_id.index, last.log_id.index);
            return Err(self.corrupt(detail));
        }
        let (Ok(segment), Ok(offset)) =
            (u32::try_from(self.number), u32::try_from(self.offset + HEAD_BYTES as u64))
        else {
            return Err(self.corrupt("the segment's number or size is out of range"));
        };
        let len = body.len() as u32;
        state.slots.push_back(Slot { log_id, segment, offset, len, position: state.position });
        state.position += u64::from(len);
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, StoreError> {
        codec::decode(payload).map_err(|error| self.corrupt(error.to_string()))
    }

    fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        StoreError::corrupt(&self.path, self.offset, detail)
    }
}

enum Next {
    Record,
    End,
    Damaged,
}
