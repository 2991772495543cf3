//! `GET /-/gateway/watch`: what this node has of the gateway, told to a balancer for as long as it listens: lines as
//! [`skep_gateway::told`] has them.
//!
//! A listener has no queue: what it is told next is whatever is the newest once it has taken what was told before. A
//! node that was started again has nothing until it has heard from a leader, and says nothing before that: no listener
//! takes what a node does not have yet for nothing at all. No tasks: the connection's own polls the stream. It ends when
//! the listener drains.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use skep_console::Proved;
use skep_gateway::told::{BEAT_INTERVAL, CONTENT_TYPE as LINES, Told, WATCH_PATH};
use skep_state::gateway::Revision;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::{GatewayApi, Newest, newest};
use crate::http::account::PIECE_BYTES_MAX;
use crate::http::problem::{Problem, ProblemKind};

/// Listeners at one node; one more is sent elsewhere.
pub(crate) const WATCHES_MAX: usize = 64;
/// What a balancer passes on for a client comes over the same TLS, and has some of these from every balancer.
const PASSED_ON: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// What the listeners of one node share.
pub(crate) struct Watches<A> {
    api: Arc<A>,
    slots: Arc<Semaphore>,
    /// True once the node asks its clients to go elsewhere.
    closing: watch::Receiver<bool>,
    /// Whether the state here is, or was since the start, that of the cluster.
    has_caught_up: AtomicBool,
}

impl<A: GatewayApi> Watches<A> {
    pub(crate) fn new(api: Arc<A>, closing: watch::Receiver<bool>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(WATCHES_MAX));
        Arc::new(Self { api, slots, closing, has_caught_up: AtomicBool::new(false) })
    }
}

/// The route of the public address.
pub(crate) fn routes<A: GatewayApi>(watches: Arc<Watches<A>>) -> Router {
    Router::new().route(WATCH_PATH, get(listen::<A>)).with_state(watches)
}

async fn listen<A: GatewayApi>(
    State(watches): State<Arc<Watches<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let is_passed_on = PASSED_ON.iter().any(|name| request.headers().contains_key(*name));
    if is_passed_on || request.extensions().get::<Proved>().is_none() {
        let detail = "this is for balancers, which prove by TLS that they have the cluster's or the edge key";
        return Err(Problem::new(ProblemKind::NoBalancer, detail));
    }
    let slot = watches.slots.clone().try_acquire_owned().map_err(|_| {
        Problem::new(
            ProblemKind::Overloaded,
            format!("{WATCHES_MAX} balancers listen here: ask another node"),
        )
    })?;
    if !watches.has_caught_up.load(Ordering::Relaxed) {
        watches.api.current().await?;
        watches.has_caught_up.store(true, Ordering::Relaxed);
    }
    let listener = Listener {
        api: watches.api.clone(),
        changes: watches.api.newest_gateway(),
        closing: watches.closing.clone(),
        told: None,
        beat_at: Instant::now(),
        rest: [const { Bytes::new() }; 3],
        _slot: slot,
    };
    let lines = stream::unfold(listener, |mut listener| async {
        let piece = listener.next().await?;
        Some((Ok::<_, Infallible>(piece), listener))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The connection is of no further use.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

struct Listener<A> {
    api: Arc<A>,
    changes: watch::Receiver<Option<Revision>>,
    closing: watch::Receiver<bool>,
    /// What it was told last; none before the first line.
    told: Option<Option<Revision>>,
    beat_at: Instant,
    /// What of the last line it was not given yet.
    rest: [Bytes; 3],
    _slot: OwnedSemaphorePermit,
}

impl<A: GatewayApi> Listener<A> {
    /// The next piece; none once it is to go elsewhere.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.rest.iter_mut().find(|part| !part.is_empty()) {
                return Some(part.split_to(part.len().min(PIECE_BYTES_MAX)));
            }
            self.changes.borrow_and_update();
            let newest = newest(&*self.api);
            let revision = newest.as_ref().map(|newest| newest.revision);
            if self.told != Some(revision) {
                self.rest = state(newest);
                self.told = Some(revision);
                self.beat_at = Instant::now() + BEAT_INTERVAL;
                continue;
            }
            tokio::select! {
                biased;
                _ = self.closing.wait_for(|closing| *closing) => return None,
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(self.beat_at) => {
                    self.beat_at = Instant::now() + BEAT_INTERVAL;
                    let revision = revision.map_or(0, |revision| revision.number);
                    self.rest[0] = Told::Beat { revision }.encode().into();
                }
            }
        }
    }
}

/// The line of a state, in parts: the document is the state's own bytes, of which a slow listener has no copy.
fn state(newest: Option<Newest>) -> [Bytes; 3] {
    match newest {
        None => {
            let line = Told::State { lineage: 0, revision: 0, document: None }.encode();
            [line.into(), Bytes::new(), Bytes::new()]
        }
        Some(Newest { revision: Revision { lineage, number }, document }) => {
            let head = format!("{{\"lineage\":\"{lineage:032x}\",\"revision\":{number},\"document\":");
            [head.into(), document, Bytes::from_static(b"}\n")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_parts_is_the_line() {
        let document = "{\"routes\":{}}";
        let revision = Revision { lineage: 0xab, number: 7 };
        let parts = state(Some(Newest { revision, document: document.into() })).concat();
        assert_eq!(parts, Told::State { lineage: 0xab, revision: 7, document: Some(document) }.encode());
        assert!(matches!(
            Told::decode(&state(None).concat()),
            Ok(Told::State { revision: 0, document: None, .. })
        ));
    }
}
