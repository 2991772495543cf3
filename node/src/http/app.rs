//! What every request passes through: metrics, `Skep-Served-By`, and the word that the
//! connection will close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use skep_proto::id::NodeId;
use tower::Service;

use crate::telemetry::metrics::{CLIENT_LEFT, HttpMetrics, MethodLabel, Route};

/// Which node gave the answer.
const SKEP_SERVED_BY: HeaderName = HeaderName::from_static("skep-served-by");

/// An API that [`super::serve`] can serve. Cheap to clone.
#[derive(Clone)]
pub struct App {
    router: Router,
    shared: Arc<Shared>,
}

struct Shared {
    served_by: HeaderValue,
    metrics: Option<Arc<HttpMetrics>>,
    closing: AtomicBool,
}

impl App {
    /// Without `metrics`, requests are not counted.
    pub(super) fn new(router: Router, node_id: NodeId, metrics: Option<Arc<HttpMetrics>>) -> Self {
        // Hex digits are a header's value.
        let served_by = HeaderValue::from_str(&node_id.to_string());
        let served_by = served_by.unwrap_or(HeaderValue::from_static("unknown"));
        Self { router, shared: Arc::new(Shared { served_by, metrics, closing: AtomicBool::new(false) }) }
    }

    pub(super) fn metrics(&self) -> Option<&Arc<HttpMetrics>> {
        self.shared.metrics.as_ref()
    }

    /// From now on every answer is the last on its connection.
    pub(super) fn close_connections(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
    }

    pub(super) async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let asked = Asked::begin(self.shared.metrics.as_deref(), &request);
        let request = request.map(Body::new);
        let Ok(mut response) = self.router.clone().call(request).await;
        response.headers_mut().insert(SKEP_SERVED_BY, self.shared.served_by.clone());
        if self.shared.closing.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        asked.answered(response.status().as_u16());
        response
    }
}

/// A request in flight. Dropped without an answer, it is one whose client left.
struct Asked<'a> {
    metrics: Option<&'a HttpMetrics>,
    route: Route,
    method: MethodLabel,
    start: Instant,
    status: u16,
}

impl<'a> Asked<'a> {
    fn begin(metrics: Option<&'a HttpMetrics>, request: &Request<Incoming>) -> Self {
        if let Some(metrics) = metrics {
            metrics.in_flight.inc();
        }
        Self {
            metrics,
            route: Route::of(request.uri().path()),
            method: MethodLabel::of(request.method()),
            start: Instant::now(),
            status: CLIENT_LEFT,
        }
    }

    fn answered(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let duration = self.start.elapsed();
        if let Some(metrics) = self.metrics {
            metrics.in_flight.dec();
            metrics.observe(self.route, self.method, self.status, duration);
        }
        tracing::debug!(
            target: "skep_node::http::access",
            route = self.route.as_str(),
            method = self.method.as_str(),
            status = self.status,
            duration_us = duration.as_micros() as u64,
            "request"
        );
    }
}
