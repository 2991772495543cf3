//! Messages: a log of byte strings, each named by its digest, with what was taken out of it.
//!
//! Their bytes are [`Records`]; the state is which of them are gone.

mod creators;
pub mod removed;

use crate::clock::Stamp;
use crate::command::{Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::message::Digest;
use crate::records::{NewRecord, Records};
use crate::rolling::Effect;
use creators::Creators;
use removed::{Gaps, Removed, RemovedRecord};

/// Records that are read at once, where messages are made anew.
const AGAIN_COUNT: usize = 1024;
/// And their bytes.
const AGAIN_BYTES: usize = 1024 * 1024;

/// The log of messages.
#[derive(Debug)]
pub struct Messages<R> {
    records: R,
    removed: Removed,
    creators: Creators,
    /// Times that messages were taken out, since the start.
    removals: u64,
}

/// What changes the messages.
#[derive(Debug, Clone, Copy)]
pub enum Op<'a> {
    Put { digest: &'a Digest, content_type: &'a str, body: &'a [u8], time: Stamp, nonce: u64 },
    Drop { upto: u64 },
    Remove { digest: &'a Digest },
}

impl<R: Records> Kind for Messages<R> {
    type Op<'a> = Op<'a>;
    type Outcome = OpOutcome;
    type Record = RemovedRecord;
    type Ground = R;

    fn apply(&mut self, op: Op<'_>, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        match op {
            Op::Put { digest, content_type, body, time, nonce } => {
                self.put(digest, content_type, body, time, nonce, at)
            }
            Op::Drop { upto } => Ok(OpOutcome::Dropped { upto: self.drop_upto(upto, at)? }),
            Op::Remove { digest } => self.remove(digest, at),
        }
    }

    fn again(&self) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        let mut after = self.removed.floor();
        let mut page = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(message) = page.next() {
                    return Some(Ok(message));
                }
                let read = match self.records.page(after, AGAIN_COUNT, AGAIN_BYTES) {
                    Ok(read) => read,
                    Err(stopped) => return Some(Err(stopped)),
                };
                after = read.last()?.seq;
                let there: Vec<Proposed> = read
                    .into_iter()
                    .filter(|message| !self.removed.has(message.seq))
                    .map(|message| Proposed::PutMessage {
                        digest: message.digest,
                        content_type: message.content_type,
                        body: message.body,
                        time_ms: message.time_ms,
                        nonce: 0,
                    })
                    .collect();
                page = there.into_iter();
            }
        })
    }

    fn revision(&self) -> u64 {
        self.records.last_seq() + self.removals
    }

    fn record(&self) -> RemovedRecord {
        self.removed.record(self.records.last_seq())
    }

    fn open(record: RemovedRecord, records: R) -> Result<Self, Invalid> {
        if record != RemovedRecord::default() && record.last_seq != records.last_seq() {
            let (told, there) = (record.last_seq, records.last_seq());
            return Err(Invalid(format!("messages up to {told}, but records up to {there}")));
        }
        let removed = Removed::new(&record);
        Ok(Self { records, removed, creators: Creators::default(), removals: 0 })
    }
}

impl<R: Records> Messages<R> {
    fn put(
        &mut self,
        digest: &Digest,
        content_type: &str,
        body: &[u8],
        time: Stamp,
        nonce: u64,
        at: &mut At<'_>,
    ) -> Result<OpOutcome, Stopped> {
        if let Some(seq) = self.find(digest)? {
            return Ok(OpOutcome::Message { seq, created: self.creators.made(seq, nonce) });
        }
        let (seq, time) = (self.records.last_seq() + 1, at.clock.time(time));
        self.records.push(NewRecord { seq, time, digest, content_type, body })?;
        self.creators.push(seq, nonce);
        at.rolling.note(Effect::Message { seq, time, digest, content_type });
        at.clock.note(time);
        Ok(OpOutcome::Message { seq, created: true })
    }

    /// The `seq` of the message of this digest, if it is there.
    fn find(&self, digest: &Digest) -> Result<Option<u64>, Stopped> {
        Ok(self.records.find(digest)?.filter(|seq| !self.removed.has(*seq)))
    }

    /// Takes one message out of the log, though not off the disk.
    fn remove(&mut self, digest: &Digest, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let Some(seq) = self.find(digest)? else { return Ok(OpOutcome::Removed { seq: None }) };
        if !self.removed.remove(seq, *digest, at.limits) {
            return Ok(OpOutcome::TooManyRemoved);
        }
        at.rolling.note(Effect::Removed { seq });
        self.removals += 1;
        Ok(OpOutcome::Removed { seq: Some(seq) })
    }

    /// Drops the messages up to one, or the first part of them; answers up to where they are gone.
    fn drop_upto(&mut self, upto: u64, at: &mut At<'_>) -> Result<u64, Stopped> {
        let floor = self.removed.floor();
        let at_once = floor.saturating_add(at.limits.dropped_at_once_max);
        let upto = upto.min(self.records.last_seq()).min(at_once);
        for seq in floor + 1..=upto {
            if !self.removed.has(seq) {
                let digest = self.records.digest_at(seq)?;
                self.removed.remember(digest, at.limits);
            }
        }
        if upto > floor {
            self.removed.raise_floor(upto);
            at.rolling.note(Effect::Floor { seq: upto });
            self.removals += 1;
            self.records.let_go(upto);
        }
        Ok(self.removed.floor())
    }

    pub fn records(&self) -> &R {
        &self.records
    }

    /// For what is no part of the state: room, files.
    pub fn records_mut(&mut self) -> &mut R {
        &mut self.records
    }

    /// The last message's `seq`, also where it was taken out.
    pub fn last_seq(&self) -> u64 {
        self.records.last_seq()
    }

    pub fn removed(&self) -> &Removed {
        &self.removed
    }

    /// What a reader needs to pass over messages that were taken out.
    pub fn gaps(&self) -> Gaps {
        self.removed.gaps()
    }

    /// Times that messages were taken out, since the start.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Goes on counting where replaced messages ended.
    pub fn count_removals_from(&mut self, removals: u64) {
        self.removals = removals;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::laws;

    #[test]
    fn the_laws_hold_of_messages() {
        laws::hold(|draw| {
            let body = Bytes::from(vec![draw.within(0..30) as u8]);
            let digest = Digest::of(&body);
            match draw.within(0..10) {
                0 => Proposed::RemoveMessage { digest },
                1 => Proposed::DropMessages { upto: draw.within(0..40) },
                _ => {
                    let (content_type, nonce) = ("a/b".to_owned(), draw.within(0..1 << 60));
                    Proposed::PutMessage { digest, content_type, body, time_ms: draw.time(), nonce }
                }
            }
        });
    }
}
