//! Asks for tasks, one claim at a time, and begins what it is given; while an operator wants it to be quiet, none.
//!
//! A claim has a number, and is made again with it until it is answered: an answer that was lost gave tasks
//! that would else be nobody's until their lease is over. What is held is named with each.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::api::{Claim, Claimed, Task};
use crate::client::{Answer, NoAnswer};
use crate::pauses::Pauses;
use crate::work;
use crate::worker::Worker;

/// How long a node may keep a claim that there is no task for.
const WAIT: Duration = Duration::from_secs(30);
/// Beyond that, for the answer itself: longer than a node waits for a leader.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the last claim is asked about when the worker ends.
const LAST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most tasks that one claim asks for.
const TASKS_MAX: usize = 32;

/// Claims until it is told to stop; what the last claim was given by then is returned, and not begun.
pub async fn claim(worker: &Arc<Worker>, stop: &CancellationToken) -> Vec<Task> {
    let (mut number, mut quiet) = (0, worker.quiet.subscribe());
    loop {
        let may_claim = async {
            worker.held.fewer_than(worker.slots).await;
            let _ = quiet.wait_for(|quiet| !quiet).await;
        };
        tokio::select! {
            () = may_claim => {}
            () = stop.cancelled() => return Vec::new(),
        }
        number += 1;
        let claimed = async {
            let told = async {
                let _ = quiet.wait_for(|quiet| *quiet).await;
            };
            tokio::select! {
                tasks = answered(worker, number, WAIT) => tasks,
                // It may have been given something already: the same claim, which waits no more, is its end.
                () = told => answered(worker, number, Duration::ZERO).await,
            }
        };
        let tasks = tokio::select! {
            tasks = claimed => tasks,
            () = stop.cancelled() => {
                // It may have been given something already. Asked once more, and not for long.
                let last = tokio::time::timeout(LAST_TIMEOUT, answered(worker, number, Duration::ZERO)).await;
                return last.unwrap_or_default();
            }
        };
        for task in tasks {
            work::begin(worker, task);
        }
    }
}

/// The answer to the claim of that number.
async fn answered(worker: &Worker, number: u64, wait: Duration) -> Vec<Task> {
    let wait_text = format!("{}s", wait.as_secs());
    let (mut pauses, mut is_repeated) = (Pauses::default(), false);
    loop {
        let max = worker.slots.saturating_sub(worker.held.len()).clamp(1, TASKS_MAX);
        let claim = Claim {
            worker: &worker.name,
            number,
            queues: &worker.queues,
            max,
            wait: &wait_text,
            holds: worker.held.fences(),
        };
        let mut unanswered = worker.client.unanswered();
        let answer = tokio::select! {
            biased;
            answer = worker.client.post("/claim", &claim, wait + ANSWER_TIMEOUT) => answer,
            // Another request was not: it is made again, at whichever server is asked now.
            _ = unanswered.changed() => {
                is_repeated = true;
                continue;
            }
        };
        let (why, after) = match judge(answer, max) {
            Ok(tasks) => {
                worker.heard();
                worker.metrics.claims.inc();
                if is_repeated && !tasks.is_empty() {
                    // Their leases may have begun with an answer that was lost.
                    worker.beat_now.notify_one();
                }
                return tasks;
            }
            Err(refused) => refused,
        };
        is_repeated = true;
        worker.failed(&why);
        if pauses.is_first() {
            tracing::warn!(number, "claim: {why}; it is made until it is answered");
        }
        tokio::time::sleep(pauses.next(after)).await;
    }
}

type Refused = (String, Option<Duration>);

fn judge(answer: Result<Answer, NoAnswer>, max: usize) -> Result<Vec<Task>, Refused> {
    let answer = answer.map_err(|error| (error.to_string(), None))?;
    match answer.status {
        StatusCode::NO_CONTENT => Ok(Vec::new()),
        StatusCode::OK => {
            let claimed = serde_json::from_slice::<Claimed>(&answer.body);
            let tasks = claimed.map_err(|error| (format!("the answer is none: {error}"), None))?.tasks;
            if tasks.len() > max || !tasks.iter().all(Task::has_an_id) {
                return Err((format!("the answer is none of {max} tasks, each with an id"), None));
            }
            Ok(tasks)
        }
        _ => Err((answer.detail(), answer.retry_after())),
    }
}
