//! The public API's routes.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use http::{Method, Uri};

use super::api::MessageApi;
use super::app::App;
use super::problem::{Problem, ProblemKind};
use super::{messages, page, text};
use crate::telemetry::Metrics;

/// What the handlers share.
pub(super) struct Public<A> {
    pub api: A,
    pub max_body_bytes: usize,
}

/// The public API over `api`; a route that is added here wants a label in
/// [`crate::telemetry::metrics::Route`].
pub fn public_app<A: MessageApi>(api: A, max_body_bytes: usize, metrics: &Metrics) -> App {
    let node_id = api.node_id();
    let router = Router::new()
        .route("/messages", post(messages::post::<A>).get(page::get::<A>))
        .route("/messages/{digest}", get(messages::get::<A>))
        .route("/write", post(text::write::<A>))
        .route("/read", get(text::read::<A>))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(Public { api, max_body_bytes }));
    App::new(router, node_id, Some(metrics.http.clone()))
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
