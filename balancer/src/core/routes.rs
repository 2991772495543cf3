//! The routes that are in force: a table, the pool of each of its services, and what is counted of each route.
//!
//! Replaced as a whole by the control task, looked at by each core at each request. A pool and a count outlive the
//! table that they were made for, by name. Where an issuer publishes other keys, only these are replaced: what a
//! request is judged by is of one piece.

mod readings;

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aws_lc_rs::digest;
use skep_gateway::auth::{Consumers, Known, Proof};
use skep_gateway::document::Route;
use skep_gateway::fields::Edits;
use skep_gateway::figures::REASONS;
use skep_gateway::limit::{By, Limit};
use skep_gateway::table::{Entry, Has};
use skep_gateway::{Document, Table};

pub use self::readings::Readings;
use crate::core::cache::purges::mark;
use crate::core::published::Published;
use crate::core::rates;
use crate::pools::Pool;
use crate::wire::write::{RateLimit, Rewrite, Taken};

/// What is counted of one route, over all cores; what each request counts in one line of memory.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct RouteCounts {
    /// Answers by the first digit of their status; 0 for none.
    pub answers: [AtomicU64; 6],
    /// Requests that came too often, by whose limit that was: in the order of [`By::WORDS`].
    pub limited: [AtomicU64; By::WORDS.len()],
    /// Requests that came no further, in the order of [`REASONS`].
    pub refused: [AtomicU64; REASONS.len()],
}

/// How often a route may be asked.
#[derive(Debug)]
pub struct Limits {
    pub held: Vec<rates::Held>,
    /// What answers say of them.
    pub policy: Arc<str>,
}

impl Limits {
    fn new(entry: &Entry) -> Self {
        let mut limits = entry.route.policies.limits.clone();
        // Who is beyond its own is told that, and takes nothing of what all have in common.
        limits.sort_by_key(|it| it.by as usize);
        let policies: Vec<String> = limits.iter().map(Limit::policy).collect();
        Self {
            held: limits
                .iter()
                .map(|it| rates::Held::new(&entry.route.counted(it, &entry.name), *it))
                .collect(),
            policy: policies.join(", ").into(),
        }
    }
}

/// A table that is obeyed, and who may be known by it now.
#[derive(Debug)]
pub struct Routes {
    parts: Arc<Parts>,
    /// Those of the table, where issuers have the keys that they were seen to publish.
    pub consumers: Consumers,
}

/// What a document comes to.
#[derive(Debug)]
pub struct Parts {
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
    /// The place of a route that has it, of each limit, by what that is called at other balancers.
    by_limit: HashMap<u64, usize>,
    /// What issuers publish, by their names.
    pub published: BTreeMap<String, Arc<Published>>,
    /// Nothing is known of what they should be: every request is refused.
    pub closed: bool,
    /// Some route stores answers.
    pub has_cache: bool,
    /// Where answers are good, of routes that store them and each of their services.
    realms: HashMap<(usize, usize), Area>,
    /// Marks of the table's services, in its order.
    pub service_marks: Vec<u64>,
}

/// Where answers of a service are good that a route has stored.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// Of all that a document says of them.
    pub digest: u128,
    /// Marks of the names of the route and the service.
    pub route: u64,
    pub service: u64,
}

