//! What operators ask: queues and their settings, and the end and the beginning of a task by hand.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use skep_console::accept::want;
use skep_state::task::{TaskOp, TaskOutcome};

use super::asked::{self, QueueAsked};
use super::shown::{self, QueueShown, SettingsShown};
use super::worker::change;
use super::{Named, Queues, named_id, refused};
use crate::http::body;
use crate::http::problem::Problem;
use crate::kinds::schema;
use crate::kinds::served::TaskApi;

/// Largest body of settings.
const SETTINGS_BYTES_MAX: usize = 4096;

/// All queues: what is in them, and what has come of it. Browsers get the page that shows them.
#[utoipa::path(
    get, path = "/queues", operation_id = "listQueues", tag = "tasks",
    responses((status = 200, description = "By their names", body = schema::Queues)),
)]
pub(crate) async fn list<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let html = want(&headers, "text/html");
    if html.is_exact() && html > want(&headers, "application/json") {
        return (queues.page)(&headers);
    }
    let api = &queues.served.api;
    api.current().await?;
    let shown: Vec<QueueShown> =
        api.tasks(|tasks| tasks.queues().map(|view| QueueShown::of(&view)).collect());
    shown::answer(StatusCode::OK, &json!({ "queues": shown }))
}

/// Sets a queue: whether it is paused, how many unfinished tasks it takes, how many are active at once, how many of one
/// key (`per_key`), and how long a key has rest (`key_pause`). What is not given is as at first.
#[utoipa::path(
    put, path = "/queues/{queue}", operation_id = "setQueue", tag = "operators", security(("operator" = [])),
    params(("queue" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    request_body(content = schema::QueueSettings, content_type = "application/json"),
    responses(
        (status = 200, description = "It is so now", body = schema::QueueSettings),
        (status = 400, description = "There can be no such queue", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "There are too many queues", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(queue): Named,
    request: Request,
) -> Result<Response, Problem> {
    queues.operators.check(request.headers())?;
    asked::queue_name(&queue)?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, SETTINGS_BYTES_MAX, &queues.served.account).await?;
    let settings = asked::parse::<QueueAsked>(asked::object(&body)?)?.settings(&queue)?;
    tracing::info!(queue, ?settings, "an operator sets a queue");
    match queues.served.api.change_tasks(TaskOp::QueueSet { queue, settings }, None).await?.0 {
        TaskOutcome::Changed { .. } => shown::answer(StatusCode::OK, &SettingsShown::of(&settings)),
        other => Err(refused(&other)),
    }
}

/// Cancels a task, whoever has it: what its worker says of it later counts no more.
#[utoipa::path(
    delete, path = "/tasks/{id}", operation_id = "cancelTask", tag = "operators", security(("operator" = [])),
    params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
    responses(
        (status = 200, description = "It is cancelled", body = schema::TaskEnded),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No task has this id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is done", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "It has ended, and what became of it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Problem> {
    queues.operators.check(request.headers())?;
    let id = named_id(&id)?;
    change(&queues, TaskOp::Cancel { id }, &id.to_string()).await
}

/// Has a dead task tried again from the start.
#[utoipa::path(
    post, path = "/tasks/{id}/retry", operation_id = "retryTask", tag = "operators", security(("operator" = [])),
    params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
    responses(
        (status = 200, description = "It is ready", body = schema::TaskEnded),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No task has this id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is not dead, or its unique key is another's by now", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "It has ended, and what became of it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retry<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Problem> {
    queues.operators.check(request.headers())?;
    let id = named_id(&id)?;
    change(&queues, TaskOp::Revive { id }, &id.to_string()).await
}
