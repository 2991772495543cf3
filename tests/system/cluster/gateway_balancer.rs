//! The gateway's document from a node to a balancer: put at the one, in force at the other, also once all nodes are gone.

use hyper::Method;
use skep_kit::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::{PATIENCE, until};

const TOKEN: &str = "an-operators-token-for-tests";
const MOVED: &str =
    r#"{"routes":{"moved":{"match":{"path":"/moved"},"redirect":{"host":"elsewhere.test"}}}}"#;

/// Until the balancer obeys the document, which it answers by itself.
async fn is_in_force(balancer: &Balancer) {
    until("the document is in force at the balancer", PATIENCE, async || {
        let answer = balancer.client.get("/moved").await.ok()?;
        (answer.status == 302).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_at_a_node_is_in_force_at_a_balancer_and_stays_so_when_all_nodes_are_gone() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let file = cluster.folder().join("token");
    std::fs::write(&file, TOKEN).expect("the token's file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("its mode can be set");
    let file = file.to_str().expect("a plain path");
    cluster.args = ["--level-after", "200ms", "--operator-token-file", file].map(Into::into).into();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let state = cluster.folder().join("balancer-state");
    let state = ["--state", state.to_str().expect("a plain path")];
    let balancer = Balancer::start(&cluster, &state).await;
    assert_eq!(
        balancer.client.get("/moved").await.expect("an answer").status,
        404,
        "nothing is configured yet"
    );
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json"), ("if-none-match", "*")];
    until("the members agree", PATIENCE, async || {
        let admin = &cluster.node(1).admin;
        let answer = admin.send(Method::PUT, "/gateway", &headers, MOVED.into()).await.expect("an answer");
        assert!(matches!(answer.status, 201 | 503), "{answer:?}");
        (answer.status == 201).then_some(())
    })
    .await;
    is_in_force(&balancer).await;
    // A change that is answered once the balancer obeys it: the next request shows it.
    for host in ["first.test", "second.test"] {
        let moved = MOVED.replace("elsewhere.test", host);
        let headers =
            [("authorization", &*bearer), ("content-type", "application/json"), ("prefer", "wait=10")];
        let path = "/gateway/routes/moved";
        let route: serde_json::Value = serde_json::from_str(&moved).expect("JSON");
        let body = route["routes"]["moved"].to_string();
        let said = until("it is changed", PATIENCE, async || {
            let admin = &cluster.node(2).admin;
            let answer = admin.send(Method::PUT, path, &headers, body.clone().into()).await.ok()?;
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            // On a busy machine the node may take the balancer for dead for a moment.
            let said = (answer.status == 200).then(|| answer.json())?;
            (said["of"] == 1 && said["behind"].as_array()?.is_empty()).then_some(said)
        })
        .await;
        assert_eq!(said["seen_by"], 1, "{said}");
        let location = balancer.client.get("/moved").await.expect("an answer").header("location").to_owned();
        assert!(location.contains(host), "{location}");
    }
    let private = balancer.client.get("/-/gateway/watch").await.expect("an answer");
    assert_eq!(private.status, 404, "what nodes tell is for no client");
    until("its copy is written", PATIENCE, async || {
        let shown = balancer.admin.get("/gateway").await.ok()?.json();
        (shown["cluster"]["copied"] == 3).then_some(())
    })
    .await;
    // The nodes are gone, and then the balancer; it starts alone.
    cluster.kill_all();
    is_in_force(&balancer).await;
    drop(balancer);
    let balancer = Balancer::start(&cluster, &state).await;
    is_in_force(&balancer).await;
}
