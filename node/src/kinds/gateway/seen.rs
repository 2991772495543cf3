//! What operators see of the gateway: what its document says in short, which balancers obey it, and what they do.
//!
//! All of it is what this node knows, also where there is no quorum. Of keys and secrets nothing is shown, not even what
//! is kept of them. What balancers say is believed of who has the edge key: names that are not in the document are not
//! shown.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use skep_base::id::NodeId;
use skep_gateway::figures::{CLASSES, Counts, Figures, REASONS};
use skep_members::gossip::{GatewayRevision, NodeState, PeerRecord, Program, View};
use skep_state::gateway::Revision;

use super::described::{CertificateShown, ConsumerShown, Described, IssuerShown, RouteShown, ServiceShown};
use super::shifts::Shown;
use crate::service::figures::Heard;

/// Most routes, services and consumers that are shown one by one: of routes the busiest.
pub(super) const SHOWN_MAX: usize = 500;
/// Most balancers that are shown.
const BALANCERS_SHOWN_MAX: usize = 100;

/// The newest document: which it is, since when, from where, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Documented {
    pub revision: Revision,
    pub time: String,
    pub source: String,
    pub described: Arc<Described>,
}

/// The answer. A rate is null where no balancer has said any yet.
#[derive(Debug, Serialize)]
pub(super) struct Seen<'a> {
    lineage: String,
    /// 0 where nothing is configured.
    revision: u64,
    time: Option<&'a str>,
    source: Option<&'a str>,
    /// What becomes of what no route has.
    unmatched: &'static str,
    /// Of all balancers together, also of requests that have no route.
    #[serde(flatten)]
    all: Done,
    balancers: Vec<BalancerSeen>,
    routes: Vec<RouteSeen<'a>>,
    others: Others,
    services: Vec<ServiceSeen<'a>>,
    /// Those that are open, and the last of routes that are over.
    shifts: Vec<Shown>,
    consumers: &'a [ConsumerShown],
    issuers: &'a [IssuerShown],
    certificates: &'a [CertificateShown],
    /// How many there are in all.
    of: Totals,
}

#[derive(Debug, Serialize)]
struct Totals {
    routes: usize,
    services: usize,
    consumers: usize,
    issuers: usize,
    certificates: usize,
}

/// What was done with requests.
#[derive(Debug, Clone, Default, Serialize)]
struct Done {
    requests_per_s: Option<f64>,
    /// Since each balancer began.
    answers: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
}

/// One balancer, as gossip shows it.
#[derive(Debug, Serialize)]
struct BalancerSeen {
    id: String,
    http: Option<String>,
    version: String,
    state: &'static str,
    /// What it has in force; null where it serves nothing, or obeys no document of the cluster's.
    revision: Option<u64>,
    /// A newer one, which it cannot read.
    refuses: Option<u64>,
    /// `follows`, `late`, `refuses`, `silent`; `apart` where it says nothing of the cluster's document.
    stand: &'static str,
    requests_per_s: Option<f64>,
}

#[derive(Debug, Serialize)]
struct RouteSeen<'a> {
    #[serde(flatten)]
    route: &'a RouteShown,
    #[serde(flatten)]
    done: Done,
}

/// Routes that are not shown one by one, and what balancers had no room to tell one by one.
#[derive(Debug, Serialize)]
struct Others {
    routes: usize,
    #[serde(flatten)]
    done: Done,
}

#[derive(Debug, Serialize)]
struct ServiceSeen<'a> {
    #[serde(flatten)]
    service: &'a ServiceShown,
    /// Most servers that a balancer knows of it, and fewest that one can send requests to; null where none said so.
    servers: Option<u64>,
    available: Option<u64>,
}

/// What several balancers did, summed up.
#[derive(Debug, Clone, Default)]
struct Sum {
    per_s: Option<f64>,
    counts: Counts,
}

impl Sum {
    fn add(&mut self, counts: &Counts, over_ms: u64) {
        self.counts.add(counts);
        if over_ms > 0 {
            *self.per_s.get_or_insert(0.0) += counts.recent as f64 * 1000.0 / over_ms as f64;
        }
    }

    fn and(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        if let Some(per_s) = other.per_s {
            *self.per_s.get_or_insert(0.0) += per_s;
        }
    }

    fn done(&self) -> Done {
        let there = |words: &[&'static str], counts: &[u64]| {
            words
                .iter()
                .zip(counts)
                .filter(|(_, count)| **count > 0)
                .map(|(word, count)| (*word, *count))
                .collect()
        };
        Done {
            requests_per_s: self.per_s.map(rounded),
            answers: there(&CLASSES, &self.counts.answers),
            refused: there(&REASONS, &self.counts.refused),
        }
    }
}

fn rounded(per_s: f64) -> f64 {
    (per_s * 100.0).round() / 100.0
}

