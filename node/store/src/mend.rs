//! Mending a file of records of which a disk has lost some: what is sound is copied, with the lost records as
//! other nodes have them, and the copy takes the file's place in one step.
//!
//! Records have the same bytes on every node. What is given for one is proved by what this node still knows of it:
//! of a message its place and length, by the segment's index, its number, its checksum, and that the index knows its
//! digest as that of this message, which its body has; of a claim its number and checksum, and that its key is known.
//! The file is not written in place, though the lengths are equal: the kernel would have to read the page that the
//! disk cannot give, what is cut off or gone has no place, and a write that tears may take the sound record beside
//! with it. Killed at any moment, there is either the old file, which is found again, or the new one, which was
//! synced before it got the name, and has the same length and index; what is left of a copy goes at the next start.
//!
//! Nothing here asks anybody: [`Mend::wanted`] says which records are lost, [`Mend::take`] is given them, and begins
//! the copy with the first. All of it blocks.

mod given;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use skep_base::id::ClusterId;
use skep_raft::wire::{RECORDS_MAX, RecordName};
use skep_state::clock::Stamp;
use skep_state::kinds::claims::remembered::{CLAIM_BYTES, Remembered};
use skep_state::message::Digest;
use skep_state::records::NewRecord;

use crate::claims;
use crate::core::Core;
use crate::error::StoreError;
use crate::manifest::RecordKind;
use crate::reader::Reader;
use crate::room;
use crate::scrub::{Rotten, check};
use crate::segments::record::{self, Record};
use crate::segments::{Sealed, open_file};

/// Written bytes after which the copy is synced: one long stall of the disk would hold up the log.
const SYNC_BYTES: u64 = 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// A file that is being mended.
pub struct Mend {
    reader: Reader,
    rotten: Rotten,
    from: Source,
    /// Whose index says where each message is.
    segment: Option<Arc<Sealed>>,
    /// Nobody needs the records before this one any more, not even after a crash.
    needed_from: u64,
    /// What is lost and was not given yet.
    lost: VecDeque<u64>,
    copy: Option<NewFile>,
    /// The record that comes next in the copy.
    number: u64,
}

/// The file as the disk gives it.
struct Source {
    /// None where it cannot be opened.
    file: Option<File>,
    begins: u64,
    window: Vec<u8>,
}

/// What takes the file's place.
struct NewFile {
    path: PathBuf,
    to: BufWriter<File>,
    at: u64,
    unsynced: u64,
}

impl Mend {
    /// Reads a file and finds what is lost of it; none where nothing is.
    pub fn look(reader: Reader, rotten: Rotten) -> Result<Option<Mend>, StoreError> {
        let file = open_file(OpenOptions::new().read(true), &rotten.path).ok();
        if let Some(file) = &file {
            // What the disk has is asked for, and not what the kernel remembers.
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        }
        let from = Source { file, begins: 0, window: Vec::new() };
        let (segment, needed_from) = match rotten.kind {
            RecordKind::Messages => {
                let before = rotten.meta.first_seq.saturating_sub(1);
                let segment = reader.core().lock().kinds.messages.records().sealed_after(before);
                let segment = segment.map(|(segment, _)| segment).filter(|it| it.path() == rotten.path);
                // A crash goes back to the checkpoint, and what is applied again reads of what was dropped since.
                let last = reader.core().current();
                (segment, last.map_or(0, |last| last.header.kinds.messages.floor + 1))
            }
            RecordKind::Claims => (None, reader.core().first_claim_needed()),
        };
        let number = rotten.meta.first_seq;
        let mut mend =
            Mend { reader, rotten, from, segment, needed_from, lost: VecDeque::new(), copy: None, number };
        Ok(if mend.find_lost()? { None } else { Some(mend) })
    }

    /// Notes what is lost; whether the file is sound as it is.
    fn find_lost(&mut self) -> Result<bool, StoreError> {
        let header = self.header();
        let mut is_sound = self.from.read(0, header.len()).is_some_and(|there| *there == header);
        let mut at = header.len() as u64;
        for number in self.numbers() {
            at += match self.own(number, at) {
                Some(bytes) => bytes.len() as u64,
                None => {
                    is_sound = false;
                    if number >= self.needed_from {
                        self.lost.push_back(number);
                    }
                    self.len_of(number, at)?
                }
            };
        }
        if at != self.rotten.meta.len {
            let detail = "its records are not as many bytes as it should have";
            return Err(StoreError::corrupt(&self.rotten.path, at, detail));
        }
        Ok(is_sound)
    }

