//! The watch of the gateway's document, over TLS with an edge key.

use std::time::Duration;

use skep_gateway::Kept;
use skep_gateway::purge::listed;
use skep_gateway::told::{Told, asking};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::settings::cluster_key_in;
use skep_members::tls::nodes_tls;
use skep_state::kinds::purges::KEPT_MAX;
use skep_state::shift::{Phase, Shift, ShiftOp};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::http::{TlsDoor, serve_behind};
use crate::kinds::gateway::{GatewayApi as _, WATCHES_MAX};
use crate::service::ServiceError;
use crate::service::secrets::{Secrets, Stored};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node's public address, which takes TLS and plain HTTP, and a key of those who may listen.
struct Door {
    served: Served,
    edge: KeyRing,
}

async fn door() -> Door {
    door_of(Fake::default()).await
}

async fn door_of(fake: Fake) -> Door {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let edge = KeyRing::parse(&keys.edge_lines().remove(0)).unwrap();
    let metrics = Metrics::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stage, stages) = watch::channel(Stage::Serving);
    let door = TlsDoor::new(Keys::of_node(keys.into()).unwrap(), true);
    let app = public_app(fake.clone(), clients(), &metrics);
    let done = tokio::spawn(serve_behind(door, listener, app, ServeLimits::default(), stages));
    Door { served: Served { address, fake, metrics, stage, done }, edge }
}

/// A balancer's end of a watch.
struct Listening(BufReader<TlsStream<TcpStream>>);

impl Door {
    /// Asks for a watch; the answer's head.
    async fn ask(&self) -> (String, Listening) {
        self.ask_with("").await
    }

    /// With this line in the head.
    async fn ask_with(&self, field: &str) -> (String, Listening) {
        self.ask_at("/-/gateway/watch", field).await
    }

    async fn ask_at(&self, target: &str, field: &str) -> (String, Listening) {
        let tls = nodes_tls(&self.edge).unwrap().for_http();
        let stream = TcpStream::connect(self.served.address).await.unwrap();
        let stream = TlsConnector::from(tls.client).connect(tls.server_name, stream).await.unwrap();
        let mut stream = BufReader::new(stream);
        let request = format!("GET {target} HTTP/1.1\r\nhost: node\r\n{field}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).await.unwrap() > 0, "{head}");
        }
        (head, Listening(stream))
    }

    async fn set(&self, document: &str) {
        self.store(Stored { document: Bytes::copy_from_slice(document.as_bytes()), keys: vec![] }).await;
    }

    async fn store(&self, stored: Stored) {
        let fake = &self.served.fake;
        let expect = *fake.newest_gateway().borrow();
        fake.set_gateway(expect, stored, "test".into()).await.unwrap();
    }
}

impl Listening {
    /// A chunk of the answer; none at its end.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.0.read_line(&mut size).await.unwrap();
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap() + 2];
        self.0.read_exact(&mut chunk).await.unwrap();
        chunk.truncate(chunk.len() - 2);
        (!chunk.is_empty()).then_some(chunk)
    }

    /// The next line.
    async fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.chunk().await.expect("a line"));
        }
        line
    }

    /// The next line that is no beat.
    async fn state(&mut self) -> (u64, Option<String>) {
        loop {
            let line = self.line().await;
            if let Told::State { revision, document, .. } = Told::decode(&line).unwrap() {
                return (revision, document.map(str::to_owned));
            }
        }
    }
}

#[tokio::test]
async fn a_balancer_is_told_the_state_at_once_and_after_each_change() {
    let door = door().await;
    let (head, mut listening) = door.ask().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("application/x-ndjson"), "{head}");
    assert_eq!(listening.state().await, (0, None), "nothing is configured");
    door.set("{}").await;
    assert_eq!(listening.state().await, (1, Some("{}".into())));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    door.set(&large).await;
    assert_eq!(listening.state().await, (2, Some(large.clone())));
    let (_, mut other) = door.ask().await;
    assert_eq!(other.state().await, (2, Some(large)), "who comes later is told as well");
    let line = listening.line().await;
    assert_eq!(Told::decode(&line).unwrap(), Told::Beat { revision: 2 });
}

