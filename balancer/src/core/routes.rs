//! The routes that are in force: a table, the pool of each of its services, and what is counted of each route.
//!
//! Replaced as a whole by the control task, looked at by each core at each request. A pool and a count outlive the
//! table that they were made for, by name.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use skep_gateway::auth::{Consumers, Known, Proof};
use skep_gateway::document::Route;
use skep_gateway::fields::Edits;
use skep_gateway::limit::{By, Limit};
use skep_gateway::table::Entry;
use skep_gateway::{Document, Fault, Table};

use crate::core::rates;
use crate::pools::Pool;
use crate::wire::write::Rewrite;

/// What is counted of one route, over all cores.
#[derive(Debug, Default)]
pub struct RouteCounts {
    /// Answers by the first digit of their status; 0 for none.
    pub answers: [AtomicU64; 6],
    /// Requests that came too often, by whose limit that was: in the order of [`By::WORDS`].
    pub limited: [AtomicU64; By::WORDS.len()],
}

/// How often a route may be asked.
#[derive(Debug)]
pub struct Limits {
    pub held: Vec<rates::Held>,
    /// What answers say of them.
    pub policy: String,
}

impl Limits {
    fn new(entry: &Entry) -> Self {
        let mut limits = entry.route.policies.limits.clone();
        // Who is beyond its own is told that, and takes nothing of what all have in common.
        limits.sort_by_key(|it| it.by as usize);
        let policies: Vec<String> = limits.iter().map(Limit::policy).collect();
        Self {
            held: limits.iter().map(|it| rates::Held::new(&entry.name, *it)).collect(),
            policy: policies.join(", "),
        }
    }
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
    answers: Vec<Answers>,
    /// Those of the table's routes, in its order.
    pub limits: Vec<Limits>,
    /// The place of each limit's route, by what it is called at other balancers.
    by_limit: HashMap<u64, usize>,
    /// Nothing is known of what they should be: every request is refused.
    pub closed: bool,
}

/// What is edited of a route's answers, where something is.
#[derive(Debug, Default)]
struct Answers {
    /// To who is no page of another origin that is named.
    usual: Option<Arc<Edits>>,
    of_origins: Vec<(String, Arc<Edits>)>,
}

impl Answers {
    fn new(route: &Route) -> Self {
        let Some(cors) = &route.cors else {
            let usual = Some(&route.response).filter(|it| !it.is_empty()).cloned().map(Arc::new);
            return Self { usual, of_origins: Vec::new() };
        };
        let edits = |origin: Option<&str>| Arc::new(cors.edits(origin, &route.response));
        // Any origin is told the same, and who is no page may be told it, too.
        let usual = edits(cors.origins.is_empty().then_some("*"));
        let of_origins = cors.origins.iter().map(|it| (it.clone(), edits(Some(it)))).collect();
        Self { usual: Some(usual), of_origins }
    }

    fn to(&self, origin: Option<&[u8]>) -> Option<Arc<Edits>> {
        let named = origin.and_then(|it| self.of_origins.iter().find(|(name, _)| name.as_bytes() == it));
        named.map(|(_, edits)| edits).or(self.usual.as_ref()).cloned()
    }
}

impl Routes {
    /// `pools` and `counts` in the table's order.
    pub fn new(table: Table, pools: Vec<Arc<Pool>>, counts: Vec<Arc<RouteCounts>>) -> Self {
        let hosts = table.services.iter().map(|(_, service)| service.host_sent()).collect();
        let answers = table.routes.iter().map(|it| Answers::new(&it.route)).collect();
        let limits: Vec<Limits> = table.routes.iter().map(Limits::new).collect();
        let ids = |(at, of): (usize, &Limits)| of.held.iter().map(|it| (it.id, at)).collect::<Vec<_>>();
        let by_limit = limits.iter().enumerate().flat_map(ids).collect();
        Self { table, pools, hosts, counts, answers, limits, by_limit, closed: false }
    }

    /// A limit, by what it is called at other balancers.
    pub fn limit(&self, id: u64) -> Option<&rates::Held> {
        self.limits[*self.by_limit.get(&id)?].held.iter().find(|it| it.id == id)
    }

    /// Those of who has not been told any yet; `nodes` is the pool of the nodes.
    pub fn closed(nodes: Arc<Pool>) -> Self {
        let table = Table::compile(Document::default()).unwrap_or_default();
        Self { closed: true, ..Self::new(table, vec![nodes], Vec::new()) }
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
    answer: Option<Arc<Edits>>,
    /// What the answer says of limits.
    limits: Option<Arc<Edits>>,
    /// Who asks, where the route wanted to know.
    asker: Option<Proof>,
    /// The route is for who that is.
    admitted: bool,
}

impl Via {
    /// `origin` is that of the page that asks, where one does.
    pub fn new(held: Rc<Held>, route: usize, service: Option<usize>, origin: Option<&[u8]>) -> Self {
        let answer = service.and_then(|_| held.0.answers[route].to(origin));
        Self { held, route, service, answer, limits: None, asker: None, admitted: false }
    }

    /// The same, of who proved that, for whom the route is not.
    pub fn of_other(self, asker: Proof) -> Self {
        Self { asker: Some(asker), ..self }
    }

    /// The same, where that was proved.
    pub fn proved(self, proof: Option<Proof>) -> Self {
        Self { admitted: proof.is_some(), asker: proof, ..self }
    }

    /// The same, whose answer has these fields beside what its route says.
    pub fn saying(self, fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let add = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { limits: Some(Arc::new(Edits { add, ..Edits::default() })), ..self }
    }

    /// Whether what was proved still could be in this second of Unix time, of these consumers.
    pub fn is_still_proved(&self, by: &Consumers, now_s: u64) -> bool {
        let asked = self.entry().route.policies.auth.as_ref();
        let proof = self.asker.as_ref().filter(|_| self.admitted);
        match (asked, proof, self.consumer()) {
            (Some(auth), Some(proof), Some(consumer)) => by.still_hold(auth, &consumer.name, proof, now_s),
            _ => true,
        }
    }

    /// Who asks, where the route wanted to know.
    pub fn consumer(&self) -> Option<&Known> {
        self.asker.as_ref().and_then(|it| self.held.0.table.consumers.known(it))
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
        let route = &self.entry().route;
        let (auth, consumer) = (route.policies.auth.as_ref(), self.consumer());
        Rewrite { target, host, edits: &route.request, auth, consumer }
    }

    /// What the answer says of limits, beside that.
    pub fn limit_fields(&self) -> Option<&Arc<Edits>> {
        self.limits.as_ref()
    }

    pub fn answer_edits(&self) -> Option<&Arc<Edits>> {
        self.answer.as_ref()
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
