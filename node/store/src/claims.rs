//! Claims on disk: files that only grow, in the order in which the claims were made, and a small index of
//! them in memory.
//!
//! As with the messages' segments, a run of claims is staged, written behind, and synced by the next checkpoint;
//! a start cuts the files back to it and reads them once. What is forgotten goes by whole files. There are few
//! files, as claims are bounded: all are held open, unless the process may have few descriptors.

pub(crate) mod file;
mod index;
mod known;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use skep_state::command::ClaimKey;
use skep_state::kind::Stopped;
use skep_state::kinds::claims::records::{ClaimRecords, Spans};
use skep_state::kinds::claims::remembered::{CLAIM_BYTES, Remembered};

use crate::error::StoreError;
use crate::segments::{SegmentFile, SegmentMeta, Wait, WriteBehind, open_file};
use file::HEADER_BYTES;
use index::ClaimIndex;
pub(crate) use known::{Known, Wanted};
use known::{Place, Places, newest};

/// Claims in files.
pub(crate) struct ClaimFiles {
    dir: PathBuf,
    generation: u64,
    limits: Limits,
    /// The last one grows.
    files: VecDeque<ClaimFile>,
    /// Takes the last file's alone.
    write_behind: Arc<WriteBehind>,
    /// Staged claims: they follow those of the last file.
    staged: Vec<u8>,
    /// The newest of each key among them.
    staged_keys: HashMap<u128, (u64, Remembered)>,
    /// What was looked for, for the run that is staged.
    known: Known,
    spans: Spans,
    index: ClaimIndex,
    /// All of it is about to be replaced: nothing is found here any more.
    is_given_up: bool,
    /// Files of which nothing is left. A crash goes back to the last checkpoint: they stay until there is one
    /// without them.
    retired: Vec<Arc<SegmentFile>>,
}

/// How many claims are in a file, and of how many files the newest are held open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub file_claims_max: u64,
    pub held_max: usize,
}

pub(crate) struct ClaimFile {
    file: Arc<SegmentFile>,
    first: u64,
    /// Claims that are in the file, or on their way.
    count: u64,
}

impl ClaimFile {
    fn end(&self) -> u64 {
        self.first + self.count
    }

    fn len(&self) -> u64 {
        HEADER_BYTES as u64 + self.count * CLAIM_BYTES as u64
    }
}

impl ClaimFiles {
    /// Opens the files of a checkpoint, in which the claims of these numbers count, and cuts back what was
    /// written after it.
    pub(crate) fn open(
        dir: PathBuf,
        generation: u64,
        metas: &[SegmentMeta],
        numbers: Range<u64>,
        limits: Limits,
        write_behind: Arc<WriteBehind>,
    ) -> Result<ClaimFiles, StoreError> {
        let mut claims = ClaimFiles {
            dir,
            generation,
            limits,
            files: VecDeque::new(),
            write_behind,
            staged: Vec::new(),
            staged_keys: HashMap::new(),
            known: Known::default(),
            spans: Spans::from(numbers.start),
            index: ClaimIndex::default(),
            is_given_up: false,
            retired: Vec::new(),
        };
        for (i, &meta) in metas.iter().enumerate() {
            let path = file::path(&claims.dir, generation, meta.first_seq);
            let opened = file::open_checked(&path, meta)?;
            if i + 1 == metas.len() {
                opened.set_len(meta.len).map_err(StoreError::io("cut", &path))?;
            }
            let file = Arc::new(SegmentFile::held(path.clone(), opened));
            let (first, count) = (meta.first_seq, meta.count);
            claims.files.push_back(ClaimFile { file: file.clone(), first, count });
            // What is wrong with one that is forgotten keeps nobody from starting.
            file::scan(&*file.open()?, &path, meta, numbers.start, |claim| {
                let candidates = claims.index.candidates(claim.key, claims.spans.numbers());
                let places = candidates.map(|number| claims.in_file(number));
                let before = newest(claim.key, places, Wait::ForDisk)?;
                claims.note(&claim, before.map(|(number, _)| number));
                Ok(())
            })?;
            if i + limits.held_max < metas.len() {
                file.let_go();
            }
        }
        Ok(claims)
    }

