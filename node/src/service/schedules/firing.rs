//! What fires schedules: the leader, by the agreed time. One task a node; it may be dropped at any await.
//!
//! All that counts is in the replicated state: up to which time each schedule's fires are over with. A fire is proposed
//! for the last time that has come since, and says which schedule it looked at; so a new leader goes on where the last
//! one stopped, and what both propose is done once. Of times that were missed the last is made up for, or none where
//! the schedule says so; the others are counted.
//!
//! A fire for whose task there is no room stays owed: it is proposed again, less and less often, until there is room or
//! its next time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::{NodeId, RequestId};
use skep_state::command::{Op, OpOutcome};
use skep_state::kinds::schedules::Schedules;
use skep_state::level::Limits;
use skep_state::schedule::{Fire, ScheduleOp, ScheduleOutcome, Timing};
use skep_store::{Raft, Reader};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::proposer::Proposer;
use super::super::status;
use super::super::time::Time;
use super::times::{Owed, Times};
use crate::telemetry::Metrics;

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long what is proposed may take to be committed.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Fires that are worked out and proposed together: so that what was long away gets on, a part at a time.
const FIRES_AT_ONCE_MAX: usize = 64;
/// A fire that is this late was missed: a schedule that does not catch up does not fire for it.
const MISSED_AFTER_MS: u64 = 60_000;
/// Between two tries of a fire for whose task there is no room: twice as long each time.
const REFUSED_PAUSE_MIN: Duration = Duration::from_secs(1);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The same where nothing is carried out, as on a full disk.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the task needs.
#[derive(Clone)]
pub struct Firing {
    pub node_id: NodeId,
    pub raft: Raft,
    pub reader: Reader,
    pub proposer: Proposer,
    pub time: Time,
    pub seen: Arc<Seen>,
}

/// What the leader has found; 0 where another node leads.
#[derive(Debug, Default)]
pub struct Seen {
    /// Schedules whose times this program cannot read.
    unreadable: AtomicU64,
    /// For how long the schedule has waited that waits longest after its time.
    late_ms: AtomicU64,
}

/// Of a schedule, as far as it was looked at.
struct Plan {
    revision: u64,
    anchor_ms: u64,
    after_ms: u64,
    catches_up: bool,
    /// None where it is paused, or cannot be read.
    times: Option<Times>,
    is_readable: bool,
    next_ms: Option<u64>,
    /// There was no room for its task: not before then, and how long was waited.
    refused: Option<(Instant, Duration)>,
}

/// A schedule of which a time has come.
#[derive(Clone)]
struct Due {
    name: String,
    revision: u64,
    after_ms: u64,
    catches_up: bool,
    times: Times,
}

impl Due {
    fn fire(&self, now_ms: u64) -> Option<Fire> {
        let Due { revision, after_ms, .. } = *self;
        let Owed { at_ms, passed } = self.times.owed(after_ms, now_ms)?;
        let runs = self.catches_up || now_ms.saturating_sub(at_ms) < MISSED_AFTER_MS;
        let (name, nonce) = (self.name.clone(), RequestId::random().0 as u64);
        Some(Fire { name, revision, after_ms, at_ms, passed, runs, nonce })
    }
}

/// All schedules, as far as they were looked at.
#[derive(Default)]
struct Plans {
    by_name: BTreeMap<String, Plan>,
    /// How far the schedules were then.
    seen: Option<u64>,
}

