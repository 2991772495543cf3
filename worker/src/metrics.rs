//! What a worker counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use skep_console::metrics::process::Process;

/// From a hundredth of a second to an hour.
const RUN_SECONDS: [f64; 10] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// How long tasks took.
#[derive(Debug, Clone)]
pub struct RunSeconds(Histogram);

impl Default for RunSeconds {
    fn default() -> Self {
        Self(Histogram::new(RUN_SECONDS))
    }
}

impl RunSeconds {
    pub fn observe(&self, seconds: f64) {
        self.0.observe(seconds);
    }
}

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// By what came of them.
    pub tasks: Family<[(&'static str, &'static str); 1], Counter>,
    pub running: Gauge,
    pub slots: Gauge,
    pub quiet: Gauge,
    pub run_seconds: RunSeconds,
    pub claims: Counter,
    pub beats: Counter,
    /// Open ones: 1, or none.
    pub streams: Gauge,
    pub request_failures: Counter,
    /// Ends of which no node wanted to hear.
    pub late: Counter,
}

impl Metrics {
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("skep_worker");
        registry.register("tasks", "Tasks by what came of them here", self.tasks.clone());
        registry.register("running", "Tasks that are being done", self.running.clone());
        registry.register("slots", "Most tasks at a time", self.slots.clone());
        registry.register("quiet", "Whether nothing is claimed, as an operator wants it", self.quiet.clone());
        registry.register("run_seconds", "How long tasks were done here", self.run_seconds.0.clone());
        registry.register("claims", "Claims that were answered", self.claims.clone());
        registry.register("beats", "Beats that were answered", self.beats.clone());
        registry.register(
            "streams",
            "Streams that are open, which show nodes its death",
            self.streams.clone(),
        );
        registry.register("request_failures", "Requests to nodes that failed", self.request_failures.clone());
        registry.register("late", "Tasks that were another's when they ended here", self.late.clone());
        registry.register_collector(Box::new(Process::new(env!("CARGO_PKG_VERSION"))));
        registry
    }
}
