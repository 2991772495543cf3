//! The keys in force, and all that is made of them; they are read again while the process runs.
//!
//! One [`Keys`] a process. Whoever needs a key asks it for each connection and each datagram, and keeps none: so a
//! ring that is read again counts everywhere from one moment on. What is wrong with it leaves the ring before in
//! force, as a whole. A connection that stands was let in by the ring of its beginning; who serves it asks
//! [`Keys::no_more`] when that is over.
//!
//! No tasks. Files are read and certificates made on threads that may wait.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use skep_base::settings::ConfigError;
use tokio::sync::watch;

use crate::key::KeyRing;
use crate::seal::{Opener, SealError, Sealer};
use crate::settings::{Given, KeyFile};
use crate::tickets::Tickets;
use crate::tls::{PeerTls, TlsError, edge_tls, nodes_tls, peer_tls};

/// A ring, and what is made of it.
#[derive(Debug)]
pub struct InForce {
    pub ring: KeyRing,
    /// A node's with other nodes, an edge's with other edges.
    pub peers: PeerTls,
    /// The HTTP between nodes and who asks them.
    pub http: PeerTls,
    /// Of clients' sessions.
    pub tickets: Tickets,
}

/// Which certificates a process makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Node,
    Edge,
}

/// Why keys are not taken. Never shows one.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Read(#[from] ConfigError),
    #[error("no certificate can be made: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(
        "there is an edge key in it, and in the keys in force there is none: from a process with the cluster key to \
         one with the edge key is a restart"
    )]
    BecomesEdge,
    #[error(
        "there are cluster keys alone in it, and in the keys in force there is an edge key: from a process with the \
         edge key to one with the cluster key is a restart"
    )]
    BecomesMember,
    #[error(
        "its first key, which would seal, is not among the keys in force, and others may not open it: a file with the \
         first key in force, and the new key after it, comes before this one"
    )]
    FirstIsNew,
    #[error(
        "the first key in force, with which others may still seal, is not in it: a file with that key, and the one that \
         is to seal before it, comes before this one"
    )]
    FirstIsGone,
}

/// The keys of a process. A cheap handle.
#[derive(Debug, Clone)]
pub struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shape: Shape,
    file: Option<KeyFile>,
    in_force: ArcSwap<InForce>,
    /// Says each time that other keys are in force.
    changed: watch::Sender<()>,
    /// Who reads last is whose keys are in force.
    reading: Mutex<()>,
}

impl Keys {
    /// A node's. Of an edge key no node can be.
    pub fn of_node(given: Given) -> Result<Self, KeysError> {
        Self::new(Shape::Node, given)
    }

    /// A balancer's, or an address holder's.
    pub fn of_edge(given: Given) -> Result<Self, KeysError> {
        Self::new(Shape::Edge, given)
    }

    fn new(shape: Shape, Given { ring, file }: Given) -> Result<Self, KeysError> {
        let in_force = ArcSwap::from_pointee(InForce::new(shape, ring)?);
        let (changed, reading) = (watch::Sender::new(()), Mutex::new(()));
        Ok(Self(Arc::new(Inner { shape, file, in_force, changed, reading })))
    }

    /// What is in force now. To be asked for again with each connection and each datagram.
    pub fn now(&self) -> Arc<InForce> {
        self.0.in_force.load_full()
    }

    /// Told of each change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Whether these are the keys of that file.
    pub fn are_of(&self, file: Option<&KeyFile>) -> bool {
        self.0.file.as_ref() == file
    }

    /// Reads the file again, and says in the log what came of it. Cancel-safe: what was begun goes on.
    pub async fn read_again(&self) {
        let keys = self.clone();
        // It does not panic, and where the runtime ends nobody is left to be told.
        let _ = tokio::task::spawn_blocking(move || keys.read_and_say()).await;
    }

    fn read_and_say(&self) {
        let Some(file) = &self.0.file else {
            return tracing::info!("the cluster key is in no file (--cluster-key-file): it stays as it is");
        };
        let file_name = file.path.display();
        match self.read(file) {
            Ok(Change { keys, added, removed, seals_anew, warnings }) => {
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                if added + removed == 0 && !seals_anew {
                    tracing::info!(file = %file_name, keys, "the cluster keys read again: they are the same");
                } else {
                    tracing::info!(
                        file = %file_name, keys, added, removed, another_seals = seals_anew,
                        "the cluster keys read again"
                    );
                }
            }
            Err(error) => {
                tracing::error!(file = %file_name, "the cluster keys are left as they were: {error}")
            }
        }
    }

    /// Puts the keys of the file into force, or leaves those that are.
    fn read(&self, file: &KeyFile) -> Result<Change, KeysError> {
        let _one_at_a_time = self.0.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (ring, warnings) = file.read_again()?;
        let before = self.now();
        match (before.ring.has_edge_alone(), ring.has_edge_alone()) {
            (false, true) => return Err(KeysError::BecomesEdge),
            (true, false) => return Err(KeysError::BecomesMember),
            _ => {}
        }
        // One step of a rotation at a time: others are a step behind, or ahead.
        if !ring.is_opened_by(&before.ring) {
            return Err(KeysError::FirstIsNew);
        }
        if !before.ring.is_opened_by(&ring) {
            return Err(KeysError::FirstIsGone);
        }
        let change = Change {
            keys: ring.size(),
            added: ring.not_in(&before.ring),
            removed: before.ring.not_in(&ring),
            seals_anew: !ring.seals_as(&before.ring),
            warnings,
        };
        if ring != before.ring {
            self.0.in_force.store(Arc::new(InForce::new(self.0.shape, ring)?));
            self.0.changed.send_replace(());
        }
        Ok(change)
    }

    /// Ends once who showed these certificates, and was believed then, would be believed no more: its key was
    /// taken away. Cancel-safe.
    pub async fn no_more(&self, shown: &[CertificateDer<'_>]) {
        let mut changes = self.changes();
        while self.now().peers.believes(shown) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// What reading again has changed.
#[derive(Debug)]
struct Change {
    keys: usize,
    added: usize,
    removed: usize,
    /// Another key seals.
    seals_anew: bool,
    warnings: Vec<String>,
}

impl InForce {
    fn new(shape: Shape, ring: KeyRing) -> Result<Self, KeysError> {
        // Who sends and who receives datagrams makes its own, when it sees that the keys are others.
        Sealer::new(&ring)?;
        Opener::new(&ring)?;
        let (peers, http) = match shape {
            Shape::Node => {
                let peers = peer_tls(&ring)?;
                (peers.clone(), peers.for_http())
            }
            Shape::Edge => (edge_tls(&ring)?, nodes_tls(&ring)?.for_http()),
        };
        Ok(Self { tickets: Tickets::new(&ring), ring, peers, http })
    }
}

#[cfg(test)]
mod tests;
