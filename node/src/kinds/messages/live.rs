//! `GET /messages/live`: every message as it is applied at this node, as WebSocket frames or
//! server-sent events.
//!
//! A reader is a position in the log of messages, nothing more: what it has not had yet lies in the
//! store, or, where it keeps up, in the [`tail::Tail`] that all readers share. So a slow reader
//! costs no memory; one whose connection takes nothing for [`STALL_MAX`] is told where to resume and
//! let go (with server-sent events: when it takes again, or when the kernel gives it up after a
//! minute). A position means the same at every node, which is why any of them can go on.
//!
//! Tasks: the tail's, and one a WebSocket. Readers leave when the listener drains.

mod events;
mod socket;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use http::HeaderMap;
use http::header::UPGRADE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::http::account::Account;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query::{self, Pairs};
use crate::kinds::schema;
use crate::kinds::served::MessageApi;
use crate::telemetry::Metrics;
use skep_console::accept::want;
use tail::{Reader, Tail};

/// Live readers at one node, where it has descriptors for them; one more is sent elsewhere.
pub const LIVE_READERS_MAX: usize = 8192;
/// How often a reader hears that the connection lives where there is nothing else to say.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A reader that takes nothing for this long is let go.
const STALL_MAX: Duration = Duration::from_secs(10);

const EVENT_STREAM: &str = "text/event-stream";

/// What the readers of one node share.
pub(crate) struct Live {
    tail: Tail,
    account: Account,
    readers_max: usize,
    slots: Arc<Semaphore>,
    /// True once the node asks its clients to go elsewhere.
    closing: watch::Receiver<bool>,
    tasks: TaskTracker,
}

impl Live {
    /// Starts the tail's task; it ends when the last holder of this is gone.
    pub(crate) fn start<A: MessageApi>(
        api: Arc<A>,
        closing: watch::Receiver<bool>,
        tasks: TaskTracker,
        readers_max: usize,
        account: Account,
        metrics: &Metrics,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(readers_max));
        let free = slots.clone();
        metrics.add_source(move |scrape| {
            let readers = readers_max - free.available_permits();
            scrape.gauge("http_live_readers", "Readers of the live feed", readers as f64);
            scrape.gauge("http_live_readers_max", "Most readers of the live feed", readers_max as f64);
        });
        Self { tail: Tail::start(api), account, readers_max, slots, closing, tasks }
    }

    /// Readers at this moment.
    pub(crate) fn readers(&self) -> usize {
        self.readers_max - self.slots.available_permits()
    }
}

/// What the handler is given.
pub(crate) struct Feed<A> {
    pub api: Arc<A>,
    pub live: Live,
}

/// A reader with what it holds of the node.
struct Seat<A: MessageApi> {
    reader: Reader<A>,
    closing: watch::Receiver<bool>,
    api: Arc<A>,
    account: Account,
    _slot: OwnedSemaphorePermit,
}

/// Why a reader is let go. Wherever it connects next, it resumes after its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// The node stops.
    Draining,
    /// The reader took nothing for [`STALL_MAX`].
    TooSlow,
    /// The node is cut off from its cluster: what it has may be old.
    NotReady,
    /// Readers that take nothing hold what memory there is for them.
    Overloaded,
    /// The store cannot be read.
    Failed,
}

impl Farewell {
    fn reason(self) -> &'static str {
        match self {
            Farewell::Draining => "draining",
            Farewell::TooSlow => "too-slow",
            Farewell::NotReady => "not-ready",
            Farewell::Overloaded => "overloaded",
            Farewell::Failed => "failed",
        }
    }
}

impl<A: MessageApi> Seat<A> {
    /// Returns once the node asks its clients to leave.
    async fn leaving(closing: &mut watch::Receiver<bool>) {
        // A sender that is gone has stopped as well.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

/// Follows the messages as they come.
///
/// As server-sent events, or as a WebSocket whose text frames are the same JSON objects. Every
/// message comes once and in order; after a loss, at any node, go on with `after` or `Last-Event-ID`.
#[utoipa::path(
    get, path = "/messages/live", operation_id = "followMessages", tag = "messages",
    params(
        ("after" = Option<u64>, Query, minimum = 0, maximum = 9007199254740991_i64, description = "The seq after which to begin; without it, with what comes from now on"),
        ("Last-Event-ID" = Option<u64>, Header, minimum = 0, maximum = 9007199254740991_i64, description = "What a browser sends when it connects again"),
    ),
    responses(
        (status = 200, description = "Events: `id` is the seq, `data` the message; `event: resume` before the node lets go", body = String, content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket; the close frame's reason tells where to resume"),
        (status = 400, description = "A bad position or upgrade", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 406, description = "Neither events nor a WebSocket are wanted", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get<A: MessageApi>(
    State(feed): State<Arc<Feed<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    // Some clients offer `h2c` with each request: that is no wish for a WebSocket.
    let upgrade = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrade && !want(request.headers(), EVENT_STREAM).is_some() {
        let detail = "ask for text/event-stream, or for an upgrade to a WebSocket";
        return Err(Problem::new(ProblemKind::NotAcceptable, detail));
    }
    if upgrade && let Some(refusal) = socket::refuse(request.headers()) {
        return Ok(refusal);
    }
    let after = position(request.headers(), request.uri().query().unwrap_or_default())?;
    let live = &feed.live;
    if *live.closing.borrow() {
        let detail = "the node drains; connect to another one";
        return Err(Problem::unprocessed(ProblemKind::NotReady, detail));
    }
    let Ok(slot) = live.slots.clone().try_acquire_owned() else {
        let detail = format!("{} live readers are connected", live.readers_max);
        return Err(Problem::unprocessed(ProblemKind::Overloaded, detail));
    };
    let (mut parts, _) = request.into_parts();
    let socket = match upgrade {
        true => Some(WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|error| {
            Problem::new(ProblemKind::InvalidUpgrade, format!("no WebSocket: {}", error.body_text()))
        })?),
        false => None,
    };
    let reader = live.tail.reader(feed.api.clone(), after);
    let (closing, account) = (live.closing.clone(), live.account.clone());
    let seat = Seat { reader, closing, api: feed.api.clone(), account, _slot: slot };
    Ok(match socket {
        Some(upgrade) => socket::serve(upgrade, seat, live.tasks.token()),
        None => events::serve(seat),
    })
}

/// After which message to begin: the query's word, else the browser's; none for what comes from now on.
fn position(headers: &HeaderMap, query: &str) -> Result<Option<u64>, Problem> {
    let mut after = None;
    for (name, value) in Pairs::of(query) {
        if name == "after" {
            after = Some(query::after(&value)?);
        }
    }
    match headers.get("last-event-id") {
        // A browser that reconnects sends both: the same address, and how far it came since.
        Some(value) => {
            let seen = value.to_str().unwrap_or_default();
            let seen = query::seq(seen).ok_or_else(|| {
                Problem::new(ProblemKind::InvalidQuery, format!("Last-Event-ID is {seen:?}; expected a seq"))
            })?;
            Ok(Some(seen.max(after.unwrap_or(0))))
        }
        None => Ok(after),
    }
}
