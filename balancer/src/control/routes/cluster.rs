//! Routes out of the configuration that the cluster keeps, as `hear` tells of it.
//!
//! Two tasks: one obeys what is told, one writes the copy. Until anything is known of it, requests are answered 503 and
//! the balancer is not ready: to serve as if there were no routes would open what they close. What was in force stays
//! while no node says anything.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use skep_gateway::{Document, Table};
use skep_members::gossip::{GatewayAt, GatewayRevision, Gossip};
use skep_members::in_force::Keys;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::super::FIRST_MAX;
use super::super::copy::Copies;
use super::super::debts::Debts;
use super::super::hear::{Hearing, News, Open, State};
use super::super::{purges, shifts};
use super::{Keeper, complain};
use crate::core::following::{Position, Word};
use crate::core::routes::Routes;
use crate::core::shared::Shared;
use crate::listen::tls::Certificates;

/// How long the copy is waited for: behind a disk that hangs there is none.
const COPY_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to write a copy that could not be written.
const COPY_PAUSE: Duration = Duration::from_secs(5);
/// Documents in a row that are obeyed before it is looked which shifts are open.
const BEFORE_SHIFTS_MAX: usize = 3;
/// How often what no core has any more is freed.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Closes everything, and follows the cluster from then on. Waits a moment for its first word.
pub async fn begin(
    gossip: &Gossip,
    keys: Keys,
    copies: Option<Copies>,
    debts: Debts,
    certificates: Option<Arc<Certificates>>,
) {
    if let Some(certificates) = &certificates {
        certificates.wait();
    }
    let sealed = copies.as_ref().map(Copies::sealed);
    let keeper = Keeper::new(false, debts, sealed, certificates);
    let shared = &keeper.shared;
    shared.following.begin();
    shared.routes.store(Some(Arc::new(Routes::closed(shared.pools.skep().clone()))));
    let (first, told) = oneshot::channel();
    tokio::spawn(purges::say(gossip.clone(), shared.clone()));
    tokio::spawn(keep(gossip.clone(), keys, copies, keeper, first));
    if timeout(FIRST_MAX, told).await.is_err() {
        tracing::warn!("no node has told of the gateway's configuration yet");
    }
}

/// Obeys the copy, and then what is told, for as long as it is. Says so once something was.
async fn keep(
    gossip: Gossip,
    keys: Keys,
    copies: Option<Copies>,
    keeper: Keeper,
    first: oneshot::Sender<()>,
) {
    let shared = keeper.shared.clone();
    let copied = match &copies {
        Some(copies) => read_copy(copies.clone(), &shared).await,
        None => None,
    };
    let copy = copies.map(|copies| {
        let (copy, states) = watch::channel(copied.clone());
        tokio::spawn(keep_copy(copies, states, shared.clone()));
        copy
    });
    let (news, heard) = watch::channel(News::None);
    let (open, shifts) = watch::channel(Open::default());
    tokio::spawn(Hearing::new(gossip.view(), keys, shared.clone(), (news, open), copied.clone()).run());
    tokio::spawn(shifts::tell(gossip.clone(), shared.clone()));
    let mut source = Source { keeper, gossip, shared, heard, shifts, known: None, copy };
    if let Some(copied) = copied {
        source.obey(copied, Word::Copy).await;
    }
    source.keep(first).await;
}

/// What lies there, which is obeyed until a node says something.
async fn read_copy(copies: Copies, shared: &Shared) -> Option<Arc<State>> {
    let read = tokio::task::spawn_blocking(move || {
        let now = SystemTime::now();
        (copies.sealed().prepare(now), copies.read(now))
    });
    let Ok(read) = timeout(COPY_MAX, read).await else {
        let seconds = COPY_MAX.as_secs();
        tracing::warn!(seconds, "the copy of the gateway's configuration is not read in time (--state)");
        return None;
    };
    let (prepared, read) = read.ok()?;
    if let Err(error) = prepared {
        tracing::warn!(%error, "no copy of the gateway's configuration can be kept there (--state)");
        shared.following.change(|known| known.copy_failed = true);
    }
    match read {
        Ok(None) => None,
        Ok(Some((state, age))) => {
            tracing::info!(age_s = age.as_secs(), "the copy of the gateway's configuration is read");
            let now = std::time::Instant::now();
            shared.following.change(|known| {
                (known.heard, known.age_then) = (Some(now), age);
                known.copied = Some(state.position);
            });
            Some(Arc::new(state))
        }
        Err(error) => {
            tracing::warn!(%error, "the copy of the gateway's configuration is not served by (--state)");
            None
        }
    }
}

