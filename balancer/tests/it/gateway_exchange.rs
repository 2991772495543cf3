//! Limits that balancers have in common: what one lets in the others do not let in again.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use skep_members::key::KeyRing;

use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::{Does, Node, state};

const ANY: &str = "127.0.0.1:0";

/// What comes in comes back in a quarter of an hour: no test sees it.
fn document(at: SocketAddr) -> String {
    format!(
        r#"{{
            "services": {{
                "app": {{"urls": ["http://{at}"]}},
                "own": {{"urls": ["http://{at}"], "limits": [
                    {{"rate": 3, "per": "hour", "burst": 3, "by": "route"}}
                ]}}
            }},
            "consumers": {{"alice": {{"keys": ["alice-has-this-key-0001"]}}}},
            "routes": {{
                "one": {{"match": {{"path": "/one"}}, "service": "own"}},
                "two": {{"match": {{"path": "/two"}}, "service": "own"}},
                "all": {{"match": {{"path": "/all"}}, "service": "app", "limits": [
                    {{"rate": 4, "per": "hour", "burst": 4, "by": "route"}}
                ]}},
                "alice": {{"match": {{"path": "/alice"}}, "service": "app", "auth": {{"keys": true}}, "limits": [
                    {{"rate": 4, "per": "hour", "burst": 4, "by": "consumer"}}
                ]}},
                "each": {{"match": {{"path": "/each"}}, "service": "app", "limits": [
                    {{"rate": 1, "per": "hour", "by": "address", "scope": "balancer"}}
                ]}}
            }}
        }}"#
    )
    .replace('\n', " ")
}

fn start(seed: SocketAddr, keys: &Path) -> Process {
    let (seed, keys) = (seed.to_string(), keys.to_str().unwrap());
    let process = Process::start(&[
        "--http",
        ANY,
        "--admin",
        ANY,
        "--peer",
        ANY,
        "--seeds",
        &seed,
        "--cluster-key-file",
        keys,
    ]);
    process.wait_ready();
    process
}

fn asks(process: &Process, target: &str) -> String {
    let mut client = Client::connect(process.http);
    client.send(format!(
        "GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-api-key: alice-has-this-key-0001\r\n\r\n"
    ));
    client.rest()[9..12].to_owned()
}

/// A metric's value, without its decimals.
fn value(process: &Process, name: &str) -> u64 {
    let metrics = ask(process.admin, "/metrics");
    let line = metrics.lines().find_map(|it| it.strip_prefix(name));
    line.map_or(0, |it| it.trim().split('.').next().unwrap().parse().unwrap())
}

const PEERS: &str = "skep_balancer_limit_peers{}";
const HEARD: &str = "skep_balancer_limit_exchanged_total{word=\"heard\"}";
const TOLD: &str = "skep_balancer_limit_exchanged_total{word=\"told\"}";

#[test]
fn what_one_balancer_lets_in_the_others_do_not_let_in_again() {
    let app = Scripted::plain("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let line = KeyRing::generate_line();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).mode(0o600).open(&file).unwrap().write_all(line.as_bytes()).unwrap();
    let keys = KeyRing::parse(&line).unwrap();
    let document = state(7, 1, Some(&document(app.address)));
    let node = Node::start(1, &keys, &[], Does::Tells(document));
    let balancers = [(); 3].map(|()| start(node.peer, &file));
    let [a, b, c] = &balancers;
    for it in &balancers {
        wait("all know the others", || value(it, PEERS) == 2);
    }
    assert_eq!([(); 3].map(|()| asks(a, "/all/1")), ["200"; 3]);
    for it in [b, c] {
        wait("the others hear of it", || value(it, HEARD) == 3);
    }
    assert_eq!(asks(b, "/all/2"), "200");
    wait("who let in three hears of the fourth", || value(a, HEARD) == 1);
    wait("who let in none hears of all", || value(c, HEARD) == 4);
    for it in &balancers {
        assert_eq!(asks(it, "/all/3"), "429");
    }
    // Whoever asks is the same consumer there, too.
    assert_eq!([(); 4].map(|()| asks(c, "/alice")), ["200"; 4]);
    wait("the others hear of it", || value(a, HEARD) == 5 && value(b, HEARD) == 7);
    for it in &balancers {
        assert_eq!(asks(it, "/alice"), "429");
    }
    // A limit of a service is one, by whatever route.
    assert_eq!(["/one", "/two"].map(|it| asks(a, it)), ["200"; 2]);
    wait("the others hear of it", || value(b, HEARD) == 9 && value(c, HEARD) == 6);
    assert_eq!(asks(b, "/two"), "200");
    wait("the others hear of it", || value(a, HEARD) == 6 && value(c, HEARD) == 7);
    for it in &balancers {
        assert_eq!(["/one", "/two"].map(|target| asks(it, target)), ["429"; 2]);
    }
    // What each counts for itself nobody hears of.
    for it in &balancers {
        assert_eq!([(); 2].map(|()| asks(it, "/each")), ["200", "429"]);
    }
    assert_eq!(app.heads().len(), 4 + 4 + 3 + 3);
    // To two others each, and of what is refused nothing.
    assert_eq!([a, b, c].map(|it| value(it, TOLD)), [2 * (3 + 2), 2 * (1 + 1), 2 * 4]);
    // Who is gone is not waited for.
    let [a, b, c] = balancers;
    drop(c);
    wait("they see that it is gone", || value(&a, PEERS) == 1 && value(&b, PEERS) == 1);
    assert_eq!(asks(&a, "/all/4"), "429");
}
