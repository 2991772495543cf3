//! Waiting for what another process does: looked at again and again, with a deadline.

use std::time::{Duration, Instant};

/// How often an outside event is looked for.
pub const TICK: Duration = Duration::from_millis(10);
/// Longer than anything takes that a test waits for on one machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks of a thread: as time passes they get rarer, so that each look costs little, and how
/// long it took is known to a fiftieth.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Between two looks.
pub async fn tick() {
    tokio::time::sleep(TICK).await;
}

/// Polls until `probe` gives a value; panics with `what` when the deadline passes.
pub async fn until<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        tick().await;
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
        tick().await;
    }
}

/// Lets a load run for a while before the next thing happens to the cluster.
pub async fn under_load_for(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// On a thread: looks until it is so; how long it took.
pub fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain: {what}");
        pause((begun.elapsed() / 50).clamp(LOOKS.0, LOOKS.1));
    }
    begun.elapsed()
}

/// On a thread: a moment between two looks at what sends no event, or a time for which a load runs.
pub fn pause(length: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(length);
}
