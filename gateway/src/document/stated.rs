//! What an object states of policies: a route, a service, or the document's defaults. `false` states that there is none.
//! Which of them a route takes is `taken`'s to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_base::network::Network;
use skep_base::settings::values;

use super::{asking, auth, compressing, edits, limits, origins};
use crate::ask::Ask;
use crate::auth::Auth;
use crate::auth::jwt::Issuer;
use crate::compress::Compress;
use crate::cors::{self, Cors};
use crate::fault::Faults;
use crate::fields::Edits;
use crate::limit::Limit;
use crate::policy::{Addresses, Cache, Maintenance, STORED_BYTES_MAX};
use crate::reader::{Fields, Spot};

/// Most networks in a list.
const NETWORKS_MAX: usize = 1024;
/// Largest body that a route may admit, in bytes.
const BODY_BYTES_LIMIT: u64 = 1 << 40;
/// Longest wait that may be told.
const RETRY_AFTER_S_MAX: u32 = 7 * 24 * 3600;
/// Longest that an answer may be used beyond its time.
const GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Policies, each as it is stated: None where nothing is said, and what is none of it where it is switched off.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stated {
    pub maintenance: Option<Option<Maintenance>>,
    pub https_only: Option<bool>,
    pub addresses: Option<Addresses>,
    pub cors: Option<Option<Cors>>,
    pub limits: Option<Vec<Limit>>,
    pub auth: Option<Option<Arc<Auth>>>,
    pub ask: Option<Option<Ask>>,
    pub body_bytes_max: Option<Option<u64>>,
    pub cache: Option<Option<Cache>>,
    pub compress: Option<Option<Compress>>,
    pub request: Option<Edits>,
    pub response: Option<Edits>,
}

/// Where a route has a policy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub policy: &'static str,
    pub at: StatedAt,
    /// It is said there that there is none.
    pub is_off: bool,
}

/// Who states a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatedAt {
    Route,
    /// Where a route goes to several, the names of all.
    Service(String),
    Defaults,
}

impl Stated {
    /// `are_shared`: more than one route may take them.
    pub(super) fn read(fields: &mut Fields<'_>, are_shared: bool, faults: &mut Faults) -> Self {
        let mut stated = Self::default();
        // Some of None: it is switched off.
        let mut given = |name: &str| fields.take(name).map(|it| (!it.is_off()).then_some(it));
        stated.maintenance = given("maintenance").map(|it| it.and_then(|it| maintenance(&it, faults)));
        stated.https_only =
            given("https_only").map(|it| it.and_then(|it| it.switch(faults)).unwrap_or_default());
        stated.addresses =
            given("addresses").map(|it| it.and_then(|it| addresses(&it, faults)).unwrap_or_default());
        stated.auth = given("auth").map(|it| it.and_then(|it| auth::read(&it, faults)).map(Arc::new));
        stated.ask = given("ask").map(|it| it.and_then(|it| asking::read(&it, faults)));
        stated.limits =
            given("limits").map(|it| it.map(|it| limits::read(&it, are_shared, faults)).unwrap_or_default());
        let size = |text: &str| values::size(text, BODY_BYTES_LIMIT);
        stated.body_bytes_max = given("max_body").map(|it| it.and_then(|it| it.read(size, faults)));
        stated.cache = given("cache").map(|it| it.and_then(|it| cache(&it, faults)));
        stated.compress = given("compress").map(|it| it.and_then(|it| compressing::read(&it, faults)));
        stated.request = given("request_headers")
            .map(|it| it.and_then(|it| edits::of_request(&it, faults)).unwrap_or_default());
        stated.response = given("response_headers")
            .map(|it| it.and_then(|it| edits::of_answer(&it, faults)).unwrap_or_default());
        let cors = given("cors");
        let place = cors.iter().flatten().map(|it| it.pointer.clone()).next();
        stated.cors = cors.map(|it| it.and_then(|it| origins::read(&it, faults)));
        if let (Some(place), Some(Some(_)), Some(response)) = (place, &stated.cors, &stated.response)
            && let Some(name) = said_by_cors(response)
        {
            faults.add(&place, format!("{name} is what this says: response_headers must not"));
        }
        stated
    }