/// Writes what is in force, as long as somebody obeys it; again, where that failed, and where other keys are in force:
/// the one that it was sealed with may be taken away. A disk that hangs holds nothing but this.
async fn keep_copy(copies: Copies, mut states: watch::Receiver<Option<Arc<State>>>, shared: Arc<Shared>) {
    let mut failed: Option<String> = None;
    let mut rekeyed = copies.sealed().rekeyed();
    loop {
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            Ok(()) = rekeyed.changed() => {}
            () = sleep(COPY_PAUSE), if failed.is_some() => {}
        }
        let Some(state) = states.borrow_and_update().clone() else { continue };
        let copies = copies.clone();
        // It is as old as what is known, whenever it is written.
        let age = shared.following.known().and_then(|it| it.age(std::time::Instant::now()));
        let now = SystemTime::now();
        let then = now.checked_sub(age.unwrap_or_default()).unwrap_or(now);
        let position = state.position;
        let written = tokio::task::spawn_blocking(move || copies.write(&state, then)).await;
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match &error {
            Some(error) if failed.as_ref() != Some(error) => {
                tracing::error!(error, "the copy of the gateway's configuration is not written (--state)");
            }
            None if failed.is_some() => {
                tracing::info!("the copy of the gateway's configuration is written again");
            }
            Some(_) | None => {}
        }
        shared.following.change(|known| {
            known.copy_failed = error.is_some();
            if error.is_none() {
                known.copied = Some(position);
            }
        });
        failed = error;
    }
}

struct Source {
    keeper: Keeper,
    /// Who is told where this balancer stands.
    gossip: Gossip,
    shared: Arc<Shared>,
    heard: watch::Receiver<News>,
    /// The shifts that are open.
    shifts: watch::Receiver<Open>,
    /// What was told last, and obeyed or refused.
    known: Option<Arc<State>>,
    /// Whoever writes the copy.
    copy: Option<watch::Sender<Option<Arc<State>>>>,
}

impl Source {
    async fn keep(mut self, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (changed, mut is_news) = tokio::select! {
                changed = self.heard.changed() => (changed, true),
                changed = self.shifts.changed() => (changed, false),
                _ = sweeps.tick(), if !self.keeper.old.is_empty() => {
                    self.keeper.sweep();
                    continue;
                }
            };
            if changed.is_err() {
                return;
            }
            let mut has_obeyed = false;
            // Which shifts are open is told behind the document: what is over has become that one.
            for _ in 0..BEFORE_SHIFTS_MAX {
                is_news |= self.heard.has_changed().is_ok_and(|has| has);
                if !std::mem::take(&mut is_news) {
                    break;
                }
                self.keeper.rest().await;
                self.obey_newest().await;
                has_obeyed = true;
            }
            let Open { lineage, at, shifts } = self.shifts.borrow_and_update().clone();
            if self.known.as_ref().is_some_and(|it| it.position.lineage == lineage) {
                self.shared.shifts.take(at, shifts, Instant::now());
            }
            if has_obeyed && let Some(first) = first.take() {
                // Nobody may wait for it any more.
                let _ = first.send(());
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
            News::State(state) if self.known.as_ref().is_some_and(|it| it.says_as(&state)) => {
                self.confirm(state);
            }
            News::State(state) => self.obey(state, Word::Node).await,
        }
    }

    /// A node says what is known: from the copy, or of another cluster.
    fn confirm(&mut self, state: Arc<State>) {
        let mut is_in_force = false;
        self.shared.following.change(|known| {
            is_in_force = known.position == Some(state.position);
            if is_in_force {
                known.word = Word::Node;
            }
        });
        self.known = Some(state.clone());
        if is_in_force {
            // Of today, and sealed with the first key of today.
            self.keep_copy_of(state);
        }
    }

    /// Goes over to a state: it is newer than what is known, as `hear` sees to.
    async fn obey(&mut self, state: Arc<State>, word: Word) {
        let position = state.position;
        if self.known.as_ref().is_some_and(|it| it.position.lineage != position.lineage) {
            self.shared.shifts.forget();
        }
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
                if word == Word::Node {
                    self.keep_copy_of(state);
                }
            }
            Err(faults) => {
                complain(&format!("revision {} of the cluster", position.revision), &faults);
                self.shared.following.change(|known| {
                    known.refused = Some(position);
                    // What is not obeyed is served by no start either.
                    if word == Word::Copy {
                        known.copied = None;
                    }
                    // A node was heard, though what is in force is what the copy said.
                    if (known.word, word) == (Word::Copy, Word::Node) {
                        known.word = Word::Node;
                    }
                });
            }
        }
        self.announce();
    }

    /// Lets nodes know what is in force, for who waits for that.
    fn announce(&self) {
        let known = self.shared.following.known();
        let told = |it: Position| GatewayRevision { lineage: it.lineage, number: it.revision };
        let at = known.map(|it| (it.position.map(told), it.refused.map(told)));
        let at = at.filter(|(in_force, refused)| in_force.or(*refused).is_some());
        let cache = &self.shared.cache;
        self.gossip.update(|record| {
            let purged = purges::last(cache);
            record.gateway = at.map(|(in_force, refused)| GatewayAt { in_force, refused, purged });
        });
    }

    fn keep_copy_of(&self, state: Arc<State>) {
        if let Some(copy) = &self.copy {
            copy.send_replace(Some(state));
        }
    }
}
