//! What workers ask: claims, ends, beats.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use serde_json::value::RawValue;
use skep_base::id::RequestId;
use skep_state::task::{End, Lease, NewTask, PAYLOAD_BYTES_MAX, TaskClaim, TaskOp, TaskOutcome};
use tokio::time::{Instant, timeout_at};

use super::asked::{self, BeatAsked, ClaimAsked, EndAsked};
use super::shown::{self, ClaimedShown, GivenShown};
use super::{Named, Queues, named_id, refused};
use crate::http::body;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::schema;
use crate::kinds::served::TaskApi;
use crate::service::tasks::Word;

/// Largest body of a claim or a beat.
const ASK_BYTES_MAX: usize = 16 * 1024;
/// Largest body of an end: a result, what follows it, and what stands around them.
const END_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 256 * 1024;
/// How long a claim that was called in vain keeps away from its line.
const VAIN_PAUSE_MIN: Duration = Duration::from_millis(10);
const VAIN_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the leader may take to hear of a worker that holds nothing.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a task waits whose payload this node has lost.
const LOST_PAUSE: Duration = Duration::from_secs(5);
/// How long this node may take to have what was claimed, before the worker asks again.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

async fn read<A: TaskApi>(queues: &Queues<A>, request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    queues.workers.check(request.headers())?;
    let (head, body) = request.into_parts();
    body::read(&head.headers, body, bytes_max, &queues.served.account).await
}

