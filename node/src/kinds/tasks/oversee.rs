//! What operators look through, and end or begin by the queue: tasks in lists, and workers with what they hold.
//!
//! The same lists on the admin address, which asks for no token, are what this node knows, whoever leads: the verbs
//! `queues`, `tasks` and `workers` show them.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use skep_console::token::OperatorToken;
use skep_state::kinds::tasks::{Listed, Task, Tasks};
use skep_state::task::{TaskId, TaskOp, TaskOutcome, TaskState, WORKER_BYTES_MAX};

use super::asked::{self, QuietAsked};
use super::roster;
use super::shown::{self, QueueShown, TaskShown};
use super::{Named, id_of};
use crate::http::account::Account;
use crate::http::body;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query;
use crate::kinds::schema;
use crate::kinds::served::TaskApi;

/// Tasks, or workers, in a part of a list where nobody names a number, and the most that may be named.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Bytes of payloads and results after which a part of a list has no further task.
const LIST_BYTES_MAX: usize = 1 << 20;
/// Largest body of what an operator wants of a worker.
const QUIET_BYTES_MAX: usize = 1024;
/// Tasks that are ended or begun by one entry of the log.
const CHANGED_AT_ONCE_MAX: usize = 500;

/// What the handlers share.
pub(crate) struct Overseen<A> {
    pub api: Arc<A>,
    pub account: Account,
    /// None where nobody is asked who asks, nor what others know.
    pub operators: Option<OperatorToken>,
}

impl<A: TaskApi> Overseen<A> {
    async fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(operators) = &self.operators {
            operators.check(headers)?;
            self.api.current().await?;
        }
        Ok(())
    }
}

/// The routes of the public address.
pub(crate) fn routes<A: TaskApi>(overseen: Overseen<A>) -> Router {
    Router::new()
        .route("/queues/{queue}/tasks", get(list::<A>).delete(purge::<A>))
        .route("/queues/{queue}/retry", post(retry_all::<A>))
        .route("/workers", get(workers::<A>))
        .route("/workers/{worker}/quiet", post(quiet::<A>))
        .with_state(Arc::new(overseen))
}

/// Those of the admin address, where nothing is changed.
pub(crate) fn admin_routes<A: TaskApi>(api: Arc<A>, account: Account) -> Router {
    Router::new()
        .route("/queues", get(queues::<A>))
        .route("/queues/{queue}/tasks", get(list::<A>))
        .route("/workers", get(workers::<A>))
        .with_state(Arc::new(Overseen { api, account, operators: None }))
}

async fn queues<A: TaskApi>(State(overseen): State<Arc<Overseen<A>>>) -> Result<Response, Problem> {
    let shown: Vec<QueueShown> =
        overseen.api.tasks(|tasks| tasks.queues().map(|view| QueueShown::of(&view)).collect());
    shown::answer(StatusCode::OK, &json!({ "queues": shown }))
}

/// A task in a list: with its payload, as nobody needs to be told of its own.
#[derive(Serialize)]
struct ListedShown {
    #[serde(flatten)]
    task: TaskShown,
    payload: Option<Box<RawValue>>,
    /// Its payload or what it came to is there, but not at this node.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bytes_lost: bool,
}

impl ListedShown {
    /// With its payload and what it came to.
    fn of(queue: &str, task: &Task, both: &[Option<Bytes>]) -> Self {
        let bytes = |at: usize| both.get(at).and_then(Option::as_deref);
        let payload = bytes(0).map(|payload| String::from_utf8_lossy(payload).into_owned());
        Self {
            task: TaskShown::of(queue, task, bytes(1).unwrap_or_default()),
            payload: payload.and_then(|payload| RawValue::from_string(payload).ok()),
            bytes_lost: both.iter().any(Option::is_none),
        }
    }
}

#[derive(Serialize)]
struct TasksShown {
    tasks: Vec<ListedShown>,
    after: Option<String>,
}

