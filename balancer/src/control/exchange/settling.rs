//! Whom a balancer that starts asks what is owed, and for how long. Pure, but for chance and the log.
//!
//! One of this version, and of those the one that has run longest, for it knows most; another where that one is silent or
//! has just started, too. Nothing is waited for where gossip shows others, and no balancer among them for a moment.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use skep_gateway::exchange::debts::{Body, Frame};
use skep_gateway::exchange::taking::Taking;

use super::super::debts::{ASKED_MAX, Settle};

/// How long a balancer is waited for that gossip does not show, though it shows others.
const NOBODY_MAX: Duration = Duration::from_millis(300);

/// Another balancer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Other {
    pub id: u64,
    pub address: SocketAddr,
    /// The least is asked first.
    pub turn: (bool, u64),
}

#[derive(Debug)]
pub(super) struct Settling {
    settle: Settle,
    begun: Instant,
    /// Since when gossip shows anybody.
    met: Option<Instant>,
    asked: Option<(u64, Taking)>,
    has_asked: bool,
    /// They said nothing; they may yet.
    silent: HashSet<u64>,
    /// They know nothing.
    empty: HashSet<u64>,
    /// Debts that were taken over.
    pub taken: u64,
}

impl Settling {
    pub fn begin(settle: Settle, begun: Instant) -> Self {
        let (silent, empty) = (HashSet::new(), HashSet::new());
        Self { settle, begun, met: None, asked: None, has_asked: false, silent, empty, taken: 0 }
    }

    /// Whether that one is asked now.
    pub fn asks(&self, other: u64) -> bool {
        self.asked.as_ref().is_some_and(|(id, _)| *id == other)
    }

    /// What is to be asked of whom now; nothing once there is no more to be asked.
    pub fn turn(
        &mut self,
        me: u64,
        others: Vec<Other>,
        has_others: bool,
        now: Instant,
    ) -> Option<Vec<(SocketAddr, Frame)>> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if since(self.begun) >= ASKED_MAX || self.settle.done.is_closed() {
            return None;
        }
        if has_others {
            self.met.get_or_insert(now);
        }
        if self.asked.as_ref().is_some_and(|(_, taking)| taking.is_over()) {
            return None;
        }
        let asked = self.asked.take().filter(|(id, taking)| {
            let is_silent = taking.is_silent(now);
            if is_silent {
                self.silent.insert(*id);
            }
            !is_silent && others.iter().any(|it| it.id == *id)
        });
        let Some((id, mut taking)) = asked.or_else(|| self.next(&others, now)) else {
            return if self.met.is_some_and(|met| since(met) >= NOBODY_MAX) {
                None
            } else {
                Some(Vec::new())
            };
        };
        self.has_asked = true;
        let address = others.iter().find(|it| it.id == id).map(|it| it.address);
        let number = taking.number();
        let ask = |(place, until)| Frame { from: me, to: id, number, body: Body::Ask { place, until } };
        let asks = address.map(|address| taking.asks(now).into_iter().map(|it| (address, ask(it))).collect());
        self.asked = Some((id, taking));
        Some(asks.unwrap_or_default())
    }

    /// Who is asked next, from the start: at each other one what is owed lies in another order.
    fn next(&mut self, others: &[Other], now: Instant) -> Option<(u64, Taking)> {
        let able = || others.iter().filter(|it| !self.empty.contains(&it.id));
        let next = able().filter(|it| !self.silent.contains(&it.id)).min_by_key(|it| it.turn);
        // It may be that gossip did not show this one to any of them yet.
        let again = || able().min_by_key(|it| it.turn);
        let id = next.or_else(again)?.id;
        if next.is_none() {
            self.silent.clear();
        }
        let mut number = [0; 8];
        aws_lc_rs::rand::fill(&mut number).ok()?;
        Some((id, Taking::begin(u64::from_be_bytes(number), now)))
    }

    /// A page came; whether it was waited for.
    pub fn hear(&mut self, (from, number): (u64, u64), places: (u32, u32), now: Instant) -> bool {
        let asked = self.asked.as_mut().filter(|(id, taking)| (*id, taking.number()) == (from, number));
        asked.is_some_and(|(_, taking)| taking.hear(places, now))
    }

    /// One says that it has just started itself.
    pub fn hear_nothing(&mut self, from: u64, number: u64) {
        if self.asked.take_if(|(id, taking)| (*id, taking.number()) == (from, number)).is_some() {
            self.empty.insert(from);
        }
    }

    /// Lets the limits be in force.
    pub fn end(self) {
        let (debts, is_whole) = (self.taken, self.asked.is_some_and(|(_, taking)| taking.is_over()));
        if is_whole {
            tracing::info!(debts, "what is owed by limits is taken over from another balancer");
        } else if self.has_asked {
            tracing::info!(debts, "no other balancer told in time what is owed by limits, or not all of it");
        }
        // Nobody may wait for it any more.
        let _ = self.settle.done.send(());
    }
}

#[cfg(test)]
mod tests;
