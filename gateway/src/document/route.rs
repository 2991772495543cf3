//! A route: which requests it is for, where they go, and what is asked and changed of them on the way.

use std::collections::BTreeMap;

use super::NOTE_BYTES_MAX;
use super::edits::pairs;
use super::methods::{self, METHODS_MAX};
use super::mirror::Mirror;
use super::service::{SKEP, Service};
use super::stated::{Origin, Stated, StatedAt};
use crate::cors::Cors;
use crate::fault::{Faults, below};
use crate::fields::Edits;
use crate::host::{self, HostPattern};
use crate::limit::Limit;
use crate::path::{self, PathPattern};
use crate::policy::{Policies, Redirect};
use crate::reader::{Fields, Spot};
use crate::sticky::{COOKIE, Sticky, read_cookie_name};

/// Most hosts, methods and header fields that a route is for, and services that it goes to.
const HOSTS_MAX: usize = 64;
const HEADERS_MAX: usize = 16;
const SERVICES_MAX: usize = 16;
/// Most that a service may weigh among the others of a route.
const WEIGHT_MAX: u32 = 10_000;

/// What is done with the requests that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub matches: Match,
    pub to: To,
    /// Which of several services who asks has, again and again.
    pub sticky: Option<Sticky>,
    /// Who gets a copy of its requests.
    pub mirror: Option<Mirror>,
    pub policies: Policies,
    /// The path that it matches is cut, so that the service sees what is below it.
    pub strip_prefix: bool,
    pub request: Edits,
    pub response: Edits,
    pub cors: Option<Cors>,
    /// Where each policy comes from that is stated anywhere.
    pub from: Vec<Origin>,
}

/// Which requests a route is for: what is not said may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// None: any.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// The path is as it came: it is the route's to the letter, and is sent so.
    pub is_raw: bool,
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
        Self { hosts: Vec::new(), path, is_raw: false, methods: Vec::new(), headers: Vec::new() }
    }
}

impl Route {
    /// One, and what it states of policies: it has none yet.
    pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> (Self, Stated) {
        let mut route = Self {
            matches: Match::default(),
            to: To::Services(Vec::new()),
            sticky: None,
            mirror: None,
            policies: Policies::default(),
            strip_prefix: false,
            request: Edits::default(),
            response: Edits::default(),
            cors: None,
            from: Vec::new(),
        };
        let Some(mut fields) = spot.fields(faults) else { return (route, Stated::default()) };
        if let Some(matches) = fields.take("match") {
            route.matches = Match::read(&matches, faults);
        }
        route.to = to(&mut fields, faults);
        if let Some(it) = fields.take("sticky") {
            route.sticky = sticky(&it, faults);
            if !matches!(&route.to, To::Services(to) if to.len() > 1) {
                faults.add(&it.pointer, "there is nothing to choose: the route has one service, or none");
            }
        }
        if let Some(it) = fields.take("mirror") {
            route.mirror = Mirror::read(&it, faults);
            if matches!(route.to, To::Redirect(_)) {
                faults.add(&it.pointer, "the route leads to no service: there is nothing to copy");
            }
            if route.matches.is_raw {
                faults.add(&it.pointer, "a raw path is sent as it came to one service alone");
            }
        }
        if let Some(strip) = fields.take("strip_prefix") {
            route.strip_prefix = strip.switch(faults).unwrap_or_default();
            if route.strip_prefix && matches!(route.matches.path, PathPattern::Exact(_)) {
                faults.add(&strip.pointer, "what is matched exactly has nothing below it");
            }
        }
        let stated = Stated::read(&mut fields, false, faults);
        super::take_source(&mut fields, faults);
        if let Some(it) = fields.take("kong") {
            it.note(NOTE_BYTES_MAX, faults);
        }
        fields.end(faults);
        (route, stated)
    }

    /// Where it has a policy from, if that is stated anywhere.
    pub fn stated_at(&self, policy: &str) -> Option<&StatedAt> {
        self.from.iter().find(|it| it.policy == policy).map(|it| &it.at)
    }

    /// Whose requests a limit of it counts together: those of the object that states it, or those of this route, which
    /// has this name.
    pub fn counted(&self, limit: &Limit, name: &str) -> String {
        match self.stated_at("limits").filter(|_| limit.is_shared) {
            Some(StatedAt::Service(service)) => format!("services/{service}"),
            // No route has such a name.
            Some(StatedAt::Defaults) => "/defaults".to_owned(),
            Some(StatedAt::Route) | None => name.to_owned(),
        }
    }

    /// Whether requests may go to that service.
    pub fn leads_to(&self, service: &str) -> bool {
        matches!(&self.to, To::Services(to) if to.iter().any(|(name, _)| name == service))
    }

    /// Who is to be known by what is not asked for is not known.
    pub(super) fn check_sticky(&self, pointer: &str, faults: &mut Faults) {
        if self.sticky == Some(Sticky::Consumer) && self.policies.auth.is_none() {
            let fault = "it goes by consumer, and the route asks nobody who that is: it has no auth";
            faults.add(&below(pointer, "sticky"), fault);
        }
    }

    pub(super) fn check_services(
        &self,
        services: &BTreeMap<String, Service>,
        pointer: &str,
        faults: &mut Faults,
    ) {
        if let Some(Mirror { service, .. }) = &self.mirror
            && service != SKEP
            && !services.contains_key(service)
        {
            faults.clash(&below(pointer, "mirror"), format!("there is no service {service:?}"));
        }
        let To::Services(to) = &self.to else { return };
        for (name, _) in to.iter().filter(|(name, _)| name != SKEP && !services.contains_key(name)) {
            faults.clash(pointer, format!("there is no service {name:?}"));
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
        matches.is_raw = fields.take("raw").and_then(|it| it.switch(faults)).unwrap_or_default();
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

/// By what who asks is known again: a word, or a cookie of a name.
fn sticky(spot: &Spot<'_>, faults: &mut Faults) -> Option<Sticky> {
    if spot.is_text() {
        return match spot.word(&[("consumer", 0), ("address", 1), ("cookie", 2)], faults)? {
            0 => Some(Sticky::Consumer),
            1 => Some(Sticky::Address),
            _ => Some(Sticky::Cookie(COOKIE.to_owned())),
        };
    }
    let mut fields = spot.fields(faults)?;
    let name = match fields.take("cookie") {
        Some(it) => it.read(read_cookie_name, faults),
        None => {
            faults.add(&spot.pointer, "expected is \"consumer\", \"address\", \"cookie\" or {cookie = NAME}");
            None
        }
    };
    fields.end(faults);
    name.map(Sticky::Cookie)
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
