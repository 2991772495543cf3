//! What balancers tell one another of limits that they have in common: frames, and who has heard which. Pure.
//!
//! ```text
//! version 1 | kind 1 | from 8 | to 8 | number 8 | of counts: entries, to the end
//! entry    limit 8 | who: kind 1, 8 | count 4
//! ```
//!
//! Integers are big-endian. `from` and `to` are runs of balancers: what was said to one that has ended is for nobody
//! else. To each other one a balancer sends one frame of counts at a time, again and again until it is said to be seen,
//! and meanwhile sums up what comes: what is lost is sent again, and nothing counts twice. `debts` and `taking` are how
//! one that starts hears what was let in before; `voids` is what is told of stored answers.

pub mod debts;
pub mod taking;
pub mod voids;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::limit::{Neighbours, Who};

/// Most entries of a frame: with all that is around it, it fits into a frame of Ethernet.
pub const ENTRIES_MAX: usize = 60;
/// Most keys that wait for one balancer to hear of them.
pub const WAITING_MAX: usize = 65_536;
/// How long a frame is waited for to be seen, before it is sent again.
pub const AGAIN: Duration = Duration::from_millis(100);
/// Shortest time from a frame to the next one.
pub const PAUSE: Duration = Duration::from_millis(5);
/// How long a frame is sent again and again. What was to be told meanwhile is let go, for it would all be owed at once.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Between two frames to who has not answered for so long.
pub const SELDOM: Duration = Duration::from_secs(1);

const VERSION: u8 = 1;
const COUNTS: u8 = 0;
const SEEN: u8 = 1;

/// So many requests were let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What a limit is called over all balancers: see [`crate::limit::Limit::id`].
    pub limit: u64,
    pub who: Who,
    pub count: u32,
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub from: u64,
    pub to: u64,
    pub number: u64,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Counts(Vec<Entry>),
    /// The frame of that number, and all before it.
    Seen,
}

/// The bytes are no frame of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no frame of limits: {0}")]
pub struct Malformed(&'static str);

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        let kind = if self.body == Body::Seen { SEEN } else { COUNTS };
        let mut out = vec![VERSION, kind];
        for number in [self.from, self.to, self.number] {
            out.extend(number.to_be_bytes());
        }
        if let Body::Counts(entries) = &self.body {
            for Entry { limit, who, count } in entries {
                out.extend(limit.to_be_bytes());
                write_who(*who, &mut out);
                out.extend(count.to_be_bytes());
            }
        }
        out
    }

    /// Reads what came; within the bounds above, whatever it is.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        if input.array::<1>()? != [VERSION] {
            return Err(Malformed("another version"));
        }
        let [kind] = input.array()?;
        let mut number = || input.array().map(u64::from_be_bytes);
        let (from, to, number) = (number()?, number()?, number()?);
        let body = match kind {
            SEEN if input.0.is_empty() => Body::Seen,
            SEEN => return Err(Malformed("bytes behind its end")),
            COUNTS => {
                let mut entries = Vec::new();
                while !input.0.is_empty() {
                    if entries.len() == ENTRIES_MAX {
                        return Err(Malformed("more entries than a frame has"));
                    }
                    entries.push(input.entry()?);
                }
                Body::Counts(entries)
            }
            _ => return Err(Malformed("of an unknown kind")),
        };
        Ok(Self { from, to, number, body })
    }
}

fn write_who(who: Who, out: &mut Vec<u8>) {
    let (kind, who) = match who {
        Who::Client(Neighbours::V4(ip)) => (0, u64::from(ip)),
        Who::Client(Neighbours::V6(network)) => (1, network),
        Who::Consumer(id) => (2, id),
        Who::Anybody => (3, 0),
    };
    out.push(kind);
    out.extend(who.to_be_bytes());
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn entry(&mut self) -> Result<Entry, Malformed> {
        let (limit, who) = (u64::from_be_bytes(self.array()?), self.who()?);
        Ok(Entry { limit, who, count: u32::from_be_bytes(self.array()?) })
    }

    fn who(&mut self) -> Result<Who, Malformed> {
        let [kind] = self.array()?;
        let who = u64::from_be_bytes(self.array()?);
        Ok(match kind {
            0 => Who::Client(Neighbours::V4(u32::try_from(who).map_err(|_| Malformed("no address"))?)),
            1 => Who::Client(Neighbours::V6(who)),
            2 => Who::Consumer(who),
            3 if who == 0 => Who::Anybody,
            _ => return Err(Malformed("of nobody that is known")),
        })
    }
}

