//! Tasks as served: clients put them and ask what became of them, workers claim and end them, operators look after
//! queues. `docs/tasks.md` tells it to whoever uses it.

pub(crate) mod asked;
mod batches;
mod client;
mod crawl;
mod desk;
mod operate;
pub(crate) mod oversee;
mod pages;
mod readers;
mod roster;
pub(crate) mod shown;
mod stream;
mod worker;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::HeaderMap;
use http::request::Parts;
use skep_console::token::OperatorToken;
use skep_state::kinds::tasks::{Counts, QueueView};
use skep_state::level::Limits;
use skep_state::task::{TaskId, TaskOutcome};
use tokio::sync::watch;
use utoipa::OpenApi;

use crate::http::problem::{Problem, ProblemKind};
use crate::http::token::WorkerToken;
use crate::kinds::served::{Served, TaskApi};
use crate::telemetry::Metrics;
use desk::Desk;
use oversee::Overseen;
use readers::Readers;
use stream::Streams;

/// Queues whose figures are told one by one: a label each.
const SCRAPED_MAX: usize = 256;

/// A metric's name, what it is, and where it is found.
type Told<T, N> = (&'static str, &'static str, fn(&T) -> N);

/// The page of the queues.
type Page = fn(&HeaderMap) -> Result<Response, Problem>;

/// What the handlers of tasks share.
pub(crate) struct Queues<A> {
    served: Arc<Served<A>>,
    desk: Arc<Desk>,
    readers: Arc<Readers>,
    streams: Arc<Streams>,
    /// The node drains: who waits is answered.
    closing: watch::Receiver<bool>,
    operators: OperatorToken,
    workers: WorkerToken,
    page: Page,
}

impl<A: TaskApi> Queues<A> {
    /// With the task that calls waiting claims.
    pub(crate) fn start(
        served: Arc<Served<A>>,
        closing: watch::Receiver<bool>,
        operators: OperatorToken,
        workers: WorkerToken,
        page: Page,
    ) -> Self {
        let (desk, readers) = (Desk::start(&served.api), Readers::start(&served.api));
        Self { served, desk, readers, streams: Arc::default(), closing, operators, workers, page }
    }

    fn overseen(&self) -> Overseen<A> {
        let (api, account) = (self.served.api.clone(), self.served.account.clone());
        Overseen { api, account, operators: Some(self.operators.clone()) }
    }

