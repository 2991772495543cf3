//! How a balancer that starts gets what is owed from another: which places it asks for, and when again. Pure.
//!
//! The places are asked for in lanes, one page at a time in each. What is lost is asked for again; a page that comes twice
//! says nothing new. Until the other has said anything, it is asked for one page alone.

use std::time::{Duration, Instant};

use super::debts::PLACES;

/// Pages that are asked for at once.
pub const LANES: usize = 8;
/// How long a page is waited for, before it is asked for again.
pub const AGAIN: Duration = Duration::from_millis(50);
/// How long one that says nothing is waited for, before another is asked.
pub const SILENT: Duration = Duration::from_millis(250);
/// Most pages that one balancer gives another, or takes from it.
pub const PAGES_MAX: usize = 16_384;

/// What is asked of one other balancer.
#[derive(Debug)]
pub struct Taking {
    number: u64,
    lanes: [Lane; LANES],
    begun: Instant,
    /// When it said something last.
    heard: Option<Instant>,
    pages: usize,
}

#[derive(Debug)]
struct Lane {
    place: u32,
    until: u32,
    asked: Option<Instant>,
}

impl Taking {
    /// The number is one that nobody else knows.
    pub fn begin(number: u64, begun: Instant) -> Self {
        let width = PLACES / LANES as u32;
        let lanes = std::array::from_fn(|at| {
            let place = at as u32 * width;
            let until = if at + 1 == LANES { PLACES } else { place + width };
            Lane { place, until, asked: None }
        });
        Self { number, lanes, begun, heard: None, pages: 0 }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The places that are to be asked for now: from one up to another.
    pub fn asks(&mut self, now: Instant) -> Vec<(u32, u32)> {
        let lanes = if self.heard.is_some() { LANES } else { 1 };
        let is_due = |lane: &&mut Lane| {
            let is_late = |asked: Instant| now.saturating_duration_since(asked) >= AGAIN;
            lane.place < lane.until && lane.asked.is_none_or(is_late)
        };
        let ask = |lane: &mut Lane| {
            lane.asked = Some(now);
            (lane.place, lane.until)
        };
        self.lanes[..lanes].iter_mut().filter(is_due).map(ask).collect()
    }

    /// A page came, of these places; whether it was waited for.
    pub fn hear(&mut self, (place, next): (u32, u32), now: Instant) -> bool {
        let lane = self.lanes.iter_mut().find(|it| it.asked.is_some() && it.place == place);
        let Some(lane) = lane.filter(|it| place < next && next <= it.until) else { return false };
        (lane.place, lane.asked) = (next, None);
        self.heard = Some(now);
        self.pages += 1;
        true
    }

    /// Whether there is no more to be asked for.
    pub fn is_over(&self) -> bool {
        self.pages >= PAGES_MAX || self.lanes.iter().all(|it| it.place >= it.until)
    }

    /// Whether the other has said nothing for too long.
    pub fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard.unwrap_or(self.begun)) >= SILENT
    }
}

#[cfg(test)]
mod tests;
