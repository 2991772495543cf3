//! `GET /workers/{worker}/stream`: an answer without an end, by which a worker shows that it lives.
//!
//! Where the worker dies its kernel closes the connection, and what it had goes to others within seconds, not after
//! a lease. The end of a stream is only a hint: its connection, a balancer, or a node may have broken alone, and a
//! node that stood still tells of it late. So streams have numbers, which beats say; there is a grace in which the
//! worker opens another one and beats; and the leader ends no lease of a worker of which it has heard since, or that
//! has a newer stream. A worker without a stream loses nothing but those seconds.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use skep_state::task::HOLDS_MAX;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Named, Queues, asked};
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query::{self, Pairs};
use crate::kinds::schema;
use crate::kinds::served::TaskApi;
use crate::service::tasks::Word;

/// Workers' streams at one node.
pub(crate) const STREAMS_MAX: usize = 4096;
/// How often something is written: a balancer between finds by it that a worker is gone.
const HEARTBEAT: Duration = Duration::from_millis(700);
/// How long a worker whose stream has ended may take to show that it lives.
const GRACE: Duration = Duration::from_millis(1000);

/// The streams at this node.
#[derive(Default)]
pub(crate) struct Streams {
    /// By worker, how many: none is here twice, but for one that opens another before the first has ended.
    of: Mutex<HashMap<String, usize>>,
}

impl Streams {
    fn of(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams that are open.
    pub(crate) fn count(&self) -> usize {
        self.of().values().sum()
    }

    fn open(&self, worker: &str) -> bool {
        let mut of = self.of();
        if of.values().sum::<usize>() >= STREAMS_MAX {
            return false;
        }
        *of.entry(worker.to_owned()).or_default() += 1;
        true
    }

    fn close(&self, worker: &str) {
        let mut of = self.of();
        if let Some(count) = of.get_mut(worker) {
            *count -= 1;
            if *count == 0 {
                of.remove(worker);
            }
        }
    }

    fn has(&self, worker: &str) -> bool {
        self.of().contains_key(worker)
    }
}

/// A worker's stream, as long as it lasts.
struct Stay<A: TaskApi> {
    streams: Arc<Streams>,
    api: Arc<A>,
    worker: String,
    number: u64,
    closing: watch::Receiver<bool>,
    began: bool,
    /// The node ended it: that says nothing of the worker.
    was_ended: bool,
}

impl<A: TaskApi> Stay<A> {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.was_ended {
            return None;
        }
        if !std::mem::replace(&mut self.began, true) {
            return Some(Bytes::from_static(b": alive\n\n"));
        }
        tokio::select! {
            biased;
            // A sender that is gone has stopped as well.
            _ = self.closing.wait_for(|closing| *closing) => {
                self.was_ended = true;
                Some(Bytes::from_static(b"event: leave\ndata: {\"reason\":\"draining\"}\n\n"))
            }
            () = tokio::time::sleep(HEARTBEAT) => Some(Bytes::from_static(b": alive\n\n")),
        }
    }
}

impl<A: TaskApi> Drop for Stay<A> {
    fn drop(&mut self) {
        self.streams.close(&self.worker);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.was_ended || *self.closing.borrow() {
            return;
        }
        let (streams, api) = (self.streams.clone(), self.api.clone());
        let (worker, number, ended) = (std::mem::take(&mut self.worker), self.number, Instant::now());
        // One for each stream that ends, as long as the grace and one call to the leader.
        runtime.spawn(async move {
            tokio::time::sleep(GRACE).await;
            if streams.has(&worker) {
                return;
            }
            let fences = api.tasks(|tasks| tasks.fences_of(&worker));
            for fences in fences.chunks(HOLDS_MAX) {
                let ended = Some(ended);
                let word = Word { worker: &worker, stream: number, fences, ended, ..Word::default() };
                if let Err(error) = api.tell_of_worker(word).await {
                    tracing::debug!(%error, "a worker that is gone has its tasks until their leases end");
                }
            }
        });
    }
}

/// Shows for as long as it is open that a worker lives.
///
/// Server-sent events: a comment now and then, and `event: leave` before the node drains. Where the worker dies, its
/// connection ends, and its tasks go to others within 3 seconds, if it has said the number of this stream in a beat.
/// One whose connection alone broke beats at once, and opens another of the next number: its tasks stay its own.
#[utoipa::path(
    get, path = "/workers/{worker}/stream", operation_id = "stay", tag = "workers", security(("worker" = [])),
    params(
        ("worker" = String, Path),
        ("number" = Option<u64>, Query, minimum = 1, description = "Which one of the worker's it is: one more than the last"),
    ),
    responses(
        (status = 200, description = "As long as both live", body = String, content_type = "text/event-stream"),
        (status = 401, description = "The workers' token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "The node drains, or has as many streams as it may", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stay<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(worker): Named,
    request: Request,
) -> Result<Response, Problem> {
    queues.workers.check(request.headers())?;
    asked::worker_name(&worker)?;
    if request.method() == Method::HEAD {
        // Its end would be taken for the worker's.
        return Err(Problem::method_not_allowed("HEAD", request.uri().path()));
    }
    let mut number = 0;
    for (name, value) in Pairs::of(request.uri().query().unwrap_or_default()) {
        if name == "number" {
            number = query::seq(&value).ok_or_else(|| {
                let detail = format!("number is {value:?}; expected a whole number from 1 on");
                Problem::new(ProblemKind::InvalidQuery, detail)
            })?;
        }
    }
    if *queues.closing.borrow() {
        let detail = "the node drains; open the stream at another one";
        return Err(Problem::unprocessed(ProblemKind::NotReady, detail));
    }
    if !queues.streams.open(&worker) {
        let detail = format!("{STREAMS_MAX} workers' streams are open at this node");
        return Err(Problem::unprocessed(ProblemKind::Overloaded, detail));
    }
    let stay = Stay {
        streams: queues.streams.clone(),
        api: queues.served.api.clone(),
        worker,
        number,
        closing: queues.closing.clone(),
        began: false,
        was_ended: false,
    };
    let pieces = stream::unfold(stay, |mut stay| async move {
        let piece = stay.next().await?;
        Some((Ok::<_, Infallible>(piece), stay))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The connection is of no further use.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}
