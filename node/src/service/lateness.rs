//! How late the runtime of consensus comes to what is due: heartbeats and votes are as late.

use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::Latency;

/// Between two looks.
const TICK: Duration = Duration::from_millis(50);

/// Runs for as long as the node; may be dropped at any await.
pub async fn run(lateness: Latency) {
    loop {
        let due = Instant::now() + TICK;
        tokio::time::sleep_until(due).await;
        lateness.observe(due.elapsed());
    }
}
