//! Wires the parts together and sees to their end: the admin address, signals, drain.
//!
//! Tasks: one that claims, one that beats and keeps a stream open, one that reads the token again, one for each
//! task that is here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use skep_base::listen;
use skep_console::{Admin, ServeLimits, Stage};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Task;
use crate::config::{TokenFile, WorkConfig};
use crate::held::Stopped;
use crate::worker::Worker;
use crate::{beats, claims, stream, work};

/// After the drain: for programs to end, and for what is given back to be heard of.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Works until SIGTERM or SIGINT, and drains.
pub async fn run(config: WorkConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    let admin = listen::bind(config.admin).with_context(|| format!("--admin {}", config.admin))?;
    let admin = tokio::net::TcpListener::from_std(admin)?;
    let address = admin.local_addr()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let (worker, registry) = Worker::new(&config)?;
    let worker = Arc::new(worker);
    let (admin_stage, stages) = watch::channel(Stage::Serving);
    let shown = worker.clone();
    let routes = Admin::builder(registry, move || shown.readiness().map_err(Into::into)).build();
    let admin = tokio::spawn(skep_console::serve(admin, routes, ServeLimits::admin(), stages));
    tracing::info!(
        worker = worker.name,
        queues = worker.queues.join(","),
        slots = worker.slots,
        admin = %address,
        "working"
    );
    tokio::spawn(read_token_again(worker.clone(), config.token_file, hangup));
    let quiet = CancellationToken::new();
    let claiming = {
        let (worker, quiet) = (worker.clone(), quiet.clone());
        tokio::spawn(async move { claims::claim(&worker, &quiet).await })
    };
    let beating = {
        let worker = worker.clone();
        tokio::spawn(async move { tokio::join!(beats::beat(&worker), stream::stay(&worker)) })
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(seconds = config.drain.as_secs(), tasks = worker.held.len(), "draining");
    quiet.cancel();
    drain(&worker, claiming, config.drain).await;
    beating.abort();
    admin_stage.send_replace(Stage::Stopping);
    let _ = admin.await;
    tracing::info!("stopped");
    Ok(())
}

/// At each SIGHUP. A file that has none leaves the token as it was.
async fn read_token_again(worker: Arc<Worker>, file: Option<TokenFile>, mut hangup: Signal) {
    let file = file.map(Arc::new);
    while hangup.recv().await.is_some() {
        let Some(file) = file.clone() else {
            tracing::info!("the workers' token is in no file (--worker-token-file): it stays as it is");
            continue;
        };
        let path = file.path.clone();
        match tokio::task::spawn_blocking(move || file.read_again()).await {
            Ok(Ok(token)) => {
                worker.client.bear(&token);
                tracing::info!(file = %path.display(), "the workers' token read again");
            }
            Ok(Err(error)) => {
                tracing::error!(file = %path.display(), "the workers' token is left as it was: {error}");
            }
            // The runtime ends.
            Err(_) => return,
        }
    }
}

/// Lets what is begun end, and gives back what does not, or was not begun.
async fn drain(worker: &Arc<Worker>, claiming: JoinHandle<Vec<Task>>, limit: Duration) {
    let over = Instant::now() + limit;
    for task in claiming.await.unwrap_or_default() {
        work::give_back(worker, task);
    }
    worker.tasks.close();
    if tokio::time::timeout_at(over, worker.tasks.wait()).await.is_ok() {
        return;
    }
    tracing::warn!(tasks = worker.held.len(), "the drain's time is over: what is left is given back");
    worker.held.stop_all(Stopped::Ending);
    if tokio::time::timeout(LAST_WORDS, worker.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = worker.held.len(), "not given back: their leases will end");
    }
}
