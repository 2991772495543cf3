//! The public API's routes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, Request, Uri};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::api::MessageApi;
use super::app::{App, Shortcut};
use super::live::{self, Live};
use super::members::Overview;
use super::problem::{Problem, ProblemKind};
use super::token::OperatorToken;
use super::{assets, endpoint, export, members, messages, openapi, page, text};
use crate::telemetry::Metrics;

/// What the handlers share.
pub(super) struct Public<A> {
    pub api: Arc<A>,
    pub max_body_bytes: usize,
    pub live: Live,
    pub overview: Overview,
    pub token: OperatorToken,
}

/// The public API over `api`, with the live feed's task; a route that is added here wants a label in
/// [`crate::telemetry::metrics::Route`].
pub fn public_app<A: MessageApi>(
    api: A,
    token: OperatorToken,
    max_body_bytes: usize,
    metrics: &Metrics,
) -> App {
    let node_id = api.node_id();
    let (api, closing, upgraded) = (Arc::new(api), watch::Sender::new(false), TaskTracker::new());
    let live = Live::start(api.clone(), closing.subscribe(), upgraded.clone(), metrics);
    let overview = Overview::start(metrics.http.clone());
    let public = Arc::new(Public { api, max_body_bytes, live, overview, token });
    let router = assets::routes()
        .route("/messages", post(messages::post::<A>).get(page::get::<A>).head(page::head::<A>))
        .route("/endpoint", post(endpoint::post::<A>).get(endpoint::get::<A>))
        .route("/endpoint/", post(endpoint::post::<A>).get(endpoint::get::<A>))
        .route("/messages/live", get(live::get::<A>))
        .route("/messages/{digest}", get(messages::get::<A>))
        .route("/members", get(members::get::<A>))
        .route("/members/self", get(members::own::<A>))
        .route("/operator", get(export::check::<A>))
        .route("/export", get(export::get::<A>))
        .route("/openapi.json", get(openapi::get))
        .route("/write", post(text::write::<A>))
        .route("/read", get(text::read::<A>))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(public.clone());
    App::new(router, node_id, Some(metrics.http.clone()))
        .with_endings(closing, upgraded)
        .with_shortcut(Arc::new(Reads(public)))
}

/// Past the router: `GET /read` and `GET /messages/{digest}`.
struct Reads<A>(Arc<Public<A>>);

impl<A: MessageApi> Shortcut for Reads<A> {
    fn answer(&self, request: &mut Request<Incoming>) -> Option<BoxFuture<'static, Response>> {
        /// As long as a path with a digest.
        const DIGEST_PATH_BYTES: usize = messages::MESSAGE_PATH.len() + 64;
        let path = request.uri().path();
        if request.method() != Method::GET {
            return None;
        }
        if path == "/read" {
            let public = self.0.clone();
            return Some(async move { text::read(State(public)).await.into_response() }.boxed());
        }
        if path.len() == DIGEST_PATH_BYTES && path.starts_with(messages::MESSAGE_PATH) {
            let (public, uri) = (self.0.clone(), request.uri().clone());
            let headers = std::mem::take(request.headers_mut());
            let found = async move { messages::find(&public, uri.path(), &headers).await.into_response() };
            return Some(found.boxed());
        }
        None
    }
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is nothing at {}", shortened(uri.path())))
}

/// axum adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let (method, path) = (shortened(method.as_str()), shortened(uri.path()));
    Problem::new(ProblemKind::MethodNotAllowed, format!("{path} does not take {method}"))
}

/// A client's text, no longer than an error message should be.
fn shortened(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 200;
    text.get(..SHOWN_BYTES_MAX).unwrap_or(text.get(..text.len().min(64)).unwrap_or("…"))
}
