//! Idle connections to the backends, kept by each core for itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::forward::upstream::Upstream;

/// Most idle connections to one backend.
const IDLE_MAX: usize = 512;
/// How long a connection may idle: less than the backends' own limit, so that they are not the ones
/// to close it just as a request is sent.
const IDLE_AGE_MAX: Duration = Duration::from_secs(15);

/// The idle connections of one core.
#[derive(Debug, Default)]
pub struct Idle {
    idle: HashMap<u64, Vec<Upstream>>,
}

impl Idle {
    /// The connection that was used last: it is the least likely to be closed.
    pub fn take(&mut self, backend: u64) -> Option<Upstream> {
        let idle = self.idle.get_mut(&backend)?;
        while let Some(upstream) = idle.pop() {
            if upstream.is_fresh() {
                return Some(upstream);
            }
        }
        None
    }

    pub fn put(&mut self, mut upstream: Upstream, now: Instant) {
        upstream.buffer.release();
        upstream.idle_since = now;
        let idle = self.idle.entry(upstream.backend.serial).or_default();
        if idle.len() < IDLE_MAX {
            idle.push(upstream);
        }
    }

    /// Closes what idled too long, and all of backends that are served from no more.
    pub fn sweep(&mut self, now: Instant, keep: impl Fn(u64) -> bool) {
        self.idle.retain(|backend, idle| {
            // The oldest are in front.
            let old = idle.partition_point(|it| now.saturating_duration_since(it.idle_since) > IDLE_AGE_MAX);
            idle.drain(..old);
            keep(*backend) && !idle.is_empty()
        });
    }
}