    fn note(&mut self, claim: &Remembered, instead_of: Option<u64>) {
        let number = self.spans.numbers().end;
        self.spans.push(claim);
        self.index.insert(claim.key, number, instead_of, self.spans.numbers());
    }

    /// The files, by their paths.
    pub(crate) fn known_files(&self) -> HashSet<PathBuf> {
        self.files.iter().map(|file| file.file.path().to_path_buf()).collect()
    }

    /// The file that comes next, where the present one has no room.
    pub(crate) fn next(&self) -> Option<Next> {
        if self.files.back().is_some_and(|last| last.count < self.limits.file_claims_max) {
            return None;
        }
        let first = self.spans.numbers().end;
        Some(Next { path: file::path(&self.dir, self.generation, first), first })
    }

    /// Goes on in the next file. All that came before is in the present one.
    pub(crate) fn go_on_in(&mut self, next: ClaimFile) {
        self.files.push_back(next);
    }

    /// Makes what was staged claims like any other, and sends them on their way to the file.
    pub(crate) fn publish(&mut self) {
        (self.staged_keys, self.known) = (HashMap::new(), Known::default());
        let mut staged = std::mem::take(&mut self.staged);
        if let Some(last) = self.files.back_mut()
            && !staged.is_empty()
        {
            staged.shrink_to_fit();
            let offset = last.len();
            last.count += (staged.len() / CLAIM_BYTES) as u64;
            self.write_behind.push(last.file.clone(), offset, staged.into());
        }
    }

    /// The files as a checkpoint lists them.
    pub(crate) fn metas(&self) -> impl Iterator<Item = (SegmentMeta, Arc<SegmentFile>)> {
        let last = self.files.len().saturating_sub(1);
        // One that is empty is not worth its name: it is made again.
        let filled = self.files.iter().enumerate().filter(|(_, file)| file.count > 0);
        filled.map(move |(i, file)| {
            let (first_seq, count) = (file.first, file.count);
            (SegmentMeta { first_seq, count, len: file.len(), sealed: i < last }, file.file.clone())
        })
    }

    /// The first file of claims after this one that does not grow any more.
    pub(crate) fn closed_after(&self, number: Option<u64>) -> Option<(PathBuf, SegmentMeta)> {
        let at = self.files.partition_point(|file| number.is_some_and(|number| file.first <= number));
        let file = self.files.get(at).filter(|_| at + 1 < self.files.len())?;
        let (first_seq, count) = (file.first, file.count);
        Some((file.file.path().into(), SegmentMeta { first_seq, count, len: file.len(), sealed: true }))
    }

    /// Hands over the files that nothing needs any more, now that `kept` are in the last checkpoint.
    pub(crate) fn take_retired(&mut self, kept: &HashSet<PathBuf>) -> Vec<Arc<SegmentFile>> {
        self.retired.extract_if(.., |file| !kept.contains(file.path())).collect()
    }

    /// All but the newest files, of claims before this one, which are on disk: they need not be held.
    pub(crate) fn old(&self, durable: u64) -> Vec<Arc<SegmentFile>> {
        let old = self.files.len().saturating_sub(self.limits.held_max);
        let is_durable = |file: &&ClaimFile| file.end() <= durable;
        self.files.iter().take(old).filter(is_durable).map(|file| file.file.clone()).collect()
    }

    /// Holds open what somebody still reads: all of it is about to be removed.
    pub(crate) fn hold_for_readers(&self) -> Result<(), StoreError> {
        let mut all = self.files.iter().map(|file| &file.file).chain(&self.retired);
        all.try_for_each(SegmentFile::hold_for_readers)
    }