impl Firing {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut plans = Plans::default();
        // What was proposed was not carried out: not before then, and how long was waited.
        let mut rests_until = None::<(Instant, Duration)>;
        loop {
            look.tick().await;
            let metrics = self.raft.metrics().borrow_watched().clone();
            if metrics.running_state.is_err() {
                return;
            }
            if !status::leads_quorum(self.node_id, &metrics) {
                (plans, rests_until) = (Plans::default(), None);
                self.tell(&plans, 0);
                continue;
            }
            plans.follow(&self.reader);
            let now_ms = self.time.now_ms();
            self.tell(&plans, now_ms);
            if rests_until.is_some_and(|(until, _)| Instant::now() < until) {
                continue;
            }
            let failed = self.fire(&mut plans, now_ms).await.err();
            rests_until = failed.map(|error| {
                let pause = rests_until.map_or(REFUSED_PAUSE_MIN, |(_, pause)| 2 * pause);
                let pause = pause.min(FAILED_PAUSE_MAX);
                tracing::debug!(%error, ?pause, "schedules fire later");
                (Instant::now() + pause, pause)
            });
        }
    }

    /// Proposes all that is owed; ends with the first that is not carried out.
    async fn fire(&self, plans: &mut Plans, now_ms: u64) -> Result<(), String> {
        for due in plans.due(now_ms).chunks(FIRES_AT_ONCE_MAX) {
            let due = due.to_vec();
            // What was missed for long takes a while to count, and consensus runs on this thread.
            let counted = move || due.iter().filter_map(|due| due.fire(now_ms)).collect::<Vec<Fire>>();
            let fires = tokio::task::spawn_blocking(counted).await.map_err(|error| error.to_string())?;
            let op = |fire: &Fire| Op::Schedules { time_ms: now_ms, op: ScheduleOp::Fire(fire.clone()) };
            let ops = fires.iter().map(op).collect();
            let proposed = self.proposer.propose_all(ops, Instant::now() + PROPOSE_TIMEOUT).await;
            let outcomes = proposed.map_err(|error| error.to_string())?;
            fires.iter().zip(outcomes).for_each(|(fire, outcome)| plans.note(fire, &outcome));
        }
        Ok(())
    }

    fn tell(&self, plans: &Plans, now_ms: u64) {
        let unreadable = plans.by_name.values().filter(|plan| !plan.is_readable).count() as u64;
        let late = plans.by_name.values().filter_map(|plan| plan.next_ms);
        let late_ms = late.map(|next_ms| now_ms.saturating_sub(next_ms)).max().unwrap_or(0);
        self.seen.unreadable.store(unreadable, Ordering::Relaxed);
        self.seen.late_ms.store(late_ms, Ordering::Relaxed);
    }

    /// Adds what is known of schedules to the metrics.
    pub fn register(&self, metrics: &Metrics) {
        let (reader, seen) = (self.reader.clone(), self.seen.clone());
        metrics.add_source(move |scrape| {
            let (count, paused, bytes, fires) = reader.schedules(|schedules: &Schedules| {
                let paused = schedules.all().filter(|(_, held)| held.schedule.is_paused).count();
                (schedules.all().count(), paused, schedules.bytes(), schedules.fires())
            });
            scrape.gauge("schedules", "Schedules of tasks", count as f64);
            let most = Limits::WIDEST.schedules_max as f64;
            scrape.gauge("schedules_max", "Most of them; beyond, none is taken", most);
            scrape.gauge("schedules_paused", "Those that do not fire", paused as f64);
            scrape.gauge("schedules_bytes", "Bytes of all schedules", bytes as f64);
            let most = Limits::WIDEST.schedules_bytes_max as f64;
            scrape.gauge("schedules_max_bytes", "Most of them; beyond, none is taken", most);
            let help = "Schedules whose times this program cannot read: they do not fire while it leads";
            scrape.gauge("schedules_unreadable", help, seen.unreadable.load(Ordering::Relaxed) as f64);
            let help = "How late the schedule is that is latest, as the leader knows";
            let late_s = seen.late_ms.load(Ordering::Relaxed) as f64 / 1e3;
            scrape.gauge("schedules_late_seconds", help, late_s);
            scrape.counter("schedules_fired", "Fires that put a task", fires.fired);
            let help = "Fires that met an unfinished task of their unique key";
            scrape.counter("schedules_met", help, fires.met);
            let help = "Fires that never were: nobody led, or there was no room, until a later one";
            scrape.counter("schedules_missed", help, fires.missed);
            let help = "Tries of fires for whose tasks there was no room";
            scrape.counter("schedules_refused", help, fires.refused);
        });
    }
}

