//! Which advertisements of a unicast peer count: those that the peer confirms by the mesh. Pure.
//!
//! RFC 9568 has no authentication, and where advertisements pass routers, a source address is anybody's
//! who writes it. So each holder tells the others by the mesh whether it is Active, with what priority and
//! at what interval. An advertisement that this does not fit is held: its sender is asked, and the answer,
//! which is said after the question, has it believed or refused.
//!
//! | the mesh and the peer | what counts |
//! |---|---|
//! | has never had an answer of it: a keepalived, a version before | everything, as the RFC has it |
//! | has had an answer of it in time | what fits its word |
//! | has lost it, or had its last answer late, or has a new connection without one | what fits its word, to a Backup alone: the address is not given up for it |
//! | has had none for the patience | everything, as the RFC has it |
//!
//! That a port is closed says nothing of who advertises: the mesh may be filtered, or be started again. An
//! answer that comes later than the patience is none. Whose last answer is as old as that is asked anew, whether
//! it advertises or not: one whose kernel lives and whose process does not loses its word. A connection on which
//! no answer comes is given up for another: TCP goes on with it after a partition by pauses that have doubled
//! meanwhile.
//!
//! The patience is the down interval, in which the RFC would see a death as well, but for what a lost segment
//! takes; of it no time counts in which this process stood still. A group whose members are all in the mesh can do
//! without the first and the last line: `strict`.

use std::time::{Duration, Instant};

use super::Heard;
use crate::packet::PRIORITY_STOPS;

/// Least time between two questions of one kind to one peer, however many advertisements are forged.
pub const ASK_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// What is said unasked, and who is to be reached first.
const NO_QUESTION: u64 = 0;
/// For so many of its intervals after it has said that it is Active no more, a peer may advertise that.
const STOPS_INTERVALS: u32 = 3;
/// Of the patience this part at most counts between two looks: who was not looked after stood still.
const LOOKS: u32 = 8;
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Of the patience this part is waited for an answer until another connection is made, by an Active, which gives way
/// to nobody meanwhile, and by a Backup, which goes on by the last word: long enough for a segment that is lost.
const REACH_ACTIVE: u32 = 4;
const REACH_BACKUP: u32 = 2;

/// What a holder says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub active: bool,
    /// Its claim; 0 in a fault.
    pub priority: u8,
    /// Between its advertisements.
    pub interval: Duration,
}

/// When something happens, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub now: Instant,
    /// How long it may owe its word.
    pub patience: Duration,
    /// Whether the router is Active, and would give the address up for what it heeds.
    pub gives_way: bool,
}

/// What its word is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// No question was ever answered.
    Never,
    /// One was; since then another was not in time, or the connection was lost.
    Before,
    Proven,
}

/// What becomes of an advertisement. One that is not believed is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    pub believed: bool,
    /// From now on its sender is believed without its word, which was not to be had for too long.
    pub alone: bool,
    /// The question that it is to be asked now.
    pub ask: Option<u64>,
    /// One that was held before is refused.
    pub refused: bool,
}

/// What became of advertisements that were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    pub believed: Option<Heard>,
    pub refused: u64,
    /// What it said came too late, and it is there: the question that it is to be asked now.
    pub ask: Option<u64>,
}

/// What is to be done as time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is to be asked this.
    Ask(u64),
    /// It is to be reached by another connection.
    Reach,
}

/// What waits for its sender's answer, and the question that is open.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    held: Option<(Heard, Instant)>,
    asked: Option<(u64, Instant)>,
    asked_last: Option<Instant>,
}

/// A unicast peer of one router, as the mesh knows it.
#[derive(Debug, Clone)]
pub struct Peer {
    strict: bool,
    /// A connection to it stands.
    connected: bool,
    word: Option<Word>,
    trust: Trust,
    /// That it is Active: said again and again, so that the last one is held.
    claim: Slot,
    /// That it stops: said once, so that nothing else takes its place.
    stop: Slot,
    questions: u64,
    /// For how long it owes its word.
    owes: Option<Duration>,
    /// For how much of that on this connection.
    waits: Duration,
    looked: Option<Instant>,
    /// When it was asked what it answered last.
    answered: Option<Instant>,
    /// When it said that it is Active no more, until its priority 0 was heeded.
    ceased: Option<Instant>,
    /// Believed without its word, and that was said.
    alone: bool,
}