    /// What the claims take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(ClaimFile::len).sum()
    }

    /// And in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn retire(&mut self) {
        let first = self.spans.numbers().start;
        while self.files.len() > 1 && self.files[0].end() <= first {
            self.retired.extend(self.files.pop_front().map(|file| file.file));
        }
    }

    /// Gives up what it takes to find claims, before those that replace all of them need as much: it is a hundred
    /// megabytes where there are many. From here on looking for one is an error.
    pub(crate) fn give_up_index(&mut self) -> ClaimIndex {
        self.is_given_up = true;
        std::mem::take(&mut self.index)
    }

    /// Whether there may be a claim of this key, by what is in memory.
    pub(crate) fn may_have(&self, key: ClaimKey) -> bool {
        self.is_given_up || self.index.candidates(key, self.spans.numbers()).next().is_some()
    }

    /// Where what may be the claims of these keys is.
    pub(crate) fn places(&self, wanted: &Wanted) -> Result<Places, StoreError> {
        if self.is_given_up && !wanted.is_empty() {
            return Err(StoreError::Stopped("the claims are being replaced".into()));
        }
        let of = |key: &ClaimKey| {
            let candidates = self.index.candidates(*key, self.spans.numbers());
            let places: Result<_, StoreError> = candidates.map(|number| self.place(number)).collect();
            Ok((*key, places?))
        };
        wanted.keys.iter().map(of).collect::<Result<_, _>>().map(Places)
    }

    /// Makes ready for a run, of whose keys this is known.
    pub(crate) fn begin_run(&mut self, known: Known) {
        self.known = known;
    }

    /// Where a claim that is not staged is now.
    fn place(&self, number: u64) -> Result<Place, StoreError> {
        let mut place = self.in_file(number)?;
        if let Some(last) = self.files.back()
            && last.first <= number
        {
            let from = place.offset();
            let (runs, in_file) = self.write_behind.between(from, from + CLAIM_BYTES as u64, last.len());
            if from >= in_file {
                let run = runs.first().and_then(|run| {
                    let from = usize::try_from(from.checked_sub(run.offset)?).ok()?;
                    run.bytes.get(from..from + CLAIM_BYTES)?.try_into().ok()
                });
                let missing = || StoreError::Stopped(format!("claim {number} is not on its way"));
                place.bytes = Some(run.ok_or_else(missing)?);
            }
        }
        Ok(place)
    }

    fn in_file(&self, number: u64) -> Result<Place, StoreError> {
        let after = self.files.partition_point(|file| file.first <= number);
        let file = after.checked_sub(1).and_then(|at| self.files.get(at));
        match file.filter(|file| number < file.end()) {
            Some(ClaimFile { file, first, .. }) => {
                Ok(Place { number, at: number - first, file: file.clone(), bytes: None })
            }
            None => Err(StoreError::Stopped(format!("claim {number} is in no file"))),
        }
    }
}

/// A file that is to be made.
pub(crate) struct Next {
    path: PathBuf,
    first: u64,
}

impl Next {
    /// Makes it. Fails, and can be called again, on a full disk. Blocks.
    pub(crate) fn make(self) -> Result<ClaimFile, StoreError> {
        let Next { path, first } = self;
        // After a crash, one of that name may be left from before the checkpoint was cut back to.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = open_file(&mut options, &path).map_err(StoreError::io("create", &path))?;
        file.write_all_at(&file::header(first), 0).map_err(StoreError::io("write", &path))?;
        Ok(ClaimFile { file: Arc::new(SegmentFile::held(path, file)), first, count: 0 })
    }
}

impl ClaimRecords for ClaimFiles {
    fn spans(&self) -> &Spans {
        &self.spans
    }

    fn find(&self, key: ClaimKey) -> Result<Option<(u64, Remembered)>, Stopped> {
        let first = self.spans.numbers().start;
        let found = match self.staged_keys.get(&key.0) {
            Some(staged) => Some(staged),
            // To read it here would hold up the thread that runs consensus.
            None => {
                self.known.of(key).ok_or_else(|| StoreError::Stopped("a key was not looked for".into()))?
            }
        };
        // The run itself may have forgotten what was found.
        Ok(found.filter(|(number, _)| *number >= first).cloned())
    }

    fn push(&mut self, claim: &Remembered, instead_of: Option<u64>) -> Result<(), Stopped> {
        if self.files.is_empty() {
            return Err(StoreError::Stopped("a claim was staged before there was a file".into()).into());
        }
        let number = self.spans.numbers().end;
        self.staged.extend_from_slice(&claim.to_bytes(number));
        self.staged_keys.insert(claim.key.0, (number, claim.clone()));
        self.note(claim, instead_of);
        Ok(())
    }

    fn forget_oldest(&mut self) {
        self.spans.forget_oldest();
        if self.spans.is_empty() {
            self.index.clear();
        }
        self.retire();
    }
}

#[cfg(test)]
mod tests;
