//! The shifts of routes that are open, as nodes tell of them: how much goes over, and how requests to the new service
//! end here.
//!
//! Where that breaks a shift's rule, nothing goes over here any more, at once and whatever nodes say; they are told, and
//! end it for all (`control::shifts`). What was told is taken in the order in which it became so: a share never falls,
//! and what is over stays so.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use skep_gateway::shift::report::Seen;
use skep_gateway::shift::window::{Counts, Window};
use skep_gateway::shift::{Ended, Rule, Told, is_over};
use tokio::sync::Notify;

/// What has not begun to be answered by then has failed, whatever becomes of it.
pub const LATE: Duration = Duration::from_secs(3);

/// All that are open.
#[derive(Debug, Default)]
pub struct Shifts {
    /// By the names of their routes.
    turns: ArcSwap<HashMap<String, Arc<Turn>>>,
    /// How far they were that were told last.
    at: Mutex<u64>,
    /// A rule was broken here.
    pub broke: Arc<Notify>,
}

/// One of them.
#[derive(Debug)]
pub struct Turn {
    pub id: u64,
    pub from: String,
    pub to: String,
    /// What makes it go back; none where nothing does, or by none that this version knows.
    rule: Option<Rule>,
    share: AtomicU32,
    /// Its rule was broken here.
    has_left: AtomicBool,
    began: Instant,
    window: Mutex<Window>,
    waiting: Mutex<Waiting>,
    /// Requests to the new service, those that failed, and of them those that were asked of the old one.
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    pub rescued: AtomicU64,
    broke: Arc<Notify>,
}

/// Requests that the new service has and has not begun to answer, by numbers in their order.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Shifts {
    /// That of a route.
    pub fn of(&self, route: &str) -> Option<Arc<Turn>> {
        let turns = self.turns.load();
        if turns.is_empty() {
            return None;
        }
        turns.get(route).cloned()
    }

    /// Takes what a node told: all that are open, after so many changes.
    pub fn take(&self, at: u64, told: Vec<Told>, now: Instant) {
        let mut last = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a node that lags behind the one before; it tells the rest.
        if at < *last {
            return;
        }
        *last = at;
        let before = self.turns.load_full();
        let turn = |told: Told| {
            let known = before.get(&told.route).filter(|it| it.id == told.id).cloned();
            let Told { id, route, from, to, share, abort } = told;
            let turn = known.unwrap_or_else(|| {
                let rule = abort.parse().ok();
                if rule.is_none() && !abort.is_empty() {
                    tracing::warn!(
                        route,
                        abort,
                        "this version does not know the rule by which the shift goes back"
                    );
                }
                let (share, has_left, window, waiting) = Default::default();
                let (requests, failed, rescued) = Default::default();
                let broke = self.broke.clone();
                Arc::new(Turn {
                    id,
                    from,
                    to,
                    rule,
                    share,
                    has_left,
                    began: now,
                    window,
                    waiting,
                    requests,
                    failed,
                    rescued,
                    broke,
                })
            });
            turn.share.fetch_max(share, Relaxed);
            (route, turn)
        };
        self.turns.store(Arc::new(told.into_iter().map(turn).collect()));
    }

    /// Nothing of what was told counts any more: the cluster is another one.
    pub fn forget(&self) {
        let mut last = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *last = 0;
        self.turns.store(Arc::default());
    }

    /// By the names of their routes.
    pub fn all(&self) -> Vec<(String, Arc<Turn>)> {
        let turns = self.turns.load();
        let mut all: Vec<_> = turns.iter().map(|(route, turn)| (route.clone(), turn.clone())).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Counts what the new services have not begun to answer in time. To be called again and again.
    pub fn look(&self, now: Instant) {
        self.turns.load().values().for_each(|turn| turn.look(now));
    }

    /// What nodes are told.
    pub fn seen(&self, now: Instant) -> Vec<Seen> {
        self.turns.load().values().map(|turn| turn.seen(now)).collect()
    }
}

impl Turn {
    /// Whether a request of what goes over does, for a number that is drawn for it.
    pub fn is_over(&self, drawn: u64) -> bool {
        is_over(drawn, self.share())
    }

    /// How much goes over here, in parts of 10,000.
    pub fn share(&self) -> u32 {
        if self.has_left() { 0 } else { self.share.load(Relaxed) }
    }

    pub fn has_left(&self) -> bool {
        self.has_left.load(Relaxed)
    }

    /// The new service has another request; its number.
    pub fn begin(&self, now: Instant) -> u64 {
        let mut waiting = self.waiting();
        waiting.next += 1;
        let number = waiting.next;
        waiting.since.insert(number, now);
        number
    }

    /// One of them ended so, or one that had no number; whether that counts as failed.
    pub fn ended(&self, number: Option<u64>, ended: Ended, now: Instant) -> bool {
        let has_failed = self.rule.is_some_and(|rule| rule.fails(ended));
        // One that was late was counted then.
        let was_late = number.is_some_and(|number| self.waiting().since.remove(&number).is_none());
        if !was_late {
            self.requests.fetch_add(1, Relaxed);
            self.count(Counts { requests: 1, failed: has_failed.into() }, now);
        }
        has_failed
    }

    /// Nobody waits for one of them any more.
    pub fn left(&self, number: u64, now: Instant) {
        let since = self.waiting().since.remove(&number);
        if since.is_some_and(|since| now.saturating_duration_since(since) >= LATE) {
            self.was_late(now);
        }
    }

