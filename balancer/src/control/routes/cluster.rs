//! Routes out of the configuration that the cluster keeps, as `hear` tells of it.
//!
//! One task. Until anything is known of it, requests are answered 503 and the balancer is not ready: to serve as if
//! there were no routes would open what they close. What was in force stays while no node says anything.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_gateway::{Document, Table};
use skep_members::gossip::Gossip;
use skep_members::key::KeyRing;
use skep_members::tls::{TlsError, nodes_tls};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::super::copy::Copies;
use super::super::hear::{Hearing, News, State};
use super::{Keeper, complain};
use crate::core::following::{Position, Word};
use crate::core::routes::Routes;
use crate::core::shared::Shared;
use crate::pools::tls::BackendTls;

/// How long a start waits for a node's word: who connects meanwhile waits in the kernel, and is not refused.
const FIRST_MAX: Duration = Duration::from_secs(2);
/// How often what no core has any more is freed.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Closes everything, and follows the cluster from then on. Waits a moment for its first word.
pub async fn begin(
    gossip: &Gossip,
    keys: &KeyRing,
    copies: Option<Copies>,
    shared: Arc<Shared>,
) -> Result<(), TlsError> {
    let tls = BackendTls::of_members(&nodes_tls(keys)?);
    shared.following.begin();
    shared.routes.store(Some(Arc::new(Routes::closed(shared.pools.skep().clone()))));
    let (news, heard) = watch::channel(News::None);
    let keeper = Keeper::new(false, shared.clone());
    let mut source = Source { keeper, shared: shared.clone(), heard, known: None, copy: None };
    if let Some(copies) = copies {
        source.obey_copy(&copies).await;
        let (copy, states) = watch::channel(None);
        tokio::spawn(keep_copy(copies, states, shared.clone()));
        source.copy = Some(copy);
    }
    tokio::spawn(Hearing::new(gossip.view(), tls, shared, news).run());
    let until = Instant::now() + FIRST_MAX;
    while source.shared.following.known().is_some_and(|it| matches!(it.word, Word::Nobody | Word::Copy)) {
        match timeout_at(until, source.heard.changed()).await {
            Ok(Ok(())) => source.obey_newest().await,
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("no node has told of the gateway's configuration yet");
                break;
            }
        }
    }
    tokio::spawn(source.keep());
    Ok(())
}

struct Source {
    keeper: Keeper,
    shared: Arc<Shared>,
    heard: watch::Receiver<News>,
    /// What was told last, and obeyed or refused.
    known: Option<Arc<State>>,
    /// Whoever writes the copy.
    copy: Option<watch::Sender<Option<Arc<State>>>>,
}

/// Writes what is in force, as long as somebody obeys it. A disk that hangs holds nothing but this.
async fn keep_copy(copies: Copies, mut states: watch::Receiver<Option<Arc<State>>>, shared: Arc<Shared>) {
    while states.changed().await.is_ok() {
        let Some(state) = states.borrow_and_update().clone() else { continue };
        let copies = copies.clone();
        let written = tokio::task::spawn_blocking(move || copies.write(&state, SystemTime::now())).await;
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &error {
            tracing::error!(error, "the copy of the gateway's configuration is not written (--state)");
        }
        shared.following.change(|known| known.copy_failed = error.is_some());
    }
}

