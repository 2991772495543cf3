//! More nodes and fewer, under load.

use std::time::Duration;

use crate::support::effort::{asked_for, measured, pause, wait_for};
use crate::support::lab::{Lab, PATIENCE};
use crate::support::traffic::{Traffic, messages};

#[test]
fn scaling_fails_no_request_and_loses_no_message() {
    let Some(lab) = Lab::take("scaling") else { return };
    lab.with_stack();
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    for nodes in [7, 3, 5] {
        lab.scale(nodes);
        measured(&format!("scaled to {nodes}"), format!("{} failed so far", traffic.failed()));
        pause(Duration::from_secs(2));
    }
    let ledger = traffic.stop();
    measured("3 -> 7 -> 3 -> 5", ledger.summary());
    let there = messages(&lab).unwrap();
    lab.scale(3);
    ledger.expect_nothing_lost(&there);
    ledger.expect_no_failure("scaling");
}

#[test]
fn three_nodes_told_to_leave_in_one_second_leave_one_with_every_message() {
    let test = "three nodes scaled to one";
    if !asked_for(test) {
        return;
    }
    let Some(lab) = Lab::take(test) else { return };
    lab.with_stack();
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    lab.scale(1);
    pause(Duration::from_secs(2));
    lab.scale(3);
    let ledger = traffic.stop();
    measured("3 -> 1 -> 3", ledger.summary());
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    ledger.expect_no_failure(test);
}

#[test]
fn a_host_that_is_drained_hands_over_what_it_has() {
    let Some(lab) = Lab::take("a drained host") else { return };
    lab.with_stack();
    let holder = lab.holders()[0];
    let name = format!("h{holder}");
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    let manager = lab.manager();
    lab.must_docker(manager, &["node", "update", "--availability", "drain", &name]);
    wait_for("the host is empty and three nodes run", PATIENCE, || {
        lab.containers("skep_").iter().all(|container| container.host != holder) && lab.one_cluster(3).is_ok()
    });
    lab.must_docker(manager, &["node", "update", "--availability", "active", &name]);
    lab.settle(3);
    let ledger = traffic.stop();
    measured("a host drained", ledger.summary());
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    ledger.expect_no_failure("draining a host");
}
