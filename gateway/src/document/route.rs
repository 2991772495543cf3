//! A route: which requests it is for, where they go, and what is asked and changed of them on the way.

use std::collections::BTreeMap;

use skep_base::network::Network;
use skep_base::settings::values;

use super::NOTE_BYTES_MAX;
use super::auth;
use super::limits;
use super::methods::{self, METHODS_MAX};
use super::origins;
use super::service::{SKEP, Service};
use crate::auth::jwt::Issuer;
use crate::cors::{self, Cors};
use crate::fault::Faults;
use crate::fields::{self, Edits, is_same};
use crate::host::{self, HostPattern};
use crate::path::{self, PathPattern};
use crate::policy::{Addresses, Maintenance, Policies, Redirect};
use crate::reader::{Fields, Spot};

/// Most hosts, methods and header fields that a route is for, and services that it goes to.
const HOSTS_MAX: usize = 64;
const HEADERS_MAX: usize = 16;
const SERVICES_MAX: usize = 16;
/// Most that a service may weigh among the others of a route.
const WEIGHT_MAX: u32 = 10_000;
/// Most networks in a list, and fields that are edited.
const NETWORKS_MAX: usize = 1024;
const EDITS_MAX: usize = 32;
/// Largest body that a route may admit, in bytes.
const BODY_BYTES_LIMIT: u64 = 1 << 40;
/// Longest wait that may be told.
const RETRY_AFTER_S_MAX: u32 = 7 * 24 * 3600;

/// What is done with the requests that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub matches: Match,
    pub to: To,
    pub policies: Policies,
    /// The path that it matches is cut, so that the service sees what is below it.
    pub strip_prefix: bool,
    pub request: Edits,
    pub response: Edits,
    pub cors: Option<Cors>,
}

/// Which requests a route is for: what is not said may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// None: any.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// None: any.
    pub methods: Vec<String>,
    /// Names and values that must all be there, in order.
    pub headers: Vec<(String, String)>,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// To one of these, by weight.
    Services(Vec<(String, u32)>),
    Redirect(Redirect),
}

impl Default for Match {
    fn default() -> Self {
        let path = PathPattern::Prefix(String::new());
        Self { hosts: Vec::new(), path, methods: Vec::new(), headers: Vec::new() }
    }
}

impl Route {
    pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Self {
        let mut route = Self {
            matches: Match::default(),
            to: To::Services(Vec::new()),
            policies: Policies::default(),
            strip_prefix: false,
            request: Edits::default(),
            response: Edits::default(),
            cors: None,
        };
        let Some(mut fields) = spot.fields(faults) else { return route };
        if let Some(matches) = fields.take("match") {
            route.matches = Match::read(&matches, faults);
        }
        route.to = to(&mut fields, faults);
        if let Some(strip) = fields.take("strip_prefix") {
            route.strip_prefix = strip.switch(faults).unwrap_or_default();
            if route.strip_prefix && matches!(route.matches.path, PathPattern::Exact(_)) {
                faults.add(&strip.pointer, "what is matched exactly has nothing below it");
            }
        }
        let edits = |it: &Spot<'_>, faults: &mut Faults| edits(it, faults).unwrap_or_default();
        if let Some(it) = fields.take("request_headers") {
            route.request = edits_of_request(&it, faults).unwrap_or_default();
            let of_consumers =
                route.request.added().find(|(name, _)| fields::is_of_consumers(name.as_bytes()));
            if let Some((name, _)) = of_consumers {
                let fault =
                    format!("{name} says who was authenticated: that is for the balancer alone to say");
                faults.add(&it.pointer, fault);
            }
        }
        if let Some(it) = fields.take("response_headers") {
            route.response = edits(&it, faults);
        }
        if let Some(it) = fields.take("cors") {
            route.cors = origins::read(&it, faults);
            if let Some((name, _)) = route.response.added().find(|(name, _)| cors::is_ours(name)) {
                faults.add(&it.pointer, format!("{name} is what this says: response_headers must not"));
            }
        }
        route.policies = policies(&mut fields, faults);
        if let Some(it) = fields.take("kong") {
            it.note(NOTE_BYTES_MAX, faults);
        }
        fields.end(faults);
        route
    }

    /// Whether requests may go to that service.
    pub fn leads_to(&self, service: &str) -> bool {
        matches!(&self.to, To::Services(to) if to.iter().any(|(name, _)| name == service))
    }

    pub(super) fn check_services(
        &self,
        services: &BTreeMap<String, Service>,
        pointer: &str,
        faults: &mut Faults,
    ) {
        let To::Services(to) = &self.to else { return };
        for (name, _) in to.iter().filter(|(name, _)| name != SKEP && !services.contains_key(name)) {
            faults.clash(pointer, format!("there is no service {name:?}"));
        }
    }

