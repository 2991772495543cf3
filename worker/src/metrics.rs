//! What a worker counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use skep_console::metrics::process::Process;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// By what came of them.
    pub tasks: Family<[(&'static str, &'static str); 1], Counter>,
    pub running: Gauge,
    pub concurrency: Gauge,
    pub claims: Counter,
    pub beats: Counter,
    pub request_failures: Counter,
    /// Ends of which no node wanted to hear.
    pub late: Counter,
}

impl Metrics {
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("skep_worker");
        registry.register("tasks", "Tasks by what came of them here", self.tasks.clone());
        registry.register("running", "Tasks that are being done", self.running.clone());
        registry.register("concurrency", "Most tasks at a time", self.concurrency.clone());
        registry.register("claims", "Claims that were answered", self.claims.clone());
        registry.register("beats", "Beats that were answered", self.beats.clone());
        registry.register("request_failures", "Requests to nodes that failed", self.request_failures.clone());
        registry.register("late", "Tasks that were another's when they ended here", self.late.clone());
        registry.register_collector(Box::new(Process::new(env!("CARGO_PKG_VERSION"))));
        registry
    }
}
