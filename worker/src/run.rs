//! Wires the parts together and sees to their end: the admin address, signals, drain.
//!
//! Tasks: one that claims, one that beats, one for each task that is here.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context;
use prometheus_client::registry::Registry;
use skep_base::listen;
use skep_console::{Admin, ServeLimits, Stage};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Task;
use crate::client::Client;
use crate::config::WorkConfig;
use crate::doing::{Doer, Outcome};
use crate::held::{Held, Stopped};
use crate::metrics::Metrics;
use crate::{beats, claims, ends};

/// A worker that hears of no node for so long is not ready: longer than a claim is kept.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// After the drain: for programs to end, and for what is given back to be heard of.
const LAST_WORDS: Duration = Duration::from_secs(8);

/// What all parts share.
#[derive(Debug)]
pub struct Worker {
    /// With a random part: a process of its own.
    pub name: String,
    pub queues: Vec<String>,
    pub concurrency: usize,
    pub client: Client,
    pub held: Held,
    pub metrics: Metrics,
    doer: Doer,
    heard: Mutex<Option<Instant>>,
    started: Instant,
    tasks: TaskTracker,
}

impl Worker {
    /// With what it counts, for the admin address.
    fn new(config: &WorkConfig) -> anyhow::Result<(Arc<Self>, Registry)> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let metrics = Metrics::default();
        metrics.concurrency.set(config.concurrency as i64);
        let mut registry = metrics.registry();
        let worker = Arc::new(Self {
            name: format!("{}-{:016x}", config.name, u64::from_ne_bytes(random)),
            queues: config.queues.clone(),
            concurrency: config.concurrency,
            client: Client::new(config.urls.clone(), config.token.as_ref()),
            held: Held::default(),
            metrics,
            doer: Doer::new(&config.how, &mut registry)?,
            heard: Mutex::new(None),
            started: Instant::now(),
            tasks: TaskTracker::new(),
        });
        Ok((worker, registry))
    }

    /// A node has answered.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long no node has answered.
    pub fn silence(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.unwrap_or(self.started).elapsed()
    }

    fn is_ready(&self) -> Result<(), &'static str> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        match heard && self.silence() < SILENCE_MAX {
            true => Ok(()),
            false => Err("no node answers"),
        }
    }

    /// Has it done, in a task of its own.
    pub fn begin(self: &Arc<Self>, task: Task) {
        let Some(stop) = self.held.begin(task.fence) else { return };
        let worker = self.clone();
        self.tasks.spawn(async move {
            worker.metrics.running.inc();
            let outcome = worker.doer.run(&task, &stop).await;
            worker.metrics.running.dec();
            worker.end(&task, &outcome).await;
        });
    }

    async fn end(&self, task: &Task, outcome: &Outcome) {
        let how = outcome.as_str();
        tracing::info!(task = task.id, queue = task.queue, fence = task.fence, "{how}");
        self.metrics.tasks.get_or_create(&[("outcome", how)]).inc();
        if !ends::end(self, task, outcome).await {
            self.metrics.late.inc();
        }
        self.held.end(task.fence);
    }

    /// Says that it is to be another's: it was given, and not begun.
    async fn give_back(&self, task: &Task) {
        if self.held.begin(task.fence).is_some() {
            self.end(task, &Outcome::Stopped).await;
        }
    }
}

/// Works until SIGTERM or SIGINT, and drains.
pub async fn run(config: WorkConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Without a handler it would end the process; there is nothing to read again.
    let _hangup = signal(SignalKind::hangup())?;
    let admin = listen::bind(config.admin).with_context(|| format!("--admin {}", config.admin))?;
    let admin = tokio::net::TcpListener::from_std(admin)?;
    let address = admin.local_addr()?;
    let (worker, registry) = Worker::new(&config)?;
    let (admin_stage, stages) = watch::channel(Stage::Serving);
    let shown = worker.clone();
    let routes = Admin::builder(registry, move || shown.is_ready().map_err(Into::into)).build();
    let admin = tokio::spawn(skep_console::serve(admin, routes, ServeLimits::admin(), stages));
    tracing::info!(
        worker = worker.name,
        queues = worker.queues.join(","),
        concurrency = worker.concurrency,
        admin = %address,
        "working"
    );
    let quiet = CancellationToken::new();
    let claiming = {
        let (worker, quiet) = (worker.clone(), quiet.clone());
        tokio::spawn(async move { claims::claim(&worker, &quiet).await })
    };
    let beating = {
        let worker = worker.clone();
        tokio::spawn(async move { beats::beat(&worker).await })
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

/// Lets what is begun end, and gives back what does not, or was not begun.
async fn drain(worker: &Arc<Worker>, claiming: tokio::task::JoinHandle<Vec<Task>>, limit: Duration) {
    let begun = Instant::now();
    for task in claiming.await.unwrap_or_default() {
        let worker = worker.clone();
        worker.tasks.clone().spawn(async move { worker.give_back(&task).await });
    }
    worker.tasks.close();
    let left = limit.saturating_sub(begun.elapsed());
    if tokio::time::timeout(left, worker.tasks.wait()).await.is_ok() {
        return;
    }
    tracing::warn!(tasks = worker.held.len(), "the drain's time is over: what is left is given back");
    worker.held.stop_all(Stopped::Ending);
    if tokio::time::timeout(LAST_WORDS, worker.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = worker.held.len(), "not given back: their leases will end");
    }
}
