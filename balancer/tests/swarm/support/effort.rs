//! How much a run does, what it waits for, and how it says what it measured.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Whether the full measures were asked for.
pub fn long() -> bool {
    std::env::var("SKEP_TEST_LONG").is_ok_and(|value| value == "1")
}

/// For tests of the long form alone; says so where it is not asked for.
pub fn asked_for(test: &str) -> bool {
    if !long() {
        say(&format!("skipped: {test}: SKEP_TEST_LONG=1 asks for it"));
    }
    long()
}

/// One of two sizes, by what was asked for.
pub fn count<T>(short: T, full: T) -> T {
    if long() { full } else { short }
}

/// Prints one line past the test runner's capture.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a figure.
pub fn measured(what: &str, value: impl std::fmt::Display) {
    say(&format!("measure: {what}: {value}"));
}

/// Whether there can be a lab; says why not, so that what was skipped does not look as if it had passed.
pub fn possible(test: &str) -> bool {
    let missing = ["ip", "nsenter", "dockerd", "docker", "setsid"].into_iter().find(|program| {
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        !folders.iter().any(|folder| Path::new(folder).join(program).exists())
    });
    let why = match missing {
        _ if !rustix::process::geteuid().is_root() => "network namespaces and engines need root".to_owned(),
        Some(program) => format!("{program} is not installed"),
        None => return true,
    };
    say(&format!("skipped: {test}: {why}"));
    false
}

/// A moment between two looks at what sends no event.
pub fn pause(length: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(length);
}

/// Looks again and again; how long it took.
pub fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain: {what}");
        pause(Duration::from_millis(100));
    }
    begun.elapsed()
}

/// The folder with `scripts/`.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

/// Runs a program to its end: whether it succeeded, and its output.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{command:?}: {out}{err}")) }
}
