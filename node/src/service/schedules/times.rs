//! When a schedule fires: its text, read; and which of its times are owed by now.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use skep_state::schedule::Timing;

use super::cron::Cron;

/// Fires that were missed are counted up to so many at a time.
const PASSED_MAX: u32 = 1000;

/// The times of a schedule.
#[derive(Debug, Clone)]
pub(crate) enum Times {
    Cron(Cron, TimeZone),
    Every { ms: u64, anchor_ms: u64 },
}

/// What is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The last time that has come.
    pub at_ms: u64,
    /// Times before it that have come as well, as far as they are counted.
    pub passed: u32,
}

impl Times {
    /// Of a schedule that was set then; or what is wrong, by the name of the member that is.
    pub(crate) fn of(timing: &Timing, anchor_ms: u64) -> Result<Times, String> {
        match timing {
            Timing::Every { ms } => Ok(Times::Every { ms: (*ms).max(1), anchor_ms }),
            Timing::Cron { expression, zone } => {
                let cron = Cron::parse(expression).map_err(|wrong| format!("cron: {wrong}"))?;
                Ok(Times::Cron(cron, self::zone(zone)?))
            }
        }
    }

    /// The first time after this one.
    pub(crate) fn after(&self, after_ms: u64) -> Option<u64> {
        match self {
            Times::Cron(cron, zone) => cron.after(zone, after_ms),
            Times::Every { ms, anchor_ms } => {
                let gone = after_ms.saturating_sub(*anchor_ms) / ms;
                gone.checked_add(1)?.checked_mul(*ms)?.checked_add(*anchor_ms)
            }
        }
    }

    /// What is owed now, of the times after `after_ms`. Takes the processor for as many steps as are counted.
    pub(crate) fn owed(&self, after_ms: u64, now_ms: u64) -> Option<Owed> {
        let first_ms = self.after(after_ms).filter(|first_ms| *first_ms <= now_ms)?;
        match self {
            Times::Every { ms, .. } => {
                let more = (now_ms - first_ms) / ms;
                let passed = u32::try_from(more).unwrap_or(u32::MAX).min(PASSED_MAX);
                Some(Owed { at_ms: first_ms + more * ms, passed })
            }
            Times::Cron(cron, zone) => {
                // Found from now backwards: however many were missed, that takes no longer.
                let at_ms = cron.before(zone, now_ms).unwrap_or(first_ms).max(first_ms);
                let (mut next_ms, mut passed) = (first_ms, 0);
                while next_ms < at_ms && passed < PASSED_MAX {
                    next_ms = cron.after(zone, next_ms).unwrap_or(at_ms);
                    passed += 1;
                }
                Some(Owed { at_ms, passed })
            }
        }
    }

    /// How the IANA database calls its zone.
    pub(crate) fn zone_name(&self) -> Option<&str> {
        match self {
            Times::Cron(_, zone) => zone.iana_name(),
            Times::Every { .. } => None,
        }
    }
}

/// The zone of a name of the IANA database that this program carries: so all nodes of a version know the same.
fn zone(name: &str) -> Result<TimeZone, String> {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    let known = ZONES.get(name).ok().filter(|zone| !zone.is_unknown());
    known.ok_or_else(|| format!("timezone: no time zone of the IANA database is called {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(expression: &str) -> Times {
        let (expression, zone) = (expression.into(), "Europe/Berlin".into());
        Times::of(&Timing::Cron { expression, zone }, 0).unwrap()
    }

    fn every(ms: u64, anchor_ms: u64) -> Times {
        Times::of(&Timing::Every { ms }, anchor_ms).unwrap()
    }

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn times_that_are_so_far_apart_count_from_when_the_schedule_was_set() {
        let times = every(1_000, 250);
        assert_eq!(
            [250, 251, 1_250, 1_251].map(|at| times.after(at)),
            [1_250, 1_250, 2_250, 2_250].map(Some)
        );
        assert_eq!(times.owed(250, 1_249), None);
        assert_eq!(times.owed(250, 1_250), Some(Owed { at_ms: 1_250, passed: 0 }));
        assert_eq!(times.owed(1_250, 5_249), Some(Owed { at_ms: 4_250, passed: 2 }));
        assert_eq!(times.owed(1_250, 250 + 5_000_000), Some(Owed { at_ms: 5_000_250, passed: PASSED_MAX }));
        assert_eq!(times.after(u64::MAX), None);
    }

    #[test]
    fn of_those_that_were_missed_the_last_is_owed_and_the_others_are_counted() {
        let times = cron("*/10 * * * *");
        assert_eq!(times.owed(0, 10 * MINUTE_MS - 1), None);
        assert_eq!(times.owed(0, 10 * MINUTE_MS), Some(Owed { at_ms: 10 * MINUTE_MS, passed: 0 }));
        assert_eq!(times.owed(0, 65 * MINUTE_MS), Some(Owed { at_ms: 60 * MINUTE_MS, passed: 5 }));
    }

    #[test]
    fn after_years_the_last_is_found_at_once() {
        let now_ms = 1_800_000_030_000;
        for expression in ["* * * * *", "0 * * * *"] {
            let owed = cron(expression).owed(0, now_ms).unwrap();
            let after_ms = cron(expression).after(owed.at_ms).unwrap();
            assert!(owed.at_ms <= now_ms && after_ms > now_ms, "{expression}: {owed:?}");
            assert_eq!(owed.passed, PASSED_MAX, "{expression}");
        }
        // Fewer are counted to the last.
        let yearly = cron("0 0 1 1 *").owed(0, now_ms).unwrap();
        assert!((50..60).contains(&yearly.passed), "{yearly:?}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_member() {
        let of = |expression: &str, zone: &str| {
            Times::of(&Timing::Cron { expression: expression.into(), zone: zone.into() }, 0).unwrap_err()
        };
        assert!(of("* * * *", "UTC").starts_with("cron: expected five fields"));
        let wrong = of("* * * * *", "Europe/Atlantis");
        assert!(wrong.starts_with("timezone: ") && wrong.contains("Europe/Atlantis"), "{wrong}");
        assert!(of("* * * * *", "Etc/Unknown").starts_with("timezone: "));
    }
}
