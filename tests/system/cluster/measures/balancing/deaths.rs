//! Nodes that leave in order, and nodes that are killed, under load from wrk and h2load.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use tokio::time::interval;

use skep_kit::clients::http::Client;
use skep_kit::clients::tools::{Tool, h2load_result, wrk_result};
use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{count, machine_alone, say};
use skep_kit::programs::installed;
use skep_kit::wait::under_load_for;

/// Between one node's end and the next one's.
const TURN: Duration = Duration::from_secs(10);
/// Between two HEAD requests.
const HEAD_INTERVAL: Duration = Duration::from_millis(5);

/// GET and `POST /messages` in turn; every 50th request a write of the text where `writes`. No HEAD:
/// wrk would wait for a body.
fn script(folder: PathBuf, digest: &str, writes: bool) -> PathBuf {
    let path = folder.join("requests.lua");
    let text = format!(
        r#"
local n = 0
local json = {{ ["content-type"] = "application/json" }}
local plain = {{ ["content-type"] = "text/plain" }}
math.randomseed(os.time())
local run = math.random(1, 1000000000)
request = function()
    n = n + 1
    if {writes} and n % 50 == 0 then return wrk.format("POST", "/write", plain, "text " .. n) end
    local kind = n % 3
    if kind == 0 then return wrk.format("POST", "/messages", json, '{{"message":"' .. run .. ' ' .. n .. '"}}') end
    if kind == 1 then return wrk.format("GET", "/read") end
    return wrk.format("GET", "/messages/{digest}")
end
"#
    );
    std::fs::write(&path, text).expect("the script can be written");
    path
}

/// HEAD requests, one after another: how many were answered well, and what else came.
async fn ask_heads(client: Client, path: String, over: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (mut answered, mut wrong) = (0, Vec::new());
    let mut pace = interval(HEAD_INTERVAL);
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        match client.send(Method::HEAD, &path, &[], Bytes::new()).await {
            Ok(answer) if answer.status == 200 => answered += 1,
            other => wrong.push(format!("{other:?}")),
        }
    }
    (answered, wrong)
}

/// Loads the balancer while `end` is done to one node after another, each started again after.
async fn no_request_fails(what: &str, writes: bool, end: impl AsyncFn(&mut Cluster, u8)) {
    if !installed(what, &["wrk", "h2load"]) {
        return;
    }
    let _machine = machine_alone();
    let duration = count(TURN * 2, Duration::from_secs(300));
    let mut cluster = Cluster::ready(3).await;
    let (digest, _) = cluster.node(1).http.put("here").await;
    let text =
        cluster.node(1).http.send(Method::POST, "/write", &[("content-type", "text/plain")], "text".into());
    assert!((200..300).contains(&text.await.expect("an answer").status));
    let balancer = Balancer::start(&cluster, &[]).await;
    let script = script(cluster.folder().to_owned(), &digest, writes);
    let h1 = Tool::wrk(&format!("http://{}", balancer.http), 32, duration, &script);
    let https = |path: &str| format!("https://{}{path}", balancer.https);
    let h2 = Tool::h2load(&[https(&format!("/messages/{digest}")), https("/read")], 4, duration);
    let over = Arc::new(AtomicBool::new(false));
    let heads = tokio::spawn(ask_heads(balancer.client.clone(), format!("/messages/{digest}"), over.clone()));
    let begun = Instant::now();
    let mut ended = 0;
    // The last one is back before the load is over.
    while begun.elapsed() + TURN <= duration {
        let turn = Instant::now();
        under_load_for(TURN / 5).await;
        let node = (ended % 3 + 1) as u8;
        end(&mut cluster, node).await;
        cluster.start(node);
        cluster.node_mut(node).wait_ready().await;
        ended += 1;
        under_load_for(TURN.saturating_sub(turn.elapsed())).await;
    }
    let (h1, h2) = (h1.finish().await, h2.finish().await);
    over.store(true, Ordering::Relaxed);
    let (heads, wrong_heads) = heads.await.expect("who asks does not panic");
    let (requests, wrong) = wrk_result(&h1);
    let (streams, wrong_h2) = h2load_result(&h2);
    say(&format!(
        "measure: {what}: {ended} times in {} s, {requests} requests of wrk, {streams} of h2load, {heads} HEAD; \
         failed: {wrong:?} {wrong_h2:?} {wrong_heads:?}",
        duration.as_secs(),
    ));
    assert!(requests > 1000 && streams > 1000 && heads > 100, "{h1}\n{h2}");
    assert!(wrong.is_empty() && wrong_h2.is_empty() && wrong_heads.is_empty(), "{h1}\n{h2}");
    drop(balancer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_leave_in_order_fail_no_request() {
    no_request_fails("SIGTERM to one node after another", true, async |cluster, node| {
        cluster.node_mut(node).stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_fail_no_request_that_may_be_repeated() {
    no_request_fails("SIGKILL to one node after another", false, async |cluster, node| {
        cluster.node_mut(node).kill();
    })
    .await;
}
