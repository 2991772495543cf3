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
use super::pulse::{Pulse, SILENCE_MAX};
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
    /// Since when it is known that what is here is what the cluster has.
    pub pulse: Pulse,
}

/// Of a document that is kept, as far as it was looked at.
#[derive(Debug, Clone)]
struct Looked {
    /// The data keys that it named then.
    keys: Vec<u128>,
    /// Secrets that lie open.
    open: usize,
    /// Nothing can be made of it: there is no room for it to be sealed.
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
        let (revisions, new, are_wrapped, past_absent) = self.reader.gateway(|gateway| {
            let lineage = gateway.newest().map_or(0, |(revision, _)| revision.lineage);
            let revision = |number| Revision { lineage, number };
            let is_known = |told: &&skep_state::kinds::gateway::Told| {
                all.get(&revision(told.number)).is_some_and(|it| it.keys == told.keys)
            };
            let new = gateway.history().filter(|told| !is_known(told));
            let new: Vec<_> =
                new.map(|told| (revision(told.number), told.keys.clone(), told.document.clone())).collect();
            let revisions: Vec<Revision> = gateway.history().map(|told| revision(told.number)).collect();
            let past = gateway.history().rev().skip(1);
            let past_absent = past.filter(|told| self.secrets.has_absent(gateway.keys_of(told))).count();
            (revisions, new, self.secrets.are_wrapped(gateway.keys()), past_absent)
        });
        all.retain(|revision, _| revisions.contains(revision));
        for (revision, keys, document) in new {
            let mut open = 0;
            if keys.is_empty() {
                let (secrets, stored) = (self.secrets.clone(), Stored { document, keys: Vec::new() });
                let counting = move || secrets.open(&stored).map_or(0, |it| it.secrets_open());
                let Ok(counted) = tokio::task::spawn_blocking(counting).await else { return };
                open = counted;
            }
            all.insert(revision, Looked { keys, open, is_left: false });
        }
        let newest = self.stored(revisions.last().copied()).filter(|(_, it)| it.is_sealed());
        let absent = match newest {
            None => 0,
            Some((revision, stored)) => {
                self.secrets.told(revision, &stored).await.map_or(0, |told| told.absent)
            }
        };
        let open = all.values().map(|it| it.open).sum();
        let silence = self.pulse.silence(Instant::now());
        let may_old_go = are_wrapped && silence.is_some_and(|silent| silent <= SILENCE_MAX);
        self.secrets.note(Counts { open, absent, past_absent, may_old_go }, SystemTime::now());
    }

    /// A document as it lies now.
    fn stored(&self, which: Option<Revision>) -> Option<(Revision, Stored)> {
        let which = which?;
        self.reader.gateway(|gateway| {
            let lineage = gateway.newest()?.0.lineage;
            let told = gateway.history().find(|told| told.number == which.number)?;
            let keys = gateway.keys_of(told).cloned().collect();
            let stored = Stored { document: told.document.clone(), keys };
            (lineage == which.lineage).then_some((which, stored))
        })
    }

    /// Proposes what is to be done next; whether that was all.
    async fn work(&self, all: &mut All) -> Result<bool, String> {
        let keys: Vec<_> = self.reader.gateway(|gateway| gateway.keys().cloned().collect());
        let anew = self.secrets.wrapped_anew(keys.iter());
        if !anew.is_empty() {
            let count = anew.len();
            return match self.propose(GatewayOp::Wrap { keys: anew }).await? {
                GatewayOutcome::Sealed { is_done: true } => {
                    tracing::info!(count, "data keys of secrets are wrapped for the cluster keys of today");
                    Ok(false)
                }
                other => Err(format!("data keys are not wrapped anew: {other:?}")),
            };
        }
        let last = all.keys().next_back().copied();
        let newest = self.stored(last);
        let is_spent = newest.as_ref().is_some_and(|(_, stored)| self.secrets.is_to_be_renewed(stored));
        // The newest first: those before are sealed under the same key.
        let is_next = |(revision, it): &(&Revision, &Looked)| {
            !it.is_left && (it.open > 0 || is_spent && Some(**revision) == last)
        };
        let Some(revision) = all.iter().rev().find(is_next).map(|(revision, _)| *revision) else {
            return Ok(true);
        };
        let Some((_, stored)) = self.stored(Some(revision)) else { return Ok(true) };
        let newest = newest.filter(|(of, _)| *of != revision);
        let (secrets, from) = (self.secrets.clone(), stored.ids());
        let sealing = move || seal(&secrets, &stored, newest.as_ref().map(|(_, newest)| newest));
        let sealed = tokio::task::spawn_blocking(sealing).await.map_err(|error| error.to_string())?;
        let outcome = match sealed {
            Ok(sealed) if sealed.is_sealed() && sealed.ids() != from => {
                let (Revision { lineage, number }, Stored { document, keys }) = (revision, sealed);
                self.propose(GatewayOp::Seal { lineage, number, from, document, keys }).await?
            }
            Ok(_) | Err(Unkept::TooLarge | Unkept::Absent) => GatewayOutcome::TooLarge,
            Err(Unkept::Unsealed) => return Err(Unkept::Unsealed.to_string()),
        };
        match outcome {
            GatewayOutcome::Sealed { is_done: true } => {
                tracing::info!(revision = revision.number, "secrets of the gateway's document are sealed");
                Ok(false)
            }
            GatewayOutcome::TooLarge => {
                tracing::warn!(
                    revision = revision.number,
                    "the document has no room for its secrets to be sealed: they stay as they are until another is put"
                );
                all.entry(revision).and_modify(|it| it.is_left = true);
                Ok(false)
            }
            // It is another by now, and will be looked at.
            other => Err(format!("the document is not sealed: {other:?}")),
        }
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
    let newest = newest.and_then(|it| Some((secrets.open(it)?, &*it.keys)));
    let newest = newest.as_ref().map(|(kept, keys)| Opened { kept, keys });
    let own = Opened { kept: &kept, keys: &stored.keys };
    let of: Vec<Opened<'_>> = newest.into_iter().chain([own]).collect();
    secrets.keep(&kept, &of, true)
}
