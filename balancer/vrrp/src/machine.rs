//! The state machine of RFC 9568, section 6.4: events in, actions out. No I/O and no clock.
//!
//! ```text
//!                      +---------------+
//!           +--------->|  Initialize   |<-----------+
//!           |          +---+-------+---+            |
//!           |     owner    |       |    others      |
//!           |      +-------+       +-------+        |
//!           |      v                       v        |
//!      +----+--------+   timer fires   +---+--------+--+
//!      |   Active    |<----------------+    Backup     |
//!      |             +---------------->|               |
//!      +-------------+  higher heard   +---------------+
//! ```
//!
//! What stands here beyond the RFC, each off where its condition does not hold:
//! - a **designated** Backup (the one that the Active itself has named as the next) takes over at
//!   once on priority 0, and on the word that the Active's process has ended, without waiting for
//!   the skew time, whose only use is to find out who is next;
//! - a **weak claim** ([`PRIORITY_WEAK`]): a balancer that could do no more than say 503. Everyone
//!   with a better claim preempts it, whatever is said about preemption; who is in touch with it by
//!   the mesh gives it time to hand over first;
//! - no claim at all (a fault) is the RFC's Initialize;
//! - an Active that gives way to a higher one advertises once more before it does.
//!
//! The driver reads every packet that waits before it lets a timer fire: a process that was
//! stalled then sees the advertisements that came meanwhile before it believes that none came. Where
//! none waits, the Active may have been stalled with it, and gets the time for one more
//! ([`Machine::stood_still`]).

pub mod confirm;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::packet::{PRIORITY_OWNER, PRIORITY_STOPS};

/// What a balancer claims that could do no more than answer 503.
pub const PRIORITY_WEAK: u8 = 1;
/// Least time between two advertisements that answer a rival: what answers each packet at once
/// can be made to flood.
pub const REASSERT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Least time that a peer may owe its word: a segment that is lost is sent again after two tenths of a second at least.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// How long a Backup waits for a weak Active that it is in touch with to hand over, with its connections, before it takes the
/// addresses by itself.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(3);
/// How often in one silence a Backup that stood still itself may wait a little longer.
const GRACES_MAX: u8 = 3;

/// The RFC's three states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Initialize,
    Backup,
    Active,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        }
    }
}

/// Why the state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Started,
    /// It owns the addresses.
    Owner,
    /// No advertisement came for the down interval.
    Silence,
    /// The Active said that it stops.
    PriorityZero,
    /// The Active's process has ended, as its kernel told.
    ActiveLost,
    /// One with a higher priority, or a higher address at the same.
    HigherHeard,
    /// Its claim is gone or has become weak.
    ClaimLost,
    Stopped,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Owner => "owner of the addresses",
            Self::Silence => "no advertisement in time",
            Self::PriorityZero => "the active one stopped",
            Self::ActiveLost => "the active one's process ended",
            Self::HigherHeard => "a higher claim was heard",
            Self::ClaimLost => "unhealthy",
            Self::Stopped => "stopped",
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send an advertisement with this priority.
    Advertise(u8),
    /// Take the addresses and tell the network.
    Take(Reason),
    /// Tell the network again: a rival was heard.
    Reassert,
    /// Give the addresses up.
    Release(Reason),
    /// Initialize to Backup, or back: nothing to do but to say so.
    Changed(Reason),
}

/// What does not change while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineConfig {
    /// Between its own advertisements.
    pub interval: Duration,
    /// Whether it takes over from one with a lower priority.
    pub preempt: bool,
    /// How long after its start it begins to.
    pub preempt_delay: Duration,
}

/// An advertisement of another that has passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub priority: u8,
    pub interval: Duration,
    pub source: IpAddr,
}

impl Heard {
    /// Its sender says that it is Active no more.
    fn stops(&self) -> bool {
        self.priority == PRIORITY_STOPS
    }

    fn is_higher(&self, claim: u8, own: IpAddr) -> bool {
        self.priority > claim || self.priority == claim && self.source > own
    }
}

/// One virtual router.
#[derive(Debug, Clone)]
pub struct Machine {
    config: MachineConfig,
    state: State,
    /// None: a fault.
    claim: Option<u8>,
    running: bool,
    designated: bool,
    /// The Active's interval, as it advertises it.
    active_interval: Duration,
    /// Of the Active: its next advertisement. Of a Backup: when it takes over.
    deadline: Option<Instant>,
    preempts_from: Option<Instant>,
    reasserted: Option<Instant>,
    /// Given since an advertisement was heard.
    graces: u8,
    /// The Active hears of this one by the mesh.
    in_touch: bool,
    /// Of a Backup that could do better: since when the Active is weak.
    weak_since: Option<Instant>,
}

