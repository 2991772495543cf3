//! The routes that are in force: a table, the pool of each of its services, and what is counted of each route.
//!
//! Replaced as a whole by the control task, looked at by each core at each request. A pool and a count outlive the
//! table that they were made for, by name.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use skep_gateway::fields::Edits;
use skep_gateway::table::Entry;
use skep_gateway::{Fault, Table};

use crate::pools::Pool;
use crate::wire::write::Rewrite;

/// What is counted of one route, over all cores.
#[derive(Debug, Default)]
pub struct RouteCounts {
    /// Answers by the first digit of their status; 0 for none.
    pub answers: [AtomicU64; 6],
}

/// A table that is obeyed.
#[derive(Debug)]
pub struct Routes {
    pub table: Table,
    /// Those of the table's services, in its order.
    pub pools: Vec<Arc<Pool>>,
    /// The `Host` that a service's servers are asked for, where that is not the client's.
    hosts: Vec<Option<String>>,
    /// Those of the table's routes, in its order.
    pub counts: Vec<Arc<RouteCounts>>,
    /// What is edited of answers, where something is.
    answers: Vec<Option<Arc<Edits>>>,
}

impl Routes {
    /// `pools` and `counts` in the table's order.
    pub fn new(table: Table, pools: Vec<Arc<Pool>>, counts: Vec<Arc<RouteCounts>>) -> Self {
        let hosts = table.services.iter().map(|(_, service)| service.host_sent()).collect();
        let edits = |it: &Entry| Some(&it.route.response).filter(|it| !it.is_empty()).cloned().map(Arc::new);
        let answers = table.routes.iter().map(edits).collect();
        Self { table, pools, hosts, counts, answers }
    }
}

/// Routes as one core holds them: what it does at each request touches nothing that others count.
#[derive(Debug)]
pub struct Held(pub Arc<Routes>);

/// The way that a request has by a route.
#[derive(Debug, Clone)]
pub struct Via {
    held: Rc<Held>,
    route: usize,
    /// Where it goes; None where it goes nowhere.
    service: Option<usize>,
}

impl Via {
    pub fn new(held: Rc<Held>, route: usize, service: Option<usize>) -> Self {
        Self { held, route, service }
    }

    pub fn entry(&self) -> &Entry {
        &self.held.0.table.routes[self.route]
    }

    pub fn service_name(&self) -> Option<&str> {
        self.service.map(|at| self.held.0.table.services[at].0.as_str())
    }

    /// What its head is written with, where `target` is the path and query that are sent.
    pub fn rewrite<'a>(&'a self, target: &'a [u8]) -> Rewrite<'a> {
        let host = self.service.and_then(|at| self.held.0.hosts[at].as_deref());
        Rewrite { target, host, edits: &self.entry().route.request }
    }

    pub fn answer_edits(&self) -> Option<&Arc<Edits>> {
        self.held.0.answers[self.route].as_ref()
    }

    /// A request of the route is over.
    pub fn count(&self, status: u16) {
        if let Some(count) = self.held.0.counts[self.route].answers.get(usize::from(status / 100)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// What came of reading the document, from the start on.
#[derive(Debug, Default)]
pub struct Readings {
    taken: AtomicU64,
    refused: AtomicU64,
    /// When the one that is in force was taken, in seconds of Unix time.
    taken_at_s: AtomicU64,
    /// What is wrong with the newest; nothing, where that is in force.
    faults: Mutex<Vec<Fault>>,
}

impl Readings {
    pub fn taken(&self, now: SystemTime) {
        self.taken.fetch_add(1, Relaxed);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.taken_at_s.store(now.as_secs(), Relaxed);
        self.set(Vec::new());
    }

    pub fn refused(&self, faults: Vec<Fault>) {
        self.refused.fetch_add(1, Relaxed);
        self.set(faults);
    }

    fn set(&self, faults: Vec<Fault>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were taken, how many refused, and when the last was taken.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.taken.load(Relaxed), self.refused.load(Relaxed), self.taken_at_s.load(Relaxed))
    }
}
