//! `/gateway` of the admin address: the routes that are in force, what came of them, and what is wrong with a newer
//! document.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use skep_console::{Answer, answer};
use skep_gateway::Fault;
use skep_gateway::document::{To, Unmatched};

use crate::core::routes::Routes;
use crate::core::shared::Shared;

#[derive(Debug, Serialize)]
struct GatewayStatus {
    /// When it was taken, in seconds of Unix time.
    taken_at_s: u64,
    /// Of a newer document, which is not in force for them.
    faults: Vec<Fault>,
    unmatched: &'static str,
    routes: Vec<RouteStatus>,
    services: Vec<ServiceStatus>,
}

#[derive(Debug, Serialize)]
struct RouteStatus {
    name: String,
    hosts: Vec<String>,
    path: String,
    methods: Vec<String>,
    /// By name, with what each weighs.
    services: BTreeMap<String, u32>,
    /// By the first digit of their status; classes that were never seen are left out.
    answers: BTreeMap<&'static str, u64>,
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
    let routes = shared.routes.load();
    answer::json(&routes.as_ref().map(|routes| status(shared, routes)))
}

fn status(shared: &Shared, routes: &Routes) -> GatewayStatus {
    let of_routes = routes.table.routes.iter().zip(&routes.counts).map(|(entry, counts)| {
        let matches = &entry.route.matches;
        let services = match &entry.route.to {
            To::Services(to) => to.iter().cloned().collect(),
            To::Redirect(_) => BTreeMap::new(),
        };
        let counted = CLASSES.iter().zip(&counts.answers).map(|(class, count)| (*class, count.load(Relaxed)));
        RouteStatus {
            name: entry.name.clone(),
            hosts: matches.hosts.iter().map(ToString::to_string).collect(),
            path: matches.path.to_string(),
            methods: matches.methods.clone(),
            services,
            answers: counted.filter(|(_, count)| *count > 0).collect(),
        }
    });
    let of_services = routes.pools.iter().map(|pool| {
        let set = pool.load();
        ServiceStatus { name: pool.name.clone(), backends: set.known.len(), available: set.able() }
    });
    let (_, _, taken_at_s) = shared.readings.counts();
    GatewayStatus {
        taken_at_s,
        faults: shared.readings.faults(),
        unmatched: match routes.table.unmatched {
            Unmatched::Skep => "skep",
            Unmatched::NotFound => "not-found",
        },
        routes: of_routes.collect(),
        services: of_services.collect(),
    }
}
