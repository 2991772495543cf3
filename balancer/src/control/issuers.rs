//! The keys that issuers publish, kept as they are: fetched again and again, and at once where a token names one that is
//! not there, or was signed by none.
//!
//! Two tasks an issuer, as long as the document has it: one fetches (`fetch`), one writes the copy (`copy`). What cannot be
//! fetched, or is no set, leaves the last in force for as long as that counts (`core::published::LIFE`), out of the copy or
//! not. Nothing waits for an issuer but its own tokens.

mod copy;
mod fetch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_base::random::Random;
use skep_gateway::document::{Jwks, KeySet};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::copy::Copy;
use self::fetch::{Failure, fetch};
use super::sealed::Sealed;
use crate::core::published::{LIFE, Published, is_over};
use crate::core::shared::Shared;
use crate::pools::tls::BackendTls;

/// After a first failure; each that follows in a row doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often tokens may have a set fetched at once: whoever asks can name keys that nobody has, and sign by such.
const WANTED_INTERVAL: Duration = Duration::from_secs(30);
/// What part of the time until the next fetch is drawn by lot: balancers are not to ask all at once.
const JITTER: f64 = 0.1;
/// Most sets that are read at once: as a tree each may take some megabytes.
const READS_MAX: usize = 2;
/// How long a copy is waited for: behind a disk that hangs there is none.
const COPY_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to write one that could not be written.
const COPY_PAUSE: Duration = Duration::from_secs(5);

/// Those that are followed.
#[derive(Debug)]
pub(super) struct Issuers {
    shared: Arc<Shared>,
    sealed: Option<Sealed>,
    running: BTreeMap<String, Running>,
    reads: Arc<Semaphore>,
    /// Whether what others have left was cleared.
    is_cleared: bool,
}

#[derive(Debug)]
struct Running {
    jwks: Jwks,
    published: Arc<Published>,
    /// They end when this is dropped.
    _tasks: JoinSet<()>,
}

impl Issuers {
    pub fn new(shared: Arc<Shared>, sealed: Option<Sealed>) -> Self {
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Self { shared, sealed, running: BTreeMap::new(), reads, is_cleared: false }
    }

    /// What these publish, by their names. One that is fetched elsewhere than before is another.
    pub fn follow(&mut self, all: &BTreeMap<String, Jwks>) -> BTreeMap<String, Arc<Published>> {
        let mut published = BTreeMap::new();
        for (name, jwks) in all {
            let before = self.running.get(name);
            if before.is_none_or(|it| it.jwks != *jwks) {
                let same = before.filter(|it| it.jwks.place() == jwks.place());
                let known = same.map(|it| it.published.clone()).unwrap_or_default();
                self.running.insert(name.clone(), self.begin(name, jwks, known));
            }
            let running = self.running.get(name).map(|it| (name.clone(), it.published.clone()));
            published.extend(running);
        }
        published
    }

    /// Ends all but these, and takes away what was kept of others.
    pub fn end_others(&mut self, all: &BTreeMap<String, Jwks>) {
        let count = self.running.len();
        self.running.retain(|name, _| all.contains_key(name));
        let is_done = self.is_cleared && self.running.len() == count;
        let Some(sealed) = self.sealed.clone().filter(|_| !is_done) else { return };
        self.is_cleared = true;
        let names: Vec<String> = all.keys().cloned().collect();
        tokio::task::spawn_blocking(move || {
            // A folder that is not there has none of them.
            let _ = sealed.remove_others(copy::PREFIX, |name| names.iter().any(|it| it == name));
        });
    }

