//! What is said of how often routes may be asked.

use crate::fault::Faults;
use crate::limit::{BURST_MAX, By, Limit, Per, RATE_MAX, REFILL_S_MAX, Scope};
use crate::reader::Spot;

/// Most limits of a route, a service or the defaults.
pub const LIMITS_MAX: usize = 4;

/// `are_shared`: more than one route may take them, and they count together unless it is said otherwise.
pub(super) fn read(spot: &Spot<'_>, are_shared: bool, faults: &mut Faults) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for spot in spot.some_items(LIMITS_MAX, faults) {
        let Some(limit) = limit(&spot, are_shared, faults) else { continue };
        if limits.iter().any(|it| (it.by, it.per) == (limit.by, limit.per)) {
            let fault = format!("there is a limit by {} per {} already", limit.by.word(), limit.per);
            faults.add(&spot.pointer, fault);
        }
        limits.push(limit);
    }
    limits
}

fn limit(spot: &Spot<'_>, are_shared: bool, faults: &mut Faults) -> Option<Limit> {
    let mut fields = spot.fields(faults)?;
    let [rate, per, by] = ["rate", "per", "by"].map(|name| {
        let field = fields.take(name);
        if field.is_none() {
            faults.add(&spot.pointer, format!("there is no {name:?}"));
        }
        field
    });
    let (burst, scope) = (fields.take("burst"), fields.take("scope"));
    // A route's own is shared with nobody: there it is no field.
    let shared = are_shared.then(|| fields.take("shared")).flatten();
    fields.end(faults);
    let rate = rate.and_then(|it| it.whole(1..=RATE_MAX, faults));
    let per = per.and_then(|it| it.word(&Per::WORDS, faults));
    let by = by.and_then(|it| it.word(&By::WORDS, faults));
    let scope = scope.map(|it| it.word(&Scope::WORDS, faults));
    let is_shared = shared.and_then(|it| it.switch(faults)).unwrap_or(are_shared);
    let given = burst.as_ref().map(|it| it.whole(1..=BURST_MAX, faults));
    let (rate, per, by) = (rate?, per?, by?);
    let burst_count = match given {
        None => Limit::usual_burst(rate, per),
        Some(given) => given?,
    };
    let scope = match scope {
        None => Scope::default(),
        Some(given) => given?,
    };
    if u64::from(burst_count) * per.seconds() > u64::from(rate) * REFILL_S_MAX {
        let pointer = burst.map_or_else(|| spot.pointer.clone(), |it| it.pointer);
        let most = u64::from(rate) * REFILL_S_MAX / per.seconds();
        faults.add(&pointer, format!("a burst is no more than what comes in within a day, here {most}"));
    }
    Some(Limit { rate, per, burst: burst_count, by, scope, is_shared })
}
