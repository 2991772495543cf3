//! What seals secrets that lie open, and follows a change of the cluster's keys: the leader, once the members have agreed
//! to keep secrets sealed. One task a node, which at all of them counts what lies open or cannot be opened; it may be
//! dropped at any await.
//!
//! What is sealed stays of its revision: nobody who has its tag has another document. Each operation names what was
//! looked at, and does nothing where that is another by now.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_state::command::{Op, OpOutcome};
use skep_state::gateway::{GatewayOp, GatewayOutcome, Revision};
use skep_state::level::Level;
use skep_store::{Raft, Reader};
use tokio::time::{Instant, MissedTickBehavior};

use super::proposer::Proposer;
use super::secrets::{Counts, Opened, Secrets, Stored, Unkept};
use super::status;

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long what is proposed may take to be committed.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries where nothing is carried out: twice as long each time.
const FAILED_PAUSE_MIN: Duration = Duration::from_secs(1);
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the task needs.
#[derive(Clone)]
pub struct Sealing {
    pub node_id: NodeId,
    pub raft: Raft,
    pub reader: Reader,
    pub proposer: Proposer,
    pub secrets: Secrets,
}

/// Of a document that is kept, as far as it was looked at.
#[derive(Debug, Clone, Copy)]
struct Looked {
    /// Under which it was sealed then.
    key: Option<u128>,
    /// Secrets that lie open.
    open: usize,
    /// There is no room for it to be sealed.
    is_left: bool,
}

/// All that are kept, by their revisions.
type All = BTreeMap<Revision, Looked>;

