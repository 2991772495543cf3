//! How often one origin is asked, over all that this process does at once. Over all workers it is the
//! queue's lanes that keep it: a task's key is its origin.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Most origins that are remembered; beyond them those are forgotten whose pause is over.
const ORIGINS_MAX: usize = 4_096;

/// When each origin may be asked next.
#[derive(Debug)]
pub struct Pace {
    pause: Duration,
    next: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    pub fn new(pause: Duration) -> Self {
        Self { pause, next: Mutex::new(HashMap::new()) }
    }

    /// Waits for an origin's turn. Those who wait for one origin are apart by a pause each.
    pub async fn wait(&self, origin: &str) {
        if !self.pause.is_zero() {
            sleep_until(self.turn(origin, Instant::now())).await;
        }
    }

    fn turn(&self, origin: &str, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.get(origin).map_or(now, |at| now.max(*at));
        if next.len() >= ORIGINS_MAX {
            next.retain(|_, at| *at > now);
        }
        next.insert(origin.to_owned(), turn + self.pause);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_origin_is_asked_once_a_pause_and_others_do_not_wait_for_it() {
        let pace = Pace::new(Duration::from_secs(1));
        let begin = Instant::now();
        pace.wait("http://a").await;
        pace.wait("http://b").await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        tokio::join!(pace.wait("http://a"), pace.wait("http://a"));
        assert_eq!(begin.elapsed().as_secs(), 2);
        tokio::time::advance(Duration::from_secs(5)).await;
        let later = Instant::now();
        pace.wait("http://a").await;
        assert_eq!(later.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn with_no_pause_nobody_waits() {
        let pace = Pace::new(Duration::ZERO);
        let begin = Instant::now();
        for _ in 0..100 {
            pace.wait("http://a").await;
        }
        assert_eq!((begin.elapsed(), pace.next.lock().unwrap().len()), (Duration::ZERO, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_pause_is_over_are_forgotten() {
        let pace = Pace::new(Duration::from_secs(1));
        let begin = Instant::now();
        for at in 0..ORIGINS_MAX as u64 * 3 {
            pace.turn(&format!("http://{at}"), begin + Duration::from_millis(at));
        }
        assert!(pace.next.lock().unwrap().len() <= ORIGINS_MAX);
    }
}
