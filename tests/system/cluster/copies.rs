//! How many disks an acknowledged write is on, while nodes stop in order, die, and lose their folders.

use std::time::{Duration, Instant};

use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::verify;
use skep_kit::effort::{machine_shared, measured};
use skep_kit::wait::{holds_for, until};
use skep_kit::{Client, Cluster, Load, LoadOptions, Targets};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than an election takes, and than a leader goes on after its last word from a quorum.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// Tries one write, and gives up soon.
async fn is_acknowledged(node: &Client) -> bool {
    let impatient = node.with_timeout(Duration::from_secs(1));
    matches!(impatient.post_message(&unique_text(40)).await, Ok(answer) if matches!(answer.status, 200 | 201))
}

async fn nothing_is_acknowledged(node: &Client) {
    holds_for("no write is acknowledged", LONG_ENOUGH, async || {
        if is_acknowledged(node).await { Err("one was, by one disk".into()) } else { Ok(()) }
    })
    .await;
}

async fn until_acknowledged(what: &str, node: &Client) {
    let begun = Instant::now();
    until(what, PATIENCE, async || is_acknowledged(node).await.then_some(())).await;
    measured(what, &[begun.elapsed()]);
}

/// As a rolling upgrade does it, on the way to the second node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_of_three_is_away_in_order_each_write_is_on_two_disks() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader().await;
    let others: Vec<u8> = (1..=3).filter(|node| *node != leader).collect();
    let [away, stays] = others[..] else { unreachable!("three nodes") };
    let targets = Targets::new(vec![cluster.node(leader).http.clone(), cluster.node(stays).http.clone()]);
    let load = Load::start(&targets, LoadOptions::default());
    load.wait_acked(50, PATIENCE).await;
    cluster.node_mut(away).stop().await;
    load.wait_acked(200, PATIENCE).await;
    let ledger = load.stop().await;
    ledger.expect_no_failure("writes while a voter stopped in order");
    let left = cluster.node(stays).http_text();
    cluster.wait_views("it is away, and a voter", PATIENCE, |view| view.voters() == 3).await;

    // The host of the leader is lost, with its disk. Of what was acknowledged nothing is.
    cluster.node_mut(leader).kill();
    std::fs::remove_dir_all(&cluster.node(leader).settings.data).expect("the folder can be removed");
    nothing_is_acknowledged(&cluster.node(stays).http).await;
    cluster.start(away);
    let what = format!("{left} acknowledges again once the one that was away is back");
    until_acknowledged(&what, &cluster.node(stays).http).await;
    cluster.node_mut(away).wait_ready().await;
    verify(&cluster.clients(), &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_away_and_one_dead_writes_go_on_as_soon_as_either_is_back() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    for back_first in ["the one that died", "the one that stopped"] {
        cluster
            .wait_views("three voters, all there", PATIENCE, |view| {
                view.voters() == 3 && view.members.iter().filter(|member| member.is_ready()).count() == 3
            })
            .await;
        cluster.node_mut(3).stop().await;
        cluster.node_mut(2).kill();
        nothing_is_acknowledged(&cluster.node(1).http).await;
        let (first, second) = if back_first == "the one that died" { (2, 3) } else { (3, 2) };
        cluster.start(first);
        until_acknowledged(&format!("writes once {back_first} is back"), &cluster.node(1).http).await;
        cluster.start(second);
        cluster.wait_all_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_are_two_voters_and_either_may_stop_in_order() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(2).await;
    cluster.wait_views("two voters", PATIENCE, |view| view.voters() == 2).await;
    cluster.node_mut(2).kill();
    nothing_is_acknowledged(&cluster.node(1).http).await;
    cluster.start(2).wait_ready().await;
    until_acknowledged("writes once the second of two is back", &cluster.node(1).http).await;
    for (stops, stays) in [(2, 1), (1, 2)] {
        cluster.node_mut(stops).stop().await;
        until_acknowledged("the one that stays goes on alone", &cluster.node(stays).http).await;
        cluster.wait_views("one voter", PATIENCE, |view| view.voters() == 1).await;
        cluster.start(stops).wait_ready().await;
        cluster.wait_views("two voters again", PATIENCE * 2, |view| view.voters() == 2).await;
    }
}

/// A host that is drained: its task comes up elsewhere, with another folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_away_gives_its_place_to_a_new_node() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3, 4]);
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let gone = cluster.node(3).http_text();
    cluster.node_mut(3).stop().await;
    cluster.start(4).wait_ready().await;
    let new = cluster.node(4).http_text();
    cluster
        .wait_views("the new one votes in its place", PATIENCE, |view| {
            let votes = |http: &str| view.member_at(http).is_some_and(|member| member.is_voter());
            view.voters() == 3 && votes(&new) && !votes(&gone)
        })
        .await;
}
