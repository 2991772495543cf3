//! What is owed by limits as a run starts and as it ends: asked of other balancers, and kept sealed under `--state`.
//!
//! Whoever starts takes it over once it knows the limits, and before anybody is let in by them. One file, `debts.sealed`,
//! goes from one that ends to the next: how long each debt lasts, and when it was written, which only shortens them. It is
//! taken away as it is read, for it is right once. No tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skep_gateway::exchange::debts::{Debt, KEPT_BYTES_MAX, KEPT_MAX, Kept};
use skep_gateway::limit::Scope;
use skep_members::stored::For;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::sealed::{Sealed, Unread};
use crate::core::rates::Held;
use crate::core::routes::Parts;
use crate::core::shared::Shared;

const NAME: &str = "debts.sealed";
/// How long the file is waited for: behind a disk that hangs there is none.
const FILE_MAX: Duration = Duration::from_secs(1);
/// How long other balancers are asked.
pub const ASKED_MAX: Duration = Duration::from_secs(1);

/// Has other balancers asked what is owed by these limits, and says once they were.
#[derive(Debug)]
pub struct Settle {
    pub parts: Arc<Parts>,
    pub done: oneshot::Sender<()>,
}

/// Where what is owed comes from, and where it stays.
#[derive(Debug, Clone)]
pub struct Debts {
    pub shared: Arc<Shared>,
    /// None where nothing is kept.
    pub file: Option<Sealed>,
    /// None where there are no others.
    pub others: Option<mpsc::Sender<Settle>>,
}

impl Debts {
    /// Takes over what is owed by these limits, which are about to be in force.
    pub async fn settle(self, parts: &Arc<Parts>) {
        if let Some(file) = self.file.clone() {
            self.read(file, parts).await;
        }
        let is_common = |it: &Held| it.limit.scope == Scope::Cluster;
        let has_common = parts.limits.iter().any(|it| it.held.iter().any(is_common));
        let Some(others) = self.others.filter(|_| has_common) else { return };
        let (done, told) = oneshot::channel();
        let asked = async {
            if others.send(Settle { parts: parts.clone(), done }).await.is_ok() {
                // Nobody says so where gossip has ended.
                let _ = told.await;
            }
        };
        // Whoever asks ends by itself after as long.
        let _ = timeout(ASKED_MAX * 2, asked).await;
    }

    async fn read(&self, file: Sealed, parts: &Parts) {
        let read = timeout(FILE_MAX, spawn_blocking(move || read(&file, SystemTime::now()))).await;
        let error = match read {
            Ok(Ok(Ok(None))) => return,
            Ok(Ok(Ok(Some(debts)))) => {
                let rates = &self.shared.rates;
                let taken = rates.take_over(&debts, |id| parts.limit(id));
                rates.handed.read.fetch_add(taken, Relaxed);
                return tracing::info!(debts = taken, "what was owed by limits is read (--state)");
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it is not read within {} s", FILE_MAX.as_secs()),
        };
        tracing::warn!(error, "what was owed by limits is not known (--state)");
    }

    /// Keeps what is owed for the next run. For once nobody is let in any more.
    pub async fn keep(self) {
        let Some(file) = self.file else { return };
        let shared = self.shared;
        // It never knew the limits, and what lies there is still to be read; or it had just read it.
        let is_closed = shared.is_closed();
        let written = spawn_blocking(move || {
            let mut debts = shared.rates.all_debts();
            debts.truncate(KEPT_MAX);
            let kept = debts.len() as u64;
            if debts.is_empty() {
                return if is_closed { Ok(kept) } else { file.remove(NAME).map(|()| kept) };
            }
            let written = Kept { written_ms: unix_ms(SystemTime::now()), debts }.encode();
            file.write(NAME, For::Debts, &written)?;
            Ok(kept)
        });
        match timeout(FILE_MAX, written).await {
            Ok(Ok(Ok(debts))) => tracing::info!(debts, "what is owed by limits is written (--state)"),
            Ok(Ok(Err(error))) => tracing::error!(%error, "what is owed by limits is not written (--state)"),
            Ok(Err(error)) => tracing::error!(%error, "what is owed by limits is not written (--state)"),
            Err(_) => tracing::error!("what is owed by limits is not written in time (--state)"),
        }
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is left of what lies there; nothing where nothing does. It is read once.
fn read(file: &Sealed, now: SystemTime) -> Result<Option<Vec<Debt>>, Unread> {
    let Some(plain) = file.read(NAME, For::Debts, KEPT_BYTES_MAX)? else { return Ok(None) };
    let kept = Kept::decode(&plain).map_err(|_| Unread::Content)?;
    file.remove(NAME)?;
    Ok(Some(kept.left(unix_ms(now))))
}