#[tokio::test]
async fn a_balancer_is_told_secrets_open_and_the_same_revision_again_once_another_opens() {
    let [old, new] = [KeyRing::generate_line(), KeyRing::generate_line()];
    let of_old = Secrets::new(Some(Keys::of_node(KeyRing::parse(&old).unwrap().into()).unwrap()));
    let secret = "a hidden secret of thirty-two bytes";
    let given =
        format!(r#"{{"issuers":{{"i":{{"aud":"any","iss":"i","keys":[{{"secret":"{secret}"}}]}}}}}}"#);
    let stored = of_old.keep(&Kept::read(&given).unwrap(), &[], true).unwrap();
    // A node that has the other key alone.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.key");
    std::fs::write(&file, &new).unwrap();
    let keys = Keys::of_node(cluster_key_in(&file, "FILE").unwrap()).unwrap();
    let door = door_of(Fake::default().with_secrets(Secrets::new(Some(keys.clone())))).await;
    door.store(stored).await;
    let (_, mut listening) = door.ask().await;
    let (revision, document) = listening.state().await;
    let absent = document.unwrap();
    assert!(revision == 1 && !absent.contains("hidden") && !absent.contains("sealed"), "{absent}");
    assert!(Kept::read(&absent).is_ok(), "a balancer obeys it");
    std::fs::write(&file, format!("{new}\n{old}")).unwrap();
    keys.read_again().await;
    assert_eq!(listening.state().await, (1, Some(given)));
}

fn no_leader() -> ServiceError {
    ServiceError::Unavailable { detail: "no leader".into(), unprocessed: true }
}

#[tokio::test]
async fn a_node_that_no_leader_confirms_says_nothing_of_what_it_has() {
    let door = door().await;
    door.served.fake.fail(no_leader());
    let (head, _) = door.ask().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    door.served.fake.state.lock().unwrap().failure = None;
    let (head, mut listening) = door.ask().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(listening.state().await, (0, None));
}

#[tokio::test]
async fn a_node_that_loses_its_leader_gives_no_sign_of_life_and_sends_its_listeners_elsewhere() {
    let door = door().await;
    let (_, mut listening) = door.ask().await;
    listening.state().await;
    listening.line().await;
    door.served.fake.fail(no_leader());
    let mut beats = 0;
    let ending = async {
        while listening.chunk().await.is_some() {
            beats += 1;
        }
    };
    timeout(PATIENCE, ending).await.expect("it listens for ever");
    assert!(beats <= 3, "{beats} signs of life without a leader");
    let (head, _) = door.ask().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

#[tokio::test]
async fn a_node_that_finds_a_leader_in_time_keeps_its_listeners() {
    let door = door().await;
    let (_, mut listening) = door.ask().await;
    listening.state().await;
    door.served.fake.fail(no_leader());
    listening.line().await;
    door.served.fake.state.lock().unwrap().failure = None;
    for _ in 0..4 {
        let line = listening.line().await;
        assert_eq!(Told::decode(&line).unwrap(), Told::Beat { revision: 0 });
    }
}

#[tokio::test]
async fn there_are_only_so_many_listeners_and_one_that_leaves_makes_room() {
    let door = door().await;
    let mut all = Vec::new();
    for _ in 0..WATCHES_MAX {
        let (head, listening) = door.ask().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        all.push(listening);
    }
    let (head, _) = door.ask().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    drop(all);
    let asking = async { while !door.ask().await.0.starts_with("HTTP/1.1 200 ") {} };
    timeout(PATIENCE, asking).await.expect("there is no room again");
}

#[tokio::test]
async fn a_node_that_stops_sends_its_listeners_elsewhere() {
    let door = door().await;
    let (_, mut listening) = door.ask().await;
    listening.state().await;
    door.served.stage.send_replace(Stage::Draining);
    let ending = async { while listening.chunk().await.is_some() {} };
    timeout(PATIENCE, ending).await.expect("it listens on");
}

#[tokio::test]
async fn in_plain_text_nothing_is_told_also_where_both_are_taken() {
    let door = door().await;
    door.served.get("/-/gateway/watch").await.is_problem(ProblemKind::NoBalancer);
}

#[tokio::test]
async fn a_client_is_told_nothing_by_way_of_a_balancer() {
    let door = door().await;
    for field in [
        "X-Forwarded-For: 192.0.2.1",
        "x-forwarded-host: a.test",
        "x-forwarded-proto: https",
        "forwarded: for=192.0.2.1",
        "via: 1.1 b",
        "via:",
    ] {
        let (head, _) = door.ask_with(&format!("{field}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{field}: {head}");
    }
}

#[tokio::test]
async fn who_asks_for_purges_is_told_those_that_it_does_not_know_and_each_that_comes() {
    let door = door().await;
    let told = |line: &[u8]| match Told::decode(line).unwrap() {
        Told::Purges { cluster: 0, since, last, list } => {
            let numbers: Vec<u64> = listed(list).unwrap().iter().map(|(number, _)| *number).collect();
            (since, last, numbers)
        }
        other => panic!("{other:?}"),
    };
    let purge = async |what: &[u8]| drop(door.served.fake.purge(Bytes::copy_from_slice(what)).await);
    purge(b"{\"all\":true}").await;
    purge(b"\xff no json").await;
    // First of all, before the state.
    let (_, mut one) = door.ask_at(&asking((0, 1)), "").await;
    assert_eq!(told(&one.line().await), (1, 2, vec![2]));
    assert_eq!(one.state().await, (0, None));
    let (_, mut other) = door.ask_at(&asking((7, 1)), "").await;
    assert_eq!(told(&other.line().await), (2, 2, vec![]), "of another cluster it knows nothing");
    let (_, mut ahead) = door.ask_at(&asking((0, 9)), "").await;
    assert_eq!(told(&ahead.line().await), (2, 2, vec![]), "it knows more than this node");
    let (_, mut old) = door.ask().await;
    assert_eq!(old.state().await, (0, None), "who is of the version before is told of none");
    purge(b"{\"group\":\"a\"}").await;
    for listening in [&mut one, &mut other, &mut ahead] {
        loop {
            let line = listening.line().await;
            if !matches!(Told::decode(&line), Ok(Told::Purges { .. })) {
                continue;
            }
            assert_eq!(told(&line), (2, 3, vec![3]));
            break;
        }
    }
    for _ in 0..KEPT_MAX {
        purge(b"{\"all\":true}").await;
    }
    let (_, mut late) = door.ask_at(&asking((0, 2)), "").await;
    let last = KEPT_MAX as u64 + 3;
    assert_eq!(told(&late.line().await), (last, last, vec![]), "not all of them are kept");
}

#[tokio::test]
async fn shifts_that_are_open_are_told_behind_the_document_and_after_each_change() {
    let door = door().await;
    let fake = &door.served.fake;
    door.set("{}").await;
    let shift = || {
        let (from, to, abort) = ("blue".into(), "green".into(), "5xx>1%".into());
        Box::new(Shift { from, to, from_weight: 1, to_weight: 0, over_ms: 60_000, abort })
    };
    let (_, mut before) = door.ask().await;
    assert_eq!(before.state().await.0, 1);
    fake.change_shifts(ShiftOp::Begin { id: 7, after: 0, route: "web".into(), shift: shift() })
        .await
        .unwrap();
    let (_, mut later) = door.ask().await;
    assert_eq!(later.state().await.0, 1, "the document comes first");
    for listening in [&mut before, &mut later] {
        assert_eq!(listening.shifts().await, (1, vec![("web".into(), 0)]));
    }
    fake.change_shifts(ShiftOp::Step { id: 7, route: "web".into(), share: 100 }).await.unwrap();
    assert_eq!(before.shifts().await, (2, vec![("web".into(), 100)]));
    let end = ShiftOp::End { id: 7, route: "web".into(), phase: Phase::Back, why: String::new() };
    fake.change_shifts(end).await.unwrap();
    assert_eq!(before.shifts().await, (3, vec![]));
}

impl Listening {
    /// The next line of shifts: how far they are, and the share of each.
    async fn shifts(&mut self) -> (u64, Vec<(String, u32)>) {
        loop {
            let line = self.line().await;
            if let Told::Shifts { at, shifts } = Told::decode(&line).unwrap() {
                let shifts = skep_gateway::shift::read_told(shifts).unwrap();
                return (at, shifts.into_iter().map(|it| (it.route, it.share)).collect());
            }
        }
    }
}