impl Machine {
    pub fn new(config: MachineConfig) -> Self {
        Self {
            config,
            state: State::Initialize,
            claim: None,
            running: false,
            designated: false,
            active_interval: config.interval,
            deadline: None,
            preempts_from: None,
            reasserted: None,
            graces: 0,
            in_touch: false,
            weak_since: None,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// The priority that it claims; none in a fault.
    pub fn claim(&self) -> Option<u8> {
        self.claim
    }

    /// When [`Machine::tick`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the Active that the next event is of has named this one as the next.
    pub fn set_designated(&mut self, designated: bool) {
        self.designated = designated;
    }

    /// Whether that one hears of this one by the mesh, so that it hands over to it where it is weak.
    pub fn set_in_touch(&mut self, in_touch: bool) {
        self.in_touch = in_touch;
    }

    /// The Active's interval, where this one listens to it.
    pub fn listens_every(&self) -> Option<Duration> {
        (self.state == State::Backup).then_some(self.active_interval)
    }

    /// The process stood still for a good part of an interval, and no advertisement waits. Hosts that
    /// share a machine stand still together: this one's silence proves nothing of the Active.
    pub fn stood_still(&mut self, now: Instant) {
        let later = now + self.active_interval + self.skew();
        if self.state == State::Backup
            && self.graces < GRACES_MAX
            && self.deadline.is_some_and(|deadline| deadline < later)
        {
            self.graces += 1;
            self.deadline = Some(later);
        }
    }

    /// The skew time: the higher the priority, the shorter, so that the highest is first.
    pub fn skew(&self) -> Duration {
        skew(self.active_interval, self.claim)
    }

    /// How long a Backup hears nothing before it takes over.
    pub fn down_interval(&self) -> Duration {
        3 * self.active_interval + self.skew()
    }

    /// How long a peer may owe its word by the mesh: the down interval of its own interval, as nobody on the network
    /// has a say in that, and no less than a lost segment takes.
    pub fn patience(&self) -> Duration {
        (3 * self.config.interval + skew(self.config.interval, self.claim)).max(PATIENCE_MIN)
    }

    /// Begins, as soon as there is a claim.
    pub fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.running = true;
        self.startup(now, out);
    }

    /// Ends; what it had is given up.
    pub fn stop(&mut self, out: &mut Vec<Action>) {
        self.running = false;
        self.give_up(Reason::Stopped, out);
    }

    /// What it may claim from now on: a priority, or nothing (a fault).
    pub fn set_claim(&mut self, claim: Option<u8>, now: Instant, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.claim, claim);
        if before == claim {
            return;
        }
        match (self.state, claim) {
            (State::Initialize, Some(_)) => self.startup(now, out),
            (_, None) => self.give_up(Reason::ClaimLost, out),
            (State::Active, Some(PRIORITY_WEAK)) => self.make_way(now, out),
            (State::Backup, Some(_)) => {
                let earliest = now + self.down_interval();
                self.deadline = self.deadline.map(|deadline| deadline.min(earliest));
            }
            (State::Active, Some(_)) => {}
        }
    }

    /// It claims little from now on, and stays Active: whoever comes that could do better takes over from a weak one.
    /// Where it `asks` whether somebody is there, one who hears that it stops takes over before it says more.
    /// Says whether it was strong before.
    pub fn stay_weak(&mut self, asks: bool, now: Instant, out: &mut Vec<Action>) -> bool {
        if self.state != State::Active || self.claim.replace(PRIORITY_WEAK) == Some(PRIORITY_WEAK) {
            return false;
        }
        if asks {
            out.push(Action::Advertise(PRIORITY_STOPS));
            self.deadline = Some(now + self.config.interval);
        }
        true
    }

    /// An Active makes way for one who is there.
    pub fn make_way(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.state == State::Active {
            // Saying less is not enough: a Backup discards a lower priority and lets its timer
            // run on. Priority 0 makes way at once, and where nobody else comes, this one does.
            out.extend([Action::Advertise(PRIORITY_STOPS), Action::Release(Reason::ClaimLost)]);
            self.become_backup(self.config.interval, now);
        }
    }

