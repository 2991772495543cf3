//! What is said of this balancer: whether its cores make turns, and what a virtual address's holder is to know.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use skep_vrrp::track::{CORE_HANGS, Health, NO_BACKEND, NOT_TOLD, WEAK_AFTER};
use tokio::sync::watch;

use crate::core::pulse::{HANGS_AFTER, Hanging, LOOK_INTERVAL, Pulse};
use crate::core::shared::Shared;
use crate::core::stats::CoreStats;

/// How often ejections are looked at, which begin and end without a word.
const HEALTH_INTERVAL: Duration = Duration::from_millis(250);

/// Whether there are backends, as a virtual address's holder is told: a lack of them once it lasts. Every balancer
/// sees the same nodes go and come, each a moment apart, and the address is not to move for that.
#[derive(Debug, Default)]
struct Lack {
    was_able: bool,
    since: Option<Instant>,
}

impl Lack {
    /// `why` is what it is not able for.
    fn judge(&mut self, able: bool, why: &'static str, now: Instant) -> Health {
        if able {
            *self = Self { was_able: true, since: None };
            return Health::Well;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= WEAK_AFTER {
            self.was_able = false;
        }
        if self.was_able { Health::Well } else { Health::Weak(why) }
    }
}

/// Sees whether all cores make turns, until it is aborted.
pub(super) async fn watch_cores(shared: Arc<Shared>, cores: Vec<Arc<CoreStats>>) {
    let mut pulse = Pulse::new(cores.len(), Instant::now());
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let hanging = pulse.look(cores.iter().map(|core| core.ticks.get()), Instant::now());
        // A drained core has ended.
        let hangs = hanging != Hanging::None && !shared.draining.load(Relaxed);
        shared.all_cores_hang.store(hangs && hanging == Hanging::All, Relaxed);
        if shared.core_hangs.swap(hangs, Relaxed) != hangs {
            if hangs {
                tracing::error!(seconds = HANGS_AFTER.as_secs(), "a core hangs: this balancer is not ready");
            } else {
                tracing::info!("the cores make turns again");
            }
        }
    }
}

/// What a virtual address's holder needs to know of this proxy. Its task ends with its reader.
pub(super) fn health(shared: Arc<Shared>) -> watch::Receiver<Health> {
    let pool = shared.pools.skep().clone();
    let (sender, receiver) = watch::channel(Health::Weak(NO_BACKEND));
    let mut lack = Lack::default();
    tokio::spawn(async move {
        loop {
            let changed = pool.changed.notified();
            let why = if shared.is_closed() { NOT_TOLD } else { NO_BACKEND };
            let able = lack.judge(shared.is_able(), why, Instant::now());
            let health = if shared.all_cores_hang.load(Relaxed) {
                Health::Fault(CORE_HANGS)
            } else if shared.core_hangs.load(Relaxed) {
                // Its part of the clients is not served; where all are so, that is better than none.
                Health::Weak(CORE_HANGS)
            } else {
                able
            };
            sender.send_if_modified(|before| std::mem::replace(before, health.clone()) != health);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(HEALTH_INTERVAL) => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_backends_is_told_once_it_lasts_and_their_return_at_once() {
        let (mut lack, begun) = (Lack::default(), Instant::now());
        let weak = Health::Weak(NO_BACKEND);
        assert_eq!(lack.judge(false, NO_BACKEND, begun), weak, "it never had any");
        assert_eq!(lack.judge(false, NOT_TOLD, begun), Health::Weak(NOT_TOLD), "it says what for");
        for (after, able, expected) in [
            (Duration::ZERO, true, Health::Well),
            (Duration::from_secs(1), false, Health::Well),
            (Duration::from_secs(2), false, Health::Well),
            (Duration::from_secs(2), true, Health::Well),
            (Duration::from_secs(3), false, Health::Well),
            (Duration::from_secs(3) + WEAK_AFTER, false, weak.clone()),
            (Duration::from_secs(9), true, Health::Well),
        ] {
            assert_eq!(lack.judge(able, NO_BACKEND, begun + after), expected, "{after:?} {able}");
        }
    }
}
