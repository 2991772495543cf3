//! What clients ask: `POST /tasks`, `POST /queues/{queue}` and `GET /tasks/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;
use serde_json::json;
use skep_base::id::RequestId;
use skep_state::heap::Held;
use skep_state::kinds::tasks::{Task, Tasks};
use skep_state::task::{NewTask, TaskId, TaskOp, TaskOutcome};
use tokio::time::{Instant, timeout_at};

use super::asked::{self, PutAsked, Span, WAIT_MS_MAX};
use super::readers::is_open;
use super::shown::{self, BatchShown, TaskShown};
use super::{Named, Queues, named_id, refused};
use crate::http::headers::insert;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::{body, idempotency, query};
use crate::kinds::schema;
use crate::kinds::served::TaskApi;
use crate::service::Claim;

/// Puts a task into a queue, or an array of up to 1,000 of them: all, or none.
///
/// A task has a `queue`, and may have a `kind`, a `payload` (any JSON), a `priority` (0 to 9, the most urgent), a
/// `delay` or a time `at` which it is due, `retries`, `backoff`, `timeout`, `keep` and, where it is posted by
/// itself, a `unique` key.
#[utoipa::path(
    post, path = "/tasks", operation_id = "putTask", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(content = schema::PutTasks, content_type = "application/json"),
    responses(
        (status = 201, description = "A quorum has it on disk", body = schema::TaskPut),
        (status = 200, description = "An unfinished task has the same unique key", body = schema::TaskPut),
        (status = 400, description = "There can be no such task", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full, or all that there is room for", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn store<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let body = body::read(&head.headers, body, queues.served.max_body_bytes, &queues.served.account).await?;
    let claim = key.map(|key| key.claim("/tasks", "", &body));
    match asked::put(&body)? {
        PutAsked::One(task) => put(&queues, vec![task], claim, true).await,
        PutAsked::Many(tasks) => put(&queues, tasks, claim, false).await,
    }
}

/// Puts any JSON into a queue, as the payload of a task.
#[utoipa::path(
    post, path = "/queues/{queue}", operation_id = "putPayload", tag = "tasks",
    params(("queue" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(content = schema::Json, content_type = "application/json"),
    responses(
        (status = 201, description = "A quorum has it on disk", body = schema::TaskPut),
        (status = 400, description = "There can be no such task", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full, or all that there is room for", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn store_any<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(queue): Named,
    request: Request,
) -> Result<Response, Problem> {
    asked::queue_name(&queue)?;
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let body = body::read(&head.headers, body, queues.served.max_body_bytes, &queues.served.account).await?;
    let claim = key.map(|key| key.claim(head.uri.path(), "", &body));
    put(&queues, vec![asked::put_any(&queue, &body)?], claim, true).await
}

async fn put<A: TaskApi>(
    queues: &Queues<A>,
    tasks: Vec<NewTask>,
    claim: Option<Claim>,
    is_one: bool,
) -> Result<Response, Problem> {
    if claim.is_some() && tasks.iter().any(|task| task.unique.is_some()) {
        let detail = "unique and Idempotency-Key: either makes the request safe to repeat; give one of them";
        return Err(asked::invalid(detail));
    }
    // Random: ids are made of it, and nobody is to guess them.
    let op = TaskOp::Put { nonce: RequestId::random().0 as u64, tasks };
    let (outcome, repeated) = queues.served.api.change_tasks(op, claim).await?;
    let (status, ids) = match outcome {
        TaskOutcome::Put { first, count, nonce } => {
            let ids = (0..count).map(|number| TaskId::nth(first, nonce, number)).collect::<Vec<_>>();
            (StatusCode::CREATED, ids)
        }
        TaskOutcome::Met { id } => (StatusCode::OK, vec![id]),
        other => return Err(refused(&other)),
    };
    let mut response = match ids.as_slice() {
        [id] if is_one => {
            let mut response = shown::answer(status, &json!({ "id": id.to_string() }))?;
            insert(response.headers_mut(), LOCATION, format!("/tasks/{id}"));
            response
        }
        ids => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            shown::answer(status, &json!({ "ids": ids }))?
        }
    };
    idempotency::mark(response.headers_mut(), repeated);
    Ok(response)
}

/// What an id names, where it is to be shown.
enum Seen {
    /// With what it came to.
    Task(Arc<str>, Box<Task>, Held),
    Batch(Box<BatchShown>),
    /// It is to be waited for.
    Open,
}

impl Seen {
    fn of(tasks: &Tasks, id: TaskId, waits: bool) -> Result<Self, TaskOutcome> {
        if waits && is_open(tasks, id) {
            return Ok(Seen::Open);
        }
        match (tasks.batch(id), tasks.with_queue(id)) {
            (Ok(batch), _) => Ok(Seen::Batch(Box::new(BatchShown::of(tasks, batch)))),
            (_, Ok((queue, task))) => {
                let outcome = tasks.hold(&task.outcome);
                Ok(Seen::Task(queue, Box::new(task), outcome))
            }
            // Its number is that of a batch that is there, and has another id.
            (Err(TaskOutcome::Unknown), _) => Err(TaskOutcome::Unknown),
            (_, Err(outcome)) => Err(outcome),
        }
    }
}

/// What became of a task, or of a batch; with `wait`, once it has ended, or after so long.
///
/// The id of a batch, also that of pages, gives what `/batches/{id}` does: of pages that could not be looked at,
/// `errors` says why, by the URLs that were posted.
#[utoipa::path(
    get, path = "/tasks/{id}", operation_id = "getTask", tag = "tasks",
    params(
        ("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
        ("wait" = Option<String>, Query, pattern = "^[0-5]?[0-9]s$", description = "Until it has ended, but for up to a minute", example = "30s"),
    ),
    responses(
        (status = 200, description = "The task, or the batch", body = schema::TaskOrBatch),
        (status = 400, description = "No id, or no such wait", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No task has this id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "It has ended, and what became of it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn look<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Problem> {
    let id = named_id(&id)?;
    let wait_ms = wait(request.uri().query().unwrap_or_default())?;
    let (api, mut closing) = (&queues.served.api, queues.closing.clone());
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    api.current().await?;
    let mut reading = None;
    loop {
        let waits = !*closing.borrow_and_update() && Instant::now() < deadline;
        let seen = api.tasks(|tasks| Seen::of(tasks, id, waits)).map_err(|outcome| refused(&outcome))?;
        let account = &queues.served.account;
        match seen {
            Seen::Task(queue, task, outcome) => {
                let outcome = api.read_held(vec![outcome]).await?.concat();
                let shown = TaskShown::of(&queue, &task, &outcome);
                return shown::answer_within(account, StatusCode::OK, &shown);
            }
            Seen::Batch(batch) => {
                return shown::answer_within(account, StatusCode::OK, &batch.read(&**api).await?);
            }
            Seen::Open => {}
        }
        let Some(mut place) = reading.take() else {
            // It may have ended by then: there is one look more.
            reading = Some(queues.readers.join(id)?);
            continue;
        };
        let ends = async {
            tokio::select! {
                () = place.ended() => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        };
        let _ = timeout_at(deadline, ends).await;
    }
}

fn wait(query: &str) -> Result<u64, Problem> {
    let mut wait_ms = 0;
    for (name, value) in query::Pairs::of(query) {
        if name == "wait" {
            let span = Span::parse(&value).map_err(|detail| invalid_wait(&detail))?;
            wait_ms = span.0;
        }
    }
    match wait_ms <= WAIT_MS_MAX {
        true => Ok(wait_ms),
        false => Err(invalid_wait(&format!("expected at most {} s", WAIT_MS_MAX / 1000))),
    }
}

fn invalid_wait(detail: &str) -> Problem {
    Problem::new(ProblemKind::InvalidQuery, format!("wait: {detail}"))
}
