//! Which request made each of the latest messages.
//!
//! A request may reach the log twice: its first try was applied, and the answer got lost. By this
//! the second is told that it made the message, not that somebody had before. It is no part of
//! the replicated state: it decides an answer, never what is stored. A restart forgets it, and
//! then such a request hears that the message was there already.

use std::collections::VecDeque;

/// How many messages' makers are remembered: 1 MiB. A request is carried again within its
/// deadline, and mostly at once.
pub const CREATORS_MAX: usize = 128 * 1024;

#[derive(Debug, Default)]
pub struct Creators {
    /// The nonces of the messages up to the newest, in the order of `seq`.
    nonces: VecDeque<u64>,
    last_seq: u64,
}

impl Creators {
    /// Notes who made the message of the next `seq`.
    pub fn push(&mut self, seq: u64, nonce: u64) {
        if self.nonces.len() == CREATORS_MAX {
            self.nonces.pop_front();
        }
        self.nonces.push_back(nonce);
        self.last_seq = seq;
    }

    /// Whether this request is known to have made the message.
    pub fn made(&self, seq: u64, nonce: u64) -> bool {
        let from_end = self.last_seq.checked_sub(seq).and_then(|back| usize::try_from(back).ok());
        let at = from_end.and_then(|back| self.nonces.len().checked_sub(back + 1));
        at.is_some_and(|at| self.nonces[at] == nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_makers_are_known_and_the_memory_is_bounded() {
        let mut creators = Creators::default();
        assert!(!creators.made(1, 0));
        let all = CREATORS_MAX as u64 + 10;
        (1..=all).for_each(|seq| creators.push(seq, seq * 7));
        assert!(creators.made(all, all * 7) && creators.made(11, 77));
        assert!(!creators.made(10, 70) && !creators.made(all + 1, 0) && !creators.made(11, 78));
        assert_eq!(creators.nonces.len(), CREATORS_MAX);
    }
}
