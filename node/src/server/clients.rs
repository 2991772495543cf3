//! How many clients there may be, by the file descriptors that this process may have.
//!
//! Clients get those that the store and the peers need not: a store that can make no file stops writing.

use skep_console::ServeLimits;
use skep_store::{CLAIM_FILES_HELD_MIN, CLAIM_FILES_MAX, MESSAGE_SEGMENTS_HELD_MIN};

use crate::kinds::messages::live::LIVE_READERS_MAX;

/// Descriptors that are kept from clients, or a quarter of all where that is more.
const RESERVED: u64 = 80;
/// Each sealed segment that is held open has so many.
const OF_A_SEGMENT: u64 = 2;
/// Of all descriptors, one part in so many is for these segments, each with two.
const SEGMENTS_SHARE: u64 = 8;
/// And one part in so many for files of claims.
const CLAIMS_SHARE: u64 = 32;
/// So many of a kind are taken however few descriptors there are.
const LEAST: usize = 4;

/// Most clients of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clients {
    pub connections_max: usize,
    /// Those that follow by WebSocket have given their connection's place back.
    pub live_readers_max: usize,
    pub operators_max: usize,
}

impl Clients {
    /// Where the process may have so many files.
    pub fn of(files: u64) -> Self {
        // As many as there may be one day: a node that has none yet is to run for long.
        let held = segments_held_max(files) as u64;
        let reserved = RESERVED + claim_files_held_max(files) as u64;
        let kept = reserved.max(files / 4).saturating_add(held.saturating_mul(OF_A_SEGMENT));
        let eighth = usize::try_from(files.saturating_sub(kept) / 8).unwrap_or(usize::MAX);
        let share = |parts: usize, most: usize| eighth.saturating_mul(parts).clamp(LEAST, most);
        Self {
            connections_max: share(5, ServeLimits::default().connections_max),
            live_readers_max: share(2, LIVE_READERS_MAX),
            operators_max: share(1, ServeLimits::admin().connections_max),
        }
    }
}

/// Sealed segments whose files are held open, where the process may have so many files.
pub fn segments_held_max(files: u64) -> usize {
    usize::try_from(files / SEGMENTS_SHARE).unwrap_or(usize::MAX).max(MESSAGE_SEGMENTS_HELD_MIN)
}

/// Files of claims that are held open, where the process may have so many files.
pub fn claim_files_held_max(files: u64) -> usize {
    let share = usize::try_from(files / CLAIMS_SHARE).unwrap_or(usize::MAX);
    share.clamp(CLAIM_FILES_HELD_MIN, CLAIM_FILES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_the_store_what_it_needs() {
        for files in [128, 160, 256, 1024, 4096, 20_000] {
            let Clients { connections_max, live_readers_max, operators_max } = Clients::of(files);
            let all = (connections_max + live_readers_max + operators_max) as u64;
            let (least, held) = (3 * LEAST as u64, segments_held_max(files) as u64);
            let claims = claim_files_held_max(files) as u64;
            assert!(all + RESERVED + claims + 2 * held <= files + least, "{files}: {all}");
        }
    }

    #[test]
    fn all_files_of_claims_are_held_but_where_there_are_few_descriptors() {
        let held = [128, 160, 1024, 2048, 1 << 20].map(claim_files_held_max);
        assert_eq!(held, [4, 5, 32, 42, 42]);
    }

    #[test]
    fn where_there_are_many_the_usual_bounds_hold() {
        for files in [1 << 20, u64::MAX] {
            let Clients { connections_max, live_readers_max, operators_max } = Clients::of(files);
            assert_eq!((connections_max, live_readers_max, operators_max), (8192, LIVE_READERS_MAX, 256));
        }
    }
}
