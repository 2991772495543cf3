//! What all parts of a worker share.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use skep_base::random::Random;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::client::Client;
use crate::config::WorkConfig;
use crate::doing::Doer;
use crate::held::Held;
use crate::metrics::Metrics;

/// A worker that no node has heard for so long is not ready: four beats.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// One process of a worker.
#[derive(Debug)]
pub struct Worker {
    /// With a random part: no other process has it.
    pub name: String,
    pub queues: Vec<String>,
    pub slots: usize,
    pub client: Client,
    pub held: Held,
    pub metrics: Metrics,
    pub doer: Doer,
    /// One for each task that is here.
    pub tasks: TaskTracker,
    /// Has the next beat sent at once.
    pub beat_now: Notify,
    /// The number of the newest stream.
    pub stream: AtomicU64,
    /// It claims nothing, as an operator wants it.
    pub quiet: watch::Sender<bool>,
    said: Mutex<Said>,
}

/// What was last heard of the nodes.
#[derive(Debug, Default)]
struct Said {
    heard: Option<Instant>,
    /// What went wrong since.
    trouble: Option<String>,
}

impl Worker {
    /// With what it counts, for the admin address.
    pub fn new(config: &WorkConfig) -> anyhow::Result<(Self, Registry)> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let random = u64::from_ne_bytes(random);
        // Workers that are started at once begin at different nodes.
        let mut urls = config.urls.clone();
        let first = Random::new(random).below(urls.len().max(1));
        urls.rotate_left(first);
        let metrics = Metrics::default();
        metrics.slots.set(config.slots as i64);
        let mut registry = metrics.registry();
        let worker = Self {
            name: format!("{}-{random:016x}", config.name),
            queues: config.queues.clone(),
            slots: config.slots,
            client: Client::new(urls, config.token.as_ref(), config.trust.clone()),
            held: Held::default(),
            metrics,
            doer: Doer::new(&config.how, &mut registry)?,
            tasks: TaskTracker::new(),
            beat_now: Notify::new(),
            stream: AtomicU64::new(0),
            quiet: watch::Sender::new(false),
            said: Mutex::default(),
        };
        Ok((worker, registry))
    }

    /// What an operator wants of it; what is not known is let be.
    pub fn told(&self, say: &str) {
        let quiet = match say {
            "quiet" => true,
            "run" => false,
            _ => return,
        };
        if self.quiet.send_replace(quiet) != quiet {
            tracing::info!(quiet, "as an operator wants it");
            self.metrics.quiet.set(quiet.into());
            // Nodes say so until they hear that it is so.
            self.beat_now.notify_one();
        }
    }

    /// A node has taken what was said.
    pub fn heard(&self) {
        let heard = Some(Instant::now());
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Said { heard, trouble: None };
    }

    /// A request came to nothing.
    pub fn failed(&self, why: &str) {
        self.metrics.request_failures.inc();
        self.said.lock().unwrap_or_else(PoisonError::into_inner).trouble = Some(why.to_owned());
    }

    /// Why it would do nothing now.
    pub fn readiness(&self) -> Result<(), String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.heard.is_some_and(|heard| heard.elapsed() < SILENCE_MAX) {
            return Ok(());
        }
        Err(said.trouble.clone().unwrap_or_else(|| "no node has answered".to_owned()))
    }
}
