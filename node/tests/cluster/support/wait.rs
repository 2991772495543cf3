//! Waiting for what another process does: polled, with a deadline, at a small tick.

use std::time::{Duration, Instant};

/// How often an outside event is looked for.
pub const TICK: Duration = Duration::from_millis(10);

/// Polls until `probe` gives a value; panics with `what` when the deadline passes.
pub async fn until<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(TICK).await;
    }
}

/// Polls for the whole of `duration` and panics as soon as `probe` objects.
///
/// For what must *not* happen there is no event to await, only a time in which it did not.
pub async fn holds_for(what: &str, duration: Duration, mut probe: impl AsyncFnMut() -> Result<(), String>) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        if let Err(objection) = probe().await {
            panic!("{what}: {objection}");
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Lets a load run for a while before the next thing happens to the cluster.
pub async fn under_load_for(duration: Duration) {
    tokio::time::sleep(duration).await;
}