    /// The lost records that come next, as many as others give at a time; none where that was all.
    pub fn wanted(&self) -> Vec<RecordName> {
        let lost = self.lost.iter().take(RECORDS_MAX).copied();
        lost.map(|number| match self.rotten.kind {
            RecordKind::Messages => RecordName::Message { seq: number },
            RecordKind::Claims => RecordName::Claim { number },
        })
        .collect()
    }

    /// Takes what was wanted from what other nodes answered, in the same order and as far as all answered, up to a
    /// record that none gave, or of which they did not give the same, or what is not proved to be it; answers how many
    /// it took.
    pub fn take(&mut self, given: &[Vec<Option<Bytes>>]) -> Result<u64, StoreError> {
        let mut taken = 0;
        let answered = given.iter().map(Vec::len).min().unwrap_or(0);
        for at in 0..self.wanted().len().min(answered) {
            let mut all = given.iter().filter_map(|records| records.get(at)?.as_ref());
            let Some(bytes) = all.next() else { break };
            let Some(number) = self.lost.front().copied() else { break };
            if all.any(|other| other != bytes) {
                tracing::warn!(number, "other nodes do not give the same record");
                break;
            }
            if !self.is_it(number, bytes)? {
                tracing::warn!(number, "what other nodes give is not the record that is lost");
                break;
            }
            self.begin_copy()?;
            self.copy_upto(number)?;
            self.append(bytes)?;
            self.lost.pop_front();
            taken += 1;
        }
        self.reader.core().metrics.records_mended.fetch_add(taken, Ordering::Relaxed);
        Ok(taken)
    }

    /// Puts the copy in the file's place, once all that is lost was given; whether the store still has that file.
    pub fn finish(mut self) -> Result<bool, StoreError> {
        self.begin_copy()?;
        self.copy_upto(self.numbers().end)?;
        let core = self.reader.core();
        let Some(copy) = &mut self.copy else { return Ok(false) };
        copy.sync().inspect_err(|error| stop_after(core, error))?;
        check(self.rotten.kind, &copy.path, self.rotten.meta, self.needed_from)?;
        let is_done = core.replace(self.rotten.kind, &self.rotten.path, &copy.path)?;
        if is_done {
            core.metrics.segments_mended.fetch_add(1, Ordering::Relaxed);
        }
        Ok(is_done)
    }

    fn numbers(&self) -> std::ops::Range<u64> {
        self.rotten.meta.first_seq..self.rotten.meta.first_seq.saturating_add(self.rotten.meta.count)
    }

    fn header(&self) -> Vec<u8> {
        match self.rotten.kind {
            RecordKind::Messages => record::header(self.rotten.meta.first_seq).to_vec(),
            RecordKind::Claims => claims::file::header(self.rotten.meta.first_seq).to_vec(),
        }
    }

    /// The record of this number, which begins here, as it is in the file, where it is sound.
    fn own(&mut self, number: u64, at: u64) -> Option<Vec<u8>> {
        let left = self.rotten.meta.len.checked_sub(at)?;
        match self.rotten.kind {
            RecordKind::Messages => {
                let whole = record::record_bytes(self.from.read(at, record::HEAD_BYTES)?)?;
                if whole as u64 > left {
                    return None;
                }
                let bytes = self.from.read(at, whole)?;
                let record = Record::check(bytes).ok()?;
                (record.seq() == number).then(|| bytes.to_vec())
            }
            RecordKind::Claims => {
                let bytes = self.from.read(at, CLAIM_BYTES)?;
                let is_sound = <&[u8; CLAIM_BYTES]>::try_from(bytes)
                    .is_ok_and(|bytes| Remembered::of_bytes(number, bytes).is_ok());
                // What is wrong with one that is forgotten harms nobody.
                (is_sound || number < self.needed_from).then(|| bytes.to_vec())
            }
        }
    }

    /// The length of a lost record, which begins here.
    fn len_of(&self, number: u64, at: u64) -> Result<u64, StoreError> {
        if self.rotten.kind == RecordKind::Claims {
            return Ok(CLAIM_BYTES as u64);
        }
        let place = self.segment.as_ref().map(|segment| segment.extent(number)).transpose()?.flatten();
        match place {
            Some((begins, len)) if begins == at && len >= record::RECORD_BYTES_MIN as u64 => Ok(len),
            _ => Err(StoreError::corrupt(&self.rotten.path, at, format!("record {number} has no place"))),
        }
    }

