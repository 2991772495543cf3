//! One account of the bytes that requests hold: copies of bodies for another attempt, bodies that are read
//! ahead, answers on their way out, the windows of HTTP/2.
//!
//! Each of them has a bound of its own; what bounds their sum is this. Who is refused makes do with less: no
//! copy is kept, pieces get smaller, and only where there is no less is a request told to come again. What a
//! connection cannot do without (4 KiB of an answer, 16 KiB of a request; over HTTP/2 a window of 64 KiB and an
//! outbox of 32) is not charged: the limit of connections bounds it.
//!
//! A core draws from the account in lots and charges its connections out of its own [`Purse`]: no request
//! touches what cores share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use skep_base::process::memory;

/// The share of the memory that the process may have, and the bounds of what that comes to.
const SHARE: u64 = 8;
pub const ACCOUNT_BYTES_MIN: u64 = 16 << 20;
pub const ACCOUNT_BYTES_MAX: u64 = 1 << 30;
/// What a core draws at once, and the most that it keeps for itself unused.
const LOT_BYTES: u64 = 128 * 1024;
const UNUSED_BYTES_MAX: u64 = 2 * LOT_BYTES;

/// What bytes are held for. What may be done without is refused first; windows, which are held for as long as
/// their connections, have a share of their own, so that they eat nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Of a body, for another attempt.
    Copy,
    /// A client may send so much before it waits.
    Window,
    /// Larger pieces of an answer.
    Answer,
    /// What compresses an answer: large, and held for as long as its client reads.
    Coding,
    /// A body that is read before it has a backend.
    Body,
}

impl Use {
    /// How far the account may be spent for this, in eighths.
    fn eighths(self) -> u64 {
        match self {
            Self::Copy => 5,
            Self::Window | Self::Answer => 6,
            Self::Coding => 3,
            Self::Body => 8,
        }
    }
}

/// The account of a process.
#[derive(Debug)]
pub struct Account {
    bytes_max: u64,
    drawn: AtomicU64,
    /// Those of them that windows hold.
    windows: AtomicU64,
}

/// The most that windows hold, and that copies hold together with all but windows, in eighths.
const WINDOWS_EIGHTHS: u64 = 2;
const COPIES_EIGHTHS: u64 = 4;

impl Default for Account {
    /// An eighth of what the process may have.
    fn default() -> Self {
        Self::new((memory::limit_bytes() / SHARE).clamp(ACCOUNT_BYTES_MIN, ACCOUNT_BYTES_MAX))
    }
}

impl Account {
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, drawn: AtomicU64::new(0), windows: AtomicU64::new(0) }
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What cores hold of it; a little of that may be unused.
    pub fn drawn(&self) -> u64 {
        self.drawn.load(Relaxed)
    }

    /// How far it may be drawn for this.
    fn most(&self, of: Use) -> u64 {
        let eighth = self.bytes_max / 8;
        let most = eighth * of.eighths();
        if of == Use::Copy {
            return most.min(eighth * COPIES_EIGHTHS + self.windows.load(Relaxed));
        }
        most
    }

    fn fits(&self, bytes: u64, of: Use) -> bool {
        self.drawn().saturating_add(bytes) <= self.most(of)
    }

    fn draw(&self, bytes: u64, of: Use) -> bool {
        let most = self.most(of);
        let drawn = |before: u64| before.checked_add(bytes).filter(|after| *after <= most);
        self.drawn.fetch_update(Relaxed, Relaxed, drawn).is_ok()
    }
}

/// What one core has drawn.
#[derive(Debug)]
pub struct Purse {
    account: Arc<Account>,
    unused: Cell<u64>,
    /// Something was taken or given since the last look.
    moved: Cell<bool>,
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.account.drawn.fetch_sub(self.unused.get(), Relaxed);
    }
}

impl Purse {
    pub fn new(account: Arc<Account>) -> Rc<Self> {
        Rc::new(Self { account, unused: Cell::new(0), moved: Cell::new(false) })
    }

    /// As [`Self::take`], for windows; to be given back by [`Self::give_window`].
    fn take_window(&self, bytes: usize) -> bool {
        let most = self.account.bytes_max / 8 * WINDOWS_EIGHTHS;
        let held = |before: u64| before.checked_add(bytes as u64).filter(|after| *after <= most);
        let may = self.account.windows.fetch_update(Relaxed, Relaxed, held).is_ok();
        if may && !self.take(bytes, Use::Window) {
            self.account.windows.fetch_sub(bytes as u64, Relaxed);
            return false;
        }
        may
    }

    fn give_window(&self, bytes: usize) {
        self.account.windows.fetch_sub(bytes as u64, Relaxed);
        self.give(bytes);
    }

    /// Takes so many bytes, where there are as many for this.
    pub fn take(&self, bytes: usize, of: Use) -> bool {
        let bytes = bytes as u64;
        // Copies and windows are held for long: they do not eat into what answers have returned.
        if matches!(of, Use::Copy | Use::Window) && !self.account.fits(0, of) {
            return false;
        }
        let short = bytes.saturating_sub(self.unused.get());
        if short > 0 {
            let lot = short.max(LOT_BYTES);
            let drawn = if self.account.draw(lot, of) {
                lot
            } else if self.account.draw(short, of) {
                short
            } else {
                return false;
            };
            self.unused.set(self.unused.get() + drawn);
        }
        self.unused.set(self.unused.get() - bytes);
        self.moved.set(true);
        true
    }