impl Sealing {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut all = All::new();
        let mut rests_until = None::<(Instant, Duration)>;
        loop {
            look.tick().await;
            let metrics = self.raft.metrics().borrow_watched().clone();
            if metrics.running_state.is_err() {
                return;
            }
            self.count(&mut all).await;
            let rests = rests_until.is_some_and(|(until, _)| Instant::now() < until);
            let seals = self.secrets.has_key() && self.reader.level() >= Level::SEALED;
            if rests || !seals || !status::leads_quorum(self.node_id, &metrics) {
                continue;
            }
            match self.work(&mut all).await {
                Ok(is_all) => {
                    rests_until = None;
                    if !is_all {
                        look.reset_immediately();
                    }
                }
                Err(error) => {
                    let pause = rests_until.map_or(FAILED_PAUSE_MIN, |(_, pause)| 2 * pause);
                    let pause = pause.min(FAILED_PAUSE_MAX);
                    tracing::debug!(error, ?pause, "secrets are sealed later");
                    rests_until = Some((Instant::now() + pause, pause));
                }
            }
        }
    }

    /// Looks at what it has not looked at, and counts.
    async fn count(&self, all: &mut All) {
        let (revisions, new, may_old_go) = self.reader.gateway(|gateway| {
            let lineage = gateway.newest().map_or(0, |(revision, _)| revision.lineage);
            let revision = |number| Revision { lineage, number };
            let is_known = |told: &&skep_state::kinds::gateway::Told| {
                all.get(&revision(told.number)).is_some_and(|it| it.key == told.key)
            };
            let new = gateway.history().filter(|told| !is_known(told));
            let new: Vec<_> =
                new.map(|told| (revision(told.number), told.key, told.document.clone())).collect();
            let revisions: Vec<Revision> = gateway.history().map(|told| revision(told.number)).collect();
            (revisions, new, self.secrets.may_old_go(gateway.keys()))
        });
        all.retain(|revision, _| revisions.contains(revision));
        for (revision, key, document) in new {
            let open = match key {
                Some(_) => 0,
                None => {
                    let (secrets, stored) = (self.secrets.clone(), Stored { document, key: None });
                    let counting = move || secrets.open(&stored).map_or(0, |it| it.secrets_open());
                    let Ok(open) = tokio::task::spawn_blocking(counting).await else { return };
                    open
                }
            };
            all.insert(revision, Looked { key, open, is_left: false });
        }
        let newest = self.stored(revisions.last().copied()).filter(|(_, it)| it.key.is_some());
        let absent = match newest {
            None => 0,
            Some((revision, stored)) => {
                self.secrets.told(revision, &stored).await.map_or(0, |told| told.absent)
            }
        };
        let open = all.values().map(|it| it.open).sum();
        self.secrets.note(Counts { open, absent, may_old_go }, SystemTime::now());
    }

    /// A document as it lies now.
    fn stored(&self, which: Option<Revision>) -> Option<(Revision, Stored)> {
        let which = which?;
        self.reader.gateway(|gateway| {
            let lineage = gateway.newest()?.0.lineage;
            let told = gateway.history().find(|told| told.number == which.number)?;
            let stored = Stored { document: told.document.clone(), key: gateway.key_of(told).cloned() };
            (lineage == which.lineage).then_some((which, stored))
        })
    }

    /// Proposes what is to be done next; whether that was all.
    async fn work(&self, all: &mut All) -> Result<bool, String> {
        let keys: Vec<_> = self.reader.gateway(|gateway| gateway.keys().cloned().collect());
        let anew = self.secrets.wrapped_anew(keys.iter());
        if !anew.is_empty() {
            let count = anew.len();
            self.propose(GatewayOp::Wrap { keys: anew }).await?;
            tracing::info!(count, "data keys of secrets are wrapped for the cluster keys of today");
            return Ok(false);
        }
        // The newest first: those before are sealed under the same key.
        let next = all.iter().rev().find(|(_, it)| it.open > 0 && !it.is_left).map(|(revision, _)| *revision);
        let Some(revision) = next else { return Ok(true) };
        let newest = self.stored(all.keys().next_back().copied()).filter(|(of, _)| *of != revision);
        let Some((_, stored)) = self.stored(Some(revision)) else { return Ok(true) };
        let (secrets, from) = (self.secrets.clone(), stored.key.as_ref().map(|key| key.id));
        let sealing = move || seal(&secrets, &stored, newest.as_ref().map(|(_, newest)| newest));
        let sealed = tokio::task::spawn_blocking(sealing).await.map_err(|error| error.to_string())?;
        let outcome = match sealed {
            Ok(Stored { document, key: Some(key) }) => {
                let Revision { lineage, number } = revision;
                self.propose(GatewayOp::Seal { lineage, number, from, document, key }).await?
            }
            Ok(_) | Err(Unkept::TooLarge | Unkept::Absent) => GatewayOutcome::TooLarge,
            Err(Unkept::Unsealed) => return Err(Unkept::Unsealed.to_string()),
        };
        if outcome == GatewayOutcome::TooLarge {
            tracing::warn!(
                revision = revision.number,
                "the document has no room for its secrets to be sealed: they lie open until another is put"
            );
            all.entry(revision).and_modify(|it| it.is_left = true);
        } else {
            tracing::info!(revision = revision.number, "secrets of the gateway's document are sealed");
        }
        Ok(false)
    }

    async fn propose(&self, op: GatewayOp) -> Result<GatewayOutcome, String> {
        let proposed =
            self.proposer.propose(Op::Gateway { time_ms: 0, op }, Instant::now() + PROPOSE_TIMEOUT);
        match proposed.await {
            Ok(OpOutcome::Gateway(outcome)) => Ok(outcome),
            Ok(other) => Err(format!("the store answered another operation: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The sealed form of a document, under the key of the newest where that has one. Takes the processor for long.
fn seal(secrets: &Secrets, stored: &Stored, newest: Option<&Stored>) -> Result<Stored, Unkept> {
    let kept = secrets.open(stored).ok_or(Unkept::Unsealed)?;
    let newest = newest.and_then(|it| Some((secrets.open(it)?, it.key.as_ref())));
    let of: Vec<Opened<'_>> = newest.iter().map(|(kept, key)| Opened { kept, key: *key }).collect();
    secrets.keep(&kept, &of, true)
}
