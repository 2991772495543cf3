//! Keeps what is held: a beat names it, and each naming makes its lease whole again.
//!
//! What a node says is lost is stopped. Where nobody was heard for as long as a lease, all of it is: another
//! may have it by now.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::api::{Beat, Beaten};
use crate::held::Stopped;
use crate::run::Worker;

/// Between two beats.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between tries of one that was not answered.
const AGAIN: Duration = Duration::from_millis(500);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A node's, for whatever it gives.
const LEASE: Duration = Duration::from_secs(15);

/// Beats until it is dropped.
pub async fn beat(worker: &Arc<Worker>) {
    let path = format!("/workers/{}/beat", worker.name);
    loop {
        let holds = worker.held.fences();
        let pause = if holds.is_empty() {
            INTERVAL
        } else {
            match worker.client.post(&path, &Beat { holds }, ANSWER_TIMEOUT).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    worker.heard();
                    worker.metrics.beats.inc();
                    let lost = serde_json::from_slice::<Beaten>(&answer.body).map(|beaten| beaten.lost);
                    for fence in lost.unwrap_or_default() {
                        tracing::warn!(fence, "the task is this worker's no more");
                        worker.held.stop(fence, Stopped::Lost);
                    }
                    INTERVAL
                }
                failed => {
                    worker.metrics.request_failures.inc();
                    let why = failed.map_or_else(|error| error.to_string(), |answer| answer.detail());
                    tracing::warn!("beat: {why}");
                    AGAIN
                }
            }
        };
        if worker.silence() >= LEASE && worker.held.len() > 0 {
            tracing::error!(
                tasks = worker.held.len(),
                "nobody was heard for as long as a lease: all is stopped"
            );
            worker.held.stop_all(Stopped::Lost);
        }
        tokio::time::sleep(pause).await;
    }
}