/// What one other balancer is to hear.
#[derive(Debug)]
pub struct Outgoing {
    number: u64,
    /// What was sent, until it is seen.
    sent: Vec<Entry>,
    sent_at: Option<Instant>,
    /// Since when it was not seen.
    unseen_since: Option<Instant>,
    /// Nothing was seen for long.
    is_deaf: bool,
    waiting: HashMap<(u64, Who), u32>,
    /// Its keys, as they came.
    order: VecDeque<(u64, Who)>,
}

impl Outgoing {
    /// Numbers begin behind this one. Who was lost sight of and is met again has the numbers before it in mind: so it
    /// rises by more than there are frames, as the microseconds of a run do.
    pub fn begin(number: u64) -> Self {
        Self {
            number,
            sent: Vec::new(),
            sent_at: None,
            unseen_since: None,
            is_deaf: false,
            waiting: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether there was room.
    pub fn add(&mut self, entry: Entry) -> bool {
        let (key, has_room) = ((entry.limit, entry.who), self.waiting.len() < WAITING_MAX);
        match self.waiting.get_mut(&key) {
            Some(count) => *count = count.saturating_add(entry.count),
            None if has_room => {
                self.waiting.insert(key, entry.count);
                self.order.push_back(key);
            }
            None => return false,
        }
        true
    }

    /// How many requests of a key it will hear of, or may have heard of without having said so.
    pub fn unheard(&self, limit: u64, who: Who) -> u64 {
        let sent = self.sent.iter().filter(|it| (it.limit, it.who) == (limit, who)).map(|it| it.count);
        let waiting = self.waiting.get(&(limit, who)).copied();
        sent.chain(waiting).map(u64::from).sum()
    }

    /// Requests of which the other one will not hear, for it has said nothing for too long.
    pub fn give_up(&mut self, now: Instant) -> u64 {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        if !self.unseen_since.is_some_and(is_over) {
            return 0;
        }
        let lost = self.sent.iter().map(|it| it.count).chain(self.waiting.values().copied());
        let lost = lost.map(u64::from).sum();
        self.sent.clear();
        self.waiting.clear();
        self.order.clear();
        (self.unseen_since, self.is_deaf) = (None, true);
        lost
    }

    /// What is to be sent now, if anything is.
    pub fn next(&mut self, from: u64, to: u64, now: Instant) -> Option<Frame> {
        let pause = match (self.is_deaf, self.sent.is_empty()) {
            (true, _) => SELDOM,
            (false, true) => PAUSE,
            (false, false) => AGAIN,
        };
        if self.sent_at.is_some_and(|at| now.saturating_duration_since(at) < pause) {
            return None;
        }
        if self.sent.is_empty() {
            let keys = self.order.drain(..self.order.len().min(ENTRIES_MAX));
            let entry = |(limit, who)| {
                let count = self.waiting.remove(&(limit, who))?;
                Some(Entry { limit, who, count })
            };
            self.sent = keys.filter_map(entry).collect();
            if self.sent.is_empty() {
                return None;
            }
            self.number += 1;
            self.unseen_since = Some(now);
        }
        self.sent_at = Some(now);
        Some(Frame { from, to, number: self.number, body: Body::Counts(self.sent.clone()) })
    }

    /// The other one has that frame.
    pub fn seen(&mut self, number: u64) {
        if number == self.number {
            self.sent.clear();
            (self.unseen_since, self.is_deaf) = (None, false);
        }
    }
}

/// What was heard of one other balancer.
#[derive(Debug, Default)]
pub struct Incoming {
    last: u64,
}

impl Incoming {
    /// Whether a frame says something new.
    pub fn is_new(&mut self, number: u64) -> bool {
        let is_new = number > self.last;
        self.last = self.last.max(number);
        is_new
    }
}

#[cfg(test)]
mod tests;
