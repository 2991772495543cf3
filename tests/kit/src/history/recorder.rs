//! What clients of one process asked and were answered, with the order in which it happened.
//!
//! All calls and returns of a history are counted by one counter: a call before its request is sent, a return
//! once the answer is here. So of two operations one was over before the other began just where its number
//! says so, and no two events are at the same moment.

use std::fmt::{self, Display};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A call or a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Its number among all events of the history, from 1.
    pub event: u64,
    /// For who reads it: since the history's begin.
    pub time: Duration,
}

/// What a client did: `D` says what it asked, and what the answer said.
#[derive(Debug, Clone)]
pub struct Operation<D> {
    pub client: usize,
    /// Its place among the nodes, from 0; it is told as the node's number, from 1.
    pub node: usize,
    pub called: Moment,
    /// None where nobody said what became of it: it took effect, or will some day, or never does.
    pub returned: Option<Moment>,
    pub did: D,
}

impl<D> Operation<D> {
    /// The number of its return; of one that is unknown it is after all others.
    pub fn end(&self) -> u64 {
        self.returned.map_or(u64::MAX, |moment| moment.event)
    }
}

impl<D: Display> Display for Operation<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, node, called, returned, did } = self;
        write!(f, "client {client} at node {}, {:.4} s to ", node + 1, called.time.as_secs_f64())?;
        match returned {
            Some(moment) => write!(f, "{:.4} s", moment.time.as_secs_f64())?,
            None => write!(f, "an unknown end")?,
        }
        write!(f, " (events {} to ", called.event)?;
        match returned {
            Some(moment) => write!(f, "{}): {did}", moment.event),
            None => write!(f, "?): {did}"),
        }
    }
}

/// A history that is being made. Operations that certainly had no effect are counted, and no part of it.
pub struct Recorder<D> {
    begun: Instant,
    events: AtomicU64,
    values: AtomicU64,
    refused: AtomicU64,
    operations: Mutex<Vec<Operation<D>>>,
}

impl<D> Recorder<D> {
    pub fn new(begun: Instant) -> Self {
        Self {
            begun,
            events: AtomicU64::new(1),
            values: AtomicU64::new(1),
            refused: AtomicU64::new(0),
            operations: Mutex::default(),
        }
    }

    /// A value that no other operation of this history writes.
    pub fn fresh(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        Moment { event: self.events.fetch_add(1, Ordering::SeqCst), time: self.begun.elapsed() }
    }

    pub fn add(&self, operation: Operation<D>) {
        self.operations.lock().expect("no holder panics").push(operation);
    }

    /// One that certainly had no effect.
    pub fn add_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many certainly had no effect.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What was recorded until now.
    pub fn take(&self) -> Vec<Operation<D>> {
        std::mem::take(&mut *self.operations.lock().expect("no holder panics"))
    }
}
