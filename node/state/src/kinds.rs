//! The list of the kinds, and how a command is taken apart among them.
//!
//! A new kind is a room in `kinds/`, a line in the list below, and an arm in [`Kinds::apply_op`].

pub mod claims;
pub mod messages;
pub mod text;

use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};

use crate::clock::{Clock, Stamp};
use crate::command::{Command, CommandOutcome, Op, OpOutcome};
use crate::kind::{At, Invalid, Kind, KindId, Record, Stopped};
use crate::level::{Level, Limits};
use crate::records::Records;
use crate::rolling::{Effect, Rolling, StateHash};
use crate::section;
use claims::records::ClaimRecords;
use claims::{Claim, Claims, ClaimsRecord, Guard};
use messages::Messages;
use messages::removed::RemovedRecord;
use text::{Text, TextRecord, Write};

/// Makes of the list of the kinds what holds them all.
macro_rules! kinds {
    (over $records:ident, $claim_records:ident: $($name:ident: $kind:ty, as $record:ty, on $ground:expr;)*) => {
        /// Everything that is replicated. `R` has the bytes of the messages, `C` the claims.
        #[derive(Debug)]
        pub struct Kinds<R, C> {
            level: Level,
            limits: Limits,
            clock: Clock,
            rolling: Rolling,
            $(pub $name: $kind,)*
        }

        /// The same as a checkpoint and a snapshot carry it.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct KindsRecord {
            pub common: CommonRecord,
            $(pub $name: $record,)*
        }

        /// How far each kind is: a number rises when its state changes.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Revisions {
            $(pub $name: u64,)*
        }

        impl<R: Records, C: ClaimRecords> Kinds<R, C> {
            /// The state of a record, over its messages and claims.
            pub fn open(record: KindsRecord, $records: R, $claim_records: C) -> Result<Self, Invalid> {
                let CommonRecord { level, clock, hash } = record.common;
                let (limits, rolling) = (Limits::of(level), Rolling::from(hash));
                Ok(Self { level, limits, clock, rolling, $($name: <$kind>::open(record.$name, $ground)?,)* })
            }

            /// All of it, for a checkpoint.
            pub fn record(&self) -> KindsRecord {
                let (level, clock, hash) = (self.level, self.clock, self.rolling.hash());
                let common = CommonRecord { level, clock, hash };
                KindsRecord { common, $($name: self.$name.record(),)* }
            }

            pub fn revisions(&self) -> Revisions {
                Revisions { $($name: self.$name.revision(),)* }
            }

            /// What a leader is to propose now that it is so late.
            pub fn due(&self, now: Stamp) -> Vec<Op> {
                [$(self.$name.due(now),)*].into_iter().flatten().collect()
            }

            /// The operations that make the contents anew in an empty cluster.
            pub fn again(&self) -> impl Iterator<Item = Result<Op, Stopped>> {
                std::iter::empty()$(.chain(self.$name.again()))*
            }
        }

        impl KindsRecord {
            /// In sections.
            pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
                let mut sections = section::Writer::default();
                sections.push(&self.common)?;
                $(sections.push(&self.$name)?;)*
                Ok(sections.finish())
            }

            /// Of sections, which may be hostile. What this program does not know, it refuses.
            pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
                let sections = section::read(bytes)?;
                let known = [CommonRecord::ID, $(<$record as Record>::ID,)*];
                if let Some(unknown) = sections.iter().find(|section| !known.contains(&section.kind)) {
                    let kind = unknown.kind.0;
                    return Err(Invalid(format!("a section of kind {kind}, which this program does not know")));
                }
                Ok(Self { common: section::find(&sections)?, $($name: section::find(&sections)?,)* })
            }

            /// Whether each part could be one.
            pub fn check(&self) -> Result<(), Invalid> {
                self.common.check()?;
                $(self.$name.check()?;)*
                Ok(())
            }
        }

        #[cfg(test)]
        const LISTED: &[(KindId, &str)] =
            &[(CommonRecord::ID, CommonRecord::NAME), $((<$record as Record>::ID, <$record as Record>::NAME),)*];
    };
}

