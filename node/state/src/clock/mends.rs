//! Where the replicated clock was set back, and which times count since.
//!
//! A clock that was ahead, and was believed, leaves a latest time that lies in the future: whatever comes later
//! gets that same time, for as long as it takes to come true. To lower it alone would make times fall as messages
//! go on, and lists and retention rest on that they do not. So what was there by then keeps its bytes, and counts
//! as no later than the time to which the clock was set back: all read it through here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Stamp;

/// Times that the clock may have been set back; those of which nothing is left do not count.
pub const MENDS_MAX: usize = 16;

/// How far ahead a time that was given may be by clocks that are right: it is set back beyond that alone.
pub const AHEAD_MS_MAX: u64 = 5_000;

/// One time that the clock was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    /// Messages up to this `seq` were there.
    pub upto_seq: u64,
    /// And the claims with lower numbers than this.
    pub before_claim: u64,
    /// No time of theirs is later.
    pub ceiling: Stamp,
}

/// All of them, the oldest first. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mends(Arc<[Mend]>);

impl Mends {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time of the message of this `seq`, by the time that its record has. It never falls as `seq` rises.
    pub fn message_time(&self, seq: u64, time: Stamp) -> Stamp {
        let ceilings = self.0.iter().filter(|mend| seq <= mend.upto_seq).map(|mend| mend.ceiling);
        ceilings.fold(time, Stamp::min)
    }

    /// The same of the claim of this number.
    pub fn claim_time(&self, number: u64, time: Stamp) -> Stamp {
        let ceilings = self.0.iter().filter(|mend| number < mend.before_claim).map(|mend| mend.ceiling);
        ceilings.fold(time, Stamp::min)
    }

    /// To where the clock was set back just before the claim of this number.
    pub fn before_claim(&self, number: u64) -> impl Iterator<Item = Stamp> {
        self.0.iter().filter(move |mend| mend.before_claim == number).map(|mend| mend.ceiling)
    }

    /// With one more, and without those that say nothing any more: of messages up to `floor` and claims before
    /// `first_claim` nothing is left, and a lower ceiling over all that another has makes that one void. None
    /// where there are too many.
    pub fn with(&self, mend: Mend, floor: u64, first_claim: u64) -> Option<Self> {
        let counts = |old: &&Mend| {
            (old.upto_seq > floor || old.before_claim > first_claim) && old.ceiling < mend.ceiling
        };
        let all: Vec<Mend> = self.0.iter().filter(counts).copied().chain([mend]).collect();
        (all.len() <= MENDS_MAX).then(|| Self(all.into()))
    }

    /// Whether a clock could have been set back so.
    pub fn is_sound(&self) -> bool {
        let follows = |pair: &[Mend]| {
            let [first, second] = pair else { return true };
            first.upto_seq <= second.upto_seq
                && first.before_claim <= second.before_claim
                && first.ceiling < second.ceiling
        };
        self.0.len() <= MENDS_MAX && self.0.windows(2).all(follows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(upto_seq: u64, ceiling: u64) -> Mend {
        Mend { upto_seq, before_claim: 2 * upto_seq, ceiling: Stamp(ceiling) }
    }

    fn of(all: &[Mend]) -> Mends {
        all.iter().fold(Mends::default(), |mends, mend| mends.with(*mend, 0, 0).unwrap())
    }

    #[test]
    fn what_was_there_is_no_later_and_what_came_then_is_as_it_was() {
        let mends = of(&[mend(10, 100), mend(20, 200)]);
        assert!(mends.is_sound());
        let message = |seq, time| mends.message_time(seq, Stamp(time)).0;
        assert_eq!(
            (message(10, 900), message(10, 50), message(11, 900), message(21, 900)),
            (100, 50, 200, 900)
        );
        let claim = |number, time| mends.claim_time(number, Stamp(time)).0;
        assert_eq!((claim(19, 900), claim(20, 900), claim(40, 900)), (100, 200, 900));
        assert_eq!(mends.before_claim(40).collect::<Vec<_>>(), [Stamp(200)]);
    }

    #[test]
    fn a_lower_ceiling_makes_those_before_it_void() {
        let mends = of(&[mend(10, 100), mend(20, 200), mend(30, 150)]);
        assert_eq!(mends, of(&[mend(10, 100), mend(30, 150)]));
        assert!(mends.is_sound());
    }

    #[test]
    fn as_many_are_kept_as_there_may_be_and_those_of_which_nothing_is_left_make_room() {
        let many: Vec<Mend> = (1..=MENDS_MAX as u64).map(|at| mend(10 * at, at)).collect();
        let mends = of(&many);
        let next = mend(1_000, 99);
        assert_eq!(mends.with(next, 9, u64::MAX), None, "messages are left of each");
        assert_eq!(mends.with(next, u64::MAX, 19), None, "claims are left of each");
        assert_eq!(mends.with(next, 10, 20).unwrap().len(), MENDS_MAX);
    }

    #[test]
    fn what_no_clock_was_set_back_to_is_refused() {
        let too_many = Mends((0..=MENDS_MAX as u64).map(|at| mend(at, at)).collect());
        for wrong in
            [too_many, Mends([mend(10, 5), mend(9, 6)].into()), Mends([mend(9, 5), mend(9, 5)].into())]
        {
            assert!(!wrong.is_sound(), "{wrong:?}");
        }
    }
}