impl Plans {
    /// Looks anew at those that have changed.
    fn follow(&mut self, reader: &Reader) {
        let revision = reader.applied().borrow().revisions.schedules;
        if self.seen.replace(revision) == Some(revision) {
            return;
        }
        let (mut names, mut changed) = (BTreeSet::new(), Vec::new());
        reader.schedules(|schedules| {
            for (name, held) in schedules.all() {
                names.insert(name.to_owned());
                let known = self.by_name.get(name);
                let is_known = |plan: &Plan| (plan.revision, plan.after_ms) == (held.revision, held.after_ms);
                if !known.is_some_and(is_known) {
                    let timing = (!held.schedule.is_paused).then(|| held.schedule.timing.clone());
                    let of = (held.revision, held.anchor_ms, held.after_ms, held.schedule.catches_up);
                    changed.push((name.to_owned(), timing, of));
                }
            }
        });
        self.by_name.retain(|name, _| names.contains(name));
        for (name, timing, of) in changed {
            self.look_at(name, timing.as_ref(), of);
        }
    }

    fn look_at(
        &mut self,
        name: String,
        timing: Option<&Timing>,
        (revision, anchor_ms, after_ms, catches_up): (u64, u64, u64, bool),
    ) {
        // Where the clock was set back, the schedule is the same and its anchor another one.
        let is_same = |plan: &Plan| (plan.revision, plan.anchor_ms) == (revision, anchor_ms);
        let known = self.by_name.remove(&name).filter(is_same);
        let (times, is_readable) = match (known, timing) {
            // What fires is not read again each time.
            (Some(plan), _) => (plan.times, plan.is_readable),
            (None, None) => (None, true),
            (None, Some(timing)) => match Times::of(timing, anchor_ms) {
                Ok(times) => (Some(times), true),
                Err(why) => {
                    tracing::warn!(
                        schedule = name,
                        "it does not fire, as this program cannot read it: {why}"
                    );
                    (None, false)
                }
            },
        };
        let next_ms = times.as_ref().and_then(|times| times.after(after_ms));
        let plan =
            Plan { revision, anchor_ms, after_ms, catches_up, times, is_readable, next_ms, refused: None };
        self.by_name.insert(name, plan);
    }

    /// What is to be proposed now.
    fn due(&self, now_ms: u64) -> Vec<Due> {
        let is_due = |plan: &Plan| plan.next_ms.is_some_and(|next_ms| next_ms <= now_ms);
        let may = |plan: &Plan| plan.refused.is_none_or(|(not_before, _)| Instant::now() >= not_before);
        let due = self.by_name.iter().filter(|(_, plan)| is_due(plan) && may(plan));
        let of = |(name, plan): (&String, &Plan)| {
            let (name, times) = (name.clone(), plan.times.clone()?);
            let Plan { revision, after_ms, catches_up, .. } = *plan;
            Some(Due { name, revision, after_ms, catches_up, times })
        };
        due.filter_map(of).collect()
    }

