//! Batches as clients ask for them: `POST /batches` and `GET /batches/{id}`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;
use serde_json::json;
use skep_base::id::RequestId;
use skep_state::kinds::tasks::{Batch, Tasks};
use skep_state::task::{NewTask, TaskId, TaskOp, TaskOutcome};

use super::shown::{self, BatchShown};
use super::{Named, Queues, asked, named_id, refused};
use crate::http::headers::insert;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::{body, idempotency};
use crate::kinds::schema;
use crate::kinds::served::TaskApi;
use crate::service::Claim;

/// Puts tasks as a batch: all, or none.
///
/// What comes of them is counted, and each is known until the whole batch is over and its `keep` too, whatever their
/// own `keep` is. One whose `unique` key an unfinished task has is not put: it counts as met, and is not waited for.
#[utoipa::path(
    post, path = "/batches", operation_id = "putBatch", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(content = schema::BatchPut, content_type = "application/json"),
    responses(
        (status = 201, description = "A quorum has it on disk", body = schema::Id),
        (status = 400, description = "There can be no such batch", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "A queue is full, or all that there is room for", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn store<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let body = body::read(&head.headers, body, queues.served.max_body_bytes, &queues.served.account).await?;
    let claim = key.map(|key| key.claim("/batches", "", &body));
    let (tasks, keep_ms) = asked::batch(&body)?;
    put(&queues, tasks, keep_ms, claim, (StatusCode::CREATED, "/batches/")).await
}

/// Puts a batch, and answers with its id and where it is to be looked at.
pub(super) async fn put<A: TaskApi>(
    queues: &Queues<A>,
    tasks: Vec<NewTask>,
    keep_ms: u64,
    claim: Option<Claim>,
    (status, at): (StatusCode, &str),
) -> Result<Response, Problem> {
    // Random: ids are made of it, and nobody is to guess them.
    let op = TaskOp::PutBatch { nonce: RequestId::random().0 as u64, keep_ms, tasks };
    let (outcome, repeated) = queues.served.api.change_tasks(op, claim).await?;
    let TaskOutcome::Batch { first, nonce, .. } = outcome else { return Err(refused(&outcome)) };
    let id = TaskId::nth(first, nonce, 0);
    let mut response = shown::answer(status, &json!({ "id": id.to_string() }))?;
    insert(response.headers_mut(), LOCATION, format!("{at}{id}"));
    idempotency::mark(response.headers_mut(), repeated);
    Ok(response)
}

/// What has come of a batch.
#[utoipa::path(
    get, path = "/batches/{id}", operation_id = "getBatch", tag = "tasks",
    params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
    responses(
        (status = 200, description = "The batch, and its tasks in the order in which they were posted", body = schema::Batch),
        (status = 400, description = "No id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No batch has this id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "It is over, and known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn look<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
) -> Result<Response, Problem> {
    let id = named_id(&id).map_err(|problem| match problem.kind {
        ProblemKind::TaskNotFound => unknown(),
        _ => problem,
    })?;
    let shown = look_at(&queues, id, BatchShown::of).await?.map_err(|outcome| match outcome {
        TaskOutcome::Gone => {
            Problem::new(ProblemKind::BatchGone, "the batch is over, and what came of it is known no more")
        }
        _ => unknown(),
    })?;
    let shown = shown.read(&*queues.served.api).await?;
    shown::answer_within(&queues.served.account, StatusCode::OK, &shown)
}

/// A look at a batch as all that was acknowledged before has left it.
pub(super) async fn look_at<A: TaskApi, T>(
    queues: &Queues<A>,
    id: TaskId,
    look: impl FnOnce(&Tasks, &Batch) -> T,
) -> Result<Result<T, TaskOutcome>, Problem> {
    let api = &queues.served.api;
    api.current().await?;
    Ok(api.tasks(|tasks| tasks.batch(id).map(|batch| look(tasks, batch))))
}

pub(super) fn unknown() -> Problem {
    Problem::new(ProblemKind::BatchNotFound, "no batch has this id")
}
