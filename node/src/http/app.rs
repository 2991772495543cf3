//! What every request passes through: metrics, `Skep-Served-By`, and the word that the
//! connection will close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use skep_base::id::NodeId;
use skep_console::browser::{self, Origins};
use skep_console::{Answers, Counts, Proved};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::head;
use super::problem::Problem;
use crate::telemetry::metrics::{CLIENT_LEFT, HttpMetrics, MethodLabel, Route};

/// Below this is what our programs ask of each other, who may have to prove themselves.
const OF_OURS: &str = "/-/";
/// Which node gave the answer.
const SKEP_SERVED_BY: HeaderName = HeaderName::from_static("skep-served-by");

/// Answers those requests at once that most clients make most often: the router's table, its clones and
/// its boxes cost them more than finding the answer does.
pub(crate) trait Shortcut: Send + Sync {
    /// The answer; none where the router is to give it. Only for an answer it takes anything out of
    /// the request.
    fn answer(&self, request: &mut Request<Incoming>) -> Option<BoxFuture<'static, Response<Body>>>;
}

/// Who is let in.
#[derive(Debug, Clone)]
pub(crate) enum Guard {
    /// Clients: pages of these origins and of its own.
    Public(Origins),
    /// Operators: whoever asks by one of the machine's own names, and no page of another origin. What
    /// `open` names anybody may ask.
    Operators { own_names: Arc<[String]>, open: &'static [&'static str] },
}

impl Guard {
    fn judge(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        match self {
            Guard::Public(origins) => origins.judge(request.method(), request.headers()),
            Guard::Operators { open, .. } if open.contains(&request.uri().path()) => Ok(()),
            Guard::Operators { own_names, .. } => {
                browser::judge_host(own_names, request.headers())?;
                Origins::default().judge(request.method(), request.headers())
            }
        }
    }
}

/// An API that [`skep_console::serve`] can serve. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Whether the connection's other end has shown that it has the cluster's or the edge key.
    is_proved: bool,
    router: Router,
    shortcut: Option<Arc<dyn Shortcut>>,
    shared: Arc<Shared>,
}

struct Shared {
    served_by: HeaderValue,
    metrics: Option<Arc<HttpMetrics>>,
    guard: Guard,
    /// Looked at for each answer; `closing` is for those who wait for it.
    is_closing: AtomicBool,
    closing: watch::Sender<bool>,
    /// What goes on behind answers that took over their connection.
    upgraded: TaskTracker,
}

impl App {
    /// Without `metrics`, requests are not counted.
    pub(crate) fn new(
        router: Router,
        node_id: NodeId,
        guard: Guard,
        metrics: Option<Arc<HttpMetrics>>,
    ) -> Self {
        // Hex digits are a header's value.
        let served_by = HeaderValue::from_str(&node_id.to_string());
        let served_by = served_by.unwrap_or(HeaderValue::from_static("unknown"));
        let (closing, upgraded) = (watch::Sender::new(false), TaskTracker::new());
        let is_closing = AtomicBool::new(false);
        let shared = Shared { served_by, metrics, guard, is_closing, closing, upgraded };
        Self { is_proved: false, router, shortcut: None, shared: Arc::new(shared) }
    }

    /// With a way past the router.
    pub(crate) fn with_shortcut(self, shortcut: Arc<dyn Shortcut>) -> Self {
        Self { shortcut: Some(shortcut), ..self }
    }

    /// With what tells long answers when to end, and what waits for those that took over their
    /// connection.
    pub(crate) fn with_endings(self, closing: watch::Sender<bool>, upgraded: TaskTracker) -> Self {
        let Shared { served_by, metrics, guard, .. } = &*self.shared;
        let (served_by, metrics, guard) = (served_by.clone(), metrics.clone(), guard.clone());
        let is_closing = AtomicBool::new(false);
        let shared = Shared { served_by, metrics, guard, is_closing, closing, upgraded };
        Self { shared: Arc::new(shared), ..self }
    }
}

impl Answers for App {
    type Body = Body;

    fn mark(&self) -> Option<(HeaderName, HeaderValue)> {
        Some((SKEP_SERVED_BY, self.shared.served_by.clone()))
    }

    fn proved(self) -> Self {
        Self { is_proved: true, ..self }
    }

    fn counts(&self) -> Counts {
        self.shared.metrics.as_ref().map(|metrics| metrics.listener.clone()).unwrap_or_default()
    }

    fn close_connections(&self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        self.shared.closing.send_if_modified(|closing| !std::mem::replace(closing, true));
    }

    async fn upgraded_end(&self) {
        self.shared.upgraded.close();
        self.shared.upgraded.wait().await;
    }

    async fn respond(&self, mut request: Request<Incoming>, began: Instant) -> Response<Body> {
        let asked = Asked::begin(began, self.shared.metrics.as_deref(), &request);
        let refused = head::settle(&mut request).and_then(|()| self.shared.guard.judge(&request));
        let mut response = match refused {
            Err(refusal) => refusal.into_response(),
            Ok(()) => match self.shortcut.as_ref().and_then(|shortcut| shortcut.answer(&mut request)) {
                Some(answer) => answer.await,
                None => {
                    if self.is_proved && request.uri().path().starts_with(OF_OURS) {
                        request.extensions_mut().insert(Proved);
                    }
                    let Ok(response) = self.router.clone().call(request.map(Body::new)).await;
                    response
                }
            },
        };
        response.headers_mut().insert(SKEP_SERVED_BY, self.shared.served_by.clone());
        if self.shared.is_closing.load(Ordering::Relaxed)
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
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
    fn begin(start: Instant, metrics: Option<&'a HttpMetrics>, request: &Request<Incoming>) -> Self {
        if let Some(metrics) = metrics {
            metrics.in_flight.inc();
        }
        Self {
            metrics,
            route: Route::of(request.uri().path()),
            method: MethodLabel::of(request.method()),
            start,
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