    /// Adds what is known of tasks to the metrics.
    pub(crate) fn register(&self, metrics: &Metrics) {
        let (api, desk, readers) = (self.served.api.clone(), self.desk.clone(), self.readers.clone());
        let streams = self.streams.clone();
        metrics.add_source(move |scrape| {
            let now_ms = api.now_ms();
            // Each level has its own.
            let limits = Limits::of(api.level());
            let (queues, (bytes, memory), finished, workers, lanes, (batches, open)) = api.tasks(|tasks| {
                let queues: Vec<_> = tasks.queues().take(SCRAPED_MAX).collect();
                let (lanes, batches) = (tasks.lanes(), (tasks.batches(), tasks.open_batches()));
                let bytes = (tasks.bytes(), tasks.memory());
                (queues, bytes, tasks.finished(), tasks.workers(), lanes, batches)
            });
            scrape.gauge("tasks_bytes", "Bytes of all tasks, each counted with 256 more", bytes as f64);
            let most = limits.task_bytes_max as f64;
            scrape.gauge("tasks_max_bytes", "Most of them; beyond, no task is taken", most);
            let help = "What tasks hold in memory: all but payloads, results and errors";
            scrape.gauge("tasks_memory_bytes", help, memory as f64);
            let most = limits.task_memory_max as f64;
            scrape.gauge("tasks_max_memory_bytes", "Most of those; beyond, no task is taken", most);
            scrape.gauge("tasks_finished", "Tasks that have ended and are still known", finished.into());
            scrape.gauge("tasks_workers", "Workers that are known", workers as f64);
            scrape.gauge("tasks_batches", "Batches that are known", batches as f64);
            let help = "Batches that are not over; where all are, there is no room for another one";
            scrape.gauge("tasks_open_batches", help, open as f64);
            let help = "Most of them; beyond, the oldest that is over goes for a new one";
            scrape.gauge("tasks_max_batches", help, limits.task_batches_max as f64);
            let help = "Keys whose tasks wait for each other, or that have rest";
            scrape.gauge("tasks_keys", help, lanes as f64);
            let help = "Most of them; beyond, no task of another key is taken";
            scrape.gauge("tasks_max_keys", help, limits.task_lanes_max as f64);
            let waiting = desk.waiting() as f64;
            scrape.gauge("tasks_claims_waiting", "Claims that wait at this node", waiting);
            let reading = readers.count() as f64;
            scrape.gauge("tasks_readers_waiting", "Readers that wait for a task's end at this node", reading);
            let streaming = streams.count() as f64;
            scrape.gauge("tasks_worker_streams", "Workers' streams at this node", streaming);
            let gauges: [Told<QueueView, u32>; 6] = [
                ("tasks_ready", "Tasks that can be claimed", |queue| queue.ready - queue.aside),
                ("tasks_aside", "Ready tasks that wait for others of their keys", |queue| queue.aside),
                ("tasks_due", "Tasks that wait for their time", |queue| queue.due),
                ("tasks_active", "Tasks in workers' hands", |queue| queue.active),
                ("tasks_dead", "Tasks that are tried no more", |queue| queue.dead),
                ("tasks_paused", "Whether nothing of it is claimed", |queue| {
                    u32::from(queue.settings.paused)
                }),
            ];
            for (name, help, count) in gauges {
                let each = queues.iter().map(|queue| (&*queue.name, f64::from(count(queue))));
                scrape.gauges(name, help, "queue", each);
            }
            let oldest = queues.iter().filter(|queue| queue.oldest_ready_ms > 0).map(|queue| {
                let waited_ms = now_ms.saturating_sub(queue.oldest_ready_ms);
                (&*queue.name, waited_ms as f64 / 1e3)
            });
            let help = "Since when the oldest task of a queue could be claimed: what to scale workers by";
            scrape.gauges("tasks_oldest_ready_seconds", help, "queue", oldest);
            let counters: [Told<Counts, u64>; 7] = [
                ("tasks_put", "Tasks that were put", |counts| counts.put),
                ("tasks_done", "Tasks that were done", |counts| counts.done),
                ("tasks_failed_tries", "Tries that failed or took too long", |counts| counts.failed),
                ("tasks_lost_tries", "Tries whose worker was lost", |counts| counts.lost),
                ("tasks_died", "Tasks that were given up", |counts| counts.dead),
                ("tasks_cancelled", "Tasks that were cancelled", |counts| counts.cancelled),
                ("tasks_dropped", "Dead tasks that went for later ones", |counts| counts.dropped),
            ];
            for (name, help, count) in counters {
                let each = queues.iter().map(|queue| (&*queue.name, count(&queue.counts)));
                scrape.counters(name, help, "queue", each);
            }
        });
    }
}

