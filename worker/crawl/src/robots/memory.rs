//! What sites said in their `robots.txt`, for a day at most, within a bound. Not a file: a worker that
//! starts asks again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Rules;

/// How long what a site said counts at most (RFC 9309, 2.4), and where it does not say how long.
const KEPT_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long it counts at least, so that a site that wants it never kept is not asked before each page.
const KEPT_MIN: Duration = Duration::from_secs(60);
/// How long a site that did not answer is not asked again: shorter than a task waits for its next try.
const FAILED_FOR: Duration = Duration::from_secs(3);
/// Most sites, and most bytes of their rules.
const SITES_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// What came of asking a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Rules(Arc<Rules>),
    /// Nothing may be fetched now, and why.
    Unreachable(Arc<str>),
}

impl Said {
    fn bytes(&self) -> usize {
        match self {
            Self::Rules(rules) => rules.bytes(),
            Self::Unreachable(reason) => reason.len(),
        }
    }
}

#[derive(Debug)]
struct Kept {
    said: Said,
    until: Instant,
    number: u64,
    bytes: usize,
}

/// What sites said, by their origin.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sites: HashMap<String, Kept>,
    /// In the order in which they came; one whose number is another's by now is none.
    order: VecDeque<(String, u64)>,
    bytes: usize,
    number: u64,
}

impl Memory {
    pub fn get(&self, origin: &str) -> Option<Said> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = inner.sites.get(origin)?;
        (Instant::now() < kept.until).then(|| kept.said.clone())
    }

    /// `max_age` is what the answer says of how long it may be kept.
    pub fn put(&self, origin: &str, said: Said, max_age: Option<Duration>) {
        let time = match &said {
            Said::Rules(_) => max_age.map_or(KEPT_MAX, |it| it.clamp(KEPT_MIN, KEPT_MAX)),
            Said::Unreachable(_) => FAILED_FOR,
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.number += 1;
        let (number, bytes) = (inner.number, said.bytes() + origin.len());
        let kept = Kept { said, until: Instant::now() + time, number, bytes };
        inner.bytes += bytes;
        inner.order.push_back((origin.to_owned(), number));
        if let Some(before) = inner.sites.insert(origin.to_owned(), kept) {
            inner.bytes -= before.bytes;
        }
        inner.shrink();
    }
}

impl Inner {
    /// Forgets the oldest, as long as there is too much.
    fn shrink(&mut self) {
        while self.sites.len() > SITES_MAX || self.bytes > BYTES_MAX || self.order.len() > 2 * SITES_MAX {
            let Some((origin, number)) = self.order.pop_front() else { return };
            if self.sites.get(&origin).is_some_and(|kept| kept.number == number)
                && let Some(kept) = self.sites.remove(&origin)
            {
                self.bytes -= kept.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(bytes: usize) -> Said {
        let file = format!("user-agent: a\ndisallow: /{}", "x".repeat(bytes));
        Said::Rules(Arc::new(Rules::parse(file.as_bytes(), "a")))
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_site_said_counts_for_as_long_as_it_says_within_bounds() {
        for (max_age, expected) in [
            (None, KEPT_MAX),
            (Some(Duration::ZERO), KEPT_MIN),
            (Some(Duration::from_secs(600)), Duration::from_secs(600)),
            (Some(Duration::MAX), KEPT_MAX),
        ] {
            let memory = Memory::default();
            memory.put("http://a", rules(1), max_age);
            tokio::time::advance(expected - Duration::from_millis(1)).await;
            assert_eq!(memory.get("http://a"), Some(rules(1)));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(memory.get("http://a"), None);
        }
        let memory = Memory::default();
        memory.put("http://a", Said::Unreachable("x".into()), None);
        tokio::time::advance(FAILED_FOR).await;
        assert_eq!(memory.get("http://a"), None);
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_first_by_number_and_by_bytes() {
        let memory = Memory::default();
        for at in 0..SITES_MAX + 10 {
            memory.put(&format!("http://{at}"), rules(1), None);
        }
        assert_eq!((memory.get("http://9"), memory.get("http://10")), (None, Some(rules(1))));
        for _ in 0..5_000 {
            memory.put("http://again", rules(10_000), None);
        }
        let memory_of = |memory: &Memory| {
            let inner = memory.inner.lock().unwrap();
            (inner.sites.len(), inner.order.len(), inner.bytes)
        };
        let (sites, order, bytes) = memory_of(&memory);
        assert!(sites <= SITES_MAX && order <= 2 * SITES_MAX && bytes <= BYTES_MAX);
        for at in 0..2_000 {
            memory.put(&format!("http://long{at}"), rules(10_000), None);
        }
        let (sites, _, bytes) = memory_of(&memory);
        assert!(bytes <= BYTES_MAX && bytes > BYTES_MAX - 20_000, "{bytes}");
        let inner = memory.inner.lock().unwrap();
        assert_eq!(inner.sites.values().map(|kept| kept.bytes).sum::<usize>(), bytes);
        assert!(sites < 2_000);
    }
}
