//! Sets of backends: where they come from, what probes and traffic show of them, which one is chosen.
//!
//! A [`Pool`] has a name, and is shared by all cores. Nothing of one pool is another's: what is down,
//! what is ejected and who waits are its own. `registry -> probe -> source` fill it, on the control
//! runtime; a core looks at [`Pool::load`] for each choice. What probes, gossip and traffic come to is
//! said by `standing` alone.

pub mod backends;
pub(crate) mod choose;
pub mod failures;
pub(crate) mod latency;
pub(crate) mod outlier;
pub mod probe;
pub(crate) mod registry;
pub(crate) mod source;
pub(crate) mod standing;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

use self::backends::BackendSet;

/// A named set of backends.
#[derive(Debug)]
pub struct Pool {
    pub name: String,
    /// Its backends are skep nodes. What their API promises holds for them alone: a message may be
    /// sent again because its content names it, its digest ties it to a node, and
    /// `Skep-Unprocessed` is believed.
    pub are_nodes: bool,
    set: ArcSwap<BackendSet>,
    /// Requests of all cores that wait for one of them.
    pub waiting: AtomicUsize,
    /// Told after each change of the set; for one listener.
    pub changed: Notify,
}

impl Pool {
    pub fn new(name: &str, are_nodes: bool) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            are_nodes,
            set: ArcSwap::default(),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        })
    }

    /// What it is at this moment.
    pub fn load(&self) -> Guard<Arc<BackendSet>> {
        self.set.load()
    }

    /// Replaces it as a whole.
    pub fn store(&self, set: BackendSet) {
        self.set.store(Arc::new(set));
        self.changed.notify_one();
    }
}

/// All pools that there are.
#[derive(Debug)]
pub struct Pools {
    skep: Arc<Pool>,
}

impl Default for Pools {
    fn default() -> Self {
        Self::new(Pool::new("skep", true))
    }
}

impl Pools {
    /// With this pool in the place of the one that is built in.
    pub fn new(skep: Arc<Pool>) -> Self {
        Self { skep }
    }

    /// The one that is built in: the skep nodes, found by gossip or named by a flag.
    pub fn skep(&self) -> &Arc<Pool> {
        &self.skep
    }
}
