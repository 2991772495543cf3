//! Schedules of tasks as served: `/schedules` for operators. `docs/tasks.md` tells it to whoever uses it.
//!
//! The same list on the admin address, which asks for no token, is what this node knows, whoever leads, without what is
//! put: the verb `schedules` shows it.

mod asked;
mod shown;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use skep_base::id::RequestId;
use skep_console::token::OperatorToken;
use skep_state::schedule::{HeldSchedule, ScheduleOutcome, is_schedule};
use skep_state::task::{TaskId, TaskOp, TaskOutcome};
use utoipa::OpenApi;

use super::schema;
use super::served::{Served, TaskApi};
use super::tasks::shown::{answer, answer_within};
use super::tasks::{Named, refused as refused_task};
use crate::http::headers::insert;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::{body, idempotency};
use crate::service::ServiceError;
use shown::{ListedShown, ScheduleShown};

/// Largest body of a schedule: what it may have, and as much again for how it is written.
const SCHEDULE_BODY_BYTES_MAX: usize = 160 * 1024;

/// What the handlers share.
struct Scheduling<A> {
    served: Arc<Served<A>>,
    operators: OperatorToken,
}

type Shared<A> = State<Arc<Scheduling<A>>>;

impl<A: TaskApi> Scheduling<A> {
    async fn current(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.operators.check(headers)?;
        self.served.api.current().await?;
        Ok(())
    }
}

/// The routes of schedules.
pub(crate) fn routes<A: TaskApi>(served: Arc<Served<A>>, operators: OperatorToken) -> Router {
    Router::new()
        .route("/schedules", get(list::<A>))
        .route("/schedules/{name}", get(look::<A>).put(set::<A>).delete(remove::<A>))
        .route("/schedules/{name}/run", post(run::<A>))
        .with_state(Arc::new(Scheduling { served, operators }))
}

/// That of the admin address.
pub(crate) fn admin_routes<A: TaskApi>(api: Arc<A>) -> Router {
    Router::new().route("/schedules", get(known::<A>)).with_state(api)
}

/// Their part of the API's document.
#[derive(OpenApi)]
#[openapi(paths(list, look, set, remove, run))]
pub(crate) struct Document;

async fn known<A: TaskApi>(State(api): State<Arc<A>>) -> Result<Response, Problem> {
    answer(StatusCode::OK, &json!({ "schedules": listed(&*api) }))
}

fn listed<A: TaskApi>(api: &A) -> Vec<ListedShown> {
    let copy = |(name, held): (&str, &HeldSchedule)| (name.to_owned(), held.clone());
    // What comes next is worked out of a copy: who looks holds up what is applied.
    let held: Vec<_> = api.schedules(|schedules| schedules.all().map(copy).collect());
    held.iter().map(|(name, held)| ListedShown::of(name, held)).collect()
}

