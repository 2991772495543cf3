//! The list of the kinds, and how a command is taken apart among them.
//!
//! A new kind is a room in `kinds/`, a line in the list below, and an arm in [`Kinds::apply_op`].

pub mod claims;
mod common;
pub mod gateway;
pub mod messages;
pub mod purges;
pub mod schedules;
pub mod shifts;
pub mod tasks;
pub mod text;

use skep_base::codec::CodecError;

use crate::clock::mends::{AHEAD_MS_MAX, Mend, Mends};
use crate::clock::{Clock, Stamp};
use crate::command::{Command, CommandOutcome, Op, OpOutcome};
use crate::heap::Heap;
use crate::kind::{At, Invalid, Kind, KindId, Record, Stopped};
use crate::level::{Level, Limits};
use crate::part::Source;
use crate::records::Records;
use crate::rolling::{Effect, Rolling, StateHash};
use crate::section;
use crate::task::TaskOutcome;
use claims::records::ClaimRecords;
use claims::{Claim, Claims, ClaimsRecord, Guard};
pub use common::CommonRecord;
use gateway::{Gateway, GatewayRecord};
use messages::Messages;
use messages::removed::RemovedRecord;
use purges::{Purges, PurgesRecord};
use schedules::{Schedules, SchedulesRecord};
use shifts::{Shifts, ShiftsRecord};
use tasks::{Tasks, TasksRecord};
use text::{Text, TextRecord, Write};

/// Makes of the list of the kinds what holds them all.
macro_rules! kinds {
    (over $records:ident, $claim_records:ident, $heap:ident: $($name:ident: $kind:ty, as $record:ty, on $ground:expr;)*) => {
        /// Everything that is replicated. `R` has the bytes of the messages, `C` the claims.
        #[derive(Debug)]
        pub struct Kinds<R, C> {
            level: Level,
            limits: Limits,
            clock: Clock,
            mends: Mends,
            rolling: Rolling,
            $(pub $name: $kind,)*
        }

        /// The same as a checkpoint and a snapshot carry it.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct KindsRecord {
            pub common: CommonRecord,
            $(pub $name: $record,)*
        }

        const COUNT: usize = [$(stringify!($name)),*].len();

        /// How far each kind is: a number rises when its state changes.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Revisions {
            $(pub $name: u64,)*
        }

        impl<R: Records, C: ClaimRecords> Kinds<R, C> {
            /// The state of a record, over its messages, its claims, and the bytes of its tasks.
            pub fn open(
                record: KindsRecord,
                $records: R,
                $claim_records: C,
                $heap: Heap,
            ) -> Result<Self, Invalid> {
                let CommonRecord { level, clock, hash, mends } = record.common;
                let (limits, rolling) = (Limits::of(level), Rolling::from(hash));
                Ok(Self { level, limits, clock, mends, rolling, $($name: <$kind>::open(record.$name, $ground)?,)* })
            }

            /// All of it, for a checkpoint.
            pub fn record(&self) -> KindsRecord {
                let (level, clock, hash) = (self.level, self.clock, self.rolling.hash());
                let common = CommonRecord { level, clock, hash, mends: self.mends.clone() };
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
                std::iter::empty()$(.chain(self.$name.again(&self.mends)))*
            }
        }

        impl KindsRecord {
            fn all(&self) -> [&dyn section::Written; 1 + COUNT] {
                [&self.common, $(&self.$name),*]
            }

            /// What its sections come to.
            pub fn outline(&self) -> Result<section::Outline, CodecError> {
                section::Outline::of(&self.all())
            }

            /// Appends the next bytes of the sections that this is the outline of; whether there were some.
            pub fn next_piece(
                &self,
                outline: &section::Outline,
                progress: &mut section::Progress,
                bytes: &mut Vec<u8>,
            ) -> Result<bool, CodecError> {
                outline.next(&self.all(), progress, bytes)
            }

            /// In sections, all of them.
            #[cfg(test)]
            pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
                section::written(&self.all())
            }

            /// Of sections, all of them.
            #[cfg(test)]
            pub fn decode(mut bytes: &[u8]) -> Result<Self, Invalid> {
                let len = bytes.len();
                Self::read(&mut bytes, len)
            }

            /// Of sections, which may be hostile: of the next so many bytes of a source. What this program does not know, it
            /// refuses.
            pub fn read(source: &mut dyn Source, len: usize) -> Result<Self, Invalid> {
                let mut sections = section::Sections::begin(source, len)?;
                let mut record = Self::default();
                while let Some(section) = sections.next_section()? {
                    match section.kind {
                        CommonRecord::ID => record.common = sections.record(&section)?,
                        $(<$record as Record>::ID => record.$name = sections.record(&section)?,)*
                        KindId(kind) => {
                            let unknown = format!("a section of kind {kind}, which this program does not know");
                            return Err(Invalid(unknown));
                        }
                    }
                }
                Ok(record)
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
            mends: &$all.mends,
            level: $all.level,
            limits: &$all.limits,
            rolling: &mut $all.rolling,
        }
    };
}

