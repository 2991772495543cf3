//! What became of each request, and what was acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How a request failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No connection: refused, unreachable, or reset while it was made.
    Connect(String),
    /// No connection in time.
    ConnectTimeout,
    /// The connection ended before the answer did.
    Cut(String),
    /// No answer in time.
    Timeout,
    /// An answer that is none of those that are right, and what it says.
    Status(u16, String),
    /// A right status with something else than what was asked for.
    Wrong(String),
    /// An acknowledged message that was not found.
    Lost,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: Kind,
    /// When the request began.
    pub at: Instant,
    pub request: &'static str,
    pub on_kept: bool,
    pub took: Duration,
}

#[derive(Debug, Clone)]
pub struct Acked {
    pub digest: String,
    pub seq: u64,
    pub text: String,
    pub sent: Instant,
}

/// All of a client's requests.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub answered: u64,
    pub acked: Vec<Acked>,
    pub failures: Vec<Failure>,
    pub slowest: Duration,
    /// Answers that took longer than a second: when they began, how long, on a kept connection.
    pub slow: Vec<(Instant, Duration, bool)>,
}

impl Ledger {
    pub fn requests(&self) -> u64 {
        self.answered + self.failures.len() as u64
    }

    /// How often each kind.
    pub fn kinds(&self) -> String {
        let mut kinds: BTreeMap<(String, &str, bool), u32> = BTreeMap::new();
        for failure in &self.failures {
            *kinds.entry((format!("{:?}", failure.kind), failure.request, failure.on_kept)).or_default() += 1;
        }
        let show = |((kind, request, kept), n): (&(String, &str, bool), &u32)| {
            format!("{n} x {kind} of {request} on a {} connection", if *kept { "kept" } else { "new" })
        };
        kinds.iter().map(show).collect::<Vec<_>>().join("; ")
    }

    /// In one line, for people.
    pub fn summary(&self) -> String {
        format!(
            "{} requests, {} failed, {} messages acknowledged, slowest {} ms, over 1 s: {}{}{}",
            self.requests(),
            self.failures.len(),
            self.acked.len(),
            self.slowest.as_millis(),
            self.slowly(),
            if self.failures.is_empty() { "" } else { ": " },
            self.kinds()
        )
    }

    /// The slow answers by the stretches of time in which they began.
    fn slowly(&self) -> String {
        let Some(first) = self.slow.iter().map(|slow| slow.0).min() else { return "none".into() };
        let mut slow = self.slow.clone();
        slow.sort_by_key(|slow| slow.0);
        let stretches = slow.chunk_by(|one, next| next.0 - one.0 < Duration::from_millis(300));
        let shown = stretches.map(|stretch| {
            let (from, to) = (stretch[0].0 - first, stretch[stretch.len() - 1].0 - first);
            let kept = stretch.iter().filter(|slow| slow.2).count();
            format!(
                "{} ({kept} kept) from {:.2} s for {:.2} s",
                stretch.len(),
                from.as_secs_f64(),
                (to - from).as_secs_f64()
            )
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    pub fn expect_no_failure(&self, what: &str) {
        let begun = self.failures.first().map(|failure| failure.at);
        let when: Vec<_> = self
            .failures
            .iter()
            .take(20)
            .map(|it| (it.at - begun.unwrap_or(it.at), it.took, it.kind.clone(), it.on_kept))
            .collect();
        assert!(self.failures.is_empty(), "{what}: {}\n{when:#?}", self.summary());
    }

    /// From the first failure's beginning to the last one's: how long the service was away.
    pub fn outage(&self) -> Duration {
        let begun = self.failures.iter().map(|failure| failure.at);
        match (begun.clone().min(), begun.max()) {
            (Some(first), Some(last)) => last - first,
            _ => Duration::ZERO,
        }
    }

    /// The failures that began at that time or later.
    pub fn failed_since(&self, at: Instant) -> Vec<&Failure> {
        self.failures.iter().filter(|failure| failure.at >= at).collect()
    }

    /// Holds what was acknowledged against the messages that are there: digest and number.
    pub fn expect_nothing_lost(&self, there: &HashMap<String, u64>) {
        let missing: Vec<_> = self.acked.iter().filter(|acked| !there.contains_key(&acked.digest)).collect();
        assert!(
            missing.is_empty(),
            "{} of {} acknowledged messages are gone, the first: {:?}",
            missing.len(),
            self.acked.len(),
            missing.first()
        );
        let moved = self.acked.iter().find(|acked| there[&acked.digest] != acked.seq);
        assert!(moved.is_none(), "a message has another number: {moved:?}");
    }
}
