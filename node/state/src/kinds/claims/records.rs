//! The port behind which claims lie, in the order in which they were made; and what of their times is held
//! in memory: they are forgotten in spans, the oldest first.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::remembered::Remembered;
use crate::clock::Stamp;
use crate::command::ClaimKey;
use crate::kind::Stopped;

/// Claims that are forgotten together.
pub const SPAN_CLAIMS: u64 = 1024;

/// Claims in order, numbered from 0, each found by its key. None is ever changed.
pub trait ClaimRecords {
    /// Which there are, and their times.
    fn spans(&self) -> &Spans;

    /// The newest claim of this key.
    fn find(&self, key: ClaimKey) -> Result<Option<(u64, Remembered)>, Stopped>;

    /// Appends a claim; `instead_of` one of the same key that does not count any more.
    fn push(&mut self, claim: &Remembered, instead_of: Option<u64>) -> Result<(), Stopped>;

    /// Nothing needs the oldest span any more.
    fn forget_oldest(&mut self);

    /// The clock was set back: see [`Spans::mend_time`].
    fn mend_time(&mut self, ceiling: Stamp);
}

/// The times of the claims of a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// When its newest claim was made.
    pub newest: Stamp,
    /// From when on none of its claims counts any more.
    pub expires: Stamp,
    /// For how long the one is remembered that is for the longest.
    pub ttl_ms_max: u64,
}

/// Which claims there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    /// The number of the first claim: where a span begins.
    first: u64,
    next: u64,
    spans: VecDeque<Span>,
}

impl Spans {
    /// No claim, and the next has this number, at which a span begins.
    pub fn from(first: u64) -> Self {
        Self { first, next: first, spans: VecDeque::new() }
    }

    /// Those of these numbers, of whose times nothing is known.
    pub fn unread(numbers: Range<u64>) -> Self {
        let spans = numbers.end.saturating_sub(numbers.start).div_ceil(SPAN_CLAIMS);
        Self { first: numbers.start, next: numbers.end, spans: (0..spans).map(|_| Span::default()).collect() }
    }

    /// The numbers of the claims that there are.
    pub fn numbers(&self) -> Range<u64> {
        self.first..self.next
    }

    pub fn len(&self) -> u64 {
        self.next - self.first
    }

    pub fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Takes the next claim.
    pub fn push(&mut self, claim: &Remembered) {
        if (self.next - self.first).is_multiple_of(SPAN_CLAIMS) {
            self.spans.push_back(Span::default());
        }
        if let Some(span) = self.spans.back_mut() {
            span.newest = span.newest.max(claim.time);
            span.expires = span.expires.max(claim.expires());
            span.ttl_ms_max = span.ttl_ms_max.max(claim.ttl_ms);
        }
        self.next += 1;
    }

    /// The clock was set back: the claims so far are no later than this. Who pushes the same claims again must do
    /// it at the same place among them, to come to the same.
    pub fn mend_time(&mut self, ceiling: Stamp) {
        for span in &mut self.spans {
            span.newest = span.newest.min(ceiling);
            span.expires = span.expires.min(Stamp(ceiling.0.saturating_add(span.ttl_ms_max)));
        }
    }

    /// The oldest span, where it is whole.
    pub fn oldest(&self) -> Option<Span> {
        self.spans.front().copied().filter(|_| self.len() >= SPAN_CLAIMS)
    }

    pub fn forget_oldest(&mut self) {
        if self.oldest().is_some() {
            self.spans.pop_front();
            self.first += SPAN_CLAIMS;
        }
    }
}

/// Claims in memory: few.
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    spans: Spans,
    all: VecDeque<Remembered>,
    by_key: BTreeMap<u128, u64>,
}

impl ClaimRecords for InMemory {
    fn spans(&self) -> &Spans {
        &self.spans
    }

    fn find(&self, key: ClaimKey) -> Result<Option<(u64, Remembered)>, Stopped> {
        let number = self.by_key.get(&key.0).copied();
        let at = number.and_then(|number| number.checked_sub(self.spans.first));
        let found = at.and_then(|at| self.all.get(at as usize));
        Ok(number.zip(found.cloned()))
    }

    fn push(&mut self, claim: &Remembered, _instead_of: Option<u64>) -> Result<(), Stopped> {
        self.by_key.insert(claim.key.0, self.spans.next);
        self.spans.push(claim);
        self.all.push_back(claim.clone());
        Ok(())
    }

    fn forget_oldest(&mut self) {
        self.spans.forget_oldest();
        let first = self.spans.first;
        self.all.drain(..self.all.len() - self.spans.len() as usize);
        self.by_key.retain(|_, number| *number >= first);
    }

    fn mend_time(&mut self, ceiling: Stamp) {
        self.spans.mend_time(ceiling);
    }
}
