//! The admin API: health, metrics, the cluster, and what an operator may ask for.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200, or 503 with the reason in `detail` |
//! | `GET /startedz` | 200 once the node was ready, or has found no cluster to be ready in; else 503 |
//! | `GET /metrics` | the metrics: plain text, or OpenMetrics where `Accept` asks for it |
//! | `GET /cluster` | the contract's cluster document |
//! | `GET /peers` | `{"peers":[{"id","role","state","matched","lag","address"}]}` |
//! | `GET /clock` | `{"time_ms","newest_ms","agreed","members":[{"id","offset_ms"}]}`: the voters' clocks beside the agreed time, and the newest that was given |
//! | `GET /queues`, `GET /queues/{queue}/tasks`, `GET /workers` | as on the public address, as this node knows them |
//! | `GET /schedules` | the schedules of tasks as this node knows them, without what they put |
//! | `GET /clock/mend` | `{"newest_ms","agreed_ms","ahead","messages","mended"}`: whether the newest time is ahead, and how many messages have a later time than is agreed on |
//! | `POST /clock/mend` `{"agreed_ms": n}` | the same, once it was set back to what the clocks agree on; refused where that is not what was shown, gone on since |
//! | `POST /transfer-leader` `{"to": id or null}` | `{"leader": id}` |
//! | `POST /force-leave` `{"id": id}` | `{"removed": id}` |
//! | `DELETE /messages/{digest}` with the operators' token | `{"removed": seq}` |
//! | `GET /gateway` for `text/html` | the page of the gateway; what it loads is below `/assets/` |
//! | `GET /gateway`, `GET /gateway/{kind}/{name}` with the operators' or the gateway's token | the gateway's document, or an object of it; `ETag` is its revision |
//! | `PUT /gateway` with `If-Match` and one of these tokens | `{"lineage","revision","added","changed","removed"}`; with `?dry-run` what it would come to |
//! | `PUT`, `DELETE /gateway/{kind}/{name}` with one of these tokens | the same; with `?source=NAME` it deletes what is that source's, with `?take=true` either is also of another's |
//! | `GET`, `PUT /gateway/sources/{source}` with one of these tokens | the objects of a source; the same, and what it had else is taken out |
//! | `GET /gateway/seen` with the operators' token | what the page shows: the document in short, the balancers, and what they do |
//! | `GET /gateway/history` with the operators' token | `{"lineage","revision","revisions":[{"revision","time","source","bytes"}]}`, the newest first |
//! | `POST /gateway/purge` with the operators' token | `{"purge": n}` |
//! | `POST /gateway/rollback` `{"revision": n}` with the operators' token | the same as of a `PUT` |
//! | `POST /gateway/explain` `{"url","method","headers","from"}` with the operators' token | `{"route","auth","consumer","ask","limits","cache","compress","policies","outcome","sent"}` |
//! | `GET /gateway/shifts`, `GET /gateway/shifts/{route}` with the operators' token | the shifts of routes: `{"route","from","to","state","share_percent","over_s","abort","began","changed","why","seen"}` |
//! | `PUT /gateway/shifts/{route}` `{"from","to","over_s","abort"}` with the operators' token | the shift that begins |
//! | `DELETE /gateway/shifts/{route}`, `POST .../stop`, `POST .../resume` with the operators' token | the shift, which has gone back; takes no step; goes on |
//! | `GET /snapshot` | a snapshot file |
//! | `POST /snapshot` with a snapshot file | `{"messages": count}` |
//!
//! But for the removal of messages and the gateway's document, the address asks for no proof of who asks: it belongs on
//! loopback or a private network.
//! Requests that change something need a content type that a web page of another origin cannot
//! send without asking first, so that no browser on the machine can be made to send them; and all but health
//! and metrics must ask by an IP address, `localhost` or the machine's own name, so that no page becomes one
//! of this origin by a name that it points here.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use skep_base::id::NodeId;
use skep_console::token::{GatewayToken, OperatorToken};
use skep_console::{answer, browser};
use skep_raft::wire::TimeMend;

use super::assets;
use super::node::AdminApi;
use super::public::{method_not_allowed, not_found};
use crate::http::account::Account;
use crate::http::app::{App, Guard};
use crate::http::body;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::tasks::oversee;
use crate::kinds::{gateway, messages, schedules};
use crate::telemetry::Metrics;

/// Largest body of an operator's JSON request.
const REQUEST_BYTES_MAX: usize = 4096;
/// What the bodies of all such requests take together.
const REQUESTS_BYTES_MAX: u64 = 4 << 20;
/// How long a chunk of a snapshot that is restored may take to arrive.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// What shows health and figures, and changes nothing: whoever asks may ask by any name.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/startedz", "/metrics"];

pub(crate) const APPLICATION_JSON: &str = "application/json";
pub(crate) const OCTET_STREAM: &str = "application/octet-stream";

struct Admin<A> {
    api: A,
    metrics: Metrics,
    token: OperatorToken,
    account: Account,
}

/// Who may do what is not for everybody who reaches the admin address.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    pub operators: OperatorToken,
    /// For the gateway's document alone.
    pub gateway: GatewayToken,
}

