//! Bytes of tasks on disk: files that only grow, of which tasks have the places.
//!
//! As with the messages' segments, what a run of commands stages is written behind, and synced by the next checkpoint,
//! which names the files and their lengths; a start cuts the files back to it, removes the others, and the log is
//! applied again. What lies in a file never changes. A file of which nothing is needed any more stays until there is a
//! checkpoint that was captured without it: a crash goes back to the last one. Files that are mostly done with have the
//! rest of them moved (`mover`).
//!
//! What was found can be read whatever becomes of its file: one that somebody reads is held open when its name goes.

pub(crate) mod file;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use skep_state::heap::{Heap, HeapFile, HeapFiles, Held, Lost, Place};

use crate::error::StoreError;
use crate::health::StoreMetrics;
use crate::segments::{SegmentFile, SegmentMeta, Wait, WriteBehind, read_exact_at};
use file::HEADER_BYTES;

/// Of files that grow no more, the newest so many are held open. Others are opened for each look.
pub(crate) const HELD_MAX: usize = 32;

/// The files of a heap.
pub(crate) struct PayloadFiles {
    dir: PathBuf,
    pub generation: u64,
    pub file_bytes_max: u64,
    files: Arc<Files>,
    /// Files of which nothing is needed, each with the number of those that were retired before it.
    retired: Vec<(Arc<SegmentFile>, u64)>,
    retirements: u64,
    /// Files of which something could not be read: they are not emptied.
    pub unreadable: BTreeSet<u32>,
}

/// What readers find places in.
struct Files {
    open: Mutex<Open>,
    /// Takes the growing file's alone, where one grows.
    write_behind: Option<Arc<WriteBehind>>,
    metrics: Arc<StoreMetrics>,
}

#[derive(Default)]
struct Open {
    by_number: BTreeMap<u32, Arc<SegmentFile>>,
    /// The file that grows.
    grows: Option<u32>,
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl HeapFiles for Files {
    fn find(&self, place: Place) -> Result<Held, Lost> {
        let (file, grows) = {
            let open = self.lock();
            let file = open.by_number.get(&place.file).cloned();
            (file, open.grows == Some(place.file))
        };
        let missing = || {
            self.metrics.payloads_lost.fetch_add(1, Ordering::Relaxed);
            Lost(format!("there is no file {} of tasks' bytes", place.file))
        };
        let file = file.ok_or_else(missing)?;
        if grows && let Some(write_behind) = &self.write_behind {
            let from = u64::from(place.offset);
            let (runs, in_file) = write_behind.between(from, place.end(), u64::MAX);
            if from >= in_file {
                // What was staged together is written together.
                let run = runs.first().and_then(|run| {
                    let from = usize::try_from(from.checked_sub(run.offset)?).ok()?;
                    let to = from.checked_add(place.bytes())?;
                    run.bytes.get(from..to).map(Bytes::copy_from_slice)
                });
                return run.map(Held::Here).ok_or_else(missing);
            }
        }
        Ok(Held::There(place, Arc::new(OpenFile { file, metrics: self.metrics.clone() })))
    }
}

/// A file that is read from, and who counts what it has lost.
struct OpenFile {
    file: Arc<SegmentFile>,
    metrics: Arc<StoreMetrics>,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenFile").field(&self.file.path()).finish()
    }
}

impl HeapFile for OpenFile {
    fn read(&self, place: Place, may_wait: bool) -> Result<Option<Bytes>, Lost> {
        let wait = if may_wait { Wait::ForDisk } else { Wait::Never };
        let lost = |detail: String| {
            self.metrics.payloads_lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(file = %self.file.path().display(), "bytes of a task are lost: {detail}");
            Lost(detail)
        };
        match read(&self.file, place, wait) {
            Ok(bytes) if place.is_of(&bytes) => Ok(Some(bytes.into())),
            Ok(_) => Err(lost(format!("at byte {} there are others", place.offset))),
            Err(StoreError::WouldWait) => Ok(None),
            // They are there, and can be had once there are descriptors again.
            Err(error) if error.lack().is_some() => Err(Lost(error.to_string())),
            Err(error) => Err(lost(error.to_string())),
        }
    }
}

