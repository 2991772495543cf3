//! VRRP alone, in a host's network, for a proxy elsewhere on the host: `skep-balancer vrrp`.
//!
//! The control runtime carries the admin address and signals; VRRP has its own thread. The admin
//! address shows `/livez`, `/readyz`, `/metrics` and `/vrrp`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use skep_members::key::KeyRing;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::AgentConfig;
use crate::let_go;
use crate::metrics::process::Process;
use crate::server;
use crate::vrrp::track::{self, Track};
use crate::vrrp::{self, View};

/// Most connections to the admin address at once.
const CONNECTIONS_MAX: usize = 64;
/// How long clients may still begin connections here that have not heard where the address went.
const LATE_COMERS: Duration = Duration::from_secs(1);
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Holds the addresses until SIGTERM or SIGINT, and hands them over.
pub async fn run(config: AgentConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let admin = server::bind(config.admin).with_context(|| format!("--admin {}", config.admin))?;
    let admin = TcpListener::from_std(admin)?;
    let address = admin.local_addr()?;
    let drain = config.vrrp.drain;
    let (tracks, keys) = (config.vrrp.tracks.clone(), config.vrrp.keys.clone());
    let running = vrrp::start(config.vrrp, None).await?;
    if let Some(keys) = keys {
        tokio::spawn(let_clients_go(running.view.clone(), tracks, keys));
    }
    tokio::spawn(serve(running.view.clone(), admin));
    tracing::info!(admin = %address, "holding virtual addresses");
    // Without a handler SIGHUP would end the process; there is nothing to read again.
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tracing::info!("settings of virtual addresses are read at the start alone"),
        }
    }
    running.release().await;
    // The proxy is not this process: its connections end in their own time.
    let mut routers = running.view.routers.clone();
    let drained = routers.wait_for(|routers| routers.iter().all(|router| !router.draining));
    tokio::select! {
        _ = tokio::time::timeout(drain, drained) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.finish().await;
    tracing::info!("stopped");
    Ok(())
}

/// Tells the proxies at each hand-over that the connections which they have are to end: the new
/// holder sends on to them for a while alone. Ends with VRRP.
async fn let_clients_go(view: View, tracks: Vec<Track>, keys: KeyRing) {
    let mut routers = view.routers.clone();
    let mut was_draining = false;
    loop {
        let is_draining = routers.borrow_and_update().iter().any(|router| router.draining);
        if is_draining && !was_draining {
            tell_to_let_go(&tracks, &keys).await;
            // Those that had just begun here when the first word was said.
            tokio::time::sleep(LATE_COMERS).await;
            tell_to_let_go(&tracks, &keys).await;
        }
        was_draining = is_draining;
        if routers.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_to_let_go(tracks: &[Track], keys: &KeyRing) {
    for track in tracks.iter().filter(|track| track.path.is_some()) {
        let Some(word) = let_go::word(keys) else { return };
        // One that drains or is gone knows by itself.
        if let Err(error) = track::tell(track, let_go::HEADER, &word).await {
            tracing::debug!(track = track.name, %error, "not told of the hand-over");
        }
    }
}

async fn serve(view: View, listener: TcpListener) {
    let mut registry = Registry::with_prefix("skep_balancer");
    registry.register_collector(Box::new(view.clone()));
    registry.register_collector(Box::new(Process::default()));
    let shared = Arc::new((view, registry));
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &shared.0, &shared.1);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A client that goes is its own affair.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, view: &View, registry: &Registry) -> Response<Full<Bytes>> {
    let (status, kind, body) = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, PROBLEM, problem(405, "method-not-allowed", "only GET and HEAD"))
    } else {
        match request.uri().path() {
            "/livez" => (StatusCode::OK, "text/plain", "alive\n".into()),
            "/readyz" => ready(view),
            "/vrrp" => (StatusCode::OK, "application/json", view.json().into()),
            "/metrics" => {
                let mut out = String::new();
                match prometheus_client::encoding::text::encode(&mut out, registry) {
                    Ok(()) => (StatusCode::OK, METRICS, out.into()),
                    Err(_) => (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        PROBLEM,
                        problem(500, "internal", "the metrics failed"),
                    ),
                }
            }
            _ => (StatusCode::NOT_FOUND, PROBLEM, problem(404, "not-found", "there is nothing here")),
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

const PROBLEM: &str = "application/problem+json";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Ready: each virtual router takes part, as Active or as Backup.
fn ready(view: &View) -> (StatusCode, &'static str, Bytes) {
    let routers = view.routers.borrow();
    if routers.iter().all(|router| router.state != "initialize") {
        return (StatusCode::OK, "text/plain", "ready\n".into());
    }
    let detail = "a virtual router is in a fault; see /vrrp";
    (StatusCode::SERVICE_UNAVAILABLE, PROBLEM, problem(503, "not-ready", detail))
}

fn problem(status: u16, kind: &str, detail: &str) -> Bytes {
    let body = format!(
        "{{\"type\":\"urn:skep:problem:{kind}\",\"title\":\"{kind}\",\"status\":{status},\"detail\":\"{detail}\"}}\n"
    );
    body.into()
}
