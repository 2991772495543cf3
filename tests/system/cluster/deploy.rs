//! `scripts/deploy` before a Swarm that is played: when it says that a stack serves.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use skep_kit::folders::root;

/// `docker`, as far as the script asks it. Each look at the stack's services is a line of `looks`; how many there were
/// says what the service `gateway` does: what it did for another document, then it runs and fails, then `$LAST`.
const DOCKER: &str = r#"#!/usr/bin/env bash
folder=$(dirname "$0")
at=$(wc -l <"$folder/looks")
case "$*" in
"info -f {{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}") echo active true ;;
"info -f {{.Swarm.NodeAddr}}") echo 127.0.0.1 ;;
"secret inspect "* | "stack deploy "*) ;;
"stack services skep "*)
    echo look >>"$folder/looks"
    echo "skep_node 3/3 (max 1 per node)"
    echo "skep_gateway 1/1"
    ;;
"service inspect skep_node "*skep.ends*) echo ;;
"service inspect skep_gateway "*skep.ends*) echo true ;;
"service inspect skep_gateway "*ContainerSpec*) echo '{"Configs":["gateway-2"]}' ;;
"service ps skep_gateway "*)
    case $at in
    1) echo "old Complete 2 hours ago" ;;
    2) echo "new Running 1 second ago" ;;
    3) echo "new Failed 1 second ago" ;;
    *) echo "new $LAST 1 second ago" ;;
    esac
    echo "older Failed 3 hours ago"
    ;;
"inspect --type task "*" old") echo '{"Configs":["gateway-1"]}' ;;
"inspect --type task "*" new") echo '{"Configs":["gateway-2"]}' ;;
*) exit 1 ;;
esac
"#;

/// What the script comes to, and how often it has looked.
fn deployed(folder: &Path, last: &str, seconds: &str) -> (Output, usize) {
    let docker = folder.join("docker");
    std::fs::write(&docker, DOCKER).expect("it can be written");
    std::fs::set_permissions(&docker, PermissionsExt::from_mode(0o755)).expect("it can be run");
    std::fs::write(folder.join("looks"), "").expect("it can be written");
    let path = std::env::var("PATH").expect("there is one");
    let output = Command::new(root().join("scripts/deploy"))
        .env("PATH", format!("{}:{path}", folder.display()))
        .envs([("LAST", last), ("SKEP_DEPLOY_SECONDS", seconds), ("SKEP_CURL", "true")])
        .envs([("SKEP_EDGE_SECRET", "edge"), ("SKEP_WORKER_SECRET", ""), ("SKEP_CERT_SECRET", "")])
        .env_remove("SKEP_VIP")
        .output()
        .expect("scripts/deploy can be run");
    let looks = std::fs::read_to_string(folder.join("looks")).expect("it is there").lines().count();
    (output, looks)
}

#[test]
fn a_stack_serves_once_what_puts_its_document_has_ended_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, looks) = deployed(folder.path(), "Complete", "60");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.starts_with("skep serves."), "{out}{err}");
    assert_eq!(looks, 4, "neither what it did before, nor what it has not done yet");
}

#[test]
fn a_stack_whose_document_is_not_put_in_time_is_said_not_to_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, looks) = deployed(folder.path(), "Running", "2");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() == Some(1) && looks > 0 && !out.contains("serves."), "{looks}: {out}{err}");
    let word = "skep_gateway has not ended well yet (docker service logs skep_gateway)";
    assert!(err.contains("not ready within 2 s") && err.contains(word), "{err}");
}
