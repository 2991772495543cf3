//! Hears from one node after another what the gateway's configuration is.
//!
//! One task, on the control runtime, with one connection at a time to a node that gossip shows as ready. Who is silent,
//! ends, or says what is no such line is left for another, each time after a pause that grows and is drawn by lot.
//! Only the newest state is kept for who obeys it. `stream` is one connection.

mod stream;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_base::id::{ClusterId, NodeId};
use skep_base::random::Random;
use skep_gateway::told::Told;
use skep_members::gossip::{PeerRecord, View};
use tokio::sync::watch;
use tokio::time::sleep;

use self::stream::End;
use crate::core::following::Position;
use crate::core::shared::Shared;
use crate::pools::source;
use crate::pools::tls::BackendTls;

/// After a first failure; each that follows in a row doubles it.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A state of the configuration, as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Of the node that told it, as far as that is known.
    pub cluster: Option<ClusterId>,
    pub position: Position,
    /// JSON; None where nothing is configured.
    pub document: Option<String>,
}

/// The newest that was heard.
#[derive(Debug, Clone, Default)]
pub enum News {
    #[default]
    None,
    /// Each node that is there is of a version without a gateway.
    TooOld,
    State(Arc<State>),
}

/// Hears, until it is dropped or nobody listens.
pub struct Hearing {
    view: watch::Receiver<Arc<View>>,
    tls: BackendTls,
    /// Nodes are spoken to in plain HTTP, and may say so that they are too old.
    takes_plain: bool,
    shared: Arc<Shared>,
    news: watch::Sender<News>,
    random: Random,
    /// Those that are too old, each run for itself.
    old: HashMap<NodeId, u64>,
    /// Who was left last.
    left: Option<NodeId>,
    /// In a row.
    failures: u32,
}

impl Hearing {
    pub fn new(
        view: watch::Receiver<Arc<View>>,
        tls: BackendTls,
        shared: Arc<Shared>,
        news: watch::Sender<News>,
    ) -> Self {
        let mut seed = [0; 8];
        // A weak seed makes who is asked foreseeable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let takes_plain = shared.pools.skep().tls.is_none();
        let random = Random::new(u64::from_le_bytes(seed));
        Self { view, tls, takes_plain, shared, news, random, old: HashMap::new(), left: None, failures: 0 }
    }

    pub async fn run(mut self) {
        loop {
            let nodes = source::ready_nodes(&self.view.borrow_and_update());
            self.old.retain(|id, run| nodes.iter().any(|it| it.id == *id && it.generation == *run));
            let Some(node) = self.choose(&nodes) else {
                if !nodes.is_empty() {
                    self.news.send_if_modified(|news| {
                        let is_first = matches!(news, News::None);
                        if is_first {
                            *news = News::TooOld;
                        }
                        is_first
                    });
                }
                tokio::select! {
                    changed = self.view.changed() => if changed.is_err() { return },
                    () = self.news.closed() => return,
                }
                continue;
            };
            let closed = self.news.clone();
            let end = tokio::select! {
                end = self.hear(&node) => end,
                () = closed.closed() => return,
            };
            match end {
                Ok(()) => tracing::debug!(node = %node.id, "it goes: another node tells of the gateway"),
                Err(End::TooOld) => {
                    tracing::info!(node = %node.id, "this node is of a version without a gateway");
                    self.old.insert(node.id, node.generation);
                    continue;
                }
                Err(end) => {
                    // Once for each row of them: a cluster that is away is away for long.
                    if self.failures == 0 {
                        let address = node.http.map(|it| it.to_string());
                        tracing::warn!(node = %node.id, address, %end, "this node tells nothing of the gateway");
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

    /// Any that is not too old, and not the one that was left last where there is another.
    fn choose(&mut self, nodes: &[PeerRecord]) -> Option<PeerRecord> {
        let mut able: Vec<&PeerRecord> = nodes.iter().filter(|it| !self.old.contains_key(&it.id)).collect();
        if able.len() > 1 {
            able.retain(|it| Some(it.id) != self.left);
        }
        if able.is_empty() {
            return None;
        }
        Some(able[self.random.below(able.len())].clone())
    }

    /// Hears one node, until it is to be left for another.
    async fn hear(&mut self, node: &PeerRecord) -> Result<(), End> {
        let Some(address) = node.http else { return Ok(()) };
        let mut lines = stream::open(address, &self.tls, self.takes_plain).await?;
        let mut has_state = false;
        loop {
            tokio::select! {
                line = lines.next() => {
                    let told = Told::decode(line?).map_err(|error| End::Answer(error.to_string()))?;
                    let now = Instant::now();
                    match told {
                        Told::State { lineage, revision, document } => {
                            has_state = true;
                            let position = Position { lineage, revision };
                            let document = document.map(str::to_owned);
                            let state = State { cluster: node.cluster, position, document };
                            self.news.send_replace(News::State(Arc::new(state)));
                        }
                        Told::Beat { .. } if !has_state => {
                            return Err(End::Answer("a beat before any state".into()));
                        }
                        Told::Beat { .. } => {}
                    }
                    self.failures = 0;
                    self.shared.following.heard(now);
                }
                changed = self.view.changed() => {
                    if changed.is_err() || is_going(&self.view.borrow_and_update(), node) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Whether a node is about to go, or gone, and another is there.
fn is_going(view: &View, node: &PeerRecord) -> bool {
    let nodes = source::ready_nodes(view);
    !nodes.is_empty() && !nodes.iter().any(|it| it.id == node.id && it.generation == node.generation)
}
