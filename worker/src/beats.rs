//! Keeps what is held: a beat names it, and each naming makes its lease whole again. One goes out also where
//! nothing is held: a claim that waits at a node that is gone is found so.
//!
//! What a node says is lost is stopped, and all that no beat has kept for as long as a lease: another may have
//! it by now. Both parts may be dropped at any await.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::api::{Beat, Beaten};
use crate::client::{Answer, NoAnswer};
use crate::held::Stopped;
use crate::worker::Worker;

/// Between two beats.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between tries of one that was not answered.
const AGAIN: Duration = Duration::from_millis(500);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A node's, for whatever it gives.
const LEASE: Duration = Duration::from_secs(15);
/// Between two looks at what is not kept.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Beats until it is dropped.
pub async fn beat(worker: &Worker) {
    tokio::join!(name_all(worker), stop_unkept(worker));
}

async fn name_all(worker: &Worker) {
    let path = format!("/workers/{}/beat", worker.name);
    let mut is_heard = true;
    loop {
        let (holds, began) = (worker.held.fences(), Instant::now());
        let beat = Beat {
            holds: holds.clone(),
            stream: worker.stream.load(Relaxed),
            slots: worker.slots,
            version: env!("CARGO_PKG_VERSION"),
            quiet: *worker.quiet.borrow(),
        };
        let answer = worker.client.post(&path, &beat, ANSWER_TIMEOUT).await;
        let pause = match judge(answer) {
            Ok(Beaten { lost, say }) => {
                worker.heard();
                worker.metrics.beats.inc();
                if !is_heard {
                    tracing::info!("nodes hear the worker again");
                }
                is_heard = true;
                worker.held.keep(&holds, began);
                if let Some(say) = say {
                    worker.told(&say);
                }
                for fence in lost.into_iter().filter(|fence| holds.contains(fence)) {
                    tracing::warn!(fence, "the task is this worker's no more");
                    worker.held.stop(fence, Stopped::Lost);
                }
                INTERVAL
            }
            Err(why) => {
                worker.failed(&why);
                if is_heard {
                    tracing::warn!("beat: {why}; it is tried until a node has heard");
                }
                is_heard = false;
                AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = worker.beat_now.notified() => {}
        }
    }
}

/// What is lost, and what is wanted.
fn judge(answer: Result<Answer, NoAnswer>) -> Result<Beaten, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(answer.detail());
    }
    let beaten = serde_json::from_slice::<Beaten>(&answer.body);
    beaten.map_err(|error| format!("the answer is none: {error}"))
}

async fn stop_unkept(worker: &Worker) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let stopped = worker.held.stop_unkept(Instant::now(), LEASE);
        if stopped > 0 {
            tracing::error!(
                tasks = stopped,
                "no beat got through for as long as a lease: they are stopped, and given back"
            );
        }
    }
}
