//! The public API through the balancer, as its clients and its own document have it.

use std::time::Duration;

use tokio::process::Command;

use skep_kit::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{count, figure, left_out, machine_shared, say};
use skep_kit::folders::root;
use skep_kit::wait::until;

/// What `scripts/check-api` ends with where a tool cannot be had.
const NOTHING_CHECKED: i32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_python_clients_and_schemathesis_find_the_api_as_its_document_says() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    // So that it has tasks.
    cluster.args = vec!["--level-after".into(), "200ms".into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=3 {
        until("the members agree to tasks", Duration::from_secs(30), async || {
            let metrics = cluster.node(node).admin.get("/metrics").await.ok()?.text();
            metrics.lines().any(|line| line.starts_with("skep_store_level 7")).then_some(())
        })
        .await;
    }
    let balancer = Balancer::start(&cluster, &[]).await;
    let seconds = count(Duration::from_secs(75), Duration::from_secs(1800)).as_secs();
    let output = Command::new(root().join("scripts/check-api"))
        .args([format!("http://{}", balancer.http), seconds.to_string()])
        .kill_on_drop(true)
        .output()
        .await
        .expect("scripts/check-api can be run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(NOTHING_CHECKED) {
        left_out("the API as its clients have it", err.trim());
        return;
    }
    assert!(output.status.success(), "{out}\n{err}");
    for line in err.lines().filter(|line| line.starts_with("left out: ")) {
        say(line);
    }
    for line in out.lines().filter(|line| line.contains("generated") || line.contains("passed")) {
        figure(&format!("schemathesis for {seconds} s"), line.trim());
    }
}
