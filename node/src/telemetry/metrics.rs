//! Metrics: what is counted as it happens, and what is asked for at each scrape.
//!
//! Names start with `skep_`, units are base units (seconds, bytes). What happens often is a
//! handle resolved once ([`Latency`], [`HttpMetrics`]); what somebody knows anyway (Raft's term,
//! gossip's states, the store's size) is asked for at the scrape, by a source.

mod http;
mod scrape;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use skep_console::metrics::process::Process;

pub use http::{CLIENT_LEFT, HttpMetrics, MethodLabel, Route};
pub use scrape::Scrape;
use scrape::{Source, Sources};

/// What every metric's name starts with.
const PREFIX: &str = "skep";

/// A latency histogram's handle: 50 µs to 26 s, each bucket twice the one before.
#[derive(Debug, Clone)]
pub struct Latency(Histogram);

impl Latency {
    fn new() -> Self {
        Self(Histogram::new(exponential_buckets(50e-6, 2.0, 20)))
    }

    pub fn observe(&self, latency: Duration) {
        self.0.observe(latency.as_secs_f64());
    }
}

/// The process's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    sources: Sources,
    pub http: Arc<HttpMetrics>,
    /// From a write's arrival to its commit by a quorum and application here.
    pub commit: Latency,
    /// How late the runtime of consensus comes to what is due.
    pub lateness: Latency,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let http = Arc::new(HttpMetrics::register(&mut registry));
        let commit = Latency::new();
        registry.register_with_unit(
            "commit_duration",
            "Time of a write from its arrival until a quorum has it on disk and it is applied",
            Unit::Seconds,
            commit.0.clone(),
        );
        let lateness = Latency::new();
        registry.register_with_unit(
            "consensus_lateness",
            "How late the runtime of consensus comes to a task that is due",
            Unit::Seconds,
            lateness.0.clone(),
        );
        let sources = Sources(Arc::new(RwLock::new(Vec::new())));
        registry.register_collector(Box::new(sources.clone()));
        registry.register_collector(Box::new(Process::new(env!("CARGO_PKG_VERSION"))));
        Self { registry: Arc::new(registry), sources, http, commit, lateness }
    }

    /// Has `source` asked at each scrape. Each metric name belongs to one source.
    pub fn add_source(&self, source: impl Fn(&mut Scrape<'_>) + Send + Sync + 'static) {
        let source: Source = Box::new(source);
        self.sources.0.write().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// All metrics; `skep_console::metrics` writes them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

#[cfg(test)]
mod tests {
    use skep_console::metrics::{Form, encode};

    use super::*;

    #[test]
    fn what_is_counted_and_what_is_asked_for_stand_in_one_text() {
        let metrics = Metrics::new();
        metrics.commit.observe(Duration::from_micros(120));
        metrics.add_source(|scrape| {
            scrape.gauge("raft_term", "Raft's current term", 3.0);
            scrape.gauges("gossip_members", "Members by state", "state", [("ready", 2.0), ("dead", 1.0)]);
            scrape.counter("gossip_datagrams_received", "Datagrams received", 7u64);
            scrape.counters("gossip_datagrams_dropped", "Datagrams dropped", "reason", [("replay", 1)]);
            scrape.histogram("peer_rtt_seconds", "Round trips", 0.5, 3, &[(0.1, 2), (f64::INFINITY, 1)]);
        });
        let text = encode(metrics.registry(), Form::OpenMetrics).unwrap();
        for line in [
            "skep_commit_duration_seconds_count 1",
            "# TYPE skep_raft_term gauge",
            "skep_raft_term 3.0",
            "skep_gossip_members{state=\"ready\"} 2.0",
            "skep_gossip_members{state=\"dead\"} 1.0",
            "skep_gossip_datagrams_received_total 7",
            "skep_gossip_datagrams_dropped_total{reason=\"replay\"} 1",
            "skep_peer_rtt_seconds_bucket{le=\"0.1\"} 2",
            "skep_peer_rtt_seconds_bucket{le=\"+Inf\"} 3",
            concat!("skep_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1.0"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
        assert!(text.contains("skep_process_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_metric_is_described_once_and_starts_with_the_prefix() {
        let metrics = Metrics::new();
        metrics.http.observe(Route::Messages, MethodLabel::Post, 201, Duration::from_millis(1));
        let text = encode(metrics.registry(), Form::OpenMetrics).unwrap();
        let mut described = std::collections::HashSet::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => assert!(described.insert(rest.to_owned()), "{rest} twice"),
                None => assert!(line.starts_with("skep_") || line.starts_with('#'), "{line}"),
            }
        }
    }
}
