//! Another version, one task after another, under load.

use std::time::{Duration, Instant};

use crate::support::effort::{measured, pause};
use crate::support::lab::Lab;
use crate::support::stack::IMAGE;
use crate::support::traffic::{Traffic, messages};

/// Rolls a service over to the version after, and says how it went.
fn upgrade(service: &str) {
    let Some(lab) = Lab::take(&format!("a rolling upgrade of {service}")) else { return };
    lab.with_stack();
    // The same programs under another name, or another name's again.
    let next =
        if lab.image_of(service) == IMAGE { lab.image_like("next", "LABEL next=1") } else { IMAGE.into() };
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    let begun = Instant::now();
    let state = lab.update(service, &["--image", &next]);
    let took = begun.elapsed();
    lab.settle(3);
    pause(Duration::from_secs(1));
    let ledger = traffic.stop();
    measured(&format!("{service} upgraded in {:.1} s", took.as_secs_f64()), ledger.summary());
    assert_eq!(state, "completed");
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    ledger.expect_no_failure(service);
}

#[test]
fn a_rolling_upgrade_of_the_nodes_fails_no_request() {
    upgrade("skep_node");
}

#[test]
fn a_rolling_upgrade_of_the_balancers_fails_no_request() {
    upgrade("skep_balancer");
}

#[test]
fn a_rolling_upgrade_of_the_address_holders_fails_no_request() {
    upgrade("skep_vip");
}

#[test]
fn an_upgrade_that_never_gets_healthy_is_rolled_back_and_nobody_notices() {
    let Some(lab) = Lab::take("an upgrade that never gets healthy") else { return };
    lab.with_stack();
    // It runs, but the others never reach it: it tells them an address that is nobody's.
    let bad = lab.image_like("never-healthy", "ENV SKEP_ADVERTISE=192.0.2.1:7400");
    let good = lab.image_of("skep_node");
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    let begun = Instant::now();
    let state = lab.update("skep_node", &["--image", &bad]);
    let took = begun.elapsed();
    lab.settle(3);
    let ledger = traffic.stop();
    measured(&format!("rolled back after {:.1} s", took.as_secs_f64()), ledger.summary());
    assert_eq!(state, "rollback_completed");
    assert_eq!(lab.image_of("skep_node"), good);
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    ledger.expect_no_failure("an upgrade that was rolled back");
}