/// The routes of tasks.
pub(crate) fn routes<A: TaskApi>(queues: Arc<Queues<A>>) -> Router {
    let overseen = oversee::routes(queues.overseen());
    Router::new()
        .route("/tasks", post(client::store::<A>))
        .route("/tasks/{id}", get(client::look::<A>).delete(operate::cancel::<A>))
        .route("/tasks/{id}/retry", post(operate::retry::<A>))
        .route("/tasks/{id}/complete", post(worker::complete::<A>))
        .route("/tasks/{id}/fail", post(worker::fail::<A>))
        .route("/tasks/{id}/release", post(worker::release::<A>))
        .route("/tasks/{id}/snooze", post(worker::snooze::<A>))
        .route("/tasks/{id}/progress", post(worker::progress::<A>))
        .route("/claim", post(worker::claim::<A>))
        .route("/workers/{worker}/beat", post(worker::beat::<A>))
        .route("/workers/{worker}/stream", get(stream::stay::<A>))
        .route("/batches", post(batches::store::<A>))
        .route("/batches/{id}", get(batches::look::<A>))
        .route("/", post(crawl::store::<A>))
        .route("/status/{id}", get(crawl::status::<A>))
        .route("/result/{id}", get(crawl::result::<A>))
        .route("/queues", get(operate::list::<A>))
        .route("/queues/{queue}", put(operate::set::<A>).post(client::store_any::<A>))
        .with_state(queues)
        .merge(overseen)
}

/// Their part of the API's document.
#[derive(OpenApi)]
#[openapi(
    paths(
        client::store, client::store_any, client::look, worker::claim, worker::beat, stream::stay, worker::complete,
        worker::fail, worker::release, worker::snooze, worker::progress, operate::list, operate::set,
        operate::cancel, operate::retry, oversee::list, oversee::purge, oversee::retry_all, oversee::workers,
        oversee::quiet,
        batches::store, batches::look, crawl::store, crawl::status, crawl::result
    ),
    tags(
        (name = "tasks", description = "What workers are to do"),
        (name = "crawler", description = "Pages that are looked at for images"),
        (name = "workers", description = "With the workers' token"),
    ),
)]
pub(crate) struct Document;

/// What a path names: an id, a queue, a worker.
pub(crate) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Named(name)),
            Err(_) => Err(asked::invalid("what the path names is not UTF-8")),
        }
    }
}

/// The id in a path.
fn id_of(text: &str) -> Result<TaskId, Problem> {
    text.parse().map_err(|error: skep_state::task::TaskIdParseError| asked::invalid(error.to_string()))
}

/// The id that a path names; what is a UUID and none of ours names nothing.
fn named_id(text: &str) -> Result<TaskId, Problem> {
    match id_of(text) {
        Err(_) if TaskId::is_uuid(text) => Err(refused(&TaskOutcome::Unknown)),
        id => id,
    }
}

/// What an outcome is that is not what was asked for.
pub(crate) fn refused(outcome: &TaskOutcome) -> Problem {
    let (kind, detail) = match outcome {
        TaskOutcome::QueueFull { queue } => {
            (ProblemKind::QueueFull, format!("queue {queue} has as many unfinished tasks as it may"))
        }
        TaskOutcome::Full => {
            let detail =
                "there is no room for more tasks, queues, workers, keys or batches; nothing was done";
            (ProblemKind::TasksFull, detail.to_owned())
        }
        TaskOutcome::LeaseLost => {
            let detail =
                "the fence is not the task's any more: leave the task alone, another worker may have it";
            (ProblemKind::LeaseLost, detail.to_owned())
        }
        TaskOutcome::Finished { state } => {
            (ProblemKind::TaskFinished, format!("the task is {}", state.as_str()))
        }
        TaskOutcome::Gone => {
            let detail = "the task has ended, and what became of it is known no more";
            (ProblemKind::TaskGone, detail.to_owned())
        }
        TaskOutcome::Unknown => (ProblemKind::TaskNotFound, "no task has this id".to_owned()),
        TaskOutcome::Taken => {
            let detail = "another task of the same unique key is to be done";
            (ProblemKind::Refused, detail.to_owned())
        }
        TaskOutcome::Stale => {
            let detail = "number: the worker has made a later claim";
            (ProblemKind::InvalidTask, detail.to_owned())
        }
        TaskOutcome::Invalid => (ProblemKind::InvalidTask, "it is beyond its bounds".to_owned()),
        other => (ProblemKind::Internal, format!("the store answered another operation: {other:?}")),
    };
    Problem::new(kind, detail)
}
