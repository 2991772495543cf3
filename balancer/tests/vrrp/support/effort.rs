//! How much a run does, what it waits for, and how it prints what it measured.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The short form runs beside other work: a bar then only catches what is far off.
const SHORT_FORM_SLACK: u32 = 5;

/// Whether the full counts were asked for.
pub fn long() -> bool {
    std::env::var("SKEP_TEST_LONG").is_ok_and(|value| value == "1")
}

/// One of two sizes, by what was asked for.
pub fn count<T>(short: T, full: T) -> T {
    if long() { full } else { short }
}

/// Held while a test runs: time is measured, so one at a time.
pub struct Machine(#[allow(dead_code)] File);

pub fn machine_alone() -> Machine {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vrrp-tests.lock");
    let file = File::create(path).expect("the target folder is writable");
    file.lock().expect("the tests' lock file can be locked");
    Machine(file)
}

/// Prints one line past the test runner's capture.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether a network of namespaces can be made; says why not, so that what was skipped does not
/// look as if it had passed.
pub fn possible(test: &str, programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        say(&format!("skipped: {test}: network namespaces need root"));
        return false;
    }
    for program in [&["ip"], programs].concat() {
        let found =
            ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|it| Path::new(it).join(program).exists());
        if !found {
            say(&format!("skipped: {test}: {program} is not installed"));
            return false;
        }
    }
    let name = format!("skv{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
    let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        say(&format!("skipped: {test}: no network namespace can be made here"));
        return false;
    }
    true
}

/// A moment between two looks at what sends no event.
pub fn pause(length: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(length);
}

/// Looks again and again; how long it took.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        pause(Duration::from_millis(2));
    }
    begun.elapsed()
}

/// Runs a program to its end; its output.
pub fn system(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("the program can be run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {out}{err}");
    out.into_owned()
}

pub fn median(values: &[Duration]) -> Duration {
    assert!(!values.is_empty(), "no values were measured");
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) / 2]
}

/// Prints the figures of one measure.
pub fn measured(what: &str, values: &[Duration]) {
    let ms = |value: Duration| value.as_secs_f64() * 1e3;
    let most = values.iter().max().copied().unwrap_or_default();
    say(&format!(
        "measure: {what}: n {} median {:.1} ms max {:.1} ms",
        values.len(),
        ms(median(values)),
        ms(most)
    ));
}

/// Holds a figure against its bar; in the short form with slack.
pub fn expect_under(what: &str, value: Duration, bar: Duration) {
    let limit = if long() { bar } else { bar * SHORT_FORM_SLACK };
    assert!(value <= limit, "{what}: {value:?}, the bar is {bar:?} (held to {limit:?})");
}
