//! Moves what is still needed out of files that are mostly done with, so that no old task keeps a file.
//!
//! One thread looks now and then. It copies to a file of its own, which is whole before any task has a place there, and
//! then tells the tasks so, a few at a time under the lock: each that still has the place that was copied. Nothing of it
//! is in the log. What it left goes as any other file of which nothing is needed: once there is a checkpoint that was
//! captured without it. Until there is one, a crash goes back to the places from before; the copies are no checkpoint's
//! then, and a start removes them.
//!
//! It waits for the disk and holds no lock meanwhile. A full disk ends the attempt; the next one begins anew.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use skep_state::heap::{Filled, Heap, Place};
use skep_state::kinds::tasks::Which;

use crate::core::{Core, CoreState};
use crate::error::StoreError;
use crate::payloads::file::HEADER_BYTES;
use crate::payloads::{Made, read};
use crate::segments::{SegmentFile, Wait, remove_if_there};

/// Slots of tasks that are looked at under one lock.
const SLOTS_AT_ONCE: u32 = 4096;
/// Tasks that are told where their bytes are under one lock.
const MOVED_AT_ONCE: usize = 512;
/// Small files beyond so many become one.
const SMALL_MAX: usize = 4;
const BUFFER_BYTES: usize = 256 * 1024;

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

/// Bytes of a task that are moved.
struct Move {
    slot: u32,
    which: Which,
    from: Place,
    to: Place,
}

/// Which files are emptied at once, and how much of each is needed: those that are less than half needed, and small
/// ones where there are many. None where nothing is won.
fn victims(heap: &Heap, file_bytes_max: u64) -> BTreeMap<u32, Filled> {
    let grows = heap.growing().map(|(number, _)| number);
    let sealed = || heap.files().filter(move |(number, _)| Some(*number) != grows);
    let is_sparse = |filled: &Filled| 2 * filled.live < filled.len;
    let is_small = |filled: &Filled| 2 * filled.len < file_bytes_max;
    let has_sparse = sealed().any(|(_, filled)| is_sparse(&filled));
    let small = sealed().filter(|(_, filled)| is_small(filled)).count();
    if !has_sparse && small <= SMALL_MAX {
        return BTreeMap::new();
    }
    let mut left = file_bytes_max;
    let mut chosen = BTreeMap::new();
    // What wins most first.
    let mut all: Vec<_> = sealed().filter(|(_, filled)| is_sparse(filled) || is_small(filled)).collect();
    all.sort_by_key(|(number, filled)| (!is_sparse(filled), *number));
    for (number, filled) in all {
        match left.checked_sub(filled.live) {
            Some(rest) => left = rest,
            None if chosen.is_empty() => left = 0,
            None => break,
        }
        chosen.insert(number, filled);
    }
    chosen
}

/// Moves once; whether something was moved. `is_over`: it is to end. Blocks.
pub(crate) fn step(core: &Core, is_over: impl Fn() -> bool) -> Result<bool, StoreError> {
    let (generation, files) = {
        let state = core.lock();
        let payloads = &state.payloads;
        let chosen = victims(state.kinds.tasks.heap(), payloads.file_bytes_max);
        let files: BTreeMap<u32, Arc<SegmentFile>> =
            chosen.keys().filter_map(|number| Some((*number, payloads.file(*number)?))).collect();
        (payloads.generation, files)
    };
    if files.is_empty() {
        return Ok(false);
    }
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
    let copied = next.make().and_then(|made| copy(made, &files, &mut found, &is_over));
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
    let bytes: u64 = found.iter().map(|moved| u64::from(moved.to.len)).sum();
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
    files: &BTreeMap<u32, Arc<SegmentFile>>,
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

/// Copies all of it to a new file; what cannot be read stays where it is. None where it is to end.
fn copy(
    made: Made,
    files: &BTreeMap<u32, Arc<SegmentFile>>,
    found: &mut Vec<Move>,
    is_over: impl Fn() -> bool,
) -> Result<Option<(Made, u64)>, StoreError> {
    let to = made.file.open()?;
    let path = made.file.path().to_path_buf();
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, Behind { file: &to, at: HEADER_BYTES as u64 });
    let mut len = HEADER_BYTES as u64;
    let mut copied = Vec::with_capacity(found.len());
    for mut moved in found.drain(..) {
        if is_over() {
            return Ok(None);
        }
        let Some(file) = files.get(&moved.from.file) else { continue };
        let bytes = match read(file, moved.from, Wait::ForDisk) {
            // As they are: who reads them checks them, and is told where they are others.
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!("bytes of a task stay in a file that is to go: {error}");
                continue;
            }
        };
        let Ok(offset) = u32::try_from(len) else { break };
        writer.write_all(&bytes).map_err(StoreError::io("write", &path))?;
        moved.to = Place { file: made.number, offset, ..moved.from };
        len += u64::from(moved.from.len);
        copied.push(moved);
    }
    writer.flush().map_err(StoreError::io("write", &path))?;
    drop(writer);
    *found = copied;
    Ok((!found.is_empty()).then_some((made, len)))
}

/// Writes one after the other.
struct Behind<'a> {
    file: &'a std::fs::File,
    at: u64,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = std::os::unix::fs::FileExt::write_at(self.file, bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
