//! Moves what is still needed out of files that are mostly done with, so that no old task keeps a file.
//!
//! One thread looks now and then. It copies to a file of its own, which is whole before any task has a place there, and
//! then tells the tasks so, a few at a time under the lock: each that still has the place that was copied. Nothing of it
//! is in the log. What it left goes as any other file of which nothing is needed: once there is a checkpoint that was
//! captured without it. Until there is one, a crash goes back to the places from before; the copies are no checkpoint's
//! then, and a start removes them.
//!
//! It waits for the disk and holds no lock meanwhile. A full disk ends the attempt; the next one begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use skep_state::heap::{Filled, Heap, Place};
use skep_state::kinds::tasks::Which;

use crate::core::{Core, CoreState};
use crate::error::StoreError;
use crate::payloads::file::HEADER_BYTES;
use crate::payloads::{Made, read_from};
use crate::room;
use crate::segments::{SegmentFile, Wait, remove_if_there};

/// Slots of tasks that are looked at under one lock.
const SLOTS_AT_ONCE: u32 = 4096;
/// Tasks that are told where their bytes are under one lock.
const MOVED_AT_ONCE: usize = 512;
/// Small files beyond so many become one.
const SMALL_MAX: usize = 4;
/// Files that are emptied at once: they are held open meanwhile.
const FILES_AT_ONCE: usize = 64;
/// What is won is this part of a full file at least, or files that are fewer.
const WIN_PART: u64 = 64;
const BUFFER_BYTES: usize = 256 * 1024;
/// Written bytes after which the new file is synced: the next checkpoint is no long stall of the disk then.
const SYNC_BYTES: u64 = 1024 * 1024;

/// Ends the thread.
pub(crate) struct Moving {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: Mutex<bool>,
    told: Condvar,
}

