//! Whether a register was linearizable, by the rule of zones, in little more than the time of sorting.
//!
//! Each write has a value of its own, so a read says which write it saw: the *family* of a value is its write
//! and the reads that gave it (a cluster, in the paper). Its *zone* lies between the family's first return and
//! its last call. Where the return comes first the zone is *forward*: whatever the order was, the register had
//! this value from the one to the other. Else all of the family overlaps, the zone is *backward*, and the
//! register needs to have had the value at one moment in it. So a history is linearizable just where
//!
//! - no read returned before the write of its value was called,
//! - no two forward zones overlap,
//! - no backward zone lies within a forward one
//!
//! (Gibbons and Korach, *Testing Shared Memories*, SIAM Journal on Computing 26(4), 1997.) A write whose end is
//! unknown returns after everything else: where its value was never read nobody needs it, and where it was read
//! the reads bound it.
//!
//! Beyond that, writes are answered with the register's version, which is an order of its own: it must agree.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};

use super::Contradiction;
use super::order::{self, Placed};
use super::recorder::Operation;

#[cfg(test)]
mod tests;

/// What a client did to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The version is what the answer said; none where there was no answer.
    Write { value: u64, version: Option<u64> },
    /// None is a register that was never written.
    Read { value: Option<u64> },
}

impl Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Write { value, version: Some(version) } => {
                write!(f, "wrote {value} as version {version}")
            }
            Access::Write { value, version: None } => write!(f, "wrote {value}"),
            Access::Read { value: Some(value) } => write!(f, "read {value}"),
            Access::Read { value: None } => write!(f, "read that nothing was written"),
        }
    }
}

type Op = Operation<Access>;

impl Op {
    fn value(&self) -> Option<u64> {
        match self.did {
            Access::Write { value, .. } => Some(value),
            Access::Read { value } => value,
        }
    }

    fn is_write(&self) -> bool {
        matches!(self.did, Access::Write { .. })
    }
}

/// The time for which a register must have had a value, or in which it must have had it once.
struct Zone<'a> {
    from: u64,
    to: u64,
    /// What makes it: the operations that returned first and were called last, and the write.
    by: Vec<&'a Op>,
}

/// Judges a whole history; which operations contradict each other, where some do.
pub fn check(history: &[Op]) -> Result<(), Contradiction> {
    let mut families: BTreeMap<Option<u64>, Vec<&Op>> = BTreeMap::new();
    for operation in history {
        families.entry(operation.value()).or_default().push(operation);
    }
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for (value, family) in &families {
        if let Some((zone, is_forward)) = zone(*value, family)? {
            if is_forward { &mut forward } else { &mut backward }.push(zone);
        }
    }

    forward.sort_by_key(|zone| zone.from);
    if let Some(pair) = forward.windows(2).find(|pair| pair[1].from < pair[0].to) {
        let what = "the register must have had two values at a time";
        return Err(Contradiction::new(what, &[&pair[0].by[..], &pair[1].by].concat()));
    }
    for zone in &backward {
        let before = forward.partition_point(|other| other.from < zone.from);
        let around = before.checked_sub(1).map(|at| &forward[at]).filter(|other| zone.to < other.to);
        if let Some(other) = around {
            let what = "the register must have had another value all the time";
            return Err(Contradiction::new(what, &[&zone.by[..], &other.by].concat()));
        }
    }
    versions(history)
}

/// The zone of a family, and whether it is a forward one; none of a write that perhaps never was.
fn zone<'a>(value: Option<u64>, family: &[&'a Op]) -> Result<Option<(Zone<'a>, bool)>, Contradiction> {
    let mut writes = family.iter().copied().filter(|operation| operation.is_write());
    let write = writes.next();
    assert!(writes.next().is_none(), "{value:?} was written twice: a history needs a value for each write");
    let Some(ends) = family.iter().copied().min_by_key(|operation| operation.end()) else {
        return Ok(None);
    };
    let begins = family.iter().copied().max_by_key(|operation| operation.called.event).unwrap_or(ends);
    match (value, write) {
        (Some(_), None) => return Err(Contradiction::new("nobody wrote what was read", &[ends])),
        (Some(_), Some(write)) if ends.end() < write.called.event => {
            return Err(Contradiction::new("it was read before it was written", &[ends, write]));
        }
        _ => {}
    }
    // The register had no value before the first event.
    let first_end = if value.is_none() { 0 } else { ends.end() };
    let last_begin = begins.called.event;
    let by = [ends, begins].into_iter().chain(write).collect();
    Ok(match first_end {
        u64::MAX => None,
        _ if first_end < last_begin => Some((Zone { from: first_end, to: last_begin, by }, true)),
        _ => Some((Zone { from: last_begin, to: first_end, by }, false)),
    })
}

/// Holds the order of versions against that of calls and returns, as far as versions are known.
fn versions(history: &[Op]) -> Result<(), Contradiction> {
    let mut by_version: HashMap<u64, &Op> = HashMap::new();
    let mut versions: HashMap<u64, u64> = HashMap::new();
    for operation in history {
        if let Access::Write { value, version: Some(version) } = operation.did {
            if let Some(other) = by_version.insert(version, operation) {
                return Err(Contradiction::new("two writes made one version", &[other, operation]));
            }
            versions.insert(value, version);
        }
    }
    let (mut placed, mut operations) = (Vec::new(), Vec::new());
    for operation in history {
        let version = operation.value().map_or(Some(0), |value| versions.get(&value).copied());
        let Some(version) = version else { continue };
        // A read is between the write of its version and the next.
        let place = 2 * version + u64::from(!operation.is_write());
        let (called, returned) = (operation.called.event, operation.end());
        placed.push(Placed { called, returned, lowest: place, highest: place });
        operations.push(operation);
    }
    match order::contradiction(&placed) {
        Some((one, other)) => {
            let what = "the second began after the first had ended, and is before it by its version";
            Err(Contradiction::new(what, &[operations[one], operations[other]]))
        }
        None => Ok(()),
    }
}
