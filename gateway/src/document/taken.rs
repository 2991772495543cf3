//! A route takes each policy whole from the first that states it: itself, its service, the document's defaults. Nothing
//! is merged.

use std::collections::BTreeMap;

use super::route::{Route, To};
use super::service::{SKEP, Service};
use super::stated::{Origin, Stated, StatedAt, said_by_cors};
use crate::fault::{Faults, below};
use crate::fields::Edits;
use crate::limit::By;
use crate::policy::Policies;

/// What a route takes its policies from where it states none.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// By name.
    pub services: BTreeMap<String, Stated>,
    pub defaults: Stated,
}

impl Around {
    /// Of services and of the defaults: the service that is asked is there.
    pub(super) fn check_asks(&self, services: &BTreeMap<String, Service>, faults: &mut Faults) {
        check_ask(&self.defaults, services, "/defaults", faults);
        for (name, stated) in &self.services {
            check_ask(stated, services, &below("/services", name), faults);
        }
    }

    /// Gives a route its policies, of which it states `own` itself; and says how much it takes from elsewhere, for each
    /// route has its own copy.
    pub(super) fn complete(
        &self,
        route: &mut Route,
        own: &Stated,
        pointer: &str,
        faults: &mut Faults,
    ) -> usize {
        let to = match &route.to {
            To::Services(to) => to.as_slice(),
            To::Redirect(_) => &[],
        };
        // The nodes are built in, and state nothing; what is not there is told of elsewhere.
        let none = Stated::default();
        let services = to.iter().filter_map(|(name, _)| match name.as_str() {
            SKEP => Some((name.as_str(), &none)),
            name => Some((name, self.services.get(name)?)),
        });
        let services = services.collect();
        let mut taking =
            Taking { own, services, defaults: &self.defaults, pointer, from: Vec::new(), faults };
        let policies = Policies {
            maintenance: taking.take("maintenance", |it| it.maintenance.as_ref()),
            https_only: taking.take("https_only", |it| it.https_only.as_ref()),
            addresses: taking.take("addresses", |it| it.addresses.as_ref()),
            limits: taking.take("limits", |it| it.limits.as_ref()),
            auth: taking.take("auth", |it| it.auth.as_ref()),
            ask: taking.take("ask", |it| it.ask.as_ref()),
            body_bytes_max: taking.take("max_body", |it| it.body_bytes_max.as_ref()),
            cache: taking.take("cache", |it| it.cache.as_ref()),
            compress: taking.take("compress", |it| it.compress.as_ref()),
        };
        let cors = taking.take("cors", |it| it.cors.as_ref());
        let request = taking.take("request_headers", |it| it.request.as_ref());
        let response = taking.take("response_headers", |it| it.response.as_ref());
        let from = taking.from;
        (route.policies, route.cors, route.request, route.response, route.from) =
            (policies, cors, request, response, from);
        check(route, pointer, faults);
        taken(route)
    }
}

/// The service that is asked is there, and is one of the document's.
pub(super) fn check_ask(
    stated: &Stated,
    services: &BTreeMap<String, Service>,
    pointer: &str,
    faults: &mut Faults,
) {
    let Some(Some(ask)) = &stated.ask else { return };
    if ask.service == SKEP {
        faults.clash(pointer, "the nodes are no service that is asked whether a request may go on");
    } else if !services.contains_key(&ask.service) {
        faults.clash(pointer, format!("there is no service {:?}", ask.service));
    }
}

