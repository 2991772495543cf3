//! What moves shifts on: the leader. One task a node; it may be dropped at any await.
//!
//! All that counts is in the replicated state; what is to be done next is [`next`](super::next)'s. Each change names the
//! shift that was looked at, and the document is compared and set: so a new leader goes on where the last one stopped,
//! and what both do is done once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_base::random::drawn;
use skep_gateway::Kept;
use skep_gateway::shift::{self, WHOLE};
use skep_state::gateway::{GatewayOutcome, Revision};
use skep_state::level::Limits;
use skep_state::shift::{HeldShift, Phase, ShiftOp, ShiftOutcome};
use skep_store::Raft;
use tokio::time::MissedTickBehavior;

use super::super::secrets::{Opened, Stored};
use super::super::{Service, status};
use super::next::{Next, Origin, next};
use crate::telemetry::Metrics;

/// How often it is looked, beside where a balancer saw a rule broken.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two tries where nothing is carried out: twice as long each time.
const FAILED_PAUSE_MIN: Duration = Duration::from_millis(250);
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the task needs.
#[derive(Clone)]
pub struct Leading {
    pub node_id: NodeId,
    pub raft: Raft,
    pub service: Service,
}

/// What a leader knows beside the state.
#[derive(Default)]
struct Known {
    origins: HashMap<u64, Origin>,
    /// Of each that is open.
    weights: Option<Weights>,
    /// Of those of which something could not be done: not before then, and how long was waited.
    rests: HashMap<u64, (Instant, Duration)>,
}

/// What the document of a revision says of the services of shifts, by their ids; none where a route does not lead to both.
type Weights = (Revision, HashMap<u64, Option<(u32, u32)>>);

/// A shift that is open, and its route.
type Open = (String, HeldShift);

impl Known {
    /// Whether something of it could not be done a moment ago.
    fn rests(&self, id: u64) -> bool {
        self.rests.get(&id).is_some_and(|(until, _)| Instant::now() < *until)
    }

    /// What is not done is done later, less and less often.
    fn note(&mut self, id: u64, done: Result<(), String>, route: &str) {
        let Err(error) = done else {
            self.rests.remove(&id);
            return;
        };
        if !self.rests.contains_key(&id) {
            tracing::warn!(route, error, "what is next of a shift is not done; it is tried again");
        }
        self.rest(id);
    }

    fn rest(&mut self, id: u64) {
        let before = self.rests.get(&id).map(|(_, pause)| *pause);
        let pause = before.map_or(FAILED_PAUSE_MIN, |pause| 2 * pause).min(FAILED_PAUSE_MAX);
        self.rests.insert(id, (Instant::now() + pause, pause));
    }
}

