//! Visitors of what a route leads to: one request, again and again at an even rate, from the client's host through the
//! virtual address, and what came of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::lab::{ADDRESS, Lab};
use super::traffic::{Sender, exchange};

/// One of so many requests is on a connection of its own.
const ONE_ALONE: u32 = 8;
/// Who waits for an answer at the same time; who comes then waits for one of these to go.
const AT_ONCE_MAX: usize = 500;
/// How much of an answer is kept, to be shown or looked at.
const BODY_BYTES_MAX: usize = 300;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Visit {
    pub method: Method,
    pub path: &'static str,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: &'static str,
}

impl Visit {
    pub fn get(path: &'static str) -> Self {
        Self { method: Method::GET, path, headers: &[], body: "" }
    }

    pub fn post(path: &'static str, body: &'static str) -> Self {
        Self { method: Method::POST, path, headers: &[("content-type", "application/json")], body }
    }

    pub fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    fn request(&self, target: &SocketAddr, keep: bool) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method.clone()).uri(self.path);
        request = request.header("host", target.to_string());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if !keep {
            request = request.header("connection", "close");
        }
        request.body(Full::new(self.body.into())).expect("the request is well formed")
    }
}

/// What came of all of them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// By status.
    pub answers: BTreeMap<u16, u64>,
    /// Without an answer, by why there was none.
    pub broken: BTreeMap<String, u64>,
    /// Of the answers with a status below 300, the beginning of each.
    pub bodies: Vec<String>,
    /// Of the others, by status, the beginning of the last.
    pub refusals: BTreeMap<u16, String>,
    pub slowest: Duration,
}

impl Tally {
    pub fn requests(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.broken.values().sum::<u64>()
    }

    /// Of so many the answer had this status.
    pub fn with_status(&self, status: u16) -> u64 {
        self.answers.get(&status).copied().unwrap_or_default()
    }

    pub fn summary(&self) -> String {
        format!(
            "{} requests, answers {:?}, broken {:?}, refusals {:?}, slowest {} ms",
            self.requests(),
            self.answers,
            self.broken,
            self.refusals,
            self.slowest.as_millis()
        )
    }

    /// Each was answered with this status.
    pub fn expect_all(&self, status: u16, what: &str) {
        let right = self.with_status(status);
        assert!(right > 0 && right == self.requests(), "{what}: {}", self.summary());
    }
}

/// Visitors that come.
pub struct Visits {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    target: SocketAddr,
    visit: Visit,
    idle: Mutex<Vec<Sender>>,
    tally: Mutex<Tally>,
    stop: AtomicBool,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Visits {
    /// So many a second.
    pub fn start(lab: &Lab, visit: Visit, rate: u32) -> Self {
        let shared = Arc::new(Shared {
            target: SocketAddr::new(ADDRESS.parse().expect("an address"), 80),
            visit,
            idle: Mutex::default(),
            tally: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let for_thread = shared.clone();
        let thread = lab.spawn_at(0, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(all(for_thread, rate));
        });
        Self { shared, thread }
    }

    /// One alone: its status, and the beginning of its body.
    pub fn once(lab: &Lab, visit: Visit) -> (u16, String) {
        let visits = Self::start(lab, visit, 1);
        visits.shared.stop.store(true, Ordering::Relaxed);
        let tally = visits.stop();
        let refused = tally.refusals.first_key_value().map(|(status, body)| (*status, body.clone()));
        let answered = || Some((*tally.answers.first_key_value()?.0, tally.bodies.first()?.clone()));
        refused.or_else(answered).unwrap_or_else(|| panic!("no answer: {}", tally.summary()))
    }

    /// So far.
    pub fn requests(&self) -> u64 {
        held(&self.shared.tally).requests()
    }

    /// Lets every request end.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the visitors ended well");
        std::mem::take(&mut *held(&self.shared.tally))
    }
}

async fn all(shared: Arc<Shared>, rate: u32) {
    let mut visits = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    for number in 1_u32.. {
        ticks.tick().await;
        visits.spawn(visit(shared.clone(), !number.is_multiple_of(ONE_ALONE)));
        while visits.len() > AT_ONCE_MAX && visits.join_next().await.is_some() {}
        while visits.try_join_next().is_some() {}
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    while visits.join_next().await.is_some() {}
}

/// One request, noted.
async fn visit(shared: Arc<Shared>, keep: bool) {
    let mut connection = if keep { held(&shared.idle).pop() } else { None };
    let sent = Instant::now();
    let request = shared.visit.request(&shared.target, keep);
    let result = exchange(shared.target, &mut connection, request, keep).await;
    let took = sent.elapsed();
    held(&shared.idle).extend(connection);
    let mut tally = held(&shared.tally);
    tally.slowest = tally.slowest.max(took);
    match result {
        Ok((status, body)) => {
            *tally.answers.entry(status).or_default() += 1;
            let said = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).into_owned();
            if status < 300 {
                tally.bodies.push(said);
            } else {
                tally.refusals.insert(status, said);
            }
        }
        Err(kind) => *tally.broken.entry(format!("{kind:?}")).or_default() += 1,
    }
}
