//! What balancers say of shifts, beside gossip (`skep_gateway::shift::report`): of each the last word, as long as it is
//! one of late. Each node hears it, so that one that comes to lead knows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_base::id::NodeId;
use skep_gateway::shift::report::{Report, Seen};
use skep_gateway::shift::window::Counts;
use skep_members::gossip::{PeerRecord, Program, View};
use tokio::sync::Notify;

/// What was said longer ago counts no more; balancers say it twice a second.
const OLD: Duration = Duration::from_secs(3);
/// Most words that are kept: of 64 balancers, of 64 shifts.
const WORDS_MAX: usize = 64 * 64;

/// What all say of one shift.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summed {
    pub counts: Counts,
    pub balancers: usize,
    /// Those that saw its rule broken, and what they counted.
    pub left: Vec<(NodeId, Counts)>,
}

#[derive(Debug, Default)]
pub struct Heard {
    /// By balancer and shift.
    words: Mutex<HashMap<(NodeId, u64), (Instant, Seen)>>,
    /// Somebody saw a rule broken.
    pub woken: Notify,
}

impl Heard {
    /// Takes what came for what a balancer says that gossip shows, of shifts that are `open`; whether it was such a thing at
    /// all.
    pub fn hear(&self, bytes: &[u8], view: &View, open: impl FnOnce() -> Vec<u64>, now: Instant) -> bool {
        let Some(Report { balancer, seen }) = Report::decode(bytes) else { return false };
        let balancer = NodeId(balancer);
        let is_there = |it: &PeerRecord| it.id == balancer && it.program == Program::Balancer;
        if !view.live.iter().any(is_there) {
            return true;
        }
        let open = open();
        let mut words = self.words();
        words.retain(|(_, shift), (at, _)| now.saturating_duration_since(*at) < OLD && open.contains(shift));
        let mut wakes = false;
        for mut seen in seen.into_iter().filter(|it| open.contains(&it.shift)) {
            let place = (balancer, seen.shift);
            // Who has left does not come back, whoever says so.
            seen.has_left |= words.get(&place).is_some_and(|(_, before)| before.has_left);
            if words.len() >= WORDS_MAX && !words.contains_key(&place) {
                break;
            }
            wakes |= seen.has_left;
            words.insert(place, (now, seen));
        }
        drop(words);
        if wakes {
            self.woken.notify_one();
        }
        true
    }

    pub fn of(&self, shift: u64, now: Instant) -> Summed {
        let mut sum = Summed::default();
        for ((balancer, _), (at, seen)) in self.words().iter().filter(|((_, of), _)| *of == shift) {
            if now.saturating_duration_since(*at) < OLD {
                sum.counts = sum.counts.plus(seen.counts);
                sum.balancers += 1;
                sum.left.extend(seen.has_left.then_some((*balancer, seen.counts)));
            }
        }
        sum.left.sort_unstable_by_key(|(balancer, _)| balancer.0);
        sum
    }

    fn words(&self) -> MutexGuard<'_, HashMap<(NodeId, u64), (Instant, Seen)>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::peers;

    fn report(balancer: u64, shift: u64, failed: u64, has_left: bool) -> Vec<u8> {
        let counts = Counts { requests: 10, failed };
        Report { balancer, seen: vec![Seen { shift, counts, has_left }] }.encode()
    }

    #[test]
    fn what_balancers_say_of_a_shift_is_summed_while_it_is_of_late_and_theirs() {
        let balancer = |id| peers::member(id, Program::Balancer);
        let view = peers::view(
            peers::member(9, Program::Node),
            vec![balancer(1), balancer(2), peers::member(3, Program::Node)],
        );
        let (heard, start) = (Heard::default(), Instant::now());
        let open = || vec![7, 8, 9];
        assert!(!heard.hear(b"nothing of this", &view, open, start));
        for (id, shift, failed, left) in [(1, 7, 1, false), (2, 7, 2, true), (1, 8, 5, false)] {
            assert!(heard.hear(&report(id, shift, failed, left), &view, open, start));
        }
        for nobody in [3, 4] {
            assert!(heard.hear(&report(nobody, 7, 9, true), &view, open, start));
        }
        assert!(heard.hear(&report(1, 7, 3, false), &view, open, start), "its last word counts");
        assert!(heard.hear(&report(2, 7, 2, false), &view, open, start), "but who left has");
        assert!(heard.hear(&report(1, 77, 2, true), &view, open, start));
        assert_eq!(heard.of(77, start), Summed::default(), "no such shift is open");
        let counts = |requests, failed| Counts { requests, failed };
        let expected = Summed { counts: counts(20, 5), balancers: 2, left: vec![(NodeId(2), counts(10, 2))] };
        assert_eq!(heard.of(7, start), expected);
        assert_eq!(heard.of(8, start).counts, counts(10, 5));
        assert_eq!(heard.of(7, start + OLD), Summed::default());
        heard.hear(&report(1, 9, 0, false), &view, open, start + OLD);
        assert_eq!(heard.words().len(), 1, "what is old is forgotten");
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let balancers = (1..=70).map(|id| peers::member(id, Program::Balancer)).collect();
        let view = peers::view(peers::member(99, Program::Node), balancers);
        let (heard, now) = (Heard::default(), Instant::now());
        for balancer in 1..=70 {
            let seen = |shift| Seen { shift, counts: Counts::default(), has_left: false };
            let report = Report { balancer, seen: (1..=64).map(seen).collect() };
            heard.hear(&report.encode(), &view, || (1..=64).collect(), now);
        }
        assert_eq!(heard.words().len(), WORDS_MAX);
    }
}
