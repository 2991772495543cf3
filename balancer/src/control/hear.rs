//! Hears from one node after another what the gateway's configuration is.
//!
//! One task, on the control runtime, with one connection at a time to a node that gossip shows as ready and probes as
//! well: one that is cut off from the others is not heard, and what it says would be of yesterday. Who is silent, ends,
//! tells a state that is older than what is known, or says what is no such line is left for another, each time after a
//! pause that grows and is drawn by lot. Only the newest state is kept for who obeys it. `stream` is one connection,
//! `history` what is known.

mod history;
mod stream;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_base::id::{ClusterId, NodeId};
use skep_base::random::Random;
use skep_gateway::shift;
use skep_gateway::told::{SILENCE_MAX, Told, asking};
use skep_members::gossip::{PeerRecord, View};
use skep_members::in_force::Keys;
use tokio::sync::watch;
use tokio::time::sleep;

use self::history::{History, Step};
use self::stream::End;
use super::purges;
use crate::core::following::Position;
use crate::core::shared::Shared;
use crate::pools::probe::Health;
use crate::pools::tls::BackendTls;
use crate::pools::{Pool, source};

/// After a first failure; each that follows in a row doubles it.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// A connection that lasted so long ends a row of failures: one that ends behind its first line does not.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// The newest peer protocol of the first nodes that keep a configuration: of what is older gossip tells it, too.
const PROTOCOL_MIN: u16 = 7;
/// How often it is looked, where there is nobody to ask, whether probes say something else.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A state of the configuration, as it was told.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    /// Of the node that told it, as far as that is known.
    pub cluster: Option<ClusterId>,
    pub position: Position,
    /// JSON; None where nothing is configured.
    pub document: Option<String>,
}

impl State {
    /// Whether another is the same, whoever told it.
    pub fn says_as(&self, other: &Self) -> bool {
        self.position == other.position && self.document == other.document
    }
}

/// Without what is in the document: secrets may be.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("cluster", &self.cluster)
            .field("position", &self.position)
            .field("document_bytes", &self.document.as_ref().map(String::len))
            .finish()
    }
}

/// The newest that was heard.
#[derive(Debug, Clone, Default)]
pub enum News {
    #[default]
    None,
    /// Each node that is there and well is of a version without a gateway.
    TooOld,
    State(Arc<State>),
}

/// The shifts that are open, as they were told last.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// Of which history they are.
    pub lineage: u128,
    /// Rises with each change of them.
    pub at: u64,
    pub shifts: Vec<shift::Told>,
}

/// Hears, until it is dropped or nobody listens.
pub struct Hearing {
    view: watch::Receiver<Arc<View>>,
    tls: BackendTls,
    /// Says that other keys are in force: who was believed by one that was taken away is no more.
    rekeyed: watch::Receiver<()>,
    /// Nodes are spoken to in plain HTTP, and may say so that they are too old.
    takes_plain: bool,
    shared: Arc<Shared>,
    news: watch::Sender<News>,
    open: watch::Sender<Open>,
    random: Random,
    history: History,
    /// Those that are too old, each run for itself.
    old: HashMap<NodeId, u64>,
    /// Who was left last.
    left: Option<NodeId>,
    /// In a row.
    failures: u32,
    /// What was said of each node in that row: a cluster that is away is away for long.
    complaints: HashMap<NodeId, String>,
}

impl Hearing {
    /// `known` is what is known before anything is heard.
    pub fn new(
        view: watch::Receiver<Arc<View>>,
        keys: Keys,
        shared: Arc<Shared>,
        (news, open): (watch::Sender<News>, watch::Sender<Open>),
        known: Option<Arc<State>>,
    ) -> Self {
        let mut seed = [0; 8];
        // A weak seed makes who is asked foreseeable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let takes_plain = shared.pools.skep().tls.is_none();
        let random = Random::new(u64::from_le_bytes(seed));
        Self {
            view,
            rekeyed: keys.changes(),
            tls: BackendTls::of_members(keys),
            takes_plain,
            shared,
            news,
            open,
            random,
            history: History::of(known),
            old: HashMap::new(),
            left: None,
            failures: 0,
            complaints: HashMap::new(),
        }
    }

