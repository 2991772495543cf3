//! Which advertisements of a unicast peer count: those that the peer confirms by the mesh. Pure.
//!
//! RFC 9568 has no authentication, and where advertisements pass routers, a source address is anybody's
//! who writes it. So each holder tells the others by the mesh whether it is Active, and with what
//! priority. An advertisement that this does not fit is held: its sender is asked, and the answer, which
//! is said after the advertisement came, has it believed or refused. The word may be late, though, and
//! the RFC's timers go on:
//!
//! | the mesh and the peer | an advertisement that no word fits |
//! |---|---|
//! | has never heard of it: a keepalived, a version before | is believed, as the RFC has it |
//! | is connected with it | is held until the peer says; believed where it has not for the patience |
//! | has lost it, and does not reach its host | the same, since it was lost |
//! | has lost it, and its host says that nobody is there | is believed after [`REPLACED_AFTER`], by when it may be a keepalived; priority 0 of one that was Active at once |
//!
//! The patience is the down interval, in which the RFC would see a death as well. A group that has no
//! member but such as are in the mesh can do without all of these exceptions: `strict`.

use std::time::{Duration, Instant};

use super::Heard;
use crate::packet::PRIORITY_STOPS;

/// A peer whose process is gone that long may have been replaced by one that is not in the mesh.
pub const REPLACED_AFTER: Duration = Duration::from_secs(60);
/// Least time between two questions to one peer, however many advertisements are forged.
pub const ASK_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Who finds a word overdue looks once more what the mesh has brought: this process may have stood still.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a holder says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub active: bool,
    /// Its claim; 0 in a fault.
    pub priority: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mesh {
    Never,
    Connected,
    Lost { closed: bool },
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

/// What became of an advertisement that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    Believed(Heard),
    Refused,
}

/// A unicast peer of one router, as the mesh knows it.
#[derive(Debug, Clone)]
pub struct Peer {
    strict: bool,
    mesh: Mesh,
    word: Option<Word>,
    held: Option<(Heard, Instant)>,
    /// The question that is open.
    asked: Option<u64>,
    asked_at: Option<Instant>,
    questions: u64,
    /// Since when it owes its word.
    silent_since: Option<Instant>,
    /// Since when that was for longer than the patience, and known.
    overdue: Option<Instant>,
    /// When it said that it is Active no more.
    ceased: Option<Instant>,
    /// Believed without its word, and that was said.
    alone: bool,
}

impl Peer {
    /// `strict`: it is in the mesh, or nobody.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            mesh: Mesh::Never,
            word: None,
            held: None,
            asked: None,
            asked_at: None,
            questions: 0,
            silent_since: None,
            overdue: None,
            ceased: None,
            alone: false,
        }
    }

    /// An advertisement came that would be heeded.
    pub fn heard(&mut self, heard: Heard, now: Instant, patience: Duration) -> Verdict {
        let silent = self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let overdue = self.overdue.is_some_and(|at| now.saturating_duration_since(at) >= LOOK_AGAIN);
        let confirmed = match self.mesh {
            Mesh::Never => false,
            Mesh::Connected => self.fits(&heard, now, patience),
            Mesh::Lost { closed: false } => !overdue && self.fits(&heard, now, patience),
            Mesh::Lost { closed: true } => !overdue && self.ends(&heard, now, patience),
        };
        let alone = match self.mesh {
            Mesh::Never => true,
            Mesh::Lost { closed: true } => overdue && silent >= REPLACED_AFTER,
            Mesh::Connected | Mesh::Lost { closed: false } => overdue,
        };
        let believed = confirmed || alone && !self.strict;
        let without = believed && !confirmed && self.mesh != Mesh::Never;
        let known = std::mem::replace(&mut self.alone, without);
        let refused = !believed && self.held.is_some();
        self.held = (!believed).then_some((heard, now));
        let ask = if believed && !without { None } else { self.ask(now, patience) };
        Verdict { believed, alone: without && !known, ask, refused }
    }

    /// To be called now and then, after what the mesh has brought was seen.
    pub fn tick(&mut self, now: Instant, patience: Duration) {
        if self.silent_since.is_some_and(|since| now.saturating_duration_since(since) >= patience) {
            self.overdue.get_or_insert(now);
        }
    }

    /// Whether its word can be had.
    pub fn is_connected(&self) -> bool {
        self.mesh == Mesh::Connected
    }

    /// It said something, perhaps in answer to the question of this number.
    pub fn said(&mut self, word: Word, answers: u64, now: Instant, patience: Duration) -> Outcome {
        // The first word of a connection was said after whatever came before it.
        let answered = self.mesh != Mesh::Connected || self.asked == Some(answers);
        if self.word.is_some_and(|before| before.active) && !word.active {
            self.ceased = Some(now);
        }
        (self.mesh, self.word) = (Mesh::Connected, Some(word));
        self.overdue = None;
        if answered {
            (self.asked, self.silent_since) = (None, None);
        } else {
            // It is there, and owes the answer from now.
            self.silent_since = self.silent_since.map(|_| now);
        }
        match self.held {
            Some((heard, at))
                if now.saturating_duration_since(at) <= patience && self.fits(&heard, now, patience) =>
            {
                self.held = None;
                Outcome::Believed(heard)
            }
            Some(_) if answered => {
                self.held = None;
                Outcome::Refused
            }
            _ => Outcome::Nothing,
        }
    }

    /// The connection to it is over. `closed`: it said so itself, or its host says that nobody is there.
    pub fn lost(&mut self, closed: bool, now: Instant, patience: Duration) -> Outcome {
        self.asked = None;
        match &mut self.mesh {
            Mesh::Never => return Outcome::Nothing,
            Mesh::Lost { closed: known } => *known = closed,
            mesh => {
                *mesh = Mesh::Lost { closed };
                self.silent_since.get_or_insert(now);
            }
        }
        match self.held {
            Some((heard, at))
                if closed
                    && now.saturating_duration_since(at) <= patience
                    && self.ends(&heard, now, patience) =>
            {
                self.held = None;
                Outcome::Believed(heard)
            }
            _ => Outcome::Nothing,
        }
    }

    /// Whether who says what it has said sends such an advertisement.
    fn fits(&self, heard: &Heard, now: Instant, patience: Duration) -> bool {
        let Some(word) = self.word else { return false };
        match heard.priority {
            PRIORITY_STOPS => !word.active && self.ends(heard, now, patience),
            priority => word.active && word.priority == priority,
        }
    }

    /// Whether it says priority 0 where it was Active a moment ago. One that was not has no such thing to say.
    fn ends(&self, heard: &Heard, now: Instant, patience: Duration) -> bool {
        let just = self.ceased.is_some_and(|at| now.saturating_duration_since(at) <= patience);
        heard.priority == PRIORITY_STOPS && (just || self.word.is_some_and(|word| word.active))
    }

    fn ask(&mut self, now: Instant, patience: Duration) -> Option<u64> {
        // What could not be asked is asked again.
        let least = if self.asked.is_some() { patience } else { ASK_INTERVAL_MIN };
        if self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < least) {
            return None;
        }
        self.questions += 1;
        (self.asked, self.asked_at) = (Some(self.questions), Some(now));
        self.silent_since.get_or_insert(now);
        self.asked
    }
}

#[cfg(test)]
mod tests;
