//! What of a task is kept in fewer bytes than it would take: a million of them wait in memory, and 8 bytes of each are 16 MiB
//! of it, by the sizes that an allocator gives.

use super::Ended;

/// Milliseconds of Unix time, to the year 10889; later ones are that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ms([u8; 6]);

impl Ms {
    const MAX: u64 = (1 << 48) - 1;

    pub fn get(self) -> u64 {
        let Self([a, b, c, d, e, f]) = self;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

impl From<u64> for Ms {
    fn from(ms: u64) -> Self {
        let [a, b, c, d, e, f, ..] = ms.min(Self::MAX).to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

/// How the claim of a task's current fence ended, and whether the task waits for others of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks(u8);

/// Set where it waits; the other bits say how the claim ended.
const ASIDE: u8 = 0x80;

impl Marks {
    pub fn new(ended: Ended, is_aside: bool) -> Self {
        Self(ended as u8 | if is_aside { ASIDE } else { 0 })
    }

    pub fn ended(self) -> Ended {
        match self.0 & !ASIDE {
            1 => Ended::Done,
            2 => Ended::Failed,
            3 => Ended::Released,
            4 => Ended::Snoozed,
            5 => Ended::Otherwise,
            _ => Ended::Not,
        }
    }

    pub fn is_aside(self) -> bool {
        self.0 & ASIDE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_it_was() {
        for ms in [0, 1, 1_764_000_000_000, Ms::MAX - 1, Ms::MAX] {
            assert_eq!(Ms::from(ms).get(), ms);
        }
        assert_eq!([Ms::from(Ms::MAX + 1), Ms::from(u64::MAX)].map(Ms::get), [Ms::MAX; 2]);
        use Ended::*;
        for ended in [Not, Done, Failed, Released, Snoozed, Otherwise] {
            for is_aside in [false, true] {
                let marks = Marks::new(ended, is_aside);
                assert_eq!((marks.ended(), marks.is_aside()), (ended, is_aside));
            }
        }
    }
}
