//! The document: services, routes, consumers, issuers and certificates by their names. All of it holds, or nothing does.
//!
//! `service`, `route`, `consumer`, `issuer` and `certificate` read one object each; here is what holds between them. What two of them say of the same
//! requests is `table`'s to see.

mod asking;
mod auth;
pub(crate) mod certificate;
mod compressing;
pub(crate) mod consumer;
mod edits;
mod issuer;
mod jwks;
mod limits;
mod methods;
mod mirror;
mod origins;
pub(crate) mod passwords;
mod raw;
mod route;
pub(crate) mod secrets;
mod service;
pub mod sources;
mod stated;
mod taken;
mod target;
mod tls;

use std::collections::BTreeMap;

pub use self::certificate::{CERTIFICATE_HOSTS_MAX, CERTIFICATES_MAX, Certificate, validity_s};
pub use self::consumer::{GROUPS_MAX, KEYS_MAX, PASSWORDS_MAX};
pub use self::issuer::{ISSUER_KEYS_MAX, KeySet, SET_BYTES_MAX};
pub use self::jwks::Jwks;
pub use self::limits::LIMITS_MAX;
pub use self::mirror::Mirror;
pub use self::passwords::PASSWORDS_GIVEN_MAX;
pub use self::route::{Match, Route, To};
pub use self::service::{Host, Probe, SKEP, Service};
use self::stated::Stated;
pub use self::stated::{Origin, StatedAt};
use self::taken::Around;
pub use self::target::{Target, TargetHost};
pub use self::tls::Tls;
use crate::auth::Consumer;
use crate::auth::jwt::Issuer;
use crate::fault::{Fault, Faults, Refused, below};
use crate::names::is_name;
use crate::reader::{Fields, Spot};
use crate::value::Value;

pub use crate::names::NAME_BYTES_MAX;
pub use crate::value::DOCUMENT_BYTES_MAX;

/// Most services, routes, consumers, issuers and certificates together.
pub const OBJECTS_MAX: usize = 32_768;
/// Most issuers: each key of theirs is made ready at each change.
pub const ISSUERS_MAX: usize = 256;

/// Most that all routes together take of policies of services and defaults: networks, or what counts as several.
pub const TAKEN_MAX: usize = 1 << 20;

/// Longest note of a route or a consumer (`kong`), as JSON, in bytes: what a balancer's door for Kong's clients keeps
/// there, which says nothing of requests.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// The kinds of objects, as a document names them.
pub const KINDS: [&str; 5] = ["certificates", "consumers", "issuers", "routes", "services"];

/// What becomes of what no route matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// It goes to the nodes, as it came.
    #[default]
    Skep,
    /// 404.
    NotFound,
}

/// What a gateway is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    pub unmatched: Unmatched,
    pub services: BTreeMap<String, Service>,
    pub routes: BTreeMap<String, Route>,
    pub consumers: BTreeMap<String, Consumer>,
    pub issuers: BTreeMap<String, Issuer>,
    /// Where the keys of issuers are fetched that publish them, by the issuer's name.
    pub jwks: BTreeMap<String, Jwks>,
    pub certificates: BTreeMap<String, Certificate>,
}

impl Document {
    /// Reads one, JSON or TOML: with every fault, where there are any.
    pub fn read(text: &str) -> Result<Self, Vec<Fault>> {
        let tree = Value::of_document(text).map_err(|refusal| refusal.faults)?;
        Self::judge(&tree).map_err(|refusal| refusal.faults)
    }

    /// The document of a tree.
    pub(crate) fn judge(tree: &Value) -> Result<Self, Refused> {
        let mut faults = Faults::default();
        let document = Self::of(&Spot::of(tree), &mut faults);
        faults.none_or(document)
    }