    /// What a fire came to. What has changed by it is looked at anew anyway.
    fn note(&mut self, fire: &Fire, outcome: &OpOutcome) {
        let Some(plan) = self.by_name.get_mut(&fire.name) else { return };
        match outcome {
            OpOutcome::Schedules(ScheduleOutcome::Refused) => {
                let pause = plan.refused.map_or(REFUSED_PAUSE_MIN, |(_, pause)| 2 * pause);
                let pause = pause.min(REFUSED_PAUSE_MAX);
                plan.refused = Some((Instant::now() + pause, pause));
                tracing::debug!(
                    schedule = fire.name,
                    ?pause,
                    "there is no room for its task: it fires later"
                );
            }
            outcome => {
                tracing::debug!(schedule = fire.name, at_ms = fire.at_ms, ?outcome, "a schedule fires")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(timing: &Timing, catches_up: bool) -> Plans {
        let mut plans = Plans::default();
        plans.look_at("a".into(), Some(timing), (1, 1_000, 1_000, catches_up));
        plans
    }

    fn fire(plans: &Plans, now_ms: u64) -> Option<Fire> {
        plans.due(now_ms).pop()?.fire(now_ms)
    }

    /// The time of what is due, how many passed, and whether it runs.
    fn due(plans: &Plans, now_ms: u64) -> Option<(u64, u32, bool)> {
        fire(plans, now_ms).map(|fire| (fire.at_ms, fire.passed, fire.runs))
    }

    #[test]
    fn of_what_was_missed_the_last_is_made_up_for_unless_the_schedule_does_not_catch_up() {
        let timing = Timing::Every { ms: 1_000_000 };
        for (catches_up, late_runs) in [(true, true), (false, false)] {
            let plans = plans(&timing, catches_up);
            assert_eq!(due(&plans, 1_000_999), None);
            assert_eq!(due(&plans, 1_001_000), Some((1_001_000, 0, true)));
            assert_eq!(due(&plans, 1_001_000 + MISSED_AFTER_MS - 1), Some((1_001_000, 0, true)));
            assert_eq!(due(&plans, 1_001_000 + MISSED_AFTER_MS), Some((1_001_000, 0, late_runs)));
            assert_eq!(due(&plans, 3_500_000), Some((3_001_000, 2, late_runs)));
            // The last of those that were missed has just come.
            assert_eq!(due(&plans, 3_001_000), Some((3_001_000, 2, true)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fire_that_is_refused_is_tried_again_less_and_less_often() {
        let mut plans = plans(&Timing::Every { ms: 1_000 }, true);
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            let fire = fire(&plans, 2_000).expect("it is tried");
            plans.note(&fire, &OpOutcome::Schedules(ScheduleOutcome::Refused));
            tokio::time::advance(Duration::from_millis(pause_s * 1_000 - 1)).await;
            assert_eq!(due(&plans, 2_000), None, "{pause_s}");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn where_the_clock_was_set_back_times_count_from_the_anchor_of_then() {
        let timing = Timing::Every { ms: 1_000 };
        let mut plans = plans(&timing, true);
        plans.look_at("a".into(), Some(&timing), (2, 100_000, 100_000, true));
        assert_eq!(due(&plans, 5_000), None);
        plans.look_at("a".into(), Some(&timing), (2, 3_000, 3_000, true));
        assert_eq!(due(&plans, 5_000), Some((5_000, 1, true)));
    }

    #[test]
    fn a_year_that_was_missed_by_many_is_counted_in_parts_and_each_part_in_time() {
        let mut plans = Plans::default();
        let timing = Timing::Cron { expression: "* * * 1 *".into(), zone: "Europe/Berlin".into() };
        for number in 0..FIRES_AT_ONCE_MAX {
            plans.look_at(number.to_string(), Some(&timing), (1, 0, 1_700_000_000_000, true));
        }
        let due = plans.due(1_750_000_000_000);
        let began = std::time::Instant::now();
        let fires: Vec<Fire> = due.iter().filter_map(|due| due.fire(1_750_000_000_000)).collect();
        println!(
            "measure: {} schedules that missed more than is counted took {:?}",
            fires.len(),
            began.elapsed()
        );
        // The end of January, 2025.
        assert!(
            fires.iter().all(|fire| (fire.at_ms, fire.passed) == (1_738_364_340_000, 1_000)),
            "{fires:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_or_is_paused_does_not_fire() {
        let unreadable = Timing::Cron { expression: "@often".into(), zone: "UTC".into() };
        let mut plans = plans(&unreadable, true);
        assert!(!plans.by_name["a"].is_readable);
        assert_eq!(due(&plans, u64::MAX), None);
        plans.look_at("a".into(), None, (2, 1_000, 1_000, true));
        assert!(plans.by_name["a"].is_readable);
        assert_eq!(due(&plans, u64::MAX), None);
    }
}
