//! Ready means able: who can serve nothing says so soon, and says soon that it can again.

use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::effort::{count, expect_under, machine_alone, measured};
use skep_kit::hosts::lan::{Lan, possible};
use skep_kit::hosts::nodes::on_hosts;
use skep_kit::wait::{PATIENCE, under_load_for, until};

/// Until a node that can serve nothing says so, and until one says that it can again.
const BAR: Duration = Duration::from_secs(3);

async fn until_ready(cluster: &Cluster, index: u8, ready: bool) -> Duration {
    let begun = Instant::now();
    let what = format!("node {index} is {}ready", if ready { "" } else { "not " });
    until(&what, PATIENCE, async || (cluster.node(index).is_ready().await == ready).then_some(())).await;
    begun.elapsed()
}

/// Breaks something about a follower, sees it say so, and mends it; what a client meets meanwhile.
async fn broken_and_mended(what: &str, cluster: &Cluster, follower: u8, set_broken: impl Fn(bool)) {
    set_broken(true);
    let out = until_ready(cluster, follower, false).await;
    let why = cluster.node(follower).admin.get("/readyz").await.expect("an answer").text();
    assert!(why.contains("answered this node"), "{what}: {why}");
    assert_eq!(cluster.node(follower).admin.get("/livez").await.expect("an answer").status, 200, "{what}");
    // Connections of before are given up meanwhile, and attempts at new ones get rarer.
    under_load_for(Duration::from_secs(count(4, 30))).await;
    assert!(!cluster.node(follower).is_ready().await, "{what}: it stays so");
    set_broken(false);
    let back = until_ready(cluster, follower, true).await;
    cluster.node(follower).http.put(what).await;
    measured(&format!("{what}: until it is not ready"), &[out]);
    measured(&format!("{what}: until it is ready again"), &[back]);
    expect_under("not ready", out, BAR);
    expect_under("ready again", back, BAR);
}

/// The follower after the leader, and the third.
async fn roles(cluster: &Cluster) -> (u8, u8, u8) {
    let leader = cluster.leader().await;
    (leader, leader % 3 + 1, (leader + 1) % 3 + 1)
}

fn at(index: u8) -> usize {
    usize::from(index) - 1
}

#[test]
fn a_follower_that_its_leader_alone_cannot_reach_is_not_ready() {
    if !possible("a follower cut off from its leader", &[]) {
        return;
    }
    let _machine = machine_alone();
    on_hosts(3, async |lan: &Lan, cluster: &mut Cluster| {
        let (leader, follower, third) = roles(cluster).await;
        let cut = |cut| lan.set_cut(at(leader), at(follower), cut);
        broken_and_mended("cut off from the leader alone", cluster, follower, cut).await;
        // Whatever led meanwhile, the others went on.
        cluster.node(third).http.put("the third").await;
    });
}

#[test]
fn a_follower_that_is_cut_off_from_all_is_not_ready() {
    if !possible("a follower cut off from all", &[]) {
        return;
    }
    let _machine = machine_alone();
    on_hosts(3, async |lan: &Lan, cluster: &mut Cluster| {
        let (leader, follower, third) = roles(cluster).await;
        let cut = |cut| {
            lan.set_cut(at(leader), at(follower), cut);
            lan.set_cut(at(third), at(follower), cut);
        };
        broken_and_mended("cut off from all", cluster, follower, cut).await;
    });
}

#[test]
fn a_follower_whose_words_do_not_reach_the_leader_is_not_ready() {
    if !possible("a follower that is not heard", &[]) {
        return;
    }
    let _machine = machine_alone();
    on_hosts(3, async |lan: &Lan, cluster: &mut Cluster| {
        let (leader, follower, _) = roles(cluster).await;
        let lost = |lost| lan.set_lost(at(follower), at(leader), lost);
        broken_and_mended("not heard by the leader", cluster, follower, lost).await;
    });
}

#[test]
fn a_follower_whose_peers_are_frozen_is_not_ready() {
    if !possible("frozen peers", &[]) {
        return;
    }
    let _machine = machine_alone();
    on_hosts(3, async |_: &Lan, cluster: &mut Cluster| {
        let (leader, follower, third) = roles(cluster).await;
        let frozen = |frozen| {
            for peer in [leader, third] {
                let node = cluster.node(peer);
                if frozen { node.pause() } else { node.resume() }
            }
        };
        broken_and_mended("peers frozen", cluster, follower, frozen).await;
    });
}

/// A learner asks for no votes, and so never finds by itself that its leader is gone.
#[test]
fn a_learner_whose_only_voter_is_killed_is_not_ready() {
    if !possible("a learner alone", &[]) {
        return;
    }
    let _machine = machine_alone();
    on_hosts(2, async |_: &Lan, cluster: &mut Cluster| {
        let leader = cluster.leader().await;
        let learner = 3 - leader;
        cluster.node_mut(leader).kill();
        let out = until_ready(cluster, learner, false).await;
        cluster.start(leader);
        cluster.wait_all_ready().await;
        cluster.node(learner).http.put("both are back").await;
        measured("its only voter killed: until it is not ready", &[out]);
        expect_under("not ready", out, BAR);
    });
}
