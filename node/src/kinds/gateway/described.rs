//! A document of the gateway in short, as operators look at it: no key, no secret, and nothing that is kept of one.
//!
//! To read a large one takes long, so what the newest comes to is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use skep_gateway::Document;
use skep_gateway::document::{Route, SKEP, Target, TargetHost, To, Unmatched};
use skep_gateway::policy::{Policies, Redirect};
use skep_gateway::sticky::Sticky;
use skep_state::gateway::Revision;

/// Most URLs of a service that are shown.
const URLS_SHOWN_MAX: usize = 8;

/// What a document says, by names.
#[derive(Debug)]
pub(super) struct Described {
    pub unmatched: &'static str,
    pub routes: Vec<RouteShown>,
    /// The nodes are the first.
    pub services: Vec<ServiceShown>,
    pub consumers: Vec<ConsumerShown>,
    pub issuers: Vec<IssuerShown>,
    pub certificates: Vec<CertificateShown>,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteShown {
    pub name: String,
    hosts: Vec<String>,
    /// `/x/` is for all below it, `=/x` for that alone.
    path: String,
    methods: Vec<String>,
    /// How many fields of a head have to be there.
    headers: usize,
    /// With what each weighs.
    services: BTreeMap<String, u32>,
    redirect: Option<String>,
    /// What is asked of requests, in the order in which it is.
    policies: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ServiceShown {
    pub name: String,
    urls: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ConsumerShown {
    name: String,
    groups: Vec<String>,
    /// How many it has.
    keys: usize,
    passwords: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct IssuerShown {
    name: String,
    /// How many keys it has in the document; null where it publishes them, and balancers know how many.
    keys: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct CertificateShown {
    name: String,
    hosts: Vec<String>,
    /// From when on and until when all of its chain is valid.
    not_before: String,
    not_after: String,
    /// No cluster key here opens its key.
    absent: bool,
}

impl Described {
    /// None where this version cannot read it. Takes the processor for long.
    pub fn read(document: &str) -> Option<Self> {
        Document::read(document).ok().map(Self::of)
    }

    /// That nothing is configured.
    pub fn nothing() -> Self {
        Self::of(Document::default())
    }

    fn of(document: Document) -> Self {
        let services = document.services.into_iter().map(|(name, service)| ServiceShown {
            name,
            urls: service.targets.iter().take(URLS_SHOWN_MAX).map(url).collect(),
        });
        let nodes = ServiceShown { name: SKEP.to_owned(), urls: Vec::new() };
        let consumer = |(name, it): (String, skep_gateway::auth::Consumer)| ConsumerShown {
            name,
            groups: it.groups,
            keys: it.keys.len(),
            passwords: it.passwords.len(),
        };
        let issuer = |(name, it): (String, skep_gateway::auth::jwt::Issuer)| IssuerShown {
            name,
            keys: (!it.is_published).then_some(it.keys.len()),
        };
        let certificate = |(name, it): (String, skep_gateway::document::Certificate)| CertificateShown {
            name,
            absent: it.key.is_none(),
            hosts: it.hosts,
            not_before: rfc3339_of_s(it.not_before_s),
            not_after: rfc3339_of_s(it.not_after_s),
        };
        Self {
            certificates: document.certificates.into_iter().map(certificate).collect(),
            unmatched: match document.unmatched {
                Unmatched::Skep => SKEP,
                Unmatched::NotFound => "not-found",
            },
            routes: document.routes.into_iter().map(|(name, route)| RouteShown::of(name, &route)).collect(),
            services: [nodes].into_iter().chain(services).collect(),
            consumers: document.consumers.into_iter().map(consumer).collect(),
            issuers: document.issuers.into_iter().map(issuer).collect(),
        }
    }
}

/// Of Unix time; what is before it began as its begin.
fn rfc3339_of_s(time_s: i64) -> String {
    super::rfc3339(u64::try_from(time_s).unwrap_or_default().saturating_mul(1000))
}

impl RouteShown {
    fn of(name: String, route: &Route) -> Self {
        let (services, redirect) = match &route.to {
            To::Services(to) => (to.iter().cloned().collect(), None),
            To::Redirect(redirect) => (BTreeMap::new(), Some(leads_to(redirect))),
        };
        let matches = &route.matches;
        let mut policies = policies(&route.policies, route.cors.is_some());
        policies.extend(route.sticky.as_ref().map(|it| match it {
            Sticky::Consumer => "sticky by consumer".to_owned(),
            Sticky::Address => "sticky by address".to_owned(),
            Sticky::Cookie(name) => format!("sticky by the cookie {name}"),
        }));
        policies
            .extend(route.mirror.as_ref().map(|it| format!("{} % copied for {}", it.percent, it.service)));
        Self {
            name,
            hosts: matches.hosts.iter().map(ToString::to_string).collect(),
            path: matches.path.to_string(),
            methods: matches.methods.clone(),
            headers: matches.headers.len(),
            services,
            redirect,
            policies,
        }
    }
}

fn leads_to(redirect: &Redirect) -> String {
    let Redirect { status, scheme, host, path } = redirect;
    // What it does not say is as the request has it.
    let scheme = scheme.map(|it| format!("{it}://")).unwrap_or_default();
    format!("{status} {scheme}{}{}", host.as_deref().unwrap_or("HOST"), path.as_deref().unwrap_or("/…"))
}

fn policies(policies: &Policies, has_cors: bool) -> Vec<String> {
    let Policies { maintenance, https_only, addresses, auth, ask, limits, body_bytes_max, cache, compress } =
        policies;
    let mut words = Vec::new();
    let mut word = |is_there: bool, word: &str| words.extend(is_there.then(|| word.to_owned()));
    word(maintenance.is_some(), "maintenance");
    word(*https_only, "https only");
    word(!addresses.allow.is_empty() || !addresses.deny.is_empty(), "addresses");
    word(has_cors, "cors");
    word(auth.as_ref().is_some_and(|it| it.keys.is_some()), "keys");
    word(auth.as_ref().is_some_and(|it| it.basic), "passwords");
    if let Some(auth) = auth {
        words.extend(auth.tokens.as_ref().map(|it| format!("tokens of {}", it.issuers.join(", "))));
        words.extend((!auth.groups.is_empty()).then(|| format!("groups {}", auth.groups.join(", "))));
    }
    words.extend(ask.as_ref().map(|it| format!("asks {}", it.service)));
    words.extend(limits.iter().map(|it| format!("limit {} per {} by {}", it.rate, it.per, it.by.word())));
    words.extend(body_bytes_max.map(|it| format!("bodies up to {it} bytes")));
    words.extend(cache.map(|_| "cache".to_owned()));
    words.extend(compress.as_ref().map(|_| "compress".to_owned()));
    words
}

fn url(target: &Target) -> String {
    let scheme = if target.is_tls { "https" } else { "http" };
    let host = match &target.host {
        TargetHost::Address(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        TargetHost::Address(ip) => ip.to_string(),
        TargetHost::Name(name) => name.clone(),
    };
    format!("{scheme}://{host}:{}", target.port)
}

/// What the newest document comes to.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Option<(Revision, u64, Arc<Described>)>>);

impl Newest {
    /// `told` is the digest of what balancers are told of it: that hangs on the cluster's keys, too.
    pub fn known(&self, revision: Revision, told: u64) -> Option<Arc<Described>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let it = known.as_ref().filter(|(of, digest, _)| *of == revision && *digest == told);
        it.map(|(.., described)| described.clone())
    }

    pub fn keep(&self, revision: Revision, told: u64, described: Arc<Described>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, told, described));
    }
}
