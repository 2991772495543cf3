//! What changes shifts of the gateway's routes, and what that comes to.
//!
//! A shift leads requests of a route from one of its services to another, step by step. What is to make it go back is
//! text here: balancers and the leader read it. So programs of two versions, of which one knows more rules, apply alike.

use serde::{Deserialize, Serialize};

/// Longest name of a route or a service, in bytes: as of the gateway's document.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest rule by which a shift goes back.
pub const ABORT_BYTES_MAX: usize = 32;
/// Longest word on why one ended.
pub const WHY_BYTES_MAX: usize = 256;
/// Shortest and longest time that one takes.
pub const OVER_MS_MIN: u64 = 10_000;
pub const OVER_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// All of what goes over, as shares of it are counted.
pub const WHOLE: u32 = 10_000;
/// Most that a service of a route weighs, and so what both together may.
pub const WEIGHT_MAX: u32 = 10_000;

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    pub from: String,
    pub to: String,
    /// What they weigh in the document of which it was begun: where they weigh something else, it ends.
    pub from_weight: u32,
    pub to_weight: u32,
    pub over_ms: u64,
    /// What makes it go back, as in `5xx>1%`; nothing where it is empty.
    pub abort: String,
}

/// How far one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Running,
    /// Somebody stopped it: what went over stays there.
    Held,
    /// All went over, and the document says so.
    Done,
    /// Nothing is led over any more: its rule was broken, or somebody wished it.
    Back,
    /// The document says something else of the route.
    Superseded,
    /// All went over, and the document is about to say so: it goes back no more.
    Settling,
}

/// A shift, and how far it is. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldShift {
    /// Drawn for it: never another's.
    pub id: u64,
    /// Rises with each change of any shift: that of the last change of this one.
    pub revision: u64,
    pub shift: Shift,
    pub phase: Phase,
    /// How much of what `from` weighs goes to `to`, in parts of [`WHOLE`].
    pub share: u32,
    pub began_ms: u64,
    pub changed_ms: u64,
    /// Why it ended, where it did.
    pub why: String,
}

/// A shift as a snapshot has it, on its way into another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedShift {
    pub route: String,
    pub held: HeldShift,
}

/// One change. Each but the first names the shift that was looked at: of another one nothing is done. Variants are only
/// ever added at the end: the codec numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShiftOp {
    /// Begins one, where no other of the route is open. `after` is the one of the route that was seen before, which has
    /// ended; 0 where there was none.
    Begin { id: u64, after: u64, route: String, shift: Box<Shift> },
    /// More of it is to go over.
    Step { id: u64, route: String, share: u32 },
    /// What went over stays there, and no more does.
    Hold { id: u64, route: String },
    /// It goes on.
    Resume { id: u64, route: String },
    /// It is over, one of the ways in which it can be.
    End { id: u64, route: String, phase: Phase, why: String },
    /// One of a snapshot, as it was.
    Restore(Box<SavedShift>),
    /// Where all went over: the document is to say so, and nothing else ends it meanwhile.
    Settle { id: u64, route: String },
}

/// What a change came to. Variants are only ever added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShiftOutcome {
    /// It is so.
    Set,
    /// Another one of the route is open.
    Busy,
    /// As many are open as may be.
    Full,
    /// It is not within its bounds.
    Invalid,
    /// There is no such shift, or it is another one by now, or over: nothing was done.
    Stale,
}

impl Phase {
    /// Whether requests are led by it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Held | Self::Settling)
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Running => 0,
            Self::Held => 1,
            Self::Done => 2,
            Self::Back => 3,
            Self::Superseded => 4,
            Self::Settling => 5,
        }
    }
}

/// Whether it can be the name of a route or of a service.
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

impl Shift {
    /// Whether each is within its bounds.
    pub fn is_bounded(&self) -> bool {
        let Self { from, to, from_weight, to_weight, over_ms, abort } = self;
        let is_printed = abort.bytes().all(|b| b.is_ascii_graphic());
        is_name(from)
            && is_name(to)
            && from != to
            && *from_weight > 0
            && from_weight.checked_add(*to_weight).is_some_and(|sum| sum <= WEIGHT_MAX)
            && (OVER_MS_MIN..=OVER_MS_MAX).contains(over_ms)
            && abort.len() <= ABORT_BYTES_MAX
            && is_printed
    }
}

impl HeldShift {
    pub(crate) fn is_sound(&self) -> bool {
        let is_over_whole = !matches!(self.phase, Phase::Done | Phase::Settling) || self.share == WHOLE;
        self.id > 0
            && self.shift.is_bounded()
            && self.share <= WHOLE
            && self.began_ms <= self.changed_ms
            && is_over_whole
            && self.why.len() <= WHY_BYTES_MAX
    }
}

impl ShiftOp {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        let of = |shift: &Shift| 64 + shift.from.len() + shift.to.len() + shift.abort.len();
        match self {
            Self::Begin { route, shift, .. } => 32 + route.len() + of(shift),
            Self::Step { route, .. }
            | Self::Hold { route, .. }
            | Self::Resume { route, .. }
            | Self::Settle { route, .. } => 32 + route.len(),
            Self::End { route, why, .. } => 40 + route.len() + why.len(),
            Self::Restore(saved) => 96 + saved.route.len() + of(&saved.held.shift) + saved.held.why.len(),
        }
    }

    /// Whether a client's data takes room by it: what ends one is done also where the disk is full.
    pub fn takes_room(&self) -> bool {
        matches!(self, Self::Begin { .. } | Self::Restore(_))
    }
}
