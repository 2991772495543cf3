//! The keys that issuers publish, as far as they are known here.
//!
//! Each is kept by a task of the control runtime (`control::issuers`); a core says where a token names a key that is not
//! there. The routes in force have the keys of all (`core::routes`): no core looks here for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use skep_gateway::auth::jwt::VerifyKey;
use tokio::sync::Notify;

/// How long keys count after they were fetched: what an issuer took back meanwhile is to open nothing for ever, whoever keeps
/// its answers away.
pub const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far behind a clock may be that was set: what was fetched later than that is of an age that nobody knows.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(3600);

/// Whether keys that were fetched then count no more.
pub fn is_over(fetched: SystemTime, now: SystemTime) -> bool {
    match now.duration_since(fetched) {
        Ok(age) => age >= LIFE,
        Err(ahead) => ahead.duration() > CLOCK_BEHIND_MAX,
    }
}

/// What one issuer publishes.
#[derive(Debug, Default)]
pub struct Published {
    wanted: Notify,
    seen: Mutex<Seen>,
}

/// What was seen of it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last set that had some, while it counts.
    pub keys: Option<Arc<[VerifyKey]>>,
    /// When the last was fetched, also where it counts no more.
    pub fetched: Option<SystemTime>,
    /// How often none could be fetched.
    pub failures: u64,
    /// Why the last could not be.
    pub failure: Option<String>,
}

impl Published {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub fn keys(&self) -> Option<Arc<[VerifyKey]>> {
        self.lock().keys.clone()
    }

    /// Whether these are others than before.
    pub fn take(&self, keys: Arc<[VerifyKey]>, fetched: SystemTime) -> bool {
        let mut seen = self.lock();
        (seen.fetched, seen.failure) = (Some(fetched), None);
        let is_other = seen.keys.as_ref() != Some(&keys);
        if is_other {
            seen.keys = Some(keys);
        }
        is_other
    }

    /// Forgets keys that count no more; whether there were some.
    pub fn end_old(&self, now: SystemTime) -> bool {
        let mut seen = self.lock();
        let is_old = seen.fetched.is_some_and(|it| is_over(it, now));
        is_old && seen.keys.take().is_some()
    }

    /// Whether that is something else than what failed before.
    pub fn failed(&self, why: &str) -> bool {
        let mut seen = self.lock();
        seen.failures += 1;
        let is_other = seen.failure.as_deref() != Some(why);
        seen.failure = Some(why.to_owned());
        is_other
    }

    /// A token was refused that another set may prove. Costs a core next to nothing, however often it is said.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Ends once somebody wants another set, or has since the last end.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// What was wanted by now is there.
    pub fn is_sated(&self) {
        let mut left = std::pin::pin!(self.wanted.notified());
        left.as_mut().enable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_count_for_their_life_and_where_the_clock_was_set_back_for_long_not_at_all() {
        let then = SystemTime::UNIX_EPOCH + 2 * LIFE;
        let moment = Duration::from_secs(1);
        for now in [then, then + LIFE - moment, then - CLOCK_BEHIND_MAX] {
            assert!(!is_over(then, now), "{now:?}");
        }
        for now in [then + LIFE, then + 9 * LIFE, then - CLOCK_BEHIND_MAX - moment, SystemTime::UNIX_EPOCH] {
            assert!(is_over(then, now), "{now:?}");
        }
        let published = Published::default();
        assert!(!published.end_old(then), "there are none");
        published.take([].into(), then);
        assert!(!published.end_old(then + LIFE - moment) && published.keys().is_some());
        assert!(published.end_old(then + LIFE) && published.keys().is_none());
        assert!(!published.end_old(then + LIFE) && published.seen().fetched == Some(then));
        assert!(published.take([].into(), then + LIFE), "they are in force anew");
    }
}
