//! The list of the kinds of replicated state as they are served: their routes, their parts of the API's
//! document, and their ways past the router.

pub(crate) mod gateway;
pub(crate) mod messages;
pub(crate) mod schedules;
pub(crate) mod schema;
pub(crate) mod served;
pub(crate) mod tasks;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::{Method, Request};
use hyper::body::Incoming;
use skep_console::token::OperatorToken;
use utoipa::OpenApi;

use messages::live::Feed;
use served::{MessageApi, Served, TaskApi};
use tasks::Queues;

/// The routes of all kinds.
pub(crate) fn routes<A: TaskApi>(
    served: &Arc<Served<A>>,
    feed: &Arc<Feed<A>>,
    queues: &Arc<Queues<A>>,
    operators: OperatorToken,
) -> Router {
    Router::new()
        .merge(messages::routes(served.clone(), feed.clone()))
        .merge(text::routes(served.clone()))
        .merge(tasks::routes(queues.clone()))
        .merge(schedules::routes(served.clone(), operators))
}

/// Adds what the kinds say of themselves to the API's document.
pub(crate) fn document(document: &mut utoipa::openapi::OpenApi) {
    document.merge(messages::Document::openapi());
    document.merge(text::Document::openapi());
    document.merge(tasks::Document::openapi());
    document.merge(schedules::Document::openapi());
}

/// Answers what is asked most often past the router.
pub(crate) fn shortcut<A: MessageApi>(
    served: &Arc<Served<A>>,
    request: &mut Request<Incoming>,
) -> Option<BoxFuture<'static, Response>> {
    if request.method() != Method::GET {
        return None;
    }
    text::shortcut(served, request).or_else(|| messages::shortcut(served, request))
}
