//! Keeps the routes in force at what they are told to be: by a file, or by the cluster.
//!
//! Two sources of one keeper. What is wrong with a document is said, and what was in force stays; what is right is
//! compiled off the cores, and replaces the routes as a whole once its services can be asked. Of documents that follow
//! one another faster than a part of the time reads them (`pace`), the newest is read then.

pub(super) mod cluster;
pub(super) mod file;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use skep_gateway::certificates::Certificates as OfDocument;
use skep_gateway::document::Unmatched;
use skep_gateway::{Fault, Table};

use super::debts::Debts;
use super::issuers::Issuers;
use super::pace::Pace;
use super::sealed::Sealed;
use super::services::Services;
use crate::config::gateway::FAULTS_SHOWN_MAX;
use crate::core::routes::{Parts, RouteCounts, Routes};
use crate::core::shared::Shared;
use crate::listen::tls::Certificates;

struct Keeper {
    /// There are no nodes: what no route matches is nowhere.
    alone: bool,
    shared: Arc<Shared>,
    services: Services,
    issuers: Issuers,
    /// What listeners show to clients; none where there is no TLS.
    certificates: Option<Arc<Certificates>>,
    pace: Pace,
    counts: HashMap<String, Arc<RouteCounts>>,
    /// Routes that were in force, until no core has them: they are freed here.
    old: Vec<Arc<Parts>>,
    /// What was owed before this run; none once anything was in force.
    debts: Option<Debts>,
}

impl Keeper {
    /// `sealed` is where keys that issuers publish are kept.
    fn new(
        alone: bool,
        debts: Debts,
        sealed: Option<Sealed>,
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let shared = debts.shared.clone();
        let (services, issuers) = (Services::default(), Issuers::new(shared.clone(), sealed));
        let (counts, old, debts) = (HashMap::new(), Vec::new(), Some(debts));
        Self { alone, shared, services, issuers, certificates, pace: Pace::default(), counts, old, debts }
    }

    /// To be waited for before the next document is chosen: what came meanwhile is skipped.
    async fn rest(&self) {
        let wait = self.pace.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads and compiles it on another thread, and obeys it. With its faults, where it is none to obey.
    async fn obey(
        &mut self,
        read: impl FnOnce() -> Result<Table, Vec<Fault>> + Send + 'static,
    ) -> Result<(), Vec<Fault>> {
        let read = move || {
            let begun = Instant::now();
            (read(), begun.elapsed())
        };
        let (read, cost) = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
            let fault = Fault { pointer: String::new(), fault: format!("it could not be read: {error}") };
            (Err(vec![fault]), Duration::ZERO)
        });
        self.pace.took(cost, Instant::now());
        match read {
            Ok(table) => {
                self.take(table).await;
                Ok(())
            }
            Err(faults) => {
                self.shared.readings.refused(faults.clone());
                Err(faults)
            }
        }
    }

    async fn take(&mut self, mut table: Table) {
        if self.alone {
            table.unmatched = Unmatched::NotFound;
        }
        let pools = self.services.pools(self.shared.pools.skep(), &table).await;
        let count = |name: &String| self.counts.get(name).cloned().unwrap_or_default();
        let counts: Vec<_> = table.routes.iter().map(|it| count(&it.name)).collect();
        let named = table.routes.iter().map(|it| it.name.clone()).zip(counts.iter().cloned());
        self.counts = named.collect();
        let (routes, services) = (table.routes.len(), table.services.len() - 1);
        let published = self.issuers.follow(&table.jwks);
        let begun = Instant::now();
        self.show(&table.certificates);
        let next = Routes::new(table, pools, counts, published);
        self.pace.took(begun.elapsed(), Instant::now());
        let parts = next.parts().clone();
        if let Some(debts) = self.debts.take() {
            debts.settle(&parts).await;
        }
        let before = self.shared.replace_routes(Some(next));
        self.services.end_others(&parts.table);
        self.issuers.end_others(&parts.table.jwks);
        self.old.extend(before.map(|it| it.parts().clone()));
        self.shared.readings.taken(SystemTime::now());
        tracing::info!(routes, services, "the gateway's document is in force");
    }

    /// Certificates come with the routes: who connects by one is judged by them.
    fn show(&self, certificates: &Arc<OfDocument>) {
        let shown = self.certificates.as_ref().map(|it| it.obey(certificates.clone()));
        if let Some(Err(error)) = shown {
            tracing::error!(%error, "the certificates are left as they were");
        }
    }

    /// From now on there is none.
    fn obey_none(&mut self) {
        self.show(&Arc::default());
        self.old.extend(self.shared.replace_routes(None).map(|it| it.parts().clone()));
        (self.services, self.counts, self.debts) = (Services::default(), HashMap::new(), None);
        self.issuers.end_others(&BTreeMap::new());
        self.shared.readings.taken(SystemTime::now());
    }

    /// Frees what no core has any more.
    fn sweep(&mut self) {
        self.old.retain(|it| Arc::strong_count(it) > 1);
    }
}

/// Says what is wrong with a document that stays out of force.
fn complain(origin: &str, faults: &[Fault]) {
    for Fault { pointer, fault } in faults.iter().take(FAULTS_SHOWN_MAX) {
        tracing::error!(pointer, fault, "the gateway's document");
    }
    let faults = faults.len();
    tracing::error!(origin, faults, "the gateway's document is not taken; the one before stays in force");
}
