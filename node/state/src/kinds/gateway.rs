//! The gateway: the document that balancers obey, compared and set; and the last ones before it.
//!
//! What a document says, nobody looks at here: see [`crate::gateway`]. Where its secrets are sealed, the data keys that it
//! names are there for as long as it is (`keys`).

mod keys;
mod record;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::clock::mends::Mends;
use crate::command::{Op as Proposed, OpOutcome};
use crate::gateway::{DataKey, GatewayOp, GatewayOutcome, Revision, SOURCE_BYTES_MAX};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::level::Limits;
use crate::rolling::Effect;
pub use record::GatewayRecord;

/// Requests that are remembered, so that one that is carried again is known for what it is.
const REMEMBERED_MAX: usize = 1024;

/// A document, and where it comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub number: u64,
    pub time: Stamp,
    /// Who or what set it, as they said.
    pub source: String,
    pub document: Bytes,
    /// The data keys under which its secrets are sealed, where they are.
    pub keys: Vec<u128>,
}

/// A document that is to be the newest.
struct New<'a> {
    lineage: u128,
    document: &'a Bytes,
    source: &'a str,
    keys: &'a [DataKey],
    time: Stamp,
}

/// The newest document, and those before it that are kept.
#[derive(Debug, Default)]
pub struct Gateway {
    held: GatewayRecord,
}

impl Kind for Gateway {
    type Op<'a> = (&'a GatewayOp, Stamp);
    type Outcome = OpOutcome;
    type Record = GatewayRecord;
    type Ground = ();

    fn apply(&mut self, (op, time): Self::Op<'_>, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let outcome = match op {
            GatewayOp::Set { nonce, expect, lineage, document, source } => {
                let new = New { lineage: *lineage, document, source, keys: &[], time };
                self.set(*nonce, *expect, new, at)
            }
            GatewayOp::SetSealed { nonce, expect, lineage, document, source, keys } => {
                let new = New { lineage: *lineage, document, source, keys, time };
                self.set(*nonce, *expect, new, at)
            }
            GatewayOp::Add { lineage, document, source } => {
                self.add_first(New { lineage: *lineage, document, source, keys: &[], time }, at)
            }
            GatewayOp::AddSealed { lineage, document, source, keys } => {
                self.add_first(New { lineage: *lineage, document, source, keys, time }, at)
            }
            GatewayOp::Seal { lineage, number, from, document, keys } => {
                self.seal(Revision { lineage: *lineage, number: *number }, from, (document, keys), at)
            }
            GatewayOp::Wrap { keys } => self.wrap(keys, at),
            GatewayOp::Renew { lineage } => self.renew(*lineage, at),
        };
        Ok(OpOutcome::Gateway(outcome))
    }

    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        // The newest alone: none of those before it is ever in force again on the way.
        let lineage = self.held.lineage;
        self.held.told.back().into_iter().map(move |told| {
            let (document, source) = (told.document.clone(), told.source.clone());
            let keys: Vec<DataKey> = self.keys_of(told).cloned().collect();
            let op = match keys.is_empty() {
                true => GatewayOp::Add { lineage, document, source },
                false => GatewayOp::AddSealed { lineage, document, source, keys },
            };
            Ok(Proposed::Gateway { time_ms: told.time.0, op })
        })
    }

    fn revision(&self) -> u64 {
        self.held.told.back().map_or(0, |told| told.number)
    }

    fn record(&self) -> GatewayRecord {
        self.held.clone()
    }

    fn open(held: GatewayRecord, (): ()) -> Result<Self, Invalid> {
        Ok(Self { held })
    }
}

impl Gateway {
    /// Which document is the newest.
    pub fn newest(&self) -> Option<(Revision, &Told)> {
        let told = self.held.told.back()?;
        Some((Revision { lineage: self.held.lineage, number: told.number }, told))
    }

    /// All documents that are kept, the newest last.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Told> {
        self.held.told.iter()
    }

    /// The clock was set back: what is there is no later.
    pub fn mend_time(&mut self, ceiling: Stamp) {
        self.held.told.iter_mut().for_each(|told| told.time = told.time.min(ceiling));
    }

    fn set(&mut self, nonce: u64, expect: Option<Revision>, new: New<'_>, at: &mut At<'_>) -> GatewayOutcome {
        if let Some((_, number)) = self.held.recent.iter().find(|(known, _)| *known == nonce) {
            return GatewayOutcome::Set {
                revision: Revision { lineage: self.held.lineage, number: *number },
            };
        }
        let newest = self.newest().map(|(revision, _)| revision);
        if newest != expect {
            return GatewayOutcome::Other { newest };
        }
        let outcome = self.add(new, at);
        if let GatewayOutcome::Set { revision } = outcome {
            self.held.recent.push_back((nonce, revision.number));
            if self.held.recent.len() > REMEMBERED_MAX {
                self.held.recent.pop_front();
            }
        }
        outcome
    }

    fn add_first(&mut self, new: New<'_>, at: &mut At<'_>) -> GatewayOutcome {
        match self.newest().map(|(revision, _)| revision) {
            None => self.add(new, at),
            // The same, carried again: who adds one draws a lineage for it.
            Some(there) if there.lineage == new.lineage => {
                GatewayOutcome::Set { revision: Revision { number: 1, ..there } }
            }
            newest => GatewayOutcome::Other { newest },
        }
    }

    fn add(&mut self, new: New<'_>, at: &mut At<'_>) -> GatewayOutcome {
        let New { lineage, document, source, keys, time } = new;
        let is_large = document.len() > at.limits.gateway_document_bytes_max;
        if is_large || source.len() > SOURCE_BYTES_MAX || !keys::fit(keys) {
            return GatewayOutcome::TooLarge;
        }
        let number = self.revision() + 1;
        if number == 1 {
            self.held.lineage = lineage;
        }
        let time = at.clock.time(time);
        at.clock.note(time);
        let revision = Revision { lineage: self.held.lineage, number };
        at.rolling.note(Effect::Gateway { revision, time, source, document });
        // A copy: the document must not keep a whole log entry's memory alive.
        let document = Bytes::copy_from_slice(document);
        let keys = self.name(number, keys, at);
        self.held.told.push_back(Told { number, time, source: source.to_owned(), document, keys });
        self.forget(at.limits);
        GatewayOutcome::Set { revision }
    }

    /// As many of those before the newest are kept as may be.
    fn forget(&mut self, limits: &Limits) {
        while self.held.is_beyond(limits) {
            self.held.told.pop_front();
        }
        self.forget_keys();
    }

    fn renew(&mut self, lineage: u128, at: &mut At<'_>) -> GatewayOutcome {
        let Some(newest) = self.held.told.back_mut() else { return GatewayOutcome::NoDocument };
        newest.number += 1;
        let revision = Revision { lineage, number: newest.number };
        self.held.lineage = lineage;
        // What the lost were told is no answer of this lineage.
        self.held.recent.clear();
        at.rolling.note(Effect::GatewayRenewed { revision });
        GatewayOutcome::Set { revision }
    }
}

#[cfg(test)]
mod tests;
