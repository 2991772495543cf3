//! Routes whose paths are sent as they came (`match.raw`). What is encoded in them the balancer reads otherwise than the
//! server may: so they lead where no path opens more than another does.

use std::collections::BTreeMap;

use super::route::{Route, To};
use super::{Document, SKEP, Target, pointer_to};
use crate::ask::Ask;
use crate::auth::Auth;
use crate::fault::{Faults, below};
use crate::policy::Addresses;

/// Who may ask.
type Asking<'a> = (Option<&'a Auth>, Option<&'a Ask>, &'a Addresses);

/// The routes to one service, or to one server.
#[derive(Debug, Clone, Copy)]
struct Led<'a> {
    first: &'a str,
    asking: Asking<'a>,
    /// One that admits others than the first.
    other: Option<&'a str>,
}

impl<'a> Led<'a> {
    fn add(&mut self, (route, asking): (&'a str, Asking<'a>)) {
        if self.other.is_none() && self.asking != asking {
            self.other = Some(route);
        }
    }
}

/// All routes to where a raw one leads admit the same.
pub(super) fn check<'a>(document: &'a Document, faults: &mut Faults) {
    if !document.routes.values().any(|it| it.matches.is_raw) {
        return;
    }
    let mut services: BTreeMap<&'a str, Led<'a>> = BTreeMap::new();
    for (name, route) in &document.routes {
        for service in services_of(route) {
            let policies = &route.policies;
            let asking = (policies.auth.as_deref(), policies.ask.as_ref(), &policies.addresses);
            let led = Led { first: name, asking, other: None };
            services.entry(service).or_insert(led).add((name, asking));
        }
    }
    // Two services may have a server in common, which a path reaches by either.
    let mut servers: BTreeMap<String, Led<'a>> = BTreeMap::new();
    for (name, led) in &services {
        for server in servers_of(document, name) {
            let of_server = servers.entry(server).or_insert(*led);
            of_server.add((led.first, led.asking));
            of_server.other = of_server.other.or(led.other);
        }
    }
    // Once for each service, and not for each route: it may have many servers, and many routes lead there.
    let differs = |(name, led): (&&'a str, &Led<'a>)| {
        let mut at = servers_of(document, name).into_iter().filter_map(|it| servers.get(&it));
        let led = Some(led).filter(|it| it.other.is_some()).or_else(|| at.find(|it| it.other.is_some()));
        led.and_then(|it| Some((*name, (it.first, it.other?))))
    };
    let differing: BTreeMap<&str, (&str, &str)> = services.iter().filter_map(differs).collect();
    for (name, route) in document.routes.iter().filter(|(_, it)| it.matches.is_raw) {
        let pointer = below(&below(&pointer_to(name), "match"), "raw");
        if matches!(route.to, To::Redirect(_)) {
            faults.add(&pointer, "a raw path is for a service: where this leads it would be read again");
        }
        for service in services_of(route) {
            if service == SKEP {
                faults.add(&pointer, "the nodes have no such paths");
                continue;
            }
            if let Some((first, other)) = differing.get(service) {
                let fault = format!(
                    "the routes {first:?} and {other:?} lead to {service:?}, or to a server of it, and differ in auth, \
                     ask or addresses: what one of them keeps out could get there by a raw path"
                );
                faults.clash(&pointer, fault);
            }
        }
    }
}

fn services_of(route: &Route) -> impl Iterator<Item = &str> {
    let services = match &route.to {
        To::Services(to) => to.as_slice(),
        To::Redirect(_) => &[],
    };
    services.iter().map(|(name, _)| name.as_str())
}

fn servers_of(document: &Document, service: &str) -> Vec<String> {
    document.services.get(service).into_iter().flat_map(|it| &it.targets).map(Target::authority).collect()
}

#[cfg(test)]
mod tests {
    use crate::document::Document;

    const SERVICES: &str = "consumers.a.keys = [\"0123456789abcdef\"]\n[services]\na.urls = [\"http://a:1\"]\n\
        same.urls = [\"http://b:1\", \"http://a:1\"]\nother.urls = [\"http://c:1\"]\n";

    fn faults(routes: &str) -> Vec<String> {
        let read = Document::read(&format!("{SERVICES}[routes]\n{routes}\n"));
        read.err().unwrap_or_default().into_iter().map(|it| it.pointer).collect()
    }

    #[test]
    fn a_raw_path_leads_where_all_routes_admit_the_same() {
        let raw = "r = {match = {path = \"/r\", raw = true}, service = \"a\"}\n";
        let with = |more: &str| format!("{raw}t = {{match.path = \"/t\", {more}}}");
        for (routes, is_well) in [
            (raw.to_owned(), true),
            (with("service = \"a\""), true),
            (with("service = \"other\", auth.keys = true"), true),
            (with("service = \"a\", limits = [{rate = 1, per = \"hour\", by = \"address\"}]"), true),
            (with("service = \"a\", auth.keys = true"), false),
            (with("service = \"a\", addresses.allow = [\"10.0.0.0/8\"]"), false),
            (with("services = {other = 1, a = 0}, auth.keys = true"), false),
            // The same server, by another name.
            (with("service = \"same\", auth.keys = true"), false),
            (with("service = \"same\""), true),
            (raw.replace("\"a\"}", "\"a\", auth.keys = true}"), true),
        ] {
            let expected: &[&str] = if is_well { &[] } else { &["/routes/r/match/raw"] };
            assert_eq!(faults(&routes), expected, "{routes}");
        }
        let groups = |of: &str| format!("auth = {{keys = true, groups = [\"{of}\"]}}");
        let both = |of: &str| {
            let raw = raw.replace("\"a\"}", &format!("\"a\", {}}}", groups("x")));
            format!("{raw}t = {{match.path = \"/t\", service = \"a\", {}}}", groups(of))
        };
        assert!(faults(&both("x")).is_empty());
        assert_eq!(faults(&both("y")), ["/routes/r/match/raw"]);
    }

    #[test]
    fn a_raw_path_leads_to_a_service_of_others() {
        for to in ["service = \"skep\"", "services = {a = 1, skep = 0}", "redirect.path = \"/x\""] {
            assert_eq!(faults(&format!("r = {{match.raw = true, {to}}}")), ["/routes/r/match/raw"], "{to}");
        }
        assert_eq!(faults("r = {match.raw = 7, service = \"a\"}"), ["/routes/r/match/raw"]);
        // What is inherited counts as what is stated.
        let inherited = format!(
            "{SERVICES}[services.s]\nurls = [\"http://s:1\"]\nauth.keys = true\n[routes]\n\
            r = {{match.raw = true, service = \"s\"}}\nt = {{match.path = \"/t\", service = \"s\", auth = false}}\n"
        );
        let found = Document::read(&inherited).unwrap_err();
        assert_eq!(found[0].pointer, "/routes/r/match/raw");
    }
}
