//! The small state beside the messages: the newest text, and what makes retries take effect once.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::id::RequestId;

/// How many text writes are remembered, so that a retry of one is known for what it is.
pub const RECENT_REQUESTS_MAX: usize = 4096;

/// The registers as a checkpoint and a snapshot carry them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistersRecord {
    /// 0 while no text was ever written.
    pub version: u64,
    pub text: Bytes,
    pub text_time_ms: u64,
    /// The latest time given to anything: time never falls.
    pub last_time_ms: u64,
    /// The latest text writes and the versions that they made, oldest first.
    pub recent: Vec<(RequestId, u64)>,
}

/// The registers in use.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    version: u64,
    text: Bytes,
    text_time_ms: u64,
    last_time_ms: u64,
    recent: VecDeque<(RequestId, u64)>,
    by_request: HashMap<RequestId, u64>,
}

impl Registers {
    pub(crate) fn new(record: RegistersRecord) -> Registers {
        let RegistersRecord { version, text, text_time_ms, last_time_ms, recent } = record;
        let by_request = recent.iter().copied().collect();
        Registers { version, text, text_time_ms, last_time_ms, recent: recent.into(), by_request }
    }

    pub(crate) fn record(&self) -> RegistersRecord {
        RegistersRecord {
            version: self.version,
            text: self.text.clone(),
            text_time_ms: self.text_time_ms,
            last_time_ms: self.last_time_ms,
            recent: self.recent.iter().copied().collect(),
        }
    }

    /// The time that something applied now gets: the proposer's clock, but never an earlier time
    /// than what was applied before.
    pub(crate) fn time(&self, time_ms: u64) -> u64 {
        self.last_time_ms.max(time_ms)
    }

    pub(crate) fn note_time(&mut self, time_ms: u64) {
        self.last_time_ms = self.time(time_ms);
    }

    /// Makes `text` the newest, unless this request did so before. Answers the version it made.
    pub(crate) fn write(&mut self, request: RequestId, text: &Bytes, time_ms: u64) -> u64 {
        if let Some(version) = self.by_request.get(&request) {
            return *version;
        }
        self.version += 1;
        // A copy: the text must not keep a whole log entry's memory alive.
        self.text = Bytes::copy_from_slice(text);
        self.text_time_ms = self.time(time_ms);
        self.note_time(time_ms);
        self.recent.push_back((request, self.version));
        self.by_request.insert(request, self.version);
        while self.recent.len() > RECENT_REQUESTS_MAX {
            if let Some((oldest, _)) = self.recent.pop_front() {
                self.by_request.remove(&oldest);
            }
        }
        self.version
    }

    /// Version, time and text.
    pub(crate) fn newest(&self) -> Option<(u64, u64, Bytes)> {
        (self.version > 0).then(|| (self.version, self.text_time_ms, self.text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_request_takes_effect_once_even_after_a_checkpoint() {
        let mut registers = Registers::default();
        assert_eq!(registers.write(RequestId(1), &Bytes::from("a"), 5), 1);
        assert_eq!(registers.write(RequestId(2), &Bytes::from("b"), 4), 2);
        let mut registers = Registers::new(registers.record());
        assert_eq!(registers.write(RequestId(1), &Bytes::from("a"), 9), 1);
        assert_eq!(registers.newest(), Some((2, 5, Bytes::from("b"))));
    }

    #[test]
    fn the_memory_of_requests_is_bounded() {
        let mut registers = Registers::default();
        (0..2 * RECENT_REQUESTS_MAX as u128).for_each(|i| {
            registers.write(RequestId(i), &Bytes::new(), 1);
        });
        assert_eq!(registers.recent.len(), RECENT_REQUESTS_MAX);
        assert_eq!(registers.by_request.len(), RECENT_REQUESTS_MAX);
    }
}
