//! The backends: each with what traffic and probes showed of it, and the set that is served from.
//!
//! A [`Backend`] is shared by all cores and counted in atomics. The set is replaced as a whole by
//! the control task (see `registry`); a core loads it once for each choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use skep_base::id::NodeId;

use crate::pools::choose::{self, Candidate, Chances};
use crate::pools::failures::{Failures, Way};
use crate::pools::latency::Latency;
use crate::pools::orders::{self, Order};
use crate::pools::outlier::{self, Failing, Rates, Tally};
use crate::pools::probe::Health;
use crate::pools::source::TargetState;
use crate::pools::standing::{self, Facts, Standing};

/// Requests of one kind that wait at one backend, over all cores: claims of workers, or readers of tasks. A node has
/// room for as many.
pub const WAITING_MAX: u32 = 4 * 1024;

/// A backend, for as long as it is the same process at the same address.
#[derive(Debug)]
pub struct Backend {
    /// Tells it from every other backend of this process's life, in whatever pool; never 0.
    pub serial: u64,
    pub address: SocketAddr,
    /// None for one that a flag named.
    pub node: Option<NodeId>,
    /// The node's id, or the address: its name in logs and metrics.
    pub name: String,
    pub stats: BackendStats,
    /// As its service and an operator set it, in the unit of its set; the bits of an f64.
    weight: AtomicU64,
    born: Instant,
}

/// What is counted of one backend, over all cores.
#[derive(Debug, Default)]
pub struct BackendStats {
    /// Requests in flight, but for those that wait.
    pub outstanding: AtomicU32,
    /// Those whose answers may wait for something to happen, each for its kind: they are no load, and take no room of
    /// others, nor who reads of who claims.
    pub waiting: [AtomicU32; 2],
    /// Times to the first byte, each for its kind of request: a leader that syncs what is written is not
    /// slow beside followers that read.
    latencies: [Latency; 2],
    failing: Failing,
    /// Failures since the last good answer.
    failures_in_row: AtomicU32,
    ejections_in_row: AtomicU32,
    /// In ns since `born`; 0 while it was never ejected.
    ejected_until_ns: AtomicU64,
    /// When it came (back), in ns since `born`.
    returned_at_ns: AtomicU64,
    /// Answers by the first digit of their status; 0 for none.
    pub answers: [AtomicU64; 6],
    /// Attempts that failed, those with an answer that counts as a failure included.
    pub failures: AtomicU64,
    failing_answers: AtomicU64,
    /// Each by how it was one; what broke off or was declined is not among `failures` as an attempt.
    pub failed: Failures,
    pub retries: AtomicU64,
    pub ejections: AtomicU64,
    pub connects: AtomicU64,
    pub connect_failures: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

impl BackendStats {
    fn in_flight(&self, kind: Kind, waits: bool) -> &AtomicU32 {
        if waits { &self.waiting[kind as usize] } else { &self.outstanding }
    }
}

/// Requests that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Safe,
    Unsafe,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Safe, Self::Unsafe];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unsafe => "unsafe",
        }
    }
}

/// What the begin of an answer shows of its backend.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub kind: Kind,
    /// By its status.
    pub good: bool,
    /// Since the backend had all of the request; None where that shows nothing of the backend.
    pub latency: Option<Duration>,
}

impl BackendStats {
    fn latency(&self, kind: Kind) -> &Latency {
        &self.latencies[kind as usize]
    }

    /// What it was is forgotten: it is to be judged anew.
    fn begin_anew(&self) {
        self.failures_in_row.store(0, Relaxed);
        self.latencies.iter().for_each(Latency::forget);
        self.failing.forget();
    }

    /// Attempts and failures since it is known.
    fn tally(&self) -> Tally {
        let answers: u64 = self.answers.iter().map(|count| count.load(Relaxed)).sum();
        let failures = self.failures.load(Relaxed);
        let unanswered = failures.saturating_sub(self.failing_answers.load(Relaxed));
        Tally { attempts: answers + unanswered, failures }
    }
}

