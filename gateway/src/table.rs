//! Which route a request belongs to: the document's routes, compiled so that what a request costs hangs on its path
//! and not on how many routes there are.
//!
//! Of all routes that a request matches one has it, by a total order (that of the Gateway API's HTTPRoute): an exact
//! host before the longest wildcard before any; an exact path before the longest prefix, by whole segments; one that
//! names its method; the one with the most header fields; the first by name. Two that are for the very same requests
//! are a fault: nothing but their names would tell them apart.
//!
//! A hash of hosts, a tree of segments each, and a few candidates at a leaf. The oracle of its tests is the order,
//! written down.

mod brief;
mod tree;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::auth::Consumers;
use crate::certificates::Certificates;
use crate::document::{Document, Jwks, Match, Route, SKEP, Service, To, Unmatched, pointer_to};
use crate::fault::{Fault, Faults, Refused};
use crate::host::HostPattern;
use crate::path::{Ambiguous, PathPattern, Read, segments, without};
use crate::query;

use brief::Usual;
pub use brief::{Brief, Has};
use tree::Tree;

/// Most nodes of the tree: of each host of a route its path's segments.
pub const NODES_MAX: usize = 262_144;
/// Most routes that one host and path may have: they are looked through for each request.
pub const CANDIDATES_MAX: usize = 64;

/// A request, each part in the form that is matched.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub host: &'a str,
    pub path: &'a str,
    pub method: &'a str,
}

/// A route with its name, and its services by their places in the table.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    pub route: Route,
    /// Each with how much it weighs.
    pub services: Vec<(usize, u32)>,
    /// The one that gets copies.
    pub mirror: Option<usize>,
    /// The one that is asked whether a request may go on.
    pub asks: Option<usize>,
}

/// A document that is obeyed.
#[derive(Debug, Default)]
pub struct Table {
    pub unmatched: Unmatched,
    /// By name. The nodes come first, and have nothing here: they are built in.
    pub services: Vec<(String, Service)>,
    /// By name.
    pub routes: Vec<Entry>,
    pub consumers: Consumers,
    /// Where the keys of issuers are fetched that publish them, by the issuer's name.
    pub jwks: BTreeMap<String, Jwks>,
    pub certificates: Arc<Certificates>,
    /// Parameters of queries in which routes take keys.
    key_params: Vec<String>,
    /// Some route takes paths as they came.
    has_raw: bool,
    /// Of each route.
    usual: Vec<Usual>,
    tree: Tree,
}

impl Table {
    /// Compiles a document; with every tie, where there are any.
    pub fn compile(document: Document) -> Result<Self, Vec<Fault>> {
        Self::judge(document).map_err(|refusal| refusal.faults)
    }

    /// The same; and whether they are ties alone.
    pub(crate) fn judge(document: Document) -> Result<Self, Refused> {
        let mut faults = Faults::default();
        find_ties(&document, &mut faults);
        let nodes = (SKEP.to_owned(), Service::default());
        let mut table = Self {
            unmatched: document.unmatched,
            services: [nodes].into_iter().chain(document.services).collect(),
            consumers: Consumers::new(document.consumers, document.issuers),
            jwks: document.jwks,
            certificates: Certificates::new(document.certificates).into(),
            ..Self::default()
        };
        let places: HashMap<&str, usize> =
            table.services.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let mut auths = HashSet::new();
        let entry = |(name, mut route): (String, Route)| {
            if let Some(auth) = &mut route.policies.auth {
                *auth = one_of(&mut auths, auth);
            }
            let services = match &route.to {
                To::Services(to) => to
                    .iter()
                    .filter_map(|(name, weight)| Some((*places.get(name.as_str())?, *weight)))
                    .collect(),
                To::Redirect(_) => Vec::new(),
            };
            let place = |name: &str| places.get(name).copied();
            let mirror = route.mirror.as_ref().and_then(|it| place(&it.service));
            let asks = route.policies.ask.as_ref().and_then(|it| place(&it.service));
            Entry { name, route, services, mirror, asks }
        };
        table.routes = document.routes.into_iter().map(entry).collect();
        table.usual = table.routes.iter().map(Usual::of).collect();
        let params = table.routes.iter().filter_map(|it| it.route.policies.auth.as_ref()?.query().cloned());
        table.key_params = params.collect::<BTreeSet<_>>().into_iter().collect();
        table.has_raw = table.routes.iter().any(|it| it.route.matches.is_raw);
        let nodes = |it: &Entry| {
            let matches = &it.route.matches;
            let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = &matches.path;
            matches.hosts.len().max(1) * (segments(path).count() + 1)
        };
        if table.routes.iter().map(nodes).sum::<usize>() > NODES_MAX {
            let fault = format!("hosts times segments of their paths come to more than {NODES_MAX}");
            faults.add("/routes", fault);
            return faults.none_or(table);
        }
        for at in 0..table.routes.len() {
            table.plant(at, &mut faults);
        }
        faults.none_or(table)
    }