impl Deref for Routes {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// A field that an answer has, its name in lower case.
pub type Added = (&'static str, String);

/// What is said in a route's answers, where something is.
#[derive(Debug, Default)]
struct Answers {
    /// To who is no page of another origin that is named.
    usual: Option<Arc<Said>>,
    of_origins: Vec<(String, Arc<Said>)>,
}

/// The same to one who asks.
#[derive(Debug)]
struct Said {
    /// How the service's answer is edited.
    edits: Arc<Edits>,
    /// What the balancer's own answers say of who may read them.
    readers: Vec<Added>,
}

impl Answers {
    fn new(route: &Route) -> Self {
        let Some(cors) = &route.cors else {
            let edits = Some(&route.response).filter(|it| !it.is_empty()).cloned().map(Arc::new);
            let usual = edits.map(|edits| Arc::new(Said { edits, readers: Vec::new() }));
            return Self { usual, of_origins: Vec::new() };
        };
        let said = |origin: Option<&str>| {
            let edits = cors.edits(origin, &route.response).into();
            Arc::new(Said { edits, readers: cors.fields(origin) })
        };
        // Any origin is told the same, and who is no page may be told it, too.
        let usual = said(cors.origins.is_empty().then_some("*"));
        let of_origins = cors.origins.iter().map(|it| (it.clone(), said(Some(it)))).collect();
        Self { usual: Some(usual), of_origins }
    }

    fn to(&self, origin: Option<&[u8]>) -> Option<Arc<Said>> {
        let named = origin.and_then(|it| self.of_origins.iter().find(|(name, _)| name.as_bytes() == it));
        named.map(|(_, said)| said).or(self.usual.as_ref()).cloned()
    }
}

impl Routes {
    /// `pools` and `counts` in the table's order.
    pub fn new(
        table: Table,
        pools: Vec<Arc<Pool>>,
        counts: Vec<Arc<RouteCounts>>,
        published: BTreeMap<String, Arc<Published>>,
    ) -> Self {
        Self::of(Parts { published, ..Parts::new(table, pools, counts) }.into())
    }

    fn of(parts: Arc<Parts>) -> Self {
        if parts.published.is_empty() {
            return Self { consumers: parts.table.consumers.clone(), parts };
        }
        let keys = parts.published.iter().filter_map(|(name, it)| Some((name.clone(), it.keys()?)));
        let consumers = parts.table.consumers.with_published(keys);
        Self { consumers, parts }
    }

    /// The same, where issuers publish other keys by now.
    pub fn of_now(&self) -> Option<Self> {
        if self.published.is_empty() {
            return None;
        }
        let now = Self::of(self.parts.clone());
        (now.consumers.issuers() != self.consumers.issuers()).then_some(now)
    }

    /// What stays, whatever issuers publish.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Those of who has not been told any yet; `nodes` is the pool of the nodes.
    pub fn closed(nodes: Arc<Pool>) -> Self {
        let table = Table::compile(Document::default()).unwrap_or_default();
        Self::of(Parts { closed: true, ..Parts::new(table, vec![nodes], Vec::new()) }.into())
    }
}

impl Parts {
    fn new(table: Table, pools: Vec<Arc<Pool>>, counts: Vec<Arc<RouteCounts>>) -> Self {
        let hosts = table.services.iter().map(|(_, service)| service.host_sent()).collect();
        let answers = table.routes.iter().map(|it| Answers::new(&it.route)).collect();
        let limits: Vec<Limits> = table.routes.iter().map(Limits::new).collect();
        let ids = |(at, of): (usize, &Limits)| of.held.iter().map(|it| (it.id, at)).collect::<Vec<_>>();
        let by_limit = limits.iter().enumerate().flat_map(ids).collect();
        let published = BTreeMap::new();
        let service_marks: Vec<u64> = table.services.iter().map(|(name, _)| mark(name.as_bytes())).collect();
        let realms = realms(&table, &service_marks);
        let has_cache = !realms.is_empty();
        Self {
            table,
            pools,
            hosts,
            counts,
            answers,
            limits,
            by_limit,
            published,
            closed: false,
            has_cache,
            realms,
            service_marks,
        }
    }

    /// The `Host` that a service's servers are asked for, where that is not the client's.
    pub fn host_sent(&self, service: usize) -> Option<&str> {
        self.hosts[service].as_deref()
    }

    /// Where answers of a service are good that a route has stored; None where it stores none.
    pub fn realm(&self, route: usize, service: usize) -> Option<Area> {
        self.realms.get(&(route, service)).copied()
    }

    /// The `Host` that a service is asked for, where that is not the client's.
    pub fn host_of(&self, service: usize) -> Option<&str> {
        self.hosts[service].as_deref()
    }

    /// Whether a request to one service is written as it is for another.
    pub fn are_asked_alike(&self, one: usize, other: usize) -> bool {
        let timeout = |at: usize| self.table.services[at].1.timeout;
        self.hosts[one] == self.hosts[other] && timeout(one) == timeout(other)
    }

    /// A limit, by what it is called at other balancers.
    pub fn limit(&self, id: u64) -> Option<&rates::Held> {
        self.limits[*self.by_limit.get(&id)?].held.iter().find(|it| it.id == id)
    }
}

/// Those of a route that has none.
static NO_EDITS: Edits = Edits { remove: Vec::new(), set: Vec::new(), add: Vec::new() };

/// A digest of each route that stores answers, each of its services, and all that a document says of what these are
/// asked for: what is stored under other words is not used.
fn realms(table: &Table, services: &[u64]) -> HashMap<(usize, usize), Area> {
    let mut realms = HashMap::new();
    for (at, entry) in table.routes.iter().enumerate().filter(|(_, it)| it.route.policies.cache.is_some()) {
        let route = &entry.route;
        let said = (&entry.name, &route.matches, route.strip_prefix, &route.request, &route.policies.auth);
        let said = (said, &route.policies.ask);
        for (service, _) in &entry.services {
            let (name, it) = &table.services[*service];
            let text = format!("{:?}", (said, name, &it.targets, &it.tls, it.host));
            let digest = digest::digest(&digest::SHA256, text.as_bytes());
            let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
            let digest = u128::from_be_bytes(first);
            let area = Area { digest, route: mark(entry.name.as_bytes()), service: services[*service] };
            realms.insert((at, *service), area);
        }
    }
    realms
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
    said: Option<Arc<Said>>,
    /// What the answer says of limits.
    rate_limit: Option<Arc<RateLimit>>,
    /// A cookie that the answer sets.
    cookie: Option<Arc<str>>,
    /// Who asks, where the route wanted to know.
    asker: Option<Proof>,
    /// The route is for who that is.
    admitted: bool,
    /// What the service said that was asked whether it may go on.
    taken: Option<Rc<[Taken]>>,
}

impl Via {
    /// `origin` is that of the page that asks, where one does.
    pub fn new(held: Rc<Held>, route: usize, service: Option<usize>, origin: Option<&[u8]>) -> Self {
        let speaks = held.0.table.brief(route).has_any(&[Has::Cors, Has::ResponseEdits]);
        let said = if speaks { held.0.answers[route].to(origin) } else { None };
        let (rate_limit, cookie) = (None, None);
        Self { held, route, service, said, rate_limit, cookie, asker: None, admitted: false, taken: None }
    }

    /// The same, of who proved that, for whom the route is not.
    pub fn of_other(self, asker: Proof) -> Self {
        Self { asker: Some(asker), ..self }
    }

    /// The same, where that was proved.
    pub fn proved(self, proof: Option<Proof>) -> Self {
        Self { admitted: proof.is_some(), asker: proof, ..self }
    }

    /// The same, whose answer says that of limits.
    pub fn saying(self, rate_limit: RateLimit) -> Self {
        Self { rate_limit: Some(rate_limit.into()), ..self }
    }

    /// The same, whose answer sets that cookie.
    pub fn setting(self, cookie: Option<Arc<str>>) -> Self {
        Self { cookie, ..self }
    }

    /// The cookie that its answer sets.
    pub fn cookie(&self) -> Option<&Arc<str>> {
        self.cookie.as_ref()
    }

    /// The same, of which a service that was asked says that.
    pub fn with(self, taken: Option<Rc<[Taken]>>) -> Self {
        Self { taken, ..self }
    }

    /// Whether what was proved still could be in this second of Unix time, of these consumers.
    pub fn is_still_proved(&self, by: &Consumers, now_s: u64) -> bool {
        let asked = self.entry().route.policies.auth.as_deref();
        let proof = self.asker.as_ref().filter(|_| self.admitted);
        match (asked, proof, self.consumer()) {
            (Some(auth), Some(proof), Some(consumer)) => by.still_hold(auth, &consumer.name, proof, now_s),
            _ => true,
        }
    }

    /// Who asks, where the route wanted to know.
    pub fn consumer(&self) -> Option<&Known> {
        self.asker.as_ref().and_then(|it| self.held.0.consumers.known(it))
    }

    /// What the issuer of that name publishes, where it does.
    pub fn published(&self, issuer: &str) -> Option<&Published> {
        self.held.0.published.get(issuer).map(Arc::as_ref)
    }

    pub fn entry(&self) -> &Entry {
        &self.held.0.table.routes[self.route]
    }

    /// Of the route.
    pub fn name(&self) -> &str {
        self.held.0.table.name(self.route)
    }

    pub fn service_name(&self) -> Option<&str> {
        self.service.map(|at| self.held.0.table.services[at].0.as_str())
    }

    /// What its head is written with, where `target` is the path and query that are sent.
    pub fn rewrite<'a>(&'a self, target: &'a [u8]) -> Rewrite<'a> {
        let host = self.service.and_then(|at| self.held.0.hosts[at].as_deref());
        let brief = self.held.0.table.brief(self.route);
        if !brief.has_any(&[Has::Auth, Has::RequestEdits, Has::Ask]) {
            return Rewrite { target, host, edits: &NO_EDITS, auth: None, consumer: None, ask: None };
        }
        let route = &self.entry().route;
        let (auth, consumer) = (route.policies.auth.as_deref(), self.consumer());
        let ask = route.policies.ask.as_ref().map(|it| (it, self.taken.as_deref().unwrap_or_default()));
        Rewrite { target, host, edits: &route.request, auth, consumer, ask }
    }

    /// What the answer says of limits, beside that.
    pub fn rate_limit(&self) -> Option<&Arc<RateLimit>> {
        self.rate_limit.as_ref()
    }

    /// How the service's answer is edited.
    pub fn answer_edits(&self) -> Option<&Arc<Edits>> {
        self.said.as_ref().map(|it| &it.edits)
    }

    /// What an answer of the balancer's own says of the pages that may read it: why they have none of the service's.
    pub fn readers(&self) -> &[Added] {
        self.said.as_ref().map(|it| it.readers.as_slice()).unwrap_or_default()
    }

    /// A request of the route came no further; why, by its place among [`REASONS`].
    pub fn refuse(&self, reason: usize) {
        self.held.0.counts[self.route].refused[reason].fetch_add(1, Relaxed);
    }

    /// A request of the route is over.
    pub fn count(&self, status: u16) {
        if let Some(count) = self.held.0.counts[self.route].answers.get(usize::from(status / 100)) {
            count.fetch_add(1, Relaxed);
        }
    }
}
