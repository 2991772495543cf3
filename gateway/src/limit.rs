//! How often a route may be asked: GCRA, one time for each who asks. Pure.
//!
//! That time is when all that was asked for would have come in at the rate (the theoretical arrival time). One that
//! is past says the same as none at all, so that it may be forgotten. Who asks is let in while it is no further ahead
//! than the burst: over any time t no more than burst + rate * t are.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::auth::digest_begin;

/// Most requests that a rate and a burst may have.
pub const RATE_MAX: u32 = 1_000_000;
pub const BURST_MAX: u32 = 1_000_000;
/// Longest that a burst may take to come in again, in seconds: for as long who asked is remembered.
pub const REFILL_S_MAX: u64 = 24 * 3600;

/// Most other balancers that a burst may have been let in by, and seconds of their rate that are believed at once.
pub const OTHERS_MAX: u64 = 16;
const OWED_S_MAX: u64 = 5;

/// Times are counted in parts of a nanosecond, so that the highest rate is exact to one in 16,000. 36 years fit.
const TICKS_PER_NS: u64 = 16;
const TICKS_PER_S: u64 = 1_000_000_000 * TICKS_PER_NS;

/// What a rate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    pub const WORDS: [(&str, Self); 3] =
        [("second", Self::Second), ("minute", Self::Minute), ("hour", Self::Hour)];

    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Self::WORDS, *self))
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Those of one address; of IPv6 of one /64, for that is what one client has.
    Address,
    /// Those of one consumer.
    Consumer,
    /// All of the route; of a limit that is shared, of all routes that take it.
    Route,
}

impl By {
    pub const WORDS: [(&str, Self); 3] =
        [("address", Self::Address), ("consumer", Self::Consumer), ("route", Self::Route)];

    pub fn word(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], it: T) -> &'static str {
    words.iter().find(|(_, other)| *other == it).map_or("", |(word, _)| *word)
}

/// What of an address is counted as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Neighbours {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl Neighbours {
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

/// Who asks, as far as a limit tells one from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Client(Neighbours),
    /// By its id.
    Consumer(u64),
    Anybody,
}

/// What counts together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// What one balancer lets in.
    Balancer,
    /// What all of them do, as far as they hear of one another.
    #[default]
    Cluster,
}

impl Scope {
    pub const WORDS: [(&str, Self); 2] = [("balancer", Self::Balancer), ("cluster", Self::Cluster)];
}

/// How often who is meant may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// 1 to [`RATE_MAX`].
    pub rate: u32,
    pub per: Per,
    /// How many at once, after a rest: 1 to [`BURST_MAX`], and what comes in within [`REFILL_S_MAX`].
    pub burst: u32,
    pub by: By,
    pub scope: Scope,
    /// Several routes may have it, which count together.
    pub is_shared: bool,
}

/// A request that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// What is to be remembered.
    pub tat: u64,
    /// How many more would be let in now.
    pub left: u32,
    /// Ticks until the whole burst is there again.
    pub full_in: u64,
}

/// A time in ticks.
pub fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_mul(TICKS_PER_NS)
}

/// Whole seconds, rounded up.
pub fn seconds(ticks: u64) -> u64 {
    ticks.div_ceil(TICKS_PER_S)
}

impl Limit {
    /// What comes in within a second, at least one: the burst where nothing is said.
    pub fn usual_burst(rate: u32, per: Per) -> u32 {
        u64::from(rate).div_ceil(per.seconds()).max(1) as u32
    }

    /// Between two requests at the rate; rounded up, for the rate is never exceeded.
    pub fn step(&self) -> u64 {
        (self.per.seconds() * TICKS_PER_S).div_ceil(u64::from(self.rate.max(1)))
    }

    /// How far ahead of now it may come.
    pub fn depth(&self) -> u64 {
        self.step().saturating_mul(u64::from(self.burst))
    }

    /// Counts a request at this time, for who was remembered with `tat`; or says how many ticks it is too early.
    pub fn take(&self, tat: u64, now: u64) -> Result<Taken, u64> {
        let (step, depth) = (self.step(), self.depth());
        let ahead = tat.saturating_sub(now).saturating_add(step);
        if ahead > depth {
            return Err(ahead - depth);
        }
        let left = u32::try_from((depth - ahead) / step).unwrap_or(u32::MAX);
        Ok(Taken { tat: now.saturating_add(ahead), left, full_in: ahead })
    }

    /// What is to be remembered of who is remembered by a limit with another step: as many requests are owed by this one.
    pub fn rescaled(&self, tat: u64, now: u64, step: u64) -> u64 {
        let owed = u128::from(tat.saturating_sub(now)) * u128::from(self.step()) / u128::from(step.max(1));
        now.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX).min(self.most_owed()))
    }

    /// What is to be remembered where a request that was counted is not let in after all.
    pub fn give_back(&self, tat: u64) -> u64 {
        tat.saturating_sub(self.step())
    }

    /// Whether it may be that one whose requests it counts together.
    pub fn counts(&self, who: Who) -> bool {
        matches!(
            (self.by, who),
            (By::Address, Who::Client(_)) | (By::Consumer, Who::Consumer(_)) | (By::Route, Who::Anybody)
        )
    }

    /// What is to be remembered once others have let so many in: no more than can be right, whoever says so.
    pub fn owe(&self, tat: u64, now: u64, count: u32) -> u64 {
        let most = self.most_owed();
        let owed = tat.saturating_sub(now).saturating_add(self.step().saturating_mul(u64::from(count)));
        tat.max(now.saturating_add(owed.min(most)))
    }

    /// What is to be remembered once it is heard that so many ticks are owed by a limit with that step: the more of that and
    /// of what is known, and no more than can be right.
    pub fn owe_at_least(&self, tat: u64, now: u64, owed: u64, step: u64) -> u64 {
        tat.max(self.rescaled(now.saturating_add(owed), now, step))
    }

    /// What may be owed at most: what all balancers may let in before they hear of one another.
    fn most_owed(&self) -> u64 {
        self.depth().saturating_mul(OTHERS_MAX).saturating_add(OWED_S_MAX * TICKS_PER_S)
    }

    /// What tells it from others at all balancers and over changes: whose requests it counts (a route by its name), by what
    /// and per what. Of those there is one such limit. What else it says may change, and who owes goes on to owe.
    pub fn id(&self, counted: &str) -> u64 {
        digest_begin(format!("{counted}\n{}", self.name()).as_bytes())
    }

    /// What it is called in answers: of those of a route, no two are called the same.
    pub fn name(&self) -> String {
        format!("{}-{}", self.by.word(), self.per)
    }

    /// As `RateLimit-Policy` says it (draft-ietf-httpapi-ratelimit-headers): a burst, in which time it comes in again where
    /// that is a second or more, and the rate.
    pub fn policy(&self) -> String {
        let window = match self.depth() {
            depth @ TICKS_PER_S.. => format!(";w={}", seconds(depth)),
            _ => String::new(),
        };
        format!("\"{}\";q={}{window};skep-rate={}", self.name(), self.burst, self.rate)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, per, burst, by, scope, is_shared } = self;
        write!(f, "{rate} per {per}, {burst} at once, by {}", by.word())?;
        if *is_shared {
            f.write_str(", for all routes that take it together")?;
        }
        match scope {
            Scope::Balancer => f.write_str(", at each balancer"),
            Scope::Cluster => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
