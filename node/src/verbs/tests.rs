//! The verbs against the admin API over a fake node.

use std::net::SocketAddr;

use serde_json::Value;
use skep_console::client::ClientError;
use skep_members::key::KeyRing;
use skep_state::task::{NewTask, Policy, TaskClaim, TaskOp, TaskOutcome, When};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::api::fake::{Fake, NODE_ID};
use crate::api::{Tokens, admin_app};
use crate::config::{HealthOf, TasksVerb};
use crate::http::{ServeLimits, Stage, serve};
use crate::kinds::served::TaskApi as _;
use crate::telemetry::Metrics;

struct Node {
    admin: SocketAddr,
    fake: Fake,
    _stage: watch::Sender<Stage>,
}

async fn node() -> Node {
    let fake = Fake::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap();
    let (stage, stages) = watch::channel(Stage::Serving);
    let app = admin_app(fake.clone(), Tokens::default(), &Metrics::new());
    tokio::spawn(serve(listener, app, ServeLimits::default(), stages));
    Node { admin, fake, _stage: stage }
}

async fn said(verb: Verb) -> Result<String, VerbError> {
    let mut out = Vec::new();
    carry_out(verb, &mut out).await.map(|()| String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn members_and_peers_are_aligned_tables_or_json() {
    let admin = node().await;
    let members = said(Verb::Members { admin: admin.admin, json: false }).await.unwrap();
    assert_eq!(
        members,
        "ID                ROLE  STATE  RAFT    HTTP            PEER            VERSION\n\
         00000000000000a1  node  ready  leader  127.0.0.1:8080  127.0.0.1:7400  0.1.0\n"
    );
    let peers = said(Verb::Peers { admin: admin.admin, json: false }).await.unwrap();
    assert_eq!(
        peers,
        "ID                ROLE    STATE  MATCHED  LAG  ADDRESS\n\
         00000000000000a1  leader  live   7        0    -\n"
    );
    let clocks = said(Verb::Clock { admin: admin.admin, json: false }).await.unwrap();
    assert_eq!(
        clocks,
        "ID                OFFSET_MS\n\
         00000000000000a1  -12\n\
         no majority of the voters' clocks agrees: nothing is dropped by age\n"
    );
    let members = said(Verb::Members { admin: admin.admin, json: true }).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&members).unwrap()["node_id"], NODE_ID);
}

#[tokio::test]
async fn health_is_an_exit_status() {
    let node = node().await;
    let health = |of| Verb::Health { admin: node.admin, of, json: false };
    assert_eq!(said(health(HealthOf::Ready)).await.unwrap(), "ready\n");
    assert_eq!(run("skep-node", health(HealthOf::Ready)).await, ExitCode::SUCCESS);
    node.fake.state.lock().unwrap().not_ready = Some("lagging".into());
    assert_eq!(said(health(HealthOf::Ready)).await.unwrap_err().to_string(), "not ready: lagging");
    assert_eq!(run("skep-node", health(HealthOf::Ready)).await, ExitCode::FAILURE);
    assert_eq!(said(health(HealthOf::Started)).await.unwrap(), "started\n");
    node.fake.state.lock().unwrap().not_started = Some("joining".into());
    assert_eq!(said(health(HealthOf::Started)).await.unwrap_err().to_string(), "not started: joining");
    assert_eq!(run("skep-node", health(HealthOf::Live)).await, ExitCode::SUCCESS);
}

#[tokio::test]
async fn without_a_node_there_the_error_says_where_it_was_looked_for() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = said(Verb::Members { admin: free, json: false }).await.unwrap_err().to_string();
    assert!(error.contains(&free.to_string()) && error.contains("SKEP_ADMIN"), "{error}");
    assert_eq!(
        run("skep-node", Verb::Health { admin: free, of: HealthOf::Live, json: false }).await,
        ExitCode::FAILURE
    );
}

#[tokio::test]
async fn leadership_is_handed_over_and_a_node_is_removed() {
    let node = node().await;
    let admin = node.admin;
    let to = Some("00000000000000c3".parse().unwrap());
    let answer = said(Verb::TransferLeader { admin, to, json: false }).await.unwrap();
    assert_eq!(answer, "00000000000000c3 leads now\n");
    let answer = said(Verb::TransferLeader { admin, to: None, json: true }).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["leader"], "00000000000000b2");
    let to = Some(NODE_ID.parse().unwrap());
    let error = said(Verb::TransferLeader { admin, to, json: false }).await.unwrap_err();
    assert!(error.to_string().contains("leads already"));
    let id = "00000000000000c3".parse().unwrap();
    let answer = said(Verb::ForceLeave { admin, id, json: false }).await.unwrap();
    assert_eq!(answer, "00000000000000c3 is out of the cluster\n");
    assert_eq!(node.fake.state.lock().unwrap().removed, [id]);
}