/// What there is to see, of what balancers say that this node knows.
pub(super) fn seen<'a>(
    documented: Option<&'a Documented>,
    described: &'a Described,
    (view, heard): (&View, &HashMap<NodeId, Heard>),
    shifts: Vec<Shown>,
) -> Seen<'a> {
    let revision = documented.map(|it| it.revision);
    let balancers: Vec<BalancerSeen> = balancers(view, revision, heard);
    // Of who is gone nothing is summed up.
    let told: Vec<&Figures> =
        view.live.iter().filter_map(|it| heard.get(&it.id)).map(|heard| &heard.told).collect();
    let (mut all, mut others) = (Sum::default(), Sum::default());
    let mut by_route: HashMap<&str, Sum> = HashMap::new();
    for it in &told {
        all.add(&it.all, it.over_ms);
        others.add(&it.rest.counts, it.over_ms);
        for (name, counts) in &it.routes {
            by_route.entry(name).or_default().add(counts, it.over_ms);
        }
    }
    let mut routes: Vec<(&RouteShown, Sum)> = described
        .routes
        .iter()
        .map(|route| (route, by_route.remove(&*route.name).unwrap_or_default()))
        .collect();
    // They are of a document that is not this one.
    by_route.values().for_each(|sum| others.and(sum));
    if routes.len() > SHOWN_MAX {
        routes.sort_by(|(_, a), (_, b)| {
            let busy = |it: &Sum| it.per_s.unwrap_or_default();
            busy(b).total_cmp(&busy(a)).then(b.counts.total().cmp(&a.counts.total()))
        });
        routes.drain(SHOWN_MAX..).for_each(|(_, sum)| others.and(&sum));
        routes.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    }
    let Revision { lineage, number } = revision.unwrap_or(Revision { lineage: 0, number: 0 });
    Seen {
        lineage: format!("{lineage:032x}"),
        revision: number,
        time: documented.map(|it| &*it.time),
        source: documented.map(|it| &*it.source),
        unmatched: described.unmatched,
        all: all.done(),
        balancers,
        others: Others { routes: described.routes.len() - routes.len(), done: others.done() },
        routes: routes.iter().map(|(route, sum)| RouteSeen { route, done: sum.done() }).collect(),
        services: services(described, &told),
        shifts,
        consumers: &described.consumers[..described.consumers.len().min(SHOWN_MAX)],
        issuers: &described.issuers,
        certificates: &described.certificates,
        of: Totals {
            routes: described.routes.len(),
            services: described.services.len(),
            consumers: described.consumers.len(),
            issuers: described.issuers.len(),
            certificates: described.certificates.len(),
        },
    }
}

fn services<'a>(described: &'a Described, told: &[&Figures]) -> Vec<ServiceSeen<'a>> {
    let mut by_service: HashMap<&str, (u64, u64)> = HashMap::new();
    for it in told.iter().flat_map(|it| &it.services) {
        let seen = by_service.entry(&it.name).or_insert((it.known, it.able));
        *seen = (seen.0.max(it.known), seen.1.min(it.able));
    }
    let service = |service: &'a ServiceShown| {
        let seen = by_service.get(&*service.name);
        ServiceSeen { service, servers: seen.map(|it| it.0), available: seen.map(|it| it.1) }
    };
    described.services.iter().take(SHOWN_MAX).map(service).collect()
}

fn balancers(view: &View, newest: Option<Revision>, heard: &HashMap<NodeId, Heard>) -> Vec<BalancerSeen> {
    let is_one = |it: &&PeerRecord| it.program == Program::Balancer && it.state != NodeState::Left;
    let live = view.live.iter().filter(is_one).map(|it| (it, true));
    let all = live.chain(view.dead.iter().filter(is_one).map(|it| (it, false)));
    let is_newest =
        |it: GatewayRevision| newest.is_none_or(|now| it.lineage == now.lineage && it.number >= now.number);
    let shown = |(it, is_live): (&PeerRecord, bool)| {
        let (in_force, refused) = it.gateway.map_or((None, None), |at| (at.in_force, at.refused));
        let stand = match it.gateway {
            _ if !is_live => "silent",
            None => "apart",
            Some(_) if in_force.is_some_and(is_newest) => "follows",
            Some(_) if refused.is_some_and(is_newest) => "refuses",
            Some(_) => "late",
        };
        let per_s = |it: &Heard| {
            let mut sum = Sum::default();
            sum.add(&it.told.all, it.told.over_ms);
            sum.per_s.map(rounded)
        };
        BalancerSeen {
            id: it.id.to_string(),
            http: it.http.map(|address| address.to_string()),
            version: it.version.clone(),
            state: if is_live { it.state.as_str() } else { "dead" },
            revision: in_force.map(|it| it.number),
            refuses: refused.map(|it| it.number),
            stand,
            requests_per_s: heard.get(&it.id).filter(|_| is_live).and_then(per_s),
        }
    };
    all.take(BALANCERS_SHOWN_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests;