/// Where an entry is applied, beside the kinds: of all that is no kind's.
macro_rules! at {
    ($all:ident, $index:ident) => {
        At {
            index: $index,
            clock: &mut $all.clock,
            level: $all.level,
            limits: &$all.limits,
            rolling: &mut $all.rolling,
        }
    };
}

kinds! { over records, claim_records:
    messages: Messages<R>, as RemovedRecord, on records;
    text: Text, as TextRecord, on ();
    claims: Claims<C>, as ClaimsRecord, on claim_records;
}

/// What belongs to no kind: the level, the clock and the rolling hash.
///
/// ```text
/// format 1   level clock, in the codec's encoding; there is no hash yet
/// format 2   level clock hash, in the codec's encoding
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommonRecord {
    pub level: Level,
    pub clock: Clock,
    /// From [`Level::ROLLING_HASH`] on.
    pub hash: Option<StateHash>,
}

impl Record for CommonRecord {
    const ID: KindId = KindId(0);
    const NAME: &'static str = "common";
    const FORMATS: (u16, u16) = (1, 2);

    fn check(&self) -> Result<(), Invalid> {
        let Level(level) = self.level;
        if !(Level::FIRST..=Level::NEWEST).contains(&self.level) {
            let (oldest, newest) = (Level::FIRST.0, Level::NEWEST.0);
            return Err(Invalid(format!("level {level}; this program knows {oldest} to {newest}")));
        }
        match (self.level >= Level::ROLLING_HASH, self.hash.is_some()) {
            (true, false) => Err(Invalid(format!("level {level} without a hash of the state"))),
            (false, true) => Err(Invalid(format!("a hash of the state at level {level}"))),
            _ => Ok(()),
        }
    }

    fn encode(&self) -> Result<(u16, Vec<u8>), CodecError> {
        let CommonRecord { level, clock, hash } = self;
        match hash {
            None => Ok((1, codec::encode(&(level, clock))?)),
            Some(hash) => Ok((2, codec::encode(&(level, clock, hash))?)),
        }
    }

    fn decode(format: u16, bytes: &[u8]) -> Result<Self, Invalid> {
        if format == 1 {
            let (level, clock) = codec::decode(bytes)?;
            return Ok(Self { level, clock, hash: None });
        }
        let (level, clock, hash) = codec::decode(bytes)?;
        Ok(Self { level, clock, hash: Some(hash) })
    }
}

impl<R: Records, C: ClaimRecords> Kinds<R, C> {
    /// The level that the cluster has agreed to.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The replicated clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Of all that was applied since the cluster agreed to have one.
    pub fn rolling_hash(&self) -> Option<StateHash> {
        self.rolling.hash()
    }

    /// Applies a command: one outcome for each of its operations.
    pub fn apply(&mut self, index: u64, command: &Command) -> Result<CommandOutcome, Stopped> {
        if command.format > Level::NEWEST.0 {
            return Err(Stopped::Format { index, format: command.format, known: Level::NEWEST.0 });
        }
        self.rolling.begin_entry(index);
        let first_claim = self.claims.numbers().start;
        // Also where no key comes any more.
        self.claims.forget_until(self.clock.latest());
        let mut outcomes = Vec::with_capacity(command.ops.len());
        let mut guard = None;
        for (op, next) in command.ops.iter().zip(command.ops.iter().skip(1).map(Some).chain([None])) {
            outcomes.push(self.apply_guarded(index, op, next, &mut guard)?);
        }
        let first = self.claims.numbers().start;
        if first != first_claim {
            self.rolling.note(Effect::ClaimsEnded { first });
        }
        self.rolling.end_entry();
        Ok(CommandOutcome { outcomes })
    }

