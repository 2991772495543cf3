//! VRRP alone, in a host's network, for a proxy elsewhere on the host: `skep-balancer vrrp`.
//!
//! The control runtime carries the admin address and signals; VRRP has its own thread. The admin
//! address shows `/livez`, `/readyz`, `/metrics` and `/vrrp`.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use skep_base::listen;
use skep_console::metrics::process::Process;
use skep_console::{Admin, ServeLimits, Stage};
use skep_members::in_force::Keys;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::AgentConfig;
use crate::let_go;
use crate::status::View;
use crate::track::{self, Track};

/// How long clients may still begin connections here that have not heard where the address went.
const LATE_COMERS: Duration = Duration::from_secs(1);

/// Holds the addresses until SIGTERM or SIGINT, and hands them over.
pub async fn run(config: AgentConfig) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let admin = listen::bind(config.admin).with_context(|| format!("--admin {}", config.admin))?;
    let admin = TcpListener::from_std(admin)?;
    let address = admin.local_addr()?;
    let drain = config.vrrp.drain;
    let (tracks, keys) = (config.vrrp.tracks.clone(), config.keys.map(Keys::of_edge).transpose()?);
    let running = crate::start(config.vrrp, keys.clone(), None).await?;
    if let Some(keys) = keys.clone() {
        tokio::spawn(let_clients_go(running.view.clone(), tracks, keys));
    }
    let (admin_stage, stages) = watch::channel(Stage::Serving);
    let routes = routes(running.view.clone());
    let admin = tokio::spawn(skep_console::serve(admin, routes, ServeLimits::admin(), stages));
    tracing::info!(admin = %address, "holding virtual addresses");
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let Some(keys) = keys.clone() {
                    tokio::spawn(async move { keys.read_again().await });
                }
                tracing::info!("settings of virtual addresses are read at the start alone");
            }
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
    admin_stage.send_replace(Stage::Stopping);
    let _ = admin.await;
    tracing::info!("stopped");
    Ok(())
}

/// Tells the proxies at each hand-over that the connections which they have are to end: the new
/// holder sends on to them for a while alone. Ends with VRRP.
async fn let_clients_go(view: View, tracks: Vec<Track>, keys: Keys) {
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

async fn tell_to_let_go(tracks: &[Track], keys: &Keys) {
    for track in tracks.iter().filter(|track| track.path.is_some()) {
        for word in let_go::words(&keys.now().ring) {
            // One that drains or is gone knows by itself.
            if let Err(error) = track::tell(track, let_go::HEADER, &word).await {
                tracing::debug!(track = track.name, %error, "not told of the hand-over");
            }
        }
    }
}

fn routes(view: View) -> Admin {
    let mut registry = Registry::with_prefix("skep_balancer");
    registry.register_collector(Box::new(view.clone()));
    registry.register_collector(Box::new(Process::new(env!("CARGO_PKG_VERSION"))));
    let shown = view.clone();
    Admin::builder(registry, move || ready(&view)).route("/vrrp", move || shown.answer()).build()
}

/// Ready: each virtual router takes part, as Active or as Backup.
fn ready(view: &View) -> Result<(), Cow<'static, str>> {
    let routers = view.routers.borrow();
    match routers.iter().all(|router| router.state != "initialize") {
        true => Ok(()),
        false => Err("a virtual router is in a fault; see /vrrp".into()),
    }
}
