//! What edges may ask: balancers and holders of addresses, who have the edge key alone.
//!
//! An edge is no peer, whatever id it says that it has: its connection is not in the table, so that
//! nothing of this node's ever goes there, and the cluster that it names is not adopted. It asks one
//! thing at a time, what is [for edges](crate::wire::Request::is_for_edges); all else is refused, and a
//! word of Raft ends the connection. No tasks of its own: it runs in the connection's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::hello::{self, HELLO_TIMEOUT, Io};
use super::shares::Greeting;
use super::{Inner, REQUEST_TIME_MAX};
use crate::wire::{
    self, ConnectionKind, Frame, GroupId, Hello, HelloAnswer, Refusal, RejectReason, Request, Response,
};

/// Most edges that are connected at once; members have the other connections for themselves.
pub const EDGES_MAX: usize = 64;

/// Most edges that are told a last word at once; beyond that their connections just end.
pub const FAREWELLS_MAX: usize = 16;

/// An edge that says nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Answers an edge's hello, and serves it where it is accepted.
pub(super) async fn greet(inner: &Arc<Inner>, mut io: Io, hello: Hello, greeting: Greeting) {
    let reject = |reason: RejectReason, detail: &str| {
        inner.rejected(hello.node, reason, detail, "by this node");
        HelloAnswer::Reject { reason, detail: wire::short_text(detail) }
    };
    let permit = inner.edges.clone().try_acquire_owned();
    let refused = match (inner.judge(&hello), &permit) {
        (Err((reason, detail)), _) => Err(reject(reason, &detail)),
        (Ok(_), _) if hello.kind == ConnectionKind::Snapshot => {
            Err(reject(RejectReason::NotAPeer, "a snapshot from who has the edge key alone"))
        }
        (Ok(_), Err(_)) => Err(reject(RejectReason::Busy, "too many edges")),
        (Ok(protocol), Ok(_)) => Ok(protocol),
    };
    let protocol = match refused {
        Ok(protocol) => protocol,
        Err(answer) => return part(inner, io, greeting, &answer).await,
    };
    let cluster = *inner.cluster.borrow();
    let answer = HelloAnswer::Accept { protocol, node: inner.local, session: inner.session, cluster };
    if hello.kind == ConnectionKind::Probe {
        return part(inner, io, greeting, &answer).await;
    }
    let sent = timeout(HELLO_TIMEOUT, hello::send(&mut io, &answer)).await;
    drop(greeting);
    if matches!(sent, Ok(Ok(()))) {
        inner.counters.connections_accepted.add(1);
        let end = serve(inner, &hello, io).await;
        tracing::debug!(edge = %hello.node, end, "a connection to an edge ended");
    }
}

/// The last word to an edge. Members' places to greet are not kept while it takes its time to read it.
async fn part(inner: &Inner, mut io: Io, greeting: Greeting, answer: &HelloAnswer) {
    drop(greeting);
    if let Ok(_place) = inner.edge_farewells.try_acquire() {
        hello::farewell(&mut io, answer).await;
    }
}

/// Answers one thing after another; says why it ended.
async fn serve(inner: &Arc<Inner>, hello: &Hello, mut io: Io) -> String {
    let shown = hello::shown(&io);
    let mut key_gone = std::pin::pin!(inner.keys.no_more(&shown));
    loop {
        let body = tokio::select! {
            body = timeout(SILENCE_MAX, hello::receive(&mut io)) => match body {
                Ok(Ok(body)) => body,
                Ok(Err(error)) => return error.to_string(),
                Err(_elapsed) => return "the edge is silent".into(),
            },
            () = inner.stopping.cancelled() => return "the node is stopping".into(),
            () = &mut key_gone => return "its key was taken away".into(),
        };
        inner.counters.frames_in.add(1);
        let answer = match wire::decode_frame(&body) {
            Ok(Frame::Ping) => Frame::Pong,
            Ok(Frame::Request { id, group, timeout_ms, request }) => {
                let time_max = Duration::from_millis(timeout_ms.into()).min(REQUEST_TIME_MAX);
                let Ok(response) = timeout(time_max, answer(inner, hello, group, request)).await else {
                    return "a request took longer than its time".into();
                };
                Frame::Response { id, response }
            }
            Ok(Frame::Goodbye) => return "the edge closed it".into(),
            Ok(_) => return breach(inner, hello, "it is not for edges"),
            Err(error) => return breach(inner, hello, &error.to_string()),
        };
        match timeout(HELLO_TIMEOUT, hello::send(&mut io, &answer)).await {
            Ok(Ok(())) => inner.counters.frames_out.add(1),
            Ok(Err(error)) => return error.to_string(),
            Err(_elapsed) => return "the edge takes no bytes".into(),
        }
    }
}

async fn answer(inner: &Arc<Inner>, hello: &Hello, group: GroupId, request: Request) -> Response {
    if !request.is_for_edges() {
        return Response::Refused(Refusal::NotForEdges);
    }
    if inner.cluster.borrow().is_none() {
        return Response::Refused(Refusal::NotInCluster);
    }
    match inner.handler() {
        Some(handler) => handler.handle(hello.node, group, request).await,
        None => Response::Refused(Refusal::NotReady),
    }
}

fn breach(inner: &Inner, hello: &Hello, what: &str) -> String {
    inner.counters.decode_errors.add(1);
    tracing::warn!(edge = %hello.node, what, "an edge sent what no edge sends");
    format!("a breach of the protocol: {what}")
}