    pub async fn run(mut self) {
        loop {
            let nodes = source::ready_nodes(&self.view.borrow_and_update());
            self.old.retain(|id, run| nodes.iter().any(|it| it.id == *id && it.generation == *run));
            self.complaints.retain(|id, _| nodes.iter().any(|it| it.id == *id));
            if self.are_old(&nodes) {
                self.shared.following.heard_of_none(Instant::now());
                self.news.send_if_modified(|news| {
                    let is_first = matches!(news, News::None);
                    if is_first {
                        *news = News::TooOld;
                    }
                    is_first
                });
            }
            let Some(node) = self.choose(&nodes) else {
                tokio::select! {
                    changed = self.view.changed() => if changed.is_err() { return },
                    () = sleep(LOOK_INTERVAL) => {}
                    () = self.news.closed() => return,
                }
                continue;
            };
            let closed = self.news.clone();
            let end = tokio::select! {
                end = self.hear(&node) => end,
                () = closed.closed() => return,
            };
            if self.view.has_changed().is_err() {
                return;
            }
            match end {
                Ok(()) => {
                    tracing::debug!(node = %node.id, "it goes, or is not well: another node is asked of the gateway")
                }
                Err(End::TooOld) => {
                    tracing::info!(node = %node.id, "this node is of a version without a gateway");
                    self.old.insert(node.id, node.generation);
                    continue;
                }
                Err(end) => {
                    let why = end.to_string();
                    if self.complaints.get(&node.id) != Some(&why) {
                        let address = node.http.map(|it| it.to_string());
                        tracing::warn!(node = %node.id, address, why, "this node tells nothing of the gateway");
                        self.complaints.insert(node.id, why);
                    }
                    self.failures = self.failures.saturating_add(1);
                    let pause = PAUSE.saturating_mul(1 << self.failures.min(8)).min(PAUSE_MAX);
                    let pause = pause.mul_f64(0.5 + self.random.unit() / 2.0);
                    sleep(pause).await;
                }
            }
            self.left = Some(node.id);
        }
    }

    /// Whether all goes to nodes that keep no configuration: one has said that it is so old, and each other that is
    /// well has, too, or is by what gossip says of it. One that is ill does not count, for it might never say anything.
    fn are_old(&self, nodes: &[PeerRecord]) -> bool {
        let pool = self.shared.pools.skep();
        let is_old = |it: &PeerRecord| self.old.contains_key(&it.id);
        let counts = |it: &PeerRecord| it.protocol.1 >= PROTOCOL_MIN && is_well(health(pool, it));
        nodes.iter().any(is_old) && nodes.iter().all(|it| is_old(it) || !counts(it))
    }

    /// Any that is not too old, and not the one that was left last where there is another. One that is not well only
    /// where none is: it may be the probes that fail. Not one that says itself that it is not ready.
    fn choose(&mut self, nodes: &[PeerRecord]) -> Option<PeerRecord> {
        let pool = self.shared.pools.skep();
        let able = nodes.iter().filter(|it| !self.old.contains_key(&it.id));
        let able = able.map(|it| (it, health(pool, it))).filter(|(_, health)| *health != Health::Unready);
        let (well, ill): (Vec<_>, Vec<_>) = able.partition(|(_, health)| is_well(*health));
        let mut able = if well.is_empty() { ill } else { well };
        if able.len() > 1 {
            able.retain(|(it, _)| Some(it.id) != self.left);
        }
        if able.is_empty() {
            return None;
        }
        Some(able[self.random.below(able.len())].0.clone())
    }

