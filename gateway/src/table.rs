//! Which route a request belongs to: the document's routes, compiled so that what a request costs hangs on its path
//! and not on how many routes there are.
//!
//! Of all routes that a request matches one has it, by a total order (that of the Gateway API's HTTPRoute): an exact
//! host before the longest wildcard before any; an exact path before the longest prefix, by whole segments; one that
//! names its method; the one with the most header fields; the first by name. Two that are for the very same requests
//! are a fault: nothing but their names would tell them apart.
//!
//! A hash of hosts, a trie of segments each, and a few candidates at a leaf. The oracle of its tests is the order,
//! written down.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::auth::Consumers;
use crate::document::{Document, Jwks, Match, Route, SKEP, Service, To, Unmatched, pointer_to};
use crate::fault::{Fault, Faults, Refused};
use crate::host::{HostPattern, parents};
use crate::path::{Ambiguous, PathPattern, Read, bare, segments, without};
use crate::query;

/// Most nodes of the trie: of each host of a route its path's segments.
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
    /// Parameters of queries in which routes take keys.
    key_params: Vec<String>,
    /// Some route takes paths as they came.
    has_raw: bool,
    exact: Named<Node>,
    below: Named<Node>,
    any: Node,
}

/// By names that a document says. Who asks adds none, and so can have none meet in one place: a quick hash is enough.
type Named<T> = HashMap<String, T, foldhash::fast::RandomState>;

/// Where the segments so far lead.
#[derive(Debug, Default)]
struct Node {
    below: Named<Node>,
    /// Routes whose path this is, the first to have it first.
    exact: Vec<u32>,
    /// Those whose prefix this is.
    prefix: Vec<u32>,
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
            ..Self::default()
        };
        let places: HashMap<&str, usize> =
            table.services.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let entry = |(name, route): (String, Route)| {
            let services = match &route.to {
                To::Services(to) => to
                    .iter()
                    .filter_map(|(name, weight)| Some((*places.get(name.as_str())?, *weight)))
                    .collect(),
                To::Redirect(_) => Vec::new(),
            };
            Entry { name, route, services }
        };
        table.routes = document.routes.into_iter().map(entry).collect();
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
        let Entry { name, route, .. } = &self.routes[at];
        let hosts: Vec<Option<&HostPattern>> = match route.matches.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().map(Some).collect(),
        };
        for host in hosts {
            let root = match host {
                None => &mut self.any,
                Some(HostPattern::Exact(host)) => self.exact.entry(host.clone()).or_default(),
                Some(HostPattern::Below(host)) => self.below.entry(host.clone()).or_default(),
            };
            let candidates = root.at(&route.matches.path);
            if candidates.len() == CANDIDATES_MAX {
                let fault = format!("{CANDIDATES_MAX} routes have this host and path already: no more may");
                faults.add(&pointer_to(name), fault);
                return;
            }
            // Routes come by name, so that among equals the first stays first.
            let rank = |at: u32| {
                let Match { methods, headers, .. } = &self.routes[at as usize].route.matches;
                (methods.is_empty(), Reverse(headers.len()))
            };
            let place = candidates.partition_point(|other| rank(*other) <= rank(at as u32));
            candidates.insert(place, at as u32);
        }
    }

    /// The place of the route that has the request; `has` says whether it has a header field with that value.
    pub fn find(&self, asked: Asked<'_>, has: impl Fn(&str, &str) -> bool) -> Option<usize> {
        let fits = |at: &u32| {
            let Match { methods, headers, .. } = &self.routes[*at as usize].route.matches;
            (methods.is_empty() || methods.iter().any(|it| it == asked.method))
                && headers.iter().all(|(name, value)| has(name, value))
        };
        let exact = self.exact.get(asked.host).and_then(|it| it.find(asked.path, fits));
        let found = exact.or_else(|| {
            // Without wildcards, nothing is looked for among them.
            let parents = parents(asked.host).filter(|_| !self.below.is_empty());
            parents.filter_map(|host| self.below.get(host)).find_map(|it| it.find(asked.path, fits))
        });
        found.or_else(|| self.any.find(asked.path, fits)).map(|at| at as usize)
    }
}

impl Node {
    /// The list that a path belongs in.
    fn at(&mut self, path: &PathPattern) -> &mut Vec<u32> {
        let (path, is_prefix) = match path {
            PathPattern::Exact(path) => (path.as_str(), false),
            PathPattern::Prefix(path) => (path.as_str(), true),
        };
        let mut node = self;
        for segment in segments(path).filter(|_| !path.is_empty()) {
            node = node.below.entry(segment.to_owned()).or_default();
        }
        if is_prefix { &mut node.prefix } else { &mut node.exact }
    }

    fn find(&self, path: &str, fits: impl Fn(&u32) -> bool) -> Option<u32> {
        let first = |candidates: &[u32]| candidates.iter().copied().find(&fits);
        let (mut node, mut best) = (self, first(&self.prefix));
        for segment in segments(path) {
            match node.below.get(bare(segment)) {
                Some(below) => node = below,
                None => return best,
            }
            best = first(&node.prefix).or(best);
        }
        first(&node.exact).or(best)
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
