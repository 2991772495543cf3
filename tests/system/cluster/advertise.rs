//! Nodes that tell the others an address at which nobody finds them.

use std::time::Duration;

use skep_kit::effort::machine_shared;
use skep_kit::wait::{holds_for, until};
use skep_kit::{Cluster, Load, LoadOptions, Node, Targets};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a learner takes to be promoted, and than an orchestrator takes between two looks.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// It says why it is not ready, and goes on not to have started.
async fn is_never_taken_in(node: &Node, leader: &Node, wrong: &str, was_voter: bool) {
    let told = async || {
        let answer = node.admin.get("/readyz").await.ok()?;
        let text = answer.text();
        (answer.status == 503 && text.contains(wrong) && text.contains("--advertise")).then_some(())
    };
    until("it names the address", PATIENCE, told).await;
    let id = node.wait_status().await.node_id;
    holds_for("nobody counts on it", LONG_ENOUGH, async || {
        for path in ["/readyz", "/startedz"] {
            let answer = node.admin.get(path).await.map_err(|error| format!("{error:?}"))?;
            if answer.status != 503 {
                return Err(format!("{path}: {} {}", answer.status, answer.text()));
            }
        }
        let status = leader.status().await.ok_or("no status")?;
        let votes = status.members.iter().any(|member| member.id == id && member.is_voter());
        if votes && !was_voter { Err("it votes".into()) } else { Ok(()) }
    })
    .await;
}

/// It would work for as long as it dials the others first: connections are used in both directions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_reaches_at_its_address_is_not_ready_and_says_why() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let targets = Targets::new(vec![cluster.node(1).http.clone(), cluster.node(2).http.clone()]);
    let load = Load::start(&targets, LoadOptions { writers: 2, ..LoadOptions::default() });
    load.wait_acked(20, PATIENCE).await;

    let wrong = cluster.subnet().peer(99).to_string();
    let advertise = ["--advertise".to_owned(), wrong.clone()];
    // One that was a voter, and stays one; and one that never was.
    cluster.node_mut(3).stop().await;
    for index in [3, 4] {
        if index == 4 {
            let settings = cluster.settings(4);
            cluster.add(4, settings);
        }
        cluster.node_mut(index).settings.args.extend(advertise.clone());
        cluster.start(index);
        is_never_taken_in(cluster.node(index), cluster.node(1), &wrong, index == 3).await;
        cluster.node_mut(index).stop().await;
        cluster.node_mut(index).settings.args.clear();
        cluster.start(index).wait_ready().await;
    }
    load.stop().await.expect_no_failure("writes while others told a wrong address");
}
