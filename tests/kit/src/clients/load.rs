//! Concurrent writers of unique messages, and the ledger of what became of each.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http::{Answer, Client, Failure};
use crate::wait::{TICK, tick, until};

/// Every message of a load begins so, to tell it from a test's own.
pub const PREFIX: &str = "load-";

/// The nodes that writers may use now. Clones share the list.
#[derive(Clone, Default)]
pub struct Targets(Arc<Mutex<Vec<Client>>>);

impl Targets {
    pub fn new(clients: Vec<Client>) -> Self {
        Self(Arc::new(Mutex::new(clients)))
    }

    pub fn add(&self, client: &Client) {
        self.0.lock().expect("no holder panics").push(client.clone());
    }

    pub fn remove(&self, client: &Client) {
        self.0.lock().expect("no holder panics").retain(|other| other.address != client.address);
    }

    fn pick(&self, turn: u64) -> Option<Client> {
        let clients = self.0.lock().expect("no holder panics");
        let count = clients.len() as u64;
        if count == 0 { None } else { clients.get((turn % count) as usize).cloned() }
    }
}

/// An acknowledged message.
#[derive(Debug, Clone)]
#[allow(dead_code)] // Some fields are there for a failing test's output alone.
pub struct Acked {
    pub text: String,
    pub digest: String,
    pub seq: u64,
    /// The answer said that this request made the message.
    pub created: bool,
    pub sent: Instant,
    pub answered: Instant,
    pub at: SocketAddr,
}

/// A message with no acknowledgement.
#[derive(Debug, Clone)]
#[allow(dead_code)]
pub struct Failed {
    pub text: String,
    pub at: SocketAddr,
    pub sent: Instant,
    pub why: String,
    /// The server, or the lack of a connection, said that it was certainly not executed.
    pub never: bool,
}

/// What became of each message.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub acked: Vec<Acked>,
    pub failed: Vec<Failed>,
}

impl Ledger {
    /// The latencies of what was sent from `begin` to `end`.
    pub fn latencies_between(&self, begin: Instant, end: Instant) -> Vec<Duration> {
        let inside = |acked: &&Acked| acked.sent >= begin && acked.sent < end;
        self.acked.iter().filter(inside).map(|acked| acked.answered - acked.sent).collect()
    }

    pub fn expect_no_failure(&self, what: &str) {
        let shown: Vec<_> = self.failed.iter().take(5).map(|failed| (failed.at, &failed.why)).collect();
        assert!(
            self.failed.is_empty(),
            "{what}: {} of {} writes failed, first {shown:?}",
            self.failed.len(),
            self.failed.len() + self.acked.len()
        );
    }

    /// Each message was sent once, so nobody else can have made it.
    pub fn expect_all_created(&self) {
        let repeated: Vec<_> = self.acked.iter().filter(|acked| !acked.created).collect();
        assert!(repeated.is_empty(), "{} answers say the message was there: {repeated:?}", repeated.len());
    }

    pub fn merge(&mut self, other: Ledger) {
        self.acked.extend(other.acked);
        self.failed.extend(other.failed);
    }
}

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    pub writers: usize,
    /// Messages are padded to this length.
    pub bytes: usize,
    /// The least time between two messages of one writer.
    pub pace: Option<Duration>,
    /// Stop after so many messages.
    pub most: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { writers: 4, bytes: 100, pace: Some(Duration::from_millis(2)), most: None }
    }
}

/// Running writers.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    options: LoadOptions,
    targets: Targets,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    begun: AtomicU64,
}

/// Distinguishes messages of all loads in this process.
static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Load {
    pub fn start(targets: &Targets, options: LoadOptions) -> Self {
        let shared = Arc::new(Shared {
            options,
            targets: targets.clone(),
            ledger: Mutex::default(),
            stop: AtomicBool::new(false),
            begun: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for writer in 0..options.writers {
            tasks.spawn(write(writer as u64, shared.clone()));
        }
        Self { shared, tasks }
    }

    pub fn acked(&self) -> usize {
        self.shared.ledger.lock().expect("no holder panics").acked.len()
    }

    /// Waits until `more` further messages are acknowledged.
    pub async fn wait_acked(&self, more: usize, deadline: Duration) {
        let goal = self.acked() + more;
        let what = format!("{more} more acknowledged writes");
        until(&what, deadline, async || (self.acked() >= goal).then_some(())).await;
    }

    /// Lets every writer finish its message, and gives the ledger.
    pub async fn stop(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until `most` messages were tried, and gives the ledger.
    pub async fn finish(mut self) -> Ledger {
        while let Some(result) = self.tasks.join_next().await {
            result.expect("a writer does not panic");
        }
        std::mem::take(&mut *self.shared.ledger.lock().expect("no holder panics"))
    }
}

async fn write(writer: u64, shared: Arc<Shared>) {
    let mut turn = writer;
    while !shared.stop.load(Ordering::Relaxed) {
        if shared.options.most.is_some_and(|most| shared.begun.fetch_add(1, Ordering::Relaxed) >= most) {
            return;
        }
        let Some(client) = shared.targets.pick(turn) else {
            tick().await;
            continue;
        };
        turn += 1;
        let sent = Instant::now();
        let text = padded(PREFIX, shared.options.bytes);
        let result = client.post_message(&text).await;
        let succeeded = record(&shared, &client, text, sent, result);
        // A node that refuses at once is asked again a little later, not in a busy loop.
        let pace = if succeeded { shared.options.pace } else { Some(TICK) };
        if let Some(rest) = pace.and_then(|pace| pace.checked_sub(sent.elapsed())) {
            tokio::time::sleep(rest).await;
        }
    }
}

/// A message of a test's own, which no other of this process equals.
pub fn unique_text(bytes: usize) -> String {
    padded("own-", bytes)
}

fn padded(prefix: &str, bytes: usize) -> String {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let head = format!("{prefix}{serial:012}-");
    let padding = "x".repeat(bytes.saturating_sub(head.len()));
    head + &padding
}

fn record(
    shared: &Shared,
    client: &Client,
    text: String,
    sent: Instant,
    result: Result<Answer, Failure>,
) -> bool {
    let answered = Instant::now();
    let at = client.address;
    let (why, never) = match result {
        Ok(answer) if matches!(answer.status, 200 | 201) => {
            let json = answer.json();
            let digest = json["digest"].as_str().expect("an acknowledgement has a digest").to_owned();
            let seq = json["seq"].as_u64().expect("an acknowledgement has a seq");
            let created = answer.status == 201;
            let acked = Acked { text, digest, seq, created, sent, answered, at };
            shared.ledger.lock().expect("no holder panics").acked.push(acked);
            return true;
        }
        Ok(answer) => {
            (format!("{} {}", answer.status, answer.text()), answer.header("skep-unprocessed") == "1")
        }
        Err(Failure::NotSent(why)) => (why, true),
        Err(Failure::Unknown(why)) => (why, false),
    };
    let failed = Failed { text, at, sent, why, never };
    shared.ledger.lock().expect("no holder panics").failed.push(failed);
    false
}
