//! The time of day as HTTP writes it (RFC 9110, 5.6.7): made anew once a second, by each core for itself.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;

use crate::wire::write::Date;

/// What stands there until the first look at the clock, and where that is beyond what can be written.
const UNKNOWN: Date = *b"Thu, 01 Jan 1970 00:00:00 GMT";

/// The second of Unix time; before there was any, a time at which all is over.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, |it| it.as_secs())
}

/// One core's.
#[derive(Debug)]
pub struct Clock {
    /// The second that `date` shows, in Unix time.
    second: Cell<u64>,
    date: Cell<Date>,
}

impl Clock {
    pub fn new() -> Self {
        let clock = Self { second: Cell::new(0), date: Cell::new(UNKNOWN) };
        clock.look();
        clock
    }

    /// To be called several times a second.
    pub fn look(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if since.as_secs() != self.second.get() {
            self.second.set(since.as_secs());
            self.date.set(written(since.as_secs()).unwrap_or(UNKNOWN));
        }
    }

    /// As `Date` says it.
    pub fn date(&self) -> Date {
        self.date.get()
    }
}

fn written(second: u64) -> Option<Date> {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = OffsetDateTime::from_unix_timestamp(second.try_into().ok()?).ok()?;
    time.format(format).ok()?.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_reads_it() {
        for (second, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
        ] {
            assert_eq!(written(second).unwrap(), date.as_bytes());
        }
        assert_eq!(written(u64::MAX), None);
        assert_ne!(Clock::new().date(), UNKNOWN);
    }
}