impl Leading {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = Known::default();
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.service.shift_reports().woken.notified() => {}
            }
            let metrics = self.raft.metrics().borrow_watched().clone();
            if metrics.running_state.is_err() {
                return;
            }
            let open: Vec<Open> = self.service.shifts(|shifts| {
                shifts.open_ones().map(|(route, held)| (route.to_owned(), held.clone())).collect()
            });
            known.rests.retain(|id, _| open.iter().any(|(_, held)| held.id == *id));
            if status::leads_quorum(self.node_id, &metrics) {
                self.work(&mut known, &open).await;
            } else {
                (known.origins, known.weights) = (HashMap::new(), None);
                self.pass_on(&mut known, &open).await;
            }
        }
    }

    /// The leader may not have heard what a balancer says that saw a rule broken.
    async fn pass_on(&self, known: &mut Known, open: &[Open]) {
        for (route, held) in open.iter().filter(|(_, held)| held.phase != Phase::Settling) {
            let seen = self.service.shift_seen(held.id);
            if seen.left.is_empty() || known.rests(held.id) {
                continue;
            }
            if let Next::End(phase, why) = next(held, None, None, &seen, Instant::now())
                && let Err(error) = self.end(route, held, phase, why).await
            {
                tracing::debug!(route, error, "a shift is not ended from here");
            }
            // Where that did not end it, or it is not known here yet, it is said once more.
            known.rest(held.id);
        }
    }

    /// Does what is next of each that is open: first of those that are over.
    async fn work(&self, known: &mut Known, open: &[Open]) {
        let now = Instant::now();
        known.origins = open
            .iter()
            .filter_map(|(_, held)| {
                Some((held.id, Origin::follow(known.origins.get(&held.id).copied(), held, now)?))
            })
            .collect();
        if open.is_empty() {
            known.weights = None;
            return;
        }
        if let Err(error) = self.read_weights(known, open).await {
            tracing::debug!(error, "shifts go no further");
            known.weights = None;
        }
        let mut all: Vec<(&Open, Next)> = open
            .iter()
            .map(|open| {
                let held = &open.1;
                let weights = known.weights.as_ref().and_then(|(_, all)| all.get(&held.id).copied());
                let (origin, seen) = (known.origins.get(&held.id).copied(), self.service.shift_seen(held.id));
                (open, next(held, origin, weights, &seen, now))
            })
            .collect();
        all.sort_by_key(|(_, next)| !matches!(next, Next::End(..)));
        for ((route, held), next) in all {
            let is_end = matches!(next, Next::End(..));
            if !is_end && known.rests(held.id) {
                continue;
            }
            let (id, of) = (held.id, route.clone());
            let done = match next {
                Next::Nothing => continue,
                Next::Step(share) => self.change(ShiftOp::Step { id, route: of, share }).await,
                Next::Settle => self.change(ShiftOp::Settle { id, route: of }).await,
                Next::Write => self.write(route, held).await,
                Next::End(phase, why) => self.end(route, held, phase, why).await,
            };
            known.note(id, done, route);
        }
    }

    async fn end(&self, route: &str, held: &HeldShift, phase: Phase, why: String) -> Result<(), String> {
        let (from, to) = (&held.shift.from, &held.shift.to);
        match phase {
            Phase::Back => tracing::warn!(route, from, to, why, "a shift goes back"),
            _ => tracing::info!(route, from, to, ?phase, why, "a shift is over"),
        }
        self.change(ShiftOp::End { id: held.id, route: route.to_owned(), phase, why }).await
    }

    async fn change(&self, op: ShiftOp) -> Result<(), String> {
        match self.service.change_shift(op).await {
            // Another was quicker: it is looked at anew.
            Ok(ShiftOutcome::Set | ShiftOutcome::Stale) => Ok(()),
            Ok(other) => Err(format!("a shift is not changed: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Looks at what the newest document says of the services, where that was not looked at.
    async fn read_weights(&self, known: &mut Known, open: &[Open]) -> Result<(), String> {
        let (revision, document) = self
            .service
            .gateway(|gateway| gateway.newest().map(|(at, told)| (at, told.document.clone())))
            .ok_or("there is no document")?;
        let is_known = known.weights.as_ref().is_some_and(|(of, all)| {
            *of == revision && open.iter().all(|(_, held)| all.contains_key(&held.id))
        });
        if is_known {
            return Ok(());
        }
        let asked: Vec<_> = open
            .iter()
            .map(|(route, HeldShift { id, shift, .. })| {
                (*id, route.clone(), shift.from.clone(), shift.to.clone())
            })
            .collect();
        let read = move || {
            let kept = Kept::trusted(std::str::from_utf8(&document).ok()?)?;
            let weights = |(id, route, from, to): (u64, String, String, String)| {
                let of = kept.object("routes", &route).and_then(|it| shift::weights(&it, &from, &to));
                (id, of)
            };
            Some(asked.into_iter().map(weights).collect::<HashMap<_, _>>())
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
        // One that this version cannot read says nothing of what is in it.
        let all = read.ok_or("the document is none that this version can read")?;
        known.weights = Some((revision, all));
        Ok(())
    }

    /// Has the document say that all went over, where it is still the one that was looked at.
    async fn write(&self, route: &str, held: &HeldShift) -> Result<(), String> {
        let (revision, stored) = self
            .service
            .gateway(|gateway| {
                let (revision, told) = gateway.newest()?;
                let keys = gateway.keys_of(told).cloned().collect();
                Some((revision, Stored { document: told.document.clone(), keys }))
            })
            .ok_or("there is no document")?;
        let (secrets, sealed) = (self.service.secrets().clone(), self.service.keeps_sealed());
        let (name, of) = (route.to_owned(), held.shift.clone());
        let write = move || {
            let before = secrets.open(&stored).ok_or("the document is none that this version can read")?;
            let object = before.object("routes", &name);
            let object = object.and_then(|it| shift::shifted(&it, &of.from, &of.to));
            let object = object.ok_or("the route goes to other services by now")?;
            // It is whose it was.
            let after = before
                .with("routes", &name, &object, true, &drawn::<16>)
                .map_err(|refused| refused.faults.first().map_or_else(String::new, ToString::to_string))?;
            let opened = Opened { kept: &before, keys: &stored.keys };
            secrets.keep(&after, &[opened], sealed).map_err(|why| why.to_string())
        };
        let stored = tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?;
        let source = format!("shift of {route}");
        match self.service.set_gateway(Some(revision), stored?, source).await {
            Ok(GatewayOutcome::Set { revision }) => {
                tracing::info!(route, revision = revision.number, "the document says that a shift is done");
                Ok(())
            }
            // It is looked at anew.
            Ok(GatewayOutcome::Other { .. }) => Ok(()),
            Ok(other) => Err(format!("the document is not set: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Adds what is known of shifts to the metrics.
    pub fn register(&self, metrics: &Metrics) {
        let service = self.service.clone();
        metrics.add_source(move |scrape| {
            let (open, held, least, ends) = service.shifts(|shifts| {
                let held = shifts.open_ones().filter(|(_, it)| it.phase == Phase::Held).count();
                let least = shifts.open_ones().map(|(_, it)| it.share).min();
                (shifts.open_ones().count(), held, least, shifts.ends())
            });
            scrape.gauge("shifts", "Shifts of routes that are open", open as f64);
            scrape.gauge("shifts_max", "Most of them", Limits::WIDEST.shifts_max as f64);
            scrape.gauge("shifts_stopped", "Those that somebody stopped", held as f64);
            let help = "How much has gone over of the shift that is least far; 1 where none is open";
            scrape.gauge("shifts_least_share", help, f64::from(least.unwrap_or(WHOLE)) / f64::from(WHOLE));
            scrape.counter("shifts_done", "Shifts of which all went over", ends.done);
            scrape.counter("shifts_back", "Shifts that went back", ends.back);
            let help = "Shifts that ended as the document said something else of their routes";
            scrape.counter("shifts_superseded", help, ends.superseded);
        });
    }
}
