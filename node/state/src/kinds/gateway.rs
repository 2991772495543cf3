//! The gateway: the document that balancers obey, compared and set; and the last ones before it.
//!
//! What a document says, nobody looks at here: see [`crate::gateway`].

mod record;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::clock::mends::Mends;
use crate::command::{Op as Proposed, OpOutcome};
use crate::gateway::{GatewayOp, GatewayOutcome, Revision, SOURCE_BYTES_MAX};
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
                self.set(*nonce, *expect, (*lineage, document, source), time, at)
            }
            GatewayOp::Add { lineage, document, source } => match self.newest().map(|(revision, _)| revision)
            {
                None => self.add(*lineage, document, source, time, at),
                // The same, carried again: who adds one draws a lineage for it.
                Some(there) if there.lineage == *lineage => {
                    GatewayOutcome::Set { revision: Revision { number: 1, ..there } }
                }
                newest => GatewayOutcome::Other { newest },
            },
            GatewayOp::Renew { lineage } => self.renew(*lineage, at),
        };
        Ok(OpOutcome::Gateway(outcome))
    }

    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        // The newest alone: none of those before it is ever in force again on the way.
        let lineage = self.held.lineage;
        self.held.told.back().into_iter().map(move |told| {
            let (document, source) = (told.document.clone(), told.source.clone());
            let op = GatewayOp::Add { lineage, document, source };
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

    fn set(
        &mut self,
        nonce: u64,
        expect: Option<Revision>,
        (lineage, document, source): (u128, &Bytes, &str),
        time: Stamp,
        at: &mut At<'_>,
    ) -> GatewayOutcome {
        if let Some((_, number)) = self.held.recent.iter().find(|(known, _)| *known == nonce) {
            return GatewayOutcome::Set {
                revision: Revision { lineage: self.held.lineage, number: *number },
            };
        }
        let newest = self.newest().map(|(revision, _)| revision);
        if newest != expect {
            return GatewayOutcome::Other { newest };
        }
        let outcome = self.add(lineage, document, source, time, at);
        if let GatewayOutcome::Set { revision } = outcome {
            self.held.recent.push_back((nonce, revision.number));
            if self.held.recent.len() > REMEMBERED_MAX {
                self.held.recent.pop_front();
            }
        }
        outcome
    }

    fn add(
        &mut self,
        lineage: u128,
        document: &Bytes,
        source: &str,
        time: Stamp,
        at: &mut At<'_>,
    ) -> GatewayOutcome {
        if document.len() > at.limits.gateway_document_bytes_max || source.len() > SOURCE_BYTES_MAX {
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
        self.held.told.push_back(Told { number, time, source: source.to_owned(), document });
        self.forget(at.limits);
        GatewayOutcome::Set { revision }
    }

    /// As many of those before the newest are kept as may be.
    fn forget(&mut self, limits: &Limits) {
        while self.held.is_beyond(limits) {
            self.held.told.pop_front();
        }
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
