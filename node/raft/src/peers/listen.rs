//! Incoming connections: bounded in number and, until their hello is done, in time and for each source.

use std::sync::Arc;
use std::time::Duration;

use skep_members::tls::Role;

use tokio::net::TcpListener;

use super::connection::Connection;
use super::hello::{self, AcceptError, HELLO_TIMEOUT};
use super::shares::Greeting;
use super::{Inner, edges, session, snapshot};
use crate::wire::{self, ConnectionKind, Hello, HelloAnswer, RejectReason};

/// The wait after the system had no connection to give: no file descriptor, say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts connections until the network stops.
pub(super) async fn run(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inner.stopping.cancelled() => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection of a peer can be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let permits = inner
            .incoming
            .clone()
            .try_acquire_owned()
            .and_then(|incoming| Ok((incoming, inner.greeting.clone().try_acquire_owned()?)));
        let share = inner.greeting_shares.take(remote.ip());
        let (Ok((incoming, greeting)), Some(share)) = (permits, share) else {
            // Without a word: TLS for everyone who knocks would be what the bound is against.
            inner.counters.count_rejected(RejectReason::Busy);
            continue;
        };
        let inner = inner.clone();
        inner.clone().spawn(async move {
            let greeting = Greeting::of(greeting, share);
            let greeted = {
                // Not for as long as the session: keys that are taken away are to be wiped.
                let keys = inner.keys.now();
                tokio::time::timeout(HELLO_TIMEOUT, hello::accept(stream, &keys.peers)).await
            };
            match greeted {
                Ok(Ok((io, hello, Role::Member))) => greet(inner, io, hello, greeting).await,
                Ok(Ok((io, hello, Role::Edge))) => edges::greet(&inner, io, hello, greeting).await,
                Ok(Err(error)) => {
                    match error {
                        AcceptError::Tls(_) => inner.counters.tls_failures.add(1),
                        AcceptError::Hello(_) => inner.counters.hello_failures.add(1),
                    }
                    tracing::debug!(%remote, %error, "an incoming connection came to nothing");
                }
                Err(_elapsed) => {
                    inner.counters.hello_failures.add(1);
                    tracing::debug!(%remote, "an incoming connection said no hello in time");
                }
            }
            drop(incoming);
        });
    }
}

/// Answers a hello, and runs the connection where it is accepted.
async fn greet(inner: Arc<Inner>, mut io: hello::Io, hello: Hello, greeting: Greeting) {
    if let (Some(cluster), true) = (hello.cluster, inner.judge(&hello).is_ok()) {
        inner.adopt(hello.node, cluster).await;
    }
    let mut clusters = inner.cluster.clone();
    let cluster = *clusters.borrow_and_update();
    let protocol = match inner.judge(&hello) {
        Ok(protocol) => protocol,
        Err((reason, detail)) => {
            inner.rejected(hello.node, reason, &detail, "by this node");
            let answer = HelloAnswer::Reject { reason, detail: wire::short_text(detail) };
            return hello::farewell(&mut io, &answer).await;
        }
    };
    let answer = HelloAnswer::Accept { protocol, node: inner.local, session: inner.session, cluster };
    inner.counters.connections_accepted.add(1);
    match hello.kind {
        ConnectionKind::Calls => {
            let counters = inner.counters.clone();
            let connection =
                Arc::new(Connection::new(hello.node, hello.session, false, hello.cluster, counters));
            // Before the answer: once the peer reads it, both ends agree on which one to keep.
            inner.register(&connection, protocol);
            let sent = tokio::time::timeout(HELLO_TIMEOUT, hello::send(&mut io, &answer)).await;
            drop(greeting);
            if !matches!(sent, Ok(Ok(()))) {
                connection.close("the hello was not answered");
                inner.table.forget(&connection);
                return;
            }
            session::run(inner, connection, io, clusters).await;
        }
        ConnectionKind::Snapshot => {
            let sent = tokio::time::timeout(HELLO_TIMEOUT, hello::send(&mut io, &answer)).await;
            drop(greeting);
            if matches!(sent, Ok(Ok(()))) {
                snapshot::receive(&inner, hello, io).await;
            }
        }
        ConnectionKind::Probe => hello::farewell(&mut io, &answer).await,
    }
}

impl Inner {
    /// The protocol to speak with whoever says this, or why not.
    pub(super) fn judge(&self, hello: &Hello) -> Result<u16, (RejectReason, String)> {
        if !hello.is_peer() || hello.node == self.local {
            return Err((RejectReason::NotAPeer, format!("hello of {}", hello.node)));
        }
        if let Some(target) = hello.target
            && target != self.local
        {
            return Err((RejectReason::WrongTarget, format!("meant for {target}, this is {}", self.local)));
        }
        if let (Some(ours), Some(theirs)) = (*self.cluster.borrow(), hello.cluster)
            && ours != theirs
        {
            return Err((RejectReason::WrongCluster, format!("{theirs} knocks at a node of {ours}")));
        }
        if self.stopping.is_cancelled() {
            return Err((RejectReason::Stopping, "the node is stopping".into()));
        }
        hello.common_protocol().ok_or_else(|| {
            let detail = format!("it speaks {:?}, this node {:?}", hello.protocol, wire::PROTOCOL);
            (RejectReason::NoCommonProtocol, detail)
        })
    }
}
