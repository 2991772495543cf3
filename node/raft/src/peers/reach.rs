//! How a connection to a peer comes about: the wait for one, the dial, and what both ends check.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skep_base::id::{ClusterId, NodeId};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::connection::Connection;
use super::{DialError, Inner, NotSent, Patience, REFUSALS_LOGGED_MAX, hello, session};
use crate::wire::{ConnectionKind, Hello, RejectReason};

/// How long a connection waits for this node to take over its peer's cluster. Shorter than the
/// silence after which the peer gives the connection up.
const ADOPT_TIME_MAX: Duration = Duration::from_secs(2);

impl Inner {
    /// A connection to a peer on which something new may start.
    pub(super) async fn connection(
        self: &Arc<Self>,
        to: NodeId,
        deadline: Instant,
        patience: Patience,
    ) -> Result<Arc<Connection>, NotSent> {
        let slot = self.table.slot(to);
        let mut changes = slot.subscribe();
        loop {
            if self.stopping.is_cancelled() {
                return Err(NotSent::Stopping);
            }
            if self.table.claim_dial(&slot) {
                self.spawn(self.clone().dial_for_calls(to));
            }
            let wait_until = {
                let state = changes.borrow_and_update();
                if let Some(connection) = state.usable() {
                    return Ok(connection.clone());
                }
                match (&state.backoff, state.dialing) {
                    (Some((until, error)), false) => match patience {
                        Patience::None => return Err(error.clone().into()),
                        Patience::Deadline => deadline.min(*until),
                    },
                    _ => deadline,
                }
            };
            tokio::select! {
                // An error is impossible: `slot` is a sender.
                _ = changes.changed() => {}
                () = self.stopping.cancelled() => return Err(NotSent::Stopping),
                () = tokio::time::sleep_until(wait_until) => {
                    if Instant::now() >= deadline {
                        return Err(NotSent::Deadline);
                    }
                }
            }
        }
    }

    /// Dials a peer to which no connection is left that may be used, before anybody asks for one.
    pub(super) fn dial_ahead(self: &Arc<Self>, to: NodeId) {
        let slot = self.table.slot(to);
        if !self.stopping.is_cancelled() && self.table.claim_dial(&slot) {
            self.spawn(self.clone().dial_for_calls(to));
        }
    }

    async fn dial_for_calls(self: Arc<Self>, to: NodeId) {
        let dialed = tokio::select! {
            dialed = self.dial(to, ConnectionKind::Calls) => dialed,
            () = self.stopping.cancelled() => Err(DialError::NoAddress),
        };
        match dialed {
            Ok((io, accepted, clusters)) => {
                let connection =
                    Connection::new(to, accepted.session, true, accepted.cluster, self.counters.clone());
                let connection = Arc::new(connection);
                if let Some(cluster) = accepted.cluster {
                    self.adopt(to, cluster).await;
                }
                self.register(&connection, accepted.protocol);
                session::run(self, connection, io, clusters).await;
            }
            Err(error) => {
                self.counters.dial_failures.add(1);
                tracing::debug!(peer = %to, %error, "a peer cannot be reached");
                self.table.dial_failed(to, error);
            }
        }
    }

    /// `protocol` is the newest that both ends speak.
    pub(super) fn register(&self, connection: &Arc<Connection>, protocol: u16) {
        if self.table.register(connection, protocol) {
            self.counters.reconnects.add(1);
        }
        if self.stopping.is_cancelled() {
            connection.retire();
        }
    }

    /// Dials a peer and looks at its answer. The receiver has seen the cluster of the hello.
    pub(super) async fn dial(
        &self,
        to: NodeId,
        kind: ConnectionKind,
    ) -> Result<(hello::Io, hello::Accepted, watch::Receiver<Option<ClusterId>>), DialError> {
        let address = self.directory.address_of(to).ok_or(DialError::NoAddress)?;
        self.dial_at(to, address, kind).await
    }

    /// The same, at an address that is told.
    pub(super) async fn dial_at(
        &self,
        to: NodeId,
        address: SocketAddr,
        kind: ConnectionKind,
    ) -> Result<(hello::Io, hello::Accepted, watch::Receiver<Option<ClusterId>>), DialError> {
        let mut clusters = self.cluster.clone();
        let cluster = *clusters.borrow_and_update();
        let hello = Hello::new(kind, self.local, self.session, cluster, Some(to));
        let (io, accepted) = match hello::dial(address, &self.keys.now().peers, &hello).await {
            Ok(dialed) => dialed,
            Err(error) => {
                match &error {
                    // What is looked at may be another's address.
                    _ if kind == ConnectionKind::Probe => {}
                    DialError::Rejected { reason, detail, .. } => self.rejected(to, *reason, detail, "by it"),
                    DialError::Tls { .. } => self.counters.tls_failures.add(1),
                    DialError::Hello { .. } => self.counters.hello_failures.add(1),
                    _ => {}
                }
                return Err(error);
            }
        };
        // The acceptor has checked all this; so does the dialer, for it does not know that.
        let reject = match (accepted.node == to, cluster, accepted.cluster) {
            (false, _, _) => Some((RejectReason::WrongTarget, format!("{} answers", accepted.node))),
            (_, Some(ours), Some(theirs)) if ours != theirs => {
                Some((RejectReason::WrongCluster, format!("it belongs to {theirs}, this node to {ours}")))
            }
            _ => None,
        };
        if let Some((reason, detail)) = reject {
            self.rejected(to, reason, &detail, "by this node");
            return Err(DialError::Rejected { address, reason, detail });
        }
        self.counters.connections_dialed.add(1);
        Ok((io, accepted, clusters))
    }

    /// A peer belongs to a cluster; where this node belongs to none, it may join that.
    pub(super) async fn adopt(&self, from: NodeId, cluster: ClusterId) {
        let Some(handler) = self.handler().filter(|_| self.cluster.borrow().is_none()) else {
            return;
        };
        let adopt = handler.adopt(from, cluster);
        let (sender, adopted) = oneshot::channel();
        // Half an adoption would be worse than a late one: it goes on where nobody waits longer.
        self.spawn(async move {
            let adopted = adopt.await;
            tracing::debug!(peer = %from, %cluster, adopted, "a peer belongs to a cluster");
            let _ = sender.send(());
        });
        let _ = tokio::time::timeout(ADOPT_TIME_MAX, adopted).await;
    }

    /// Counts a refused connection, and logs it once for each peer and reason.
    pub(super) fn rejected(&self, peer: NodeId, reason: RejectReason, detail: &str, by: &str) {
        self.counters.count_rejected(reason);
        let first = {
            let mut logged = self.refusals_logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.len() < REFUSALS_LOGGED_MAX && logged.insert((peer, reason))
        };
        let reason = reason.label();
        match first {
            true => tracing::warn!(%peer, reason, detail, by, "a connection between peers was refused"),
            false => tracing::debug!(%peer, reason, detail, by, "a connection between peers was refused"),
        }
    }
}
