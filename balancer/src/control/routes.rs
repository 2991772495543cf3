//! Keeps the routes in force at what they are told to be: by a file, or by the cluster.
//!
//! Two sources of one keeper. What is wrong with a document is said, and what was in force stays; what is right is
//! compiled off the cores, and replaces the routes as a whole once its services can be asked.

pub(super) mod cluster;
pub(super) mod file;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use skep_gateway::document::Unmatched;
use skep_gateway::{Fault, Table};

use super::services::Services;
use crate::config::gateway::FAULTS_SHOWN_MAX;
use crate::core::routes::{RouteCounts, Routes};
use crate::core::shared::Shared;

struct Keeper {
    /// There are no nodes: what no route matches is nowhere.
    alone: bool,
    shared: Arc<Shared>,
    services: Services,
    counts: HashMap<String, Arc<RouteCounts>>,
    /// Routes that were in force, until no core has them: they are freed here.
    old: Vec<Arc<Routes>>,
}

impl Keeper {
    fn new(alone: bool, shared: Arc<Shared>) -> Self {
        Self { alone, shared, services: Services::default(), counts: HashMap::new(), old: Vec::new() }
    }

    /// Reads and compiles it on another thread, and obeys it. With its faults, where it is none to obey.
    async fn obey(
        &mut self,
        read: impl FnOnce() -> Result<Table, Vec<Fault>> + Send + 'static,
    ) -> Result<(), Vec<Fault>> {
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.unwrap_or_else(|error| {
            Err(vec![Fault { pointer: String::new(), fault: format!("it could not be read: {error}") }])
        });
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
        let next = Arc::new(Routes::new(table, pools, counts));
        let before = self.shared.routes.swap(Some(next.clone()));
        self.services.end_others(&next.table);
        self.old.extend(before);
        self.shared.readings.taken(SystemTime::now());
        tracing::info!(routes, services, "the gateway's document is in force");
    }

    /// From now on there is none.
    fn obey_none(&mut self) {
        self.old.extend(self.shared.routes.swap(None));
        (self.services, self.counts) = (Services::default(), HashMap::new());
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