    /// Each is there, and a token is of one of them at most.
    pub(super) fn check_issuers(
        &self,
        issuers: &BTreeMap<String, Issuer>,
        pointer: &str,
        faults: &mut Faults,
    ) {
        let tokens = self.policies.auth.as_ref().and_then(|it| it.tokens.as_ref());
        let mut known = BTreeMap::new();
        for name in tokens.iter().flat_map(|it| &it.issuers) {
            match issuers.get(name) {
                None => faults.clash(pointer, format!("there is no issuer {name:?}")),
                Some(issuer) => {
                    if let Some(other) = known.insert(&issuer.iss, name) {
                        let fault = format!(
                            "the tokens of the issuers {other:?} and {name:?} are not told apart: they have one iss"
                        );
                        faults.clash(pointer, fault);
                    }
                }
            }
        }
    }
}

impl Match {
    fn read(spot: &Spot<'_>, faults: &mut Faults) -> Self {
        let mut matches = Self::default();
        let Some(mut fields) = spot.fields(faults) else { return matches };
        if let Some(hosts) = fields.take("hosts") {
            let items = hosts.some_items(HOSTS_MAX, faults);
            matches.hosts = items.iter().filter_map(|it| it.read(HostPattern::read, faults)).collect();
            matches.hosts.sort_unstable();
            if matches.hosts.windows(2).any(|two| two[0] == two[1]) {
                faults.add(&hosts.pointer, "a host stands here twice");
            }
        }
        let (prefix, exact) = (fields.take("path"), fields.take("exact_path"));
        if let (Some(_), Some(exact)) = (&prefix, &exact) {
            faults.add(&exact.pointer, "a route has a path or an exact one, not both");
        }
        let prefix = prefix.and_then(|it| it.read(PathPattern::read_prefix, faults));
        let exact = exact.and_then(|it| it.read(PathPattern::read_exact, faults));
        if let Some(path) = exact.or(prefix) {
            matches.path = path;
        }
        if let Some(methods) = fields.take("methods") {
            let items = methods.some_items(METHODS_MAX, faults);
            matches.methods = items.iter().filter_map(|it| it.read(methods::read, faults)).collect();
            matches.methods.sort_unstable();
            if matches.methods.windows(2).any(|two| two[0] == two[1]) {
                faults.add(&methods.pointer, "a method stands here twice");
            }
        }
        if let Some(headers) = fields.take("headers") {
            matches.headers = pairs(&headers, HEADERS_MAX, faults);
            matches.headers.sort_unstable();
        }
        fields.end(faults);
        matches
    }
}

/// Names of fields with one value each.
fn pairs(spot: &Spot<'_>, most: usize, faults: &mut Faults) -> Vec<(String, String)> {
    let members = spot.members(faults);
    if members.len() > most {
        faults.add(&spot.pointer, format!("{} fields are too many: at most {most}", members.len()));
        return Vec::new();
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, spot) in members {
        match (fields::name(name), spot.read(fields::value, faults)) {
            (Err(fault), _) => faults.add(&spot.pointer, fault),
            (Ok(name), Some(_)) if pairs.iter().any(|(other, _)| is_same(name.as_bytes(), other)) => {
                faults.add(&spot.pointer, "this name stands here in another spelling, too");
            }
            (Ok(name), Some(value)) => pairs.push((name, value)),
            (Ok(_), None) => {}
        }
    }
    pairs
}

fn to(fields: &mut Fields<'_>, faults: &mut Faults) -> To {
    let (one, several, redirect) = (fields.take("service"), fields.take("services"), fields.take("redirect"));
    if [one.is_some(), several.is_some(), redirect.is_some()].iter().filter(|it| **it).count() != 1 {
        faults.add(&fields.pointer, "a route has one of \"service\", \"services\" and \"redirect\"");
    }
    if let Some(redirect) = redirect {
        return redirect_of(&redirect, faults).map_or(To::Services(Vec::new()), To::Redirect);
    }
    if let Some(one) = one {
        return To::Services(one.text(faults).map(|name| (name.to_owned(), 1)).into_iter().collect());
    }
    let Some(several) = several else { return To::Services(Vec::new()) };
    let members = several.members(faults);
    if members.is_empty() || members.len() > SERVICES_MAX {
        faults.add(&several.pointer, format!("a route goes to 1 to {SERVICES_MAX} services"));
        return To::Services(Vec::new());
    }
    let weight = |spot: &Spot<'_>, faults: &mut Faults| spot.whole(0..=WEIGHT_MAX, faults).unwrap_or(1);
    let weighted: Vec<(String, u32)> =
        members.iter().map(|(name, spot)| (str::to_owned(name), weight(spot, faults))).collect();
    if weighted.iter().all(|(_, weight)| *weight == 0) {
        faults.add(&several.pointer, "one of them weighs more than 0");
    }
    To::Services(weighted)
}

fn redirect_of(spot: &Spot<'_>, faults: &mut Faults) -> Option<Redirect> {
    let mut fields = spot.fields(faults)?;
    let status = fields.take("status").and_then(|it| it.whole(300..=399, faults).map(|status| (it, status)));
    let status = status.map_or(302, |(it, status)| {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            faults.add(&it.pointer, "expected is 301, 302, 303, 307 or 308");
        }
        status as u16
    });
    let schemes = [("http", "http"), ("https", "https")];
    let scheme = fields.take("scheme").and_then(|it| it.word(&schemes, faults));
    let host = fields.take("host").and_then(|it| it.read(authority, faults));
    let path = fields.take("path").and_then(|it| it.read(place, faults));
    fields.end(faults);
    if scheme.is_none() && host.is_none() && path.is_none() {
        faults.add(&spot.pointer, "it leads to where it came from: say a scheme, a host or a path");
    }
    Some(Redirect { status, scheme, host, path })
}

