//! Another version, one task after another, under load.

use std::time::{Duration, Instant};

use skep_kit::effort::figure;
use skep_kit::swarm::lab::Lab;
use skep_kit::swarm::stack::{IMAGE, SERVICES};
use skep_kit::swarm::traffic::under_traffic;
use skep_kit::wait::pause;

/// Rolls a service over to the version after, and says how it went.
fn upgrade(service: &str) {
    let Some(lab) = Lab::take(&format!("a rolling upgrade of {service}")) else { return };
    lab.with_stack();
    // The same programs under another name, or another name's again.
    let next =
        if lab.image_of(service) == IMAGE { lab.image_like("next", "LABEL next=1") } else { IMAGE.into() };
    let ledger = under_traffic(&lab, &format!("{service} upgraded"), |_| {
        let begun = Instant::now();
        assert_eq!(lab.update(service, &["--image", &next]), "completed");
        figure(&format!("the upgrade of {service}"), format!("{:.1} s", begun.elapsed().as_secs_f64()));
    });
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
    let Some(lab) = Lab::take_for_long(test) else { return };
    lab.with_stack();
    let ledger = under_traffic(&lab, test, |_| {
        std::thread::scope(|scope| {
            for service in SERVICES {
                let lab = &lab;
                scope.spawn(move || assert_eq!(lab.update(service, &["--force"]), "completed"));
            }
        });
    });
    ledger.expect_no_failure(test);
}

#[test]
fn the_version_before_is_upgraded_with_both_live_at_once() {
    let test = "an upgrade from the version before, which is built for that";
    let Some(lab) = Lab::take_for_long(test) else { return };
    let before = lab.image_before();
    lab.remove_stack();
    lab.deploy_image(&before);
    let ledger = under_traffic(&lab, "all upgraded from the version before", |traffic| {
        for service in SERVICES {
            assert_eq!(lab.update(service, &["--image", IMAGE]), "completed");
            lab.settle(3);
            figure(&format!("{service} upgraded"), format!("{} failed so far", traffic.failed()));
            pause(Duration::from_secs(2));
        }
    });
    ledger.expect_no_failure("an upgrade from the version before");
}

#[test]
fn an_upgrade_that_never_gets_healthy_is_rolled_back_and_nobody_notices() {
    let Some(lab) = Lab::take("an upgrade that never gets healthy") else { return };
    lab.with_stack();
    // It runs, but the others never reach it: it tells them an address that is nobody's.
    let bad = lab.image_like("never-healthy", "ENV SKEP_ADVERTISE=192.0.2.1:7400");
    let good = lab.image_of("skep_node");
    let ledger = under_traffic(&lab, "an upgrade that was rolled back", |_| {
        let begun = Instant::now();
        assert_eq!(lab.update("skep_node", &["--image", &bad]), "rollback_completed");
        figure("rolled back after", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    });
    assert_eq!(lab.image_of("skep_node"), good);
    ledger.expect_no_failure("an upgrade that was rolled back");
}