impl Source {
    async fn keep(mut self) {
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.heard.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.obey_newest().await;
                }
                _ = sweeps.tick(), if !self.keeper.old.is_empty() => self.keeper.sweep(),
            }
        }
    }

    async fn obey_newest(&mut self) {
        let news = self.heard.borrow_and_update().clone();
        match news {
            News::None => {}
            News::TooOld => {
                let is_closed = self.shared.following.known().is_some_and(|it| it.word == Word::Nobody);
                if is_closed {
                    tracing::info!("no node keeps a gateway's configuration yet: all goes to the nodes");
                    self.keeper.obey_none();
                    self.shared.following.change(|known| known.word = Word::Older);
                }
            }
            News::State(state) => self.obey(state, Word::Node).await,
        }
    }

    /// What lies there is obeyed until a node says something.
    async fn obey_copy(&mut self, copies: &Copies) {
        let read = {
            let copies = copies.clone();
            tokio::task::spawn_blocking(move || copies.read(SystemTime::now())).await
        };
        match read {
            Ok(Ok(None)) | Err(_) => {}
            Ok(Ok(Some((state, age)))) => {
                tracing::info!(age_s = age.as_secs(), "the copy of the gateway's configuration is read");
                let now = std::time::Instant::now();
                self.shared.following.change(|known| (known.heard, known.age_then) = (Some(now), age));
                self.obey(Arc::new(state), Word::Copy).await;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the copy of the gateway's configuration is not served by");
            }
        }
    }

    async fn obey(&mut self, state: Arc<State>, word: Word) {
        let known = self.known.as_deref();
        if known.is_some_and(|known| *known == *state) {
            self.shared.following.change(|known| {
                if known.position == Some(state.position) {
                    known.word = Word::Node;
                }
            });
            return;
        }
        if !follows(known, &state) {
            let Position { revision, .. } = state.position;
            tracing::debug!(revision, "an older state of the gateway's configuration is passed over");
            return;
        }
        let position = state.position;
        let taken = match &state.document {
            None => {
                self.keeper.obey_none();
                Ok(())
            }
            Some(_) => {
                let state = state.clone();
                let read = move || {
                    let text = state.document.as_deref().unwrap_or_default();
                    Document::read(text).and_then(Table::compile)
                };
                self.keeper.obey(read).await
            }
        };
        self.known = Some(state.clone());
        match taken {
            Ok(()) => {
                let Position { lineage, revision } = position;
                tracing::info!(lineage = %format_args!("{lineage:032x}"), revision, "the cluster's configuration");
                self.shared.following.change(|known| {
                    (known.word, known.position, known.refused) = (word, Some(position), None);
                });
                if let (Word::Node, Some(copy)) = (word, &self.copy) {
                    copy.send_replace(Some(state));
                }
            }
            Err(faults) => {
                complain(&format!("revision {} of the cluster", position.revision), &faults);
                self.shared.following.change(|known| known.refused = Some(position));
            }
        }
    }
}

/// Whether a state is one to go over to from what is known. Another history is followed at once; within one nobody
/// goes back. That there is nothing is no news to who has something: a node that lags says so, too; of another cluster
/// it is believed.
fn follows(known: Option<&State>, told: &State) -> bool {
    let Some(known) = known else { return true };
    let (before, now) = (known.position, told.position);
    if now.revision == 0 && before.revision > 0 {
        return known.cluster.is_some() && told.cluster.is_some() && known.cluster != told.cluster;
    }
    now.lineage != before.lineage || now.revision > before.revision
}

#[cfg(test)]
mod tests {
    use skep_base::id::ClusterId;

    use super::*;

    fn state(cluster: u128, lineage: u128, revision: u64) -> State {
        State { cluster: Some(ClusterId(cluster)), position: Position { lineage, revision }, document: None }
    }

    #[test]
    fn another_history_is_followed_at_once_and_within_one_nobody_goes_back() {
        for (known, told, expected) in [
            ((1, 7, 3), (1, 7, 4), true),
            ((1, 7, 3), (1, 7, 3), false),
            ((1, 7, 3), (1, 7, 2), false),
            ((1, 7, 3), (1, 8, 1), true),
            ((1, 7, 3), (2, 8, 1), true),
            ((1, 0, 0), (1, 7, 1), true),
            // A node that lags, or has not agreed with the others yet.
            ((1, 7, 3), (1, 0, 0), false),
            ((1, 7, 3), (1, 7, 0), false),
            // Another cluster, which has nothing.
            ((1, 7, 3), (2, 0, 0), true),
        ] {
            let [known, told] =
                [known, told].map(|(cluster, lineage, revision)| state(cluster, lineage, revision));
            assert_eq!(follows(Some(&known), &told), expected, "{known:?} {told:?}");
        }
        assert!(follows(None, &state(1, 0, 0)));
    }
}
