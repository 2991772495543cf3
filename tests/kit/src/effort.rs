//! How much a run does, what it says, and who has the machine meanwhile.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use crate::folders::scratch;

/// The short form runs unoptimised, beside whatever else the machine does: a bar then only catches what
/// is far off, and what is due at once may be late by this much.
const SHORT_FORM_SLACK: u32 = 3;
const SHORT_FORM_DELAY: Duration = Duration::from_millis(100);

/// Whether the full counts were asked for.
pub fn long() -> bool {
    std::env::var("SKEP_TEST_LONG").is_ok_and(|value| value == "1")
}

/// One of two sizes, by what was asked for.
pub fn count<T>(short: T, full: T) -> T {
    if long() { full } else { short }
}

/// For tests of the long form alone; says so where it is not asked for.
pub fn asked_for(test: &str) -> bool {
    if !long() {
        left_out(test, "SKEP_TEST_LONG=1 asks for it");
    }
    long()
}

/// Held while a test runs; released when dropped, also by a process that dies.
///
/// nextest keeps tests apart by their names (`.config/nextest.toml`); this does for whoever else runs them.
pub struct Machine {
    _lock: File,
}

/// Shares the machine with other tests.
pub fn machine_shared() -> Machine {
    let lock = lock_file();
    lock.lock_shared().expect("the tests' lock file can be locked");
    Machine { _lock: lock }
}

/// Waits until no other test runs, and keeps others out: for tests that measure.
pub fn machine_alone() -> Machine {
    let lock = lock_file();
    lock.lock().expect("the tests' lock file can be locked");
    Machine { _lock: lock }
}

fn lock_file() -> File {
    File::create(scratch().join("machine.lock")).expect("the target folder is writable")
}

/// Prints one line past the test runner's capture.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says what was not tested, so that it does not look as if it had passed.
pub fn left_out(test: &str, why: &str) {
    say(&format!("left out: {test}: {why}"));
}

pub fn median(values: &[Duration]) -> Duration {
    quantile(values, 0.5)
}

/// The smallest value that at least `fraction` of the values do not exceed.
pub fn quantile(values: &[Duration], fraction: f64) -> Duration {
    assert!(!values.is_empty(), "no values were measured");
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Prints a figure.
pub fn figure(what: &str, value: impl Display) {
    say(&format!("measure: {what}: {value}"));
}

/// Prints the figures of one measure and returns its median.
pub fn measured(what: &str, values: &[Duration]) -> Duration {
    let middle = median(values);
    figure(what, format!("n {} median {middle:.1?} max {:.1?}", values.len(), quantile(values, 1.0)));
    middle
}

/// Holds a figure against its bar; in the short form with slack.
pub fn expect_under(what: &str, value: Duration, bar: Duration) {
    let limit = if long() { bar } else { bar * SHORT_FORM_SLACK + SHORT_FORM_DELAY };
    assert!(value <= limit, "{what}: {value:?}, the bar is {bar:?} (held to {limit:?})");
}
