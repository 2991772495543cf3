//! What a leader does next of a shift: a function of what is kept of it, of what the document says, of what balancers
//! say, and of how long this leader has seen it go on. Pure.
//!
//! A leader goes by its own monotonic clock, from where it found the shift: where another comes to lead, a shift takes
//! as much longer as nobody led, and never leaps.

use std::time::{Duration, Instant};

use skep_gateway::shift::{Rule, WHOLE, share_after};
use skep_state::shift::{HeldShift, Phase, Shift};

use super::heard::Summed;

/// How long all of it has gone over before the document says so: until then it can go back by itself.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Since when this leader has seen a shift go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    since: Instant,
    /// How much had gone over then.
    share: u32,
    /// Since when all has, where it has.
    whole_since: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Step(u32),
    /// It is to go back no more, for the document is about to say so.
    Settle,
    /// The document is to say so.
    Write,
    End(Phase, String),
}

impl Origin {
    /// That of a shift, of which there was one before or none. One that is stopped has none.
    pub(super) fn follow(before: Option<Self>, held: &HeldShift, now: Instant) -> Option<Self> {
        if held.phase != Phase::Running {
            return None;
        }
        let mut origin = before.unwrap_or(Self { since: now, share: held.share, whole_since: None });
        if held.share == WHOLE {
            origin.whole_since.get_or_insert(now);
        }
        Some(origin)
    }
}

/// `weights` are what the document says now of the two services: none where it does not lead to both, and nothing is known
/// of it where this version cannot read it.
pub(super) fn next(
    held: &HeldShift,
    origin: Option<Origin>,
    weights: Option<Option<(u32, u32)>>,
    seen: &Summed,
    now: Instant,
) -> Next {
    let Shift { from, to, from_weight, to_weight, over_ms, abort } = &held.shift;
    let sum = from_weight.saturating_add(*to_weight);
    let is_settling = held.phase == Phase::Settling;
    if held.share == WHOLE && weights == Some(Some((0, sum))) {
        return Next::End(Phase::Done, String::new());
    }
    if let Some(other) = weights.filter(|it| *it != Some((*from_weight, *to_weight))) {
        let why = match other {
            None => format!("the document leads the route to {from} and {to} no more"),
            Some((from, to)) => format!("the document says other weights by now: {from} and {to}"),
        };
        return Next::End(Phase::Superseded, why);
    }
    // What the document may say by now is taken back by no rule.
    if let Some(why) = broken(abort, seen).filter(|_| !is_settling) {
        return Next::End(Phase::Back, why);
    }
    match weights {
        None => return Next::Nothing,
        Some(_) if is_settling => return Next::Write,
        Some(_) => {}
    }
    let Some(origin) = origin else { return Next::Nothing };
    if let Some(since) = origin.whole_since {
        let is_settled = now.saturating_duration_since(since) >= SETTLED_AFTER;
        return if is_settled { Next::Settle } else { Next::Nothing };
    }
    let gone_on_ms = now.saturating_duration_since(origin.since).as_millis();
    let share = share_after(origin.share, u64::try_from(gone_on_ms).unwrap_or(u64::MAX), *over_ms);
    if share > held.share { Next::Step(share) } else { Next::Nothing }
}

/// Why it goes back, where it is to.
fn broken(abort: &str, seen: &Summed) -> Option<String> {
    // One of a later version is none to this one: balancers of that version see to it.
    if let Some((balancer, counts)) = seen.left.first() {
        let (failed, requests) = (counts.failed, counts.requests);
        return Some(format!("{abort}: {failed} of {requests} requests failed at the balancer {balancer}"));
    }
    let rule: Rule = abort.parse().ok()?;
    let (failed, requests) = (seen.counts.failed, seen.counts.requests);
    rule.is_broken(requests, failed)
        .then(|| format!("{abort}: {failed} of {requests} requests failed at {} balancers", seen.balancers))
}

#[cfg(test)]
mod tests {
    use skep_base::id::NodeId;
    use skep_gateway::shift::window::Counts;

    use super::*;

    fn held(phase: Phase, share: u32) -> HeldShift {
        let shift = Shift {
            from: "blue".into(),
            to: "green".into(),
            from_weight: 90,
            to_weight: 10,
            over_ms: 60_000,
            abort: "5xx>1%".into(),
        };
        let (began_ms, changed_ms, why) = (1, 1, String::new());
        HeldShift { id: 7, revision: 1, shift, phase, share, began_ms, changed_ms, why }
    }

    const AS_BEGUN: Option<Option<(u32, u32)>> = Some(Some((90, 10)));

    fn seen(requests: u64, failed: u64) -> Summed {
        Summed { counts: Counts { requests, failed }, balancers: 3, left: vec![] }
    }

