//! Keeps the routes in force at what the gateway's file says.
//!
//! One task. The file is read again at SIGHUP, and when another file has its name: who writes it anew and renames
//! it is never read half way. What is wrong with it is said, and what was in force stays; what is right is compiled
//! off the cores, and replaces the routes as a whole once its services can be asked.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_gateway::document::Unmatched;
use skep_gateway::{Fault, Table};
use tokio::sync::Notify;

use super::services::Services;
use crate::config::gateway::{FAULTS_SHOWN_MAX, read, shown};
use crate::core::routes::{RouteCounts, Routes};
use crate::core::shared::Shared;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Reads the file for the first time, and keeps to it from then on. Whoever is told lets it be read again.
pub(super) async fn begin(path: &Path, alone: bool, shared: Arc<Shared>) -> anyhow::Result<Arc<Notify>> {
    let (services, counts) = (Services::default(), HashMap::new());
    let mut keeper =
        Keeper { path: path.to_owned(), alone, shared, services, counts, seen: None, old: Vec::new() };
    if let Err(faults) = keeper.read().await {
        anyhow::bail!("{}:\n  {}", path.display(), shown(&faults));
    }
    let again = Arc::new(Notify::new());
    tokio::spawn(keeper.keep(again.clone()));
    Ok(again)
}

struct Keeper {
    path: PathBuf,
    /// There are no nodes: what no route matches is nowhere.
    alone: bool,
    shared: Arc<Shared>,
    services: Services,
    counts: HashMap<String, Arc<RouteCounts>>,
    /// The file that was read last.
    seen: Option<Stamp>,
    /// Routes that were in force, until no core has them: they are freed here.
    old: Vec<Arc<Routes>>,
}

/// What tells one file of a name from another: not what is in it.
type Stamp = (u64, u64, Option<SystemTime>);

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.created().ok()))
}

impl Keeper {
    async fn keep(mut self, again: Arc<Notify>) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = again.notified() => true,
                _ = looks.tick() => false,
            };
            // One that is gone may be about to come back.
            let is_other = || stamp(&self.path).is_some_and(|now| Some(now) != self.seen);
            if (asked || is_other())
                && let Err(faults) = self.read().await
            {
                for Fault { pointer, fault } in faults.iter().take(FAULTS_SHOWN_MAX) {
                    tracing::error!(pointer, fault, "the gateway's document");
                }
                let (file, faults) = (self.path.display(), faults.len());
                tracing::error!(%file, faults, "the gateway's document is not taken; the one before stays in force");
            }
            self.old.retain(|it| Arc::strong_count(it) > 1);
        }
    }

    async fn read(&mut self) -> Result<(), Vec<Fault>> {
        self.seen = stamp(&self.path);
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let read = read.unwrap_or_else(|error| {
            Err(vec![Fault { pointer: String::new(), fault: format!("it could not be read: {error}") }])
        });
        let readings = &self.shared.readings;
        match read {
            Ok(table) => {
                self.take(table).await;
                self.shared.readings.taken(SystemTime::now());
                Ok(())
            }
            Err(faults) => {
                readings.refused(faults.clone());
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
        tracing::info!(routes, services, "the gateway's document is in force");
    }
}