    fn look(&self, now: Instant) {
        loop {
            let mut waiting = self.waiting();
            let Some(first) = waiting.since.first_entry() else { return };
            if now.saturating_duration_since(*first.get()) < LATE {
                return;
            }
            first.remove();
            drop(waiting);
            self.was_late(now);
        }
    }

    fn was_late(&self, now: Instant) {
        self.requests.fetch_add(1, Relaxed);
        self.count(Counts { requests: 1, failed: self.rule.is_some().into() }, now);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of one that was counted broke off.
    pub fn broke_off(&self, now: Instant) {
        self.count(Counts { requests: 0, failed: 1 }, now);
    }

    fn count(&self, counts: Counts, now: Instant) {
        let second = self.second(now);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.add(second, counts);
        if counts.failed == 0 {
            return;
        }
        self.failed.fetch_add(counts.failed, Relaxed);
        let Counts { requests, failed } = window.sum(second);
        let is_broken = self.rule.is_some_and(|rule| rule.is_broken(requests, failed));
        if is_broken && !self.has_left.swap(true, Relaxed) {
            tracing::warn!(
                to = self.to,
                requests,
                failed,
                "a shift's rule is broken: nothing goes over here any more"
            );
            self.broke.notify_one();
        }
    }

    fn seen(&self, now: Instant) -> Seen {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        Seen { shift: self.id, counts: window.sum(self.second(now)), has_left: self.has_left() }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: u64, share: u32) -> Told {
        let (from, to, abort) = ("blue".into(), "green".into(), "5xx>1%".into());
        Told { id, route: "web".into(), from, to, share, abort }
    }

    fn shares(shifts: &Shifts) -> Option<u32> {
        shifts.of("web").map(|turn| turn.share())
    }

    #[test]
    fn what_is_told_is_taken_in_the_order_in_which_it_became_so() {
        let (shifts, now) = (Shifts::default(), Instant::now());
        shifts.take(3, vec![told(7, 300)], now);
        shifts.take(2, vec![told(7, 200)], now);
        assert_eq!(shares(&shifts), Some(300), "of a node that lags behind");
        shifts.take(1, vec![], now);
        assert_eq!(shares(&shifts), Some(300));
        shifts.take(4, vec![told(7, 400)], now);
        assert_eq!(shares(&shifts), Some(400));
        shifts.take(5, vec![], now);
        shifts.take(4, vec![told(7, 400)], now);
        assert_eq!(shares(&shifts), None, "it is over, and stays so");
        shifts.take(6, vec![told(8, 100)], now);
        assert_eq!((shares(&shifts), shifts.of("api").is_none()), (Some(100), true));
        shifts.forget();
        shifts.take(1, vec![told(9, 50)], now);
        assert_eq!(shares(&shifts), Some(50), "of another cluster");
    }

    #[test]
    fn where_its_rule_is_broken_nothing_goes_over_here_until_another_begins() {
        let (shifts, start) = (Shifts::default(), Instant::now());
        shifts.take(1, vec![told(7, 5_000)], start);
        let turn = shifts.of("web").unwrap();
        for failed in [1, 2] {
            assert!(
                turn.ended(Some(turn.begin(start)), Ended::Answered(503), start) && turn.share() == 5_000,
                "{failed}"
            );
        }
        assert!(!turn.ended(Some(turn.begin(start)), Ended::Answered(200), start));
        turn.broke_off(start);
        assert_eq!((turn.share(), turn.has_left()), (0, true));
        let counts = Counts { requests: 3, failed: 3 };
        assert_eq!(shifts.seen(start), [Seen { shift: 7, counts, has_left: true }]);
        shifts.take(2, vec![told(7, 6_000)], start);
        assert_eq!(shares(&shifts), Some(0), "whatever nodes say");
        let later = start + Duration::from_secs(10);
        assert_eq!(shifts.seen(later)[0], Seen { shift: 7, counts: Counts::default(), has_left: true });
        shifts.take(3, vec![told(8, 100)], later);
        assert_eq!(shares(&shifts), Some(100));
    }

    #[test]
    fn what_is_not_answered_in_time_has_failed_whether_who_asked_waits_or_leaves() {
        let (shifts, start) = (Shifts::default(), Instant::now());
        shifts.take(1, vec![told(7, 5_000)], start);
        let turn = shifts.of("web").unwrap();
        let (waits, leaves, early) = (turn.begin(start), turn.begin(start), turn.begin(start));
        let before = start + LATE - Duration::from_millis(1);
        shifts.look(before);
        turn.left(early, before);
        assert_eq!(turn.requests.load(Relaxed), 0, "who leaves early says nothing");
        turn.left(leaves, start + LATE);
        shifts.look(start + LATE);
        let counted = || (turn.requests.load(Relaxed), turn.failed.load(Relaxed));
        assert_eq!(counted(), (2, 2));
        turn.ended(Some(waits), Ended::Answered(200), start + LATE);
        assert_eq!((counted(), turn.has_left()), ((2, 2), false), "it was counted");
        turn.begin(start);
        shifts.look(start + LATE);
        assert!(turn.has_left());
    }

    #[test]
    fn without_a_rule_that_is_known_nothing_counts_as_failed() {
        let (shifts, now) = (Shifts::default(), Instant::now());
        for (at, abort) in [(1, ""), (2, "latency>1s")] {
            shifts.take(at, vec![Told { abort: abort.into(), ..told(at, 5_000) }], now);
            let turn = shifts.of("web").unwrap();
            (0..50)
                .for_each(|_| assert!(!turn.ended(Some(turn.begin(now)), Ended::Unanswered, now), "{abort}"));
            assert_eq!(turn.share(), 5_000);
        }
    }
}
