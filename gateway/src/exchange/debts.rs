//! What is still owed by limits, as it goes from one run of a balancer to another: asked for by one that starts, or kept
//! by one that ends. Pure.
//!
//! ```text
//! magic 1 | version 1 | kind 1
//! ask      0 | from 8 | to 8 | number 8 | place 4 | until 4
//! page     1 | from 8 | to 8 | number 8 | place 4 | next 4 | debts, to the end
//! nothing  2 | from 8 | to 8 | number 8
//! kept     3 | written (ms of Unix time) 8 | debts, to the end
//! debt     limit 8 | who: kind 1, 8 | step 8 | owed 8
//! ```
//!
//! Integers are big-endian; `step` and `owed` are in ticks ([`crate::limit::ticks`]): how long it takes until a debt is
//! over, never when. Whoever starts asks for a part of the other's places, and hears a page of what is owed there and
//! where to go on. The number is a random one of who asks: who does not know it cannot answer. A version that knows
//! nothing of it answers nothing, for the magic is no version of [`super::Frame`].

use super::{Input, Malformed, write_who};
use crate::limit::Who;

/// Most debts of a page: with all that is around it, it fits into a frame of Ethernet.
pub const DEBTS_MAX: usize = 38;
/// Places that what is owed may lie in, at each balancer in an order of its own.
pub const PLACES: u32 = 24_576;
/// Most debts that are kept.
pub const KEPT_MAX: usize = 196_608;
/// Most bytes of them.
pub const KEPT_BYTES_MAX: usize = KEPT_HEAD_BYTES + KEPT_MAX * DEBT_BYTES;

const KEPT_HEAD_BYTES: usize = 3 + 8;
const DEBT_BYTES: usize = 8 + 1 + 8 + 8 + 8;
const MAGIC: u8 = 0x64;
const VERSION: u8 = 1;
const ASK: u8 = 0;
const PAGE: u8 = 1;
const NOTHING: u8 = 2;
const KEPT: u8 = 3;

/// So long it takes until all is there again that one has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// What a limit is called over all balancers: see [`crate::limit::Limit::id`].
    pub limit: u64,
    pub who: Who,
    /// Between two requests by that limit, as it was there.
    pub step: u64,
    pub owed: u64,
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
    /// What is owed at these places?
    Ask { place: u32, until: u32 },
    /// This is what is owed from that place up to the next.
    Page { place: u32, next: u32, debts: Vec<Debt> },
    /// It has just started itself.
    Nothing,
}

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.body {
            Body::Ask { .. } => ASK,
            Body::Page { .. } => PAGE,
            Body::Nothing => NOTHING,
        };
        let mut out = vec![MAGIC, VERSION, kind];
        for number in [self.from, self.to, self.number] {
            out.extend(number.to_be_bytes());
        }
        match &self.body {
            Body::Ask { place, until } => out.extend([*place, *until].map(u32::to_be_bytes).concat()),
            Body::Page { place, next, debts } => {
                out.extend([*place, *next].map(u32::to_be_bytes).concat());
                write(debts, &mut out);
            }
            Body::Nothing => {}
        }
        out
    }

    /// Reads what came; within the bounds above, whatever it is.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        let kind = input.begin()?;
        if ![ASK, PAGE, NOTHING].contains(&kind) {
            return Err(Malformed("of an unknown kind"));
        }
        let (from, to, number) = (input.number()?, input.number()?, input.number()?);
        let body = match kind {
            NOTHING => Body::Nothing,
            _ => {
                let (place, next) = (input.place()?, input.place()?);
                if place >= next || next > PLACES {
                    return Err(Malformed("no places"));
                }
                match kind {
                    ASK => Body::Ask { place, until: next },
                    _ => Body::Page { place, next, debts: input.debts(DEBTS_MAX)? },
                }
            }
        };
        match input.0.is_empty() {
            true => Ok(Self { from, to, number, body }),
            false => Err(Malformed("bytes behind its end")),
        }
    }
}

/// What one that ends keeps for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// In milliseconds of Unix time: what passes from then on is owed no more.
    pub written_ms: u64,
    pub debts: Vec<Debt>,
}

impl Kept {
    /// No more than [`KEPT_MAX`] of them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAGIC, VERSION, KEPT];
        out.extend(self.written_ms.to_be_bytes());
        write(&self.debts[..self.debts.len().min(KEPT_MAX)], &mut out);
        out
    }

    /// Reads what lies there; within the bounds above, whatever it is.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        match input.begin()? {
            KEPT => Ok(Self { written_ms: input.number()?, debts: input.debts(KEPT_MAX)? }),
            _ => Err(Malformed("of an unknown kind")),
        }
    }

    /// What is left of it at another time: no more than there was, whatever the two clocks say.
    pub fn left(mut self, now_ms: u64) -> Vec<Debt> {
        let passed = std::time::Duration::from_millis(now_ms.saturating_sub(self.written_ms));
        let passed = crate::limit::ticks(passed);
        self.debts.iter_mut().for_each(|it| it.owed = it.owed.saturating_sub(passed));
        self.debts.retain(|it| it.owed > 0);
        self.debts
    }
}

fn write(debts: &[Debt], out: &mut Vec<u8>) {
    for Debt { limit, who, step, owed } in debts {
        out.extend(limit.to_be_bytes());
        write_who(*who, out);
        out.extend([*step, *owed].map(u64::to_be_bytes).concat());
    }
}

impl Input<'_> {
    /// What kind it is.
    fn begin(&mut self) -> Result<u8, Malformed> {
        match self.array()? {
            [MAGIC, VERSION, kind] => Ok(kind),
            _ => Err(Malformed("another version")),
        }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn place(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// To the end.
    fn debts(&mut self, most: usize) -> Result<Vec<Debt>, Malformed> {
        let mut debts = Vec::new();
        while !self.0.is_empty() {
            if debts.len() == most {
                return Err(Malformed("more debts than there may be"));
            }
            let (limit, who) = (self.number()?, self.who()?);
            debts.push(Debt { limit, who, step: self.number()?, owed: self.number()? });
        }
        Ok(debts)
    }
}

#[cfg(test)]
mod tests;