    /// The deadline may have come.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) else { return };
        match (self.state, self.claim) {
            (State::Backup, Some(_)) => self.take(Reason::Silence, now, out),
            (State::Active, Some(claim)) => {
                out.push(Action::Advertise(claim));
                // From the deadline, not from now: being late once does not make all later ones
                // late. Only what is a whole interval late starts anew.
                let next = deadline + self.config.interval;
                self.deadline = Some(if next > now { next } else { now + self.config.interval });
            }
            _ => self.deadline = None,
        }
    }

    /// Whether the state or its timer would follow this advertisement. What an Active does not heed costs it an
    /// answer at most.
    pub fn heeds(&self, heard: &Heard, own: IpAddr) -> bool {
        match (self.state, self.claim) {
            (State::Initialize, _) | (_, None) => false,
            (State::Backup, Some(_)) => true,
            (State::Active, Some(claim)) => heard.is_higher(claim, own),
        }
    }

    /// An advertisement of another came. `own` is the address that this one sends from.
    pub fn heard(&mut self, heard: Heard, own: IpAddr, now: Instant, out: &mut Vec<Action>) {
        let Some(claim) = self.claim else { return };
        match self.state {
            State::Initialize => {}
            State::Backup if heard.priority == PRIORITY_STOPS => {
                if self.designated {
                    self.take(Reason::PriorityZero, now, out);
                } else {
                    self.deadline = Some(now + self.skew());
                }
            }
            State::Backup => {
                if heard.priority >= claim || !self.preempts(heard.priority, claim, now) {
                    self.active_interval = heard.interval;
                    self.deadline = Some(now + self.down_interval());
                    self.graces = 0;
                    self.weak_since = None;
                } else if heard.priority == PRIORITY_WEAK {
                    self.await_the_weak(&heard, now);
                }
            }
            State::Active if heard.priority == PRIORITY_STOPS => self.reassert(claim, now, out),
            State::Active => {
                if heard.is_higher(claim, own) {
                    // A last word: the winner may not have heard of a rival yet, and then would not
                    // tell the network again, whose caches point to here. It answers this.
                    out.extend([Action::Advertise(claim), Action::Release(Reason::HigherHeard)]);
                    self.become_backup(heard.interval, now);
                } else {
                    self.reassert(claim, now, out);
                }
            }
        }
    }

    /// The Active's process has ended.
    pub fn active_lost(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.state == State::Backup && self.designated && self.claim.is_some() {
            self.take(Reason::ActiveLost, now, out);
        }
    }

    fn preempts(&self, heard: u8, claim: u8, now: Instant) -> bool {
        let allowed = self.config.preempt && self.preempts_from.is_none_or(|from| from <= now);
        allowed || heard == PRIORITY_WEAK && claim > PRIORITY_WEAK
    }

    /// A weak Active that this one is in touch with is about to hand over to whoever could do better; its silence counts as
    /// before.
    fn await_the_weak(&mut self, heard: &Heard, now: Instant) {
        let begun = *self.weak_since.get_or_insert(now);
        if self.in_touch {
            let skew = skew(self.config.interval, self.claim);
            let later = (begun + HANDED_OVER_WITHIN + skew).min(now + 3 * heard.interval + skew);
            self.deadline = self.deadline.map(|deadline| deadline.max(later));
        }
    }

    fn startup(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(claim) = self.claim.filter(|_| self.running && self.state == State::Initialize) else {
            return;
        };
        if claim == PRIORITY_OWNER {
            return self.take(Reason::Owner, now, out);
        }
        self.preempts_from = Some(now + self.config.preempt_delay);
        self.become_backup(self.config.interval, now);
        out.push(Action::Changed(Reason::Started));
    }

    fn take(&mut self, reason: Reason, now: Instant, out: &mut Vec<Action>) {
        let Some(claim) = self.claim else { return };
        self.state = State::Active;
        self.designated = false;
        self.deadline = Some(now + self.config.interval);
        out.extend([Action::Advertise(claim), Action::Take(reason)]);
    }

    fn become_backup(&mut self, interval: Duration, now: Instant) {
        self.state = State::Backup;
        self.designated = false;
        self.weak_since = None;
        self.active_interval = interval;
        self.deadline = Some(now + self.down_interval());
        self.graces = 0;
    }

    fn give_up(&mut self, reason: Reason, out: &mut Vec<Action>) {
        match self.state {
            State::Active => out.extend([Action::Advertise(PRIORITY_STOPS), Action::Release(reason)]),
            State::Backup => out.push(Action::Changed(reason)),
            State::Initialize => {}
        }
        self.state = State::Initialize;
        self.designated = false;
        self.deadline = None;
    }

    fn reassert(&mut self, claim: u8, now: Instant, out: &mut Vec<Action>) {
        if self.reasserted.is_some_and(|last| now < last + REASSERT_INTERVAL_MIN) {
            return;
        }
        self.reasserted = Some(now);
        self.deadline = Some(now + self.config.interval);
        out.extend([Action::Advertise(claim), Action::Reassert]);
    }
}

fn skew(interval: Duration, claim: Option<u8>) -> Duration {
    interval * (256 - u32::from(claim.unwrap_or(PRIORITY_WEAK))) / 256
}

#[cfg(test)]
mod tests;
