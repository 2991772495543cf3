//! HTTP requests by route, method and status. A request costs an array index and an atomic
//! addition: no label is looked up or allocated after its first use.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use skep_console::Counts;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),* }
        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];
            /// As the label shows it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
    };
}

labels! {
    /// The route that a request's path belongs to.
    Route {
        Messages = "/messages",
        Message = "/messages/{digest}",
        Live = "/messages/live",
        Endpoint = "/endpoint/",
        Write = "/write",
        Tasks = "/tasks",
        Task = "/tasks/{id}",
        TaskEnd = "/tasks/{id}/{end}",
        Queues = "/queues",
        Queue = "/queues/{queue}",
        Claim = "/claim",
        Beat = "/workers/{worker}/beat",
        Read = "/read",
        Other = "other",
    }
}

impl Route {
    /// The route of a path, of whatever method.
    pub fn of(path: &str) -> Self {
        match path {
            "/messages" => Route::Messages,
            "/messages/live" => Route::Live,
            "/endpoint" | "/endpoint/" => Route::Endpoint,
            "/write" => Route::Write,
            "/read" => Route::Read,
            "/tasks" => Route::Tasks,
            "/queues" => Route::Queues,
            "/claim" => Route::Claim,
            _ => Self::below(path),
        }
    }

    /// The route of a path that names something.
    fn below(path: &str) -> Self {
        let mut parts = path.split('/').skip(1);
        let whole = [parts.next(), parts.next(), parts.next(), parts.next()];
        match whole {
            [Some("tasks"), Some(id), None, None] if !id.is_empty() => Route::Task,
            [Some("tasks"), Some(_), Some(_), None] => Route::TaskEnd,
            [Some("queues"), Some(queue), None, None] if !queue.is_empty() => Route::Queue,
            [Some("workers"), Some(_), Some("beat"), None] => Route::Beat,
            _ => match path.strip_prefix("/messages/") {
                Some(rest) if !rest.is_empty() && !rest.contains('/') => Route::Message,
                _ => Route::Other,
            },
        }
    }
}

labels! {
    /// A request's method; what is not served is one label, so that clients make no new series.
    MethodLabel {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Other = "other",
    }
}

impl MethodLabel {
    pub fn of(method: &::http::Method) -> Self {
        match *method {
            ::http::Method::GET => MethodLabel::Get,
            ::http::Method::HEAD => MethodLabel::Head,
            ::http::Method::POST => MethodLabel::Post,
            ::http::Method::PUT => MethodLabel::Put,
            ::http::Method::DELETE => MethodLabel::Delete,
            _ => MethodLabel::Other,
        }
    }
}

/// The status under which a request is counted whose client left before the answer.
pub const CLIENT_LEFT: u16 = 499;

/// Statuses that the API gives; any other is counted as 0.
const STATUSES: [u16; 23] = [
    0,
    200,
    201,
    204,
    304,
    400,
    401,
    403,
    404,
    405,
    406,
    408,
    409,
    410,
    413,
    415,
    422,
    429,
    CLIENT_LEFT,
    500,
    503,
    507,
    101,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    route: &'static str,
    method: &'static str,
}

/// What the HTTP API counts.
#[derive(Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    counters: Vec<OnceLock<Counter>>,
    histograms: Vec<OnceLock<Histogram>>,
    answered: AtomicU64,
    pub in_flight: Gauge,
    /// The listener's own.
    pub listener: Counts,
}

fn slots<T>(count: usize) -> Vec<OnceLock<T>> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

impl HttpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(100e-6, 2.0, 18));
        let kinds = Route::ALL.len() * MethodLabel::ALL.len();
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(buckets),
            counters: slots(kinds * STATUSES.len()),
            histograms: slots(kinds),
            answered: AtomicU64::new(0),
            in_flight: Gauge::default(),
            listener: Counts::default(),
        };
        let registry = registry.sub_registry_with_prefix("http");
        registry.register(
            "requests",
            "Requests answered, by route, method and status; 499 where the client left before the answer",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to its answer's",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("requests_in_flight", "Requests being served", metrics.in_flight.clone());
        let Counts { connections, connections_max, cut_off, accept_failures } = metrics.listener.clone();
        registry.register("connections", "Open connections", connections);
        registry.register("connections_max", "Most open connections", connections_max);
        registry.register("connections_cut_off", "Connections cut off by a stop", cut_off);
        registry.register("accept_failures", "Failures to accept", accept_failures);
        metrics
    }

    /// Requests that were answered, since the start.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Counts an answer and how long it took.
    pub fn observe(&self, route: Route, method: MethodLabel, status: u16, duration: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let kind = route as usize * MethodLabel::ALL.len() + method as usize;
        let code = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        let (route, method) = (route.as_str(), method.as_str());
        if let Some(counter) = self.counters.get(kind * STATUSES.len() + code) {
            let labels = || RequestLabels { route, method, code: STATUSES[code] };
            counter.get_or_init(|| self.requests.get_or_create_owned(&labels())).inc();
        }
        if let Some(histogram) = self.histograms.get(kind) {
            let labels = || DurationLabels { route, method };
            histogram
                .get_or_init(|| self.durations.get_or_create_owned(&labels()))
                .observe(duration.as_secs_f64());
        }
    }
}
