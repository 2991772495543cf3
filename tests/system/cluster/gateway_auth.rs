//! Consumers in a cluster: a document with keys is put at a node, what comes back is what is kept of them, and at a
//! balancer they open what they are for.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use skep_kit::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, run_to_end};
use skep_kit::wait::{PATIENCE, until};

use crate::gateway::{change, cluster, first};

const TOKEN: &str = "an-operators-token-for-tests";
const KEY: &str = "alice-has-this-key-0001";
/// Its SHA-256.
const KEPT: &str = "sha256:1080f0fabce344553ec61cef3be05d518d6b19eff7f31b1d9ce56a86c663fc01";

fn document(keys: &str) -> String {
    format!(
        r#"{{"consumers":{{"alice":{{"groups":["staff"],"keys":[{keys}]}}}},"routes":{{"closed":{{"auth":{{"groups":["staff"],"keys":true}},"match":{{"path":"/closed"}},"redirect":{{"path":"/x"}}}}}}}}"#
    )
}

/// What an operator's program says, and all that the node shows of the document.
async fn shown(cluster: &Cluster) -> String {
    let bearer = format!("Bearer {TOKEN}");
    let mut all = String::new();
    for path in ["/gateway", "/gateway/consumers/alice", "/gateway/history", "/metrics"] {
        let admin = &cluster.node(1).admin;
        let answer = admin.send(Method::GET, path, &[("authorization", &*bearer)], "".into()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        all += &answer.text();
    }
    let mut command = programs::node();
    let admin = cluster.node(1).admin.address.to_string();
    command.args(["config", "export"]).env("SKEP_ADMIN", admin).env("SKEP_OPERATOR_TOKEN", TOKEN);
    all + &run_to_end(&mut command, "", Duration::from_secs(30)).stdout
}

/// What the balancer answers to who sends this key.
async fn asked(balancer: &Balancer, key: &str) -> u16 {
    let headers = [("x-api-key", key)];
    let answer = balancer.client.send(Method::GET, "/closed", &headers, "".into()).await;
    answer.map_or(0, |answer| answer.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_put_at_a_node_opens_a_route_and_is_shown_by_nobody() {
    let _machine = machine_shared();
    let cluster = cluster(1).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let tag = first(&cluster, &document(&format!("\"{KEY}\""))).await;
    until("the key opens the route", PATIENCE, async || (asked(&balancer, KEY).await == 302).then_some(()))
        .await;
    assert_eq!(asked(&balancer, "somebody-has-another-1").await, 401);
    assert_eq!(asked(&balancer, KEPT).await, 401, "what is kept of a key is none");
    let shown = shown(&cluster).await + &cluster.node(1).log_text() + &balancer.log_text();
    assert!(shown.contains(KEPT) && !shown.contains(KEY), "{shown}");

    // What came out says the same, and so does the key, given again.
    let admin = &cluster.node(1).admin;
    let kept = format!(r#"{{"key":"{KEPT}","label":"1080f0fabce3"}}"#);
    for same in [document(&kept), document(&format!("\"{KEPT}\"")), document(&format!("\"{KEY}\""))] {
        let answer = change(admin, "/gateway", ("if-match", &tag), &same).await;
        assert_eq!((answer.status, answer.header("etag")), (200, &*tag), "{answer:?}");
    }

    // One that is made here is added, and the other taken away.
    let mut make = programs::node();
    make.args(["config", "key", "alice", "--json"]);
    let made = run_to_end(&mut make, "", Duration::from_secs(30));
    let made: Value = serde_json::from_str(&made.stdout).expect("JSON");
    let next = made["key"].as_str().expect("a key").to_owned();
    let object = format!(r#"{{"groups":["staff"],"keys":{}}}"#, made["kept"]["keys"]);
    let answer = change(admin, "/gateway/consumers/alice", ("x-any", "1"), &object).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    until("the next key is in force", PATIENCE, async || {
        (asked(&balancer, &next).await == 302).then_some(())
    })
    .await;
    assert_eq!(asked(&balancer, KEY).await, 401, "what was taken away opens nothing");

    let short =
        change(admin, "/gateway/consumers/bob", ("x-any", "1"), r#"{"keys":["too-short-key"]}"#).await;
    let problem: Value = serde_json::from_str(&short.text()).expect("JSON");
    assert_eq!((short.status, &problem["faults"][0]["pointer"]), (422, &"/consumers/bob/keys/0".into()));
    assert!(!short.text().contains("too-short-key"), "{short:?}");
    let taken =
        change(admin, "/gateway/consumers/bob", ("x-any", "1"), &format!(r#"{{"keys":["{next}"]}}"#)).await;
    assert_eq!(taken.status, 409, "{taken:?}");
}
