//! What was sent of a body, kept while it may have to be sent again.
//!
//! In pieces of one size, so that nothing is copied as it grows; charged to the account, and given up as a
//! whole where that is spent or there is too much of it.

use std::rc::Rc;

use crate::core::account::{Charge, Purse, Use};
use crate::forward::retry::KEPT_BYTES_MAX;

const PIECE_BYTES: usize = 16 * 1024;

/// The begin of a body, without a gap.
#[derive(Debug)]
pub struct Kept {
    pieces: Vec<Vec<u8>>,
    len: usize,
    charge: Charge,
    /// All that was added is there.
    whole: bool,
}

impl Kept {
    /// `wanted`: whether another attempt could ever be allowed.
    pub fn new(purse: &Rc<Purse>, wanted: bool) -> Self {
        Self { pieces: Vec::new(), len: 0, charge: Charge::none(purse), whole: wanted }
    }

    /// Whether all that was added is there.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    pub fn add(&mut self, mut bytes: &[u8]) {
        if !self.whole {
            return;
        }
        let len = self.len + bytes.len();
        let covered = len.next_multiple_of(PIECE_BYTES);
        if len > KEPT_BYTES_MAX || !self.charge.cover(covered, Use::Copy) {
            self.give_up();
            return;
        }
        self.len = len;
        while !bytes.is_empty() {
            if self.pieces.last().is_none_or(|last| last.len() == PIECE_BYTES) {
                self.pieces.push(Vec::with_capacity(PIECE_BYTES));
            }
            let Some(last) = self.pieces.last_mut() else { return };
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - last.len()));
            last.extend_from_slice(now);
            bytes = rest;
        }
    }

    /// Some of what follows the first `at` bytes; nothing where that is all.
    pub fn rest(&self, at: usize) -> &[u8] {
        let piece = self.pieces.get(at / PIECE_BYTES);
        piece.and_then(|piece| piece.get(at % PIECE_BYTES..)).unwrap_or_default()
    }

    /// There will be no other attempt.
    pub fn give_up(&mut self) {
        (self.pieces, self.len, self.whole) = (Vec::new(), 0, false);
        self.charge.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::account::Account;

    #[test]
    fn it_is_given_back_byte_by_byte_in_whatever_pieces_it_came() {
        let account = Arc::new(Account::new(16 << 20));
        let mut kept = Kept::new(&Purse::new(account.clone()), true);
        let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        for piece in body.chunks(777) {
            kept.add(piece);
        }
        let mut again = Vec::new();
        while !kept.rest(again.len()).is_empty() {
            again.extend_from_slice(kept.rest(again.len()));
        }
        assert!(again == body && kept.is_whole());
        assert!(account.drawn() >= 100_000);
        drop(kept);
        assert_eq!(account.drawn(), 0);
    }

    #[test]
    fn it_is_given_up_as_a_whole_where_it_is_too_much_or_the_account_is_spent() {
        for (account, bytes) in [(16 << 20, KEPT_BYTES_MAX + 1), (64 * 1024, 40_000)] {
            let account = Arc::new(Account::new(account));
            let mut kept = Kept::new(&Purse::new(account.clone()), true);
            for _ in 0..bytes / 1000 {
                kept.add(&[7; 1000]);
            }
            kept.add(&[7; 1000]);
            assert!(!kept.is_whole() && kept.rest(0).is_empty());
            drop(kept);
            assert_eq!(account.drawn(), 0);
        }
        let account = Arc::new(Account::new(16 << 20));
        let mut unwanted = Kept::new(&Purse::new(account.clone()), false);
        unwanted.add(b"x");
        assert!(!unwanted.is_whole() && account.drawn() == 0);
    }
}
