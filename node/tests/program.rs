//! The program by itself: what it prints, and which command lines it refuses before it touches anything.
//!
//! These are also what makes cargo build the program whenever it builds the workspace's tests; those in
//! `tests/system` find it then.

use std::process::Command;

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs it with nothing from the tests' own environment that it would read.
fn run(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep-node"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKEP_")) {
        command.env_remove(name);
    }
    let output = command.args(args).output().expect("skep-node starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
fn a_bad_flag_ends_with_2_and_is_named() {
    for args in [
        &["--http", "nonsense"][..],
        &["--peer", "127.0.0.1"],
        &["--admin", "127.0.0.1:99999"],
        &["--expect", "0"],
        &["--expect", "many"],
        &["--voters", "0"],
        &["--seeds", "no port"],
        &["--log-format", "xml"],
        &["--max-body", "lots"],
        &["--request-timeout", "soon"],
        &["--cluster-key-file", "/nonexistent/key"],
        &["--config", "/nonexistent/skep.toml"],
        &["--no-such-flag"],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(args[0]), "{args:?} is not named: {ended:?}");
    }
}

#[test]
fn an_address_that_others_reach_needs_a_cluster_key() {
    for flag in ["--peer", "--http", "--admin"] {
        let ended = run(&[flag, "0.0.0.0:47401"]);
        assert_eq!(ended.code, Some(2), "{flag}: {ended:?}");
        for word in [flag, "cluster key", "keygen"] {
            assert!(ended.stderr.contains(word), "{flag}: no word of {word}: {ended:?}");
        }
    }
}

#[test]
fn help_and_version_are_printed_and_end_with_0() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    for word in [
        "--http",
        "--peer",
        "--advertise",
        "--admin",
        "--data",
        "--seeds",
        "--expect",
        "--voters",
        "SKEP_HTTP",
        "keygen",
        "recover",
    ] {
        assert!(help.stdout.contains(word), "no word of {word} in {}", help.stdout);
    }
    let version = run(&["--version"]);
    assert_eq!(version.code, Some(0), "{version:?}");
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
}