/// The tasks of a queue, in the order in which they were put, a part at a time.
#[utoipa::path(
    get, path = "/queues/{queue}/tasks", operation_id = "listTasks", tag = "operators", security(("operator" = [])),
    params(
        ("queue" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("state" = Option<String>, Query, pattern = "^(ready|due|active|done|dead|cancelled)$", description = "Those of this state alone"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "At most so many; 100 by default"),
        ("after" = Option<String>, Query, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", description = "After this task: `after` of the part before"),
    ),
    responses(
        (status = 200, description = "Some, and where the list goes on: `after` is null at its end", body = schema::TaskList),
        (status = 400, description = "No such queue, state, limit or id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list<A: TaskApi>(
    State(overseen): State<Arc<Overseen<A>>>,
    Named(queue): Named,
    request: Request,
) -> Result<Response, Problem> {
    overseen.admit(request.headers()).await?;
    asked::queue_name(&queue)?;
    let asked = ListAsked::of(request.uri().query().unwrap_or_default())?;
    let mut after = match &asked.after {
        Some(id) => id_of(id)?.seq,
        None => 0,
    };
    let (mut found, mut held, mut bytes) = (Vec::<Task>::new(), Vec::new(), 0);
    // A part at a time, so that nobody waits for long; a list that has little of what is asked for takes many.
    let after = loop {
        let list = Listed {
            queue: &queue,
            state: asked.state,
            count_max: asked.limit - found.len(),
            bytes_max: LIST_BYTES_MAX.saturating_sub(bytes).max(1),
        };
        let part = overseen.api.tasks(|tasks| {
            let part = tasks.listed(list, after);
            let bytes = part.found.iter().flat_map(|task| [&task.payload, &task.outcome]);
            held.extend(bytes.map(|blob| tasks.hold(blob)));
            part
        });
        bytes += part.found.iter().map(|task| task.payload.len() + task.outcome.len()).sum::<usize>();
        found.extend(part.found);
        let Some(place) = part.after else { break None };
        if found.len() >= asked.limit || bytes >= LIST_BYTES_MAX {
            break found.last().map(|task| task.id.to_string());
        }
        after = place;
        tokio::task::yield_now().await;
    };
    let read = overseen.api.read_each(held).await?;
    let both = read.chunks_exact(2);
    let tasks = found.iter().zip(both).map(|(task, both)| ListedShown::of(&queue, task, both));
    let shown = TasksShown { tasks: tasks.collect(), after };
    shown::answer_within(&overseen.account, StatusCode::OK, &shown)
}

/// Cancels all tasks of a queue that are in a state (`ready`, `due`, `active` or `dead`), whoever has them, but none
/// that is put meanwhile. What is finished goes by itself.
#[utoipa::path(
    delete, path = "/queues/{queue}/tasks", operation_id = "purgeQueue", tag = "operators", security(("operator" = [])),
    params(
        ("queue" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("state" = String, Query, pattern = "^(ready|due|active|dead)$", description = "Those of this state"),
    ),
    responses(
        (status = 200, description = "They are cancelled", body = schema::TasksChanged),
        (status = 400, description = "No such queue or state", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn purge<A: TaskApi>(
    State(overseen): State<Arc<Overseen<A>>>,
    Named(queue): Named,
    request: Request,
) -> Result<Response, Problem> {
    overseen.admit(request.headers()).await?;
    asked::queue_name(&queue)?;
    let asked = ListAsked::of(request.uri().query().unwrap_or_default())?;
    let state = asked.state.filter(|state| state.is_unfinished() || *state == TaskState::Dead);
    let Some(state) = state else {
        return Err(invalid("state: expected that of the tasks to be cancelled: ready, due, active or dead"));
    };
    let count = overseen.change_all(&queue, state, |id| TaskOp::Cancel { id }).await?;
    tracing::info!(queue, state = state.as_str(), count, "an operator cancels tasks");
    shown::answer(StatusCode::OK, &json!({ "changed": count }))
}

/// Has all dead tasks of a queue tried again from the start, but none whose unique key is another's by now.
#[utoipa::path(
    post, path = "/queues/{queue}/retry", operation_id = "retryQueue", tag = "operators", security(("operator" = [])),
    params(("queue" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses(
        (status = 200, description = "They are ready", body = schema::TasksChanged),
        (status = 400, description = "No such queue", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retry_all<A: TaskApi>(
    State(overseen): State<Arc<Overseen<A>>>,
    Named(queue): Named,
    request: Request,
) -> Result<Response, Problem> {
    overseen.admit(request.headers()).await?;
    asked::queue_name(&queue)?;
    let count = overseen.change_all(&queue, TaskState::Dead, |id| TaskOp::Revive { id }).await?;
    tracing::info!(queue, count, "an operator has dead tasks tried again");
    shown::answer(StatusCode::OK, &json!({ "changed": count }))
}

impl<A: TaskApi> Overseen<A> {
    /// Changes all tasks of a queue that are in a state; answers how many were.
    async fn change_all(
        &self,
        queue: &str,
        state: TaskState,
        change: impl Fn(TaskId) -> TaskOp,
    ) -> Result<usize, Problem> {
        // What is put from here on is not meant.
        let last = self.api.tasks(Tasks::last_seq);
        let list =
            Listed { queue, state: Some(state), count_max: CHANGED_AT_ONCE_MAX, bytes_max: usize::MAX };
        let (mut count, mut next) = (0, Some(0));
        while let Some(after) = next {
            let part = self.api.tasks(|tasks| tasks.listed(list, after));
            let meant = part.found.iter().map(|task| task.id).filter(|id| id.seq <= last);
            let ops: Vec<TaskOp> = meant.map(&change).collect();
            if !ops.is_empty() {
                let outcomes = self.api.change_all_tasks(ops).await?;
                count +=
                    outcomes.iter().filter(|outcome| matches!(outcome, TaskOutcome::Ended { .. })).count();
            }
            next = part.after.filter(|after| *after < last);
        }
        Ok(count)
    }
}

/// The workers that are known, by their names, with what each holds, and what it says of itself.
#[utoipa::path(
    get, path = "/workers", operation_id = "listWorkers", tag = "operators", security(("operator" = [])),
    params(
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "At most so many; 100 by default"),
        ("after" = Option<String>, Query, max_length = 128, description = "After this worker: `after` of the part before"),
    ),
    responses(
        (status = 200, description = "Some, and where the list goes on: `after` is null at its end", body = schema::WorkerList),
        (status = 400, description = "No such limit", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn workers<A: TaskApi>(
    State(overseen): State<Arc<Overseen<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    overseen.admit(request.headers()).await?;
    let asked = ListAsked::of(request.uri().query().unwrap_or_default())?;
    let after = asked.after.unwrap_or_default();
    if after.len() > WORKER_BYTES_MAX {
        return Err(invalid("after: expected a worker's name"));
    }
    let heard = overseen.api.heard_workers(&after, asked.limit as u32).await.unwrap_or_default();
    let part = overseen.api.tasks(|tasks| tasks.workers_after(&after, asked.limit));
    let shown = roster::of(part, heard, asked.limit, overseen.api.now_ms());
    shown::answer_within(&overseen.account, StatusCode::OK, &shown)
}

/// Has a worker claim nothing from here on, or go on: it is told with its next beat, and does what it has to its end.
#[utoipa::path(
    post, path = "/workers/{worker}/quiet", operation_id = "quietWorker", tag = "operators", security(("operator" = [])),
    params(("worker" = String, Path, pattern = "^[!-.0-~]{1,128}$")),
    request_body(content = schema::QuietWorker, content_type = "application/json"),
    responses(
        (status = 200, description = "It will be told", body = schema::WorkerQuieted),
        (status = 400, description = "No such wish", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "It was not heard of for as long as a lease", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn quiet<A: TaskApi>(
    State(overseen): State<Arc<Overseen<A>>>,
    Named(worker): Named,
    request: Request,
) -> Result<Response, Problem> {
    overseen.admit(request.headers()).await?;
    asked::worker_name(&worker)?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, QUIET_BYTES_MAX, &overseen.account).await?;
    let QuietAsked { quiet } = asked::parse(asked::object(&body)?)?;
    if !overseen.api.quiet_worker(&worker, quiet).await? {
        let detail = "no leader has heard of this worker for as long as a lease";
        return Err(Problem::new(ProblemKind::WorkerNotFound, detail));
    }
    tracing::info!(worker, quiet, "an operator has a worker be quiet, or go on");
    shown::answer(StatusCode::OK, &json!({ "worker": worker, "quiet": quiet }))
}

/// Which part of a list is asked for.
#[derive(Debug, PartialEq, Eq)]
struct ListAsked {
    state: Option<TaskState>,
    limit: usize,
    after: Option<String>,
}

impl ListAsked {
    fn of(query: &str) -> Result<Self, Problem> {
        let mut asked = Self { state: None, limit: LIMIT_DEFAULT, after: None };
        for (name, value) in query::Pairs::of(query) {
            match &*name {
                "state" => asked.state = Some(state(&value)?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    asked.limit = limit.ok_or_else(|| {
                        invalid(format!("limit is {value:?}; expected a number from 1 to {LIMIT_MAX}"))
                    })?;
                }
                "after" => asked.after = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn state(text: &str) -> Result<TaskState, Problem> {
    let all = [
        TaskState::Ready,
        TaskState::Due,
        TaskState::Active,
        TaskState::Done,
        TaskState::Dead,
        TaskState::Cancelled,
    ];
    let found = all.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        invalid(format!("state is {text:?}; expected ready, due, active, done, dead or cancelled"))
    })
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(ProblemKind::InvalidQuery, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_by_state_limit_and_place() {
        let all = ListAsked { state: None, limit: 100, after: None };
        assert_eq!(ListAsked::of("").ok(), Some(all));
        let some = ListAsked { state: Some(TaskState::Dead), limit: 1000, after: Some("x".into()) };
        assert_eq!(ListAsked::of("state=dead&limit=1000&after=x&y=z").ok(), Some(some));
        for query in ["state=", "state=Dead", "limit=0", "limit=1001", "limit=-1"] {
            let refused = ListAsked::of(query).map_err(|problem| problem.kind);
            assert_eq!(refused, Err(ProblemKind::InvalidQuery), "{query}");
        }
    }
}
