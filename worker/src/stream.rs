//! Shows that the worker lives, by an answer without an end: where this process dies its kernel closes the
//! connection, and what it had is another's within seconds, not after a lease. It may be dropped at any await.
//!
//! A help, and no need: nodes of the version before have none. Where one ends for another reason a beat says so
//! at once, and the next one is opened.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use crate::worker::Worker;

const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// A node writes more often: from one that does not for so long nothing more is expected.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// One that lasted so long was one.
const LASTED_MIN: Duration = Duration::from_secs(1);
/// Before the next is opened: after one that lasted; at most, where none is had; and where there are none.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(30);
const NONE_THERE: Duration = Duration::from_secs(60);

/// Has one open until it is dropped.
pub async fn stay(worker: &Worker) {
    let mut pause = AGAIN;
    for number in 1u64.. {
        let path = format!("/workers/{}/stream?number={number}", worker.name);
        let began = Instant::now();
        let answer = worker.client.open(&path, OPEN_TIMEOUT).await;
        let status = answer.as_ref().ok().map(|answer| answer.status());
        match status {
            Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                drop(answer);
                sleep(NONE_THERE).await;
                continue;
            }
            Some(StatusCode::OK) => {
                worker.metrics.streams.set(1);
                // Nodes believe its end once they know of it.
                worker.stream.store(number, Relaxed);
                worker.beat_now.notify_one();
                if let Ok(answer) = answer {
                    until_end(answer.into_body()).await;
                }
                worker.metrics.streams.set(0);
                // Else its end is taken for the worker's.
                worker.beat_now.notify_one();
                pause = if began.elapsed() >= LASTED_MIN { AGAIN } else { (pause * 2).min(AGAIN_MAX) };
            }
            _ => pause = (pause * 2).min(AGAIN_MAX),
        }
        sleep(pause).await;
    }
}

/// Nothing of it is kept.
async fn until_end(mut stream: Incoming) {
    while let Ok(Some(Ok(_))) = timeout(SILENCE_MAX, stream.frame()).await {}
}