    fn of(spot: &Spot<'_>, faults: &mut Faults) -> Self {
        let mut document = Self::default();
        let Some(mut fields) = spot.fields(faults) else { return document };
        let unmatched = fields.take("unmatched");
        let defaults = fields.take("defaults");
        let services = fields.take("services").map(|it| it.members(faults)).unwrap_or_default();
        let routes = fields.take("routes").map(|it| it.members(faults)).unwrap_or_default();
        let consumers = fields.take("consumers").map(|it| it.members(faults)).unwrap_or_default();
        let issuers = fields.take("issuers").map(|it| it.members(faults)).unwrap_or_default();
        let certificates = fields.take("certificates").map(|it| it.members(faults)).unwrap_or_default();
        fields.end(faults);
        let count = services.len() + routes.len() + consumers.len() + issuers.len() + certificates.len();
        if count > OBJECTS_MAX {
            let fault = format!(
                "{count} services, routes, consumers, issuers and certificates are too many: at most {OBJECTS_MAX}"
            );
            faults.add("", fault);
            return document;
        }
        if issuers.len() > ISSUERS_MAX {
            faults.add("/issuers", format!("{} issuers are too many: at most {ISSUERS_MAX}", issuers.len()));
            return document;
        }
        if certificates.len() > CERTIFICATES_MAX {
            let fault =
                format!("{} certificates are too many: at most {CERTIFICATES_MAX}", certificates.len());
            faults.add("/certificates", fault);
            return document;
        }
        for (name, spot) in certificates {
            check_name(name, &spot, faults);
            document.certificates.extend(certificate::read(&spot, faults).map(|it| (name.to_owned(), it)));
        }
        certificate::find_ties(&document.certificates, faults);
        for (name, spot) in issuers {
            check_name(name, &spot, faults);
            let (issuer, jwks) = issuer::read(&spot, faults);
            document.issuers.insert(name.to_owned(), issuer);
            document.jwks.extend(jwks.map(|it| (name.to_owned(), it)));
        }
        let mut around = Around::default();
        if let Some(spot) = defaults
            && let Some(mut fields) = spot.fields(faults)
        {
            around.defaults = Stated::read(&mut fields, true, faults);
            fields.end(faults);
            around.defaults.check_issuers(&document.issuers, &spot.pointer, faults);
        }
        for (name, spot) in services {
            check_name(name, &spot, faults);
            if name == SKEP {
                faults.add(&spot.pointer, "this name is the nodes': they are built in");
            }
            let (service, stated) = Service::read(&spot, faults);
            stated.check_issuers(&document.issuers, &spot.pointer, faults);
            document.services.insert(name.to_owned(), service);
            around.services.insert(name.to_owned(), stated);
        }
        around.check_asks(&document.services, faults);
        let mut taken = 0;
        for (name, spot) in routes {
            if faults.are_all() {
                return document;
            }
            check_name(name, &spot, faults);
            let (mut route, stated) = Route::read(&spot, faults);
            route.check_services(&document.services, &spot.pointer, faults);
            stated.check_issuers(&document.issuers, &spot.pointer, faults);
            taken::check_ask(&stated, &document.services, &spot.pointer, faults);
            taken += around.complete(&mut route, &stated, &spot.pointer, faults);
            route.check_sticky(&spot.pointer, faults);
            if taken > TAKEN_MAX {
                // Each has a copy of it: a small document would be a large table.
                let fault = "the routes take more of policies that services and defaults state than a table may have: \
                             fewer networks, origins, fields or routes";
                faults.add(&spot.pointer, fault);
                return document;
            }
            document.routes.insert(name.to_owned(), route);
        }
        raw::check(&document, faults);
        let mut owners = consumer::Owners::default();
        for (name, spot) in consumers {
            check_name(name, &spot, faults);
            document.consumers.insert(name.to_owned(), consumer::read(name, &spot, &mut owners, faults));
        }
        // Who is kept from a route to the nodes would get there by any other path; and what is said of all routes is not
        // kept to where there is none.
        let guarded = |it: &Route| it.leads_to(SKEP) && it.policies.is_guarded();
        if !around.defaults.is_none() || document.routes.values().any(guarded) {
            document.unmatched = Unmatched::NotFound;
        }
        if let Some(spot) = unmatched {
            let words = [("skep", Unmatched::Skep), ("not-found", Unmatched::NotFound)];
            let given = spot.word(&words, faults);
            if given == Some(Unmatched::Skep) && !around.defaults.is_none() {
                let fault = "the defaults are those of routes: what no route has would go to the nodes without them. \
                             A route for all that is left has them: {service = \"skep\"}";
                faults.add(&spot.pointer, fault);
            }
            document.unmatched = given.unwrap_or(document.unmatched);
        }
        document
    }
}

/// Whose an object is, which says nothing of requests (see `kept`).
fn take_source(fields: &mut Fields<'_>, faults: &mut Faults) {
    if let Some(source) = fields.take("source") {
        source.read(name, faults);
    }
}

fn check_name(name: &str, spot: &Spot<'_>, faults: &mut Faults) {
    if let Err(fault) = self::name(name) {
        faults.add(&spot.pointer, fault);
    }
}

/// The name of an object or of a group.
fn name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("a name is 1 to {NAME_BYTES_MAX} letters, digits, '-', '.' and '_'"))
}

/// The pointer to a route.
pub(crate) fn pointer_to(route: &str) -> String {
    below("/routes", route)
}

#[cfg(test)]
mod large;
#[cfg(test)]
mod tests;