/// A host, with a port or without.
fn authority(text: &str) -> Result<String, String> {
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    if host::is_name(name) && port_fits {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no host: expected as in example.org or example.org:8443"))
}

/// A path, with a query or without. One that begins with two slashes names a host (RFC 3986, 4.2).
fn place(text: &str) -> Result<String, String> {
    let is_part = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>');
    let fits = text.len() <= path::PATH_BYTES_MAX && text.bytes().all(is_part);
    if fits && text.starts_with('/') && !text.starts_with("//") {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no path: expected as in /new or /new?from=old"))
}

fn edits(spot: &Spot<'_>, faults: &mut Faults) -> Option<Edits> {
    let mut fields = spot.fields(faults)?;
    let mut pairs_of = |name: &str, faults: &mut Faults| {
        fields.take(name).map(|it| pairs(&it, EDITS_MAX, faults)).unwrap_or_default()
    };
    let (set, add) = (pairs_of("set", faults), pairs_of("add", faults));
    let remove = fields.take("remove").map(|it| it.items(EDITS_MAX, faults)).unwrap_or_default();
    let remove: Vec<String> = remove.iter().filter_map(|it| it.read(fields::name, faults)).collect();
    fields.end(faults);
    let edits = Edits { remove, set, add };
    let twice = edits.set.iter().find(|(name, _)| {
        let is_it = |other: &String| is_same(name.as_bytes(), other);
        edits.remove.iter().any(is_it) || edits.add.iter().any(|(other, _)| is_it(other))
    });
    if let Some((name, _)) = twice {
        faults.add(&spot.pointer, format!("{name} is set, and added or removed as well"));
    }
    Some(edits)
}

/// Those of a request. By its key the balancer knows whether a request may be repeated: the one that is sent has to be
/// the one that came.
fn edits_of_request(spot: &Spot<'_>, faults: &mut Faults) -> Option<Edits> {
    const KEY: &str = "idempotency-key";
    let edits = edits(spot, faults)?;
    let mut names = edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|(name, _)| name));
    if names.any(|name| is_same(name.as_bytes(), KEY)) {
        faults.add(&spot.pointer, format!("{KEY} says whether a request may be repeated: it is not edited"));
    }
    Some(edits)
}

fn networks(spot: &Spot<'_>, faults: &mut Faults) -> Vec<Network> {
    let network = |text: &str| {
        let fault = || format!("{text:?} is not a network: expected IP or IP/BITS, as in 10.0.0.0/8");
        Network::parse(text).ok_or_else(fault)
    };
    let items = spot.some_items(NETWORKS_MAX, faults);
    items.iter().filter_map(|it| it.read(network, faults)).collect()
}

fn policies(fields: &mut Fields<'_>, faults: &mut Faults) -> Policies {
    let mut policies = Policies::default();
    if let Some(it) = fields.take("maintenance") {
        policies.maintenance = maintenance(&it, faults);
    }
    if let Some(it) = fields.take("https_only") {
        policies.https_only = it.switch(faults).unwrap_or_default();
    }
    if let Some(mut lists) = fields.take("addresses").and_then(|it| it.fields(faults)) {
        let allow = lists.take("allow").map(|it| networks(&it, faults)).unwrap_or_default();
        let deny = lists.take("deny").map(|it| networks(&it, faults)).unwrap_or_default();
        if allow.is_empty() && deny.is_empty() {
            faults.add(&lists.pointer, "there is neither \"allow\" nor \"deny\"");
        }
        lists.end(faults);
        policies.addresses = Addresses { allow, deny };
    }
    let auth = fields.take("auth");
    let has_auth = auth.is_some();
    policies.auth = auth.and_then(|it| auth::read(&it, faults));
    if let Some(it) = fields.take("limits") {
        policies.limits = limits::read(&it, has_auth, faults);
    }
    let size = |text: &str| values::size(text, BODY_BYTES_LIMIT);
    policies.body_bytes_max = fields.take("max_body").and_then(|it| it.read(size, faults));
    policies
}

/// `true`, or an object that says more.
fn maintenance(spot: &Spot<'_>, faults: &mut Faults) -> Option<Maintenance> {
    if spot.is_switch() {
        return spot.switch(faults)?.then(Maintenance::default);
    }
    let mut fields = spot.fields(faults)?;
    let retry_after_s = fields.take("retry_after_s").and_then(|it| it.whole(1..=RETRY_AFTER_S_MAX, faults));
    let allow = fields.take("allow").map(|it| networks(&it, faults)).unwrap_or_default();
    fields.end(faults);
    Some(Maintenance { retry_after_s, allow })
}
