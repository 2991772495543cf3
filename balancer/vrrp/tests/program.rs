//! The holder as a program of its own.

use std::process::Command;

fn said(args: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_skep-vrrp")).args(args).output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn it_says_what_it_is_and_refuses_what_it_does_not_know() {
    let (code, version) = said(&["--version"]);
    assert!(code == Some(0) && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let (code, refused) = said(&["--no-such-flag"]);
    assert!(code == Some(2) && refused.contains("--no-such-flag"), "{code:?} {refused}");
}