kinds! { over records, claim_records, heap:
    messages: Messages<R>, as RemovedRecord, on records;
    text: Text, as TextRecord, on ();
    claims: Claims<C>, as ClaimsRecord, on claim_records;
    tasks: Tasks, as TasksRecord, on heap;
    gateway: Gateway, as GatewayRecord, on ();
    schedules: Schedules, as SchedulesRecord, on ();
    purges: Purges, as PurgesRecord, on ();
    shifts: Shifts, as ShiftsRecord, on ();
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

    /// Where it was set back: times count through this.
    pub fn mends(&self) -> &Mends {
        &self.mends
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
                // What was refused may be asked again under the same key.
                let is_put = |came_to: &TaskOutcome| {
                    matches!(came_to, TaskOutcome::Put { .. } | TaskOutcome::Batch { .. })
                };
                if matches!(&outcome, OpOutcome::Tasks(came_to) if !is_put(came_to)) {
                    return Ok(outcome);
                }
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
            Op::DropMessages { upto } => {
                let floor = self.messages.removed().floor();
                let outcome = self.messages.apply(messages::Op::Drop { upto: *upto }, &mut at)?;
                if self.messages.removed().floor() > floor {
                    self.purges.messages(self.messages.removed().floor(), &mut at);
                }
                Ok(outcome)
            }
            Op::RemoveMessage { digest } => {
                let outcome = self.messages.apply(messages::Op::Remove { digest }, &mut at)?;
                if let OpOutcome::Removed { seq: Some(seq) } = outcome {
                    self.purges.message(seq, &mut at);
                }
                Ok(outcome)
            }
            Op::Purges { op } => self.purges.apply(op, &mut at),
            Op::WriteText { request, text, time_ms } => {
                self.text.apply(Write { request: *request, text, time: Stamp(*time_ms) }, &mut at)
            }
            Op::Tasks { time_ms, op } => self.tasks.apply((op, Stamp(*time_ms)), &mut at),
            Op::Gateway { time_ms, op } => self.gateway.apply((op, Stamp(*time_ms)), &mut at),
            Op::Schedules { time_ms, op } => {
                self.schedules.apply((op, Stamp(*time_ms), &mut self.tasks), &mut at)
            }
            Op::Shifts { time_ms, op } => self.shifts.apply((op, Stamp(*time_ms)), &mut at),
            Op::Level { level } => self.raise(*level),
            Op::MendTime { time_ms, newest_ms } => Ok(self.mend_time(Stamp(*time_ms), Stamp(*newest_ms))),
            // Applied where the guard is.
            Op::Claim { .. } => Ok(OpOutcome::Skipped),
        }
    }

    /// The bounds that commands are held to: those of the level.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Narrower ones, until the level is another: for tests, of which none would reach the level's own.
    #[doc(hidden)]
    pub fn narrow(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn raise(&mut self, level: Level) -> Result<OpOutcome, Stopped> {
        let before = self.level;
        let level = before.max(level.min(Level::NEWEST));
        (self.level, self.limits) = (level, Limits::of(level));
        if before < Level::CLAIM_RECORDS && level >= Level::CLAIM_RECORDS {
            self.claims.become_records(self.clock.latest())?;
        }
        if before < Level::TASK_FILES && level >= Level::TASK_FILES {
            self.tasks.become_filed();
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

    /// Sets the clock back, where it is still where it was seen, and ahead of this time by more than clocks that are
    /// right differ; and with it all that has a time.
    fn mend_time(&mut self, ceiling: Stamp, seen: Stamp) -> OpOutcome {
        let latest = self.clock.latest();
        let is_ahead = latest >= seen && latest.0 > ceiling.0.saturating_add(AHEAD_MS_MAX);
        if self.level < Level::TIME_MENDS || !is_ahead {
            return OpOutcome::TimeKept;
        }
        let claims = self.claims.numbers();
        let mend = Mend { upto_seq: self.messages.last_seq(), before_claim: claims.end, ceiling };
        let Some(mends) = self.mends.with(mend, self.messages.removed().floor(), claims.start) else {
            return OpOutcome::TooManyMends;
        };
        self.mends = mends;
        let Mend { upto_seq, before_claim, .. } = mend;
        self.rolling.note(Effect::TimeMended { upto_seq, before_claim, ceiling });
        self.clock.set_back(ceiling);
        self.messages.mend_time();
        self.text.mend_time(ceiling);
        self.claims.mend_time(ceiling);
        self.tasks.mend_time(latest.0, ceiling.0);
        self.gateway.mend_time(ceiling);
        self.schedules.mend_time(ceiling);
        self.shifts.mend_time(ceiling);
        OpOutcome::TimeMended { from_ms: latest.0, to_ms: ceiling.0 }
    }
}

#[cfg(test)]
mod tests;