/// Claims tasks, and waits for some where there are none.
///
/// `worker` names one process of a worker: another one has another name. `number` is 1 for its first claim, and one
/// more for each; a claim whose answer was lost is made again with the same number, at any node, and gives the
/// same tasks. `holds` are the fences of the tasks that the worker still has: all others that it was given and has
/// not ended go back to their queues.
#[utoipa::path(
    post, path = "/claim", operation_id = "claimTasks", tag = "workers", security((), ("worker" = [])),
    request_body(content = schema::TaskClaim, content_type = "application/json"),
    responses(
        (status = 200, description = "Tasks, for 15 s from here; beats make it longer", body = schema::ClaimedTasks),
        (status = 204, description = "There were none: the next claim has the next number"),
        (status = 400, description = "No such claim", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The workers' token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Too many workers are known", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn claim<A: TaskApi>(
    State(of): State<Arc<Queues<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let body = read(&of, request, ASK_BYTES_MAX).await?;
    let asked: ClaimAsked = asked::parse(asked::object(&body)?)?;
    asked.check()?;
    let deadline = Instant::now() + Duration::from_millis(asked.wait_ms());
    let api = &of.served.api;
    if !asked.holds.is_empty() {
        // Where nobody hears of it, the leases run on, as they would without.
        let word = Word { worker: &asked.worker, fences: &asked.holds, ..Word::default() };
        let _ = api.tell_of_worker(word).await;
    }
    let max = asked.max();
    let ClaimAsked { worker, number, queues: names, holds, .. } = asked;
    let place = of.desk.join(names.clone())?;
    let mut closing = of.closing.clone();
    // What it was given before and does not hold goes back now, not once there is something to claim. What is
    // there may be for others alone: a worker that holds a suspect gets no second one.
    let comes_to_something = || {
        api.tasks(|tasks| {
            tasks.has_unheld(&worker, &holds)
                || tasks.number_of(&worker) >= number
                || tasks.has_for(&worker, &holds, &names)
        })
    };
    let (mut was_called, mut vain) = (false, Duration::ZERO);
    loop {
        let closes = *closing.borrow_and_update() || Instant::now() >= deadline;
        if closes || comes_to_something() {
            let (queues, worker, holds) = (names.clone(), worker.clone(), holds.clone());
            let op = TaskOp::Claim(TaskClaim { queues, worker, number, max, holds, closes });
            match api.change_tasks(op, None).await?.0 {
                TaskOutcome::Claimed { leases } if !leases.is_empty() => {
                    return give(&of, &leases).await;
                }
                TaskOutcome::Claimed { .. } if closes => return Ok(no_content()),
                // Its answer was lost, or another request with this number has it.
                TaskOutcome::Over => return Ok(no_content()),
                TaskOutcome::Claimed { .. } => {}
                other => return Err(refused(&other)),
            }
        }
        if was_called {
            place.leave();
            vain = (vain * 2).clamp(VAIN_PAUSE_MIN, VAIN_PAUSE_MAX);
            tokio::time::sleep_until(deadline.min(Instant::now() + vain)).await;
            if !place.again() {
                let detail =
                    "too many claims wait at this node: claim again with the same number, at another";
                return Err(Problem::new(ProblemKind::Overloaded, detail));
            }
        }
        let called = async {
            tokio::select! {
                () = place.called() => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        };
        was_called = timeout_at(deadline, called).await.is_ok();
    }
}

fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// What was claimed, once this node has it as well.
async fn give<A: TaskApi>(queues: &Queues<A>, leases: &[Lease]) -> Result<Response, Problem> {
    let api = &queues.served.api;
    let newest = leases.iter().map(|lease| lease.fence).max().unwrap_or(0);
    let mut applied = api.applied();
    let has_it = async {
        loop {
            let seen = applied.borrow_and_update().revisions.tasks;
            if api.tasks(|tasks| tasks.last_fence() >= newest) {
                return true;
            }
            if applied.wait_for(|applied| applied.revisions.tasks != seen).await.is_err() {
                return false;
            }
        }
    };
    if !matches!(tokio::time::timeout(APPLY_TIMEOUT, has_it).await, Ok(true)) {
        let detail =
            "this node has not heard of what was claimed: claim again with the same number, at another";
        return Err(Problem::new(ProblemKind::Unavailable, detail));
    }
    // Payloads are read, and written, once nobody waits for this look.
    let (held, given): (Vec<_>, Vec<_>) = api.tasks(|tasks| {
        let current = leases.iter().filter(|lease| tasks.is_current(lease));
        let found = current.filter_map(|lease| tasks.with_queue(lease.id).ok());
        found.map(|(queue, task)| (tasks.hold(&task.payload), (queue, task))).unzip()
    });
    let payloads = api.read_each(held).await?;
    let (mut tasks, mut lost) = (Vec::new(), Vec::new());
    for ((queue, task), bytes) in given.iter().zip(payloads) {
        match bytes {
            Some(bytes) => tasks.push(ClaimedShown::of(queue, task, &bytes)),
            None => lost.push(Lease { id: task.id, fence: task.fence }),
        }
    }
    if !lost.is_empty() {
        give_back(&**api, &lost).await;
        if tasks.is_empty() {
            return Ok(no_content());
        }
    }
    shown::answer_within(&queues.served.account, StatusCode::OK, &GivenShown { tasks })
}

/// Tasks whose payloads this node's disk has lost wait a while, and nothing is counted: at their next claim another node
/// may be asked.
async fn give_back<A: TaskApi>(api: &A, lost: &[Lease]) {
    let end = End::Snooze { delay_ms: LOST_PAUSE.as_millis() as u64 };
    let snooze = |lease: &Lease| TaskOp::End { id: lease.id, fence: lease.fence, end: end.clone() };
    let tasks = lost.iter().map(|lease| lease.id.to_string()).collect::<Vec<_>>().join(" ");
    match api.change_all_tasks(lost.iter().map(snooze).collect()).await {
        Ok(_) => tracing::warn!(
            tasks,
            "this node's disk has lost what was claimed: it waits to be claimed elsewhere"
        ),
        // They go back with the worker's next claim, which does not say that it holds them.
        Err(error) => {
            tracing::warn!(tasks, %error, "what was claimed is lost at this node, and is not given back yet")
        }
    }
}

/// Says that a worker is there, and what it holds: each of these leases is 15 s long from now on. Operators see how
/// many tasks it does at a time (`slots`), and its `version`, where it says so.
///
/// Tasks under `lost` are the worker's no more: cancelled, in other hands, or ended. Where an operator wants it, `say` is
/// `quiet`, to claim nothing from here on, or `run`, to go on, until a beat says that it is so (`quiet`).
#[utoipa::path(
    post, path = "/workers/{worker}/beat", operation_id = "beat", tag = "workers", security((), ("worker" = [])),
    params(("worker" = String, Path, pattern = "^[!-.0-~]{1,128}$")),
    request_body(content = Option<schema::Beat>, content_type = "application/json"),
    responses(
        (status = 200, description = "Heard", body = schema::BeatAnswer),
        (status = 400, description = "No such beat", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The workers' token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn beat<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(worker): Named,
    request: Request,
) -> Result<Response, Problem> {
    let body = read(&queues, request, ASK_BYTES_MAX).await?;
    asked::worker_name(&worker)?;
    let asked = match body.is_empty() {
        true => BeatAsked::default(),
        false => asked::parse::<Option<BeatAsked>>(asked::object(&body)?)?.unwrap_or_default(),
    };
    asked.check()?;
    let BeatAsked { holds, stream, slots, version, quiet } = asked;
    let word = Word {
        worker: &worker,
        stream,
        fences: &holds,
        ended: None,
        slots: slots.unwrap_or(0),
        version: version.as_deref().unwrap_or_default(),
        quiet,
    };
    let telling = queues.served.api.tell_of_worker(word);
    let told = if stream > 0 || !holds.is_empty() {
        telling.await?
    } else {
        // No lease hangs on it.
        tokio::time::timeout(TELL_TIMEOUT, telling).await.ok().and_then(Result::ok).flatten()
    };
    let lost = queues.served.api.tasks(|tasks| tasks.lost_of(&worker, &holds));
    let mut answer = json!({ "lost": lost });
    if let Some(quiet) = told {
        answer["say"] = if quiet { "quiet" } else { "run" }.into();
    }
    shown::answer(StatusCode::OK, &answer)
}

macro_rules! ends {
    ($($(#[$doc:meta])* $name:ident $path:tt $operation:tt $schema:ty, $members:expr, |$asked:ident| $end:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(
            post, path = $path, operation_id = $operation, tag = "workers", security((), ("worker" = [])),
            params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
            request_body(content = $schema, content_type = "application/json"),
            responses(
                (status = 200, description = "It is so now; repeated, the same", body = schema::TaskEnded),
                (status = 400, description = "No such end", body = schema::ProblemDocument, content_type = "application/problem+json"),
                (status = 401, description = "The workers' token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
                (status = 404, description = "No task has this id", body = schema::ProblemDocument, content_type = "application/problem+json"),
                (status = 409, description = "The fence is not the task's any more, or it has ended otherwise", body = schema::ProblemDocument, content_type = "application/problem+json"),
                (status = 410, description = "It has ended, and what became of it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
                (status = 429, description = "There is no room for what follows it, or for the result of a task of a batch: nothing was done", body = schema::ProblemDocument, content_type = "application/problem+json"),
            ),
        )]
        pub(crate) async fn $name<A: TaskApi>(
            State(queues): State<Arc<Queues<A>>>,
            Named(id): Named,
            request: Request,
        ) -> Result<Response, Problem> {
            let body = read(&queues, request, END_BYTES_MAX).await?;
            let id = named_id(&id)?;
            let $asked = EndAsked::parse(&body, $members)?;
            let fence = $asked.fence;
            let follow = $asked.follow()?;
            let end = $end;
            change(&queues, ended(Lease { id, fence }, end, follow), &id.to_string()).await
        }
    )*};
}

ends! {
    /// Ends a task: it is done, and `result` is what came of it. Tasks under `follow` are put with the end, where there
    /// is room for them, else neither is done; those that follow a task of a batch are of the batch.
    complete "/tasks/{id}/complete" "completeTask" schema::CompleteTask, &["result", "follow"], |asked| End::Done { result: bytes(asked.result) };
    /// Ends a try that failed: there is another one after a while, unless it was the last, or `final`.
    fail "/tasks/{id}/fail" "failTask" schema::FailTask, &["error", "final"], |asked| {
        End::Failed { error: asked.error(), is_final: asked.is_final }
    };
    /// Gives a task back: it goes first again, and no try is counted.
    release "/tasks/{id}/release" "releaseTask" schema::ReleaseTask, &[], |asked| End::Release;
    /// Gives a task back until `delay` is over, and no try is counted.
    snooze "/tasks/{id}/snooze" "snoozeTask" schema::SnoozeTask, &["delay"], |asked| {
        let delay = asked.delay.ok_or_else(|| asked::invalid("delay: expected for how long"))?;
        End::Snooze { delay_ms: delay.0 }
    };
}

/// Says how far a task is: any JSON of up to 1 KiB, which whoever asks for the task is shown.
#[utoipa::path(
    post, path = "/tasks/{id}/progress", operation_id = "progressTask", tag = "workers", security((), ("worker" = [])),
    params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
    request_body(content = schema::TaskProgress, content_type = "application/json"),
    responses(
        (status = 200, description = "Noted", body = schema::TaskEnded),
        (status = 400, description = "No such word", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The workers' token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No task has this id", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The fence is not the task's any more, or it has ended", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "It has ended, and what became of it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn progress<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Problem> {
    let body = read(&queues, request, ASK_BYTES_MAX).await?;
    let id = named_id(&id)?;
    let asked = EndAsked::parse(&body, &["progress"])?;
    let op = TaskOp::Progress { id, fence: asked.fence, progress: bytes(asked.progress) };
    change(&queues, op, &id.to_string()).await
}

fn ended(Lease { id, fence }: Lease, end: End, follow: Vec<NewTask>) -> TaskOp {
    match end {
        End::Done { result } if !follow.is_empty() => {
            // Random: ids are made of it, and nobody is to guess them.
            TaskOp::EndWith { id, fence, result, nonce: RequestId::random().0 as u64, follow }
        }
        end => TaskOp::End { id, fence, end },
    }
}

fn bytes(value: Option<&RawValue>) -> Bytes {
    Bytes::copy_from_slice(value.map_or("null", RawValue::get).as_bytes())
}

/// Carries out a change of one task.
pub(super) async fn change<A: TaskApi>(
    queues: &Queues<A>,
    op: TaskOp,
    id: &str,
) -> Result<Response, Problem> {
    match queues.served.api.change_tasks(op, None).await?.0 {
        TaskOutcome::Ended { state } | TaskOutcome::Again { state } => {
            shown::answer(StatusCode::OK, &json!({ "id": id, "state": state.as_str() }))
        }
        other => Err(refused(&other)),
    }
}
