//! `POST /gateway/purge` on the admin address: what balancers have stored of it is not to be used any more.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use skep_console::token::OperatorToken;
use skep_gateway::document::SKEP;
use skep_gateway::purge::Purge;
use skep_gateway::{Fault, Refused};
use skep_members::gossip::GatewayRevision;
use skep_state::purge::PurgeOutcome;
use tokio::sync::Semaphore;

use super::followed::{self, Followed, PREFERENCE_APPLIED};
use super::refused::Unchanged;
use super::{GatewayApi, kept, newest, unreadable};
use crate::http::account::Account;
use crate::http::body;
use crate::http::headers::insert;
use crate::http::problem::{Problem, ProblemKind};

/// Largest body of a purge, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// What all such bodies take together.
const REQUESTS_BYTES_MAX: u64 = 1 << 20;
/// Documents that are looked through at a time for a name.
const LOOKS_MAX: usize = 1;

struct Purging<A> {
    api: Arc<A>,
    operators: OperatorToken,
    account: Account,
    /// Of those who wait for balancers.
    waits: Semaphore,
    looks: Semaphore,
}

/// What a purge came to.
#[derive(Serialize)]
struct Purged {
    purge: u64,
    /// Where that was waited for.
    #[serde(flatten)]
    followed: Option<Followed>,
}

/// The route of the admin address.
pub(super) fn routes<A: GatewayApi>(api: Arc<A>, operators: OperatorToken) -> Router {
    let (account, waits) = (Account::new(REQUESTS_BYTES_MAX), Semaphore::new(followed::WAITS_MAX));
    let shared = Purging { api, operators, account, waits, looks: Semaphore::new(LOOKS_MAX) };
    Router::new().route("/gateway/purge", post(purge::<A>)).with_state(Arc::new(shared))
}

async fn purge<A: GatewayApi>(
    State(shared): State<Arc<Purging<A>>>,
    request: Request,
) -> Result<Response, Unchanged> {
    shared.operators.check(request.headers())?;
    let wish = followed::wish(request.headers());
    is_json(request.headers())?;
    let (head, body) = request.into_parts();
    let (bytes, _charge) = body::read_charged(&head.headers, body, BODY_BYTES_MAX, &shared.account).await?;
    let purge = Purge::read(std::str::from_utf8(&bytes).map_err(Problem::invalid_utf8)?)?;
    shared.is_there(&purge).await?;
    let number = match shared.api.purge(purge.json().into()).await? {
        PurgeOutcome::Added { number } => number,
        PurgeOutcome::TooLarge => {
            return Err(Unchanged::new(ProblemKind::BodyTooLarge, "a purge says no more than one thing"));
        }
    };
    // Not what it is of: a URL may have a key.
    tracing::info!(number, of = kind(&purge), "what balancers have stored of it is not used any more");
    let turn = wish.and_then(|_| shared.waits.try_acquire().ok());
    let seconds = wish.filter(|_| turn.is_some());
    let followed = match seconds {
        None => None,
        Some(seconds) => {
            let view = shared.api.members();
            let cluster = view.borrow().me.cluster.map_or(0, |it| it.0);
            let now = GatewayRevision { lineage: cluster, number };
            Some(followed::wait(view, now, Duration::from_secs(seconds)).await)
        }
    };
    let mut response = skep_console::answer::json(&Purged { purge: number, followed }).map(Body::new);
    if let Some(seconds) = seconds {
        insert(response.headers_mut(), PREFERENCE_APPLIED, format!("wait={seconds}"));
    }
    Ok(response)
}

impl<A: GatewayApi> Purging<A> {
    /// Fails where it names an object that the document does not have: it is a slip, and nothing would go.
    async fn is_there(&self, purge: &Purge) -> Result<(), Unchanged> {
        let (kind, name) = match purge {
            Purge::Route(name) => ("routes", name.clone()),
            Purge::Service(name) if name != SKEP => ("services", name.clone()),
            _ => return Ok(()),
        };
        self.api.current().await?;
        let Ok(_turn) = self.looks.acquire().await else { return Ok(()) };
        let document = newest(&*self.api).map(|newest| newest.stored.document);
        let wanted = name.clone();
        let look = move || match document {
            None => Some(false),
            Some(document) => kept(&document).map(|it| it.object(kind, &wanted).is_some()),
        };
        let found = tokio::task::spawn_blocking(look).await;
        let found = found.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
        if found.ok_or_else(unreadable)? {
            return Ok(());
        }
        let pointer = format!("/{}", kind.trim_end_matches('s'));
        let fault = format!("the document has no {kind}/{name}");
        Err(Refused::clash(Fault { pointer, fault }).into())
    }
}

fn kind(purge: &Purge) -> &'static str {
    match purge {
        Purge::All => "all",
        Purge::Url(_) => "url",
        Purge::Prefix { .. } => "prefix",
        Purge::Route(_) => "route",
        Purge::Service(_) => "service",
        Purge::Group(_) => "group",
        Purge::Message(_) | Purge::Messages(_) => "message",
    }
}

fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = given.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    match essence.eq_ignore_ascii_case(b"application/json") {
        true => Ok(()),
        false => Err(Problem::new(
            ProblemKind::UnsupportedContentType,
            "expected the content type application/json",
        )),
    }
}
