//! What is owed by limits outlives the balancer that let it in: another that starts asks for it, and one that ends keeps it.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use skep_gateway::exchange::debts::{Body, Debt, Frame};
use skep_gateway::exchange::{self, Entry};
use skep_gateway::limit::{By, Limit, Per, Scope, Who};
use skep_members::gossip::{Gossip, GossipConfig, PeerRecord, Program, RaftRole};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::seeds::Seed;

use crate::gateway_copy::keys_are;
use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::*;

/// What comes in comes back in minutes: no test sees it.
fn document(at: SocketAddr) -> String {
    format!(
        r#"{{
            "services": {{"app": {{"urls": ["http://{at}"]}}}},
            "consumers": {{"alice": {{"keys": ["alice-has-this-key-0001"]}}}},
            "routes": {{
                "all": {{"match": {{"path": "/all"}}, "service": "app", "limits": [
                    {{"rate": 20, "per": "hour", "burst": 480, "by": "route"}}
                ]}},
                "alice": {{"match": {{"path": "/alice"}}, "service": "app", "auth": {{"keys": true}}, "limits": [
                    {{"rate": 1, "per": "hour", "burst": 4, "by": "consumer"}}
                ]}},
                "each": {{"match": {{"path": "/each"}}, "service": "app", "limits": [
                    {{"rate": 1, "per": "hour", "burst": 3, "by": "address"}}
                ]}},
                "own": {{"match": {{"path": "/own"}}, "service": "app", "limits": [
                    {{"rate": 1, "per": "hour", "burst": 2, "by": "address", "scope": "balancer"}}
                ]}}
            }}
        }}"#
    )
    .replace('\n', " ")
}

fn asks(process: &Process, target: &str) -> u16 {
    asks_at(process.http, target)
}

fn asks_at(http: SocketAddr, target: &str) -> u16 {
    let mut client = Client::connect(http);
    client.send(format!(
        "GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-api-key: alice-has-this-key-0001\r\n\r\n"
    ));
    client.rest()[9..12].parse().unwrap()
}

/// How many are let in before one is refused.
fn let_in(process: &Process, target: &str) -> usize {
    (0..).take_while(|_| asks(process, target) == 200).count()
}

/// A metric's value, without its decimals.
fn value(process: &Process, name: &str) -> u64 {
    let metrics = metrics(process);
    let line = metrics.lines().find_map(|it| it.strip_prefix(name));
    line.map_or(0, |it| it.trim().split('.').next().unwrap().parse().unwrap())
}

const PEERS: &str = "skep_balancer_limit_peers{}";
const TOLD: &str = "skep_balancer_limit_exchanged_total{word=\"told\"}";
const HEARD: &str = "skep_balancer_limit_exchanged_total{word=\"heard\"}";
const STRANGE: &str = "skep_balancer_limit_exchanged_total{word=\"strange\"}";

fn debts(process: &Process, word: &str) -> u64 {
    value(process, &format!("skep_balancer_limit_debts_total{{word=\"{word}\"}}"))
}

fn started(nodes: &[&Node]) -> Process {
    let process = balancer(nodes, &[]);
    process.wait_ready();
    process
}

fn ended(mut process: Process) {
    process.signal("TERM");
    assert!(process.wait().success());
}

#[test]
fn who_has_spent_it_is_refused_by_each_that_starts_later_until_none_of_the_first_is_left() {
    let app = Scripted::plain("app");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&document(app.address)))));
    let first = [(); 3].map(|()| started(&[&node]));
    for it in &first {
        wait("all know the others", || value(it, PEERS) == 2);
    }
    assert_eq!([let_in(&first[0], "/alice"), let_in(&first[0], "/each")], [4, 3]);
    assert_eq!([(); 2].map(|()| asks(&first[0], "/all/1")), [200; 2]);
    assert_eq!(asks(&first[0], "/own"), 200);
    for it in &first[1..] {
        wait("the others hear of it", || value(it, HEARD) == 9);
    }
    let fourth = started(&[&node]);
    assert_eq!(["/alice", "/each"].map(|it| asks(&fourth, it)), [429; 2]);
    assert_eq!((debts(&fourth, "taken"), debts(&fourth, "strange")), (3, 0));
    assert_eq!(first.iter().map(|it| debts(it, "given")).sum::<u64>(), 3);
    // What each counts for itself is not told.
    assert_eq!(let_in(&fourth, "/own"), 2);
    first.into_iter().for_each(ended);
    let fifth = started(&[&node]);
    assert_eq!(["/alice", "/each"].map(|it| asks(&fifth, it)), [429; 2]);
    assert_eq!(debts(&fourth, "given"), 3);
    assert_eq!(let_in(&fifth, "/all/2"), 478);
}

