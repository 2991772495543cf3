//! The sealed copy of what nodes told of the gateway: written, read and sealed anew.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use skep_members::key::KeyRing;

use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::*;

#[test]
fn a_folder_that_cannot_be_made_ends_no_start_and_the_copy_is_tried_again() {
    let one = Scripted::plain("one");
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyRing::generate_line();
    // A file is where the folder is to be.
    let state_at = folder.path().join("state");
    std::fs::write(&state_at, "").unwrap();
    let document = app(one.address);
    let node =
        Node::start(1, &KeyRing::parse(&keys).unwrap(), &[], Does::Tells(state(7, 1, Some(&document))));
    let process = with_state(node.peer, folder.path(), &keys);
    process.wait_ready();
    let is_told = |failed: bool| shown(&process)["cluster"]["copy_failed"] == failed;
    wait("it is told", || is_told(true));
    assert!(is_at(&process, "/app", "one /app"));
    std::fs::remove_file(&state_at).unwrap();
    wait("it is written", || is_told(false));
    assert!(state_at.join("gateway.sealed").exists());
}

#[test]
fn a_copy_that_a_node_confirms_is_sealed_with_the_first_key() {
    let one = Scripted::plain("one");
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let both = format!("{new}\n{old}");
    let folder = tempfile::tempdir().unwrap();
    let tells = || Does::Tells(state(7, 4, Some(&app(one.address))));
    let node = Node::start(1, &KeyRing::parse(&old).unwrap(), &[], tells());
    let process = with_state(node.peer, folder.path(), &old);
    let file = folder.path().join("state/gateway.sealed");
    wait("the copy is written", || file.exists());
    drop(process);
    node.die();
    let before = std::fs::read(&file).unwrap();
    let node = Node::start(1, &KeyRing::parse(&both).unwrap(), &[], tells());
    let process = with_state(node.peer, folder.path(), &both);
    wait("the node is heard", || shown(&process)["cluster"]["word"] == "node");
    wait("the copy is written anew", || std::fs::read(&file).is_ok_and(|now| now != before));
    drop(process);
    let peer = node.peer;
    node.die();
    let process = with_state(peer, folder.path(), &new);
    process.wait_ready();
    assert!(is_at(&process, "/app", "one /app"));
}

#[test]
fn where_another_key_seals_from_now_on_it_seals_the_copy_too() {
    let one = Scripted::plain("one");
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let before = format!("{old}\n{new}");
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyRing::parse(&before).unwrap();
    let node = Node::start(1, &keys, &[], Does::Tells(state(7, 4, Some(&app(one.address)))));
    let process = with_state(node.peer, folder.path(), &before);
    let file = folder.path().join("state/gateway.sealed");
    wait("the copy is written", || file.exists());
    let sealed = std::fs::read(&file).unwrap();
    keys_are(folder.path(), &format!("{new}\n{old}"));
    process.signal("HUP");
    wait("it is sealed anew", || std::fs::read(&file).is_ok_and(|now| now != sealed));
    drop(process);
    let peer = node.peer;
    node.die();
    let process = with_state(peer, folder.path(), &new);
    process.wait_ready();
    assert!(is_at(&process, "/app", "one /app"));
}

pub fn keys_are(folder: &Path, keys: &str) -> PathBuf {
    let file = folder.join("keys");
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file).unwrap();
    opened.write_all(keys.as_bytes()).unwrap();
    file
}

/// With a folder for its copy, and these keys.
pub fn with_state(peer: SocketAddr, folder: &Path, keys: &str) -> Process {
    let (state, file) = (folder.join("state"), keys_are(folder, keys));
    let [state, file] = [&state, &file].map(|it| it.to_str().unwrap());
    let seed = peer.to_string();
    let args = ["--http", ANY, "--admin", ANY, "--peer", ANY, "--seeds", &seed];
    Process::start(&[&args[..], &["--state", state, "--cluster-key-file", file]].concat())
}

#[test]
fn a_restart_while_all_nodes_are_away_serves_from_the_copy_which_its_keys_alone_open() {
    let one = Scripted::plain("one");
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let edge = KeyRing::parse(&old).unwrap().edge_lines().remove(0);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(
        1,
        &KeyRing::parse(&old).unwrap(),
        &[],
        Does::Tells(state(7, 4, Some(&app(one.address)))),
    );
    let peer = node.peer;
    let mut process = with_state(peer, folder.path(), &edge);
    process.wait_ready();
    let file = folder.path().join("state/gateway.sealed");
    wait("the copy is written", || file.exists());
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(4).any(|it| it == b"/app"), "it is sealed");
    process.signal("TERM");
    assert!(process.wait().success());
    node.die();
    // The old key is the second of the ring by now.
    let process = with_state(peer, folder.path(), &format!("{new}\n{edge}"));
    process.wait_ready();
    assert!(is_at(&process, "/app", "one /app"));
    let shown = shown(&process);
    assert_eq!(
        (&shown["cluster"]["word"], &shown["cluster"]["revision"]),
        (&"copy".into(), &4.into()),
        "{shown}"
    );
    assert!(ask(process.http, "/other").starts_with("HTTP/1.1 503 "), "there are no nodes");
    drop(process);
    // No key opens it: as if there were none, and no start fails for it.
    let process = with_state(peer, folder.path(), &new);
    let answer = ask(process.http, "/app");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no node has told"), "{answer}");
    assert!(ask(process.admin, "/livez").starts_with("HTTP/1.1 200 "));
}
