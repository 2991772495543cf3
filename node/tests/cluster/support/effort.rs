//! How much a run does, how it prints what it measured, and who has the machine meanwhile.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The short form runs beside other work, unoptimised: a bar then only catches what is far off.
const SHORT_FORM_SLACK: u32 = 3;

/// Whether the full counts were asked for.
pub fn long() -> bool {
    std::env::var("SKEP_TEST_LONG").is_ok_and(|value| value == "1")
}

/// One of two sizes, by what was asked for.
pub fn count<T>(short: T, full: T) -> T {
    if long() { full } else { short }
}

/// Held while a test runs; released when dropped, also by a process that dies.
pub struct Machine(#[allow(dead_code)] File);

/// Shares the machine with other tests.
pub fn machine_shared() -> Machine {
    let file = lock_file();
    file.lock_shared().expect("the tests' lock file can be locked");
    Machine(file)
}

/// Waits until no other test runs, and keeps others out: for tests that measure time.
pub fn machine_alone() -> Machine {
    let file = lock_file();
    file.lock().expect("the tests' lock file can be locked");
    Machine(file)
}

fn lock_file() -> File {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cluster-tests.lock");
    File::create(path).expect("the target folder is writable")
}

/// Prints one line past the test runner's capture.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
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

/// Prints the figures of one measure and returns its median.
pub fn measured(what: &str, values: &[Duration]) -> Duration {
    let middle = median(values);
    say(&format!(
        "measure: {what}: n {} median {:.1?} max {:.1?}",
        values.len(),
        middle,
        quantile(values, 1.0)
    ));
    middle
}

/// Holds a figure against its bar; in the short form with slack.
pub fn expect_under(what: &str, value: Duration, bar: Duration) {
    let limit = if long() { bar } else { bar * SHORT_FORM_SLACK };
    assert!(value < limit, "{what}: {value:?}, the bar is {bar:?} (held to {limit:?})");
}
