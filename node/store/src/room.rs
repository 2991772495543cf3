//! Room on the disk, and the way out where there is none: a mark below which clients' writes are refused
//! before the disk is full, and a file that is given up when it is full all the same.
//!
//! What takes messages out needs room itself: an entry of the log, a checkpoint. Below the mark nothing but
//! that is written; and where others have filled the disk, the reserve's bytes are for it.
//!
//! One thread looks; it ends with the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::error::Lack;
use crate::health::{HealthSender, StoreMetrics, Writer};

/// With less room than this, clients' writes are refused.
const LOW_BYTES: u64 = 32 << 20;
/// What is given up where even the mark was of no use.
const RESERVE_BYTES: u64 = 32 << 20;
/// With less room than this the reserve is given up.
const NONE_BYTES: u64 = 8 << 20;
/// So much more than the mark, and writes are taken again.
const MARGIN_BYTES: u64 = 16 << 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What is to be done about the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Nothing,
    GiveUp,
    Make,
}

/// Whether there is too little room for clients' writes, and what to do. Pure. `is_refused` where a writer was
/// told that there is none, whatever the file system says of itself: of a quota, it says nothing.
fn judge(free: u64, has_reserve: bool, was_low: bool, is_refused: bool) -> (bool, Act) {
    // What the reserve lacks is no room.
    let room = if has_reserve { free } else { free.saturating_sub(RESERVE_BYTES) };
    let is_low = room < LOW_BYTES + if was_low { MARGIN_BYTES } else { 0 };
    let act = match has_reserve {
        true if free < NONE_BYTES || is_refused => Act::GiveUp,
        false if !is_low && !is_refused => Act::Make,
        _ => Act::Nothing,
    };
    (is_low, act)
}

/// What a program without privileges may still write, and the size of the file system; none where that does
/// not say.
fn free_of(dir: &Path) -> Option<(u64, u64)> {
    let stat = statvfs(dir).ok().filter(|stat| stat.f_blocks > 0)?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

fn free(dir: &Path) -> Option<u64> {
    free_of(dir).map(|(free, _)| free)
}

/// A copy of it may be a file of holes, which gives no room back.
fn is_reserve(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|file| file.len() == RESERVE_BYTES && file.blocks() * 512 >= RESERVE_BYTES)
}

/// Gives the reserve up where there is no room, before anything is opened that may need some.
pub(crate) fn make_some(dir: &Path) {
    if free(dir).is_some_and(|free| free < NONE_BYTES) {
        let _ = fs::remove_file(dir.join("reserve"));
    }
}

/// Whether so many bytes may be taken of the disk for what can be done without.
pub(crate) fn is_ample(dir: &Path, bytes: u64) -> bool {
    free(dir).is_none_or(|free| free >= bytes + LOW_BYTES + MARGIN_BYTES)
}

struct Room {
    dir: PathBuf,
    reserve: PathBuf,
    was_low: bool,
    /// The file system has no way to reserve.
    cannot: bool,
    metrics: Arc<StoreMetrics>,
}

/// Keeps the look at the room going.
pub(crate) struct Watched(#[expect(dead_code, reason = "its end is what counts")] mpsc::Sender<()>);

/// Looks at the folder's room until what it answers is dropped.
pub(crate) fn watch(
    dir: &Path,
    health: Arc<HealthSender>,
    metrics: Arc<StoreMetrics>,
) -> io::Result<Watched> {
    let reserve = dir.join("reserve");
    let mut room = Room { dir: dir.to_path_buf(), reserve, was_low: false, cannot: false, metrics };
    let (watched, end) = mpsc::channel();
    let watching = move || {
        loop {
            let is_low = room.look(health.lacks_room());
            health.set_lack(Writer::Room, is_low.then_some(Lack::Room));
            if end.recv_timeout(LOOK_INTERVAL) == Err(mpsc::RecvTimeoutError::Disconnected) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("skep-room".into()).spawn(watching)?;
    Ok(Watched(watched))
}

impl Room {
    fn look(&mut self, is_refused: bool) -> bool {
        // A disk that does not say how full it is will say so when it is written to.
        let Some((free, size)) = free_of(&self.dir) else { return false };
        self.metrics.disk_free_bytes.store(free, Ordering::Relaxed);
        self.metrics.disk_size_bytes.store(size, Ordering::Relaxed);
        let has_reserve = self.cannot || is_reserve(&self.reserve);
        let (is_low, act) = judge(free, has_reserve, self.was_low, is_refused);
        match act {
            Act::GiveUp if !self.cannot => match fs::remove_file(&self.reserve) {
                Ok(()) => tracing::warn!("the disk is full: the reserve is given up"),
                Err(error) => tracing::debug!(%error, "the reserve is not given up"),
            },
            Act::Make => {
                if let Err(error) = self.make() {
                    tracing::debug!(%error, "no reserve is made");
                    self.cannot = error.kind() == io::ErrorKind::Unsupported;
                }
            }
            Act::GiveUp | Act::Nothing => {}
        }
        if is_low && !self.was_low {
            tracing::warn!(free, "there is too little room on the disk: clients' writes are refused");
        }
        self.was_low = is_low;
        is_low
    }

    fn make(&self) -> io::Result<()> {
        let file = File::create(&self.reserve)?;
        let made = fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES);
        made.map_err(|error| {
            let _ = fs::remove_file(&self.reserve);
            error.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn below_the_mark_writes_are_refused_until_there_is_clearly_more() {
        assert_eq!(judge(32 * MIB, true, false, false), (false, Act::Nothing));
        assert_eq!(judge(32 * MIB - 1, true, false, false), (true, Act::Nothing));
        assert_eq!(judge(40 * MIB, true, true, false), (true, Act::Nothing));
        assert_eq!(judge(48 * MIB, true, true, false), (false, Act::Nothing));
    }

    #[test]
    fn the_reserve_is_given_up_last_and_made_again_first() {
        assert_eq!(judge(8 * MIB, true, true, false), (true, Act::Nothing));
        assert_eq!(judge(8 * MIB - 1, true, true, false), (true, Act::GiveUp));
        // What was given up is not taken for room.
        assert_eq!(judge(40 * MIB, false, true, false), (true, Act::Nothing));
        assert_eq!(judge(79 * MIB, false, true, false), (true, Act::Nothing));
        assert_eq!(judge(80 * MIB, false, true, false), (false, Act::Make));
        assert_eq!(judge(u64::MAX, false, false, false), (false, Act::Make));
        // A quota leaves the disk its room, and the store none.
        assert_eq!(judge(u64::MAX, true, false, true), (false, Act::GiveUp));
        assert_eq!(judge(u64::MAX, false, false, true), (false, Act::Nothing));
    }

    #[test]
    fn a_store_with_room_has_a_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = dir.path().join("reserve");
        let (metrics, at) = (Arc::<StoreMetrics>::default(), dir.path().to_path_buf());
        let mut room = Room {
            dir: at,
            reserve: reserve.clone(),
            was_low: false,
            cannot: false,
            metrics: metrics.clone(),
        };
        assert!(!room.look(false));
        let (free, size) = (&metrics.disk_free_bytes, &metrics.disk_size_bytes);
        assert!(free.load(Ordering::Relaxed) <= size.load(Ordering::Relaxed));
        assert!(size.load(Ordering::Relaxed) > 0);
        if !room.cannot {
            assert_eq!(fs::metadata(reserve).unwrap().len(), RESERVE_BYTES);
        }
    }
}
