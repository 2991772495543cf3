//! A service: servers that are alike, and how they are asked whether they are well.

use std::ops::RangeInclusive;
use std::time::Duration;

use skep_base::settings::values;

use super::stated::Stated;
use super::target::{Target, place_at};
use super::tls::Tls;
use crate::fault::Faults;
use crate::reader::Spot;

/// The service that is built in: the nodes.
pub const SKEP: &str = "skep";

/// Most URLs of a service.
pub const TARGETS_MAX: usize = 256;
/// What a URL may weigh.
pub const WEIGHTS: RangeInclusive<f64> = 0.01..=100.0;
/// How often a server is asked where nothing is said: a hung one is out after two seconds.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Longest between two questions.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Longest that an answer may take to begin.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Most requests in flight at one server, and of one core that wait for one.
const COUNT_MAX: u32 = 10_000_000;

/// Servers that are alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    pub targets: Vec<Target>,
    /// How they prove who they are, where they are spoken to in TLS.
    pub tls: Option<Tls>,
    pub probe: Probe,
    pub host: Host,
    /// None: as the balancer's flag has it.
    pub in_flight_max: Option<u32>,
    pub queue_max: Option<u32>,
    /// From a request's end to its answer's begin.
    pub timeout: Option<Duration>,
}

/// How a server is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// None: by a connection.
    pub path: Option<String>,
    /// Answers that say so.
    pub statuses: RangeInclusive<u16>,
    pub interval: Duration,
}

/// Which host a server is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Host {
    /// The one that the client asked for.
    #[default]
    Client,
    /// Its own, as its URL has it.
    Upstream,
}

impl Default for Probe {
    fn default() -> Self {
        Self { path: None, statuses: 200..=399, interval: PROBE_INTERVAL }
    }
}

impl Service {
    /// One, and what it states of policies, for routes that lead there.
    pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> (Self, Stated) {
        let mut service = Self::default();
        let Some(mut fields) = spot.fields(faults) else { return (service, Stated::default()) };
        let tls = fields.take("tls");
        match fields.take("urls") {
            Some(urls) => {
                let items = urls.some_items(TARGETS_MAX, faults);
                service.targets = items.iter().filter_map(|it| target(it, faults)).collect();
                let mut seen: Vec<String> = service.targets.iter().map(Target::authority).collect();
                seen.sort_unstable();
                if seen.windows(2).any(|two| two[0] == two[1]) {
                    faults.add(&urls.pointer, "a URL stands here twice");
                }
                service.tls = Tls::read(tls, &urls, &service.targets, faults);
            }
            None => faults.add(&spot.pointer, "a service has \"urls\""),
        }
        if let Some(probe) = fields.take("probe") {
            service.probe = Probe::read(&probe, faults);
        }
        if let Some(host) = fields.take("host") {
            let words = [("client", Host::Client), ("upstream", Host::Upstream)];
            service.host = host.word(&words, faults).unwrap_or_default();
            let mut hosts = service.targets.iter().map(Target::authority);
            let first = hosts.next();
            if service.host == Host::Upstream && hosts.any(|it| Some(it) != first) {
                faults.add(&host.pointer, "its URLs have several hosts: which one of them is not known yet");
            }
        }
        service.in_flight_max = fields.take("max_in_flight").and_then(|it| it.whole(1..=COUNT_MAX, faults));
        service.queue_max = fields.take("max_queue").and_then(|it| it.whole(1..=COUNT_MAX, faults));
        let timeout = |text: &str| values::duration_up_to(text, TIMEOUT_MAX);
        service.timeout = fields.take("timeout").and_then(|it| it.read(timeout, faults));
        let stated = Stated::read(&mut fields, true, faults);
        super::take_source(&mut fields, faults);
        fields.end(faults);
        (service, stated)
    }

    /// The `Host` that its servers are asked for, where that is not the client's.
    pub fn host_sent(&self) -> Option<String> {
        (self.host == Host::Upstream).then(|| self.targets.first().map(Target::authority)).flatten()
    }
}

/// A URL, or one with a weight.
fn target(spot: &Spot<'_>, faults: &mut Faults) -> Option<Target> {
    if spot.is_text() {
        return spot.read(Target::read, faults);
    }
    let mut fields = spot.fields(faults)?;
    let url = fields.take("url");
    let weight = fields.take("weight").and_then(|it| it.number(WEIGHTS, faults));
    fields.end(faults);
    match url {
        Some(url) => url.read(Target::read, faults).map(|it| Target { weight: weight.unwrap_or(1.0), ..it }),
        None => {
            faults.add(&spot.pointer, "there is no \"url\"");
            None
        }
    }
}

impl Probe {
    fn read(spot: &Spot<'_>, faults: &mut Faults) -> Self {
        let mut probe = Self::default();
        let Some(mut fields) = spot.fields(faults) else { return probe };
        probe.path = fields.take("path").and_then(|it| it.read(place_at, faults));
        if let Some(status) = fields.take("status") {
            if let Some(read) = status.read(statuses, faults) {
                probe.statuses = read;
            }
            if probe.path.is_none() {
                faults.add(&status.pointer, "without a path nothing is asked that has a status");
            }
        }
        let interval = |text: &str| values::duration_up_to(text, PROBE_INTERVAL_MAX);
        if let Some(interval) = fields.take("interval").and_then(|it| it.read(interval, faults)) {
            probe.interval = interval;
        }
        fields.end(faults);
        probe
    }
}

/// `200` or `200-399`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if (100..600).contains(&first) && (first..600).contains(&last) => {
            Ok(first..=last)
        }
        _ => Err(format!("{text:?} are no statuses: expected as in 200 or 200-399")),
    }
}
