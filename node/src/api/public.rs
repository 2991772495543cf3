//! The public API's routes.

use std::sync::Arc;

use axum::response::Response;
use axum::routing::get;
use futures_util::future::BoxFuture;
use http::{Method, Request, Uri};
use hyper::body::Incoming;
use skep_console::browser::Origins;
use skep_console::token::OperatorToken;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::overview::Overview;
use super::shared::Public;
use super::{assets, export, members, openapi};
use crate::http::account::Account;
use crate::http::app::{App, Guard, Shortcut};
use crate::http::problem::Problem;
use crate::http::token::WorkerToken;
use crate::kinds;
use crate::kinds::gateway::{self, GatewayApi, Watches};
use crate::kinds::messages::live::{Feed, Live};
use crate::kinds::served::{MessageApi, Served, TaskApi};
use crate::kinds::tasks::Queues;
use crate::telemetry::Metrics;

/// Whom the public API serves, and with how much.
#[derive(Clone)]
pub struct PublicLimits {
    pub token: OperatorToken,
    pub workers: WorkerToken,
    pub origins: Origins,
    pub max_body_bytes: usize,
    pub account: Account,
    pub live_readers_max: usize,
}

/// The public API over `api`, with the live feed's task.
pub fn public_app<A: TaskApi + GatewayApi>(api: A, limits: PublicLimits, metrics: &Metrics) -> App {
    let PublicLimits { token, workers, origins, max_body_bytes, account, live_readers_max } = limits;
    let node_id = api.node_id();
    let (api, closing, upgraded) = (Arc::new(api), watch::Sender::new(false), TaskTracker::new());
    let (leaving, draining, sockets) = (closing.subscribe(), closing.subscribe(), upgraded.clone());
    let watches = Watches::new(api.clone(), closing.subscribe());
    let live = Live::start(api.clone(), leaving, sockets, live_readers_max, account.clone(), metrics);
    let overview = Overview::start(metrics.http.clone());
    let served = Arc::new(Served { api: api.clone(), max_body_bytes, account: account.clone() });
    metrics.add_source(move |scrape| {
        let help = "Bytes that requests hold: bodies on their way in, lists on their way out";
        scrape.gauge("http_request_memory_bytes", help, account.bytes() as f64);
        let help = "Most of them; beyond, requests are refused";
        scrape.gauge("http_request_memory_max_bytes", help, account.bytes_max() as f64);
    });
    let queues =
        Arc::new(Queues::start(served.clone(), draining, token.clone(), workers, assets::queues_page));
    queues.register(metrics);
    let feed = Arc::new(Feed { api, live });
    let router = assets::routes()
        .route("/members", get(members::get::<A>))
        .route("/members/self", get(members::own::<A>))
        .route("/operator", get(export::check::<A>))
        .route("/export", get(export::get::<A>))
        .route("/openapi.json", get(openapi::get))
        .with_state(Arc::new(Public {
            served: served.clone(),
            feed: feed.clone(),
            overview,
            token: token.clone(),
        }))
        .merge(kinds::routes(&served, &feed, &queues, token))
        .merge(gateway::routes(watches))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    App::new(router, node_id, Guard::Public(origins), Some(metrics.http.clone()))
        .with_endings(closing, upgraded)
        .with_shortcut(Arc::new(Past(served)))
}

/// Past the router: what the kinds answer there.
struct Past<A>(Arc<Served<A>>);

impl<A: MessageApi> Shortcut for Past<A> {
    fn answer(&self, request: &mut Request<Incoming>) -> Option<BoxFuture<'static, Response>> {
        kinds::shortcut(&self.0, request)
    }
}

pub(crate) async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(uri.path())
}

/// axum adds `Allow`.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(method.as_str(), uri.path())
}
