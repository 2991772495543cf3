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
pub mod orders;
pub(crate) mod outlier;
pub mod probe;
pub(crate) mod registry;
pub(crate) mod source;
pub(crate) mod standing;
pub mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

use self::backends::BackendSet;
use self::orders::Orders;
use self::tls::BackendTls;

/// Time for a connection to a service's server, and the handshake on it: it may be far.
const FAR_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A named set of backends.
#[derive(Debug)]
pub struct Pool {
    pub name: String,
    /// Its backends are skep nodes. What their API promises holds for them alone: a message may be
    /// sent again because its content names it, its digest ties it to a node, and
    /// `Skep-Unprocessed` is believed.
    pub are_nodes: bool,
    /// How they are spoken to; None: in plain HTTP.
    pub tls: Option<BackendTls>,
    set: ArcSwap<BackendSet>,
    /// What operators set of them.
    pub orders: Arc<Orders>,
    /// Requests of all cores that wait for one of them.
    pub waiting: AtomicUsize,
    /// Told after each change of the set; for one listener.
    pub changed: Notify,
    pub limits: Limits,
}

/// What a pool's own service says; 0 where it says nothing, and the process's settings hold.
#[derive(Debug, Default)]
pub struct Limits {
    /// Requests in flight at one backend.
    pub in_flight_max: AtomicU32,
    /// Requests of one core that wait for a backend.
    pub queue_max: AtomicU32,
}

impl Pool {
    pub fn new(name: &str, are_nodes: bool, tls: Option<BackendTls>) -> Arc<Self> {
        Self::with(name, are_nodes, tls, Arc::default())
    }

    /// Another in its place, whose backends are spoken to like this: what operators set of them goes on.
    pub fn replaced(&self, tls: Option<BackendTls>) -> Arc<Self> {
        Self::with(&self.name, self.are_nodes, tls, self.orders.clone())
    }

    fn with(name: &str, are_nodes: bool, tls: Option<BackendTls>, orders: Arc<Orders>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            are_nodes,
            tls,
            set: ArcSwap::default(),
            orders,
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            limits: Limits::default(),
        })
    }

    /// What it is at this moment.
    pub fn load(&self) -> Guard<Arc<BackendSet>> {
        self.set.load()
    }

    /// Time for a connection, where `usual` is what others have.
    pub(crate) fn connect_timeout(&self, usual: Duration) -> Duration {
        match &self.tls {
            Some(tls) if tls.is_of_service() => usual.max(FAR_CONNECT_TIMEOUT),
            _ => usual,
        }
    }

    /// Replaces it as a whole.
    pub fn store(&self, set: BackendSet) {
        self.set.store(Arc::new(set));
        self.changed.notify_one();
    }

    /// Waits until one of its backends was seen to answer. For who starts it: `changed` has one listener.
    pub(crate) async fn answers(&self) {
        while self.load().able() == 0 {
            self.changed.notified().await;
        }
    }

    /// Waits until these are its backends, and no others. For who starts it, as above.
    pub(crate) async fn are(&self, addresses: &BTreeSet<SocketAddr>) {
        let are = || self.load().known.iter().map(|it| it.backend.address).collect::<BTreeSet<_>>();
        while are() != *addresses {
            self.changed.notified().await;
        }
    }
}

/// All pools that there are.
#[derive(Debug)]
pub struct Pools {
    skep: Arc<Pool>,
}

impl Default for Pools {
    fn default() -> Self {
        Self::of_skep(None)
    }
}

impl Pools {
    /// With this pool in the place of the one that is built in.
    pub fn new(skep: Arc<Pool>) -> Self {
        Self { skep }
    }

    /// With the one that is built in spoken to like this.
    pub fn of_skep(tls: Option<BackendTls>) -> Self {
        Self::new(Pool::new("skep", true, tls))
    }

    /// The one that is built in: the skep nodes, found by gossip or named by a flag.
    pub fn skep(&self) -> &Arc<Pool> {
        &self.skep
    }
}
