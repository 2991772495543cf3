//! Seeds: where a process looks for others first.
//!
//! Owns the parsing of `--seeds` and one task that looks names up, again and again: often while
//! the cluster is not complete, now and then later. Names are asked of the servers in
//! /etc/resolv.conf (and /etc/hosts), never through getaddrinfo, which a static binary cannot
//! use. Nothing is cached: the answer changes with every task that a service gains or loses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::Name;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// Between two look-ups while the cluster is not complete.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// The same once it is.
const LOOKUP_INTERVAL_COMPLETE: Duration = Duration::from_secs(30);

/// One look-up of all names takes no longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

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

/// The addresses of the seeds now, sorted, each once, at most [`ADDRESSES_MAX`]. A name that
/// cannot be looked up has none; the second value says why, for the last such name.
pub async fn resolve(seeds: &[Seed]) -> (Vec<SocketAddr>, Option<String>) {
    let mut addresses = BTreeSet::new();
    let mut failure = None;
    let named = seeds.iter().any(|seed| matches!(seed, Seed::Name { .. }));
    let resolver = if named { resolver().map_err(|error| failure = Some(error)).ok() } else { None };
    for seed in seeds {
        match seed {
            Seed::Address(address) => drop(addresses.insert(*address)),
            Seed::Name { host, port } => {
                let Some(resolver) = &resolver else { continue };
                let answer = match asked_for(host) {
                    Ok(name) => resolver.lookup_ip(name).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(answer) => addresses.extend(answer.iter().map(|ip| SocketAddr::from((ip, *port)))),
                    Err(error) => failure = Some(format!("{host}: {error}")),
                }
            }
        }
    }
    (addresses.into_iter().take(ADDRESSES_MAX).collect(), failure)
}

/// The name as it is written: the resolver itself would take it for one that people type, and refuse
/// the `_` in `tasks.skep_node`.
fn asked_for(host: &str) -> Result<Name, String> {
    Name::from_ascii(host).map_err(|error| error.to_string())
}

fn resolver() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    builder.build().map_err(|error| error.to_string())
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
        let fixed = seeds.iter().filter_map(|seed| match seed {
            Seed::Address(address) => Some(*address),
            Seed::Name { .. } => None,
        });
        let fixed: BTreeSet<_> = fixed.collect();
        let (sender, mut addresses) = watch::channel(fixed.into_iter().take(ADDRESSES_MAX).collect());
        addresses.mark_changed();
        let (complete, complete_now) = watch::channel(false);
        let count = seeds.len();
        let named = seeds.iter().any(|seed| matches!(seed, Seed::Name { .. }));
        let task = named.then(|| AbortOnDropHandle::new(tokio::spawn(look_up(seeds, sender, complete_now))));
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
    match timeout(LOOKUP_TIMEOUT, resolve(seeds)).await {
        Ok((addresses, _)) => addresses,
        Err(_) => Vec::new(),
    }
}

/// The addresses that this machine's own name has; none where it has no name.
pub async fn own_addresses() -> Vec<IpAddr> {
    let name = rustix::system::uname();
    let Ok(host) = name.nodename().to_str() else { return Vec::new() };
    // The port means nothing here.
    let seeds = Seed::parse(&format!("{host}:1")).map_or_else(|_| Vec::new(), |seed| vec![seed]);
    resolve_now(&seeds).await.iter().map(SocketAddr::ip).collect()
}

async fn look_up(
    seeds: Vec<Seed>,
    sender: watch::Sender<Vec<SocketAddr>>,
    mut complete: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        let (found, failure) = match timeout(LOOKUP_TIMEOUT, resolve(&seeds)).await {
            Ok(resolved) => resolved,
            Err(_) => (Vec::new(), Some("the name servers do not answer".to_string())),
        };
        match &failure {
            // Said once, not at every attempt: names that are not there yet are usual at start.
            Some(error) if !failing => warn!(%error, "seeds cannot be looked up; trying again"),
            None if failing => info!("the seeds could be looked up"),
            _ => {}
        }
        failing = failure.is_some();
        // A name server that is away for a moment takes no address away.
        if failure.is_none() || !found.is_empty() {
            sender.send_if_modified(|addresses| {
                let changed = *addresses != found;
                *addresses = found;
                changed
            });
        }
        let pause = if *complete.borrow_and_update() { LOOKUP_INTERVAL_COMPLETE } else { LOOKUP_INTERVAL };
        tokio::select! {
            () = sleep(pause) => {}
            changed = complete.changed() => if changed.is_err() { return },
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
    fn a_name_is_asked_for_as_it_is_written() {
        for host in ["tasks.skep_node", "tasks.skep_node.", "a-b.1.example", "xn--bcher-kva.example."] {
            assert!(Seed::parse(&format!("{host}:7400")).is_ok(), "{host}");
            assert_eq!(asked_for(host).map(|name| name.to_ascii()), Ok(host.to_owned()));
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
        let (addresses, failure) = resolve(&seeds).await;
        assert_eq!(addresses, ["127.0.0.8:1".parse().unwrap(), "127.0.0.9:2".parse().unwrap()]);
        assert_eq!(failure, None);
        let (addresses, _) = resolve(&[Seed::parse("localhost:7400").unwrap()]).await;
        assert!(addresses.contains(&"127.0.0.1:7400".parse().unwrap()), "{addresses:?}");
    }

    #[tokio::test]
    async fn a_watch_of_addresses_reports_once() {
        let mut watch = SeedWatch::start(vec![Seed::parse("127.0.0.9:2").unwrap()]);
        watch.changed().await;
        assert_eq!(watch.addresses(), ["127.0.0.9:2".parse().unwrap()]);
        assert!(timeout(Duration::from_millis(20), watch.changed()).await.is_err());
    }
}
