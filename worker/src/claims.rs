//! Asks for tasks, one claim at a time, and begins what it is given.
//!
//! A claim has a number, and is made again with it until it is answered: an answer that was lost gave tasks
//! that would else be nobody's until their lease is over. What is held is named with each.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::api::{Claim, Claimed, Task};
use crate::client::{Answer, NoAnswer};
use crate::run::Worker;

/// How long a node may keep a claim that there is no task for.
const WAIT: Duration = Duration::from_secs(30);
/// Beyond that, for the answer itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most tasks that one claim asks for.
const TASKS_MAX: usize = 32;
/// Between two tries, the first and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses between tries, each twice as long as the one before.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

impl Pauses {
    /// What is asked for by the other side counts where it is longer.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.0.max(asked.unwrap_or_default().min(PAUSE_MAX));
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        pause
    }
}

/// Claims until it is told to stop; what the last claim was given by then is returned, and not begun.
pub async fn claim(worker: &Arc<Worker>, stop: &CancellationToken) -> Vec<Task> {
    let mut number = 0;
    loop {
        tokio::select! {
            () = worker.held.fewer_than(worker.concurrency) => {}
            () = stop.cancelled() => return Vec::new(),
        }
        number += 1;
        let tasks = tokio::select! {
            tasks = answered(worker, number, WAIT) => tasks,
            () = stop.cancelled() => {
                // It may have been given something already. Asked once more, and not for long.
                return tokio::time::timeout(ANSWER_TIMEOUT, answered(worker, number, Duration::ZERO))
                    .await
                    .unwrap_or_default();
            }
        };
        for task in tasks {
            worker.begin(task);
        }
    }
}

/// The answer to the claim of that number.
async fn answered(worker: &Worker, number: u64, wait: Duration) -> Vec<Task> {
    let wait_text = format!("{}s", wait.as_secs());
    let mut pauses = Pauses::default();
    loop {
        let claim = Claim {
            worker: &worker.name,
            number,
            queues: &worker.queues,
            max: worker.concurrency.saturating_sub(worker.held.len()).clamp(1, TASKS_MAX),
            wait: &wait_text,
            holds: worker.held.fences(),
        };
        let answer = worker.client.post("/claim", &claim, wait + ANSWER_TIMEOUT).await;
        let pause = match judge(answer) {
            Ok(tasks) => {
                worker.heard();
                worker.metrics.claims.inc();
                return tasks;
            }
            Err((why, after)) => {
                worker.metrics.request_failures.inc();
                tracing::warn!(number, "claim: {why}");
                pauses.next(after)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

type Refused = (String, Option<Duration>);

fn judge(answer: Result<Answer, NoAnswer>) -> Result<Vec<Task>, Refused> {
    let answer = answer.map_err(|error| (error.to_string(), None))?;
    match answer.status {
        StatusCode::NO_CONTENT => Ok(Vec::new()),
        StatusCode::OK => serde_json::from_slice::<Claimed>(&answer.body)
            .map(|claimed| claimed.tasks)
            .map_err(|error| (format!("the answer is none: {error}"), None)),
        _ => Err((answer.detail(), answer.retry_after())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_a_longer_one_that_is_asked_for_counts() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(None), PAUSE_MIN);
        assert_eq!(pauses.next(Some(Duration::from_secs(1))), Duration::from_secs(1));
        let last = (0..20).map(|_| pauses.next(Some(Duration::from_secs(3600)))).last();
        assert_eq!(last, Some(PAUSE_MAX));
    }
}