    #[test]
    fn it_goes_on_by_the_leaders_own_clock_from_where_that_leader_found_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for found in [0, 4_000] {
            let mut held = held(Phase::Running, found);
            let origin = Origin::follow(None, &held, start);
            let step = |held: &HeldShift, ms| next(held, origin, AS_BEGUN, &seen(0, 0), at(ms));
            assert_eq!(step(&held, 599), Next::Nothing);
            assert_eq!(step(&held, 600), Next::Step(found + 100));
            assert_eq!(step(&held, 30_000), Next::Step(found + 5_000), "after a stall");
            held.share = found + 5_000;
            assert_eq!(step(&held, 30_000), Next::Nothing);
            assert_eq!(Origin::follow(origin, &held, at(30_000)), origin);
        }
        let stopped = held(Phase::Held, 4_000);
        let running = Origin::follow(None, &held(Phase::Running, 100), start);
        assert_eq!(Origin::follow(running, &stopped, at(900)), None);
        assert_eq!(next(&stopped, None, AS_BEGUN, &seen(0, 0), at(90_000)), Next::Nothing);
        let resumed = Origin::follow(None, &held(Phase::Running, 4_000), at(90_000));
        let resumed_share = |ms| next(&held(Phase::Running, 4_000), resumed, AS_BEGUN, &seen(0, 0), at(ms));
        assert_eq!(resumed_share(90_600), Next::Step(4_100), "it takes up where it stopped");
    }

    #[test]
    fn the_document_says_so_once_all_has_been_over_for_a_moment_and_then_it_is_done() {
        let (whole, start) = (held(Phase::Running, WHOLE), Instant::now());
        let origin = Origin::follow(None, &whole, start);
        let settled = start + SETTLED_AFTER;
        assert_eq!(
            next(&whole, origin, AS_BEGUN, &seen(900, 0), settled - Duration::from_millis(1)),
            Next::Nothing
        );
        assert_eq!(next(&whole, origin, AS_BEGUN, &seen(900, 0), settled), Next::Settle);
        // From then on nothing takes it back.
        let settling = held(Phase::Settling, WHOLE);
        assert_eq!(next(&settling, None, AS_BEGUN, &seen(900, 900), start), Next::Write);
        assert_eq!(next(&settling, None, None, &seen(900, 900), start), Next::Nothing);
        assert!(matches!(next(&whole, origin, AS_BEGUN, &seen(900, 10), settled), Next::End(Phase::Back, _)));
        // Also by a leader who did not write it.
        let done = next(&whole, None, Some(Some((0, 100))), &seen(900, 900), start);
        assert_eq!(done, Next::End(Phase::Done, String::new()));
        let half = held(Phase::Running, 5_000);
        assert!(matches!(
            next(&half, origin, Some(Some((0, 100))), &seen(0, 0), start),
            Next::End(Phase::Superseded, _)
        ));
    }

    #[test]
    fn it_goes_back_where_one_balancer_saw_the_rule_broken_or_all_together_do() {
        let (running, now) = (held(Phase::Running, 100), Instant::now());
        let origin = Origin::follow(None, &running, now);
        for phase in [Phase::Running, Phase::Held] {
            let of = held(phase, 100);
            let back = next(&of, origin, AS_BEGUN, &seen(100, 3), now);
            let why = "5xx>1%: 3 of 100 requests failed at 3 balancers".to_owned();
            assert_eq!(back, Next::End(Phase::Back, why));
            let left = vec![(NodeId(0xb1), Counts { requests: 9, failed: 4 })];
            let Next::End(Phase::Back, why) =
                next(&of, origin, AS_BEGUN, &Summed { left, ..seen(9, 4) }, now)
            else {
                panic!("it stays")
            };
            assert!(why.starts_with("5xx>1%: 4 of 9 requests failed at the balancer "), "{why}");
        }
        assert_eq!(next(&running, origin, AS_BEGUN, &seen(300, 3), now), Next::Nothing);
        // Also where it cannot read the document.
        assert!(matches!(next(&running, origin, None, &seen(100, 3), now), Next::End(Phase::Back, _)));
        assert_eq!(next(&running, origin, None, &seen(300, 3), now), Next::Nothing);
        let mut free = running;
        free.shift.abort = String::new();
        assert_eq!(next(&free, origin, AS_BEGUN, &seen(300, 300), now), Next::Nothing, "no rule");
    }

    #[test]
    fn it_is_over_where_the_document_says_something_else_of_the_two() {
        let (running, now) = (held(Phase::Running, 100), Instant::now());
        for other in [None, Some((100, 0)), Some((0, 0)), Some((90, 11))] {
            let is_over = next(&running, None, Some(other), &seen(0, 0), now);
            assert!(matches!(is_over, Next::End(Phase::Superseded, _)), "{other:?}");
        }
    }
}