impl Shared {
    fn is_over(&self) -> bool {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long; whether it is over.
    fn wait(&self, interval: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(is_over, interval, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Moving {
    pub(crate) fn start(core: &Arc<Core>, interval: Duration) -> std::io::Result<Moving> {
        let (shared, of) = (Arc::new(Shared::default()), Arc::downgrade(core));
        let told = shared.clone();
        let thread = std::thread::Builder::new().name("skep-mover".into()).spawn(move || {
            while !told.wait(interval) {
                let Some(core) = of.upgrade() else { return };
                if let Err(error) = step(&core, || told.is_over()) {
                    tracing::warn!("bytes of tasks are not moved: {error}");
                }
            }
        })?;
        Ok(Moving { shared, thread: Some(thread) })
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.told.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the mover of tasks' bytes panicked");
        }
    }
}

/// A file that is emptied, open meanwhile.
struct Victim {
    opened: Arc<File>,
    path: PathBuf,
}

impl Victim {
    fn open(file: Arc<SegmentFile>) -> Result<Victim, StoreError> {
        Ok(Victim { opened: file.open()?, path: file.path().to_path_buf() })
    }
}

/// Bytes of a task that are moved.
struct Move {
    slot: u32,
    which: Which,
    from: Place,
    to: Place,
}

/// Which files are emptied at once, and how much of each is needed: those of whose bytes less than half are needed,
/// and small ones where there are many. None where nothing is won: it comes to rest.
fn victims(heap: &Heap, unreadable: &BTreeSet<u32>, file_bytes_max: u64) -> BTreeMap<u32, Filled> {
    let grows = heap.growing().map(|(number, _)| number);
    let is_left = |number: u32| Some(number) == grows || unreadable.contains(&number);
    let sealed = || heap.files().filter(move |(number, _)| !is_left(*number));
    let is_sparse = |filled: &Filled| filled.live < wasted(filled);
    let is_small = |filled: &Filled| 2 * filled.len < file_bytes_max;
    let are_many = sealed().filter(|(_, filled)| is_small(filled)).count() > SMALL_MAX;
    // What wins most first.
    let wins = |filled: &Filled| is_sparse(filled) || (are_many && is_small(filled));
    let mut all: Vec<_> = sealed().filter(|(_, filled)| wins(filled)).collect();
    all.sort_by_key(|(number, filled)| (!is_sparse(filled), *number));
    let mut left = file_bytes_max;
    let mut chosen = BTreeMap::new();
    for (number, filled) in all.into_iter().take(FILES_AT_ONCE) {
        match left.checked_sub(filled.live) {
            Some(rest) => left = rest,
            None if chosen.is_empty() => left = 0,
            None => break,
        }
        chosen.insert(number, filled);
    }
    let won: u64 = chosen.values().map(wasted).sum();
    let is_worth_it = won >= file_bytes_max / WIN_PART || (are_many && chosen.len() > 1);
    if is_worth_it { chosen } else { BTreeMap::new() }
}

/// Bytes of a file that nobody needs.
fn wasted(filled: &Filled) -> u64 {
    filled.len.saturating_sub(HEADER_BYTES as u64 + filled.live)
}

/// Moves once; whether something was moved. `is_over`: it is to end. Blocks.
pub(crate) fn step(core: &Core, is_over: impl Fn() -> bool) -> Result<bool, StoreError> {
    let (generation, files) = {
        let state = core.lock();
        let payloads = &state.payloads;
        let heap = state.kinds.tasks.heap();
        let chosen = victims(heap, &payloads.unreadable, payloads.file_bytes_max);
        let needed: u64 = chosen.values().map(|filled| filled.live).sum();
        if chosen.is_empty() || !room::is_ample(&core.config.dir, HEADER_BYTES as u64 + needed) {
            return Ok(false);
        }
        let files: Vec<(u32, Arc<SegmentFile>)> =
            chosen.keys().filter_map(|number| Some((*number, payloads.file(*number)?))).collect();
        (payloads.generation, files)
    };
    let files: BTreeMap<u32, Victim> = files
        .into_iter()
        .map(|(number, file)| Ok((number, Victim::open(file)?)))
        .collect::<Result<_, StoreError>>()?;
    let Some(mut found) = look(core, generation, &files, &is_over) else { return Ok(false) };
    // In the order of the disk.
    found.sort_by_key(|moved| (moved.from.file, moved.from.offset));
    let Some(next) = at(core, generation, |state| {
        let CoreState { kinds, payloads, .. } = state;
        payloads.next_file(kinds.tasks.heap_mut())
    }) else {
        return Ok(false);
    };
    let path = next.path().to_path_buf();
    let mut unreadable = BTreeSet::new();
    let copied = next.make().and_then(|made| copy(made, &files, &mut found, &mut unreadable, &is_over));
    // To try again would move the rest again and again.
    at(core, generation, |state| state.payloads.unreadable.append(&mut unreadable));
    let is_taken = match copied {
        Ok(Some((made, len))) => {
            let taken = at(core, generation, |state| {
                let CoreState { kinds, payloads, .. } = state;
                payloads.add(made, len, kinds.tasks.heap_mut());
            });
            Ok(taken.is_some())
        }
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match is_taken {
        Ok(true) => {}
        other => {
            remove_if_there(&path)?;
            return other;
        }
    }
    let Some(to) = found.first().map(|moved| moved.to.file) else { return Ok(false) };
    // To its end: what is left out keeps two files.
    for some in found.chunks(MOVED_AT_ONCE) {
        let told = at(core, generation, |state| {
            let CoreState { kinds, payloads, .. } = state;
            for Move { slot, which, from, to } in some {
                kinds.tasks.move_bytes(*slot, *which, *from, *to);
            }
            payloads.retire(kinds.tasks.heap_mut());
        });
        if told.is_none() {
            return Ok(false);
        }
    }
    at(core, generation, |state| {
        let CoreState { kinds, payloads, .. } = state;
        kinds.tasks.heap_mut().drop_if_empty(to);
        payloads.retire(kinds.tasks.heap_mut());
    });
    let bytes: u64 = found.iter().map(|moved| u64::from(moved.to.len.get())).sum();
    core.metrics.payload_bytes_moved.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    Ok(true)
}

/// Under the lock, unless a snapshot has replaced all files meanwhile.
fn at<T>(core: &Core, generation: u64, work: impl FnOnce(&mut CoreState) -> T) -> Option<T> {
    let mut state = core.lock();
    (state.payloads.generation == generation).then(|| work(&mut state))
}

/// What tasks have in these files.
fn look(
    core: &Core,
    generation: u64,
    files: &BTreeMap<u32, Victim>,
    is_over: impl Fn() -> bool,
) -> Option<Vec<Move>> {
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let is_last = at(core, generation, |state| {
            let tasks = &state.kinds.tasks;
            let upto = next + SLOTS_AT_ONCE;
            for (slot, which, from) in tasks.places_of(next..upto) {
                if files.contains_key(&from.file) {
                    found.push(Move { slot, which, from, to: from });
                }
            }
            next = upto;
            upto >= tasks.slots()
        })?;
        if is_last {
            return Some(found);
        }
        if is_over() {
            return None;
        }
    }
}

/// Copies all of it to a new file; what cannot be read stays where it is, and its file is said. None where it is to
/// end.
fn copy(
    made: Made,
    files: &BTreeMap<u32, Victim>,
    found: &mut Vec<Move>,
    unreadable: &mut BTreeSet<u32>,
    is_over: impl Fn() -> bool,
) -> Result<Option<(Made, u64)>, StoreError> {
    let to = made.file.open()?;
    let path = made.file.path().to_path_buf();
    let behind = Behind { file: &to, at: HEADER_BYTES as u64, unsynced: 0 };
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, behind);
    let mut len = HEADER_BYTES as u64;
    let mut copied = Vec::with_capacity(found.len());
    for mut moved in found.drain(..) {
        if is_over() {
            return Ok(None);
        }
        let Some(Victim { opened, path: from }) = files.get(&moved.from.file) else { continue };
        let bytes = match read_from(opened, from, moved.from, Wait::ForDisk) {
            // As they are: who reads them checks them, and is told where they are others.
            Ok(bytes) => bytes,
            Err(error) if error.lack().is_some() => return Err(error),
            Err(error) => {
                if unreadable.insert(moved.from.file) {
                    tracing::error!("bytes of a task cannot be read, and their file stays: {error}");
                }
                continue;
            }
        };
        let Ok(offset) = u32::try_from(len) else { break };
        writer.write_all(&bytes).map_err(StoreError::io("write", &path))?;
        moved.to = Place { file: made.number, offset, ..moved.from };
        len += u64::from(moved.from.len.get());
        copied.push(moved);
    }
    writer.flush().map_err(StoreError::io("write", &path))?;
    drop(writer);
    *found = copied;
    Ok((!found.is_empty()).then_some((made, len)))
}

/// Writes one after the other, and syncs now and then.
struct Behind<'a> {
    file: &'a File,
    at: u64,
    unsynced: u64,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = std::os::unix::fs::FileExt::write_at(self.file, bytes, self.at)?;
        self.at += written as u64;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of so many bytes beside the header, of which so many are needed.
    fn chosen(files: &[(u64, u64)]) -> Vec<u32> {
        let lens = (1..).zip(files).map(|(number, (len, _))| (number, HEADER_BYTES as u64 + len));
        let heap = Heap::of_filled(lens.zip(files).map(|((number, len), (_, live))| (number, len, *live)));
        victims(&heap, &BTreeSet::from([9]), 6400).into_keys().collect()
    }

    #[test]
    fn what_wins_nothing_is_left_where_it_is() {
        assert!(chosen(&[(1, 1), (31, 31), (32, 10)]).is_empty(), "its own output, and too little");
        assert!(chosen(&[(4000, 2001)]).is_empty(), "more than half is needed");
        assert_eq!(chosen(&[(6400, 3100), (200, 200)]), [1], "few small ones stay");
        assert_eq!(chosen(&[(5, 5); 5]), [1, 2, 3, 4, 5], "many become one");
        assert!(chosen(&[(5, 5), (5, 5), (5, 5), (5, 5), (6400, 6400)]).is_empty());
        let mut files = [(6400, 6400); 9];
        files[8] = (6400, 1);
        assert!(chosen(&files).is_empty(), "the ninth cannot be read");
    }
}