    /// Reads a request's path, which the route that is found for it has to take (`Entry::path`).
    pub fn read<'a>(&self, path: &'a [u8]) -> Result<Read<'a>, Ambiguous> {
        if self.has_raw { Read::raw(path) } else { Read::in_form(path) }
    }

    /// A request's path and query without the parameters in which any route takes keys, where it has one: whatever
    /// becomes of it, what was a key is shown to nobody.
    pub fn without_keys(&self, target: &[u8]) -> Option<Vec<u8>> {
        if self.key_params.is_empty() {
            return None;
        }
        let (path, query) = target.split_at(target.iter().position(|b| *b == b'?')?);
        Some([path, &query::without(query, &self.key_params)?].concat())
    }

    fn plant(&mut self, at: usize, faults: &mut Faults) {
        let Self { routes, tree, .. } = self;
        let Entry { name, route, .. } = &routes[at];
        let hosts: Vec<Option<&HostPattern>> = match route.matches.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().map(Some).collect(),
        };
        let rank = |at: u32| {
            let Match { methods, headers, .. } = &routes[at as usize].route.matches;
            (methods.is_empty(), Reverse(headers.len()))
        };
        let at = at as u32;
        // Routes come by name, so that among equals the first stays first.
        let before = |other| rank(other) <= rank(at);
        for host in hosts {
            if !tree.plant(host, &route.matches.path, at, CANDIDATES_MAX, before) {
                let fault = format!("{CANDIDATES_MAX} routes have this host and path already: no more may");
                faults.add(&pointer_to(name), fault);
                return;
            }
        }
    }

    /// The place of the route that has the request; `has` says whether it has a header field with that value.
    pub fn find(&self, asked: Asked<'_>, has: impl Fn(&str, &str) -> bool) -> Option<usize> {
        let fits = |at: u32| {
            if !self.brief(at as usize).has(Has::Conditions) {
                return true;
            }
            let Match { methods, headers, .. } = &self.routes[at as usize].route.matches;
            (methods.is_empty() || methods.iter().any(|it| it == asked.method))
                && headers.iter().all(|(name, value)| has(name, value))
        };
        self.tree.find(asked.host, asked.path, fits).map(|at| at as usize)
    }

    /// The place of a service by its name, where the route leads to it.
    pub fn service_of(&self, entry: &Entry, name: &str) -> Option<usize> {
        entry.services.iter().map(|(at, _)| *at).find(|at| self.services[*at].0 == name)
    }

    /// What the route at that place has.
    pub fn brief(&self, route: usize) -> Brief {
        self.usual[route].brief
    }

    /// The name of the route at that place.
    pub fn name(&self, route: usize) -> &str {
        &self.usual[route].name
    }
}

impl Entry {
    /// Where a request goes, for a number drawn at random.
    pub fn service(&self, drawn: u64) -> Option<usize> {
        if let [(only, _)] = self.services[..] {
            return Some(only);
        }
        let sum: u64 = self.services.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = drawn.checked_rem(sum)?;
        for (service, weight) in &self.services {
            match left.checked_sub(u64::from(*weight)) {
                Some(less) => left = less,
                None => return Some(*service),
            }
        }
        None
    }

    /// The query that the service sees, where that is not the client's.
    pub fn query_sent(&self, query: &[u8]) -> Option<Vec<u8>> {
        let name = self.route.policies.auth.as_ref()?.query()?;
        query::without(query, &[name])
    }

    /// The path of a request whose route this is, as it goes on. Which route that is hangs on one reading of the path: one
    /// that takes another reading takes none.
    pub fn path<'a>(&self, read: &'a Read<'_>) -> Result<&'a str, Ambiguous> {
        let Match { path, is_raw, .. } = &self.route.matches;
        if *is_raw { read.as_it_came(path) } else { read.form() }
    }

    /// The path that the service sees.
    pub fn path_sent<'a>(&self, path: &'a str) -> &'a str {
        match &self.route.matches.path {
            PathPattern::Prefix(prefix) if self.route.strip_prefix => without(path, prefix).unwrap_or(path),
            _ => path,
        }
    }
}

/// That which is equal to it: what many routes ask alike lies in memory once.
fn one_of<T: Eq + Hash>(all: &mut HashSet<Arc<T>>, one: &Arc<T>) -> Arc<T> {
    let found = all.get(one).unwrap_or(one).clone();
    all.insert(found.clone());
    found
}

/// Routes that are for the very same requests.
fn find_ties(document: &Document, faults: &mut Faults) {
    let mut taken = HashMap::new();
    // Paths with fields are compared once for each route, not for each host and method of it: they may be long.
    let mut alike = HashMap::new();
    for (name, route) in &document.routes {
        let Match { hosts, path, methods, headers, is_raw: _ } = &route.matches;
        let hosts: Vec<Option<&HostPattern>> =
            if hosts.is_empty() { vec![None] } else { hosts.iter().map(Some).collect() };
        let methods: Vec<Option<&String>> =
            if methods.is_empty() { vec![None] } else { methods.iter().map(Some).collect() };
        let mut others = HashSet::new();
        let next = alike.len();
        let alike = *alike.entry((path, headers)).or_insert(next);
        for host in &hosts {
            for method in &methods {
                if let Some(other) = taken.insert((*host, *method, alike), name) {
                    others.insert(other);
                }
            }
        }
        for other in others {
            faults.clash(&pointer_to(name), format!("it is for the same requests as the route {other:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
