//! Which backend gets a request. Pure.
//!
//! Power of two choices: of two backends drawn at random, the one with the lower cost. The cost is
//! peak EWMA latency times the requests that are outstanding there and this one (Finagle's rule): a
//! backend that turns slow is left at the first slow answer. It comes back as that fades, and because a
//! small share of the picks looks at the load alone: one that is never asked can show nothing better.
//! Latencies that differ little are chance, and count as equal.
//!
//! An operator's weight scales what is outstanding, and the two are drawn by it: one of ten that is to have most of
//! the load is drawn as often. Where two of different weights have little outstanding, the first that is drawn has
//! it: no load would show, and by latency the faster of two that have one request at a time would have them all.
//!
//! What changes something goes to the leader, where the other that is drawn does not cost far less.
//!
//! Requests with a key go by it: rendezvous hashing, so that what it names is warm in one backend's
//! memory rather than in all, with a bound on what one backend may get.

mod chances;

use std::time::Duration;

use skep_base::random::Random;

pub use self::chances::{Chances, unit};

use crate::pools::latency::Estimate;
use crate::pools::orders;

/// How long a backend that comes (back) gets less than its share.
pub const SLOW_START: Duration = Duration::from_secs(10);
/// The share that it starts with.
const SLOW_START_SHARE_MIN: f64 = 0.1;
/// One of so many picks looks at the load alone.
const LOOKS: u64 = 64;
/// Latencies below this are no worse than each other: a scheduler's whim is as long.
const ALIKE_NS: f64 = 0.5e6;
/// One latency is worse than another from this many times that.
const ALIKE_FACTOR: f64 = 2.0;
/// The leader gets what writes up to this many times the cost of another: that would hand it on to the
/// leader anyway.
const LEADER_FACTOR: f64 = 4.0;

/// One backend as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub outstanding: u32,
    /// Of requests of this kind.
    pub latency: Estimate,
    /// How much of its usual share it may have: 1.0 past its slow start, where it does not fail.
    pub share: f64,
    /// How many times the load of another an operator would have it have.
    pub weight: f64,
    /// It may have one more request in flight.
    pub has_room: bool,
    pub ejected: bool,
    /// This request was there already.
    pub tried: bool,
}

impl Candidate {
    fn is_available(&self) -> bool {
        self.has_room && !self.ejected
    }

    /// It has less than is its part of anything.
    fn has_little(&self) -> bool {
        f64::from(self.outstanding) < self.weight
    }

    /// With a latency of `latency_ns`.
    fn cost(&self, latency_ns: f64) -> f64 {
        latency_ns * (f64::from(self.outstanding) / self.weight + 1.0)
    }
}

/// By key, a backend gets at most this many times the mean of what is outstanding, and one more.
const KEYED_LOAD_MAX: f64 = 1.25;

/// The index of the backend that `key` belongs to: of those that may have it, the one with the
/// highest score. A backend that comes or goes moves its own keys alone. `identity` must outlive a
/// backend's restart.
pub fn choose_by_key(
    count: usize,
    key: u64,
    identity: impl Fn(usize) -> u64,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let usable = || (0..count).map(|at| (at, candidate(at))).filter(|(_, it)| usable(it));
    let (weights, outstanding) =
        usable().fold((0.0, 0u32), |(n, sum), (_, it)| (n + it.weight, sum.saturating_add(it.outstanding)));
    let most = f64::from(outstanding) / f64::max(weights, orders::WEIGHT_MIN) * KEYED_LOAD_MAX + 1.0;
    usable()
        .filter(|(_, it)| f64::from(it.outstanding) <= most * it.weight)
        // Weighted: a share of a tenth keeps a tenth of its keys, and no other backend's move.
        .map(|(at, it)| (at, it.share * it.weight / -Random::new(key ^ identity(at)).unit().ln()))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(at, _)| at)
}

/// The index of the backend that gets the request, of `count`, which are drawn by `chances`; `None` where none is
/// available. `leader` is preferred where it is given. One that was tried is taken only where no other is
/// available; one that is ejected only where all are.
pub fn choose(
    count: usize,
    chances: &Chances,
    leader: Option<usize>,
    random: &mut Random,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    // The common case: two draws and both will do. The leader is one of them, where it is asked for.
    let mut kept = None;
    if count > 1 {
        let leader = leader.filter(|leader| *leader < count);
        let first = leader.unwrap_or_else(|| chances.one(count, random));
        let second = chances.another(first, count, random);
        let (a, b) = (candidate(first), candidate(second));
        if usable(&a) && usable(&b) {
            return Some(if better(&a, &b, leader.is_some(), random) { first } else { second });
        }
        // That it was drawn stands: to draw both anew would favour the lighter of two.
        kept = usable(&a).then_some(first);
        if leader.is_some() && kept.is_some() {
            return leader;
        }
    }
    // Draw among those that are left: those not tried, else any, else those that are ejected.
    let all_ejected = (0..count).all(|at| candidate(at).ejected);
    for only_fresh in [true, false] {
        let weight = |at: usize| {
            let it = candidate(at);
            (it.has_room && (all_ejected || !it.ejected) && !(only_fresh && it.tried)).then_some(it.weight)
        };
        let Some(first) = kept.or_else(|| chances::draw(count, weight, None, random)) else { continue };
        let Some(second) = chances::draw(count, weight, Some(first), random) else { return Some(first) };
        let first_is_better = better(&candidate(first), &candidate(second), false, random);
        return Some(if first_is_better { first } else { second });
    }
    None
}

fn usable(it: &Candidate) -> bool {
    it.is_available() && !it.tried
}

/// Whether `a` gets it, which was drawn first, or `is_preferred` and may cost more than `b`.
fn better(a: &Candidate, b: &Candidate, is_preferred: bool, random: &mut Random) -> bool {
    // The share by chance, not by cost: whatever the load, a share of 0.1 is a tenth of the usual
    // traffic.
    if a.share != b.share && random.unit() * a.share.max(b.share) >= a.share.min(b.share) {
        return a.share > b.share;
    }
    if a.weight != b.weight && !is_preferred && a.has_little() && b.has_little() {
        return true;
    }
    let factor = if is_preferred { LEADER_FACTOR } else { 1.0 };
    let (mut latency_a, mut latency_b) = Estimate::of_two(a.latency, b.latency);
    (latency_a, latency_b) = (latency_a.max(ALIKE_NS), latency_b.max(ALIKE_NS));
    let alike = latency_a <= latency_b * ALIKE_FACTOR && latency_b <= latency_a * ALIKE_FACTOR;
    if alike || random.next_u64().is_multiple_of(LOOKS) {
        (latency_a, latency_b) = (1.0, 1.0);
    }
    let (cost_a, cost_b) = (a.cost(latency_a), b.cost(latency_b) * factor);
    if cost_a == cost_b { random.next_u64() & 1 == 0 } else { cost_a < cost_b }
}

/// The share of a backend that came (back) `since` ago.
pub fn slow_start(since: Duration) -> f64 {
    if since >= SLOW_START {
        return 1.0;
    }
    (since.as_secs_f64() / SLOW_START.as_secs_f64()).max(SLOW_START_SHARE_MIN)
}

#[cfg(test)]
mod tests;