#[test]
fn what_is_let_in_while_another_starts_counts_once_there() {
    let app = Scripted::plain("app");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&document(app.address)))));
    let giver = started(&[&node]);
    let (http, is_over) = (giver.http, AtomicBool::new(false));
    let (taker, mut sum) = std::thread::scope(|scope| {
        let clients = [(); 3].map(|()| {
            scope.spawn(|| {
                let mut sum = 0;
                while !is_over.load(Ordering::SeqCst) && sum < 150 {
                    sum += usize::from(asks_at(http, "/all/1") == 200);
                    pause(Duration::from_millis(20));
                }
                sum
            })
        });
        let taker = started(&[&node]);
        is_over.store(true, Ordering::SeqCst);
        (taker, clients.map(|it| it.join().unwrap()).iter().sum::<usize>())
    });
    assert!(sum > 0 && debts(&taker, "taken") == 1, "{sum}");
    // Told is what was let in before a look: the second begins once all of it was.
    for _ in 0..2 {
        let before = value(&giver, TOLD);
        assert_eq!(asks(&giver, "/each"), 200);
        wait("it is told", || value(&giver, TOLD) > before);
    }
    wait("all is heard", || value(&giver, TOLD) == value(&taker, HEARD) + value(&taker, STRANGE));
    sum += let_in(&taker, "/all/2");
    assert_eq!(sum, 480);
}

/// A balancer of which gossip says that it has run for longest, and that says nothing by itself.
fn silent(seed: SocketAddr) -> (tokio::runtime::Runtime, Gossip) {
    let socket = UdpSocket::bind(ANY).unwrap();
    let record = PeerRecord {
        program: Program::Balancer,
        cluster: None,
        version: env!("CARGO_PKG_VERSION").into(),
        expect: 0,
        raft: RaftRole::None,
        generation: 1,
        ..record(99, socket.local_addr().unwrap())
    };
    let seeds = vec![Seed::parse(&seed.to_string()).unwrap()];
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gossip = GossipConfig { socket, seeds, nodes: vec![], keys, record };
    let gossip = runtime.block_on(Gossip::start(gossip)).unwrap();
    (runtime, gossip)
}

#[test]
fn where_one_says_nothing_another_is_asked_and_where_nobody_does_it_starts_all_the_same() {
    let app = Scripted::plain("app");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&document(app.address)))));
    let _silent = silent(node.peer);
    let begun = Instant::now();
    let first = started(&[&node]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(let_in(&first, "/each"), 3);
    assert_eq!((debts(&first, "taken"), value(&first, PEERS)), (0, 1));
    let second = started(&[&node]);
    assert_eq!((asks(&second, "/each"), debts(&second, "taken")), (429, 1));
}

/// It says of three requests that it let them in, again and again until that is heard, and of 470 that they were.
async fn gives(gossip: Gossip) {
    let mut said = gossip.hear().unwrap();
    let limit = Limit {
        rate: 20,
        per: Per::Hour,
        burst: 480,
        by: By::Route,
        scope: Scope::Cluster,
        is_shared: false,
    };
    let (id, step) = (limit.id("all"), limit.step());
    let counts = |to| {
        let entries = vec![Entry { limit: id, who: Who::Anybody, count: 3 }];
        exchange::Frame { from: 99, to, number: 1, body: exchange::Body::Counts(entries) }.encode()
    };
    let mut again = tokio::time::interval(Duration::from_millis(100));
    let mut unheard = None;
    loop {
        tokio::select! {
            _ = again.tick() => if let Some((at, to)) = unheard {
                gossip.say(at, &counts(to)).await;
            },
            Some((at, bytes)) = said.recv() => match Frame::decode(&bytes) {
                Ok(Frame { from, number, body: Body::Ask { place, until }, .. }) => {
                    let mut debts = Vec::new();
                    if place == 0 {
                        unheard = Some((at, from));
                        gossip.say(at, &counts(from)).await;
                        debts.push(Debt { limit: id, who: Who::Anybody, step, owed: 470 * step });
                    }
                    let body = Body::Page { place, next: until, debts };
                    gossip.say(at, &Frame { from: 99, to: from, number, body }.encode()).await;
                }
                _ => if let Ok(exchange::Frame { body: exchange::Body::Seen, .. }) = exchange::Frame::decode(&bytes) {
                    unheard = None;
                },
            },
        }
    }
}