/// How much of a route's policies is not its own, in networks; what takes more counts as several.
fn taken(route: &Route) -> usize {
    const FIELD: usize = 4;
    // The edits of answers are made ready for each.
    const ORIGIN: usize = 16;
    let edits = |it: &Edits| FIELD * (it.remove.len() + it.set.len() + it.add.len());
    let of =
        |policy: &str| match policy {
            "maintenance" => route.policies.maintenance.as_ref().map_or(0, |it| it.allow.len()),
            "addresses" => route.policies.addresses.allow.len() + route.policies.addresses.deny.len(),
            "auth" => route.policies.auth.as_ref().map_or(0, |it| {
                FIELD * (it.groups.len() + it.tokens.as_ref().map_or(0, |it| it.issuers.len()))
            }),
            "ask" => route.policies.ask.as_ref().map_or(0, |it| FIELD * (1 + it.send.len() + it.take.len())),
            "compress" => route.policies.compress.as_ref().map_or(0, |it| FIELD * it.types.len()),
            "cors" => route.cors.as_ref().map_or(0, |it| {
                // And with each origin, what all of them are told.
                ORIGIN * it.origins.len() + FIELD * (it.methods.len() + it.headers.len() + it.expose.len())
            }),
            "request_headers" => edits(&route.request),
            "response_headers" => edits(&route.response),
            _ => 0,
        };
    let from_elsewhere = route.from.iter().filter(|it| it.at != StatedAt::Route);
    from_elsewhere.map(|it| 1 + of(it.policy)).sum()
}

/// The policies of one route, as they are taken.
struct Taking<'a> {
    own: &'a Stated,
    services: Vec<(&'a str, &'a Stated)>,
    defaults: &'a Stated,
    pointer: &'a str,
    from: Vec<Origin>,
    faults: &'a mut Faults,
}

impl Taking<'_> {
    fn take<T: Clone + Default + PartialEq>(
        &mut self,
        policy: &'static str,
        of: impl Fn(&Stated) -> Option<&T>,
    ) -> T {
        let mut stated = self.services.iter().map(|(_, it)| of(it));
        let first = stated.next().flatten();
        let (it, at) = if let Some(own) = of(self.own) {
            (own, StatedAt::Route)
        } else if stated.any(|it| it != first) {
            // One of them would be got at by what another states.
            let fault = format!(
                "its services do not all state the same {policy}: the route has to state its own (false: none)"
            );
            self.faults.clash(self.pointer, fault);
            return T::default();
        } else if let Some(it) = first {
            let names: Vec<&str> = self.services.iter().map(|(name, _)| *name).collect();
            (it, StatedAt::Service(names.join(", ")))
        } else if let Some(it) = of(self.defaults) {
            (it, StatedAt::Defaults)
        } else {
            return T::default();
        };
        self.from.push(Origin { policy, at, is_off: *it == T::default() });
        it.clone()
    }
}

/// What does not go together where it comes from several objects.
fn check(route: &Route, pointer: &str, faults: &mut Faults) {
    let limits = &route.policies.limits;
    let at = route.stated_at("limits");
    let by_consumer = limits.iter().position(|it| it.by == By::Consumer);
    if let Some(number) = by_consumer.filter(|_| route.policies.auth.is_none()) {
        let fault = "nobody is asked who it is: a limit by consumer is for routes with auth";
        match at {
            Some(StatedAt::Route) | None => faults.add(&format!("{pointer}/limits/{number}"), fault),
            Some(_) => {
                let fault = format!("{fault}; this one has its limits from elsewhere, and may state its own");
                faults.clash(pointer, fault);
            }
        }
    }
    if let To::Services(to) = &route.to
        && to.len() > 1
        && matches!(at, Some(StatedAt::Service(_)))
        && limits.iter().any(|it| it.is_shared)
    {
        // What one of them gets by this route, its own limit would not know of.
        let fault = "each of its services counts for itself, and which one gets a request is not known when it is counted: \
                     the route has to state its own limits (false: none)";
        faults.clash(pointer, fault);
    }
    if let Some(ask) = &route.policies.ask
        && let Some((name, _)) = route.request.added().find(|(name, _)| ask.takes(name.as_bytes()))
    {
        let fault =
            format!("{name} is taken over from the service that is asked: request_headers must not say it");
        faults.clash(pointer, fault);
    }
    if route.cors.is_some()
        && route.stated_at("cors") != route.stated_at("response_headers")
        && let Some(name) = said_by_cors(&route.response)
    {
        faults.clash(pointer, format!("{name} is what cors says: response_headers must not"));
    }
}

#[cfg(test)]
mod tests;
