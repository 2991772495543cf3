//! Routes out of a file.
//!
//! One task. The file is read again at SIGHUP, and when another file has its name: who writes it anew and renames
//! it is never read half way.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_gateway::Fault;
use tokio::sync::Notify;

use super::super::debts::Debts;
use super::{Keeper, complain};
use crate::config::gateway::{read, shown};
use crate::listen::tls::Certificates;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Reads the file for the first time, and keeps to it from then on. Whoever is told lets it be read again.
pub async fn begin(
    path: &Path,
    alone: bool,
    debts: Debts,
    certificates: Option<Arc<Certificates>>,
) -> anyhow::Result<Arc<Notify>> {
    let keeper = Keeper::new(alone, debts, None, certificates);
    let mut source = Source { path: path.to_owned(), keeper, seen: None };
    if let Err(faults) = source.read().await {
        anyhow::bail!("{}:\n  {}", path.display(), shown(&faults));
    }
    let again = Arc::new(Notify::new());
    tokio::spawn(source.keep(again.clone()));
    Ok(again)
}

struct Source {
    path: PathBuf,
    keeper: Keeper,
    /// The file that was read last.
    seen: Option<Stamp>,
}

/// What tells one file of a name from another: not what is in it.
type Stamp = (u64, u64, Option<SystemTime>);

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.created().ok()))
}

impl Source {
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
            if asked || is_other() {
                self.keeper.rest().await;
                if let Err(faults) = self.read().await {
                    complain(&self.path.display().to_string(), &faults);
                }
            }
            self.keeper.sweep();
        }
    }

    async fn read(&mut self) -> Result<(), Vec<Fault>> {
        self.seen = stamp(&self.path);
        let path = self.path.clone();
        self.keeper.obey(move || read(&path)).await
    }
}