    /// Whether a route is the same with it and without.
    pub(super) fn is_none(&self) -> bool {
        self.maintenance.as_ref().is_none_or(Option::is_none)
            && !self.https_only.unwrap_or_default()
            && self.addresses.as_ref().is_none_or(|it| *it == Addresses::default())
            && self.cors.as_ref().is_none_or(Option::is_none)
            && self.limits.as_ref().is_none_or(Vec::is_empty)
            && self.auth.as_ref().is_none_or(Option::is_none)
            && self.ask.as_ref().is_none_or(Option::is_none)
            && self.body_bytes_max.flatten().is_none()
            && self.cache.flatten().is_none()
            && self.compress.as_ref().is_none_or(Option::is_none)
            && self.request.as_ref().is_none_or(Edits::is_empty)
            && self.response.as_ref().is_none_or(Edits::is_empty)
    }

    /// Each issuer is there, and a token is of one of them at most.
    pub(super) fn check_issuers(
        &self,
        issuers: &BTreeMap<String, Issuer>,
        pointer: &str,
        faults: &mut Faults,
    ) {
        let tokens = self.auth.as_ref().and_then(|it| it.as_ref()?.tokens.as_ref());
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

/// A field that `cors` says.
pub(super) fn said_by_cors(response: &Edits) -> Option<&str> {
    response.added().find(|(name, _)| cors::is_ours(name)).map(|(name, _)| name.as_str())
}

/// `true`, or an object that says more.
fn maintenance(spot: &Spot<'_>, faults: &mut Faults) -> Option<Maintenance> {
    if spot.is_switch() {
        return Some(Maintenance::default());
    }
    let mut fields = spot.fields(faults)?;
    let retry_after_s = fields.take("retry_after_s").and_then(|it| it.whole(1..=RETRY_AFTER_S_MAX, faults));
    let allow = fields.take("allow").map(|it| networks(&it, faults)).unwrap_or_default();
    fields.end(faults);
    Some(Maintenance { retry_after_s, allow })
}

/// `true`, or an object that says more.
fn cache(spot: &Spot<'_>, faults: &mut Faults) -> Option<Cache> {
    let mut cache = Cache::default();
    if spot.is_switch() {
        return Some(cache);
    }
    let mut fields = spot.fields(faults)?;
    let size = |text: &str| values::size(text, STORED_BYTES_MAX);
    if let Some(bytes) = fields.take("max_entry").and_then(|it| it.read(size, faults)) {
        cache.entry_bytes_max = bytes;
    }
    let grace = |text: &str| values::duration_up_to(text, GRACE_MAX);
    if let Some(grace) = fields.take("grace").and_then(|it| it.read(grace, faults)) {
        cache.grace_s = grace.as_secs();
    }
    fields.end(faults);
    Some(cache)
}

fn addresses(spot: &Spot<'_>, faults: &mut Faults) -> Option<Addresses> {
    let mut lists = spot.fields(faults)?;
    let allow = lists.take("allow").map(|it| networks(&it, faults)).unwrap_or_default();
    let deny = lists.take("deny").map(|it| networks(&it, faults)).unwrap_or_default();
    if allow.is_empty() && deny.is_empty() {
        faults.add(&lists.pointer, "there is neither \"allow\" nor \"deny\"");
    }
    lists.end(faults);
    Some(Addresses { allow, deny })
}

fn networks(spot: &Spot<'_>, faults: &mut Faults) -> Vec<Network> {
    let network = |text: &str| {
        let fault = || format!("{text:?} is not a network: expected IP or IP/BITS, as in 10.0.0.0/8");
        Network::parse(text).ok_or_else(fault)
    };
    let items = spot.some_items(NETWORKS_MAX, faults);
    items.iter().filter_map(|it| it.read(network, faults)).collect()
}