#[test]
fn what_the_giver_is_yet_to_say_counts_on_top_of_what_it_gives_whichever_comes_first() {
    let app = Scripted::plain("app");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&document(app.address)))));
    let (runtime, gossip) = silent(node.peer);
    runtime.spawn(gives(gossip));
    let process = started(&[&node]);
    assert_eq!(debts(&process, "taken"), 1);
    wait("it hears the rest", || value(&process, HEARD) == 3);
    assert_eq!(let_in(&process, "/all"), 480 - 470 - 3);
}

/// One by itself, that keeps what it knows.
fn alone(folder: &Path, keys: &str) -> Process {
    let (state, keys) = (folder.join("state"), keys_are(folder, keys));
    let file = folder.join("gateway.json");
    let [state, file, keys] = [&state, &file, &keys].map(|it| it.to_str().unwrap());
    let process = Process::start(
        &[
            &["--http", ANY, "--admin", ANY, "--gateway", file, "--state", state][..],
            &["--cluster-key-file", keys],
        ]
        .concat(),
    );
    process.wait_ready();
    process
}

fn warnings(process: &Process) -> usize {
    process.began.lines().filter(|it| it.contains("\"WARN\"") && it.contains("--state")).count()
}

#[test]
fn one_that_is_alone_owes_after_a_restart_what_it_owed_before() {
    let app = Scripted::plain("app");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.json"), document(app.address)).unwrap();
    let kept = folder.path().join("state/debts.sealed");
    let keys = KeyRing::generate_line();
    let process = alone(folder.path(), &keys);
    ended(process);
    assert!(!kept.exists(), "nothing was owed");
    let process = alone(folder.path(), &keys);
    assert_eq!(["/alice", "/each", "/own"].map(|it| let_in(&process, it)), [4, 3, 2]);
    ended(process);
    assert!(kept.exists());
    let process = alone(folder.path(), &keys);
    assert_eq!(["/alice", "/each", "/own"].map(|it| asks(&process, it)), [429; 3]);
    assert_eq!((debts(&process, "read"), warnings(&process)), (3, 0));
    assert!(!kept.exists(), "it is right once");
    ended(process);
    // Damaged, or another cluster's: as if it were not there, which is said once.
    let bytes = std::fs::read(&kept).unwrap();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let other = KeyRing::generate_line();
    for (bytes, keys) in [(&damaged, &keys), (&bytes[..9].to_vec(), &keys), (&bytes, &other)] {
        std::fs::write(&kept, bytes).unwrap();
        let process = alone(folder.path(), keys);
        assert_eq!(warnings(&process), 1, "{}", process.began);
        assert_eq!([let_in(&process, "/each"), debts(&process, "read") as usize], [3, 0]);
    }
    std::fs::write(&kept, &bytes).unwrap();
    let process = alone(folder.path(), &keys);
    assert_eq!(asks(&process, "/each"), 429);
}

#[test]
fn one_that_takes_anothers_place_in_a_cluster_reads_what_that_one_kept() {
    let app = Scripted::plain("app");
    let folder = tempfile::tempdir().unwrap();
    let state_at = folder.path().join("state");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&document(app.address)))));
    let start = || {
        let process = balancer(&[&node], &["--state", state_at.to_str().unwrap()]);
        process.wait_ready();
        process
    };
    let first = start();
    assert_eq!(["/alice", "/own"].map(|it| let_in(&first, it)), [4, 2]);
    ended(first);
    let second = start();
    assert_eq!(["/alice", "/own"].map(|it| asks(&second, it)), [429; 2]);
    assert_eq!((debts(&second, "read"), debts(&second, "taken")), (2, 0));
    assert!(ask(second.admin, "/readyz").starts_with("HTTP/1.1 200"));
}