    /// Whether these bytes, which another node gave, are the record of this number.
    fn is_it(&self, number: u64, bytes: &Bytes) -> Result<bool, StoreError> {
        match (self.rotten.kind, &self.segment) {
            (RecordKind::Messages, Some(segment)) => {
                let Ok(message) = Record::check(bytes).and_then(|record| record.message(bytes)) else {
                    return Ok(false);
                };
                let has_room = segment.extent(number)?.is_some_and(|(_, len)| len == bytes.len() as u64);
                let is_whole = message.seq == number && Digest::of(&message.body) == message.digest;
                Ok(has_room && is_whole && segment.may_have(number, &message.digest)?)
            }
            (RecordKind::Messages, None) => Ok(false),
            (RecordKind::Claims, _) => {
                let claim = <&[u8; CLAIM_BYTES]>::try_from(&bytes[..]);
                let claim = claim.ok().and_then(|bytes| Remembered::of_bytes(number, bytes).ok());
                let core = self.reader.core();
                Ok(claim.is_some_and(|claim| core.lock().kinds.claims.records().knows(number, claim.key)))
            }
        }
    }

    /// Only once there is something to put into it, and room for all of it.
    fn begin_copy(&mut self) -> Result<(), StoreError> {
        if self.copy.is_some() {
            return Ok(());
        }
        if !room::is_ample(&self.reader.core().config.dir, self.rotten.meta.len) {
            return Err(StoreError::Stopped("there is too little room on the disk for a copy".into()));
        }
        // Two may mend one file at the same time.
        let path = self.rotten.path.with_extension(format!("{}.mended", ClusterId::random()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let to = open_file(&mut options, &path).map_err(StoreError::io("create", &path))?;
        self.copy =
            Some(NewFile { path, to: BufWriter::with_capacity(BUFFER_BYTES, to), at: 0, unsynced: 0 });
        let header = self.header();
        self.write(&header)
    }

    /// Copies what is sound, and fills what nobody needs, up to a record.
    fn copy_upto(&mut self, end: u64) -> Result<(), StoreError> {
        while self.number < end {
            let (number, at) = (self.number, self.copy.as_ref().map_or(0, |copy| copy.at));
            let bytes = match self.own(number, at) {
                Some(bytes) => bytes,
                None if number < self.needed_from => self.filler(number, at)?,
                None => {
                    let detail = format!("record {number} was lost meanwhile, too");
                    return Err(StoreError::corrupt(&self.rotten.path, at, detail));
                }
            };
            self.append(&bytes)?;
        }
        Ok(())
    }

    /// Something of its length in the place of a record that nobody needs any more, so that what is read of the file
    /// as a whole is sound. It is given to nobody.
    fn filler(&self, number: u64, at: u64) -> Result<Vec<u8>, StoreError> {
        let len = usize::try_from(self.len_of(number, at)?).unwrap_or(usize::MAX);
        if self.rotten.kind == RecordKind::Claims {
            return Ok(vec![0; len]);
        }
        let body = vec![0; len.min(record::RECORD_BYTES_MAX).saturating_sub(record::RECORD_BYTES_MIN)];
        let (time, digest, content_type) = (Stamp(0), &Digest([0; 32]), "");
        let mut bytes = Vec::new();
        record::push(&mut bytes, &NewRecord { seq: number, time, digest, content_type, body: &body });
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.number += 1;
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let core = self.reader.core();
        let Some(copy) = &mut self.copy else { return Ok(()) };
        copy.write(bytes).inspect_err(|error| stop_after(core, error))
    }
}

/// After a failed sync nothing is tried again.
fn stop_after(core: &Core, error: &StoreError) {
    if matches!(error, StoreError::Sync { .. }) {
        core.health.fail(&error.to_string());
    }
}

impl Source {
    /// So many bytes from here on, where the disk gives them.
    fn read(&mut self, at: u64, len: usize) -> Option<&[u8]> {
        let begins = |at: u64, window: u64| usize::try_from(at.checked_sub(window)?).ok();
        let there = begins(at, self.begins).filter(|from| from + len <= self.window.len());
        let from = match there {
            Some(from) => from,
            None => {
                self.fill(at, len)?;
                0
            }
        };
        self.window.get(from..from + len)
    }

    fn fill(&mut self, at: u64, len: usize) -> Option<()> {
        let file = self.file.as_ref()?;
        self.begins = at;
        self.window.resize(len.max(BUFFER_BYTES), 0);
        let mut read = 0;
        while read < len {
            match file.read_at(&mut self.window[read..], at + read as u64) {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Of what is read ahead a part may be lost, and what was asked for be there.
                Err(_) if self.window.len() > len => self.window.truncate(len),
                Err(_) => break,
            }
        }
        self.window.truncate(read);
        (read >= len).then_some(())
    }
}

impl NewFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.to.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.to.flush().map_err(StoreError::io("write", &self.path))?;
        self.to.get_ref().sync_all().map_err(StoreError::sync(&self.path))?;
        self.unsynced = 0;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // There is none where it has taken the file's place.
        let _ = fs::remove_file(&self.path);
    }
}
