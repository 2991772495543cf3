//! Shifts of routes that are open: how much goes over here, and how requests to the new services ended. And what became
//! of copies of requests.

use std::fmt::Error;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::DescriptorEncoder;
use skep_gateway::shift::WHOLE;

use super::{Labels, counter, gauge};
use crate::core::mirrors::IN_FLIGHT_MAX;
use crate::core::shared::Shared;
use crate::core::shifts::{Shifts, Turn};

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, shared: &Shared) -> Result<(), Error> {
    of_shifts(encoder, &shared.shifts)?;
    let it = &shared.mirrors;
    let results =
        [("answered", &it.answered), ("failed", &it.failed), ("full", &it.full), ("large", &it.large)];
    let results = results.map(|(result, count)| ([("result", result)], count.load(Relaxed)));
    let samples: Vec<(&Labels<'_>, u64)> =
        results.iter().map(|(labels, count)| (&labels[..], *count)).collect();
    counter(encoder, "mirrored", "Copies of requests for second services, by what became of them", &samples)?;
    let help = "Copies of requests that are on their way";
    gauge(encoder, "mirrors", help, &[(&[], it.in_flight() as f64)])?;
    gauge(encoder, "mirrors_max", "Most of them", &[(&[], IN_FLIGHT_MAX as f64)])
}

fn of_shifts(encoder: &mut DescriptorEncoder<'_>, shifts: &Shifts) -> Result<(), Error> {
    let all = shifts.all();
    let named: Vec<_> = all.iter().map(|(route, turn)| ([("route", route.as_str())], &**turn)).collect();
    let gauges = |of: fn(&Turn) -> f64| -> Vec<(&Labels<'_>, f64)> {
        named.iter().map(|(labels, turn)| (&labels[..], of(turn))).collect()
    };
    let help = "How much of a route's requests to the old service goes to the new one here, of 1";
    let share = |turn: &Turn| f64::from(turn.share()) / f64::from(WHOLE);
    gauge(encoder, "shift_share", help, &gauges(share))?;
    let help = "Whether a shift's rule was broken here, so that nothing goes over any more";
    gauge(encoder, "shift_left", help, &gauges(|turn| f64::from(u8::from(turn.has_left()))))?;
    let counters = |of: fn(&Turn) -> u64| -> Vec<(&Labels<'_>, u64)> {
        named.iter().map(|(labels, turn)| (&labels[..], of(turn))).collect()
    };
    let help = "Requests to the new service of a shift that is open";
    counter(encoder, "shift_requests", help, &counters(|turn| turn.requests.load(Relaxed)))?;
    let help = "Those that failed, by the shift's rule";
    counter(encoder, "shift_failed", help, &counters(|turn| turn.failed.load(Relaxed)))?;
    let help = "Those of them that were asked of the old service";
    counter(encoder, "shift_rescued", help, &counters(|turn| turn.rescued.load(Relaxed)))
}
