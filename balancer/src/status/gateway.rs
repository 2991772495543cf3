//! `/gateway` of the admin address: the routes that are in force, what came of them, and what is wrong with a newer
//! document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use skep_console::{Answer, answer};
use skep_gateway::Fault;
use skep_gateway::document::{To, Unmatched};
use skep_gateway::limit::By;
use skep_gateway::shift::WHOLE;

use crate::core::following::{Known, Position};
use crate::core::published::{Published, Seen};
use crate::core::routes::Routes;
use crate::core::shared::Shared;
use crate::core::shifts::Turn;

#[derive(Debug, Serialize)]
struct GatewayStatus {
    /// Where it is followed: null for a document out of a file.
    cluster: Option<ClusterStatus>,
    /// When it was taken, in seconds of Unix time.
    taken_at_s: u64,
    /// Of a newer document, which is not in force for them.
    faults: Vec<Fault>,
    unmatched: &'static str,
    routes: Vec<RouteStatus>,
    services: Vec<ServiceStatus>,
    /// How many there are.
    consumers: usize,
    issuers: usize,
    /// Of the issuers that publish their keys.
    published: Vec<PublishedStatus>,
}

/// What is known of the keys that an issuer publishes.
#[derive(Debug, Serialize)]
struct PublishedStatus {
    issuer: String,
    /// How many are in force.
    keys: usize,
    /// How long ago the last were fetched, also where those count no more; null where none ever were.
    age_s: Option<f64>,
    /// How often they could not be, and why they could not the last time, where that was so.
    failures: u64,
    failure: Option<String>,
}

impl PublishedStatus {
    fn of(issuer: &str, published: &Published) -> Self {
        let Seen { keys, fetched, failures, failure } = published.seen();
        let age = fetched.map(|it| SystemTime::now().duration_since(it).unwrap_or_default());
        Self {
            issuer: issuer.to_owned(),
            keys: keys.map_or(0, |it| it.len()),
            age_s: age.map(|it| it.as_secs_f64()),
            failures,
            failure,
        }
    }
}

/// What is known of the configuration that the cluster keeps.
#[derive(Debug, Serialize)]
struct ClusterStatus {
    /// Whose word is obeyed: `node`, `copy`, `older nodes`, `nobody`.
    word: &'static str,
    lineage: Option<String>,
    revision: Option<u64>,
    /// A newer revision, which this version cannot read.
    refused: Option<u64>,
    /// How long no node has said anything of it.
    age_s: Option<f64>,
    /// The revision of the copy, by which a start serves that hears of no node; null where there is none.
    copied: Option<u64>,
    copy_failed: bool,
}

impl ClusterStatus {
    fn of(known: &Known) -> Self {
        let is_of_history = |it: Position| known.position.is_some_and(|now| now.lineage == it.lineage);
        Self {
            word: known.word.as_str(),
            lineage: known.position.map(|it| format!("{:032x}", it.lineage)),
            revision: known.position.map(|it| it.revision),
            refused: known.refused.map(|it| it.revision),
            age_s: known.age(Instant::now()).map(|it| it.as_secs_f64()),
            copied: known.copied.filter(|it| is_of_history(*it)).map(|it| it.revision),
            copy_failed: known.copy_failed,
        }
    }
}

#[derive(Debug, Serialize)]
struct RouteStatus {
    name: String,
    hosts: Vec<String>,
    path: String,
    methods: Vec<String>,
    /// By name, with what each weighs.
    services: BTreeMap<String, u32>,
    /// That is open.
    shift: Option<ShiftStatus>,
    /// How often it may be asked.
    limits: Vec<String>,
    /// Requests that came too often, by whose limit that was, where there were any.
    limited: BTreeMap<&'static str, u64>,
    /// By the first digit of their status; classes that were never seen are left out.
    answers: BTreeMap<&'static str, u64>,
}

/// What is to be seen here of a route's shift.
#[derive(Debug, Serialize)]
struct ShiftStatus {
    from: String,
    to: String,
    /// How much of what `from` has goes to `to` here.
    share_percent: f64,
    requests: u64,
    failed: u64,
    /// Of these, those that were asked of `from`.
    rescued: u64,
    /// Its rule was broken here: nothing goes over any more.
    left: bool,
}

impl ShiftStatus {
    fn of(turn: &Turn) -> Self {
        Self {
            from: turn.from.clone(),
            to: turn.to.clone(),
            share_percent: f64::from(turn.share()) * 100.0 / f64::from(WHOLE),
            requests: turn.requests.load(Relaxed),
            failed: turn.failed.load(Relaxed),
            rescued: turn.rescued.load(Relaxed),
            left: turn.has_left(),
        }
    }
}

#[derive(Debug, Serialize)]
struct ServiceStatus {
    name: String,
    backends: usize,
    /// Of them, those that requests may go to and that were seen to answer.
    available: usize,
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Of a balancer without a gateway: null.
pub(super) fn shown(shared: &Shared) -> Answer {
    let (routes, known) = (shared.routes.load_full(), shared.following.known());
    let is_none = routes.is_none() && known.is_none();
    // As where there are no routes.
    let routes = routes.unwrap_or_else(|| Arc::new(Routes::closed(shared.pools.skep().clone())));
    answer::json(&(!is_none).then(|| status(shared, &routes, known.as_ref())))
}

fn status(shared: &Shared, routes: &Routes, known: Option<&Known>) -> GatewayStatus {
    let of_routes = routes.table.routes.iter().zip(&routes.counts).map(|(entry, counts)| {
        let matches = &entry.route.matches;
        let services = match &entry.route.to {
            To::Services(to) => to.iter().cloned().collect(),
            To::Redirect(_) => BTreeMap::new(),
        };
        let counted = CLASSES.iter().zip(&counts.answers).map(|(class, count)| (*class, count.load(Relaxed)));
        let limited = By::WORDS.iter().zip(&counts.limited).map(|((by, _), it)| (*by, it.load(Relaxed)));
        RouteStatus {
            name: entry.name.clone(),
            hosts: matches.hosts.iter().map(ToString::to_string).collect(),
            path: matches.path.to_string(),
            methods: matches.methods.clone(),
            services,
            shift: shared.shifts.of(&entry.name).map(|it| ShiftStatus::of(&it)),
            limits: entry.route.policies.limits.iter().map(ToString::to_string).collect(),
            limited: limited.filter(|(_, count)| *count > 0).collect(),
            answers: counted.filter(|(_, count)| *count > 0).collect(),
        }
    });
    let of_services = routes.pools.iter().map(|pool| {
        let set = pool.load();
        ServiceStatus { name: pool.name.clone(), backends: set.known.len(), available: set.able() }
    });
    let (_, _, taken_at_s) = shared.readings.counts();
    GatewayStatus {
        cluster: known.map(ClusterStatus::of),
        taken_at_s,
        faults: shared.readings.faults(),
        unmatched: match routes.table.unmatched {
            Unmatched::Skep => "skep",
            Unmatched::NotFound => "not-found",
        },
        routes: of_routes.collect(),
        services: of_services.collect(),
        consumers: routes.table.consumers.count(),
        issuers: routes.table.consumers.issuers().0.len(),
        published: routes.published.iter().map(|(name, it)| PublishedStatus::of(name, it)).collect(),
    }
}