    fn begin(&self, name: &str, jwks: &Jwks, published: Arc<Published>) -> Running {
        let copy = self.sealed.clone().map(|sealed| Copy::of(sealed, name, jwks));
        let (keep, kept) = watch::channel(None);
        let fetching = Fetching {
            name: name.to_owned(),
            jwks: jwks.clone(),
            tls: jwks.tls.as_ref().map(|it| BackendTls::of_service(it).proving()),
            published: published.clone(),
            shared: self.shared.clone(),
            reads: self.reads.clone(),
            copy: copy.clone(),
            keep,
            said: None,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(fetching.run());
        if let Some(copy) = copy {
            tasks.spawn(keep_copy(copy, kept));
        }
        Running { jwks: jwks.clone(), published, _tasks: tasks }
    }
}

/// A set as it came, and when.
type Came = Arc<(Vec<u8>, SystemTime)>;

/// Fetches the keys of one issuer.
struct Fetching {
    name: String,
    jwks: Jwks,
    tls: Option<BackendTls>,
    published: Arc<Published>,
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
    copy: Option<Copy>,
    /// To who writes the copy.
    keep: watch::Sender<Option<Came>>,
    /// What the log says of what is left out of the set.
    said: Option<(usize, usize)>,
}

impl Fetching {
    async fn run(mut self) {
        let mut seed = [0; 8];
        // A weak seed makes the times foreseeable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let mut random = Random::new(u64::from_le_bytes(seed));
        if self.published.keys().is_none() {
            self.read_copy().await;
        }
        let (mut failures, mut wanted_at) = (0_u32, None::<Instant>);
        loop {
            let refresh = self.jwks.refresh;
            let pause = match self.fetch().await {
                Ok(()) => {
                    failures = 0;
                    self.published.is_sated();
                    refresh.mul_f64(1.0 - JITTER * random.unit())
                }
                Err(failure) => {
                    self.failed(&failure);
                    let pause = PAUSE.saturating_mul(1 << failures.min(8)).min(PAUSE_MAX);
                    failures = failures.saturating_add(1);
                    pause.mul_f64(0.5 + random.unit() / 2.0)
                }
            };
            let wanted = async {
                self.published.wanted().await;
                if let Some(before) = wanted_at {
                    sleep_until(before + WANTED_INTERVAL).await;
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = wanted => wanted_at = Some(Instant::now()),
            }
        }
    }

    async fn fetch(&mut self) -> Result<(), Failure> {
        let body = fetch(&self.jwks, self.tls.as_ref()).await?;
        let fetched = SystemTime::now();
        let body = self.take(body, fetched).await.map_err(Failure::Set)?;
        self.keep.send_replace(Some(Arc::new((body, fetched))));
        Ok(())
    }

    /// Obeys a set, where it is one.
    async fn take(&mut self, body: Vec<u8>, fetched: SystemTime) -> Result<Vec<u8>, String> {
        // It is never closed.
        let _turn = self.reads.acquire().await.ok();
        // Each of its keys is looked at, which takes the processor for some milliseconds.
        let read = tokio::task::spawn_blocking(move || (KeySet::read(&body), body)).await;
        let (set, body) = read.map_err(|error| error.to_string())?;
        let KeySet { keys, passed_over, secret } = set?;
        let (issuer, count) = (&self.name, keys.len());
        if self.said != Some((passed_over, secret)) && secret > 0 {
            tracing::error!(
                issuer,
                secret,
                "the issuer publishes private keys or secrets: they are not taken, and who has seen them can sign by them"
            );
        }
        self.said = Some((passed_over, secret));
        if self.published.take(keys.into(), fetched) {
            self.shared.take_published();
            tracing::info!(
                issuer,
                keys = count,
                passed_over,
                "the keys that the issuer publishes are in force"
            );
        }
        Ok(body)
    }

    fn failed(&self, failure: &Failure) {
        let (issuer, why) = (&self.name, failure.to_string());
        if self.published.failed(&why) {
            let known = self.published.keys().map_or(0, |it| it.len());
            tracing::warn!(
                issuer,
                why,
                known,
                "the issuer's keys cannot be fetched; those that are known stay in force for a while"
            );
        }
        if self.published.end_old(SystemTime::now()) {
            self.shared.take_published();
            tracing::error!(
                issuer,
                life_s = LIFE.as_secs(),
                "the issuer's keys are too old to go by: its tokens are refused until it is there again"
            );
        }
    }

    /// Obeys the copy, until the issuer answers.
    async fn read_copy(&mut self) {
        let Some(copy) = self.copy.clone() else { return };
        let issuer = self.name.clone();
        let read = timeout(COPY_MAX, tokio::task::spawn_blocking(move || copy.read())).await;
        let why = match read {
            Ok(Ok(Ok(None))) => return,
            Ok(Ok(Ok(Some((_, fetched))))) if is_over(fetched, SystemTime::now()) => {
                "it is too old to go by".to_owned()
            }
            Ok(Ok(Ok(Some((body, fetched))))) => match self.take(body, fetched).await {
                // So that it is sealed anew where other keys are in force.
                Ok(body) => return drop(self.keep.send_replace(Some(Arc::new((body, fetched))))),
                Err(why) => why,
            },
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it is not read in time".to_owned(),
        };
        tracing::warn!(issuer, why, "the copy of the issuer's keys is not served by (--state)");
    }
}

/// Writes what was fetched last; again, where that failed, and where other keys are in force: the one that it was sealed
/// with may be taken away. A disk that hangs holds nothing but this.
async fn keep_copy(copy: Copy, mut came: watch::Receiver<Option<Came>>) {
    let mut failed: Option<String> = None;
    let mut rekeyed = copy.sealed.rekeyed();
    loop {
        tokio::select! {
            changed = came.changed() => if changed.is_err() { return },
            Ok(()) = rekeyed.changed() => {}
            () = sleep(COPY_PAUSE), if failed.is_some() => {}
        }
        let Some(newest) = came.borrow_and_update().clone() else { continue };
        let copy = copy.clone();
        let written = tokio::task::spawn_blocking(move || copy.write(&newest.0, newest.1)).await;
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error.as_ref().filter(|it| failed.as_ref() != Some(it)) {
            tracing::error!(error, "a copy of an issuer's keys is not written (--state)");
        }
        failed = error;
    }
}
