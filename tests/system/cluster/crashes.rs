//! All nodes die at random moments and come back: nothing acknowledged is lost.

use std::time::Duration;

use skep_kit::clients::oracle::{list, verify};
use skep_kit::cluster::node::Settings;
use skep_kit::effort::{count, machine_shared, say};
use skep_kit::random::Random;
use skep_kit::wait::{PATIENCE, under_load_for, until};
use skep_kit::{Cluster, Load, LoadOptions, Node, Targets};

const NODES: u8 = 3;
const MOMENT_MAX: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_survives_the_death_of_all_nodes_at_random_moments() {
    let _machine = machine_shared();
    let mut random = Random::announced();
    let mut cluster = Cluster::ready(NODES).await;
    let targets = Targets::new(cluster.clients());
    let load = Load::start(&targets, LoadOptions { writers: 6, ..LoadOptions::default() });
    load.wait_acked(20, PATIENCE).await;
    let rounds = count(5, 50);
    for round in 0..rounds {
        under_load_for(random.duration_up_to(MOMENT_MAX)).await;
        cluster.kill_all();
        for node in 1..=NODES {
            cluster.start(node);
        }
        // Now and then they die again while they start, replay or vote.
        if random.below(3) > 0 || round + 1 == rounds {
            cluster.wait_all_ready().await;
            load.wait_acked(10, PATIENCE).await;
            let lists = [list(&cluster.node(1).http).await, list(&cluster.node(2).http).await];
            // Writes go on between the two lists: the shorter one is how the longer one begins.
            let differing = lists[0].iter().zip(&lists[1]).find(|(one, two)| one != two);
            assert!(differing.is_none(), "nodes 1 and 2 differ after round {round}: {differing:?}");
        }
    }
    let ledger = load.stop().await;
    let there = verify(&cluster.clients(), &ledger).await;
    let unknown = ledger.failed.iter().filter(|failed| !failed.never).count();
    say(&format!(
        "measure: kill -9 of all nodes: {rounds} rounds, {} acknowledged, {unknown} unknown, {there} there",
        ledger.acked.len()
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_killed_again_and_again_catches_up() {
    let _machine = machine_shared();
    let mut random = Random::announced();
    let mut cluster = Cluster::ready(NODES).await;
    let steady = Targets::new(vec![cluster.node(1).http.clone(), cluster.node(2).http.clone()]);
    let load = Load::start(&steady, LoadOptions::default());
    for _ in 0..count(3, 20) {
        under_load_for(random.duration_up_to(Duration::from_millis(500))).await;
        cluster.node_mut(3).kill();
        load.wait_acked(20, PATIENCE).await;
        cluster.start(3).wait_ready().await;
    }
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
}

/// Any moment of a first start; each other time just behind the word that there is a cluster now.
async fn at_a_bad_moment(node: &Node, word: &str, random: &mut Random) {
    if random.below(2) == 0 {
        until(word, PATIENCE, async || node.log_text().contains(word).then_some(())).await;
        under_load_for(random.duration_up_to(Duration::from_millis(40))).await;
    } else {
        under_load_for(random.duration_up_to(Duration::from_millis(600))).await;
    }
}

/// A node is killed at any moment of its first start, alone or joining: its folder starts by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_starts_by_itself_whenever_its_first_start_was_killed() {
    let _machine = machine_shared();
    let mut random = Random::announced();
    let mut joined = Cluster::new(1, &[1]);
    let first = Settings { seeds: Vec::new(), ..joined.settings(1) };
    joined.add(1, first);
    joined.start(1).wait_ready().await;
    for round in 0..count(15, 500) {
        let mut alone = Cluster::new(1, &[]);
        alone.start(1);
        at_a_bad_moment(alone.node(1), "starting a cluster alone", &mut random).await;
        alone.node_mut(1).kill();
        alone.start(1).wait_ready().await;

        let joiner = 2 + (round % 200) as u8;
        joined.start(joiner);
        at_a_bad_moment(joined.node(joiner), "joining the cluster", &mut random).await;
        joined.node_mut(joiner).kill();
        joined.start(joiner).wait_ready().await;
        joined.node_mut(joiner).stop().await;
    }
}