    /// Takes them in any case: what is begun has to be ended.
    pub fn overdraw(&self, bytes: usize) {
        let bytes = bytes as u64;
        let short = bytes.saturating_sub(self.unused.get());
        self.account.drawn.fetch_add(short, Relaxed);
        self.unused.set(self.unused.get() + short - bytes);
        self.moved.set(true);
    }

    pub fn give(&self, bytes: usize) {
        self.unused.set(self.unused.get() + bytes as u64);
        self.moved.set(true);
        if self.unused.get() > UNUSED_BYTES_MAX {
            self.return_to(LOT_BYTES);
        }
    }

    /// To be called now and then: what is not used goes back.
    pub fn settle(&self) {
        if !self.moved.replace(false) && self.unused.get() > 0 {
            self.return_to(0);
        }
    }

    fn return_to(&self, kept: u64) {
        let back = self.unused.get().saturating_sub(kept);
        self.unused.set(self.unused.get() - back);
        self.account.drawn.fetch_sub(back, Relaxed);
    }
}

/// What somebody holds; dropping it gives it back.
#[derive(Debug)]
pub struct Charge {
    purse: Rc<Purse>,
    bytes: usize,
    /// Those of them that are a window's.
    window: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Charge {
    pub fn none(purse: &Rc<Purse>) -> Self {
        Self { purse: purse.clone(), bytes: 0, window: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it covers so many bytes, now.
    pub fn cover(&mut self, bytes: usize, of: Use) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let covers = more == 0
            || match of {
                Use::Window => self.purse.take_window(more),
                _ => self.purse.take(more, of),
            };
        if covers {
            self.bytes += more;
            self.window += if of == Use::Window { more } else { 0 };
        }
        covers
    }

    /// What is beyond so many bytes goes back; of one that holds no window.
    pub fn shrink(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.purse.give(back);
    }

    pub fn clear(&mut self) {
        let (bytes, window) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.window));
        if window > 0 {
            self.purse.give_window(window);
        }
        self.purse.give(bytes - window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_can_be_done_without_is_refused_first_and_all_comes_back() {
        let account = Arc::new(Account::new(16 << 20));
        let purse = Purse::new(account.clone());
        let mut copies = Charge::none(&purse);
        assert!(copies.cover(8 * MIB, Use::Copy));
        assert!(!copies.cover(8 * MIB + 1, Use::Copy));
        assert_eq!(copies.bytes(), 8 * MIB, "what it had it keeps");
        assert!(purse.take(4 * MIB, Use::Answer) && !purse.take(MIB, Use::Answer));
        assert!(purse.take(4 * MIB, Use::Body) && !purse.take(1, Use::Body));
        purse.overdraw(MIB);
        assert_eq!(account.drawn(), 17 << 20);
        purse.give(9 * MIB);
        drop(copies);
        drop(purse);
        assert_eq!(account.drawn(), 0);
    }

    #[test]
    fn windows_have_a_share_of_their_own_and_leave_copies_theirs() {
        let account = Arc::new(Account::new(16 << 20));
        let purse = Purse::new(account.clone());
        let mut windows: Vec<_> = (0..100).map(|_| Charge::none(&purse)).collect();
        let wide = windows.iter_mut().filter_map(|it| it.cover(MIB / 2, Use::Window).then_some(())).count();
        assert_eq!(wide, 8, "a quarter");
        let mut copies = Charge::none(&purse);
        assert!(copies.cover(6 * MIB, Use::Copy) && !copies.cover(6 * MIB + 1, Use::Copy));
        assert!(purse.take(2 * MIB, Use::Answer), "answers have theirs, too");
        purse.give(2 * MIB);
        drop(windows);
        assert!(copies.cover(8 * MIB, Use::Copy));
        drop(copies);
        drop(purse);
        assert_eq!((account.drawn(), account.windows.load(Relaxed)), (0, 0));
    }

    #[test]
    fn what_compresses_leaves_the_others_theirs() {
        let account = Arc::new(Account::new(16 << 20));
        let purse = Purse::new(account);
        let mut coders: Vec<_> = (0..100).map(|_| Charge::none(&purse)).collect();
        let count = coders.iter_mut().filter_map(|it| it.cover(MIB, Use::Coding).then_some(())).count();
        assert_eq!(count, 6, "three eighths");
        let mut copies = Charge::none(&purse);
        assert!(copies.cover(2 * MIB, Use::Copy) && purse.take(4 * MIB, Use::Answer));
        purse.give(4 * MIB);
    }

    #[test]
    fn a_core_draws_in_lots_and_returns_what_it_does_not_use() {
        let account = Arc::new(Account::new(16 << 20));
        let purse = Purse::new(account.clone());
        for _ in 0..10 {
            assert!(purse.take(64 * 1024, Use::Answer));
            purse.give(64 * 1024);
            assert_eq!(account.drawn(), LOT_BYTES, "it goes and comes within the core");
        }
        purse.settle();
        assert_eq!(account.drawn(), LOT_BYTES, "it was used just now");
        purse.settle();
        assert_eq!(account.drawn(), 0);
        assert!(purse.take(MIB, Use::Body));
        purse.give(MIB);
        assert_eq!(account.drawn(), LOT_BYTES, "much is returned at once");
    }
}
