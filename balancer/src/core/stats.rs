//! What one core counts. A single thread writes, the scrape reads: no locked instructions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Of what is no sum.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the duration buckets, in seconds.
pub const BUCKETS_S: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How long something took, over many times.
#[derive(Debug, Default)]
pub struct Durations {
    /// One more for what is beyond the last bound.
    pub counts: [Count; BUCKETS_S.len() + 1],
    pub sum_ns: Count,
}

impl Durations {
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS_S.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS_S.len());
        self.counts[bucket].add(1);
        self.sum_ns.add(duration.as_nanos() as u64);
    }
}

/// The counters of one core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreStats {
    /// Of its ticker: a core that hangs counts no more.
    pub ticks: Count,
    pub accepted: Count,
    pub rejected: Count,
    pub connections: Count,
    /// Answers to clients by the first digit of their status; 0 where there was none.
    pub answers: [Count; 6],
    /// Requests that were refused as malformed or too large.
    pub refused: Count,
    /// Requests that a route refused for what they did not prove: no key, several, nobody's, a token that proves nothing,
    /// a password that is no user's, another group's.
    pub auth_missing: Count,
    pub auth_several: Count,
    pub auth_unknown: Count,
    pub auth_token: Count,
    /// Tokens of issuers whose keys were not known yet.
    pub auth_no_keys: Count,
    pub auth_password: Count,
    pub auth_group: Count,
    /// Requests of which a service was asked first: that went on, that it refused, of which it said nothing.
    pub asks_admitted: Count,
    pub asks_refused: Count,
    pub asks_failed: Count,
    /// Tokens that are known to hold, and bytes that they take.
    pub tokens_kept: Count,
    pub tokens_kept_bytes: Count,
    /// Requests that a stored answer was for; that had one beyond its time; for whom one was fetched; who waited for the
    /// same; and that went past the cache of their route.
    pub cache_hits: Count,
    pub cache_stale: Count,
    pub cache_misses: Count,
    pub cache_collapsed: Count,
    pub cache_passed: Count,
    /// Answers that were compressed, by coding; that would have been, had there been room; and bytes of bodies before and
    /// after.
    pub compressed_gzip: Count,
    pub compressed_zstd: Count,
    pub compressed_full: Count,
    pub compressed_bytes_in: Count,
    pub compressed_bytes_out: Count,
    pub retries: Count,
    /// What is left of the budget for retries, of late.
    pub retry_tokens: Count,
    /// Retries that the rule would have allowed and the budget did not.
    pub retries_refused: Count,
    pub queued: Count,
    pub waiting: Count,
    pub http2_requests: Count,
    /// Connections that were ended because their clients took back too many requests.
    pub http2_calmed: Count,
    pub bytes_in: Count,
    pub bytes_out: Count,
    pub tls_handshakes: Count,
    /// Of those, resumed.
    pub tls_resumed: Count,
    pub tls_failures: Count,
    /// Of those, for a name of which nothing is here.
    pub tls_unknown_names: Count,
    pub log_lines_dropped: Count,
    pub durations: Durations,
}
