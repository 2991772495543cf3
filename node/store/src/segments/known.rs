//! What a run of commands needs of sealed segments, looked for before the lock is taken that readers need too.
//!
//! Segments do not change, and only who applies makes and drops them: what was found is still so when the run
//! is applied.

use std::collections::HashMap;
use std::sync::Arc;

use skep_state::command::Op;
use skep_state::level::Limits;
use skep_state::message::Digest;

use crate::error::StoreError;
use crate::segments::read::Wait;
use crate::segments::segment::{Place, Sealed};

/// What is to be looked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    digests: Vec<Digest>,
    /// Messages up to this one are dropped,
    dropped_upto: u64,
    /// by so many commands, of which each drops so many at most.
    drops: u64,
}

impl Wanted {
    pub(crate) fn note(&mut self, op: &Op) {
        match op {
            Op::PutMessage { digest, .. } | Op::RemoveMessage { digest } => self.digests.push(*digest),
            Op::DropMessages { upto } => {
                self.dropped_upto = self.dropped_upto.max(*upto);
                self.drops += 1;
            }
            Op::WriteText { .. }
            | Op::Claim { .. }
            | Op::Level { .. }
            | Op::Tasks { .. }
            | Op::MendTime { .. }
            | Op::Gateway { .. }
            | Op::Schedules { .. }
            | Op::Purges { .. }
            | Op::Shifts { .. } => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.digests.is_empty() && self.drops == 0
    }

    /// Whether it takes reads by the thousand: nothing for the thread that runs consensus.
    pub(crate) fn is_long(&self) -> bool {
        self.drops > 0
    }
}

/// What becomes of a digest of what is dropped that the disk has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is asked of others.
    Wanted,
    /// Nobody has it: others have dropped it as well. Of that message nothing is known any more, not even that it was
    /// there once.
    PassedOver,
}

impl Lost {
    fn is_passed_over(self, error: &StoreError) -> bool {
        self == Lost::PassedOver && error.rotten_path().is_some()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Of each digest, the newest sealed message.
    places: HashMap<Digest, Option<u64>>,
    /// The digests of what is dropped, in order from this message on.
    dropped_from: u64,
    dropped: Vec<Digest>,
}

impl Known {
    /// Looks for it above the floor.
    pub(crate) fn of(
        wanted: &Wanted,
        sealed: &[Arc<Sealed>],
        floor: u64,
        wait: Wait,
        lost: Lost,
    ) -> Result<Known, StoreError> {
        let mut known = Known { dropped_from: floor + 1, ..Known::default() };
        if sealed.is_empty() {
            return Ok(known);
        }
        known.places.reserve(wanted.digests.len());
        for digest in &wanted.digests {
            known.places.insert(*digest, find_sealed(sealed, digest, wait)?.map(|place| place.seq));
        }
        let most = wanted.drops.saturating_mul(Limits::WIDEST.dropped_at_once_max);
        let upto = wanted.dropped_upto.min(floor.saturating_add(most));
        let first = sealed.partition_point(|segment| segment.first_seq + segment.count <= floor + 1);
        for segment in sealed[first..].iter().take_while(|segment| segment.first_seq <= upto) {
            let was_held = segment.file.is_held();
            let held = segment.hold();
            if let Err(error) = held
                && !lost.is_passed_over(&error)
            {
                return Err(error);
            }
            let from = known.dropped_from + known.dropped.len() as u64;
            let last = upto.min(segment.first_seq + segment.count - 1);
            let read: Result<(), StoreError> = (from..=last).try_for_each(|seq| {
                known.dropped.push(match segment.digest((seq - segment.first_seq) as u32, wait) {
                    Err(error) if lost.is_passed_over(&error) => Digest([0; 32]),
                    digest => digest?,
                });
                Ok(())
            });
            if !was_held {
                segment.let_go();
            }
            read?;
        }
        Ok(known)
    }

    /// The newest sealed message of a digest; none where it was not looked for.
    pub(super) fn place(&self, digest: &Digest) -> Option<Option<u64>> {
        self.places.get(digest).copied()
    }

    /// A sealed message's digest; none where it was not looked for.
    pub(super) fn digest(&self, seq: u64) -> Option<Digest> {
        let at = usize::try_from(seq.checked_sub(self.dropped_from)?).ok()?;
        self.dropped.get(at).copied()
    }
}

pub(super) fn find_sealed(
    sealed: &[Arc<Sealed>],
    digest: &Digest,
    wait: Wait,
) -> Result<Option<Place>, StoreError> {
    // The newest first: what is repeated is mostly recent.
    for segment in sealed.iter().rev() {
        if let Some(place) = segment.find(digest, wait)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}