impl Peer {
    /// `strict`: it is in the mesh, or nobody.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            connected: false,
            word: None,
            trust: Trust::Never,
            claim: Slot::default(),
            stop: Slot::default(),
            questions: 0,
            owes: None,
            waits: Duration::ZERO,
            looked: None,
            answered: None,
            ceased: None,
            alone: false,
        }
    }

    /// An advertisement came that would be heeded.
    pub fn heard(&mut self, heard: Heard, at: At) -> Verdict {
        self.doubt_what_is_late(at);
        let confirmed = self.confirms(&heard, at);
        let alone = !self.strict && (self.trust == Trust::Never || self.is_overdue(at.patience));
        let believed = confirmed || alone;
        let without = believed && !confirmed && self.trust != Trust::Never;
        let known = std::mem::replace(&mut self.alone, without);
        if believed && heard.stops() {
            self.ceased = None;
        }
        let slot = self.slot(heard.stops());
        let refused = !believed && slot.held.is_some();
        slot.held = (!believed).then_some((heard, at.now));
        let ask = if believed && !without { None } else { self.ask(heard.stops(), at) };
        Verdict { believed, alone: without && !known, ask, refused }
    }

    /// A connection to it stands: the question to be asked on it. What it says unasked may be old.
    pub fn connected(&mut self, now: Instant) -> u64 {
        (self.connected, self.waits) = (true, Duration::ZERO);
        self.trust = self.trust.min(Trust::Before);
        (self.claim.asked, self.stop.asked) = (None, None);
        self.owe(now);
        self.question(false, now)
    }

    /// It said something, perhaps in answer to the question of this number.
    pub fn said(&mut self, word: Word, answers: u64, at: At) -> Outcome {
        self.doubt_what_is_late(at);
        if self.word.is_some_and(|before| before.active) && !word.active {
            self.ceased = Some(at.now);
        }
        self.word = Some(word);
        let mut answered = [None; 2];
        for (slot, answered) in [&mut self.claim, &mut self.stop].into_iter().zip(&mut answered) {
            if let Some((_, asked)) = slot.asked.filter(|(number, _)| *number == answers) {
                (slot.asked, *answered) = (None, Some(asked));
            }
        }
        if let Some(asked) = answered.into_iter().flatten().max() {
            // It was said after that, and no later than this is known of it.
            (self.trust, self.answered) = (Trust::Proven, Some(asked));
            // What was asked after that is open still.
            (self.owes, self.waits) = (self.is_asked().then_some(Duration::ZERO), Duration::ZERO);
        }
        let mut outcome = Outcome::default();
        for (stops, answered) in [false, true].into_iter().zip(answered) {
            let Some((heard, since)) = self.slot(stops).held else { continue };
            let stale = at.now.saturating_duration_since(since) > at.patience;
            if !stale && self.confirms(&heard, at) {
                outcome.believed = Some(heard);
                self.ceased = self.ceased.filter(|_| !stops);
            } else if stale || answered.is_some_and(|asked| since <= asked) {
                outcome.refused += 1;
            } else {
                // It came after the question, and the answer says nothing of it.
                continue;
            }
            self.slot(stops).held = None;
        }
        if self.connected && self.owes.is_some() && !self.is_asked() {
            outcome.ask = self.ask(false, at);
        }
        outcome
    }

    /// The connection to it is over, by whatever it ended.
    pub fn lost(&mut self, now: Instant) {
        self.connected = false;
        (self.claim.asked, self.stop.asked) = (None, None);
        self.trust = self.trust.min(Trust::Before);
        if self.trust != Trust::Never {
            self.owe(now);
        }
    }

    /// To be called at [`Peer::deadline`], after what the mesh has brought was seen.
    pub fn tick(&mut self, at: At) -> Option<Due> {
        self.doubt_what_is_late(at);
        if let (Some(owes), Some(looked)) = (&mut self.owes, self.looked) {
            let passed = at.now.saturating_duration_since(looked).min(look_interval(at.patience));
            *owes += passed;
            self.waits += passed;
        }
        self.looked = Some(at.now);
        if self.connected && self.owes.is_some() && self.waits >= self.waits_max(at) {
            self.lost(at.now);
            return Some(Due::Reach);
        }
        let is_old = |last| at.now.saturating_duration_since(last) >= at.patience;
        let is_due = self.owes.is_some() || self.answered.is_some_and(is_old);
        if self.connected && is_due && !self.is_asked() { self.ask(false, at).map(Due::Ask) } else { None }
    }

    /// When it is to be looked whether its word is old, or overdue.
    pub fn deadline(&self, patience: Duration) -> Option<Instant> {
        match self.owes {
            Some(owes) if self.connected || owes < patience => {
                self.looked.map(|looked| looked + look_interval(patience))
            }
            Some(_) => None,
            None => self.answered.filter(|_| self.connected).map(|last| last + patience),
        }
    }

    /// Whether its word counts.
    pub fn is_confirmed(&self) -> bool {
        self.trust == Trust::Proven
    }

    /// Whether its word was not to be had for the patience.
    pub fn is_overdue(&self, patience: Duration) -> bool {
        self.owes.is_some_and(|owes| owes >= patience)
    }

    /// How long an answer is waited for on one connection. One that was made because of that debt gets the whole
    /// patience, so that one that is slow is reached at all.
    fn waits_max(&self, at: At) -> Duration {
        let part = if at.gives_way { REACH_ACTIVE } else { REACH_BACKUP };
        if self.owes == Some(self.waits) { at.patience / part } else { at.patience }
    }

    /// Whether what it has said of itself has such an advertisement believed.
    fn confirms(&self, heard: &Heard, at: At) -> bool {
        let counts = match self.trust {
            Trust::Never => false,
            Trust::Before => !at.gives_way && !self.is_overdue(at.patience),
            Trust::Proven => true,
        };
        counts && self.fits(heard, at)
    }

    /// Whether who says what it has said sends such an advertisement.
    fn fits(&self, heard: &Heard, at: At) -> bool {
        let Some(word) = self.word else { return false };
        match heard.priority {
            // One that was no Active a moment ago has no such thing to say. Of its interval nothing depends.
            PRIORITY_STOPS => {
                let just = |since| at.now.saturating_duration_since(since) <= STOPS_INTERVALS * word.interval;
                !word.active && self.ceased.is_some_and(just)
            }
            priority => word.active && word.priority == priority && word.interval == heard.interval,
        }
    }

    fn slot(&mut self, stops: bool) -> &mut Slot {
        if stops { &mut self.stop } else { &mut self.claim }
    }

    fn is_asked(&self) -> bool {
        self.claim.asked.is_some() || self.stop.asked.is_some()
    }

    /// A question that is open for longer than the patience is answered by nothing any more. Whether that is its
    /// debt or this process stood still, `owes` knows.
    fn doubt_what_is_late(&mut self, At { now, patience, .. }: At) {
        for slot in [&mut self.claim, &mut self.stop] {
            if slot.asked.is_some_and(|(_, asked)| now.saturating_duration_since(asked) > patience) {
                slot.asked = None;
                self.trust = self.trust.min(Trust::Before);
            }
        }
    }

    fn ask(&mut self, stops: bool, at: At) -> Option<u64> {
        let soon = |last| at.now.saturating_duration_since(last) < ASK_INTERVAL_MIN;
        let connected = self.connected;
        let slot = self.slot(stops);
        if slot.asked.is_some() || connected && slot.asked_last.is_some_and(soon) {
            return None;
        }
        // What was not asked is not owed.
        self.owe(at.now);
        // One that is lost is reached first, and asked on that connection.
        Some(if connected { self.question(stops, at.now) } else { NO_QUESTION })
    }

    fn question(&mut self, stops: bool, now: Instant) -> u64 {
        self.questions += 1;
        let number = self.questions;
        let slot = self.slot(stops);
        (slot.asked, slot.asked_last) = (Some((number, now)), Some(now));
        number
    }

    fn owe(&mut self, now: Instant) {
        if self.owes.is_none() {
            (self.owes, self.waits, self.looked) = (Some(Duration::ZERO), Duration::ZERO, Some(now));
        }
    }
}

fn look_interval(patience: Duration) -> Duration {
    (patience / LOOKS).max(LOOK_INTERVAL_MIN)
}

#[cfg(test)]
mod tests;
