//! Where a router is within a hand-over: before it, after it, and on the other side of it. The
//! order of its steps is `driver::planned`'s.

use std::net::IpAddr;
use std::time::Instant;

use crate::forwarding::{Forwarding, Quiet};

/// What follows once the next is ready, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Claim(Option<u8>),
    Stop,
}

/// A hand-over of which the next has been told.
#[derive(Debug)]
pub struct Handing {
    pub next: u64,
    pub then: Then,
    pub until: Instant,
}

/// The addresses are still here, for the connections that are.
#[derive(Debug)]
pub struct Draining {
    pub _quiet: Quiet,
    pub next: u64,
    pub until: Instant,
}

/// The connections of the one before are sent on to it.
#[derive(Debug)]
pub struct SendingOn {
    pub _forwarding: Forwarding,
    pub to: IpAddr,
    /// It is sent nowhere, for that one is about to have the addresses.
    pub held_back: bool,
    pub until: Instant,
}