impl Backend {
    pub fn new(address: SocketAddr, node: Option<NodeId>) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        let serial = SERIALS.fetch_add(1, Relaxed) + 1;
        let name = node.map_or_else(|| address.to_string(), |id| id.to_string());
        let weight = orders::WEIGHT.to_bits().into();
        Self { serial, address, node, name, stats: BackendStats::default(), weight, born: Instant::now() }
    }

    fn age_ns(&self) -> u64 {
        self.age_at_ns(Instant::now())
    }

    fn age_at_ns(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_nanos() as u64
    }

    /// What outlives the process's restart: the node, or the address.
    pub fn identity(&self) -> u64 {
        match (self.node, self.address.ip()) {
            (Some(node), _) => node.0,
            (None, std::net::IpAddr::V4(ip)) => {
                u64::from(ip.to_bits()) << 16 | u64::from(self.address.port())
            }
            (None, std::net::IpAddr::V6(ip)) => ip.to_bits() as u64 ^ u64::from(self.address.port()) << 48,
        }
    }

    /// What is left of the latency that was seen; 0 where none was.
    pub fn latency_ns(&self, kind: Kind) -> f64 {
        self.stats.latency(kind).read(self.age_ns()).now_ns
    }

    /// How much of what it answered of late was a failure: from 0 to 1.
    pub fn failing(&self) -> f64 {
        self.stats.failing.read(self.age_ns())
    }

    pub fn is_ejected(&self) -> bool {
        self.is_ejected_at(Instant::now())
    }

    fn is_ejected_at(&self, now: Instant) -> bool {
        let until = self.stats.ejected_until_ns.load(Relaxed);
        until != 0 && self.age_at_ns(now) < until
    }

    /// The share of its usual traffic that it gets now.
    pub fn share(&self) -> f64 {
        self.share_at(self.age_ns())
    }

    fn share_at(&self, age_ns: u64) -> f64 {
        self.slow_start_at(age_ns) * outlier::share_of(self.stats.failing.read(age_ns))
    }

    /// What of its latency may be held against others'.
    fn compared_ns(&self, kind: Kind, now: Instant) -> Option<f64> {
        self.stats.latency(kind).compared(self.age_at_ns(now))
    }

    fn slow_start_at(&self, age_ns: u64) -> f64 {
        let returned = self.stats.returned_at_ns.load(Relaxed).max(self.stats.ejected_until_ns.load(Relaxed));
        choose::slow_start(Duration::from_nanos(age_ns.saturating_sub(returned)))
    }

    /// It is served from (again) from now on, slowly at first.
    pub fn returned(&self) {
        self.stats.returned_at_ns.store(self.age_ns(), Relaxed);
    }

    /// How many times the load of another it is to have.
    pub fn weigh(&self, weight: f64) {
        self.weight.store(weight.to_bits(), Relaxed);
    }

    /// What traffic showed of it is forgotten, an ejection with it.
    pub fn pardon(&self) {
        self.stats.ejected_until_ns.store(0, Relaxed);
        self.stats.ejections_in_row.store(0, Relaxed);
        self.stats.begin_anew();
    }

    /// As the choice for a request sees it, which `waits` or does not, where so many of these may be in flight.
    pub fn candidate(
        &self,
        now: Instant,
        kind: Kind,
        waits: bool,
        in_flight_max: u32,
        tried: bool,
    ) -> Candidate {
        let outstanding = self.stats.in_flight(kind, waits).load(Relaxed);
        let age = self.age_at_ns(now);
        Candidate {
            outstanding,
            latency: self.stats.latency(kind).read(age),
            share: self.share_at(age),
            weight: f64::from_bits(self.weight.load(Relaxed)),
            has_room: outstanding < in_flight_max,
            ejected: age < self.stats.ejected_until_ns.load(Relaxed),
            tried,
        }
    }

    /// An answer of it is passed on.
    pub fn answered(&self, status: u16) {
        if let Some(count) = self.stats.answers.get(usize::from(status / 100)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// It did nothing with a request, and says so: it gets a smaller share, and is not ejected for that.
    pub fn declined(&self, now: Instant) {
        self.stats.failing.failed(self.age_at_ns(now));
        self.stats.failed.add(Way::Declined);
    }

    /// An answer that began well was not ended: what its begin said was wrong.
    pub fn broke(&self, now: Instant) {
        self.stats.failing.failed(self.age_at_ns(now));
        self.stats.failed.add(Way::Broken);
    }

    /// An answer began, `now`.
    pub fn began(&self, sample: Sample, now: Instant) {
        let (stats, age) = (&self.stats, self.age_at_ns(now));
        let latency = stats.latency(sample.kind);
        if !sample.good {
            // To fail is no way to look fast.
            if let Some(sample) = sample.latency {
                latency.observe_worse(sample, age);
            }
            stats.failing.failed(age);
            return;
        }
        if let Some(sample) = sample.latency {
            latency.observe(sample, age);
        }
        stats.failing.succeeded(age);
        if stats.failures_in_row.load(Relaxed) != 0 {
            stats.failures_in_row.store(0, Relaxed);
        }
        if stats.ejections_in_row.load(Relaxed) != 0 && self.slow_start_at(age) >= 1.0 {
            stats.ejections_in_row.store(0, Relaxed);
        }
    }
}

/// A request that a backend has; dropping it says that it is done.
#[derive(Debug)]
pub struct InFlight {
    backend: Arc<Backend>,
    kind: Kind,
    waits: bool,
}

impl InFlight {
    pub fn begin(backend: Arc<Backend>, kind: Kind, waits: bool) -> Self {
        backend.stats.in_flight(kind, waits).fetch_add(1, Relaxed);
        Self { backend, kind, waits }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.stats.in_flight(self.kind, self.waits).fetch_sub(1, Relaxed);
    }
}

/// What is served from at one moment.
#[derive(Debug, Default)]
pub struct BackendSet {
    /// Those that requests may go to.
    pub serving: Vec<Arc<Backend>>,
    /// How often each of them is drawn.
    pub chances: Chances,
    /// Whether none may be served from, and those in `serving` are a last resort.
    pub last_resort: bool,
    /// The index in `serving` of the Raft leader.
    pub leader: Option<usize>,
    /// Serials of those that are gone: what waits for them waits in vain.
    pub gone: Vec<u64>,
    /// All that are known, with why each is served from or not.
    pub known: Vec<Known>,
}

/// A backend with what is known of it beside its traffic.
#[derive(Debug, Clone)]
pub struct Known {
    pub backend: Arc<Backend>,
    pub state: TargetState,
    pub health: Health,
    pub is_leader: bool,
    pub role: &'static str,
    pub serving: bool,
    pub order: Order,
    /// How many times the load of another it is to have: as its service says, times what an operator says.
    pub weight: f64,
    pub version: String,
}

impl Known {
    /// One that a flag named, and that answered a probe.
    pub fn well(backend: Arc<Backend>) -> Self {
        let (state, health) = (TargetState::Static, Health::Up);
        Self {
            backend,
            state,
            health,
            is_leader: false,
            role: "none",
            serving: false,
            order: Order::default(),
            weight: orders::WEIGHT,
            version: String::new(),
        }
    }

    fn facts(&self, ejected: bool) -> Facts {
        Facts { state: self.state, health: self.health, ejected, held: self.order.holds_back() }
    }
}

impl BackendSet {
    /// Of all that are known, and the serials of those that were and are gone.
    pub fn of(mut known: Vec<Known>, gone: impl IntoIterator<Item = u64>) -> Self {
        // An ejection begins and ends without a new set: the choice looks at that for itself.
        let standing = |it: &Known| standing::standing(it.facts(false));
        let last_resort = !known.iter().any(|it| standing(it) == Standing::Serving);
        let mut set = Self { last_resort, gone: gone.into_iter().collect(), ..Self::default() };
        for it in &mut known {
            it.serving = standing(it) == Standing::Serving
                || last_resort && standing::may_be_last_resort(it.facts(false));
            if it.serving {
                if it.is_leader {
                    set.leader = Some(set.serving.len());
                }
                set.serving.push(it.backend.clone());
            } else if standing(it) == Standing::Gone {
                set.gone.push(it.backend.serial);
            }
        }
        set.chances = Chances::of(known.iter().filter(|it| it.serving).map(|it| it.weight));
        set.known = known;
        set
    }

    /// How many may get new requests and were seen to answer. Whether this is 0 is what readiness and
    /// the claim to a virtual address ask. Where all are ejected they get requests, as the choice has it.
    pub fn able(&self) -> usize {
        let all_ejected = self.serving.iter().all(|it| it.is_ejected());
        let is_ejected = |it: &Known| it.backend.is_ejected() && !all_ejected;
        self.known.iter().filter(|it| standing::is_able(it.facts(is_ejected(it)))).count()
    }

    /// A failure of `backend`, with an answer that says so or with none; ejects it where it is one too
    /// many. Says whether it did.
    pub fn failed(&self, backend: &Backend, answered: bool, now: Instant) -> bool {
        let stats = &backend.stats;
        stats.failures.fetch_add(1, Relaxed);
        if answered {
            stats.failing_answers.fetch_add(1, Relaxed);
        } else {
            stats.failing.failed(backend.age_at_ns(now));
        }
        let in_row = stats.failures_in_row.fetch_add(1, Relaxed) + 1;
        in_row >= outlier::FAILURES_MAX && self.eject(backend, "it fails again and again", now)
    }

    /// Ejects those that are far slower than the others or fail far more often. Called once a round.
    pub fn eject_outliers(&self, rates: &mut Rates, now: Instant) {
        let totals: Vec<(u64, Tally)> = self.serving.iter().map(|it| (it.serial, it.stats.tally())).collect();
        let tallies = rates.round(&totals);
        for (at, backend) in self.serving.iter().enumerate() {
            let others = || self.serving.iter().filter(|it| it.serial != backend.serial);
            let is_slow = |kind: Kind| {
                let mut latencies: Vec<f64> = others().filter_map(|it| it.compared_ns(kind, now)).collect();
                let own = backend.compared_ns(kind, now);
                own.is_some_and(|own| outlier::is_slow(own, &mut latencies))
                    && backend.stats.latency(kind).is_slow_in_row()
            };
            let rest: Vec<Tally> =
                tallies.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, it)| *it).collect();
            let why = if outlier::fails_often(tallies[at], &rest) {
                "it fails more often than the others"
            } else if Kind::ALL.into_iter().any(is_slow) {
                "it is far slower than the others"
            } else {
                continue;
            };
            if self.eject(backend, why, now) {
                rates.begin_anew(backend.serial, totals[at].1);
            }
        }
    }

    fn eject(&self, backend: &Backend, why: &str, now: Instant) -> bool {
        let ejected = self.serving.iter().filter(|it| it.is_ejected_at(now)).count();
        if backend.is_ejected_at(now) || !outlier::may_eject(ejected, self.serving.len()) {
            return false;
        }
        let stats = &backend.stats;
        let nth = stats.ejections_in_row.fetch_add(1, Relaxed).saturating_add(1);
        let length = outlier::ejection_length(nth);
        stats.ejections.fetch_add(1, Relaxed);
        stats.begin_anew();
        stats.ejected_until_ns.store(backend.age_at_ns(now) + length.as_nanos() as u64, Relaxed);
        tracing::warn!(backend = backend.name, seconds = length.as_secs(), why, "backend ejected");
        true
    }
}

#[cfg(test)]
mod tests;
