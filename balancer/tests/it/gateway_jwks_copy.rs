//! The sealed copies of what issuers publish: by which of them a start goes while the issuer is away, and until when.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use skep_members::key::KeyRing;
use skep_members::stored::{self, For};

use crate::gateway_copy;
use crate::gateway_jwks::{Corp, Signer, of_corp, status, told};
use crate::gateway_jwt::in_s;
use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::{ANY, Does, Node, state};

fn with_state(peer: SocketAddr, state: &Path) -> Process {
    let (seed, state) = (peer.to_string(), state.to_str().unwrap());
    Process::start(&["--http", ANY, "--admin", ANY, "--peer", ANY, "--seeds", &seed, "--state", state])
}

#[test]
fn a_start_while_the_issuer_is_away_knows_the_keys_that_were_kept_of_the_same_place() {
    let (backend, a, folder) = (Scripted::plain("app"), Signer::new("a"), tempfile::tempdir().unwrap());
    let corp = Corp::publishing(&[&a]);
    let tells = |revision, jwks: &str| Does::Tells(state(7, revision, Some(&of_corp(backend.address, jwks))));
    let node = Node::start(1, &KeyRing::insecure_loopback(), &[], tells(1, &corp.jwks()));
    let process = with_state(node.peer, folder.path());
    let kept = folder.path().join("issuer-corp.sealed");
    wait("they are kept", || kept.exists());
    let bytes = std::fs::read(&kept).unwrap();
    assert!(!bytes.windows(5).any(|it| it == b"P-256"), "it is sealed");
    drop(process);
    corp.answers("");
    let process = with_state(node.peer, folder.path());
    wait("they are known", || status(process.http, "corp", &a.token("corp")) == "200");
    wait("it is asked", || told(&process, "corp")["failures"].as_u64() > Some(0));
    assert_eq!(status(process.http, "corp", &a.token("corp")), "200");
    // Another place is another issuer.
    node.now(tells(2, &format!("{}&x", corp.jwks())));
    wait("none are known of it", || status(process.http, "corp", &a.token("corp")) == "503");
    drop(process);
    let process = with_state(node.peer, folder.path());
    wait("it is asked", || told(&process, "corp")["failures"].as_u64() > Some(0));
    assert_eq!(status(process.http, "corp", &a.token("corp")), "503");
    // Who is no issuer any more leaves nothing behind.
    node.now(Does::Tells(state(7, 3, Some("{}"))));
    wait("it is gone", || !kept.exists());
}

#[test]
fn kept_keys_of_an_issuer_are_sealed_anew_where_another_key_seals_from_now_on() {
    let (backend, a, folder) = (Scripted::plain("app"), Signer::new("a"), tempfile::tempdir().unwrap());
    let corp = Corp::publishing(&[&a]);
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let before = format!("{old}\n{new}");
    let tells = Does::Tells(state(7, 1, Some(&of_corp(backend.address, &corp.jwks()))));
    let node = Node::start(1, &KeyRing::parse(&before).unwrap(), &[], tells);
    let process = gateway_copy::with_state(node.peer, folder.path(), &before);
    let kept = ["issuer-corp.sealed", "gateway.sealed"].map(|it| folder.path().join("state").join(it));
    wait("they are kept", || kept.iter().all(|it| it.exists()));
    let sealed = kept.clone().map(|it| std::fs::read(it).unwrap());
    gateway_copy::keys_are(folder.path(), &format!("{new}\n{old}"));
    process.signal("HUP");
    let is_anew = |at: usize| std::fs::read(&kept[at]).is_ok_and(|now| now != sealed[at]);
    wait("both are sealed anew", || is_anew(0) && is_anew(1));
    drop(process);
    corp.answers("");
    let process = gateway_copy::with_state(node.peer, folder.path(), &new);
    wait("they are known", || status(process.http, "corp", &a.token("corp")) == "200");
}

/// As if that copy had been fetched so many seconds ago.
fn fetched_ago(copy: &Path, seconds: i64) {
    let keys = KeyRing::insecure_loopback();
    let plain = stored::open(&keys, For::Keys, &std::fs::read(copy).unwrap()).unwrap();
    let end = plain.iter().position(|b| *b == b'\n').unwrap();
    let mut head: Value = serde_json::from_slice(&plain[..end]).unwrap();
    head["fetched_s"] = json!(in_s(-seconds));
    let plain = [head.to_string().as_bytes(), &plain[end..]].concat();
    std::fs::write(copy, stored::seal(&keys, For::Keys, &plain).unwrap()).unwrap();
}

#[test]
fn keys_that_were_fetched_long_ago_count_no_more_at_a_start_nor_once_they_have_become_so_old() {
    let (backend, a, folder) = (Scripted::plain("app"), Signer::new("a"), tempfile::tempdir().unwrap());
    let corp = Corp::publishing(&[&a]);
    let tells = Does::Tells(state(7, 1, Some(&of_corp(backend.address, &corp.jwks()))));
    let node = Node::start(1, &KeyRing::insecure_loopback(), &[], tells);
    let process = with_state(node.peer, folder.path());
    let kept = folder.path().join("issuer-corp.sealed");
    wait("they are kept", || kept.exists());
    drop(process);
    corp.answers("");
    const LIFE_S: i64 = 7 * 24 * 3600;
    // A clock that is far from what it was says nothing of an age.
    for ago in [LIFE_S, -2 * 3600] {
        fetched_ago(&kept, ago);
        let process = with_state(node.peer, folder.path());
        wait("it is asked", || told(&process, "corp")["failures"].as_u64() > Some(0));
        assert_eq!(status(process.http, "corp", &a.token("corp")), "503", "{ago}");
    }
    fetched_ago(&kept, LIFE_S - 8);
    let process = with_state(node.peer, folder.path());
    wait("they are known", || status(process.http, "corp", &a.token("corp")) == "200");
    wait("they are too old", || status(process.http, "corp", &a.token("corp")) == "503");
    let (told, metrics) = (told(&process, "corp"), ask(process.admin, "/metrics"));
    assert_eq!(told["keys"], 0, "{told}");
    assert!(told["age_s"].as_f64() >= Some(LIFE_S as f64), "{told}");
    assert!(metrics.contains("skep_balancer_gateway_issuer_keys{issuer=\"corp\"} 0.0"), "{metrics}");
}
