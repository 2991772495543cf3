//! More nodes and fewer, under load.

use std::time::Duration;

use skep_kit::effort::figure;
use skep_kit::swarm::lab::{Lab, PATIENCE};
use skep_kit::swarm::traffic::under_traffic;
use skep_kit::wait::{pause, wait_for};

#[test]
fn scaling_fails_no_request_and_loses_no_message() {
    let Some(lab) = Lab::take("scaling") else { return };
    lab.with_stack();
    let ledger = under_traffic(&lab, "3 -> 7 -> 3 -> 5 -> 3", |traffic| {
        for nodes in [7, 3, 5, 3] {
            lab.scale(nodes);
            figure(&format!("scaled to {nodes}"), format!("{} failed so far", traffic.failed()));
            pause(Duration::from_secs(2));
        }
    });
    ledger.expect_no_failure("scaling");
}

#[test]
fn three_nodes_told_to_leave_in_one_second_leave_one_with_every_message() {
    let test = "three nodes scaled to one";
    let Some(lab) = Lab::take_for_long(test) else { return };
    lab.with_stack();
    let ledger = under_traffic(&lab, "3 -> 1 -> 3", |_| {
        lab.scale(1);
        pause(Duration::from_secs(2));
        lab.scale(3);
    });
    ledger.expect_no_failure(test);
}

#[test]
fn a_host_that_is_drained_hands_over_what_it_has() {
    let Some(lab) = Lab::take("a drained host") else { return };
    lab.with_stack();
    let holder = lab.holders()[0];
    let name = format!("h{holder}");
    let ledger = under_traffic(&lab, "a host drained", |_| {
        let manager = lab.manager();
        lab.must_docker(manager, &["node", "update", "--availability", "drain", &name]);
        wait_for("the host is empty and three nodes run", PATIENCE, || {
            let empty = lab.containers("skep_").iter().all(|container| container.host != holder);
            empty && lab.one_cluster(3).is_ok()
        });
        lab.must_docker(manager, &["node", "update", "--availability", "active", &name]);
    });
    ledger.expect_no_failure("draining a host");
}
