//! What was gone as a whole, and comes back by itself: nothing is lost, and nothing of it is held to a time so
//! short that other tests beside these would matter.

use std::time::{Duration, Instant};

use skep_kit::effort::{count, figure};
use skep_kit::swarm::lab::{HOSTS, Lab, PATIENCE};
use skep_kit::swarm::traffic::{Traffic, messages};
use skep_kit::wait::{pause, wait_for};

/// The cluster is back by itself.
const BACK: Duration = Duration::from_secs(20);

#[test]
fn every_container_killed_at_once_comes_back_with_every_message() {
    let Some(lab) = Lab::take("everything killed") else { return };
    lab.with_stack();
    let cluster = lab.the_cluster(3);
    for _ in 0..count(1, 3) {
        let traffic = Traffic::start(&lab);
        pause(Duration::from_secs(3));
        let ledger = traffic.stop();
        ledger.expect_no_failure("before");
        std::thread::scope(|scope| {
            for host in 1..=HOSTS {
                let lab = &lab;
                scope.spawn(move || {
                    let ids = lab.must_docker(host, &["ps", "-q", "-f", "name=skep_"]);
                    let ids: Vec<&str> = ids.split_whitespace().collect();
                    lab.must_docker(host, &[&["kill", "-s", "KILL"], &ids[..]].concat());
                });
            }
        });
        let killed = Instant::now();
        let again = Traffic::start(&lab);
        wait_for("a write is acknowledged", PATIENCE, || again.acked() > 0);
        let back = killed.elapsed();
        lab.settle(3);
        let whole = killed.elapsed();
        figure(
            "every container killed",
            format!("a write after {:.1} s, whole after {:.1} s", back.as_secs_f64(), whole.as_secs_f64()),
        );
        let again = again.stop();
        let there = messages(&lab).unwrap();
        ledger.expect_nothing_lost(&there);
        again.expect_nothing_lost(&there);
        assert_eq!(lab.the_cluster(3), cluster, "the same cluster as before");
        assert!(back < BACK, "the cluster is back after {back:?}");
    }
}

#[test]
fn a_swarm_that_was_switched_off_comes_back_with_every_message() {
    let Some(lab) = Lab::take("a Swarm switched off") else { return };
    lab.with_stack();
    let cluster = lab.the_cluster(3);
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    let ledger = traffic.stop();
    (1..=HOSTS).for_each(|host| lab.kill(host));
    let begun = Instant::now();
    // Two managers are a quorum; a first one alone would wait for them.
    std::thread::scope(|scope| {
        for host in 1..=HOSTS {
            let lab = &lab;
            scope.spawn(move || lab.heal(host));
        }
    });
    lab.settle(3);
    figure("a Swarm switched off and on", format!("whole after {:.1} s", begun.elapsed().as_secs_f64()));
    assert_eq!(lab.the_cluster(3), cluster, "the same cluster as before");
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
}

#[test]
fn the_stack_removed_and_deployed_again_has_every_message_also_where_one_host_lost_its_volume() {
    let Some(lab) = Lab::take("removed and deployed again") else { return };
    lab.with_stack();
    for loses in [None, Some(2)] {
        let traffic = Traffic::start(&lab);
        pause(Duration::from_secs(3));
        let ledger = traffic.stop();
        ledger.expect_no_failure("before");
        lab.remove_stack();
        if let Some(host) = loses {
            lab.lose_volumes(host);
        }
        let begun = Instant::now();
        lab.deploy();
        let there = messages(&lab).unwrap();
        figure(
            &format!("deployed again, volume lost on {loses:?}"),
            format!("{:.1} s, {} messages", begun.elapsed().as_secs_f64(), there.len()),
        );
        ledger.expect_nothing_lost(&there);
    }
}