/// What lies in a place, whatever it is.
pub(crate) fn read(file: &SegmentFile, place: Place, wait: Wait) -> Result<Vec<u8>, StoreError> {
    read_from(&*file.open_for(wait)?, file.path(), place, wait)
}

/// The same, of a file that is open.
pub(crate) fn read_from(opened: &File, path: &Path, place: Place, wait: Wait) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; place.bytes()];
    read_exact_at(opened, path, &mut bytes, place.offset.into(), wait)?;
    Ok(bytes)
}

impl PayloadFiles {
    /// Opens the files of a checkpoint, with the heap that they are, and cuts back what was written after it.
    pub(crate) fn open(
        dir: PathBuf,
        generation: u64,
        metas: &[SegmentMeta],
        file_bytes_max: u64,
        write_behind: Arc<WriteBehind>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<(PayloadFiles, Heap), StoreError> {
        let (mut open, mut numbers) = (Open::default(), Vec::new());
        let old = metas.len().saturating_sub(HELD_MAX);
        for (at, meta) in metas.iter().enumerate() {
            let number = file::number(*meta)?;
            let path = file::path(&dir, generation, number);
            let opened = file::open_checked(&path, *meta)?;
            opened.set_len(meta.len).map_err(StoreError::io("cut", &path))?;
            let file = Arc::new(SegmentFile::held(path, opened));
            if at < old && meta.sealed {
                // There may be more files than descriptors.
                file.let_go();
            }
            open.by_number.insert(number, file);
            numbers.push((number, meta.len));
            if !meta.sealed {
                open.grows = Some(number);
            }
        }
        let grows = open.grows;
        let files = Arc::new(Files { open: Mutex::new(open), write_behind: Some(write_behind), metrics });
        let heap = Heap::open(numbers.into_iter(), grows, files.clone());
        let (retired, unreadable) = (Vec::new(), BTreeSet::new());
        let payloads =
            PayloadFiles { dir, generation, file_bytes_max, files, retired, retirements: 0, unreadable };
        Ok((payloads, heap))
    }

    /// The files, by their paths.
    pub(crate) fn known_files(&self) -> HashSet<PathBuf> {
        self.files.lock().by_number.values().map(|file| file.path().to_path_buf()).collect()
    }

    /// The file that comes next, where the present one has no room.
    pub(crate) fn next(&self, heap: &Heap) -> bool {
        heap.growing().is_none_or(|(_, filled)| filled.len >= self.file_bytes_max)
    }

    /// One that is to be made, for which the heap gives a number.
    pub(crate) fn next_file(&self, heap: &mut Heap) -> Next {
        let number = heap.next_number();
        Next { path: file::path(&self.dir, self.generation, number), number }
    }

    /// Goes on in the next file. All that came before is in the present one.
    pub(crate) fn go_on_in(&mut self, Made { number, file }: Made, heap: &mut Heap) {
        {
            let mut open = self.files.lock();
            open.by_number.insert(number, file);
            open.grows = Some(number);
        }
        heap.go_on_in(number, HEADER_BYTES as u64);
        self.retire(heap);
    }

    /// Takes a file in to which bytes were moved, before any task has a place there.
    pub(crate) fn add(&mut self, Made { number, file }: Made, len: u64, heap: &mut Heap) {
        self.files.lock().by_number.insert(number, file);
        heap.add(number, len);
    }

    /// Sends what was staged on its way to the file.
    pub(crate) fn publish(&mut self, heap: &mut Heap) -> Result<(), StoreError> {
        if let Some(staged) = heap.take_staged() {
            let open = self.files.lock();
            let file = open.by_number.get(&staged.file).filter(|_| open.grows == Some(staged.file)).cloned();
            drop(open);
            let missing =
                || StoreError::Stopped("bytes of a task were staged before there was a file".into());
            let behind = self.files.write_behind.as_ref().ok_or_else(missing)?;
            behind.push(file.ok_or_else(missing)?, staged.offset, staged.bytes.into());
        }
        self.retire(heap);
        Ok(())
    }

    /// Parts from files of which nothing is needed.
    pub(crate) fn retire(&mut self, heap: &mut Heap) {
        for number in heap.take_emptied() {
            self.unreadable.remove(&number);
            if let Some(file) = self.files.lock().by_number.remove(&number) {
                self.retired.push((file, self.retirements));
                self.retirements += 1;
            }
        }
    }

    /// How many files were retired: who captures the state notes it.
    pub(crate) fn retirements(&self) -> u64 {
        self.retirements
    }

    /// Hands over the files that were retired before a state was captured which is the last checkpoint now. One that
    /// was retired later may be in a state that is captured already, and will be a checkpoint.
    pub(crate) fn take_retired(&mut self, before: u64) -> Vec<Arc<SegmentFile>> {
        self.retired.extract_if(.., |(_, number)| *number < before).map(|(file, _)| file).collect()
    }

    /// Holds open what somebody still reads: all of it is about to be removed.
    pub(crate) fn hold_for_readers(&self) -> Result<(), StoreError> {
        let all: Vec<_> = self.files.lock().by_number.values().cloned().collect();
        // One reference is that of this list.
        let is_read = |file: &&Arc<SegmentFile>| Arc::strong_count(file) > 2;
        all.iter().filter(is_read).try_for_each(|file| file.hold())?;
        self.retired.iter().try_for_each(|(file, _)| file.hold_for_readers())
    }

    /// Files that wait for a checkpoint without them.
    pub(crate) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// The files as a checkpoint lists them.
    pub(crate) fn metas(&self, heap: &Heap) -> Vec<(SegmentMeta, Arc<SegmentFile>)> {
        let open = self.files.lock();
        // One that is empty is not worth its name: it is made again.
        let filled = heap.files().filter(|(_, filled)| filled.len > HEADER_BYTES as u64);
        let meta = |(number, filled): (u32, skep_state::heap::Filled)| {
            let (first_seq, sealed) = (number.into(), open.grows != Some(number));
            let meta = SegmentMeta { first_seq, count: 1, len: filled.len, sealed };
            Some((meta, open.by_number.get(&number)?.clone()))
        };
        filled.filter_map(meta).collect()
    }

    pub(crate) fn file(&self, number: u32) -> Option<Arc<SegmentFile>> {
        self.files.lock().by_number.get(&number).cloned()
    }
}

/// A file that is to be made.
pub(crate) struct Next {
    path: PathBuf,
    number: u32,
}

/// One that was, with nothing in it but its header.
pub(crate) struct Made {
    pub number: u32,
    pub file: Arc<SegmentFile>,
}

impl Next {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it. Fails, and can be called again, on a full disk. Blocks.
    pub(crate) fn make(self) -> Result<Made, StoreError> {
        let Next { path, number } = self;
        let file = file::create(&path, number).inspect_err(|_| {
            // It is made under another number next.
            let _ = fs::remove_file(&path);
        })?;
        Ok(Made { number, file: Arc::new(SegmentFile::held(path, file)) })
    }
}

/// A heap over files of a snapshot that was received: to be read alone.
pub(crate) fn received(files: impl Iterator<Item = (SegmentMeta, PathBuf)>) -> Result<Heap, StoreError> {
    let (mut open, mut numbers) = (Open::default(), Vec::new());
    for (meta, path) in files {
        let number = file::number(meta)?;
        let opened = file::open_checked(&path, meta)?;
        let file = Arc::new(SegmentFile::held(path, opened));
        // There may be more files than descriptors.
        file.let_go();
        open.by_number.insert(number, file);
        numbers.push((number, meta.len));
    }
    let files = Files { open: Mutex::new(open), write_behind: None, metrics: Arc::default() };
    Ok(Heap::open(numbers.into_iter(), None, Arc::new(files)))
}
