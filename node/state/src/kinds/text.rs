//! The text: one register, whose newest value is read.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::id::RequestId;

use crate::clock::Stamp;
use crate::command::{Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, KindId, Record, Stopped};
use crate::level::Limits;
use crate::rolling::Effect;

/// The text as a checkpoint and a snapshot carry it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRecord {
    /// 0 while no text was ever written.
    pub version: u64,
    pub text: Bytes,
    pub time: Stamp,
    /// The latest text writes and the versions that they made, oldest first.
    pub recent: Vec<(RequestId, u64)>,
}

/// The newest text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// From 1; each write adds one.
    pub version: u64,
    pub time: Stamp,
    pub text: Bytes,
}

/// The newest text, and what makes retries take effect once.
#[derive(Debug, Default)]
pub struct Text {
    version: u64,
    text: Bytes,
    time: Stamp,
    recent: VecDeque<(RequestId, u64)>,
    by_request: HashMap<RequestId, u64>,
}

/// Makes a text the newest.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// A retry of the same takes effect once.
    pub request: RequestId,
    pub text: &'a Bytes,
    pub time: Stamp,
}

impl Kind for Text {
    type Op<'a> = Write<'a>;
    type Outcome = OpOutcome;
    type Record = TextRecord;
    type Ground = ();

    fn apply(&mut self, write: Write<'_>, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        if let Some(version) = self.by_request.get(&write.request) {
            return Ok(OpOutcome::Text { version: *version });
        }
        self.version += 1;
        // A copy: the text must not keep a whole log entry's memory alive.
        self.text = Bytes::copy_from_slice(write.text);
        self.time = at.clock.time(write.time);
        at.clock.note(self.time);
        let (version, time, request) = (self.version, self.time, write.request.0);
        at.rolling.note(Effect::Text { version, time, request, text: &self.text });
        self.recent.push_back((write.request, self.version));
        self.by_request.insert(write.request, self.version);
        while self.recent.len() > at.limits.text_requests_max {
            if let Some((oldest, _)) = self.recent.pop_front() {
                self.by_request.remove(&oldest);
            }
        }
        Ok(OpOutcome::Text { version: self.version })
    }

    fn again(&self) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        let request = self.recent.back().map_or(RequestId(u128::from(self.version)), |(request, _)| *request);
        let write = Proposed::WriteText { request, text: self.text.clone(), time_ms: self.time.0 };
        (self.version > 0).then_some(Ok(write)).into_iter()
    }

    fn revision(&self) -> u64 {
        self.version
    }

    fn record(&self) -> TextRecord {
        TextRecord {
            version: self.version,
            text: self.text.clone(),
            time: self.time,
            recent: self.recent.iter().copied().collect(),
        }
    }

    fn open(record: TextRecord, (): ()) -> Result<Self, Invalid> {
        let TextRecord { version, text, time, recent } = record;
        let by_request = recent.iter().copied().collect();
        Ok(Text { version, text, time, recent: recent.into(), by_request })
    }
}

impl Record for TextRecord {
    const ID: KindId = KindId(2);
    const NAME: &'static str = "text";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        match self.recent.len() {
            within if within <= Limits::WIDEST.text_requests_max => Ok(()),
            beyond => Err(Invalid(format!("{beyond} remembered requests"))),
        }
    }
}

impl Text {
    /// The newest text.
    pub fn newest(&self) -> Option<Newest> {
        (self.version > 0).then(|| Newest { version: self.version, time: self.time, text: self.text.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{self, World};

    fn write(request: u128, text: &str, time_ms: u64) -> Proposed {
        let text = Bytes::copy_from_slice(text.as_bytes());
        Proposed::WriteText { request: RequestId(request), text, time_ms }
    }

    #[test]
    fn a_repeated_request_takes_effect_once_even_after_a_checkpoint() {
        let mut world = World::default();
        world.apply([write(1, "a", 5), write(2, "b", 4)]);
        let mut world = world.reopened();
        assert_eq!(world.apply([write(1, "a", 9)]), [OpOutcome::Text { version: 1 }]);
        let newest = Newest { version: 2, time: Stamp(5), text: Bytes::from("b") };
        assert_eq!(world.kinds.text.newest(), Some(newest));
    }

    #[test]
    fn the_memory_of_requests_is_bounded() {
        let (mut world, max) = (World::default(), Limits::WIDEST.text_requests_max);
        (0..2 * max as u128).for_each(|request| drop(world.apply([write(request, "", 1)])));
        assert_eq!((world.kinds.text.recent.len(), world.kinds.text.by_request.len()), (max, max));
    }

    #[test]
    fn the_laws_hold_of_texts() {
        laws::hold(|draw| {
            write(draw.within(0..20).into(), ["", "a", "b"][draw.within(0..3) as usize], draw.time())
        });
    }
}