    /// Applies an operation, unless a claim before it keeps it from taking effect.
    fn apply_guarded(
        &mut self,
        index: u64,
        op: &Op,
        next: Option<&Op>,
        guard: &mut Option<Guard>,
    ) -> Result<OpOutcome, Stopped> {
        if let Op::Claim { key, fingerprint, time_ms, ttl_ms } = op {
            let (key, fingerprint, time, ttl_ms) = (*key, *fingerprint, Stamp(*time_ms), *ttl_ms);
            let nonce = next.map_or(0, Op::nonce);
            let mut at = at!(self, index);
            let next = self.claims.apply(Claim { key, fingerprint, nonce, time, ttl_ms }, &mut at)?;
            let outcome = next.outcome();
            *guard = Some(next);
            return Ok(outcome);
        }
        match guard.take() {
            None => self.apply_op(index, op),
            Some(Guard::Repeat(outcome) | Guard::Again(outcome)) => Ok(outcome),
            Some(Guard::Skip | Guard::Full) => Ok(OpOutcome::Skipped),
            Some(Guard::Remember { claim, instead_of }) => {
                let last_seq = self.messages.last_seq();
                let outcome = self.apply_op(index, op)?;
                // Whose request made a message is no part of the state; whether it was new is.
                let kept = match &outcome {
                    OpOutcome::Message { seq, .. } => {
                        OpOutcome::Message { seq: *seq, created: *seq > last_seq }
                    }
                    other => other.clone(),
                };
                let mut at = at!(self, index);
                self.claims.remember(claim, instead_of, kept, &mut at)?;
                Ok(outcome)
            }
        }
    }

    fn apply_op(&mut self, index: u64, op: &Op) -> Result<OpOutcome, Stopped> {
        let mut at = at!(self, index);
        match op {
            Op::PutMessage { digest, content_type, body, time_ms, nonce } => {
                let (time, nonce) = (Stamp(*time_ms), *nonce);
                self.messages.apply(messages::Op::Put { digest, content_type, body, time, nonce }, &mut at)
            }
            Op::DropMessages { upto } => self.messages.apply(messages::Op::Drop { upto: *upto }, &mut at),
            Op::RemoveMessage { digest } => self.messages.apply(messages::Op::Remove { digest }, &mut at),
            Op::WriteText { request, text, time_ms } => {
                self.text.apply(Write { request: *request, text, time: Stamp(*time_ms) }, &mut at)
            }
            Op::Level { level } => self.raise(*level),
            // Applied where the guard is.
            Op::Claim { .. } => Ok(OpOutcome::Skipped),
        }
    }

    fn raise(&mut self, level: Level) -> Result<OpOutcome, Stopped> {
        let before = self.level;
        let level = before.max(level.min(Level::NEWEST));
        (self.level, self.limits) = (level, Limits::of(level));
        if before < Level::CLAIM_RECORDS && level >= Level::CLAIM_RECORDS {
            self.claims.become_records(self.clock.latest())?;
        }
        if before < level && level >= Level::ROLLING_HASH {
            self.rolling.begin();
            self.rolling.note(Effect::Level {
                level,
                last_seq: self.messages.last_seq(),
                floor: self.messages.removed().floor(),
                text_version: self.text.revision(),
                claims: self.claims.numbers(),
            });
        }
        Ok(OpOutcome::Level { level })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::World;

    #[test]
    fn each_kind_has_a_number_and_a_name_of_its_own() {
        for (i, (id, name)) in LISTED.iter().enumerate() {
            assert!(LISTED[..i].iter().all(|(other, called)| other != id && called != name), "{name}");
        }
    }

    #[test]
    fn a_kind_of_which_there_is_nothing_has_no_section() {
        let mut world = World::default();
        let kinds = |world: &World| {
            let bytes = world.kinds.record().encode().unwrap();
            section::read(&bytes).unwrap().iter().map(|section| section.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&world), []);
        let text = bytes::Bytes::from_static(b"a");
        world.apply([Op::WriteText { request: skep_base::id::RequestId(1), text, time_ms: 1 }]);
        assert_eq!(kinds(&world), [CommonRecord::ID, TextRecord::ID]);
    }

    #[test]
    fn the_level_only_rises_and_never_above_what_is_known() {
        let mut world = World::default();
        let mut raise = |level| world.apply([Op::Level { level: Level(level) }]);
        assert_eq!(raise(3), [OpOutcome::Level { level: Level(3) }]);
        assert_eq!(raise(1), [OpOutcome::Level { level: Level(3) }]);
        assert_eq!(world.reopened().kinds.level(), Level(3));
    }

    #[test]
    fn a_command_of_a_newer_program_stops_the_node() {
        let mut command = Command::new(vec![]);
        command.format = Level::NEWEST.0 + 1;
        let stopped = World::default().kinds.apply(7, &command).unwrap_err();
        assert!(matches!(stopped, Stopped::Format { index: 7, .. }), "{stopped}");
    }
}
