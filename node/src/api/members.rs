//! `GET /members`: the cluster as the page shows it.
//!
//! Gossip and Raft tell who is there; how busy each is, only it knows: whoever is asked asks the
//! others. One question a second goes out however many pages are open, because all that come
//! meanwhile are given the same answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::shared::Public;
use crate::http::headers::JSON;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::served::MessageApi;

/// How long an answer is given to further askers.
const FRESH: Duration = Duration::from_secs(1);
/// How long another node may take to say how busy it is.
const ASK_TIMEOUT: Duration = Duration::from_millis(700);
/// Largest answer of another node.
const ANSWER_BYTES_MAX: usize = 4096;
/// Members that are asked and shown.
const MEMBERS_MAX: usize = 256;

/// The cluster as a page shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Members {
    /// The node that answers.
    node_id: String,
    #[schema(required = true)]
    leader: Option<String>,
    term: u64,
    members: Vec<Member>,
}

/// One node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Member {
    id: String,
    /// `joining`, `ready`, `draining`, `left` or `dead`.
    state: String,
    /// `leader`, `follower`, `learner` or `none`.
    raft: String,
    #[schema(required = true)]
    version: Option<String>,
    /// Committed log entries that it has not applied; null where it does not say.
    #[schema(required = true)]
    lag: Option<u64>,
    #[schema(required = true)]
    requests_per_second: Option<f64>,
    /// Readers of its live feed.
    #[schema(required = true)]
    live_readers: Option<u64>,
}

/// What a node says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Busy {
    node_id: String,
    committed: u64,
    applied: u64,
    requests_per_second: f64,
    live_readers: u64,
}

/// Who is there, who leads, how far and how busy each is.
#[utoipa::path(
    get, path = "/members", operation_id = "listMembers", tag = "cluster",
    responses((status = 200, description = "The cluster as this node sees it", body = Members)),
)]
pub(crate) async fn get<A: MessageApi>(State(public): State<Arc<Public<A>>>) -> Result<Response, Problem> {
    let mut last = public.overview.last.lock().await;
    if let Some((at, json)) = &*last
        && at.elapsed() < FRESH
    {
        return Ok(answer(json.clone()));
    }
    let members = members(&public).await;
    let json = serde_json::to_vec(&members);
    let json = Bytes::from(json.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?);
    *last = Some((Instant::now(), json.clone()));
    Ok(answer(json))
}

/// `GET /members/self`: what other nodes ask.
pub(crate) async fn own<A: MessageApi>(State(public): State<Arc<Public<A>>>) -> Result<Response, Problem> {
    let json = serde_json::to_vec(&busy(&public));
    Ok(answer(json.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?.into()))
}

fn answer(json: Bytes) -> Response {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn busy<A: MessageApi>(public: &Public<A>) -> Busy {
    let cluster = public.served.api.cluster();
    Busy {
        node_id: cluster.node_id,
        committed: cluster.committed.unwrap_or(0),
        applied: cluster.applied.unwrap_or(0),
        requests_per_second: public.overview.requests_per_second(),
        live_readers: public.feed.live.readers() as u64,
    }
}

async fn members<A: MessageApi>(public: &Public<A>) -> Members {
    let cluster = public.served.api.cluster();
    let listed = cluster.members.iter().filter(|member| member.role == "node").take(MEMBERS_MAX);
    let asked = listed.clone().map(async |member| {
        if member.id == cluster.node_id {
            return Some(busy(public));
        }
        let is_there = !matches!(member.state, "left" | "dead");
        let address = member.http.as_ref().filter(|_| is_there)?.parse().ok()?;
        let busy = tokio::time::timeout(ASK_TIMEOUT, ask(address)).await.ok()??;
        // At an address, another node may be by now.
        (busy.node_id == member.id).then_some(busy)
    });
    let answers = join_all(asked).await;
    let committed = answers.iter().flatten().map(|busy| busy.committed).max().unwrap_or(0);
    let members = listed.zip(&answers).map(|(member, busy)| Member {
        id: member.id.clone(),
        state: member.state.into(),
        raft: member.raft.into(),
        version: member.version.clone(),
        lag: busy.as_ref().map(|busy| committed.saturating_sub(busy.applied)),
        requests_per_second: busy.as_ref().map(|busy| busy.requests_per_second),
        live_readers: busy.as_ref().map(|busy| busy.live_readers),
    });
    Members {
        members: members.collect(),
        node_id: cluster.node_id.clone(),
        leader: cluster.leader.clone(),
        term: cluster.term,
    }
}

/// Asks a node how busy it is. One that is of an older version does not know.
async fn ask(address: SocketAddr) -> Option<Busy> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let exchange = async {
        let request = http::Request::get("/members/self").header(HOST, address.to_string());
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    };
    // Driven here, so that nothing goes on when the time is up.
    tokio::select! {
        busy = exchange => busy,
        // What it brought may still have to be read.
        _ = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        } => None,
    }
}
