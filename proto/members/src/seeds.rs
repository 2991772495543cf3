//! Seeds: where a process looks for others first.
//!
//! Owns the parsing of `--seeds` and one task that looks names up, again and again: often while
//! the cluster is not complete, now and then later. All are asked at once, and each answer counts as it
//! comes: one seed that answers is enough.

mod names;
mod table;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use table::{Question, Table};

/// Between two look-ups while the cluster is not complete.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// The same once it is.
const LOOKUP_INTERVAL_COMPLETE: Duration = Duration::from_secs(30);

/// Who wants the addresses of a moment waits no longer for them.
const NOW_TIMEOUT: Duration = Duration::from_secs(5);
/// Once each name has an address, others of it may take so much longer.
const NOW_GRACE: Duration = Duration::from_millis(200);

/// Addresses that are used of all seeds together.
pub const ADDRESSES_MAX: usize = 1024;

/// One seed, as the flag gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seed {
    /// An address as such.
    Address(SocketAddr),
    /// A DNS name; every address that it has counts.
    Name { host: String, port: u16 },
}

/// A text that is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no seed: expected host:port")]
pub struct SeedError(String);

impl Seed {
    /// Reads `host:port`: an IPv4 address, an IPv6 address in brackets, or a DNS name.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        let error = || SeedError(text.chars().take(300).collect());
        if let Ok(address) = text.parse::<SocketAddr>() {
            let usable = address.port() != 0 && !address.ip().is_unspecified();
            return if usable { Ok(Self::Address(address)) } else { Err(error()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(error)?;
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if host.len() > 253 || numeric || host.starts_with(['.', '-']) || !host.bytes().all(letter) {
            return Err(error());
        }
        Ok(Self::Name { host: host.to_string(), port })
    }
}

impl std::str::FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        Self::parse(text)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The seeds' addresses as they change. Without names there is no task.
pub(crate) struct SeedWatch {
    seeds: usize,
    addresses: watch::Receiver<Vec<SocketAddr>>,
    complete: watch::Sender<bool>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl SeedWatch {
    pub fn start(seeds: Vec<Seed>) -> Self {
        let table = Table::new(&seeds);
        let (sender, mut addresses) = watch::channel(table.addresses());
        addresses.mark_changed();
        let (complete, complete_now) = watch::channel(false);
        let count = seeds.len();
        let named = !table.questions().is_empty();
        let task = named.then(|| AbortOnDropHandle::new(tokio::spawn(look_up(table, sender, complete_now))));
        Self { seeds: count, addresses, complete, _task: task }
    }

    /// Returns at once the first time, then when the addresses have changed. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.addresses.changed().await.is_err() {
            // No task, no change.
            std::future::pending::<()>().await;
        }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }

    pub fn contains(&self, address: &SocketAddr) -> bool {
        self.addresses.borrow().binary_search(address).is_ok()
    }

    /// Whether there are no seeds at all, looked up or not.
    pub fn is_empty(&self) -> bool {
        self.seeds == 0
    }

    pub fn set_complete(&self, complete: bool) {
        self.complete.send_if_modified(|now| std::mem::replace(now, complete) != complete);
    }
}

/// The seeds' addresses as they are now; what cannot be looked up in time is left out.
pub async fn resolve_now(seeds: &[Seed]) -> Vec<SocketAddr> {
    let mut table = Table::new(seeds);
    let asked = table.questions().into_iter().map(async |question: Question| {
        let answer = names::look_up(&question.host, question.family).await;
        (question, answer)
    });
    let mut answers: FuturesUnordered<_> = asked.collect();
    let mut until = Instant::now() + NOW_TIMEOUT;
    while let Ok(Some((question, answer))) = timeout_at(until, answers.next()).await {
        table.note(&question, answer);
        if table.is_enough() {
            until = until.min(Instant::now() + NOW_GRACE);
        }
    }
    table.addresses()
}

/// The addresses that this machine's own name has; none where it has no name.
pub async fn own_addresses() -> Vec<IpAddr> {
    let name = rustix::system::uname();
    let Ok(host) = name.nodename().to_str() else { return Vec::new() };
    // The port means nothing here.
    let seeds = Seed::parse(&format!("{host}:1")).map_or_else(|_| Vec::new(), |seed| vec![seed]);
    resolve_now(&seeds).await.iter().map(SocketAddr::ip).collect()
}

/// What the questions' loops share.
struct Answers {
    table: Mutex<(Table, bool)>,
    sender: watch::Sender<Vec<SocketAddr>>,
}

async fn look_up(table: Table, sender: watch::Sender<Vec<SocketAddr>>, complete: watch::Receiver<bool>) {
    let questions = table.questions();
    let answers = Arc::new(Answers { table: Mutex::new((table, false)), sender });
    // None waits for another.
    join_all(questions.into_iter().map(|question| keep_asking(question, answers.clone(), complete.clone())))
        .await;
}

async fn keep_asking(question: Question, answers: Arc<Answers>, mut complete: watch::Receiver<bool>) {
    loop {
        let answer = names::look_up(&question.host, question.family).await;
        answers.note(&question, answer);
        let pause = if *complete.borrow_and_update() { LOOKUP_INTERVAL_COMPLETE } else { LOOKUP_INTERVAL };
        tokio::select! {
            () = sleep(pause) => {}
            changed = complete.changed() => if changed.is_err() { return },
        }
    }
}

impl Answers {
    fn note(&self, question: &Question, answer: names::Answer) {
        let mut held = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, failing) = &mut *held;
        table.note(question, answer);
        match table.missing() {
            // Said once, not at every attempt: names that are not there yet are usual at start.
            Some(error) if !*failing => {
                *failing = true;
                warn!(%error, "seeds cannot be looked up; trying again");
            }
            None if *failing => {
                *failing = false;
                info!("the seeds could be looked up");
            }
            _ => {}
        }
        let found = table.addresses();
        // Where nobody is found at all, those of before may still be there.
        if !found.is_empty() {
            self.sender.send_if_modified(|addresses| {
                let changed = *addresses != found;
                *addresses = found;
                changed
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let address = |text: &str| Ok(Seed::Address(text.parse().unwrap()));
        assert_eq!(Seed::parse("10.0.0.1:7400"), address("10.0.0.1:7400"));
        assert_eq!(Seed::parse("[::1]:7400"), address("[::1]:7400"));
        for name in ["tasks.node", "localhost", "tasks.skep_node.", "a-b.example", "1.node"] {
            let seed = Seed::parse(&format!("{name}:7400")).unwrap();
            assert_eq!(seed, Seed::Name { host: name.into(), port: 7400 });
            assert_eq!(seed.to_string(), format!("{name}:7400"));
        }
    }

    #[test]
    fn what_is_no_seed_is_refused() {
        let long = format!("{}:1", "a".repeat(254));
        for text in [
            "",
            ":7400",
            "node",
            "node:",
            "node:0",
            "node:70000",
            "10.0.0.1",
            "10.0.0:1",
            "0.0.0.0:1",
            "::1:7400",
            "a b:1",
            "-a:1",
            &long,
        ] {
            assert!(Seed::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_name_server_and_a_name_of_the_hosts_file_is_found() {
        let seeds = ["127.0.0.9:2", "127.0.0.8:1", "127.0.0.9:2"].map(|text| Seed::parse(text).unwrap());
        let addresses = resolve_now(&seeds).await;
        assert_eq!(addresses, ["127.0.0.8:1".parse().unwrap(), "127.0.0.9:2".parse().unwrap()]);
        let addresses = resolve_now(&[Seed::parse("localhost:7400").unwrap()]).await;
        assert!(addresses.contains(&"127.0.0.1:7400".parse().unwrap()), "{addresses:?}");
    }

    #[tokio::test]
    async fn a_watch_of_addresses_reports_once() {
        let mut watch = SeedWatch::start(vec![Seed::parse("127.0.0.9:2").unwrap()]);
        watch.changed().await;
        assert_eq!(watch.addresses(), ["127.0.0.9:2".parse().unwrap()]);
        assert!(tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_err());
    }
}