#[tokio::test]
async fn the_time_of_what_is_written_is_looked_at_and_set_back_where_that_is_confirmed() {
    let node = node().await;
    let mend = |shown_ms, json| Verb::MendTime { admin: node.admin, shown_ms, json };
    for _ in 0..2 {
        let told = said(mend(None, false)).await.unwrap();
        assert!(told.contains("2024-01-13T22:13:20.000Z, ahead of 2023-11-14T22:13:20.000Z"), "{told}");
        assert!(told.contains("; 3 messages"), "{told}");
        assert!(told.contains(" --yes --agreed 2023-11-14T22:13:20.000Z "), "{told}");
    }
    let agreed = 1_700_000_000_000;
    // Clocks that have come to agree on another time since, and one that somebody looked at long ago.
    for other in [agreed + AHEAD_MS_MAX + 1, agreed - SHOWN_MS_MAX - 1, 0, u64::MAX] {
        let told = said(mend(Some(other), false)).await.unwrap_err().to_string();
        assert!(told.contains("agree on 2023-11-14T22:13:20.000Z by now"), "{told}");
    }
    assert!(!node.fake.state.lock().unwrap().is_time_mended);
    let shown = Some(agreed - SHOWN_MS_MAX);
    let told: Value = serde_json::from_str(&said(mend(shown, true)).await.unwrap()).unwrap();
    assert_eq!((&told["mended"], &told["ahead"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(said(mend(None, false)).await.unwrap().contains("nothing to mend"));
    assert!(said(mend(shown, false)).await.unwrap_err().to_string().contains("not ahead"));
}

#[tokio::test]
async fn a_snapshot_that_breaks_off_or_is_none_leaves_no_file() {
    let node = node().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.snap");
    for fails in [true, false] {
        // The fake's bytes are no snapshot: the check before the file gets its name finds out.
        node.fake.state.lock().unwrap().snapshot_fails = fails;
        let verb = SnapshotVerb::Save { admin: node.admin, file: file.clone(), json: false };
        assert!(said(Verb::Snapshot(verb)).await.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_save_never_overwrites_and_a_restore_checks_the_file_first() {
    let node = node().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.snap");
    std::fs::write(&file, "precious").unwrap();
    let save = SnapshotVerb::Save { admin: node.admin, file: file.clone(), json: false };
    assert!(said(Verb::Snapshot(save)).await.unwrap_err().to_string().contains("there already"));
    let restore = SnapshotVerb::Restore { admin: node.admin, file: file.clone(), json: false };
    assert!(said(Verb::Snapshot(restore)).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(node.fake.state.lock().unwrap().restored.is_empty());
}

#[tokio::test]
async fn keygen_prints_a_key_that_is_one_and_never_the_same() {
    let first = said(Verb::Keygen { json: false }).await.unwrap();
    let second = said(Verb::Keygen { json: true }).await.unwrap();
    let second: Value = serde_json::from_str(&second).unwrap();
    for key in [first.as_str(), second["key"].as_str().unwrap()] {
        assert!(KeyRing::parse(key).is_ok());
    }
    assert_ne!(first.trim(), second["key"]);
}

#[tokio::test]
async fn both_keys_are_printed_as_one_belongs_to_the_other() {
    let made = said(Verb::Keygen { json: true }).await.unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let keys = KeyRing::parse(made["key"].as_str().unwrap()).unwrap();
    let derived = said(Verb::EdgeKey { keys, json: false }).await.unwrap();
    assert_eq!(derived.trim(), made["edge_key"]);
    assert!(derived.starts_with("skep1-edge:"));
}

#[tokio::test]
async fn the_workers_token_is_that_of_the_first_key_and_shows_no_key() {
    let [key, old] = [(); 2].map(|()| KeyRing::generate_line());
    let verb = |text: &str, json| Verb::WorkerToken { keys: KeyRing::parse(text).unwrap(), json };
    let token = said(verb(&format!("{key}\n{old}\n"), false)).await.unwrap();
    let json: Value = serde_json::from_str(&said(verb(&key, true)).await.unwrap()).unwrap();
    assert_eq!((json["token"].as_str(), token.trim().len()), (Some(token.trim()), 64));
    assert!(!key.contains(token.trim()));
    let edge = KeyRing::parse(&key).unwrap().edge_lines().remove(0);
    assert!(matches!(said(verb(&edge, false)).await, Err(VerbError::Refused(_))));
}

#[tokio::test]
async fn a_consumers_key_is_made_anew_each_time_and_printed_with_what_is_kept_of_it() {
    let verb = |name: &str, json| Verb::MakeKey { consumer: name.into(), json };
    let made = said(verb("alice", false)).await.unwrap();
    let (key, kept) = made.trim().split_once('\n').unwrap();
    assert!(key.starts_with("skp_") && !kept.contains(key), "{made}");
    let digest = skep_gateway::auth::digest_of_given(key).unwrap();
    let kept: Value = serde_json::from_str(kept).unwrap();
    assert_eq!(kept["keys"][0]["key"], digest.kept());
    let again: Value = serde_json::from_str(&said(verb("alice", true)).await.unwrap()).unwrap();
    assert_ne!(again["key"], key);
    assert!(matches!(said(verb("a b", false)).await, Err(VerbError::Refused(_))));
}

#[tokio::test]
async fn recovery_wants_to_be_confirmed() {
    let verb = Verb::Recover { data: "/nonexistent".into(), yes: false, json: false };
    assert!(said(verb).await.unwrap_err().to_string().contains("--yes"));
}

async fn change(fake: &Fake, op: TaskOp) -> TaskOutcome {
    fake.change_tasks(op, None).await.unwrap().0
}

#[tokio::test]
async fn queues_tasks_and_workers_are_aligned_tables_or_json() {
    let node = node().await;
    let show = |verb, json| said(Verb::Tasks { admin: node.admin, verb, json });
    let task = NewTask {
        queue: "mail".into(),
        kind: "welcome\u{1b}[2J".into(),
        payload: "1".into(),
        priority: 5,
        when: When::After { delay_ms: 0 },
        policy: Policy::default(),
        unique: None,
        key: None,
    };
    change(&node.fake, TaskOp::Put { nonce: 1, tasks: vec![task.clone(), task] }).await;
    let claim = TaskClaim {
        queues: vec!["mail".into()],
        worker: "w1".into(),
        number: 1,
        max: 1,
        holds: Vec::new(),
        closes: true,
    };
    change(&node.fake, TaskOp::Claim(claim)).await;

    let queues = show(TasksVerb::Queues, false).await.unwrap();
    let lines: Vec<&str> = queues.lines().collect();
    assert!(lines[0].starts_with("QUEUE  READY  DUE  ACTIVE  DEAD  PUT  DONE"), "{queues}");
    assert!(lines[1].starts_with("mail       1    0       1     0    2     0"), "{queues}");
    let listed = |state: Option<&str>, limit| TasksVerb::Tasks {
        queue: "mail".into(),
        state: state.map(str::to_owned),
        limit,
        after: None,
    };
    let tasks = show(listed(None, 1), false).await.unwrap();
    assert!(
        tasks.contains("active") && tasks.contains("welcome\u{fffd}[2J") && tasks.contains("w1"),
        "{tasks}"
    );
    assert!(tasks.contains("there are more: --after "), "{tasks}");
    let tasks = show(listed(Some("ready"), 100), true).await.unwrap();
    let tasks: Value = serde_json::from_str(&tasks).unwrap();
    assert_eq!((tasks["tasks"].as_array().unwrap().len(), &tasks["after"]), (1, &Value::Null));
    let workers = show(TasksVerb::Workers, false).await.unwrap();
    let line = workers.lines().nth(1).unwrap();
    assert!(line.starts_with("w1 ") && line.ends_with(" 1  mail"), "{workers}");
    let workers: Value = serde_json::from_str(&show(TasksVerb::Workers, true).await.unwrap()).unwrap();
    assert_eq!(workers["workers"][0]["holds"][0]["queue"], "mail");
}

#[tokio::test]
async fn a_node_is_asked_by_a_name_that_it_has() {
    let node = node().await;
    let export = |name: &str| Verb::Config {
        admin: name.parse().unwrap(),
        token: None,
        verb: crate::config::ConfigVerb::Export,
        json: true,
    };
    let refused = said(export(&format!("localhost:{}", node.admin.port()))).await.unwrap_err();
    assert!(
        matches!(refused, VerbError::Client(ClientError::Problem { .. })),
        "it asks for a token: {refused}"
    );
    let refused = said(export("nobody.invalid:9400")).await.unwrap_err();
    assert!(refused.to_string().contains("nobody.invalid:9400 has no address"), "{refused}");
}
