//! Another version, one task after another, under load.

use std::time::{Duration, Instant};

use crate::support::effort::{asked_for, measured, pause};
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
fn all_services_replaced_at_the_same_time_fail_no_request() {
    let test = "all services replaced at the same time";
    if !asked_for(test) {
        return;
    }
    let Some(lab) = Lab::take(test) else { return };
    lab.with_stack();
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    std::thread::scope(|scope| {
        for service in ["skep_node", "skep_balancer", "skep_vip"] {
            let lab = &lab;
            scope.spawn(move || assert_eq!(lab.update(service, &["--force"]), "completed"));
        }
    });
    lab.settle(3);
    let ledger = traffic.stop();
    measured(test, ledger.summary());
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    ledger.expect_no_failure(test);
}

#[test]
fn the_version_before_is_upgraded_with_both_live_at_once() {
    let test = "an upgrade from the version before, which is built for that";
    if !asked_for(test) {
        return;
    }
    let Some(lab) = Lab::take(test) else { return };
    let before = lab.image_before();
    lab.remove_stack();
    lab.deploy_image(&before);
    let traffic = Traffic::start(&lab);
    for service in ["skep_node", "skep_balancer", "skep_vip"] {
        pause(Duration::from_secs(2));
        assert_eq!(lab.update(service, &["--image", IMAGE]), "completed");
        lab.settle(3);
    }
    let ledger = traffic.stop();
    measured("all upgraded from the version before", ledger.summary());
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    ledger.expect_no_failure("an upgrade from the version before");
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