/// All schedules by their names: when each fires, and what has come of it.
#[utoipa::path(
    get, path = "/schedules", operation_id = "listSchedules", tag = "operators", security(("operator" = [])),
    responses(
        (status = 200, description = "By their names", body = schema::ScheduleList),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn list<A: TaskApi>(State(shared): Shared<A>, headers: HeaderMap) -> Result<Response, Problem> {
    shared.current(&headers).await?;
    let shown = json!({ "schedules": listed(&*shared.served.api) });
    answer_within(&shared.served.account, StatusCode::OK, &shown)
}

/// A schedule, with the task that it puts: as it was set, and how far it is.
#[utoipa::path(
    get, path = "/schedules/{name}", operation_id = "getSchedule", tag = "operators", security(("operator" = [])),
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses(
        (status = 200, description = "The schedule", body = schema::Schedule),
        (status = 400, description = "No such name", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn look<A: TaskApi>(
    State(shared): Shared<A>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.current(&headers).await?;
    named(&name)?;
    shown(&shared, StatusCode::OK, &name)
}

fn shown<A: TaskApi>(shared: &Scheduling<A>, status: StatusCode, name: &str) -> Result<Response, Problem> {
    let held = shared.served.api.schedules(|schedules| schedules.get(name).cloned()).ok_or_else(unknown)?;
    answer_within(&shared.served.account, status, &ScheduleShown::of(name, &held))
}

/// Makes a schedule, or another of the one that has the name: a `task`, as it is posted to `/tasks`, and either `cron`,
/// five fields by the clocks of a `timezone` (UTC), or `every`, a length of time.
///
/// What has come of its fires stays. Where its times are others, or it was paused, it fires from now on.
#[utoipa::path(
    put, path = "/schedules/{name}", operation_id = "setSchedule", tag = "operators", security(("operator" = [])),
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    request_body(content = schema::SetSchedule, content_type = "application/json"),
    responses(
        (status = 200, description = "It is so now", body = schema::Schedule),
        (status = 201, description = "It is there", body = schema::Schedule),
        (status = 400, description = "There can be no such schedule", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "There are too many schedules", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn set<A: TaskApi>(
    State(shared): Shared<A>,
    Named(name): Named,
    request: Request,
) -> Result<Response, Problem> {
    shared.operators.check(request.headers())?;
    named(&name)?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, SCHEDULE_BODY_BYTES_MAX, &shared.served.account).await?;
    let schedule = asked::schedule(&body, shared.served.api.now_ms())?;
    tracing::info!(name, timing = ?schedule.timing, paused = schedule.is_paused, "an operator sets a schedule");
    let created = match shared.served.api.set_schedule(name.clone(), schedule).await? {
        ScheduleOutcome::Set { created } => created,
        other => return Err(refused(&other)),
    };
    // It is applied where the leader is, and may not be here yet.
    shared.served.api.current().await.map_err(|_| ServiceError::Unavailable {
        detail: "it is set; this node has not heard of it yet".into(),
        unprocessed: false,
    })?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = shown(&shared, status, &name)?;
    if created {
        insert(response.headers_mut(), LOCATION, format!("/schedules/{name}"));
    }
    Ok(response)
}

/// Takes a schedule out. The tasks that it has put stay.
#[utoipa::path(
    delete, path = "/schedules/{name}", operation_id = "deleteSchedule", tag = "operators", security(("operator" = [])),
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses(
        (status = 200, description = "It is gone", body = schema::ScheduleRemoved),
        (status = 400, description = "No such name", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn remove<A: TaskApi>(
    State(shared): Shared<A>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.operators.check(&headers)?;
    named(&name)?;
    match shared.served.api.remove_schedule(name.clone()).await? {
        ScheduleOutcome::Removed => {
            tracing::info!(name, "an operator takes a schedule out");
            answer(StatusCode::OK, &json!({ "removed": name }))
        }
        other => Err(refused(&other)),
    }
}

/// Puts the schedule's task at once, also where it is paused. When it fires by itself stays as it is.
#[utoipa::path(
    post, path = "/schedules/{name}/run", operation_id = "runSchedule", tag = "operators", security(("operator" = [])),
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    responses(
        (status = 200, description = "An unfinished task has the same unique key", body = schema::TaskPut),
        (status = 201, description = "A quorum has it on disk", body = schema::TaskPut),
        (status = 400, description = "No such name, or a unique key beside an `Idempotency-Key`", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full, or all that there is room for", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn run<A: TaskApi>(
    State(shared): Shared<A>,
    Named(name): Named,
    request: Request,
) -> Result<Response, Problem> {
    let api = &shared.served.api;
    shared.current(request.headers()).await?;
    named(&name)?;
    let claim = idempotency::key(request.headers())?.map(|key| key.claim(request.uri().path(), "", b""));
    let task = |held: &HeldSchedule| held.schedule.task.clone();
    let task = api.schedules(|schedules| schedules.get(&name).map(task)).ok_or_else(unknown)?;
    if claim.is_some() && task.unique.is_some() {
        let detail = "its task is unique: that makes the request safe to repeat; send no Idempotency-Key";
        return Err(invalid(detail));
    }
    // Random: ids are made of it, and nobody is to guess them.
    let op = TaskOp::Put { nonce: RequestId::random().0 as u64, tasks: vec![task] };
    let (outcome, repeated) = api.change_tasks(op, claim).await?;
    let (status, id) = match outcome {
        TaskOutcome::Put { first, nonce, .. } => (StatusCode::CREATED, TaskId::nth(first, nonce, 0)),
        TaskOutcome::Met { id } => (StatusCode::OK, id),
        other => return Err(refused_task(&other)),
    };
    tracing::info!(name, %id, "an operator has a schedule's task put");
    let mut response = answer(status, &json!({ "id": id.to_string() }))?;
    insert(response.headers_mut(), LOCATION, format!("/tasks/{id}"));
    idempotency::mark(response.headers_mut(), repeated);
    Ok(response)
}

fn named(name: &str) -> Result<(), Problem> {
    is_schedule(name)
        .then_some(())
        .ok_or_else(|| invalid("name: expected 1 to 64 letters, digits, dots, hyphens and underscores"))
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ProblemKind::InvalidSchedule, detail)
}

fn unknown() -> Problem {
    Problem::new(ProblemKind::ScheduleNotFound, "no schedule has this name")
}

/// What an outcome is that is not what was asked for.
fn refused(outcome: &ScheduleOutcome) -> Problem {
    match outcome {
        ScheduleOutcome::Unknown => unknown(),
        ScheduleOutcome::Full => {
            Problem::new(ProblemKind::TasksFull, "there is no room for more schedules; nothing was done")
        }
        ScheduleOutcome::Invalid => invalid("it is beyond its bounds"),
        other => {
            Problem::new(ProblemKind::Internal, format!("the store answered another operation: {other:?}"))
        }
    }
}