    /// Hears one node, until it is to be left for another.
    async fn hear(&mut self, node: &PeerRecord) -> Result<(), End> {
        let Some(address) = node.http else { return Ok(()) };
        let heard = *self.shared.cache.purges.heard.borrow();
        let target = asking(heard.map_or((0, 0), |it| (it.lineage, it.revision)));
        let mut lines = stream::open(address, &target, &self.tls, self.takes_plain).await?;
        let begun = Instant::now();
        // The revision that it told, and when it last said so.
        let (mut at, mut said) = (None, begun);
        // Of which history it told a state.
        let mut of = 0;
        loop {
            tokio::select! {
                line = lines.next() => {
                    let told = Told::decode(line?).map_err(|error| End::Answer(error.to_string()))?;
                    let now = Instant::now();
                    let is_word = match told {
                        Told::State { lineage, revision, document } => {
                            of = lineage;
                            let position = Position { lineage, revision };
                            let document = document.map(str::to_owned);
                            self.take(State { cluster: node.cluster, position, document }, now)?;
                            at = Some(revision);
                            true
                        }
                        Told::Beat { revision } if at == Some(revision) => true,
                        Told::Beat { .. } => {
                            return Err(End::Answer("a beat of a state that it did not tell".into()));
                        }
                        Told::Purges { cluster, since, last, list } => {
                            let cache = &self.shared.cache;
                            if !purges::hear(cache, cluster, (since, last), list) {
                                return Err(End::Answer("it tells purges that are none".into()));
                            }
                            false
                        }
                        Told::Shifts { at: changes, shifts } => {
                            // What a later version says of them otherwise says nothing to this one.
                            if let Ok(shifts) = shift::read_told(shifts) {
                                self.open.send_replace(Open { lineage: of, at: changes, shifts });
                            }
                            false
                        }
                        Told::Other if now.duration_since(said) > SILENCE_MAX => return Err(End::Silent),
                        Told::Other => false,
                    };
                    if is_word {
                        said = now;
                        self.shared.following.heard(now);
                    }
                    if now.duration_since(begun) >= STEADY_AFTER {
                        self.failures = 0;
                        self.complaints.clear();
                    }
                }
                changed = self.view.changed() => if changed.is_err() { return Ok(()) },
                // It proves itself anew.
                Ok(()) = self.rekeyed.changed() => return Ok(()),
            }
            if self.is_to_be_left(node) {
                return Ok(());
            }
        }
    }

    /// Tells a state to who obeys it, where it is not known. One that is older than what is known is none.
    fn take(&mut self, state: State, now: Instant) -> Result<(), End> {
        let state = Arc::new(state);
        let step = self.history.hear(&state, now);
        if step == Step::Back {
            return Err(End::Behind);
        }
        self.news.send_if_modified(|news| {
            let is_told = match news {
                News::State(before) => step == Step::Same && before.cluster == state.cluster,
                News::None | News::TooOld => false,
            };
            if !is_told {
                *news = News::State(state);
            }
            !is_told
        });
        Ok(())
    }

    /// Whether a node says that it is not ready; or is about to go, gone or not well, and another is.
    fn is_to_be_left(&self, node: &PeerRecord) -> bool {
        let pool = self.shared.pools.skep();
        let is_it = |it: &PeerRecord| it.id == node.id && it.generation == node.generation;
        let is_able = |it: &PeerRecord| !self.old.contains_key(&it.id) && is_well(health(pool, it));
        let nodes = source::ready_nodes(&self.view.borrow());
        let is_good = nodes.iter().any(is_it) && is_well(health(pool, node));
        let is_another = nodes.iter().any(|it| !is_it(it) && is_able(it));
        health(pool, node) == Health::Unready || !is_good && is_another
    }
}

/// What probes say of a node.
fn health(pool: &Pool, node: &PeerRecord) -> Health {
    let set = pool.load();
    // Of two runs at one place the later stands behind the other.
    let known = set
        .known
        .iter()
        .rfind(|it| it.backend.node == Some(node.id) && Some(it.backend.address) == node.http);
    known.map_or(Health::Unknown, |it| it.health)
}

/// Of a node that is ready by gossip: whether requests go to it, too.
fn is_well(health: Health) -> bool {
    matches!(health, Health::Up | Health::Unknown)
}
