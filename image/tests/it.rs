//! The one file does what its name says.

use std::os::unix::fs::symlink;
use std::process::Command;

fn said_as(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_skep"), &path).expect("a name can be made");
    let output = Command::new(path).args(args).output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn it_is_the_program_that_it_is_called() {
    for name in ["skep-node", "skep-balancer", "skep-worker"] {
        let (code, said) = said_as(name, &["--version"]);
        assert!(code == Some(0) && said.starts_with(&format!("{name} ")), "{name}: {code:?} {said}");
    }
    let (code, said) = said_as("skep-balancer", &["vrrp", "--version"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn by_another_name_it_says_what_it_can_be() {
    let (code, said) = said_as("skep", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(["skep-node", "skep-balancer", "skep-worker"].iter().all(|name| said.contains(name)), "{said}");
}