/// The admin API over `api`.
pub fn admin_app<A: AdminApi>(api: A, tokens: Tokens, metrics: &Metrics) -> App {
    let (node_id, account) = (api.node_id(), Account::new(REQUESTS_BYTES_MAX));
    let tasks = oversee::admin_routes(api.tasks(), account.clone());
    let schedules = schedules::admin_routes(api.tasks());
    let Tokens { operators: token, gateway } = tokens;
    let gateway = gateway::admin_routes(api.tasks(), token.clone(), gateway, assets::gateway_page);
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz::<A>))
        .route("/startedz", get(startedz::<A>))
        .route("/metrics", get(scrape::<A>))
        .route("/cluster", get(cluster::<A>))
        .route("/peers", get(peers::<A>))
        .route("/clock", get(clock::<A>))
        .route("/clock/mend", get(look_at_time::<A>).post(mend_time::<A>))
        .route("/transfer-leader", post(transfer_leader::<A>))
        .route("/force-leave", post(force_leave::<A>))
        .route("/messages/{digest}", delete(remove::<A>))
        .route("/snapshot", get(save::<A>).post(restore::<A>))
        .with_state(Arc::new(Admin { api, metrics: metrics.clone(), token, account }))
        .merge(tasks)
        .merge(schedules)
        .merge(gateway)
        .merge(assets::admin_routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let guard = Guard::Operators { own_names: browser::own_names(), open: &OPEN };
    App::new(router, node_id, guard, None)
}

async fn livez() -> Response {
    answer::live().map(Body::new)
}

async fn readyz<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Response {
    answer::ready(admin.api.readiness()).map(Body::new)
}

async fn startedz<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Response {
    answer::state("started", admin.api.started()).map(Body::new)
}

async fn scrape<A: AdminApi>(State(admin): State<Arc<Admin<A>>>, headers: HeaderMap) -> Response {
    answer::metrics(&headers, admin.metrics.registry()).map(Body::new)
}

async fn cluster<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Response {
    json(&admin.api.cluster())
}

async fn peers<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Response {
    json(&serde_json::json!({ "peers": admin.api.peers().await }))
}

async fn clock<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Response {
    json(&admin.api.clocks())
}

async fn look_at_time<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Result<Response, Problem> {
    Ok(json(&shown(admin.api.mend_time(None).await?)))
}

/// The time that was shown, gone on since: it is set back to no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MendTime {
    agreed_ms: u64,
}

async fn mend_time<A: AdminApi>(
    State(admin): State<Arc<Admin<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let MendTime { agreed_ms } = read_json(request, &admin.account).await?;
    Ok(json(&shown(admin.api.mend_time(Some(agreed_ms)).await?)))
}

fn shown(mend: TimeMend) -> serde_json::Value {
    let TimeMend { newest_ms, agreed_ms, is_ahead, messages, is_mended } = mend;
    serde_json::json!({
        "newest_ms": newest_ms,
        "agreed_ms": agreed_ms,
        "ahead": is_ahead,
        "messages": messages,
        "mended": is_mended,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferLeader {
    #[serde(default)]
    to: Option<String>,
}

async fn transfer_leader<A: AdminApi>(
    State(admin): State<Arc<Admin<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let asked: TransferLeader = read_json(request, &admin.account).await?;
    let to = asked.to.as_deref().map(node_id).transpose()?;
    let leader = admin.api.transfer_leader(to).await?;
    Ok(json(&serde_json::json!({ "leader": leader.to_string() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceLeave {
    id: String,
}

async fn force_leave<A: AdminApi>(
    State(admin): State<Arc<Admin<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let asked: ForceLeave = read_json(request, &admin.account).await?;
    let id = node_id(&asked.id)?;
    admin.api.force_leave(id).await?;
    Ok(json(&serde_json::json!({ "removed": id.to_string() })))
}

async fn remove<A: AdminApi>(
    State(admin): State<Arc<Admin<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    admin.token.check(request.headers())?;
    let seq = admin.api.remove_message(messages::digest_of(request.uri().path())?).await?;
    Ok(json(&serde_json::json!({ "removed": seq })))
}

async fn save<A: AdminApi>(State(admin): State<Arc<Admin<A>>>) -> Result<Response, Problem> {
    let chunks = admin.api.snapshot().await?;
    // Should the stream fail, the connection ends early; the file's end mark tells as well.
    let mut response = Response::new(Body::from_stream(chunks));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
    Ok(response)
}

async fn restore<A: AdminApi>(
    State(admin): State<Arc<Admin<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    require_type(request.headers(), OCTET_STREAM)?;
    let body = request.into_body().into_data_stream();
    let chunks = futures_util::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(CHUNK_TIMEOUT, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(body))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    });
    let messages = admin.api.restore(chunks.boxed()).await?;
    Ok(json(&serde_json::json!({ "messages": messages })))
}

async fn read_json<T: serde::de::DeserializeOwned>(
    request: Request,
    account: &Account,
) -> Result<T, Problem> {
    require_type(request.headers(), APPLICATION_JSON)?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, REQUEST_BYTES_MAX, account).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))
}

fn require_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let detail = format!("expected the content type {expected}");
    Err(Problem::new(ProblemKind::UnsupportedContentType, detail))
}

fn node_id(text: &str) -> Result<NodeId, Problem> {
    text.parse().map_err(|error: skep_base::id::IdParseError| {
        Problem::new(ProblemKind::InvalidRequest, error.to_string())
    })
}

fn json<T: Serialize>(value: &T) -> Response {
    answer::json(value).map(Body::new)
}
