//! Fields of heads in a document: those that a route is for, and those that are edited on the way.

use crate::fault::Faults;
use crate::fields::{self, Edits, is_same};
use crate::reader::Spot;

/// Most fields that are edited in one way.
const EDITS_MAX: usize = 32;

/// Names of fields with one value each.
pub(super) fn pairs(spot: &Spot<'_>, most: usize, faults: &mut Faults) -> Vec<(String, String)> {
    let members = spot.members(faults);
    if members.len() > most {
        faults.add(&spot.pointer, format!("{} fields are too many: at most {most}", members.len()));
        return Vec::new();
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, spot) in members {
        match (fields::name(name), spot.read(fields::value, faults)) {
            (Err(fault), _) => faults.add(&spot.pointer, fault),
            (Ok(name), Some(_)) if pairs.iter().any(|(other, _)| is_same(name.as_bytes(), other)) => {
                faults.add(&spot.pointer, "this name stands here in another spelling, too");
            }
            (Ok(name), Some(value)) => pairs.push((name, value)),
            (Ok(_), None) => {}
        }
    }
    pairs
}

/// Those of an answer.
pub(super) fn of_answer(spot: &Spot<'_>, faults: &mut Faults) -> Option<Edits> {
    let mut fields = spot.fields(faults)?;
    let mut pairs_of = |name: &str, faults: &mut Faults| {
        fields.take(name).map(|it| pairs(&it, EDITS_MAX, faults)).unwrap_or_default()
    };
    let (set, add) = (pairs_of("set", faults), pairs_of("add", faults));
    let remove = fields.take("remove").map(|it| it.items(EDITS_MAX, faults)).unwrap_or_default();
    let remove: Vec<String> = remove.iter().filter_map(|it| it.read(fields::name, faults)).collect();
    fields.end(faults);
    let edits = Edits { remove, set, add };
    let twice = edits.set.iter().find(|(name, _)| {
        let is_it = |other: &String| is_same(name.as_bytes(), other);
        edits.remove.iter().any(is_it) || edits.add.iter().any(|(other, _)| is_it(other))
    });
    if let Some((name, _)) = twice {
        faults.add(&spot.pointer, format!("{name} is set, and added or removed as well"));
    }
    Some(edits)
}

/// Those of a request. By its key the balancer knows whether a request may be repeated: the one that is sent has to be
/// the one that came.
pub(super) fn of_request(spot: &Spot<'_>, faults: &mut Faults) -> Option<Edits> {
    const KEY: &str = "idempotency-key";
    let edits = of_answer(spot, faults)?;
    let mut names = edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|(name, _)| name));
    if names.any(|name| is_same(name.as_bytes(), KEY)) {
        faults.add(&spot.pointer, format!("{KEY} says whether a request may be repeated: it is not edited"));
    }
    if let Some((name, _)) = edits.added().find(|(name, _)| fields::is_of_consumers(name.as_bytes())) {
        let fault = format!("{name} says who was authenticated: that is for the balancer alone to say");
        faults.add(&spot.pointer, fault);
    }
    Some(edits)
}
